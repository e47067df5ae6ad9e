"""Pictures and other rich results: what is shown, where it stands, and that it holds up nothing."""

import os
import time

import pytest
from conftest import LONG, eventually, run
from kernels import kernel

PICTURES = """
import trunkline
class Picture:
    def __init__(self, body): self.body = body
    def __repr__(self): return "<picture>"
    def _repr_png_(self): return self.body
    def _repr_html_(self): return "<b>not the best</b>"
class Page:
    def __repr__(self): return "<page>"
    def _repr_png_(self): return None
    def _repr_svg_(self): raise NotImplementedError
    def _repr_html_(self): return "<b>bold \u20ac</b>"
class Drawing:
    def _repr_svg_(self): return "<svg/>"
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with kernel(tmp_path_factory.mktemp("kernel")) as running:
        yield running


@pytest.fixture
def console(running):
    console = running.console()
    console.session.command("interrupt")
    console.run("import os, sys, threading, time")
    console.run(PICTURES)
    # What other tests have shown is in the history, and comes before this.
    mark = os.urandom(8)
    console.run(f"trunkline.display(Picture({mark!r}))")
    console.until("the history", lambda: bool(console.pictures) and console.pictures[-1][1] == mark)
    console.pictures.clear()
    yield console
    console.session.close()


def test_the_last_value_of_a_command_is_a_picture(console):
    assert console.run("Picture(b'\\x89PNG')") == ""
    header, body = console.pictures.pop()
    assert (header["mime"], header["text"], header["id"], header["replaces"]) == ("image/png", "<picture>", None, False)
    assert body == b"\x89PNG"
    assert console.run("_.body") == "b'\\x89PNG'\n"
    assert console.run("1\nPage()\n") == "" and len(console.pictures) == 1
    header, body = console.pictures.pop()
    assert (header["mime"], header["text"], body.decode()) == ("text/html", "<page>", "<b>bold \u20ac</b>")
    console.run("Drawing()")
    assert console.pictures.pop()[0]["mime"] == "image/svg+xml"


def test_base64_and_a_tuple_are_what_other_kernels_take(console):
    console.run("Picture('iVBORw==')")
    console.run("Picture((b'body', {'width': 5}))")
    assert [body for _, body in console.pictures] == [b"\x89PNG", b"body"]


def test_a_class_and_an_object_with_every_attribute_are_not_pictures(console):
    assert "Picture" in console.run("Picture")
    assert "Mock" in console.run("import unittest.mock; unittest.mock.Mock()")
    assert not console.pictures


def test_a_method_that_raises_or_returns_nonsense_is_an_error_of_the_statement(console):
    assert "TypeError: Picture._repr_png_() is to return bytes or str" in console.run("Picture(5)")
    assert "is not base64" in console.run("Picture('a')")
    block = "class Bad:\n    def _repr_html_(self): raise RuntimeError('not today')\nBad()\n"
    assert "RuntimeError: not today" in console.run(block)
    assert not console.pictures and console.run("1") == "1\n"


def test_display_shows_where_it_is_called(console):
    begin = len(console.events)
    block = "for i in range(50):\n    print('before', i, end='')\n    trunkline.display(Picture(b'%d' % i))\n"
    console.run(block + "    print('after', i, file=sys.stderr)\n")
    shown = []
    for kind, *rest in console.events[begin:]:
        if kind == "picture":
            shown.append(f"picture {rest[1].decode()}")
        elif kind in ("stdout", "stderr"):
            shown += rest[0].decode().splitlines()
    assert shown == [text for i in range(50) for text in (f"before {i}", f"picture {i}", f"after {i}")]


def test_display_replaces_by_id_and_prints_what_has_no_picture(console):
    assert console.run("trunkline.display({'a': 1})") == "{'a': 1}\n"
    console.run("trunkline.display(Picture(b'1'), id='bar'); trunkline.display(Picture(b'2'), id='bar', replaces=True)")
    assert [(head["id"], head["replaces"]) for head, _ in console.pictures] == [("bar", False), ("bar", True)]
    assert "needs the id" in console.run("trunkline.display(1, replaces=True)")


def test_threads_may_show_while_the_statement_prints(console):
    block = """
def show(k):
    for i in range(50): trunkline.display(Picture(b'%d' % k))
threads = [threading.Thread(target=show, args=(k,)) for k in range(4)]
for thread in threads: thread.start()
for i in range(200): print('line', i)
for thread in threads: thread.join()
"""
    assert console.run(block) == "".join(f"line {i}\n" for i in range(200))
    assert sorted(body for _, body in console.pictures) == [b"%d" % k for k in range(4) for _ in range(50)]


def test_a_picture_of_any_size_arrives_or_is_refused_in_words(console):
    console.run("Picture(b'x' * 3_000_000)")
    assert [len(body) for _, body in console.pictures] == [3_000_000]
    assert "ValueError" in console.run("Picture(b'x' * 300_000_000)")
    assert console.run("2") == "2\n"


def test_pictures_that_no_console_takes_hold_up_no_interrupt_and_no_status(tmp_path, console):
    begun, stopped = tmp_path / "begun", tmp_path / "stopped"
    block = f"""
try:
    for i in range(1000):
        if i == 3: open({str(begun)!r}, "x").close()
        trunkline.display(Picture(b"x" * 3_000_000))
except KeyboardInterrupt:
    open({str(stopped)!r}, "x").close()
    print("stopped at", i)
"""
    # This console takes nothing, and what it does not take the kernel waits with.
    number = console.send(block)
    eventually("the first pictures", begun.exists)
    begin = time.monotonic()
    console.interrupt()
    eventually("the interrupt", stopped.exists)
    assert time.monotonic() - begin < LONG / 3
    console.until("the end", lambda: console.session.is_over(number))
    assert "stopped at" in console.take() and len(console.pictures) < 1000
    assert console.run("3") == "3\n"


def test_a_program_without_a_kernel_prints_what_it_displays():
    ended = run(PICTURES + "trunkline.display(Picture(b'x'))")
    assert (ended.status, ended.out, ended.err) == (0, "<picture>\n", "")


def test_the_display_of_a_forked_child_is_text(console):
    block = "pid = os.fork()\nif pid == 0:\n    trunkline.display(Picture(b'x')); sys.stdout.flush(); os._exit(0)\n"
    assert "<picture>" in console.run(block + "os.waitpid(pid, 0) and None\n")
    assert not console.pictures


# -- matplotlib --------------------------------------------------------------------------------------------------------


@pytest.fixture
def plots(console):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed here: pip install matplotlib")
    console.run("import matplotlib.pyplot as plt")
    assert console.run("plt.get_backend()") == "'module://trunkline.display'\n"
    yield console
    console.run("plt.ioff(); plt.close('all')")


def test_show_shows_the_open_figures_and_closes_them(plots):
    plots.run("lines = plt.plot([1, 2]); other = plt.figure(); lines = plt.plot([3]); plt.show()")
    assert [head["mime"] for head, _ in plots.pictures] == ["image/png"] * 2
    assert all(body.startswith(b"\x89PNG\r\n") for _, body in plots.pictures)
    assert plots.pictures[0][0]["text"] == "<Figure size 640x480 with 1 Axes>"
    assert plots.pictures[0][0]["id"] != plots.pictures[1][0]["id"]
    assert plots.run("plt.get_fignums()") == "[]\n"
    plots.run("plt.show()")
    assert len(plots.pictures) == 2


def test_a_figure_is_a_value_with_a_picture(plots):
    plots.run("figure = plt.figure()")
    assert plots.run("figure") == "" and len(plots.pictures) == 1
    plots.run("trunkline.display(figure)")
    assert len(plots.pictures) == 2
    assert plots.run("import matplotlib; trunkline.display.FigureCanvas.__name__") == "'FigureCanvas'\n"


def test_an_interactive_figure_is_shown_after_each_statement_that_changes_it(plots):
    plots.run("plt.ion()")
    plots.run("_ = plt.plot([1, 2]); _ = plt.title('a')")
    assert [head["replaces"] for head, _ in plots.pictures] == [False]
    plots.run("1 + 1")
    assert len(plots.pictures) == 1
    plots.run("_ = plt.title('b')")
    assert [head["replaces"] for head, _ in plots.pictures] == [False, True]
    assert plots.pictures[0][0]["id"] == plots.pictures[1][0]["id"]
    assert plots.pictures[0][1] != plots.pictures[1][1]


def test_the_environment_s_backend_is_kept(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed here: pip install matplotlib")
    with kernel(tmp_path, MPLBACKEND="svg") as running:
        console = running.console()
        assert console.run("import matplotlib; matplotlib.get_backend()") == "'svg'\n"
