"""A kernel inside of an application: it takes the application's names, and gives everything back."""

import json
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import LONG, eventually
from kernels import Console
from trunkline import Connection, Key, NotPermitted

PRELUDE = """
import gc, json, os, pathlib, signal, sys, threading, time
from trunkline import Key
from trunkline.kernel import embed
key = Key(sys.stdin.readline())
def where(address):
    print(address, flush=True)
def state():
    import getpass
    return [id(each) for each in (
        sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__, sys.displayhook,
        sys.__displayhook__, sys.unraisablehook, getpass.getpass, signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGURG), signal.default_int_handler,
    )]
"""


class Application:
    def __init__(self, process: subprocess.Popen, key: Key) -> None:
        self.process = process
        self.key = key

    def line(self) -> str:
        return self.process.stdout.readline().removesuffix("\n")

    def console(self, key: Key | None = None) -> Console:
        """At the place where it listens next."""
        address = self.line()
        assert address, self.process.stderr.read()
        console = Console(Path(address) if "/" in address else address, key or self.key)
        console.until("its first status", lambda: bool(console.statuses))
        return console


@contextmanager
def application(code: str, *arguments: str, **options):
    key = Key.generate()
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        print(key.expose_hex(), file=process.stdin, flush=True)
        yield Application(process, key)
    finally:
        process.kill()
        process.communicate()


def leave(console: Console, said: str = "exit()") -> None:
    console.send(said)
    console.until("the end", lambda: console.over)
    console.session.close()


def test_the_callers_variables_are_there_and_the_application_goes_on(tmp_path):
    code = """
        counter = 0
        def handle():
            global counter
            counter += 1
        def work():
            secret, found = 42, []
            embed("127.0.0.1:0", key, listening=where)
            print(secret, found, counter, flush=True)
        work()
        print("went on", file=sys.stderr)
    """
    with application(code) as app:
        console = app.console()
        assert console.run("secret + 1") == "43\n"
        assert console.run("found.append(secret)") == ""
        # The module's names are looked up when they are used.
        assert console.run("handle(); handle(); counter") == "2\n"
        assert console.run("secret = 7") == ""
        assert console.run("[secret for _ in range(2)]") == "[7, 7]\n"
        assert console.run("def f(): return secret + counter\n\n") == ""
        assert console.run("f()") == "9\n"
        assert console.run("nothing_of_this_name").endswith("NameError: name 'nothing_of_this_name' is not defined\n")
        assert console.ask("complete", "secr")["matches"] == ["secret"]
        assert console.ask("complete", "hand")["matches"] == ["handle"]
        assert {"secret", "counter"} <= {each["name"] for each in console.ask("variables")["variables"]}
        leave(console)
        assert console.statuses[-1] == "exited 0"
        assert app.line() == "42 [42] 2"
        assert app.process.wait(LONG) == 0
        assert app.process.stderr.read() == "went on\n"


def test_at_a_modules_level_assignments_change_the_module():
    with application("x = 1\nembed('127.0.0.1:0', key, listening=where)\nprint(x, flush=True)") as app:
        console = app.console()
        console.run("x += 1")
        leave(console)
        assert app.line() == "2"


def test_a_unix_socket_a_dict_and_where_it_is_said(tmp_path):
    place = tmp_path / "socket"
    with application("embed(pathlib.Path(sys.argv[1]), key, namespace={'x': 5})", str(place)) as app:
        assert app.process.stderr.readline() == f"trunkline: listening on {place}\n"
        console = Console(place, app.key)
        assert console.run("x, 'key' in globals()") == "(5, False)\n"
        leave(console)
        assert app.process.wait(LONG) == 0
    assert not place.exists()


def test_everything_is_given_back_however_it_ends():
    code = """
        import builtins
        def mine(*_): pass
        builtins._ = mine
        signal.signal(signal.SIGURG, mine)
        before = state()
        embed("127.0.0.1:0", key, listening=where)
        print(state() == before, builtins._ is mine, flush=True)
        def fail(address):
            raise ZeroDivisionError
        try: embed("127.0.0.1:0", key, listening=fail)
        except ZeroDivisionError: print(state() == before, flush=True)
        try: embed("127.0.0.1:1:1", key)
        except Exception as error: print(type(error).__name__, state() == before, flush=True)
        class Broken(dict):
            def __missing__(self, name): raise KeyError(name)
        try: embed("127.0.0.1:0", key, listening=where)
        except KeyboardInterrupt: print("interrupted", state() == before, flush=True)
    """
    with application(code) as app:
        console = app.console()
        console.run("import sys, io; sys.stdout = sys.stderr = sys.displayhook = io.StringIO()")
        leave(console)
        assert app.line() == "True True"
        assert app.line() == "True"
        assert app.line().endswith("True")
        console = app.console()
        # While nothing runs, Ctrl-C at the application's terminal is the application's.
        app.process.send_signal(signal.SIGINT)
        assert app.line() == "interrupted True"
        console.until("the end", lambda: console.over)
        assert console.statuses[-1] == "exited 1"


def test_one_after_the_other_at_the_same_place_leaves_nothing_behind(tmp_path):
    code = """
        def counts(): return [len(os.listdir(f"/proc/self/{what}")) for what in ("task", "fd")]
        place = pathlib.Path(sys.argv[1])
        for turn in range(6):
            embed(place, key, listening=where)
            if turn == 1:
                time.sleep(0.3)
                gc.collect()
                early = counts()
        # The last threads and sockets end behind the call.
        until = time.monotonic() + 10
        # What is in cycles holds a thread.
        gc.collect()
        while [now for now, then in zip(counts(), early) if now > then] and time.monotonic() < until:
            time.sleep(0.01)
        print(json.dumps([early, counts()]), flush=True)
    """
    with application(code, str(tmp_path / "socket")) as app:
        for turn in range(6):
            console = app.console()
            assert console.run("turn") == f"{turn}\n"
            # The second one's tracebacks have its own source, not the first one's.
            assert f"the_turn_is_{turn}" in console.run(f"def f(): the_turn_is_{turn}\n\nf()\n")
            leave(console, "raise SystemExit(3)")
            assert console.statuses[-1] == "exited 3"
        early, late = json.loads(app.line())
        assert [late[0] <= early[0], late[1] <= early[1]] == [True, True], (early, late)
        assert app.process.wait(LONG) == 0


def test_input_interrupts_pdb_and_the_stack_work_as_in_a_kernel():
    with application("embed('127.0.0.1:0', key, listening=where)") as app:
        console = app.console()
        number = console.send("input('name? ')")
        console.until_status("waiting")
        console.send("Ada")
        console.until("the end", lambda: console.session.is_over(number))
        assert console.take() == "name? 'Ada'\n"
        for waits in ("time.sleep(1000)", "while True: pass\n\n", "input()", "while True: print('noise')\n\n"):
            number = console.send(waits)
            console.until("its begin", lambda: console.statuses[-1].startswith(("busy", "waiting")))
            console.interrupt_until_over(number)
            assert "KeyboardInterrupt\n" in console.take()
        # At the terminal of the application, too.
        number = console.send("print('begun'); time.sleep(1000)")
        console.until("its begin", lambda: "begun" in console.stdout)
        assert console.ask("stack")["threads"][0]["frames"][0]["function"] == "<module>"
        app.process.send_signal(signal.SIGINT)
        console.until("its end", lambda: console.session.is_over(number))
        console.take()
        console.run("def f(n): return 1 / n\n\n")
        console.run("f(0)")
        number = console.send("import pdb; pdb.pm()")
        for line in ("p n", "q"):
            console.until_status("waiting")
            console.send(line)
        console.until("the end", lambda: console.session.is_over(number))
        assert "(Pdb) 0\n" in console.stdout
        assert console.run("40 + 2").endswith("42\n")
        assert console.run("import trunkline; trunkline.kernel.embed('127.0.0.1:0', key)").endswith("use its console\n")
        leave(console)


def test_pictures_a_flood_and_the_last_words_arrive():
    with application("embed('127.0.0.1:0', key, listening=where)") as app:
        console = app.console()
        console.run("class P:\n    def _repr_png_(self): return b'png'\n")
        console.run("print('before'); P()")
        console.until("the picture", lambda: bool(console.pictures))
        assert console.pictures[0][1] == b"png"
        console.run("for i in range(20_000): print(i)\n\n")
        assert console.stdout.count("\n") == 20_001
        leave(console, "print('last', end=''); raise SystemExit")
        assert console.stdout.endswith("last")


def test_it_leaves_when_no_console_is_there():
    code = """
        begin = time.monotonic()
        embed("127.0.0.1:0", key, leave_after=0.3, listening=lambda _: None)
        print(0.25 < time.monotonic() - begin < 20, flush=True)
        embed("127.0.0.1:0", key, leave_after=2, listening=where)
        print("left", flush=True)
    """
    with application(code) as app:
        assert app.line() == "True"
        console = app.console()
        console.run("time.sleep(2.5)")
        assert console.run("'still here'") == "'still here'\n"
        console.session.close()
        assert app.line() == "left"


def test_a_watcher_sees_and_types_nothing():
    code = "watch = Key(sys.stdin.readline()); embed('127.0.0.1:0', key, watch_key=watch, listening=where)"
    with application(code) as app:
        watch = Key.generate()
        print(watch.expose_hex(), file=app.process.stdin, flush=True)
        address = app.line()
        console = Console(address, app.key)
        console.run("print('seen')")
        with Connection.connect(address, watch) as watcher:
            assert watcher.receiver(1).recv(LONG).decode() == "seen\n"
            with pytest.raises(NotPermitted):
                watcher.sender(0)
        leave(console)


def test_a_forked_child_is_none_of_the_kernels():
    with application("embed('127.0.0.1:0', key, listening=where)") as app:
        console = app.console()
        console.run("import warnings; warnings.simplefilter('ignore')")
        block = """
if not (pid := os.fork()):
    print("of the child", flush=True)
    os._exit(7)
os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
        assert console.run(block) == "7\n"
        assert app.line() == "of the child"
        leave(console)


def test_another_thread_is_told_that_it_cannot():
    code = """
        def work():
            try: embed("127.0.0.1:0", key)
            except RuntimeError as error: print(error, flush=True)
        thread = threading.Thread(target=work); thread.start(); thread.join()
        try: embed("127.0.0.1:0", key, leave_after=-1)
        except ValueError as error: print(error, flush=True)
    """
    with application(code) as app:
        assert "main thread" in app.line()
        assert "seconds" in app.line()


def test_a_console_that_does_not_read_the_end_does_not_keep_the_application():
    code = "embed('127.0.0.1:0', key, listening=where); print('went on', flush=True)"
    with application(code) as app:
        console = app.console()
        console.send("for i in range(3): print('x' * 1000)\n\n")
        # It reads nothing from here on, and leaves no more than its place.
        console.send("exit()")
        assert app.line() == "went on"
        eventually("the end", lambda: app.process.poll() is not None)


def test_a_question_for_the_stack_at_the_end_does_not_end_the_application():
    code = """
        import ctypes
        class Slow:
            def write(self, text): return len(text)
            def flush(self):
                # With the lock of the interpreter, when the handler that tells the stack is gone.
                if sys._getframe(2).f_code.co_name == "restore":
                    os.write(1, b"slow\\n")
                    ctypes.PyDLL(None).sleep(2)
        embed("127.0.0.1:0", key, listening=where)
        where("still there")
    """
    with application(code) as app:
        console = app.console()
        console.run("import sys; sys.stdout = Slow()")
        console.send("exit()")
        assert app.line() == "slow"
        console.session.ask("stack")
        console.until("the end", lambda: console.over)
        assert app.line() == "still there"
        assert app.process.wait(LONG) == 0


def test_what_a_notebook_has_set_is_as_it_was_before():
    code = """
        import builtins, trunkline._display
        def all(): return sys.displayhook, sys.excepthook, hasattr(builtins, "display"), trunkline._display.in_cells
        before = all()
        embed("127.0.0.1:0", key, listening=where)
        print(all() == before, flush=True)
    """
    with application(code) as app:
        console = app.console()
        console.run("import trunkline.jupyter._inside as inside; import sys")
        console.run("inside.arm(1, True)")
        assert console.run("display(all() == before)") == "False\n"
        leave(console)
        assert app.line() == "True"


def test_an_interrupt_while_it_begins_is_the_applications():
    code = """
        def interrupted(number, handler, real=signal.signal):
            if number == signal.SIGINT:
                signal.signal = real
                signal.raise_signal(signal.SIGINT)
            return real(number, handler)
        before = state()
        signal.signal = interrupted
        try: embed("127.0.0.1:0", key, listening=where)
        except KeyboardInterrupt: print(state() == before, flush=True)
        embed("127.0.0.1:0", key, listening=where)
    """
    with application(code) as app:
        assert app.line().startswith("127.0.0.1:")
        assert app.line() == "True"
        console = app.console()
        leave(console)
        assert app.process.wait(LONG) == 0
