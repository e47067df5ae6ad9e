"""A Jupyter kernel whose five ports are forwarded by `trunkline`, and a client that is told nothing of that.

python jupyter.py PATH_OF_TRUNKLINE
"""

import json
import pathlib
import queue
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

from jupyter_client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

PATIENCE = 60
PORTS = ["shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"]


class Proxy:
    """A link that can be lost."""

    def __init__(self, target):
        self.target = target
        self.made = 0
        self.links = []
        self.lost = False
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def heal(self):
        with self.lock:
            self.lost = False

    def lose(self):
        """Cuts what goes through in the middle of whatever it carries, and leads nothing further until it is healed."""
        with self.lock:
            self.lost = True
            for link in self.links:
                try:
                    link.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # its other end was faster
            self.links.clear()

    def accept(self):
        while True:
            client = self.listener.accept()[0]
            with self.lock:
                if self.lost:
                    client.close()
                    continue
                server = socket.create_connection(self.target)
                self.made += 1
                self.links += [client, server]
            for source, sink in [(client, server), (server, client)]:
                threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def pump(source, sink):
        try:
            while piece := source.recv(16384):
                sink.sendall(piece)
        except OSError:
            pass
        for end in source, sink:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Cell:
    """What a client gets while a cell runs."""

    def __init__(self, client, code, *, allow_stdin=False):
        self.client = client
        self.text = ""
        self.result = None
        self.id = client.execute(code, allow_stdin=allow_stdin)

    def read_until(self, wish):
        """Reads output until `wish()` or the end. Returns `False` at the end."""
        while not wish():
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") != self.id:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    self.text += content["text"]
                case "execute_result":
                    self.result = content["data"]["text/plain"]
                case "status" if content["execution_state"] == "idle":
                    return False
        return True

    def finish(self):
        """Reads the rest, and returns the reply."""
        self.read_until(lambda: False)
        while True:
            reply = self.client.get_shell_msg(timeout=PATIENCE)
            if reply["parent_header"].get("msg_id") == self.id:
                return reply["content"]


def await_file(path):
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.01)


def cut_in_a_cell(client, proxy, directory):
    """Output that was on its way, output of the outage, the result and the reply."""
    lines, seen, far = 600, 100, 450
    mark, over = directory / "mark", directory / "over"
    cell = Cell(
        client,
        f"""
import pathlib, sys, time
for n in range({lines}):
    print(n, "x" * (n * 7 % 1000))
    sys.stdout.flush()
    time.sleep(0.002)
    if n == {far}:
        pathlib.Path({str(mark)!r}).touch()
while not pathlib.Path({str(over)!r}).exists():
    time.sleep(0.01)
print("over")
"y" * 1_000_000
""",
    )
    assert cell.read_until(lambda: f"\n{seen} " in cell.text)
    made = proxy.made
    proxy.lose()
    await_file(mark)  # the kernel has gone on
    assert f"\n{far} " not in cell.text
    proxy.heal()
    over.touch()
    reply = cell.finish()
    assert reply["status"] == "ok", reply
    expected = "".join(f"{n} {'x' * (n * 7 % 1000)}\n" for n in range(lines)) + "over\n"
    assert cell.text == expected, f"{len(cell.text)} of {len(expected)} characters"
    assert cell.result == repr("y" * 1_000_000), len(cell.result)
    assert proxy.made > made, "the link was not made anew"


def cut_while_the_kernel_ends_a_cell(client, proxy, directory):
    """The end of the cell, its reply and the next one's request are all sent while there is no link."""
    go, mark = directory / "go", directory / "ended"
    code = f"""
import pathlib, time
print("first", flush=True)
while not pathlib.Path({str(go)!r}).exists():
    time.sleep(0.01)
print("last")
pathlib.Path({str(mark)!r}).touch()
41
"""
    cell = Cell(client, code)
    assert cell.read_until(lambda: cell.text == "first\n")
    proxy.lose()
    go.touch()
    await_file(mark)
    second = Cell(client, "40 + 2")
    proxy.heal()
    assert cell.finish()["status"] == "ok"
    assert (cell.text, cell.result) == ("first\nlast\n", "41")
    assert second.finish()["status"] == "ok" and second.result == "42"


def cut_at_a_question(client, proxy):
    cell = Cell(client, "print('hello ' + input('who? '))", allow_stdin=True)
    question = client.get_stdin_msg(timeout=PATIENCE)
    assert question["content"]["prompt"] == "who? "
    proxy.lose()
    client.input("world")
    proxy.heal()
    assert cell.finish()["status"] == "ok"
    assert cell.text == "hello world\n", cell.text


def interrupt_over_a_cut(client, proxy):
    """The command is given while there is no link."""
    cell = Cell(client, "import time\nprint('sleeps', flush=True)\ntime.sleep(600)")
    assert cell.read_until(lambda: "sleeps" in cell.text)
    proxy.lose()
    request = client.session.msg("interrupt_request", {})
    client.control_channel.send(request)
    proxy.heal()
    reply = cell.finish()
    assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt"), reply
    assert client.get_control_msg(timeout=PATIENCE)["content"]["status"] == "ok"


def heart_beats(client):
    deadline = time.monotonic() + PATIENCE
    while not client.hb_channel.is_beating():
        assert time.monotonic() < deadline, "no heartbeat"
        time.sleep(0.05)


def await_kernel(info):
    deadline = time.monotonic() + PATIENCE
    for port in PORTS:
        while True:
            try:
                socket.create_connection(("127.0.0.1", info[port])).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, f"the kernel does not listen on its {port}"
                time.sleep(0.05)


def starts(trunkline, *arguments, lines=1):
    """Starts a command. Returns it, and the first lines that it prints."""
    process = subprocess.Popen([trunkline, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    return process, [process.stdout.readline().strip() for _ in range(lines)]


def main(trunkline):
    processes = []
    client = None
    with tempfile.TemporaryDirectory() as place:
        directory = pathlib.Path(place)
        try:
            key, there = directory / "key", directory / "kernel.json"
            subprocess.run([trunkline, "key", key], check=True)
            _, info = write_connection_file(str(there))
            kernel = [sys.executable, "-m", "ipykernel_launcher", "-f", str(there)]
            host, [line] = starts(
                trunkline,
                "host",
                "--pipes",
                "--key-file",
                key,
                "--allow-forward",
                "127.0.0.1:*",
                "--",
                *kernel,
            )
            processes.append(host)
            address = re.fullmatch(r"listening on (127\.0\.0\.1):(\d+)", line)
            await_kernel(info)
            proxy = Proxy((address[1], int(address[2])))
            routes = [f"0:127.0.0.1:{info[port]}" for port in PORTS]
            forward, told = starts(
                trunkline, "forward", f"127.0.0.1:{proxy.address[1]}", "--key-file", key, *routes, lines=len(routes)
            )
            processes.append(forward)
            for port, line in zip(PORTS, told, strict=True):
                found = re.match(r"forwarding 127\.0\.0\.1:(\d+) .*to 127\.0\.0\.1:(\d+)$", line)
                assert found and int(found[2]) == info[port], line
                info[port] = int(found[1])

            here = directory / "client.json"
            here.write_text(json.dumps(info))
            client = BlockingKernelClient(connection_file=str(here))
            client.load_connection_file()
            client.start_channels()
            client.wait_for_ready(timeout=PATIENCE)
            heart_beats(client)

            cut_in_a_cell(client, proxy, directory)
            cut_while_the_kernel_ends_a_cell(client, proxy, directory)
            cut_at_a_question(client, proxy)
            interrupt_over_a_cut(client, proxy)
            heart_beats(client)
            try:
                extra = client.get_iopub_msg(timeout=0.2)
                assert extra["msg_type"] == "status", extra
            except queue.Empty:
                pass

            client.shutdown()
            assert host.wait(PATIENCE) == 0, "the kernel's status is the host's"
        finally:
            if client:
                client.stop_channels()
            for process in processes:
                process.kill()
                process.wait()
    print(f"a Jupyter kernel behind trunkline forward: {proxy.made} links, nothing lost")


if __name__ == "__main__":
    main(sys.argv[1])
