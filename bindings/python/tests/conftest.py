"""What the tests share: connections, and programs of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import trunkline
from trunkline import Config, Connection, Key, Listener

# What users seldom set, and what makes C's output unbuffered as well.
os.environ.pop("PYTHONUNBUFFERED", None)
# Of those that test in the background it is ignored, and so it were in the programs that are started here.
signal.signal(signal.SIGINT, signal.default_int_handler)

LONG = 30.0
"""Longer than anything takes on a machine that is busy."""


def make_pair(**settings) -> tuple[Connection, Connection]:
    return Connection.pair(Config(Key.generate(), **settings))


@pytest.fixture
def pair() -> Iterator[tuple[Connection, Connection]]:
    here, there = make_pair()
    yield here, there
    here.abandon()
    there.abandon()


@dataclass
class Loopback:
    key: Key
    listener: Listener
    client: Connection
    server: Connection


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    key = Key.generate()
    with Listener("127.0.0.1:0", key) as listener:
        client = Connection.connect(listener.local_addr, key)
        server = listener.accept(LONG)
        yield Loopback(key, listener, client, server)
        client.abandon()
        server.abandon()


@dataclass
class Ended:
    status: int
    out: str
    err: str
    seconds: float


@contextmanager
def program(code: str, *arguments: str, options: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A Python program in a process of its own; it is ended if it has not."""
    process = subprocess.Popen(
        [sys.executable, *options, "-c", PRELUDE + textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(code: str, *arguments: str, options: tuple[str, ...] = (), timeout: float = LONG) -> Ended:
    """Runs a Python program to its end."""
    begin = time.monotonic()
    with program(code, *arguments, options=options) as process:
        out, err = process.communicate(timeout=timeout)
        return Ended(process.returncode, out, err, time.monotonic() - begin)


PRELUDE = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"


def is_stopped(pid: int) -> bool:
    states = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat") as stat:
            states.append(stat.read().rsplit(")", 1)[1].split()[0])
    return set(states) == {"T"}


@contextmanager
def dead_peer(**settings) -> Iterator[Connection]:
    """A connection to a process that has stopped: it takes what the system's buffers take, and says nothing."""
    key = Key.generate()
    code = """
        from conftest import *
        listener = Listener("127.0.0.1:0", Config(Key(sys.stdin.readline()), window=4096))
        print(listener.local_addr[1], flush=True)
        server = listener.accept()
        receiver = server.receiver(1)
        print("accepted", flush=True)
        sys.stdin.read()
    """
    with program(code) as process:
        print(key.expose_hex(), file=process.stdin, flush=True)
        port = int(process.stdout.readline())
        connection = Connection.connect(("127.0.0.1", port), Config(key, **settings))
        assert process.stdout.readline() == "accepted\n"
        process.send_signal(signal.SIGSTOP)
        eventually("the stop of all threads", lambda: is_stopped(process.pid))
        try:
            yield connection
        finally:
            connection.abandon()


def eventually(what: str, check) -> None:
    """Waits until something is so."""
    until = time.monotonic() + LONG
    while not check():
        assert time.monotonic() < until, f"it never came: {what}"
        time.sleep(0.005)


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def resident() -> int:
    """The memory of this process, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


__all__ = [name for name in globals() if not name.startswith("_")]
assert trunkline
