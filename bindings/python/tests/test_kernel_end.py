"""Last words: what was printed before the interpreter died, and why it died."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from conftest import LONG
from kernels import Console, kernel
from trunkline import Key

ENDS = {
    "os._exit(3)": "exited 3",
    "os.abort()": "killed ABRT",
    "import ctypes; ctypes.string_at(0)": "killed SEGV",
    "os.kill(os.getpid(), signal.SIGKILL)": "killed KILL",
    "sys.exit(4)": "exited 4",
}


@pytest.mark.parametrize("how", ENDS)
def test_a_line_without_its_end_is_not_lost(tmp_path, how):
    with kernel(tmp_path) as running:
        console = running.console()
        console.run("import os, signal, sys")
        console.send(
            "print('whole')\n"
            "print('partial of stderr', end='', file=sys.stderr)\n"
            "print('partial', 7, 'of stdout', end='')\n"
            "sys.stdout.write('; more')\n" + how
        )
        console.until("the end", lambda: console.statuses[-1].startswith(("exited", "killed")))
        assert console.stdout == "whole\npartial 7 of stdout; more"
        assert console.stderr.startswith("partial of stderr")
        assert console.statuses[-1] == ENDS[how]
        # A crash says where it was.
        assert ("Fatal Python error" in console.stderr) == (how.startswith("import ctypes") or how == "os.abort()")
        assert "want of memory" not in console.stderr


@pytest.mark.parametrize("how", ENDS)
def test_what_c_code_has_printed_is_not_lost(tmp_path, how):
    with kernel(tmp_path) as running:
        console = running.console()
        console.run("import ctypes, os, signal, sys; c = ctypes.CDLL(None)")
        console.send(f"c.printf(b'half of'), c.printf(b' a line'), {how.removeprefix('import ctypes; ')}")
        console.until("the end", lambda: console.statuses[-1].startswith(("exited", "killed")))
        assert console.stdout == "half of a line"
        assert console.statuses[-1] == ENDS[how]


def test_a_forked_child_and_threads_add_nothing_to_a_line(tmp_path):
    with kernel(tmp_path) as running:
        console = running.console()
        # Later interpreters warn of a fork beside threads, on the other stream.
        console.run("import os, warnings; warnings.simplefilter('ignore')")
        block = """
print("begun", end="; ")
if not (pid := os.fork()):
    print("child", flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("ended")
"""
        console.run(block)
        assert sorted(console.stdout.splitlines()) == ["begun; ended", "child"]
        console.run("print('x' * 10_000, end=''); print('y' * 4_000, end='')")
        assert console.stdout.endswith("x" * 10_000 + "y" * 4_000)
        console.send("print('z' * 5_000, end=''); print('left', end=''); os._exit(0)")
        console.until("the end", lambda: console.statuses[-1].startswith("exited"))
        assert console.stdout.endswith("z" * 5_000 + "left")


@pytest.fixture
def small_group():
    """A group of processes that may have 300 MiB together."""
    if not Path("/sys/fs/cgroup").is_dir() or not os.access("/sys/fs/cgroup", os.W_OK):
        pytest.skip("groups of processes cannot be made here")
    first = Path("/sys/fs/cgroup/memory")
    folder = (first if first.is_dir() else Path("/sys/fs/cgroup")) / f"trunkline-test-{uuid.uuid4().hex}"
    try:
        folder.mkdir()
        limits = [folder / "memory.limit_in_bytes", folder / "memory.max"]
        limit = next((each for each in limits if each.exists()), None)
        if limit is None:
            pytest.skip("the memory of a group cannot be limited here")
        limit.write_text(str(300 << 20))
        swap = folder / ("memory.memsw.limit_in_bytes" if limit is limits[0] else "memory.swap.max")
        if swap.exists():
            swap.write_text(str(300 << 20) if limit is limits[0] else "0")
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"groups of processes cannot be made here: {error}")
    try:
        yield folder
    finally:
        folder.rmdir()


def test_the_system_says_that_it_had_no_memory(tmp_path, small_group):
    key = tmp_path / "kernel.key"
    Key.generate().write_new_file(key)
    command = [sys.executable, "-m", "trunkline.kernel", "--listen", "127.0.0.1:0", "--key-file", str(key)]
    # The shell enters the group, and the kernel is in it from its first byte on.
    process = subprocess.Popen(
        ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(small_group), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stdout.readline().strip().removeprefix("listening on ")
        console = Console(address, Key.from_file(key))
        console.run("print('before')")
        # Another process's end is none of the interpreter's.
        assert console.run("import os; os.system('kill -9 $$')").endswith("9\n")
        console.send("print('partial', end='')\nhold = [bytearray(1 << 20) for _ in range(2000)]\n")
        console.until("the end", lambda: console.statuses[-1].startswith("killed"))
        assert console.statuses[-1] == "killed KILL"
        assert "partial" in console.stdout
        assert "the system has killed a process for want of memory, it seems this one" in console.stderr
        assert process.wait(LONG) == 128 + signal.SIGKILL
        console.session.close()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_at_the_start_ends_the_command_without_a_word(tmp_path, name):
    code = (
        "import os, signal, sys\n"
        "from trunkline.kernel import __main__ as command\n"
        f"command._flags = lambda: os.kill(os.getpid(), signal.{name}) or []\n"
        "sys.exit(command.main(sys.argv[1:]))\n"
    )
    options = ["--unix", str(tmp_path / "socket"), "--key-file", str(tmp_path / "key")]
    ran = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, timeout=LONG)
    assert (ran.returncode, ran.stdout, ran.stderr) == (128 + signal.SIGTERM, "", "")
