"""Event loops of GUIs while the prompt waits: tk under Xvfb, Qt without a screen."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import LONG
from kernels import kernel, pid_of

# Each toolkit: what makes a window whose timer counts, what ends, what runs a loop of the program's own.
TK = """
import tkinter
root = tkinter.Tk()
ticks = 0
def tick():
    global ticks
    ticks += 1
    root.after(10, tick)
tick()
"""
QT = """
from PySide6 import QtCore, QtWidgets
app = QtWidgets.QApplication([])
window = QtWidgets.QLabel("here")
window.show()
ticks = 0
def tick():
    global ticks
    ticks += 1
timer = QtCore.QTimer()
timer.timeout.connect(tick)
timer.start(10)
"""
WINDOWS = {"tk": TK, "qt": QT}
STOPS = {"tk": "tick = lambda: None", "qt": "timer.stop()"}


@pytest.fixture(scope="session")
def screen():
    """A display of its own."""
    if shutil.which("Xvfb") is None or importlib.util.find_spec("tkinter") is None:
        pytest.skip("there is no Xvfb, or no tkinter; bindings/python/tests/install-gui installs them")
    reads, writes = os.pipe()
    process = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writes), "-screen", "0", "640x480x24", "-nolisten", "tcp"],
        pass_fds=[writes],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writes)
    with open(reads) as said:
        number = said.readline().strip()
    try:
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        process.terminate()
        process.wait(LONG)


@pytest.fixture(params=["tk", "qt"])
def toolkit(request):
    return request.param


@pytest.fixture
def console(toolkit, tmp_path, request):
    if toolkit == "tk":
        environment = {"DISPLAY": request.getfixturevalue("screen")}
    else:
        if importlib.util.find_spec("PySide6") is None:
            pytest.skip("there is no PySide6; bindings/python/tests/install-gui installs it")
        environment = {"QT_QPA_PLATFORM": "offscreen"}
    with kernel(tmp_path, "--gui", toolkit, **environment) as running:
        console = running.console()
        assert console.run("1") == "1\n"
        shown = console.run(WINDOWS[toolkit])
        if toolkit == "qt" and "ImportError: lib" in shown:
            pytest.skip(f"PySide6 lacks a library: {shown.splitlines()[-1]}")
        assert "Error" not in shown
        console.forget()
        yield console


def ticks(console) -> int:
    console.take()
    return int(console.run("ticks"))


def processor_time(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_window_lives_while_the_prompt_waits_and_while_a_program_reads(console):
    before = ticks(console)
    time.sleep(0.5)
    at_prompt = ticks(console)
    assert at_prompt - before >= 10
    number = console.send("first = ticks; line = input('? '); ticks - first")
    console.until_status("waiting")
    time.sleep(0.5)
    console.take()
    console.send("Ada")
    console.until("the end", lambda: console.session.is_over(number))
    assert int(console.take()) >= 10
    assert console.run("line") == "'Ada'\n"


def test_it_waits_without_working(console, toolkit):
    console.run(STOPS[toolkit])
    pid = pid_of(console)
    console.run("import time; time.sleep(0.1)")
    before = processor_time(pid)
    time.sleep(2)
    assert processor_time(pid) - before < 0.1
    # The kernel's pipe wakes it at once, not the next look.
    begin = time.monotonic()
    for number in range(20):
        assert console.run(f"{number}") == f"{number}\n"
    assert time.monotonic() - begin < 5


def test_an_interrupt_stops_a_read_a_statement_and_a_loop_of_the_programs_own(console, toolkit):
    statements = ["input()", "import time; time.sleep(1000)", "while True: pass\n\n"]
    if toolkit == "tk":
        # With Qt, what a handler raises in the program's own loop is lost, as in any program.
        console.run(STOPS["tk"])
        statements.append("root.mainloop()")
    for statement in statements:
        number = console.send(statement)
        console.until("its begin", lambda: console.statuses[-1].startswith(("busy", "waiting")))
        # A loop of a toolkit's runs in C code.
        time.sleep(0.2)
        console.interrupt_until_over(number)
        assert "KeyboardInterrupt" in console.take(), statement
    if toolkit == "tk":
        console.run(TK)
    before = ticks(console)
    time.sleep(0.3)
    assert ticks(console) > before


def test_a_signal_from_elsewhere_ends_a_read_and_nothing_at_the_prompt(console):
    pid = pid_of(console)
    os.kill(pid, signal.SIGINT)
    assert console.run("7").endswith("7\n")
    number = console.send("input()")
    console.until_status("waiting")
    os.kill(pid, signal.SIGINT)
    console.until("the end", lambda: console.session.is_over(number))
    assert "KeyboardInterrupt" in console.take()


def test_what_a_callback_raises_is_shown_and_ends_nothing(console, toolkit):
    later = {"tk": "root.after(1, fail)", "qt": "QtCore.QTimer.singleShot(1, fail)"}[toolkit]
    console.run(f"def fail(): raise ZeroDivisionError\n\n{later}\n")
    console.until("what it raises", lambda: "ZeroDivisionError" in console.stderr)
    assert console.run("8").endswith("8\n")


def test_a_closed_window_leaves_a_prompt_that_waits(console, toolkit):
    console.run({"tk": "root.destroy()", "qt": "window.close()"}[toolkit])
    pid = pid_of(console)
    console.run("2")
    if toolkit == "tk":
        before = processor_time(pid)
        time.sleep(1)
        assert processor_time(pid) - before < 0.1
        # Another one lives as the first did.
        assert "Error" not in console.run(TK)
        before = ticks(console)
        time.sleep(0.3)
        assert ticks(console) > before
    assert console.run("9").endswith("9\n")


def test_without_any_window_it_is_an_ordinary_kernel(tmp_path, toolkit):
    if toolkit == "tk" and importlib.util.find_spec("tkinter") is None:
        pytest.skip("there is no tkinter")
    with kernel(tmp_path, "--gui", toolkit) as running:
        console = running.console()
        assert console.run("40 + 2") == "42\n"
        assert console.run("import os; os.environ['MPLBACKEND']") == f"'{toolkit.capitalize()}Agg'\n"
        number = console.send("input()")
        console.until_status("waiting")
        console.interrupt_until_over(number)
