"""Questions of a console: answered at any time, without running code of the program's."""

import shutil
import statistics
import subprocess
import time
from pathlib import Path

import pytest
from kernels import kernel


@pytest.fixture
def console(tmp_path):
    with kernel(tmp_path) as running:
        console = running.console()
        console.run("import ctypes, os, sys, threading, time")
        console.forget()
        yield console


def test_what_could_stand_at_the_cursor(console):
    console.run("counter = 1; count = [2]")
    assert console.ask("complete", "print(cou") == {
        "id": 1,
        "matches": ["count", "counter"],
        "start": 6,
        "end": 9,
    }
    assert "append" in console.ask("complete", "count.")["matches"]
    assert "__len__" not in console.ask("complete", "count.")["matches"]
    assert console.ask("complete", "count.__le")["matches"] == ["__le__", "__len__"]
    assert "json" in console.ask("complete", "import js")["matches"]
    assert "path" in console.ask("complete", "os.pat")["matches"]
    assert console.ask("complete", "os.path.joi")["matches"] == ["join"]
    assert "while" in console.ask("complete", "whi")["matches"]
    assert console.ask("complete", "no_such.")["matches"] == []
    assert console.ask("complete", "ä = cou", 7)["start"] == 4


def test_what_a_thing_is(console):
    console.run("def greet(name, *, twice=False):\n    '''Greets somebody.'''\n")
    assert console.ask("inspect", "greet")["text"] == "greet(name, *, twice=False)\n\nGreets somebody."
    assert console.ask("inspect", "greet(1, ")["text"].startswith("greet(name")
    console.run("number = 3")
    assert console.ask("inspect", "number", 2)["text"].startswith("number: int\n3")
    assert "error" in console.ask("inspect", "no_such_name")


def test_the_variables_are_shown_without_running_code(console):
    console.run("""
calls = 0
class Slow:
    def __repr__(self):
        time.sleep(10)
        return "slow"
    @property
    def counting(self):
        global calls
        calls += 1
    def __getattr__(self, name):
        global calls
        calls += 1
        raise AttributeError
    def __dir__(self):
        global calls
        calls += 1
        return []
slow = Slow()
text = "x" * 10_000
numbers = list(range(1_000_000))
large = 10 ** 1_000_000
nested = {"a": [slow, (1, 2)]}
""")
    begin = time.monotonic()
    variables = {each["name"]: each for each in console.ask("variables")["variables"]}
    assert time.monotonic() - begin < 1.5
    assert variables["slow"] == {"name": "slow", "type": "Slow", "size": "", "text": "<Slow>"}
    assert (variables["text"]["size"], len(variables["text"]["text"])) == ("10000", 200)
    assert variables["numbers"]["text"].startswith("[0, 1, 2") and variables["numbers"]["size"] == "1000000"
    assert "bits" in variables["large"]["text"]
    assert variables["nested"]["text"] == "{'a': [<Slow>, (1, 2)]}"
    assert "counting" in console.ask("complete", "slow.")["matches"]
    assert console.ask("complete", "slow.counting.")["matches"] == []
    console.ask("inspect", "slow.counting")
    assert console.run("calls") == "0\n"


def test_where_the_threads_are(console):
    console.run("def inner(): time.sleep(1000)\ndef outer(): inner()\n")
    console.run("threading.Thread(target=outer, name='worker', daemon=True).start()")
    threads = {thread["name"]: thread["frames"] for thread in console.ask("stack")["threads"]}
    assert [frame["function"] for frame in threads["worker"]][:2] == ["inner", "outer"]
    assert threads["worker"][0]["line"] == 1 and "trunkline-answers" not in threads


def test_answers_come_while_a_statement_runs(console):
    number = console.send("while True: pass\n\n")
    console.until_status("busy")
    times = []
    for _ in range(20):
        begin = time.monotonic()
        assert "time" in console.ask("complete", "ti")["matches"]
        times.append(time.monotonic() - begin)
    # Less than 50 ms on a machine that does nothing else.
    assert statistics.median(times) < 0.5
    assert console.ask("info")["language"] == "python"
    console.interrupt_until_over(number)


def test_answers_come_beside_twenty_busy_threads_and_stacks_crash_nothing(console):
    console.run("""
count = 1
def leaf(n): return [x * x for x in range(50)] if n == 0 else leaf(n - 1)
def gen(n):
    if n: yield from gen(n - 1)
    yield n
stop = False
def busy():
    while not stop:
        leaf(7)
        list(gen(12))
for _ in range(20): threading.Thread(target=busy, daemon=True).start()
""")
    times = []
    answered = 0
    for turn in range(40):
        begin = time.monotonic()
        operation = ("complete", "inspect", "variables", "stack")[turn % 4]
        answer = console.ask(operation, "count")
        times.append(time.monotonic() - begin)
        # An error is an answer, too; silence is none.
        if "error" in answer:
            assert "does not react" in answer["error"]
            continue
        answered += 1
        if operation == "complete":
            assert answer["matches"] == ["count"]
        elif operation == "inspect":
            assert answer["text"].startswith("count: int\n1")
        elif operation == "variables":
            assert {"count", "stop"} <= {each["name"] for each in answer["variables"]}
        else:
            # Where Python was silent for a second, the main thread alone is told.
            names = [each["name"] for each in answer["threads"]]
            assert len(names) == 21 or names == ["MainThread"]
    # Less than 200 ms on a machine that does nothing else; `benches/introspection.py` says how much less.
    assert statistics.median(times) < 1 and max(times) < 6 and answered > 20
    console.run("stop = True")
    assert console.run("1") == "1\n"


def test_where_a_large_svd_of_numpy_is(console):
    assert "Error" not in console.run("import numpy")
    number = console.send(
        "def decompose(size):\n"
        "    return numpy.linalg.svd(numpy.random.default_rng(1).random((size, size)))\n"
        "for _ in range(2000): decompose(500)\n"
    )
    console.until_status("busy")
    seen = set()
    until = time.monotonic() + 20
    while not {"svd", "decompose"} <= seen and time.monotonic() < until:
        seen |= {frame["function"] for thread in console.ask("stack")["threads"] for frame in thread["frames"]}
    assert {"svd", "decompose", "<module>"} <= seen
    assert console.ask("complete", "decom")["matches"] == ["decompose"]
    assert "numpy" not in {each["name"] for each in console.ask("variables")["variables"]}
    # It stops behind the decomposition that runs.
    console.interrupt_until_over(number)
    assert "KeyboardInterrupt" in console.stderr


@pytest.fixture(scope="session")
def holdgil(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    made = tmp_path_factory.mktemp("holdgil") / "holdgil.so"
    source = Path(__file__).with_name("holdgil.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, source], check=True)
    return made


def test_an_extension_that_holds_the_lock_keeps_nothing_from_being_answered(console, holdgil):
    console.run(f"library = ctypes.PyDLL({str(holdgil)!r}); library.hold.argtypes = [ctypes.c_double]")
    console.forget()
    number = console.send("def compute(): library.hold(8)\n\ncompute()\n")
    console.until_status("busy")
    time.sleep(0.2)
    begin = time.monotonic()
    stack = console.ask("stack")
    assert [frame["function"] for frame in stack["threads"][0]["frames"]][:2] == ["compute", "<module>"]
    assert "error" in console.ask("complete", "ti")
    assert time.monotonic() - begin < 6
    console.interrupt()
    console.until("that it hangs", lambda: any(status.startswith("hung") for status in console.statuses))
    # Before the extension lets go.
    assert time.monotonic() - begin < 8
    console.until("the end", lambda: console.session.is_over(number))
    assert "KeyboardInterrupt" in console.stderr
    assert console.ask("complete", "compu")["matches"] == ["compute"]


def test_a_question_that_makes_no_sense_is_answered_with_an_error(console):
    assert "error" in console.ask("inspect", "((((", 99)
    assert console.ask("complete", "x" * 100_000)["matches"] == []
    assert console.run("2") == "2\n"
