"""Standard input as a channel: input(), getpass, pdb, code.interact, help(), threads that read."""

import pytest
from conftest import LONG
from kernels import kernel
from trunkline import Connection, InterruptNotPermitted, Key, NotPermitted


@pytest.fixture
def running(tmp_path):
    with kernel(tmp_path) as running:
        yield running


@pytest.fixture
def console(running):
    console = running.console()
    console.run("import os, subprocess, sys, threading, time")
    console.forget()
    return console


def answered(console, statement, *answers):
    """Runs a statement that reads, and gives it each answer when it waits."""
    number = console.send(statement)
    for answer in answers:
        console.until("that it waits", lambda: console.session.activity() == "waiting")
        console.send(answer)
    console.until("the end", lambda: console.session.is_over(number))
    return console.take()


def test_input_shows_its_question_and_gets_one_line(console):
    assert answered(console, "input('name? ')", "Ada") == "name? 'Ada'\n"
    assert answered(console, "input() + input()", "a", "b") == "'ab'\n"
    assert answered(console, "sys.stdin.readline()", "line") == "'line\\n'\n"


def test_a_message_of_several_lines_is_read_line_by_line(console):
    assert answered(console, "input(), input()", "one\ntwo") == "('one', 'two')\n"


def test_a_long_line_is_whole(console):
    assert answered(console, "len(input())", "x" * 100_000) == "100000\n"


def test_lines_that_were_sent_ahead_are_answers(console):
    console.send("name = input()")
    console.send("Ada")
    assert console.run("name") == "'Ada'\n"


def test_iterating_over_standard_input_ends_by_an_interrupt_and_the_next_read_works(console):
    number = console.send("for line in sys.stdin: print('got', line, end='')\n\n")
    console.until_status("waiting")
    console.send("one")
    console.until("it", lambda: "got one\n" in console.stdout)
    console.interrupt_until_over(number)
    assert answered(console, "input()", "still here").endswith("'still here'\n")


def test_getpass_reads_the_channel(console):
    assert answered(console, "from getpass import getpass; getpass('secret? ')", "word") == "secret? 'word'\n"


def test_getpass_tells_the_console_to_hide_what_is_typed(console):
    console.run("import getpass")
    number = console.send("first = getpass.getpass(); second = input('seen? ')")
    console.until_status("waiting")
    assert console.statuses[-1].endswith(" secret") and console.session.is_secret()
    assert console.stdout.endswith("Password: ")
    console.send("hunter2")
    console.until("the next question", lambda: "seen? " in console.stdout)
    console.until_status("waiting")
    assert not console.session.is_secret()
    console.send("x")
    console.until("the end", lambda: console.session.is_over(number))
    console.take()
    assert console.run("first, second") == "('hunter2', 'x')\n"
    assert answered(console, "getpass.getpass('', sys.stderr)", "") == "''\n"
    number = console.send("getpass.getpass()")
    console.until_status("waiting")
    console.interrupt_until_over(number)
    number = console.send("input()")
    console.until_status("waiting")
    assert not console.session.is_secret()
    console.interrupt_until_over(number)


def test_a_child_reads_nothing(console):
    assert console.run("subprocess.run(['cat']).returncode") == "0\n"
    assert console.run("os.read(0, 10)") == "b''\n"


def test_pdb_stops_at_a_breakpoint_and_goes_on(console):
    console.run("def f(x):\n    breakpoint()\n    return x + 1\n")
    shown = answered(console, "f(41)", "p x", "n", "c")
    assert "(Pdb) 41\n" in shown and shown.endswith("42\n")


def test_pdb_post_mortem_with_the_lines_that_were_typed(console):
    console.run("def inner(n): return 1 / n\n\n")
    console.run("def outer(n):\n    m = n\n    return inner(m)\n")
    console.run("outer(0)")
    console.forget()
    shown = answered(console, "import pdb; pdb.pm()", "p n", "up", "p m", "l", "q")
    assert "(Pdb) 0\n" in shown and "->\t    return inner(m)" in shown


def test_an_interrupt_in_pdb_brings_its_prompt_again(console):
    number = console.send("breakpoint(); x = 1")
    console.until_status("waiting")
    console.interrupt()
    console.until("its prompt", lambda: console.stdout.count("(Pdb)") == 2 and console.session.activity() == "waiting")
    console.send("c")
    console.until("the end", lambda: console.session.is_over(number))
    console.forget()
    assert console.run("x").endswith("1\n")


def test_code_interact_gives_its_own_prompt(console):
    block = "import code\ntry: code.interact(banner='inner', local={})\nexcept SystemExit: pass\nprint('left')\n"
    shown = answered(console, block, "6 * 7", "raise SystemExit")
    assert ">>> 42\n" in shown and shown.endswith("left\n")


def test_help_answers_and_ends(console):
    assert "Help on built-in function len" in answered(console, "help(len)")
    assert answered(console, "help()", "len", "q").count("len(obj, /)") == 1


def test_threads_that_read_get_a_line_each_and_go_before_statements(console):
    block = """
got = []
def read(name):
    line = input(name)
    got.append(line)
for name in "ab":
    threading.Thread(target=read, args=(name,), daemon=True).start()
    time.sleep(0.1)
"""
    console.send(block)
    console.until_status("waiting")
    console.send("first")
    console.send("second")
    console.until("the prompt", lambda: console.session.activity() == "idle")
    console.forget()
    assert console.run("got") == "['first', 'second']\n"


def test_breakpoints_in_two_threads_are_both_answered(console):
    block = """
done = []
def stop(name):
    breakpoint()
    done.append(name)
threads = [threading.Thread(target=stop, args=(name,), daemon=True) for name in "ab"]
for thread in threads: thread.start()
"""
    console.send(block)
    for _ in range(2):
        console.until("a question", lambda: console.session.activity() == "waiting")
        console.send("c")
    console.until("the prompt", lambda: console.session.activity() == "idle")
    console.run("for thread in threads: thread.join(10)\n\n")
    console.forget()
    assert console.run("sorted(done)") == "['a', 'b']\n"


def test_two_consoles_share_the_kernel_and_one_types(running, console):
    other = running.console()
    console.run("shared = 'of the first'")
    number = console.send("input('? ')")
    console.until_status("waiting")
    other.until("what the first is asked", lambda: "? " in other.stdout)
    console.send("answer")
    console.until("the end", lambda: console.session.is_over(number))
    other.until("the end", lambda: "'answer'" in other.stdout)
    # The first leaves, and the other goes on with what it has left.
    console.session.close()
    other.until("its turn", lambda: other.statuses[-1].startswith("idle"))
    other.take_input()
    other.forget()
    assert other.run("shared") == "'of the first'\n"


def test_a_console_that_comes_later_sees_what_was_shown(running, console):
    console.run("print('before anybody came')")
    later = running.console()
    later.until("the history", lambda: "before anybody came\n" in later.stdout)


def test_a_key_to_watch_shows_everything_and_lets_nothing_be_typed(tmp_path):
    watch = tmp_path / "watch.key"
    Key.generate().write_new_file(watch)
    with kernel(tmp_path, "--watch-key-file", str(watch)) as running:
        owner = running.console()
        owner.run("print('seen')")
        with Connection.connect(running.address, Key.from_file(watch)) as watcher:
            assert watcher.receiver(1).recv(LONG).decode() == "seen\n"
            with pytest.raises(NotPermitted):
                watcher.sender(0)
            with pytest.raises(InterruptNotPermitted):
                watcher.interrupt()
