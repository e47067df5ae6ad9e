"""`--asyncio`: statements that await, tasks that go on at the prompt, and interrupts of both."""

import ast
import asyncio
import time

import pytest
from conftest import eventually
from kernels import kernel


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with kernel(tmp_path_factory.mktemp("kernel"), "--asyncio") as running:
        yield running


@pytest.fixture
def console(running):
    console = running.console()
    console.session.command("interrupt")
    console.run("import asyncio, contextvars, os, sys, time")
    console.forget()
    yield console
    console.session.close()


def interrupted(console, statement: str) -> str:
    """What a statement shows that prints `begun`, and is interrupted then."""
    number = console.send(statement)
    console.until("its begin", lambda: "begun\n" in console.all)
    begin = time.monotonic()
    console.interrupt_until_over(number)
    assert time.monotonic() - begin < 10
    shown = console.take()
    assert console.run("40 + 2") == "42\n"
    return shown


def test_typed_lines_and_cells_await(console):
    assert console.run("await asyncio.sleep(0.01, 'value')") == "'value'\n"
    assert console.run("_ + '!'") == "'value!'\n"
    assert console.run("x = await asyncio.sleep(0, 5)\nfor i in range(2): await asyncio.sleep(0)\nx + i\n") == "6\n"
    block = "async def numbers():\n    yield 1\n    yield 2\nasync for n in numbers(): print(n)\n"
    assert console.run(block) == "1\n2\n"
    assert console.run("[n async for n in numbers()]") == "[1, 2]\n"
    assert console.run("1; 2") == "1\n2\n"


def test_without_it_an_await_is_an_error(tmp_path):
    with kernel(tmp_path) as running:
        assert "SyntaxError" in running.console().run("await x")


def test_tasks_go_on_at_the_prompt(console, tmp_path):
    file = tmp_path / "done"
    block = (
        f"async def later():\n    for _ in range(5): await asyncio.sleep(0.01)\n    open({str(file)!r}, 'x').close()\n"
    )
    console.run(block + "task = asyncio.create_task(later())\n")
    eventually("the task's end, with no statement", file.exists)
    assert console.run("task.done()") == "True\n"


def test_a_line_wakes_the_loop_however_long_it_would_wait(console):
    console.run("task = asyncio.create_task(asyncio.sleep(1000))")
    for i in range(200):
        assert console.run(f"{i}") == f"{i}\n"
    assert console.run("task.cancel()") == "True\n"


def test_lines_that_come_while_a_statement_awaits_run_after_it(console):
    console.send("await asyncio.sleep(0.2); print('first')")
    console.send("print('second')")
    assert console.run("print('third')") == "first\nsecond\nthird\n"


def test_errors_show_what_was_typed_and_none_of_the_loop(console):
    console.run("async def f():\n    await asyncio.sleep(0)\n    return 1 / 0\n")
    shown = console.run("await f()")
    assert "return 1 / 0" in shown and "ZeroDivisionError" in shown
    assert "base_events" not in shown and "_asyncio.py" not in shown
    assert console.run("sys.last_value") == "ZeroDivisionError('division by zero')\n"


def test_an_await_is_interrupted_and_may_clean_up(console):
    block = """
try:
    print("begun")
    await asyncio.sleep(1000)
finally:
    await asyncio.sleep(0.01)
    print("cleaned")
"""
    shown = interrupted(console, block)
    assert "cleaned\n" in shown and "KeyboardInterrupt" in shown and "CancelledError" not in shown


def test_a_busy_coroutine_is_interrupted(console):
    shown = interrupted(console, "print('begun')\nawait asyncio.sleep(0)\nwhile True: pass\n")
    assert "KeyboardInterrupt" in shown


def test_a_busy_task_is_interrupted_and_the_statement_with_it(console):
    block = """
async def busy():
    print("begun")
    while True: pass
task = asyncio.create_task(busy())
try:
    await asyncio.sleep(1000)
finally:
    print("statement over")
"""
    shown = interrupted(console, block)
    assert "statement over\n" in shown and "KeyboardInterrupt" in shown
    assert console.run("task.done() and type(task.exception()).__name__") == "'KeyboardInterrupt'\n"


def test_many_interrupts_stop_each_its_own_statement_and_lose_no_task(console):
    console.run("ticks = 0")
    console.run(
        "async def tick():\n    global ticks\n    while True:\n        ticks += 1\n        await asyncio.sleep(0)\n"
    )
    console.run("task = asyncio.create_task(tick())")
    for i in range(60):
        console.forget()
        number = console.send("print('begun')\nawait asyncio.sleep(1000)\n")
        if i % 2:
            console.until("its begin", lambda: "begun\n" in console.all)
        console.interrupt_until_over(number)
        assert console.run(f"print('own {i}')").endswith(f"own {i}\n")
    console.run("before = ticks; await asyncio.sleep(0.01)")
    assert console.run("task.done(), ticks > before") == "(False, True)\n"
    console.run("task.cancel() and None")


def test_context_variables_stay_and_asyncio_s_loop_may_be_closed(console):
    console.run("v = contextvars.ContextVar('v'); t = v.set(7)")
    assert console.run("await asyncio.sleep(0, v.get())") == "7\n"
    console.run("loop = asyncio.get_running_loop()")
    assert "Cannot close a running event loop" in console.run("loop.close()")
    console.run("loop.stop()")
    assert console.run("await asyncio.sleep(0.01, 8)") == "8\n"


def test_the_end_cancels_tasks_and_tells_the_status(tmp_path):
    with kernel(tmp_path, "--asyncio") as running:
        console = running.console()
        block = """
import asyncio, sys
async def last():
    try: await asyncio.sleep(1000)
    finally: print("cancelled")
task = asyncio.create_task(last())
await asyncio.sleep(0)
"""
        console.run(block)
        console.send("await asyncio.sleep(0); sys.exit(5)")
        assert running.wait() == 5
        console.until("the end", lambda: console.over)
        assert "cancelled\n" in console.all


def test_an_interrupt_between_two_statements_of_a_cell_is_not_left_to_an_await_that_never_comes():
    """It hits the kernel's code in the statement's task, and what follows may be `input()`: one in 12,000 was lost."""
    import sys

    from trunkline.kernel._asyncio import EventLoop

    class Kernel:
        asked_again = 0
        stopping = True

        def wait_ready(self):
            return False

        def stop_again(self):
            self.asked_again += 1

        def is_stopping(self):
            return self.stopping

        def stop_requested(self):
            return True

    class Interrupts:
        instead = None

    kernel, interrupts = Kernel(), Interrupts()
    loop = EventLoop(kernel, interrupts)
    seen = []

    def hit():
        frame = sys._getframe(2)
        assert frame.f_code.co_name == "_pieces"
        handled = interrupts.instead(frame)
        seen.append((handled, asyncio.current_task().cancelling(), kernel.asked_again))

    names = {"hit": hit, "asyncio": asyncio}
    try:
        loop.run([compile("hit()", "<cell>", "exec")], names)
        assert seen == [(True, 0, 1)]
        # A signal from elsewhere does not come again, so it cancels.
        kernel.stopping = False
        with pytest.raises(KeyboardInterrupt):
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            loop.run([compile("hit()\nawait asyncio.sleep(1000)", "<cell>", "exec", flags)], names)
        assert seen[1:] == [(True, 1, 2)]
    finally:
        loop.close()
