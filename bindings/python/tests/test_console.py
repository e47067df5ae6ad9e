"""The console for a person, on a terminal of its own."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from conftest import LONG
from kernels import is_running, kernel

pytest.importorskip("prompt_toolkit")


# It is what a terminal has without prompt_toolkit.
WITHOUT = "import sys; sys.modules['prompt_toolkit'] = None; from trunkline.console.__main__ import main; main()"


def _as_at_a_terminal():
    # Ctrl-C is a signal of the terminal that controls the process, and those who test in the background ignore it.
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# Printed while a program reads, if that takes no second to begin.
WAITS = "import threading; threading.Timer(1, print, ['it ' 'waits']).start(); "


class Terminal:
    """A program on a pseudo-terminal, and what it has shown as plain text."""

    def __init__(self, folder, *options, program=("-m", "trunkline.console"), **environment):
        self._master, slave = pty.openpty()
        environment = {**os.environ, **environment, "TERM": "xterm-256color", "COLUMNS": "100"}
        environment["XDG_STATE_HOME"] = str(folder)
        self.process = subprocess.Popen(
            [sys.executable, *program, *options],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=_as_at_a_terminal,
        )
        os.close(slave)
        self.shown = self._begun = ""
        # It takes keys: what was typed before is the system's to read, which makes another thing of Ctrl-D.
        self.takes_keys = False

    def resize(self, columns, rows):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self._master, text.encode())

    def until(self, pattern, seconds=LONG):
        """Reads until the text has this, and forgets everything up to it."""
        until = time.monotonic() + seconds
        while not (found := re.search(pattern, self.shown)):
            assert time.monotonic() < until, f"no {pattern!r} in {self.shown[-2000:]!r}"
            self.read(0.1)
        self.shown = self.shown[found.end() :]
        return found

    def until_it_waits(self):
        """The program has begun to read before it has printed this, and the console hears of both in their order."""
        self.until("it waits")
        until = time.monotonic() + LONG
        while not self.takes_keys:
            assert time.monotonic() < until
            self.read(0.1)

    def read(self, seconds):
        if not select.select([self._master], [], [], seconds)[0]:
            return
        try:
            data = os.read(self._master, 1 << 16).decode(errors="replace")
        except OSError:
            return
        # The beginning of an escape sequence waits for its end.
        data = self._begun + data
        data, self._begun = re.fullmatch(r"(?s)(.*?)(\x1b(?:\[[0-9;?]*)?)?", data).group(1, 2)
        self._begun = self._begun or ""
        for switch in re.findall(r"\x1b\[\?2004([hl])", data):
            self.takes_keys = switch == "h"
        # It asks where the cursor stands.
        if "\x1b[6n" in data:
            os.write(self._master, b"\x1b[1;1R")
        data = re.sub(r"\x1b\[(\d*)C", lambda move: " " * int(move.group(1) or 1), data)
        self.shown += re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>]|\][^\x07]*\x07)", "", data).replace("\r", "")

    def wait(self):
        until = time.monotonic() + LONG
        while self.process.poll() is None:
            assert time.monotonic() < until, self.shown[-2000:]
            self.read(0.05)
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path):
    made = []

    def make(*options, **others):
        made.append(Terminal(tmp_path, *options, **others))
        made[-1].until("> ")
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_statements_questions_and_blocks(terminal):
    console = terminal()
    console.type("40 + 2\r")
    console.until(r"\n42\n")
    console.until(">>> ")
    console.type("input('name? ')\r")
    console.until(r"\n.*name\? ")
    console.type("Ada\r")
    console.until("'Ada'")
    console.until(">>> ")
    console.type("for i in range(2):\r")
    console.until(r"\.\.\. ")
    console.type("    print('line', i)\r")
    console.until(r"\.\.\. ")
    console.type("\r")
    console.until("line 0\nline 1\n")
    console.until(">>> ")
    console.type("\x04")
    assert console.wait() == 0


def test_ctrl_c_stops_what_runs(terminal):
    console = terminal()
    console.type("while True: pass\r")
    console.until(r"\.\.\. ")
    console.type("\r")
    time.sleep(0.5)
    console.type("\x03")
    console.until("KeyboardInterrupt")
    console.until(">>> ")
    console.type("6 * 7\r")
    console.until(r"\n42\n")


@pytest.mark.parametrize("pause", [0, 0.01, 0.03, 0.1])
def test_ctrl_c_right_behind_a_line_stops_it(terminal, pause):
    """In one read with it, while the prompt is taken away, before the kernel has the line, and after."""
    console = terminal()
    for _ in range(3):
        # The block ends the prompt of its second line.
        console.type("while True: pass\r")
        console.until(r"\.\.\. ")
        if pause:
            console.type("\r")
            time.sleep(pause)
            console.type("\x03")
        else:
            console.type("\r\x03")
        console.until("KeyboardInterrupt|interrupted")
        console.until(">>> ")
    console.type("6 * 7\r")
    console.until(r"\n42\n")


def test_what_getpass_asks_for_is_seen_nowhere(terminal, tmp_path):
    with kernel(tmp_path) as running:
        console = terminal("--connect", running.address, "--key-file", str(running.key_file))
        console.type(f"import getpass; {WAITS}len(getpass.getpass('sec' 'ret? '))\r")
        console.until_it_waits()
        # A line that begins with a colon is an answer here, too.
        console.type(":hunter2\r")
        typed = console.shown
        found = console.until(r"(?s)(.*)\n8\n")
        assert "hunter" not in typed + found.group(1)
        console.until(">>> ")
        console.type("'seen'\r")
        console.until(r"\n'seen'\n")
        # What has been begun when the program asks no longer is dropped.
        console.until(">>> ")
        console.type(f"{WAITS}getpass.getpass('aga' 'in? ')\r")
        console.until_it_waits()
        console.type("swordfish")
        other = running.console()
        other.take_input()
        other.session.command("interrupt")
        found = console.until(r"(?s)(.*)KeyboardInterrupt")
        assert "swordfish" not in found.group(1)
        console.until(">>> ")
        console.type(":quit\r")
        assert console.wait() == 0 and "swordfish" not in console.shown
        history = (tmp_path / "trunkline" / "history").read_text()
        assert "hunter" not in history and "getpass" in history


def test_the_console_that_is_written_in_rust_hides_it_too(terminal, tmp_path):
    """It is what a terminal has without prompt_toolkit."""
    with kernel(tmp_path) as running:
        options = ["--connect", running.address, "--key-file", str(running.key_file)]
        console = terminal(*options, program=("-c", WITHOUT))
        console.type(f"import getpass; {WAITS}len(getpass.getpass('sec' 'ret? '))\r")
        console.until_it_waits()
        console.type(":hunter2\r")
        found = console.until(r"(?s)(.*)\n8\n")
        assert "hunter" not in found.group(1)
        console.type("'se' 'en'\r")
        console.until("'seen'")
        assert "hunter" not in console.shown


@pytest.mark.parametrize("program", [("-m", "trunkline.console"), ("-c", WITHOUT)])
def test_ctrl_d_ends_the_input_of_a_program_and_not_the_session(terminal, tmp_path, program):
    with kernel(tmp_path) as running:
        options = ["--connect", running.address, "--key-file", str(running.key_file)]
        console = terminal(*options, program=program)
        console.type("import getpass, sys\r")
        console.until("> ")
        for reads in ("input()", "input()", "getpass.getpass()", "len(sys.stdin.read())"):
            console.type(f"{WAITS}{reads}\r")
            console.until_it_waits()
            console.type("\x04")
            console.until("0\n" if "len" in reads else "EOFError")
            console.until("> ")
        console.type("6 * 7\r")
        console.until(r"\n42\n")
        console.until("> ")
        console.type("\x04")
        assert console.wait() == 0


def test_a_kernel_of_a_persons_own_ends_as_a_program_does(terminal, tmp_path):
    file = tmp_path / "written"
    console = terminal()
    console.type("import atexit, threading; _ = atexit.register(print, 'at' ' exit')\r")
    console.type(f"file = open({str(file)!r}, 'w'); _ = file.write('kept')\r")
    console.type("threading.Timer(2, print, ['la' 'te']).start(); print('rea' 'dy')\r")
    console.until("ready\n")
    console.until(">>>")
    console.type("\x04")
    assert console.wait() == 0
    assert console.shown.index("late") < console.shown.index("at exit")
    assert file.read_text() == "kept"


def test_ctrl_c_waits_for_no_kernel_that_does_not_end(terminal):
    console = terminal()
    console.type("import threading; threading.Thread(target=threading.Event().wait).start(); print('rea' 'dy')\r")
    console.until("ready\n")
    console.until(">>>")
    console.type("\x04")
    until = time.monotonic() + LONG
    while console.process.poll() is None:
        assert time.monotonic() < until, console.shown[-2000:]
        # It may still take the prompt away.
        console.type("\x03")
        console.read(0.3)
    # The last of them may meet an interpreter that has no handlers any more.
    assert console.process.returncode in (0, -signal.SIGINT)


@pytest.mark.parametrize("program", [("-m", "trunkline.console"), ("-c", WITHOUT)])
def test_the_input_is_taken_back_from_another_console(terminal, tmp_path, program):
    with kernel(tmp_path) as running:
        options = ["--connect", running.address, "--key-file", str(running.key_file)]
        console = terminal(*options, program=program)
        other = running.console()
        other.run("1")
        console.type("print('ref' 'used')\r")
        console.until("another console has the input; :take takes it")
        console.type(":take\r")
        console.type("print('tak' 'en')\r")
        found = console.until(r"(?s)(.*)\ntaken\n")
        assert "refused" not in found.group(1)


def test_names_are_completed_and_calls_have_a_tip(terminal):
    console = terminal()
    console.type("def greeting(first, second=2): return first\r")
    console.until(r"\.\.\. ")
    console.type("\r")
    console.until(">>> ")
    console.type("greet\t")
    console.until("ing")
    console.type("(")
    console.until(r"greeting\(first, second=2\)")
    console.type("'it')\r")
    console.until(r"\n'it'\n")


def test_a_kernel_of_its_own_starts_again_and_ends_with_the_console(terminal):
    console = terminal()
    console.type("import os; x = 1; print('pid', os.getpid())\r")
    first = int(console.until(r"\npid (\d+)\n").group(1))
    console.until(">>> ")
    console.type(":restart\r")
    console.until(">>> ")
    console.type("'x' in globals(), print('pid', __import__('os').getpid())\r")
    second = int(console.until(r"\npid (\d+)\n").group(1))
    console.until(r"\(False, None\)")
    assert first != second and not is_running(first)
    console.until(">>> ")
    console.type(":quit\r")
    assert console.wait() == 0 and not is_running(second)


def test_a_console_that_is_killed_leaves_no_kernel(terminal):
    console = terminal()
    console.type("import os; print('pid', os.getpid())\r")
    pid = int(console.until(r"\npid (\d+)\n").group(1))
    console.process.kill()
    until = time.monotonic() + LONG
    while is_running(pid):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_kernel_elsewhere_lives_on_and_its_end_is_told(terminal, tmp_path):
    with kernel(tmp_path) as running:
        options = ["--connect", running.address, "--key-file", str(running.key_file)]
        console = terminal(*options)
        console.type("x = 'kept'\r")
        console.until(">>> ")
        console.type(":detach\r")
        assert console.wait() == 0
        console = terminal(*options)
        console.type("x\r")
        console.until(r"\n'kept'\n")
        console.until(">>> ")
        console.type("exit(4)\r")
        console.until("the kernel has exited 4")
        assert console.wait() == 3


def test_a_kernel_of_its_own_may_await_and_knows_the_size_of_the_terminal(terminal):
    console = terminal("--spawn", "--asyncio")
    console.resize(70, 20)
    console.type("import asyncio, os, shutil; await asyncio.sleep(0, 'awa' 'ited')\r")
    console.until("'awaited'")
    console.until(">>> ")
    console.type("'size', shutil.get_terminal_size()\r")
    console.until(r"'size', os.terminal_size\(columns=70, lines=20\)")
    console.until(">>> ")
    console.resize(120, 40)
    # It is told at the next prompt, and no statement waits for it.
    size = None
    until = time.monotonic() + LONG
    while size != ("120", "40"):
        assert time.monotonic() < until, size
        console.type("'size', shutil.get_terminal_size()\r")
        size = console.until(r"'size', os.terminal_size\(columns=(\d+), lines=(\d+)\)").groups()
        console.until(">>> ")


def test_what_is_for_a_kernel_of_its_own_is_refused_for_another(tmp_path):
    command = [sys.executable, "-m", "trunkline.console", "--connect", "127.0.0.1:1", "--key-file", "k"]
    for options in (["--asyncio"], ["--gui", "tk"]):
        refused = subprocess.run([*command, *options], capture_output=True, text=True)
        assert refused.returncode == 2 and f"{options[0]} is for a kernel that is started here" in refused.stderr
