"""A notebook at a kernel of trunkline's."""

import json
import os
import signal
import subprocess
import sys
import time
from queue import Empty

import pytest

nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

import nbformat
import zmq
from conftest import LONG, eventually
from jupyter_client.connect import write_connection_file
from jupyter_client.session import Session
from kernels import is_running, kernel, pid_of
from notebooks import NOTEBOOK, frontend, install, plain, without_pytest
from trunkline import Key


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("specs")
    install(folder, "ipykernel", "ipython")
    return install(folder, "trunkline.jupyter", "trunkline")


@pytest.fixture(scope="module")
def shared(found):
    with frontend(found, "trunkline") as made:
        yield made


@pytest.fixture
def notebook(shared):
    shared.run("")
    return shared


def cells():
    return [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]


def test_a_notebook_shows_what_it_shows_with_ipykernel_cell_by_cell(found):
    shown = {}
    for name in ("trunkline", "ipython"):
        with frontend(found, name) as made:
            for cell in cells():
                if cell.id == "child" and name == "ipython":
                    continue
                reply = made.run(cell.source, *(["Ada"] if "input(" in cell.source else []))
                count = reply["execution_count"]
                shown.setdefault(cell.id, []).append((reply["status"], count, plain(made.outputs), made.asked))
    for cell in cells():
        # ipykernel shows what a child writes, but in no order.
        ours, theirs = shown[cell.id] if cell.id != "child" else shown[cell.id] * 2
        assert ours == theirs, cell.id
        # And so it is kept.
        assert ours[1:3] == (cell.execution_count, plain(cell.outputs)), cell.id
    assert shown["input"][0][2:] == (["hello, Ada\n", ""], ["name? "])
    assert any("Cell In[8], line 10, in third" in line for line in cells()[7].outputs[0].traceback)


def test_nbclient_runs_the_notebook(found):
    shown = []
    for name in ("trunkline", "ipython"):
        notebook = nbformat.read(NOTEBOOK, 4)
        client = nbclient.NotebookClient(notebook, timeout=LONG, kernel_name=name)
        client.km = client.create_kernel_manager()
        client.km.kernel_spec_manager = found
        client.execute(env=without_pytest())
        ran = [cell for cell in notebook.cells if cell.cell_type == "code"]
        child = next(cell for cell in ran if cell.id == "child")
        if name == "ipython":
            # It shows what a child writes, but in no order.
            child.outputs = nbformat.read(NOTEBOOK, 4).cells[-1].outputs
        # The question is left out: nbclient answers none, which each kernel says in words of its own.
        shown.append([plain(cell.outputs) for cell in ran if cell.id != "input"])
        question = next(cell for cell in ran if cell.id == "input")
        assert question.outputs[-1].ename == "StdinNotImplementedError"
    assert shown[0] == shown[1]


def test_what_getpass_asks_for_is_not_to_be_seen(notebook):
    code = "import getpass; print(len(getpass.getpass('secret? ')), len(input('seen? ')))"
    assert notebook.text(code, "hunter2", "x") == "7 1\n"
    assert list(zip(notebook.asked, notebook.hidden, strict=True)) == [("secret? ", True), ("seen? ", False)]


def test_what_is_written_to_both_streams_stays_in_order(notebook):
    code = "import sys\nfor i in range(3): print(i); print('e', i, file=sys.stderr)"
    notebook.run(code)
    assert [each["text"] for each in notebook.outputs] == ["0\n", "e 0\n", "1\n", "e 1\n", "2\n", "e 2\n"]


def test_a_flood_of_lines_is_whole(notebook):
    assert notebook.text("for i in range(20_000): print(i)") == "".join(f"{i}\n" for i in range(20_000))


def test_a_frontend_that_stalls_has_all_of_it_in_the_end(notebook):
    info = notebook.manager.get_connection_info()
    late = zmq.Context.instance().socket(zmq.SUB)
    late.rcvhwm = 10
    late.subscribe(b"")
    late.connect(f"tcp://{info['ip']}:{info['iopub_port']}")
    session = Session(key=notebook.manager.session.key)

    def read():
        assert late.poll(1000 * LONG), "nothing comes"
        return session.deserialize(session.feed_identities(late.recv_multipart())[1])

    assert read()["msg_type"] == "iopub_welcome"
    line = "x" * 10_000
    # Each flushes, so that they are many messages.
    asked = notebook.client.execute(f"for i in range(3000): print({line!r}, flush=True)")
    time.sleep(1)
    # It is held up meanwhile.
    with pytest.raises(Empty):
        notebook.client.get_shell_msg(timeout=0.1)
    seen = 0
    while True:
        message = read()
        if message["msg_type"] == "stream":
            seen += message["content"]["text"].count("\n")
        elif message["parent_header"].get("msg_id") == asked and message["content"].get("execution_state") == "idle":
            break
    late.close()
    assert seen == 3000
    assert notebook.client._recv_reply(asked, timeout=LONG)["content"]["status"] == "ok"


def test_questions_are_answered_while_a_cell_runs(notebook):
    notebook.run("import time\nvalue = {'key': 1}")
    asked = notebook.client.execute("while True: pass")
    for _ in range(3):
        assert "sleep" in notebook.client.complete("time.sl", reply=True, timeout=LONG)["content"]["matches"]
    found = notebook.client.inspect("value", reply=True, timeout=LONG)["content"]
    assert found["found"] and "key" in found["data"]["text/plain"]
    missing = notebook.client.inspect("nothing_of_the_kind", reply=True, timeout=LONG)["content"]
    assert (missing["status"], missing["found"]) == ("ok", False)
    assert notebook.client.history(hist_access_type="tail", n=1, reply=True, timeout=LONG)["content"]["history"][0][
        2
    ].startswith("while")
    notebook.manager.interrupt_kernel()
    assert notebook.client._recv_reply(asked, timeout=LONG)["content"]["ename"] == "KeyboardInterrupt"


def is_complete(notebook, code):
    message = notebook.client.is_complete(code)
    content = notebook.client._recv_reply(message, timeout=LONG)["content"]
    return content["status"], content.get("indent")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1", ("complete", None)),
        ("for i in x:", ("incomplete", "    ")),
        ("for i in x:\n    print(i)", ("incomplete", "    ")),
        ("for i in x:\n    print(i)\n", ("complete", None)),
        ("def f():\n    return 1", ("incomplete", "")),
        ("f(1,", ("incomplete", "")),
        ("'''text", ("incomplete", "")),
        ("await x", ("complete", None)),
        ("1 +* 2", ("invalid", None)),
        (":take", ("complete", None)),
        ("", ("complete", None)),
    ],
)
def test_a_terminal_knows_whether_a_cell_is_whole(notebook, code, expected):
    assert is_complete(notebook, code) == expected


@pytest.mark.parametrize("said", ["", "short", "x" * 1000, "─" * 300, "\x00\n" * 100, "a: b\nc: d", "\udcc3"])
def test_an_error_says_what_it_says(notebook, said):
    reply = notebook.run(f"raise ValueError({said!r})")
    assert (reply["ename"], reply["evalue"]) == ("ValueError", said.replace("\udcc3", "?"))
    assert reply["traceback"][0] == "Traceback (most recent call last):"
    # The others see all of it in its place.
    assert notebook.outputs[0]["traceback"] == reply["traceback"]


def test_a_long_value_is_whole(notebook):
    code = "class P:\n  def __repr__(self): return 'r' * 20_000\n  def _repr_html_(self): return 'h' * 300_000\nP()"
    notebook.run(code)
    assert notebook.outputs[0]["data"] == {"text/plain": "r" * 20_000, "text/html": "h" * 300_000}
    assert notebook.text("'v' * 3_000_000") == repr("v" * 3_000_000)


def test_a_semicolon_keeps_a_value_to_itself(notebook):
    notebook.run("5; # it is kept, though")
    assert notebook.outputs == []
    assert notebook.text("_") == "5"
    assert notebook.text("'5;'") == "'5;'"


def until_begun(notebook, code):
    deadline = time.monotonic() + LONG
    while notebook.client.get_iopub_msg(timeout=LONG)["content"].get("code") != code:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(100)", "input()"])
def test_an_interrupt_stops_the_cell_and_those_behind_it(notebook, code):
    asked = notebook.client.execute(code, allow_stdin=True)
    behind = [notebook.client.execute("print('never')"), notebook.client.execute("print('nor this')")]
    if code == "input()":
        assert notebook.client.get_stdin_msg(timeout=LONG)["content"]["prompt"] == ""
    else:
        until_begun(notebook, code)
    notebook.manager.interrupt_kernel()
    assert notebook.client._recv_reply(asked, timeout=LONG)["content"]["ename"] == "KeyboardInterrupt"
    assert [notebook.client._recv_reply(each, timeout=LONG)["content"]["status"] for each in behind] == ["aborted"] * 2
    # An answer that comes late is no statement.
    notebook.client.input("stale = 1")
    assert notebook.text("print('stale' in globals())") == "False\n"
    assert notebook.outputs == [{"output_type": "stream", "name": "stdout", "text": "False\n"}]


def test_an_interrupt_right_after_the_cell_was_sent_stops_it_and_no_other(notebook):
    for i in range(60):
        code = f"while True: {i}"
        asked = notebook.client.execute(code)
        until_begun(notebook, code)
        time.sleep(i / 10_000)
        notebook.manager.interrupt_kernel()
        assert notebook.client._recv_reply(asked, timeout=LONG)["content"].get("ename") == "KeyboardInterrupt", i
        assert notebook.text("6 * 7") == "42"


def test_a_cell_that_catches_the_interrupt_has_not_failed(notebook):
    code = "import time\nprint('begun')\ntry: time.sleep(100)\nexcept KeyboardInterrupt: print('caught')"
    shown = []

    def show(message):
        if message["msg_type"] == "stream":
            shown.append(message["content"]["text"])
            if shown == ["begun\n"]:
                notebook.manager.interrupt_kernel()

    reply = notebook.client.execute_interactive(code, output_hook=show, allow_stdin=False, timeout=LONG)
    assert (reply["content"]["status"], shown) == ("ok", ["begun\n", "caught\n"])


def test_what_follows_an_error_runs_if_the_frontend_wants_it(notebook):
    notebook.client.execute("1/0", stop_on_error=False)
    follows = notebook.client.execute("1")
    assert notebook.client._recv_reply(follows, timeout=LONG)["content"]["status"] == "ok"


def test_a_cell_without_an_end_is_not_run(notebook):
    reply = notebook.run("print('begins')\nf(1,")
    assert reply["ename"] == "SyntaxError" and "never closed" in reply["evalue"]
    assert [each["output_type"] for each in notebook.outputs] == ["error"]
    assert notebook.text("'well'") == "'well'"


def test_a_terminal_asks_what_something_is_and_leaves(notebook):
    notebook.run("def double(x):\n    'Twice as much.'\n    return 2 * x")
    for code in ("double?", "?double", "double??"):
        assert notebook.text(code) == "double(x)\n\nTwice as much.\n"
    assert "not found" in notebook.text("nothing_like_it?")
    assert notebook.run("exit")["payload"] == [{"source": "ask_exit", "keepkernel": False}]
    assert notebook.text("double(4)") == "8"


def test_a_silent_cell_shows_no_value_and_has_no_number(notebook):
    before = notebook.run("1")["execution_count"]
    reply = notebook.run("quiet = 3\nquiet", silent=True)
    assert (reply["status"], reply["execution_count"], notebook.outputs) == ("ok", before, [])
    reply = notebook.run("quiet", user_expressions={"twice": "quiet * 2", "wrong": "1/0"})
    assert reply["execution_count"] == before + 1
    values = reply["user_expressions"]
    assert values["twice"]["data"] == {"text/plain": "6"} and values["wrong"]["ename"] == "ZeroDivisionError"


def test_a_picture_that_is_shown_again_takes_the_place_of_the_first(notebook):
    code = (
        "class P:\n    def _repr_svg_(self): return '<svg/>'\nfor _ in range(2): display(P(), id='bar', replaces=True)"
    )
    kinds = []
    notebook.client.execute_interactive(
        code, output_hook=lambda message: kinds.append(message["msg_type"]), allow_stdin=False, timeout=LONG
    )
    assert [kind for kind in kinds if "display" in kind] == ["display_data", "update_display_data"]


def test_forms_that_fail_are_told_and_the_others_are_shown(notebook):
    code = "class P:\n  def _repr_html_(self): raise ValueError('bad form')\n  def _repr_mimebundle_(self, **_): "
    notebook.run(code + "return {'text/markdown': '*x*', 'image/png': b'123'}, {}\nP()")
    assert "bad form" in notebook.outputs[0]["text"]
    assert notebook.outputs[1]["data"]["text/markdown"] == "*x*"
    assert notebook.outputs[1]["data"]["image/png"] == "MTIz"
    # And of a class: it is none of its objects.
    assert notebook.run("P")["status"] == "ok" and list(notebook.outputs[0]["data"]) == ["text/plain"]


@pytest.mark.parametrize(
    ("mime", "body", "name"),
    [
        ("application/vnd.trunkline.bundle+json", b"{", None),
        ("application/vnd.trunkline.bundle+json", b"[1]", None),
        ("application/vnd.trunkline.bundle+json", b'{"data": 5}', "jupyter-result"),
        ("application/vnd.trunkline.values+json", b"5", None),
        ("application/json", b"{" * 100_000, None),
        ("text/plain", b"x", "jupyter-error:"),
        ("text/plain", b"x", "jupyter-error:[1]"),
        ("text/plain", b"x", "jupyter-error:[1, 2]"),
        ("", b"", ""),
    ],
)
def test_what_a_program_shows_may_make_no_sense(notebook, mime, body, name):
    code = f"from trunkline import _display\n_display._show({mime!r}, {body!r}, 'text', {name!r}, True)"
    assert notebook.run(code)["status"] in ("ok", "error")
    assert notebook.text("6 * 7") == "42"


def test_messages_that_make_no_sense_change_nothing(notebook):
    info = notebook.manager.get_connection_info()
    stranger = zmq.Context.instance().socket(zmq.DEALER)
    stranger.linger = 1000
    stranger.connect(f"tcp://{info['ip']}:{info['shell_port']}")
    session = Session(key=b"another key")
    session.send(stranger, "execute_request", {"code": "print('from a stranger')"})
    for frames in ([b""], [b"<IDS|MSG>"], [b"<IDS|MSG>", b"", b"{}", b"{}", b"{}", b"{}"], [b"x"] * 20):
        stranger.send_multipart(frames)
    ours = Session(key=notebook.manager.session.key)
    for content in ({"code": 5}, {}, {"code": "1", "silent": "x", "user_expressions": 7}):
        ours.send(stranger, "execute_request", content)

    def sign_and_send(header, content):
        parts = [part.encode() for part in (header, "{}", "{}", content)]
        stranger.send_multipart([b"<IDS|MSG>", ours.sign(parts), *parts])

    for kind in ("execute_request", "history_request", "complete_request", "comm_open", "input_reply"):
        for content in ("[]", '"x"', "null", "7"):
            sign_and_send(json.dumps({**ours.msg_header(kind), "date": None}), content)
    for odd in ('"\\ud83d"', "1e400", "[" * 500 + "]" * 500):
        for kind in ('"kernel_info_request"', odd):
            header = json.dumps({**ours.msg_header("kind"), "date": None, "session": "odd", "more": "odd"})
            sign_and_send(header.replace('"odd"', odd).replace('"kind"', kind), "{}")
    ours.send(stranger, "no_such_request", {})
    ours.send(stranger, "complete_request", {"code": None, "cursor_pos": "x"})
    ours.send(stranger, "history_request", {"hist_access_type": "range", "start": "a", "n": -1})
    assert notebook.text("'still'") == "'still'"
    stranger.close()


def test_half_a_character_is_told_and_changes_nothing(notebook, monkeypatch):
    # As JavaScript has it where an emoji was cut.
    half = "\ud83d"
    monkeypatch.setattr(notebook.client.session, "pack", lambda what: json.dumps(what, default=str).encode())
    assert notebook.run(f"'{half}'")["ename"] == "NotSent"
    assert notebook.client.complete(half, reply=True, timeout=LONG)["content"]["status"] == "ok"
    told = notebook.client.history(reply=True, hist_access_type="tail", n=1, timeout=LONG)
    assert told["content"]["history"][0][2] == f"'{half}'"
    notebook.run("class P:\n  def _repr_html_(self): return '\\ud83d'")
    reply = notebook.run("P()", user_expressions={"it": "P()"})
    assert reply["user_expressions"]["it"]["data"]["text/html"] == half
    # The program still waits for its line, and gets one.
    assert notebook.text("input('name? ')", half, "Ada").endswith("'Ada'")
    assert notebook.asked == ["name? ", ""]


def test_a_restart_makes_a_fresh_kernel_and_a_signal_interrupts(found):
    with frontend(found, "trunkline") as made:
        made.run("x = 1\nimport os")
        old = int(made.text("os.getpid()"))
        made.manager.restart_kernel()
        made.client.wait_for_ready(timeout=LONG)
        assert made.run("x")["ename"] == "NameError"
        eventually("the end of the old kernel", lambda: not is_running(old))
        asked = made.client.execute("while True: pass")
        until_begun(made, "while True: pass")
        os.kill(made.manager.provisioner.pid, signal.SIGINT)
        assert made.client._recv_reply(asked, timeout=LONG)["content"]["ename"] == "KeyboardInterrupt"
        pid = int(made.text("import os\nos.getpid()"))
        # Whatever ends the bridge ends the kernel that it has started.
        os.kill(made.manager.provisioner.pid, signal.SIGKILL)
        eventually("the end of the kernel", lambda: not is_running(pid))


@pytest.mark.parametrize(("code", "why"), [("os._exit(3)", "exited 3"), ("os.kill(os.getpid(), 9)", "killed KILL")])
def test_the_death_of_the_kernel_is_told_with_its_last_words(found, code, why):
    with frontend(found, "trunkline") as made:
        reply = made.run(f"import os\nos.write(1, b'last words')\n{code}")
        assert (reply["ename"], why in reply["evalue"]) == ("KernelGone", True)
        assert made.outputs[0]["text"] == "last words"
        eventually("the end of the bridge", lambda: not made.manager.is_alive())


def attached(folder, made, name="running"):
    place = ["--connect", str(made.address), "--key-file", str(made.key_file)]
    return install(folder, "trunkline.jupyter", name, *place)


def test_a_notebook_and_a_console_share_a_kernel_that_runs_on(tmp_path):
    with kernel(tmp_path) as made:
        console = made.console()
        console.run("shared = 20")
        found = attached(tmp_path, made)
        with frontend(found, "running") as notebook:
            # The console has the input until the notebook takes it.
            reply = notebook.run("shared")
            assert reply["ename"] == "InputTaken" and ":take" in reply["evalue"]
            assert notebook.run(":take")["status"] == "ok"
            assert notebook.text("print('from the notebook')\nshared += 1\nshared") == "from the notebook\n21"
            notebook.run("1/0")
            console.until("the error", lambda: any(b"ZeroDivisionError" in each[1] for each in console.pictures))
            assert "from the notebook\n" in console.stdout
            assert console.pictures[0][1] == b"21\n"
            # A console that is written in Rust shows it as what it is.
            place = ["--connect", str(made.address), "--key-file", str(made.key_file)]
            command = [sys.executable, "-m", "trunkline.console", *place]
            shown = subprocess.run(command, input="", capture_output=True, text=True, timeout=LONG).stdout
            assert "\n21\nTraceback (most recent call last):\n  Cell In[4], line 1, in <module>\n" in shown
            # What the console runs is displayed as ever.
            console.take_input()
            assert console.run("shared * 2").endswith("42\n")
            assert "NameError" in console.run("nothing")
        pid = pid_of(console)
        assert is_running(pid)
        # What was made while no notebook was there is not lost.
        console.run("later = 'made meanwhile'")
        console.session.close()
        with frontend(found, "running") as notebook:
            assert notebook.text("later") == "'made meanwhile'"
            notebook.manager.restart_kernel()
            notebook.client.wait_for_ready(timeout=LONG)
            # It is not the notebook's to restart.
            assert notebook.text("later") == "'made meanwhile'"
        assert is_running(pid)


def test_a_kernel_that_does_not_have_the_bridge_gives_text(tmp_path):
    (tmp_path / "hides").mkdir()
    (tmp_path / "hides/sitecustomize.py").write_text("import sys\nsys.modules['trunkline.jupyter'] = None\n")
    with kernel(tmp_path, PYTHONPATH=str(tmp_path / "hides")) as made:
        with frontend(attached(tmp_path, made), "running") as notebook:
            assert notebook.text("6 * 7") == "42\n"
            reply = notebook.run("1/0")
            assert reply["status"] == "error"
            assert "ZeroDivisionError" in "".join(each["text"] for each in notebook.outputs if "text" in each)


def test_errors_of_the_command_say_what_to_do(tmp_path):
    def said(*options):
        command = [sys.executable, "-m", "trunkline.jupyter", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
        return done.returncode, done.stderr

    status, text = said("kernel", "-f", str(tmp_path / "none"))
    assert status == 2 and "none" in text and "Traceback" not in text
    status, text = said("install", "--prefix", str(tmp_path), "--connect", "127.0.0.1:1")
    assert status == 2 and "--key-file" in text
    ports = {f"{name}_port": 0 for name in ("shell", "iopub", "stdin", "control", "hb")}
    info = {"transport": "tcp", "ip": "127.0.0.1", "key": "k", "curve_publickey": "x", **ports}
    (tmp_path / "file").write_text(json.dumps(info))
    Key.generate().write_new_file(tmp_path / "key")
    status, text = said(
        "kernel", "-f", str(tmp_path / "file"), "--connect", "127.0.0.1:1", "--key-file", str(tmp_path / "key")
    )
    assert status == 2 and "transport_encryption" in text


def test_a_bridge_that_is_ended_while_its_kernel_starts_leaves_nothing(tmp_path):
    write_connection_file(str(tmp_path / "connection.json"))
    code = (
        "import os, signal, subprocess, sys\n"
        "from trunkline.jupyter.__main__ import main\n"
        "def start(*arguments, start=subprocess.Popen, **options):\n"
        "    process = start(*arguments, **options)\n"
        "    print(process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return process\n"
        "subprocess.Popen = start\n"
        "sys.exit(main(['kernel', '-f', sys.argv[1]]))\n"
    )
    folder = tmp_path / "tmp"
    folder.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "connection.json")],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    # The kernel may say that its key is gone.
    assert (ran.returncode, "Traceback" in ran.stderr) == (128 + signal.SIGTERM, False)
    eventually("the end of the kernel", lambda: not is_running(int(ran.stdout)))
    assert os.listdir(folder) == []
