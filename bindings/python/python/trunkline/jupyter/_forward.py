"""Streams over the channels of a connection, as the command `trunkline forward` carries them.

Requests go on one channel: `N` begins a stream on channel N, whose first message is the target and is answered by `ok`
or by `no` and why; `break N` says that the one there is broken. An empty message says that a way has ended, so
half-closes pass. The run goes on, because its end says that its side is done with the channel: the client ends its run
when both ways have ended, or when the stream is broken; the host ends its run when it has read that end, and earlier
only to break the stream. What is broken off on one side is reset on the other: nothing that was cut looks whole.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Callable

from .. import CloseCode, Connection, ConnectionLost, Error, Finished, Receiver, RecvError, Sender

REQUESTS = 64
STREAMS = range(65, 127)
HELLO = b"forward 1"

_BROKEN = 1
_PIECE = 16 * 1024
_LOOK = 1.0
"""Seconds until a stream that waits hears that it is broken."""

Open = Callable[[str], socket.socket]
"""Connects to a target, or raises OSError."""


class _Pump:
    """One stream, both ways, until both sides are done with it."""

    def __init__(
        self, stream: socket.socket, sender: Sender, broken: threading.Event, tell: Callable[[], None] | None
    ) -> None:
        self._stream = stream
        self._sender = sender
        self._broken = broken
        self._tell = tell
        """Tells the host that the stream is broken; None on the host."""
        self._lock = threading.Lock()
        self._sending = True
        self._received = False
        self._over = False

    def run(self, receiver: Receiver) -> None:
        if self._stream.family != socket.AF_UNIX:
            self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream.settimeout(_LOOK)
        sends = threading.Thread(target=self._send, name="trunkline-stream", daemon=True)
        sends.start()
        self._receive(receiver)
        sends.join()
        broken = self._broken.is_set()
        if not self._over:
            _end(self._sender, broken)
        if broken:
            reset(self._stream)
        else:
            self._stream.close()

    def _send(self) -> None:
        whole = False
        # A broken link, or the other side's end, breaks it.
        with contextlib.suppress(OSError, Error):
            whole = self._send_all()
        if not whole:
            self._broken.set()
        with self._lock:
            self._sending = False
            self._settle()

    def _send_all(self) -> bool:
        while not self._broken.is_set():
            try:
                piece = self._stream.recv(_PIECE)
            except TimeoutError:
                continue
            if self._broken.is_set():
                return False
            self._sender.send(piece)
            if not piece:
                return True
        return False

    def _receive(self, receiver: Receiver) -> None:
        while True:
            try:
                message = receiver.recv()
            except (RecvError, ConnectionLost) as end:
                with self._lock:
                    if not (isinstance(end, Finished) and self._received):
                        self._broken.set()
                    self._settle()
                return
            if len(message) > 0:
                if not self._write(memoryview(message)):
                    self._broken.set()
                    with self._lock:
                        self._settle()
                continue
            if not self._broken.is_set():
                with contextlib.suppress(OSError):
                    self._stream.shutdown(socket.SHUT_WR)
            with self._lock:
                self._received = True
                self._settle()

    def _write(self, left: memoryview) -> bool:
        while len(left) > 0:
            if self._broken.is_set():
                return False
            try:
                left = left[self._stream.send(left) :]
            except TimeoutError:
                continue
            except OSError:
                return False
        return True

    def _settle(self) -> None:
        """Ends this side's run if it is time."""
        if self._over:
            return
        if self._broken.is_set():
            if self._sending:
                # It hears of it, and then it is time.
                self._sender.interrupter().interrupt()
                with contextlib.suppress(OSError):
                    self._stream.shutdown(socket.SHUT_RD)
            else:
                self._over = True
                if self._tell is not None:
                    self._tell()
                _end(self._sender, True)
        elif self._tell is not None and not self._sending and self._received:
            self._over = True
            _end(self._sender, False)


def _end(sender: Sender, broken: bool) -> None:
    with contextlib.suppress(Error):
        if broken:
            sender.reset(_BROKEN)
        else:
            sender.finish()


def reset(stream: socket.socket) -> None:
    """Ends a stream so that its reader hears that it was cut."""
    with contextlib.suppress(OSError):
        if stream.family != socket.AF_UNIX:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()


# -- The host ----------------------------------------------------------------------------------------------------------


def serve(connection: Connection, open_target: Open) -> None:
    """Serves the streams of a client until its connection is over."""
    workers: dict[int, _Worker] = {}
    try:
        _serve(connection, open_target, workers)
    except ConnectionLost:
        pass
    finally:
        for worker in workers.values():
            worker.jobs.put(False)


def _serve(connection: Connection, open_target: Open, workers: dict[int, _Worker]) -> None:
    requests, answers = connection.receiver(REQUESTS), connection.sender(REQUESTS)
    while True:
        try:
            request = bytes(requests.recv())
        except RecvError:
            continue
        breaks = request.startswith(b"break ")
        number = request.removeprefix(b"break ")
        if request == HELLO:
            answers.send(HELLO)
        elif request.startswith(b"may "):
            # What there is, is told when it is opened.
            answers.send(b"yes")
        elif not number.isdigit() or len(number) > 3 or int(number) not in STREAMS:
            _refuse(connection, "a request that makes no sense")
            return
        elif breaks:
            if int(number) in workers:
                workers[int(number)].broken.set()
        else:
            worker = workers.get(int(number))
            if worker is None:
                worker = workers[int(number)] = _Worker(connection, int(number), open_target)
            if not worker.jobs.empty():
                _refuse(connection, "a stream was asked for twice")
                return
            worker.jobs.put(True)


def _refuse(connection: Connection, why: str) -> None:
    """It is no client of this kind, or one that has lost count."""
    with contextlib.suppress(Error):
        connection.close(CloseCode.application(1), why, timeout=0)


class _Worker:
    """Serves the streams of one channel, one after the other."""

    def __init__(self, connection: Connection, number: int, open_target: Open) -> None:
        self.broken = threading.Event()
        # One that is asked for while the one before it ends; False ends it.
        self.jobs: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._connection = connection
        self._number = number
        self._open = open_target
        threading.Thread(target=self._run, name="trunkline-forward", daemon=True).start()

    def _run(self) -> None:
        receiver = self._connection.receiver(self._number)
        with contextlib.suppress(ConnectionLost):
            while self.jobs.get():
                self.broken.clear()
                self._serve(_first(receiver), receiver)

    def _serve(self, target: bytes, receiver: Receiver) -> None:
        with self._connection.sender(self._number) as sender:
            # What ended the stream before, at the last moment.
            sender.clear_interrupt()
            try:
                stream = self._open(target.decode("utf-8", "replace"))
            except OSError as error:
                sender.send(f"no {error.strerror or error}")
                with contextlib.suppress(RecvError):
                    while True:
                        receiver.recv()
                return
            sender.send("ok")
            _Pump(stream, sender, self.broken, None).run(receiver)


def _first(receiver: Receiver) -> bytes:
    """The first message of a stream. The ends of the one before are nothing here."""
    while True:
        try:
            return bytes(receiver.recv())
        except ConnectionLost:
            raise
        except RecvError:
            continue


def stop(listener: socket.socket) -> None:
    """Closes a listener. What waits for a connection there hears of it."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


# -- The client --------------------------------------------------------------------------------------------------------


class Ports:
    """Ports of this machine, each of which leads to a target of the host's."""

    def __init__(self, connection: Connection, listeners: dict[str, socket.socket]) -> None:
        self._connection = connection
        self._requests = connection.sender(REQUESTS)
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._receivers: dict[int, Receiver] = {}
        for number in STREAMS:
            self._free.put(number)
        for target, listener in listeners.items():
            arguments = (target, listener)
            threading.Thread(target=self._accept, args=arguments, name="trunkline-accept", daemon=True).start()

    def _accept(self, target: str, listener: socket.socket) -> None:
        while True:
            # More than there are channels wait unaccepted.
            number = self._free.get()
            try:
                stream, _ = listener.accept()
            except OSError:
                # It is closed.
                self._free.put(number)
                return
            arguments = (target, stream, number)
            threading.Thread(target=self._carry, args=arguments, name="trunkline-forward", daemon=True).start()

    def _carry(self, target: str, stream: socket.socket, number: int) -> None:
        try:
            self._serve(target, stream, number)
        except Error:
            # The connection is over, or as good as that.
            reset(stream)
        self._free.put(number)

    def _serve(self, target: str, stream: socket.socket, number: int) -> None:
        receiver = self._receivers.get(number)
        if receiver is None:
            receiver = self._receivers[number] = self._connection.receiver(number)
        with self._connection.sender(number) as sender:
            sender.clear_interrupt()
            sender.send(target)
            self._requests.send(str(number))
            if _first(receiver) == b"ok":

                def tell() -> None:
                    with contextlib.suppress(Error):
                        self._requests.send(f"break {number}")

                _Pump(stream, sender, threading.Event(), tell).run(receiver)
                return
            sender.finish()
            with contextlib.suppress(RecvError):
                while True:
                    receiver.recv()
        reset(stream)
