"""Channels as raw streams of Python's, to put a `TextIOWrapper` around."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakSet

from ._trunkline import Interrupter, _Reader, _Writer

if TYPE_CHECKING:
    from typing_extensions import Buffer

_LINE = 16 << 20
"""More than the longest line that is given whole."""


writers: WeakSet[Writer] = WeakSet()
"""Those that are open, for the end of the interpreter."""


class Reader(io.RawIOBase):
    """A channel as a raw stream to read from, from `Receiver.reader()`.

    A read waits for a whole line and gives at most one, as a terminal does. So a `TextIOWrapper` around it never
    reads ahead, and what has come of a line stays here when a read is interrupted:
    `sys.stdin = io.TextIOWrapper(receiver.reader())`. Put no `BufferedReader` in between. A read that returns
    `b""` is the end of the peer's run; the next read waits for the next run. (After a last line that has no newline
    there are two: a `TextIOWrapper` takes the first for the end of that line.) Every other end raises.
    """

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self.name = reader.name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Reads as `read` does, into a buffer."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns a line or a piece of one; with a negative size, all to the end of the run."""
        self._check()
        if size is None or size < 0:
            return self.readall()
        return self._reader.take(size) if size else b""

    def readall(self) -> bytes:
        """Returns all to the end of the run. What has come stays here if the run ends in another way, which raises."""
        self._check()
        return self._reader.take()

    def readline(self, size: int | None = -1, /) -> bytes:
        """Returns the next line. One of more than 16 MiB comes in pieces."""
        self._check()
        if not self._reader.by_line:
            return super().readline(size)
        most = _LINE if size is None or size < 0 else size
        line = self._reader.take(most) if most else b""
        if line and len(line) < most:
            self._reader.end_line()
        return line

    def try_readline(self) -> bytes | None:
        """Returns the next line if all of it is there, and None if not. Never waits. `b""` is the end of a run."""
        self._check()
        line = self._reader.take_now(_LINE)
        if line:
            self._reader.end_line()
        return line

    async def readline_async(self) -> bytes:
        """Returns the next line, as a task of asyncio. A task that is cancelled has taken nothing."""
        self._check()
        line = await self._reader.take_async(_LINE)
        if line:
            self._reader.end_line()
        return line

    def pending(self) -> bool:
        """Returns True if a read would not wait for something to come."""
        self._check()
        return self._reader.pending()

    def announce_waiting(self, announce: bool) -> None:
        """Sets whether the peer is told while a read waits with nothing to read."""
        self._check()
        self._reader.announce_waiting(announce)

    def interrupter(self) -> Interrupter:
        """Returns an object that ends a read that waits in another thread."""
        return self._reader.interrupter()

    def clear_interrupt(self) -> None:
        """Forgets an interrupt that no read has raised yet."""
        self._reader.clear_interrupt()

    def close(self) -> None:
        """Lets go of the channel: the peer's send fails."""
        if not self.closed:
            self._reader.close()
        super().close()

    def _check(self) -> None:
        if self.closed:
            raise ValueError("read of a closed stream")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Reader cannot be pickled or copied: it belongs to this process")

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        self.__reduce__()


class Writer(io.RawIOBase):
    """A channel as a raw stream to write to, from `Sender.writer()`.

    A write takes everything, and waits while the peer has not taken enough. Whole lines go at once, the rest with
    `flush()`. For text: `sys.stdout = io.TextIOWrapper(sender.writer(), write_through=True)`.
    """

    def __init__(self, writer: _Writer) -> None:
        self._writer = writer
        writers.add(self)
        self.name = writer.name

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        """Writes everything, and returns how many bytes that was."""
        self._check()
        return self._writer.write(data)

    def flush(self) -> None:
        if not self.closed:
            self._writer.flush()

    async def write_async(self, data: Buffer, /) -> int:
        """Writes everything and flushes, as a task of asyncio."""
        self._check()
        return await self._writer.write_async(data)

    def interrupter(self) -> Interrupter:
        """Returns an object that ends a write that waits in another thread."""
        return self._writer.interrupter()

    def close(self) -> None:
        """Flushes, and lets go of the channel. With its last sender the run ends."""
        if self.closed:
            return
        try:
            # The garbage collector waits for room no longer than the connection lingers.
            if not getattr(self, "_finalizing", False):
                self._writer.flush()
        finally:
            self._writer.close()
            self._closed()

    def _closed(self) -> None:
        # The base class flushes once more, which must not raise what was raised before.
        self.flush = _nothing  # type: ignore[method-assign]
        super().close()

    def _check(self) -> None:
        if self.closed:
            raise ValueError("write to a closed stream")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Writer cannot be pickled or copied: it belongs to this process")

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        self.__reduce__()


def _nothing(*_: Any) -> None:
    pass
