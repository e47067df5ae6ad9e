"""Kernels of Jupyter's on another machine, behind one connection."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

import nbformat
from conftest import LONG, eventually
from jupyter_client.manager import KernelManager
from kernels import is_running
from notebooks import Frontend, frontend, specs
from trunkline import Connection, Key, Listener
from trunkline.jupyter import _forward
from trunkline.jupyter._provisioner import _Remote
from trunkline.jupyter._serve import ORDERS


class Proxy:
    """A way to a port that can be cut. What is on it then is lost."""

    def __init__(self, port):
        self._port = port
        self._lock = threading.Lock()
        self._pairs = []
        self.is_open = True
        self.carried = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if not self.is_open:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._port))
                self._pairs.append((near, far))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source, drain):
        try:
            while piece := source.recv(1 << 16):
                drain.sendall(piece)
                self.carried += len(piece)
            drain.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self, *, opens=True):
        with self._lock:
            self.is_open = opens
            for pair in self._pairs:
                for end in pair:
                    _forward.reset(end) if end.fileno() >= 0 else None
            self._pairs.clear()

    def open(self):
        self.is_open = True

    def close(self):
        _forward.stop(self._listener)
        self.cut()


@contextmanager
def serving(folder, *options):
    """The other machine."""
    command = [sys.executable, "-m", "trunkline.jupyter", "serve", "--listen", "127.0.0.1:0"]
    command += ["--key-file", str(folder / "host.key"), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
    try:
        said = process.stdout.readline()
        yield process, int(said.strip().rpartition(":")[2])
    finally:
        process.terminate()
        try:
            assert process.wait(LONG) == 0
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def other(tmp_path):
    with serving(tmp_path) as (process, port):
        proxy = Proxy(port)
        yield process, proxy
        proxy.close()


def kernelspec(folder, address, **changes):
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "far away",
        "language": "python",
        "env": {"FROM_THE_SPEC": "it is"},
        "metadata": {
            "kernel_provisioner": {
                "provisioner_name": "trunkline-provisioner",
                "config": {"address": address, "key_file": str(folder / "host.key"), "cwd": str(folder)},
            }
        },
        **changes,
    }
    place = folder / "share/jupyter/kernels/far"
    place.mkdir(parents=True, exist_ok=True)
    (place / "kernel.json").write_text(json.dumps(spec))
    return specs(folder)


@pytest.fixture
def far(tmp_path, other):
    with frontend(kernelspec(tmp_path, other[1].address), "far") as made:
        yield made


def test_a_kernelspec_runs_on_the_other_machine(far, other, tmp_path):
    code = "import os, sys\nprint(os.getppid(), os.getcwd(), os.environ['FROM_THE_SPEC'], sys.executable)"
    assert far.text(code) == f"{other[0].pid} {tmp_path} it is {sys.executable}\n"
    assert far.text("6 * 7") == "42"
    assert far.text("print('hello,', input('name? '))", "Ada") == "hello, Ada\n"
    assert far.run("1/0")["ename"] == "ZeroDivisionError"
    assert far.manager.is_alive()


def test_a_link_that_is_cut_in_the_middle_of_a_cell_loses_nothing(far, other):
    proxy = other[1]
    pid = int(far.text("import os\nos.getpid()"))
    lines = 3000
    # Each is a message of its own, and they go on while there is no link.
    code = f"import time\nfor i in range({lines}):\n    print(i, 'x' * 100, flush=True)\n    time.sleep(0.0005)\n'end'"
    stopped = threading.Event()

    def cut_and_cut():
        # Not for ever: on a machine that is busy each link might be cut before it has carried anything.
        for _ in range(10):
            if stopped.wait(0.15):
                return
            before = proxy.carried
            proxy.cut()
            eventually("the next link", lambda before=before: stopped.is_set() or proxy.carried > before)

    cuts = threading.Thread(target=cut_and_cut)
    cuts.start()
    try:
        reply = far.run(code)
    finally:
        stopped.set()
        cuts.join()
    assert reply["status"] == "ok"
    shown = "".join(each["text"] for each in far.outputs if each["output_type"] == "stream")
    assert [int(line.split()[0]) for line in shown.splitlines()] == list(range(lines))
    assert far.outputs[-1]["data"] == {"text/plain": "'end'"}
    # It is the same kernel, with all that it had.
    assert int(far.text("os.getpid()")) == pid and far.manager.is_alive()


def test_what_is_made_while_the_link_is_lost_is_there_when_it_is_back(far, other, tmp_path):
    proxy = other[1]
    done = tmp_path / "done"
    asked = far.client.execute(
        f"import time\nprint('before', flush=True)\nwhile not __import__('os').path.exists({str(tmp_path / 'go')!r}): "
        f"time.sleep(0.01)\nprint('meanwhile', flush=True)\nopen({str(done)!r}, 'w').close()\n5"
    )
    until(far, "stream", "before\n")
    proxy.cut(opens=False)
    eventually("a lost link", lambda: far.manager.provisioner._remote.is_away)
    (tmp_path / "go").touch()
    eventually("the end of the cell", done.exists)
    # A lost link is no dead kernel, so no restart is offered.
    assert far.manager.is_alive() and asyncio.run(far.manager.provisioner.poll()) is None
    # What is asked meanwhile is answered afterwards.
    behind = far.client.execute("7")
    proxy.open()
    until(far, "stream", "meanwhile\n")
    assert far.client._recv_reply(asked, timeout=LONG)["content"]["status"] == "ok"
    assert far.client._recv_reply(behind, timeout=LONG)["content"]["status"] == "ok"


def until(notebook, kind, text):
    deadline = time.monotonic() + LONG
    while True:
        message = notebook.client.get_iopub_msg(timeout=LONG)
        if message["msg_type"] == kind and message["content"].get("text", message["content"].get("code")) == text:
            return
        assert time.monotonic() < deadline


def test_it_is_interrupted_and_restarted_from_the_notebook(far, other):
    process, _ = other
    old = int(far.text("import os\nos.getpid()"))
    asked = far.client.execute("while True: pass")
    until(far, "execute_input", "while True: pass")
    far.manager.interrupt_kernel()
    assert far.client._recv_reply(asked, timeout=LONG)["content"]["ename"] == "KeyboardInterrupt"
    connection = far.manager.provisioner._remote
    far.manager.restart_kernel()
    far.client.wait_for_ready(timeout=LONG)
    assert far.run("os")["ename"] == "NameError"
    new = int(far.text("import os\nos.getpid()"))
    assert new != old and not is_running(old)
    assert far.manager.provisioner._remote is connection
    # One that hangs, too.
    far.client.execute("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [2, 15])\nwhile True: pass")
    far.manager.restart_kernel(now=True)
    far.client.wait_for_ready(timeout=LONG)
    assert not is_running(new) and process.poll() is None
    assert far.text("6 * 7") == "42"


def test_an_interrupt_during_an_outage_arrives_after_it(far, other):
    proxy = other[1]
    asked = far.client.execute("while True: pass")
    until(far, "execute_input", "while True: pass")
    proxy.cut(opens=False)
    eventually("a lost link", lambda: far.manager.provisioner._remote.is_away)
    far.manager.interrupt_kernel()
    proxy.open()
    assert far.client._recv_reply(asked, timeout=LONG)["content"]["ename"] == "KeyboardInterrupt"


def test_the_death_of_the_kernel_is_told_with_its_status(far):
    pid = int(far.text("import os\nos.getpid()"))
    os.kill(pid, signal.SIGKILL)
    eventually("the death", lambda: not far.manager.is_alive())
    assert asyncio.run(far.manager.provisioner.poll()) == -signal.SIGKILL


def test_a_kernel_ends_with_its_notebook_and_with_the_host(tmp_path, other):
    found = kernelspec(tmp_path, other[1].address)
    with frontend(found, "far") as made:
        pid = int(made.text("import os\nos.getpid()"))
        folder = made.text("import ipykernel\nprint(os.path.dirname(ipykernel.get_connection_file()))").strip()
        mode = os.stat(folder).st_mode & 0o777
        assert mode == 0o700
    eventually("the end of the kernel", lambda: not is_running(pid))
    eventually("the end of its sockets", lambda: not os.path.exists(folder))
    with serving(tmp_path) as (process, port):
        with frontend(kernelspec(tmp_path, f"127.0.0.1:{port}"), "far") as made:
            pid = int(made.text("import os\nos.getpid()"))
            process.terminate()
            eventually("the death", lambda: not made.manager.is_alive())
            eventually("the end of the kernel", lambda: not is_running(pid))


def test_a_link_that_does_not_come_back_ends_the_kernel(tmp_path):
    with serving(tmp_path, "--grace", "0.5") as (_, port):
        proxy = Proxy(port)
        with frontend(kernelspec(tmp_path, proxy.address), "far") as made:
            pid = int(made.text("import os\nos.getpid()"))
            proxy.cut(opens=False)
            eventually("the end of the kernel", lambda: not is_running(pid))
            # Which the notebook hears when there is a link again.
            proxy.open()
            eventually("the news", lambda: not made.manager.is_alive())
        proxy.close()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"argv": ["/no/such/program", "{connection_file}"]}, "/no/such/program"),
        ({"metadata": {"kernel_provisioner": {"provisioner_name": "trunkline-provisioner"}}}, "key_file"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, other, changes, why):
    found = kernelspec(tmp_path, other[1].address, **changes)
    manager = KernelManager(kernel_spec_manager=found, kernel_name="far")
    with pytest.raises(Exception, match=why):
        manager.start_kernel()
    manager.cleanup_resources()


def test_a_key_that_is_not_the_host_s_lets_nothing_in(tmp_path, other):
    found = kernelspec(tmp_path, other[1].address)
    (tmp_path / "host.key").unlink()
    Key.generate().write_new_file(tmp_path / "host.key")
    with pytest.raises(Exception, match="key"):
        KernelManager(kernel_spec_manager=found, kernel_name="far").start_kernel()


def test_nbclient_runs_a_notebook_there(tmp_path, other):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import os\nos.getppid()")])
    client = nbclient.NotebookClient(notebook, timeout=LONG, kernel_name="far")
    client.km = client.create_kernel_manager()
    client.km.kernel_spec_manager = kernelspec(tmp_path, other[1].address)
    client.execute()
    assert notebook.cells[0].outputs[0]["data"]["text/plain"] == str(other[0].pid)


def test_two_notebooks_have_a_kernel_each(tmp_path, other):
    found = kernelspec(tmp_path, other[1].address)
    with frontend(found, "far") as one, frontend(found, "far") as two:
        one.run("x = 1")
        assert two.run("x")["ename"] == "NameError"
        # And one kernel has several frontends.
        third = Frontend(one.manager)
        assert third.text("x") == "1"
        third.close()


@pytest.fixture
def forwarded():
    """A connection whose streams lead to a server that the test has."""
    server = socket.create_server(("127.0.0.1", 0))

    def open_target(name):
        if name != "here:1":
            raise ConnectionRefusedError("it is not here")
        return socket.create_connection(server.getsockname())

    client, host = Connection.pair(Key.generate())
    threading.Thread(target=_forward.serve, args=(host, open_target), daemon=True).start()
    listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in ("here:1", "nowhere:1")}
    _forward.Ports(client, listeners)
    yield client, server, {name: listener.getsockname() for name, listener in listeners.items()}
    for listener in (*listeners.values(), server):
        _forward.stop(listener)
    client.abandon()


def test_streams_pass_whole_with_half_closes_and_breaks(forwarded):
    _, server, ports = forwarded
    body = os.urandom(300_000)
    # More than there are channels, one after the other.
    for i in range(70):
        near = socket.create_connection(ports["here:1"])
        far, _ = server.accept()
        near.sendall(body[: 10 + i])
        near.shutdown(socket.SHUT_WR)
        assert read_all(far) == body[: 10 + i]
        sends = threading.Thread(target=lambda far=far: (far.sendall(body), far.close()))
        sends.start()
        assert read_all(near) == body
        sends.join()
        near.close()
    # What is broken on one side is reset on the other.
    near = socket.create_connection(ports["here:1"])
    far, _ = server.accept()
    near.sendall(b"x")
    assert far.recv(1) == b"x"
    _forward.reset(near)
    far.settimeout(LONG)
    with far, pytest.raises(ConnectionResetError):
        far.recv(1)
    near = socket.create_connection(ports["here:1"])
    far, _ = server.accept()
    _forward.reset(far)
    near.settimeout(LONG)
    with near, pytest.raises(ConnectionResetError):
        near.recv(1)
    # What is refused is reset at once.
    near = socket.create_connection(ports["nowhere:1"], LONG)
    with near, pytest.raises(ConnectionResetError):
        near.recv(1)


def read_all(stream):
    stream.settimeout(LONG)
    found = b""
    while piece := stream.recv(1 << 16):
        found += piece
    return found


def test_orders_that_make_no_sense_are_refused(tmp_path, other):
    key = Key.from_file(tmp_path / "host.key")
    with Connection.connect(other[1].address, key) as client:
        orders, answers = client.sender(7), client.receiver(7)
        wrong = [{}, {"launch": 5}, {"launch": {"argv": []}}, {"launch": {"argv": ["x"], "connection": 7}}]
        wrong.append({"launch": {"argv": ["sleep", "1"], "connection": {}, "env": {"a": 5}}})
        for number, order in enumerate(wrong):
            orders.send(json.dumps({"id": number, **order}))
            answer = json.loads(bytes(answers.recv(LONG)))
            assert answer["id"] == number and ("error" in answer) == (order != {}), answer
        for order in (b"", b"{", b"[]", b"5", b'{"signal": 1e400}', b"[" * 100_000):
            orders.send(order)
        launch = {"argv": ["{python}", "-c", "import os; os._exit(3)"], "connection": {}}
        orders.send(json.dumps({"id": 100, "launch": launch}))
        assert json.loads(bytes(answers.recv(LONG))) == {"id": 100}
        assert json.loads(bytes(answers.recv(LONG)))["exited"] == 3
        orders.send(b'{"signal": 99999999999999999999}')
        orders.send(json.dumps({"id": 101}))
        assert json.loads(bytes(answers.recv(LONG))) == {"id": 101}


def test_the_end_of_a_kernel_is_told_between_its_launch_and_the_next(tmp_path, other):
    key = Key.from_file(tmp_path / "host.key")
    with Connection.connect(other[1].address, key) as client:
        orders, answers = client.sender(7), client.receiver(7)
        count = 30
        for number in range(count):
            orders.send(json.dumps({"id": number, "launch": {"argv": ["true"], "connection": {}}}))
        told = [json.loads(bytes(answers.recv(LONG))) for _ in range(2 * count)]
        assert [each.get("id") for each in told] == [each for number in range(count) for each in (number, None)]


def test_several_signals_at_once_end_the_host_as_one_does(tmp_path):
    with serving(tmp_path) as (process, port):
        with Connection.connect(f"127.0.0.1:{port}", Key.from_file(tmp_path / "host.key")) as client:
            code = "import os, signal, sys; print(os.path.dirname(sys.argv[1]), flush=True); signal.pause()"
            launch = {"argv": ["{python}", "-c", code, "{connection_file}"], "connection": {}}
            orders = client.sender(7)
            orders.send(json.dumps({"id": 1, "launch": launch}))
            folder = bytes(client.receiver(1).recv(LONG)).decode().strip()
            assert os.path.exists(folder)
            for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCONT):
                process.send_signal(number)
            assert process.wait(LONG) == 0
            assert not os.path.exists(folder)


def test_a_kernel_prints_though_nothing_reads_it(tmp_path, other):
    key = Key.from_file(tmp_path / "host.key")
    with Connection.connect(other[1].address, key) as client:
        orders, answers, words = client.sender(7), client.receiver(7), client.receiver(1)
        code = "for _ in range(3): print('x' * 1_000_000, flush=True)"
        orders.send(json.dumps({"id": 1, "launch": {"argv": ["{python}", "-c", code], "connection": {}}}))
        words.recv(LONG)
        words.close()
        assert [json.loads(bytes(answers.recv(LONG))).get("exited") for _ in range(2)] == [None, 0]


def test_a_kernel_that_ends_at_once_is_known_to_have_ended():
    key = Key.generate()
    with Listener("127.0.0.1:0", key) as listener:
        with Connection.connect(listener.local_addr, key) as client:
            host = listener.accept(LONG)
            orders, answers = host.receiver(ORDERS), host.sender(ORDERS)
            remote = _Remote(client, {}, print)
            for number in range(1, 51):
                launches = threading.Thread(target=remote.launch, args=({},))
                launches.start()
                assert json.loads(bytes(orders.recv(LONG)))["id"] == number
                answers.send(json.dumps({"id": number}))
                answers.send(json.dumps({"exited": number}))
                launches.join(LONG)
                eventually("the news", lambda status=number: remote.status == status)


@pytest.mark.parametrize("request_", [b"64", b"127", b"x", b"break", b"\xff", b"", b"1" * 5000])
def test_requests_that_make_no_sense_end_the_connection(request_):
    key = Key.generate()
    with Listener("127.0.0.1:0", key) as listener:
        with Connection.connect(listener.local_addr, key) as client:
            host = listener.accept(LONG)
            serves = threading.Thread(target=_forward.serve, args=(host, None))
            serves.start()
            client.sender(_forward.REQUESTS).send(request_)
            serves.join(LONG)
            assert not serves.is_alive()
            eventually("the end", lambda: client.close_reason is not None)
