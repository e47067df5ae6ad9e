"""What the interpreter, its C code and its children print: all of it, in order, and before the status that follows."""

import re
import time

import pytest
from conftest import LONG
from kernels import is_running, kernel, kill, pid_of


@pytest.fixture
def running(tmp_path):
    with kernel(tmp_path) as running:
        yield running


@pytest.fixture
def console(running):
    console = running.console()
    console.run("import ctypes, os, signal, subprocess, sys, threading, time")
    return console


def test_the_two_streams_keep_their_order(console):
    loop = "for i in range(2000):\n    print('a', i)\n    print('b', i, file=sys.stderr)\n"
    shown = console.run(loop).splitlines()
    assert shown == [f"{stream} {i}" for i in range(2000) for stream in "ab"]


def test_a_line_that_has_no_end_yet_comes_before_what_follows(console):
    assert console.run("print('no newline', end='')") == "no newline"
    assert console.run("print('a', end=''); print('b', file=sys.stderr); print('c')") == "ab\nc\n"


def test_c_code_and_children_keep_the_order(console):
    block = """
c = ctypes.CDLL(None)
for i in range(100):
    print(i, "python")
    c.printf(b"%d c\\n", i)
    os.system(f"echo {i} shell; echo {i} shell error >&2")
    subprocess.run(["echo", str(i), "child"])
    print(i, "error", file=sys.stderr)
"""
    expected = [f"{i} {kind}" for i in range(100) for kind in ("python", "c", "shell", "shell error", "child", "error")]
    # What one child writes to both streams between two marks has no order that is promised.
    shown = [line for line in console.run(block).splitlines() if "shell error" not in line]
    assert shown == [line for line in expected if "shell error" not in line]
    assert console.stderr.count("shell error") == 100


def test_what_c_code_keeps_back_comes_before_the_status(console):
    assert console.run("ctypes.CDLL(None).printf(b'no newline') and None") == "no newline"


def test_a_full_pipe_while_the_interpreter_s_lock_is_held_holds_up_nothing(console):
    shown = console.run("ctypes.PyDLL(None).printf(b'%s\\n', b'1' * 5_000_000) and None")
    assert shown == "1" * 5_000_000 + "\n"


def test_a_flood_of_lines_is_complete(console):
    shown = console.run("for i in range(20000): print('line', i)\n\n").splitlines()
    assert shown == [f"line {i}" for i in range(20_000)]


def test_text_of_every_kind(console):
    assert console.run("print('─' * (1 << 20))") == "─" * (1 << 20) + "\n"
    assert console.run(r"print('\udcc3')") == "\\udcc3\n"
    assert console.run("sys.stdout.buffer.write(b'bytes\\n') and None") == "bytes\n"
    assert console.run("print(memoryview(b'x')[0]); sys.stdout.fileno(), sys.stderr.fileno()") == "120\n(1, 2)\n"


def test_threads_print_whole_lines(console):
    block = """
def go(k):
    for i in range(2000): print(f"{k} {i}", file=(sys.stdout, sys.stderr)[i % 2])
threads = [threading.Thread(target=go, args=(k,)) for k in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    shown = console.run(block).splitlines()
    for k in range(4):
        assert [line for line in shown if line.startswith(f"{k} ")] == [f"{k} {i}" for i in range(2000)]
    assert len(shown) == 8000


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_print_and_end(console, method):
    block = f"""
import multiprocessing
context = multiprocessing.get_context("{method}")
children = [context.Process(target=print, args=(f"child {{i}}",)) for i in range(3)]
for child in children: child.start()
for child in children: child.join()
[child.exitcode for child in children]
"""
    shown = console.run(block)
    assert shown.endswith("[0, 0, 0]\n") and sorted(re.findall(r"child (\d)", shown)) == ["0", "1", "2"]
    # The parent's input is its own still.
    number = console.send("input('? ')")
    console.until_status("waiting")
    console.send("answer")
    console.until("the end", lambda: console.session.is_over(number))
    assert console.take() == "? 'answer'\n"


def test_a_spawned_worker_that_lacks_the_session_s_functions_fails_and_does_not_hang(console):
    block = """
import multiprocessing
def square(x): return x * x
child = multiprocessing.get_context("spawn").Process(target=square, args=(3,))
child.start()
child.join()
child.exitcode
"""
    shown = console.run(block)
    assert shown.endswith("1\n") and "square" in shown


def test_a_forked_child_writes_no_marks_and_reads_no_input(console):
    block = """
pid = os.fork()
if pid == 0:
    print("child", repr(sys.stdin.read()))
    print("error", file=sys.stderr)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(pid, 0)[1]
"""
    shown = console.run(block)
    assert shown.splitlines()[-1] == "0" and "child ''" in shown and "error" in shown


def test_a_program_that_redirects_its_descriptors_is_answered_still(console, tmp_path):
    file = tmp_path / "redirected"
    block = f"""
saved = os.dup(1)
file = os.open({str(file)!r}, os.O_WRONLY | os.O_CREAT)
os.dup2(file, 1)
print("in the file")
os.dup2(saved, 1)
print("here")
"""
    assert console.run(block) == "here\n"
    assert file.read_text() == "in the file\n"
    console.run("os.close(1); os.close(2)")
    console.run("1")
    assert console.run("os.dup2(saved, 1); print('again')").endswith("again\n")


def test_a_program_that_closes_every_descriptor_is_said_to_have_ended(console):
    console.send("os.closerange(3, 1000)")
    console.send("os._exit(9)")
    console.until("the end", lambda: console.over, LONG * 2)
    assert console.statuses[-1].split()[0] in ("exited", "killed")


# -- The end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "status", "code"),
    [
        ("sys.exit(3)", "exited 3", 3),
        ("exit()", "exited 0", 0),
        ("raise SystemExit('a text')", "exited 1", 1),
        ("os._exit(3)", "exited 3", 3),
        ("os.kill(os.getpid(), 11)", "killed SEGV", 139),
        ("os.kill(os.getpid(), 9)", "killed KILL", 137),
        ("os.abort()", "killed ABRT", 134),
    ],
)
def test_every_end_is_told_behind_the_last_words(running, console, statement, status, code):
    console.send(f"print('last words'); print('error', file=sys.stderr); {statement}")
    console.until("the end", lambda: console.over)
    assert console.statuses[-1] == status
    assert "last words\n" in console.stdout and "error\n" in console.stderr
    last = [event for event in console.events if event[0] in ("stdout", "stderr", "status")][-1]
    assert last == ("status", status)
    assert running.wait() == code


def test_a_crash_leaves_its_traceback(console):
    console.send("ctypes.string_at(0)")
    console.until("the end", lambda: console.over)
    assert console.statuses[-1] == "killed SEGV"
    assert "Segmentation fault" in console.stderr and "string_at" in console.stderr


def test_a_child_that_lives_on_does_not_hold_up_the_end(running, console):
    child = int(console.run("child = subprocess.Popen(['sleep', '60']); child.pid"))
    try:
        begin = time.monotonic()
        console.send("print('bye'); sys.stdout.flush(); os._exit(3)")
        console.until("the end", lambda: console.over)
        assert console.statuses[-1] == "exited 3" and "bye" in console.stdout
        assert running.wait() == 3 and time.monotonic() - begin < 15
        assert is_running(child)
    finally:
        kill(child)


def test_exit_handlers_print(console):
    console.run("import atexit; atexit.register(print, 'from a handler'); None")
    console.send("exit()")
    console.until("the end", lambda: console.over)
    assert "from a handler\n" in console.stdout and console.statuses[-1] == "exited 0"


def test_a_daemon_thread_that_reads_does_not_spoil_the_exit(console):
    console.send("threading.Thread(target=input, daemon=True).start()")
    console.until_status("waiting")
    console.session.command("exit")
    console.until("the end", lambda: console.over)
    assert console.statuses[-1] == "exited 0", console.stderr


def test_the_host_is_asked_to_end_and_the_interpreter_ends_with_it(running, console):
    pid = pid_of(console)
    running.process.terminate()
    console.until("the end", lambda: console.over)
    assert console.statuses[-1] == "killed TERM"
    assert running.wait() == 143 and not is_running(pid)


def test_a_host_that_is_killed_takes_the_interpreter_with_it(running, console):
    pid = pid_of(console)
    console.send("while True: pass\n\n")
    console.until_status("busy")
    running.process.kill()
    until = time.monotonic() + LONG
    while is_running(pid):
        assert time.monotonic() < until
        time.sleep(0.05)
