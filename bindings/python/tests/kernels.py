"""Kernels in processes of their own, and what a test needs of a console."""

from __future__ import annotations

import codecs
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import LONG
from trunkline import Config, Key
from trunkline._trunkline import _Session


class Console:
    """A console that gathers what it is told."""

    def __init__(self, address: str | Path, key: Key) -> None:
        self.session = _Session.connect(address, Config(key))
        self._pieces: dict[str, list[str]] = {"stdout": [], "stderr": [], "all": []}
        self.statuses: list[str] = []
        self.pictures: list[tuple[dict, bytes]] = []
        self.events: list[tuple] = []
        self.answers: dict[int, dict] = {}
        self.over = False
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")() for kind in ("stdout", "stderr")}

    def send(self, text: str) -> int:
        return self.session.send(text if text.endswith("\n") else text + "\n", LONG)

    def run(self, text: str) -> str:
        """Runs a statement to its end. Returns what both streams have shown since the call before."""
        number = self.send(text)
        self.until(f"the end of {text!r}", lambda: self.session.is_over(number))
        return self.take()

    def _text(self, kind: str) -> str:
        self._pieces[kind] = ["".join(self._pieces[kind])]
        return self._pieces[kind][0]

    @property
    def stdout(self) -> str:
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        return self._text("stderr")

    @property
    def all(self) -> str:
        return self._text("all")

    def take(self) -> str:
        text = self.all
        self._pieces["all"] = []
        return text

    def forget(self) -> None:
        for pieces in self._pieces.values():
            pieces.clear()

    def until(self, what: str, check: Callable[[], bool], seconds: float = LONG) -> None:
        until = time.monotonic() + seconds
        while not check():
            said = self.session.next(max(until - time.monotonic(), 0))
            if said is None:
                raise AssertionError(
                    f"it never came: {what}; statuses {self.statuses[-5:]}, output {self.all[-2000:]!r}, {self.over=}"
                )
            self.hear(*said)

    def until_status(self, status: str) -> None:
        self.until(status, lambda: bool(self.statuses) and self.statuses[-1].startswith(status))

    def hear(self, kind: str, *rest) -> None:
        self.events.append((kind, *rest))
        if kind in ("stdout", "stderr"):
            text = self._decoders[kind].decode(rest[0])
            self._pieces[kind].append(text)
            self._pieces["all"].append(text)
        elif kind == "status":
            self.statuses.append(rest[0])
        elif kind == "picture":
            self.pictures.append((rest[0], rest[1]))
        elif kind == "answer":
            self.answers[rest[0]] = json.loads(rest[1])
        elif kind == "over":
            self.over = True

    def ask(self, operation: str, code: str = "", cursor: int | None = None) -> dict:
        number = self.session.ask(operation, code, len(code) if cursor is None else cursor)
        self.until(f"the answer to {operation}", lambda: number in self.answers)
        return self.answers[number]

    def take_input(self) -> None:
        begin = len(self.events)
        self.session.take_input()

        def is_mine() -> bool:
            me = [event[1] for event in self.events if event[0] == "roster" and event[1] is not None]
            owners = [event[2] for event in self.events[begin:] if event[0] == "roster" and event[3]]
            return bool(me and owners) and me[-1] == owners[-1]

        self.until("the input", is_mine)

    def interrupt(self) -> None:
        assert self.session.interrupt()

    def interrupt_until_over(self, number: int) -> None:
        self.interrupt()
        self.until("the end of what was interrupted", lambda: self.session.is_over(number))


class Kernel:
    def __init__(self, process: subprocess.Popen[str], address: str | Path, key: Key, key_file: Path) -> None:
        self.process = process
        self.address = address
        self.key = key
        self.key_file = key_file
        self._consoles: list[Console] = []

    def console(self, key: Key | None = None) -> Console:
        console = Console(self.address, key or self.key)
        self._consoles.append(console)
        console.until("its first status", lambda: bool(console.statuses))
        return console

    def wait(self) -> int:
        return self.process.wait(LONG)

    def close(self) -> None:
        for console in self._consoles:
            console.session.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(LONG)
        finally:
            self.process.kill()
            self.process.communicate()


@contextmanager
def kernel(folder: Path, *options: str, unix: bool = False, **environment: str) -> Iterator[Kernel]:
    key_file = folder / "kernel.key"
    place = ["--unix", str(folder / "kernel.socket")] if unix else ["--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "trunkline.kernel", *place, "--key-file", str(key_file), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    try:
        said = process.stdout.readline()
        address = said.strip().removeprefix("listening on ")
        assert address and address != said, said
    except BaseException:
        process.kill()
        process.communicate()
        raise
    made = Kernel(process, Path(address) if unix else address, Key.from_file(key_file), key_file)
    try:
        yield made
    finally:
        made.close()


def pid_of(console: Console) -> int:
    return console.ask("info")["pid"]


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        # The second, if it goes while it is read.
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
