"""A scripted session through both programs, from a script to everything that it should print, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LONG
from kernels import kernel

SCRIPT = """\
name = input("name? ")
Ada
print("hello", name)
def inner(n):
    return n / (n - 1)

def middle(n):
    n = n - 1
    return inner(n)

def outer(n): return middle(n)

outer(2)
import pdb; pdb.pm()
p n
up
p n
q
import subprocess
print(subprocess.run(["sh", "-c", "echo a child; echo to stderr >&2"]).returncode)
while True: pass

:interrupt
import time
time.sleep(100)
:interrupt
40 + 2
"""

OUTPUT = """\
name? hello Ada
Traceback (most recent call last):
  File "<trunkline-5>", line 1, in <module>
    outer(2)
  File "<trunkline-4>", line 1, in outer
    def outer(n): return middle(n)
                         ^^^^^^^^^
  File "<trunkline-3>", line 3, in middle
    return inner(n)
           ^^^^^^^^
  File "<trunkline-2>", line 2, in inner
    return n / (n - 1)
           ~~^~~~~~~~~
ZeroDivisionError: division by zero
> <trunkline-2>(2)inner()
-> return n / (n - 1)
(Pdb) 1
(Pdb) > <trunkline-3>(3)middle()
-> return inner(n)
(Pdb) 1
(Pdb) a child
to stderr
0
Traceback (most recent call last):
  File "<trunkline-9>", line 1, in <module>
    while True: pass
KeyboardInterrupt
interrupted
Traceback (most recent call last):
  File "<trunkline-11>", line 1, in <module>
    time.sleep(100)
KeyboardInterrupt
interrupted
42
"""


def without_marks(text):
    """The lines that show where in a line an error was are not in all versions, and so is the number of a statement.
    A statement that is interrupted before its first instruction is in no traceback."""
    text = re.sub(r"Traceback \(most recent call last\):\n(  .*\n)+(?=KeyboardInterrupt)", "", text)
    lines = [line for line in text.splitlines() if not re.fullmatch(r"\s+[~^]+", line)]
    return [re.sub(r"<trunkline-\d+>", "<typed>", line) for line in lines]


def run_console(*options, script=SCRIPT, error=subprocess.STDOUT):
    return subprocess.run(
        [sys.executable, "-m", "trunkline.console", *options],
        input=script,
        stdout=subprocess.PIPE,
        stderr=error,
        text=True,
        timeout=LONG,
    )


def options_of(running):
    return ["--connect", running.address, "--key-file", str(running.key_file)]


def test_the_scripted_session_with_a_kernel_that_listens(tmp_path):
    with kernel(tmp_path) as running:
        ran = run_console(*options_of(running))
        assert without_marks(ran.stdout) == without_marks(OUTPUT)
        assert ran.returncode == 0
        # The kernel lives on, with what the session has left.
        again = run_console(*options_of(running), script="name\n")
        assert "'Ada'" in again.stdout.splitlines() and again.returncode == 0


def test_the_scripted_session_with_a_kernel_of_the_console_s_own():
    ran = run_console()
    assert without_marks(ran.stdout) == without_marks(OUTPUT)
    assert ran.returncode == 0


def test_the_scripted_session_over_a_unix_socket(tmp_path):
    with kernel(tmp_path, unix=True) as running:
        ran = run_console("--unix", str(running.address), "--key-file", str(running.key_file))
        assert without_marks(ran.stdout) == without_marks(OUTPUT)


@pytest.mark.parametrize(
    ("script", "status"), [("1 / 0\n", 1), ("1 / 0\n1\n", 1), ("1\n", 0), ("1 +* 1\n", 1), ("print(1\n", 1)]
)
def test_a_script_that_fails_says_so_if_it_is_asked(script, status):
    assert run_console("--fail", script=script).returncode == status
    assert run_console(script=script).returncode == 0


def test_the_end_of_a_script_ends_a_block_and_drops_what_cannot_end():
    assert run_console(script="for i in range(3):\n    print(i)\n").stdout.split() == ["0", "1", "2"]
    ran = run_console(script="print(1\n")
    assert "the input has ended within a statement, which was not run" in ran.stdout and ran.returncode == 0


@pytest.mark.parametrize("own", [True, False])
def test_the_end_of_a_script_is_the_end_of_input_for_each_read(tmp_path, own):
    """As it is for `python < script`."""
    script = """
import sys
def reads():
    yield "begins"
    for _ in range(3):
        try: yield input()
        except EOFError: yield "nothing"
    yield repr(sys.stdin.read() + sys.stdin.readline())

print(*reads())
an answer
"""
    with kernel(tmp_path) as running:
        ran = run_console(*([] if own else options_of(running)), script=script)
        assert ran.stdout.splitlines()[-1:] == ["begins an answer nothing nothing ''"]
        assert ran.returncode == 0
        if not own:
            # It is no end of the kernel's, nor of another console's input.
            assert run_console(*options_of(running), script="6 * 7\n").stdout.splitlines()[-1] == "42"


def test_a_kernel_of_its_own_ends_as_a_program_does(tmp_path):
    """Behind its last line Python waits for threads, does what is to be done at the exit, and closes files."""
    file = tmp_path / "written"
    script = f"""
import atexit, threading, time
_ = atexit.register(print, "at exit")
file = open({str(file)!r}, "w"); _ = file.write("kept")
def reads():
    time.sleep(0.5)
    try: input()
    except EOFError: print("no input")
    print("late")

threading.Thread(target=reads).start()
"""
    ran = run_console(script=script, error=subprocess.PIPE)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("no input\nlate\nat exit\n", "", 0)
    assert file.read_text() == "kept"
    assert run_console("--fail", script="1 / 0\n").returncode == 1


@pytest.mark.parametrize(("code", "status"), [("", 0), ("0", 0), ("7", 3)])
def test_a_script_may_end_a_kernel_of_its_own(code, status):
    ran = run_console(script=f"print('before')\nexit({code})\nprint('behind')\n")
    assert ran.returncode == status and ran.stdout.startswith("before\n") and "behind" not in ran.stdout


def test_a_kernel_that_ends_is_told(tmp_path):
    with kernel(tmp_path) as running:
        ran = run_console(*options_of(running), script="print('before')\nimport os; os._exit(7)\n")
        assert ran.returncode == 3 and "before\n" in ran.stdout and "exit code 7" in ran.stdout
        assert running.wait() == 7


def test_wrong_use_is_told(tmp_path):
    missing = run_console("--connect", "127.0.0.1:1", "--key-file", str(tmp_path / "none"))
    assert missing.returncode == 2 and "none" in missing.stdout
    assert run_console("--connect", "127.0.0.1:1").returncode == 2
    with kernel(tmp_path) as running:
        other = tmp_path / "other"
        trunkline_key = subprocess.run(
            [sys.executable, "-c", f"import trunkline; trunkline.Key.generate().write_new_file({str(other)!r})"],
            check=False,
        )
        assert trunkline_key.returncode == 0
        refused = run_console("--connect", running.address, "--key-file", str(other))
        assert refused.returncode == 3 and refused.stdout.startswith("trunkline.console: ")


# -- The programs that are written in Rust -----------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def repl():
    """The example of the repository, if it was built: `.ci/run` builds it."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    for folder in (target, ROOT / "target"):
        for profile in ("release", "debug"):
            program = folder / profile / "examples" / "repl"
            if program.is_file():
                return str(program)
    pytest.skip("the example `repl` was not built: cargo build --release --example repl")


def test_the_rust_console_works_with_the_python_kernel(tmp_path, repl):
    with kernel(tmp_path) as running:
        ran = subprocess.run(
            [repl, "console", *options_of(running)],
            input=SCRIPT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONG,
        )
        assert without_marks(ran.stdout) == without_marks(OUTPUT)
        assert ran.returncode == 0


def test_the_python_console_works_with_the_rust_kernel(tmp_path, repl):
    key_file = tmp_path / "key"
    process = subprocess.Popen(
        [repl, "kernel", "--listen", "127.0.0.1:0", "--key-file", str(key_file)], stdout=subprocess.PIPE, text=True
    )
    try:
        address = process.stdout.readline().strip().removeprefix("listening on ")
        script = 'let name = input("who? ");\nworld\nprint("hello " + name);\nloop {}\n:interrupt\n6 * 7\n'
        ran = run_console("--connect", address, "--key-file", str(key_file), script=script)
        assert ran.stdout == "who? hello world\ninterrupted\n42\n" and ran.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_the_input_that_comes_back_unused_tells_of_ends_as_before(tmp_path):
    with kernel(tmp_path) as running:
        one, two = running.console(), running.console()
        assert one.run("1") == "1\n"
        two.take_input()
        one.until("that it has lost the input", lambda: ("deaf",) in one.events)
        one.take_input()
        assert one.run("2") == "2\n" and one.session.activity() == "idle"
