"""The machine on which kernels run for notebooks elsewhere: one connection is one kernel."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from .. import Connection, ConnectionLost, Error, Listener, RecvError, Sender
from . import _forward

STDOUT, STDERR = 1, 2
"""What the kernel's process writes itself, which is not what its cells show."""
ORDERS = 7
"""Both ways, JSON: `{"id":1,"launch":{…}}` is answered by `{"id":1}` or `{"id":1,"error":"…"}`; `{"signal":2}` is not
answered; `{"exited":3}` says that the kernel's process has ended, by a signal if it is negative. It comes behind the
answer to the launch of this kernel, and before the answer to the next."""
SOCKETS = ("shell", "iopub", "stdin", "control", "hb")
PYTHON = "{python}"
"""The interpreter that runs here, in a command."""

_END = 5.0
"""Seconds that a kernel may take to end, before it is killed."""
_MOST_PATH = 100


def target(name: str) -> str:
    """What a socket of the kernel is called as a target of a stream."""
    return f"kernel:{SOCKETS.index(name) + 1}"


class Host:
    """Serves those that have the key, until close()."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._guests: set[_Guest] = set()
        self._changed = threading.Condition()
        self._closed = False

    def serve(self) -> None:
        for connection in self._listener:
            guest = _Guest(connection)
            with self._changed:
                if self._closed:
                    connection.abandon()
                    return
                self._guests.add(guest)
            threading.Thread(target=self._attend, args=(guest,), name="trunkline-guest", daemon=True).start()

    def _attend(self, guest: _Guest) -> None:
        try:
            guest.attend()
        finally:
            with self._changed:
                self._guests.discard(guest)
                self._changed.notify_all()

    def close(self) -> None:
        """Ends all kernels."""
        self._listener.close()
        with self._changed:
            self._closed = True
            for guest in self._guests:
                guest.leave()
            self._changed.wait_for(lambda: not self._guests, 2 * _END)


class _Guest:
    """A notebook server's connection, and the kernel that runs for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._kernel: _Kernel | None = None

    def attend(self) -> None:
        try:
            orders, answers = self._connection.receiver(ORDERS), self._connection.sender(ORDERS)
            arguments = (self._connection, self._open)
            threading.Thread(target=_forward.serve, args=arguments, name="trunkline-forward", daemon=True).start()
            while True:
                try:
                    order = bytes(orders.recv())
                except RecvError:
                    continue
                self._obey(order, answers)
        except Error:
            # It is over. A lost link alone is not: that is waited for.
            pass
        finally:
            if self._kernel is not None:
                self._kernel.end()
            self._connection.abandon()

    def leave(self) -> None:
        with contextlib.suppress(Error):
            self._connection.close(reason="this host of kernels ends", timeout=1)

    def _obey(self, order: bytes, answers: Sender) -> None:
        number, launched = None, None
        try:
            said = json.loads(order)
            number = said.get("id")
            if "launch" in said:
                if self._kernel is not None:
                    self._kernel.end()
                    self._kernel = None
                self._kernel = launched = _Kernel(said["launch"], self._connection, answers)
            elif "signal" in said and self._kernel is not None:
                self._kernel.signal(int(said["signal"]))
        except Exception as error:
            if isinstance(error, ConnectionLost):
                raise
            if number is not None:
                answers.send(json.dumps({"id": number, "error": f"{type(error).__name__}: {error}"}))
        else:
            if number is not None:
                answers.send(json.dumps({"id": number}))
            if launched is not None:
                launched.tell_its_end()

    def _open(self, name: str) -> socket.socket:
        kernel = self._kernel
        if kernel is None:
            raise ConnectionRefusedError("there is no kernel")
        return kernel.open(name)


class _Kernel:
    def __init__(self, launch: dict[str, Any], connection: Connection, answers: Sender) -> None:
        self._answers = answers
        # No other user reaches its sockets, and no port is taken twice.
        self._folder = tempfile.mkdtemp(prefix="trunkline-")
        try:
            self._process = self._start(launch)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        assert self._process.stdout is not None and self._process.stderr is not None
        pipes = [(self._process.stdout, STDOUT), (self._process.stderr, STDERR)]
        pumps = [
            threading.Thread(target=_pump, args=(pipe, connection, channel), name="trunkline-words", daemon=True)
            for pipe, channel in pipes
        ]
        for pump in pumps:
            pump.start()
        self._tells = threading.Thread(target=self._wait, name="trunkline-wait", daemon=True)

    def tell_its_end(self) -> None:
        self._tells.start()

    def _start(self, launch: dict[str, Any]) -> subprocess.Popen[bytes]:
        place = os.path.join(self._folder, "kernel")
        if len(place) > _MOST_PATH:
            raise OSError(f"{self._folder} is too long for sockets; set TMPDIR to a shorter one")
        info = dict(launch["connection"])
        info.update({"transport": "ipc", "ip": place})
        info.update({f"{name}_port": at for at, name in enumerate(SOCKETS, 1)})
        file = os.path.join(self._folder, "connection.json")
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            json.dump(info, opened)
        names = {PYTHON: sys.executable, "{connection_file}": file}
        command = []
        for part in launch["argv"]:
            for name, value in names.items():
                part = str(part).replace(name, value)
            command.append(part)
        folder = launch.get("cwd")
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder if folder is not None and os.path.isdir(folder) else Path.home(),
            # A kernel that looks for its parent ends with this process, however that ends.
            env={**os.environ, "JPY_PARENT_PID": str(os.getpid()), **launch.get("env", {})},
            start_new_session=True,
        )

    def _wait(self) -> None:
        status = self._process.wait()
        with contextlib.suppress(Error):
            self._answers.send(json.dumps({"exited": status, "pid": self._process.pid}))

    def open(self, name: str) -> socket.socket:
        names = [target(each) for each in SOCKETS]
        if name not in names:
            raise ConnectionRefusedError(f"{name} is no socket of the kernel")
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.connect(os.path.join(self._folder, f"kernel-{names.index(name) + 1}"))
        except BaseException:
            stream.close()
            raise
        return stream

    def signal(self, number: int) -> None:
        """To the kernel, and to what it has started in its group."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def end(self) -> None:
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._process.wait()
        if self._tells.ident is not None:
            self._tells.join()
        shutil.rmtree(self._folder, ignore_errors=True)


def _pump(pipe: IO[bytes], connection: Connection, channel: int) -> None:
    with pipe:
        with contextlib.suppress(Error), connection.sender(channel) as sender:
            while piece := os.read(pipe.fileno(), 1 << 16):
                sender.send(piece)
        # If nothing reads there, the kernel still prints.
        while os.read(pipe.fileno(), 1 << 16):
            pass
