"""The same work by trunkline and by pyzmq, two processes over loopback, in turns: `python benches/compare.py`.

Prints the medians, and how many times as fast trunkline is. Each number is taken where the messages arrive, from the
first to the last. pyzmq gets what makes it fastest: high-water marks of 100,000 messages, and for large messages
`copy=False` beside `copy=True`, of which the better one counts. It has no call that takes several messages, so
`recv_many` stands beside its `recv`. pyzmq encrypts nothing here, so the like of it is trunkline unsealed; the
column beside it is trunkline as it is by default over TCP, sealed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import trunkline
import zmq

SMALL = 16
LARGE = 64 * 1024
KEY = "5e" * 32


class Trunkline:
    SEALING = "never"

    def __init__(self, connection: trunkline.Connection) -> None:
        self.connection = connection
        self.sender = connection.sender(1)
        self.receiver = connection.receiver(1)

    @classmethod
    def config(cls) -> trunkline.Config:
        return trunkline.Config(trunkline.Key(KEY), sealing=cls.SEALING)

    @classmethod
    def bind(cls):
        listener = trunkline.Listener("127.0.0.1:0", cls.config())
        yield listener.local_addr[1]
        yield cls(listener.accept())

    @classmethod
    def connect(cls, port: int):
        return cls(trunkline.Connection.connect(("127.0.0.1", port), cls.config()))

    def send_all(self, message: bytes, count: int, copy: bool) -> None:
        send = self.sender.send
        for _ in range(count):
            send(message)

    def recv_all(self, count: int, copy: bool) -> None:
        recv = self.receiver.recv
        for _ in range(count):
            recv()

    def recv_many(self, count: int) -> None:
        recv_many = self.receiver.recv_many
        while count > 0:
            count -= len(recv_many())

    def first(self) -> None:
        self.receiver.recv()

    def close(self) -> None:
        self.connection.close()


class Sealed(Trunkline):
    SEALING = "always"


class Zmq:
    def __init__(self, socket: zmq.Socket) -> None:
        self.socket = socket

    @staticmethod
    def new() -> zmq.Socket:
        socket = zmq.Context.instance().socket(zmq.PAIR)
        socket.set_hwm(100_000)
        return socket

    @classmethod
    def bind(cls):
        socket = cls.new()
        yield socket.bind_to_random_port("tcp://127.0.0.1")
        yield cls(socket)

    @classmethod
    def connect(cls, port: int):
        socket = cls.new()
        socket.connect(f"tcp://127.0.0.1:{port}")
        return cls(socket)

    def send_all(self, message: bytes, count: int, copy: bool) -> None:
        send = self.socket.send
        for _ in range(count):
            send(message, copy=copy)

    def recv_all(self, count: int, copy: bool) -> None:
        recv = self.socket.recv
        for _ in range(count):
            recv(copy=copy)

    def recv_many(self, count: int) -> None:
        self.recv_all(count, True)

    def first(self) -> None:
        self.socket.recv()

    def close(self) -> None:
        self.socket.close()


LIBRARIES = {"trunkline": Trunkline, "sealed": Sealed, "pyzmq": Zmq}


def other_side(library: str, port: int, work: str, count: int, copy: bool) -> None:
    peer = LIBRARIES[library].connect(port)
    if work == "trips":
        message = bytes(SMALL)
        for _ in range(count + 1):
            peer.first()
            peer.send_all(message, 1, True)
    else:
        peer.send_all(bytes(LARGE if work == "large" else SMALL), count + 1, copy)
    peer.first()
    peer.close()


def measure(library: str, work: str, count: int, copy: bool) -> float:
    """Seconds for `count` of them."""
    binding = LIBRARIES[library].bind()
    port = next(binding)
    arguments = [sys.executable, __file__, "--other-side", library, str(port), work, str(count), str(int(copy))]
    with subprocess.Popen(arguments) as other:
        peer = next(binding)
        message = bytes(SMALL)
        if work == "trips":
            peer.send_all(message, 1, True)
        peer.first()
        begin = time.perf_counter()
        if work == "trips":
            for _ in range(count):
                peer.send_all(message, 1, True)
                peer.first()
        elif work == "many":
            peer.recv_many(count)
        else:
            peer.recv_all(count, copy)
        seconds = time.perf_counter() - begin
        peer.send_all(b"over", 1, True)
        assert other.wait() == 0
    peer.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the usual counts")
    parser.add_argument("--other-side", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.other_side:
        library, port, work, count, copy = options.other_side
        other_side(library, int(port), work, int(count), copy == "1")
        return
    rows = [
        ("16-byte messages, one by one", "one", 400_000, lambda s, n: n / s, "/s"),
        ("16-byte messages, recv_many", "many", 400_000, lambda s, n: n / s, "/s"),
        ("64 KiB messages", "large", 20_000, lambda s, n: n * LARGE / s / 1e6, "MB/s"),
        ("round trip of 16 bytes", "trips", 20_000, lambda s, n: s / n * 1e6, "µs"),
    ]
    print(f"{'':32}{'unsealed':>14}{'sealed':>14}{'pyzmq':>14}{'':6}  times as fast: unsealed, sealed")
    for name, work, count, value, unit in rows:
        count = max(int(count * options.scale), 10)
        results: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for library in LIBRARIES:
                copies = [True, False] if work == "large" and library == "pyzmq" else [True]
                for copy in copies:
                    results.setdefault(f"{library} {copy}", []).append(measure(library, work, count, copy))
        seconds = {key: statistics.median(each) for key, each in results.items()}
        ours, sealed = seconds["trunkline True"], seconds["sealed True"]
        theirs = min(each for key, each in seconds.items() if key.startswith("pyzmq"))
        print(
            f"{name:32}{value(ours, count):14,.0f}{value(sealed, count):14,.0f}{value(theirs, count):14,.0f} {unit:5}"
            f"  {theirs / ours:.2f}, {theirs / sealed:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
