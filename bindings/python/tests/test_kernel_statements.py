"""What is typed, and what becomes of it: lines, blocks, errors, the display of values."""

import textwrap

import pytest
from kernels import kernel, pid_of


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with kernel(tmp_path_factory.mktemp("kernel")) as running:
        yield running


@pytest.fixture
def console(running):
    console = running.console()
    console.session.command("interrupt")
    # What another test has left is over.
    console.run("import sys, os, time, threading, subprocess")
    yield console
    console.session.close()


def typed(console, *lines):
    for line in lines:
        number = console.send(line)
    console.until("the end", lambda: console.session.is_over(number))
    return console.take()


def test_values_are_displayed_and_the_last_is_kept(console):
    assert console.run("40 + 2") == "42\n"
    assert console.run("_ + 1") == "43\n"
    assert console.run("None") == ""
    assert console.run("x = 1; x; 'two'") == "1\n'two'\n"


def test_a_display_hook_of_the_program_is_used(console):
    console.run("sys.displayhook = lambda value: print('shown', value)")
    assert console.run("7") == "shown 7\n"
    console.run("sys.displayhook = sys.__displayhook__")


def test_typed_lines_are_as_in_the_interactive_interpreter(console):
    assert typed(console, "for i in range(2):", "    print(i)", "") == "0\n1\n"
    assert typed(console, "if 1: print('one')", "") == "one\n"
    assert typed(console, "def f():", "    return 5", "", "f()") == "5\n"
    assert typed(console, "(1 +", "2)") == "3\n"
    assert typed(console, "'''a", "b'''") == "'a\\nb'\n"
    assert typed(console, "try:", "    1 / 0", "except ZeroDivisionError:", "    print('caught')", "") == "caught\n"
    assert typed(console, "@staticmethod", "def g(): pass", "", "class A:", "  x = 3", "", "A.x") == "3\n"
    assert "SyntaxError" in typed(console, "1 +* 2")
    assert "IndentationError" in typed(console, "if 1:", "")
    assert typed(console, "# nothing", "1") == "1\n"


def test_a_statement_that_is_not_whole_is_told_as_that(console):
    number = console.send("if 1:")
    console.until_status("incomplete")
    assert console.session.activity() == "incomplete" and not console.session.is_over(number)
    console.send("    8")
    assert console.run("") == "8\n"


def test_a_block_is_a_cell_of_which_the_last_value_is_displayed(console):
    block = """
        1
        class A:
            x = 2

        def f():

            return A.x
        for i in range(2):
            print("i", i)
        f()
    """
    assert console.run(textwrap.dedent(block)) == "i 0\ni 1\n2\n"


def test_a_block_with_a_statement_that_is_wrong_runs_none_of_it(console):
    assert "'return' outside function" in console.run("print('ran')\nreturn 1\n")
    assert "ran" not in console.stdout


def test_what_a_future_statement_switches_on_stays_on(console):
    console.run("from __future__ import annotations")
    typed(console, "def f(x: no_such_name): pass", "")
    assert console.run("f.__annotations__") == "{'x': 'no_such_name'}\n"


def test_an_error_shows_the_lines_that_were_typed(console):
    typed(console, "def a(): return 1 / 0", "")
    console.run("def b():\n    return a()\ndef c():\n    return b()\n")
    shown = console.run("c()")
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[0] == "Traceback (most recent call last):" and lines[-1] == "ZeroDivisionError: division by zero"
    # The line that was typed at last has no line of its own to show in all versions.
    assert [line for line in lines if line in ("return b()", "return a()", "def a(): return 1 / 0")] == [
        "return b()",
        "return a()",
        "def a(): return 1 / 0",
    ]
    assert "trunkline/kernel" not in shown
    assert console.run("sys.last_value") == "ZeroDivisionError('division by zero')\n"


def test_source_lines_survive_clearcache_and_go_with_their_code(console):
    console.run("import linecache, gc\ndef kept():\n    raise ValueError('kept')\n")
    console.run("linecache.clearcache(); linecache.checkcache()")
    assert "raise ValueError('kept')" in console.run("kept()")
    assert "    raise ValueError" in console.run("import inspect; print(inspect.getsource(kept))")
    console.run("def count(): return sum(name.startswith('<trunkline-') for name in linecache.cache)\n\n")
    console.run("del kept; sys.last_traceback = sys.last_value = sys.last_exc = None; gc.collect()")
    before = int(console.run("count()"))
    for _ in range(20):
        console.run("y = 1")
    assert int(console.run("count()")) <= before + 2


def test_errors_have_their_causes_without_frames_of_the_kernel(console):
    block = "try:\n    input.nothing\nexcept AttributeError as error:\n    raise KeyError('k') from error\n"
    shown = console.run(block)
    assert "direct cause" in shown and "trunkline/kernel" not in shown


def test_an_error_that_cannot_be_shown_is_told_in_other_words(console):
    console.run("class Bad(Exception):\n    def __str__(self): raise SystemExit(5)\n")
    assert "Bad" in console.run("raise Bad()")
    assert console.run("1") == "1\n"


def test_a_mebibyte_of_mixed_code_is_one_block(console):
    piece = "def f{0}(a, b={0}):\n    '''doc'''\n    return [a, b, {0}]\nv{0} = f{0}(1)\n"
    block = "".join(piece.format(at) for at in range(14_000))
    assert len(block) > 1 << 20
    assert console.run(block + "v13999\n") == "[1, 13999, 13999]\n"


def test_a_large_block_is_interrupted_between_its_statements(console):
    block = "import time\ncount = 0\nprint('begun')\n" + "count += 1; time.sleep(0.001)\n" * 60_000
    number = console.send(block)
    console.until("the first statements", lambda: "begun" in console.stdout)
    console.interrupt_until_over(number)
    assert int(console.run("count").splitlines()[-1]) < 60_000


def test_half_a_line_that_a_program_has_left_is_no_statement(console):
    number = console.send("sys.stdin.read(3)")
    console.until_status("waiting")
    console.send("abcprint('half')")
    console.until("the end", lambda: console.session.is_over(number))
    assert console.run("1") == "'abc'\n1\n"


def test_main_is_a_module_of_its_own(console):
    assert console.run("__name__, sys.modules['__main__'].__dict__ is globals()") == "('__main__', True)\n"
    assert console.run("[name for name in globals() if not name.startswith('__')][:0]") == "[]\n"


def test_the_interpreter_has_no_terminal_and_none_of_the_host_s_secrets(console):
    assert "OSError" in console.run("open('/dev/tty')")
    assert console.run("os.getsid(0) == os.getpid()") == "True\n"
    assert console.run("[name for name in os.environ if name.startswith('TRUNKLINE_HOST')]") == "[]\n"
    assert pid_of(console) == int(console.run("os.getpid()"))
