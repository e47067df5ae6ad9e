"""Standard input, output and error of the interpreter: a channel, and pipes with marks, or three channels."""

from __future__ import annotations

import contextlib
import getpass
import io
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from .._trunkline import _Interpreter, _Output
from ._interrupts import Interrupts

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class RawInput(io.RawIOBase):
    """Gives at most one line at a time, so that a wrapper never reads ahead."""

    def __init__(self, interpreter: _Interpreter, interrupts: Interrupts) -> None:
        self._interpreter = interpreter
        self._interrupts = interrupts
        self._line = b""
        self._touched = False
        self.instead: Callable[[bool], tuple[str, bytes | None]] | None = None
        """How the main thread reads a line, if it has other things to do meanwhile."""
        self.secret = False
        """Consoles do not show what is typed."""
        self._closed_here = False
        """In a forked process, and while what is left is dropped, there is nothing to read."""

    def readable(self) -> bool:
        return True

    def isatty(self) -> bool:
        # A person is at the other end, or a script that stands for one.
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if not self._line and not self._closed_here:
            self._touched = True
            flush()
            read = self.instead if threading.current_thread() is threading.main_thread() else None
            what, line = (read or self._interpreter.read_line)(self.secret)
            if what == "interrupted":
                self._interrupts.raise_interrupt()
                # The program's own handler has returned, so the read goes on, as that of a terminal does.
                return self.readinto(buffer)
            if what == "broken":
                raise OSError(cast(bytes, line).decode())
            self._line = line or b""
        count = min(len(view), len(self._line))
        view[:count] = self._line[:count]
        self._line = self._line[count:]
        return count

    def forked(self) -> None:
        self._closed_here = True
        self._line = b""


class Input(io.TextIOWrapper):
    """sys.stdin. Several threads may read; each gets whole lines."""

    def __init__(self, raw: RawInput) -> None:
        super().__init__(cast(Any, raw), encoding="utf-8", errors="surrogateescape")
        self._raw = raw
        self._lock = threading.RLock()
        self.mode = "r"  # type: ignore[misc]

    def read(self, size: int | None = -1, /) -> str:
        with self._lock:
            return super().read(-1 if size is None else size)

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        with self._lock:
            return super().readline(size)

    def read_secret(self) -> str:
        """A line that consoles do not show."""
        with self._lock:
            self._raw.secret = True
            try:
                return super().readline()
            finally:
                self._raw.secret = False

    def __next__(self) -> str:  # type: ignore[override]
        with self._lock:
            return super().__next__()

    def read_by(self, instead: Callable[[bool], tuple[str, bytes | None]]) -> None:
        """The main thread reads a line in another way from here on."""
        self._raw.instead = instead

    def drop_rest(self) -> None:
        """Forgets what a program has left of a line: half a line is no statement."""
        raw = self._raw
        if not raw._touched or self.closed or not self._lock.acquire(blocking=False):
            return
        try:
            raw._touched = False
            raw._line = b""
            raw._closed_here = True
            super().read()
        finally:
            raw._closed_here = False
            self._lock.release()

    def forked(self) -> None:
        self._raw.forked()
        self._lock = threading.RLock()


class RawOutput(io.RawIOBase):
    """The raw side of sys.stdout or sys.stderr: it takes everything, and keeps the order of the two."""

    def __init__(self, output: _Output, descriptor: int) -> None:
        self._output = output
        self._descriptor = descriptor
        # The compiled ones themselves. Between the pieces of a line that print() writes no other thread runs then; and
        # in a flush no interrupt is raised, which input() would forget.
        self.write = output.write  # type: ignore[method-assign]
        self.flush = output.flush  # type: ignore[method-assign]

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return False


_current: Streams | None = None


def flush() -> None:
    """Gives everything that was printed to the system."""
    streams = (sys.stdout, sys.stderr, *(_current.outputs if _current is not None else ()))
    for at, stream in enumerate(streams):
        if stream is not None and stream not in streams[:at]:
            # A program's own stream may do anything.
            with contextlib.suppress(Exception):
                stream.flush()


class Streams:
    """The streams of this process, in the place of those that it had."""

    def __init__(self, interpreter: _Interpreter, interrupts: Interrupts) -> None:
        global _current
        self._raws = [RawOutput(output, at) for at, output in zip((1, 2), interpreter.outputs(), strict=True)]
        out, err = (
            io.TextIOWrapper(cast(Any, raw), "utf-8", "backslashreplace", newline="\n", write_through=True)
            for raw in self._raws
        )
        self.outputs = (out, err)
        self.stdin = Input(RawInput(interpreter, interrupts))
        self._before = {name: getattr(sys, name) for name in (*_NAMES, *_ORIGINALS)}
        self._getpass = getpass.getpass, getpass.unix_getpass  # type: ignore[attr-defined]
        for names in (_NAMES, _ORIGINALS):
            for name, stream in zip(names, (self.stdin, out, err), strict=True):
                setattr(sys, name, stream)
        # What is imported later by `from getpass import getpass` is this one. There is no terminal to open.
        getpass.getpass = getpass.unix_getpass = _getpass  # type: ignore[attr-defined]
        _current = self

    def restore(self) -> None:
        """The process has the streams that it had."""
        global _current
        flush()
        for name, stream in self._before.items():
            setattr(sys, name, stream)
        getpass.getpass, getpass.unix_getpass = self._getpass  # type: ignore[attr-defined]
        _current = None

    def forked(self) -> None:
        for raw in self._raws:
            raw._output.turn_off()
        self.stdin.forked()


def is_replaced() -> bool:
    """Whether this process has them now."""
    return _current is not None


_NAMES = ("stdin", "stdout", "stderr")
_ORIGINALS = ("__stdin__", "__stdout__", "__stderr__")


# Once in a process: what is registered stays.
os.register_at_fork(after_in_child=lambda: _current.forked() if _current is not None else None)


def _getpass(prompt: str = "Password: ", stream: Any = None, **_options: object) -> str:
    """As `getpass.getpass`: the console is told not to show what is typed."""
    out = sys.stdout if stream is None else stream
    out.write(prompt)
    out.flush()
    if _current is None or sys.stdin is not _current.stdin:
        return input()
    line = _current.stdin.read_secret()
    if not line:
        raise EOFError
    return line.removesuffix("\n")


def unbuffer_c() -> None:
    """Makes what C code prints come at once, so that none of it is lost with the process."""
    try:
        import ctypes

        c = ctypes.CDLL(None)
        unbuffered = 2
        c.setvbuf(ctypes.c_void_p.in_dll(c, "stdout"), None, unbuffered, 0)
    except (ImportError, ValueError, OSError, AttributeError):
        # It comes when the statement ends.
        return
