"""Many kernels at one client."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from ._trunkline import Config, Key, _Session, _Sessions

_GRACE = 60.0
"""Seconds that a lost link may take to come back."""
_END = 10.0
"""Seconds that kernels may take to end, before they are killed."""
_AT_ONCE = 4 * (os.cpu_count() or 1)
"""So many kernels are about to start at a time."""

_DEAF = "another console has the input; take_input() takes it"


@dataclass(frozen=True, slots=True)
class KernelSaid:
    """What a kernel has said while it runs a cell, from `Kernels.stream()`."""

    name: str
    kind: str
    """`stdout` or `stderr`, a piece of output; `picture`; or as the last of a kernel `done`, `failed` (the cell has
    raised), `refused` (another console has the input, or the cell is too large) or `dead` (the kernel or its link is
    gone, so it is not known whether the cell has run)."""
    text: str = ""
    """The output; what stands for a picture; why it was not run or is dead."""
    mime: str = ""
    body: bytes = b""
    """The picture."""


@dataclass(slots=True)
class KernelResult:
    """What has become of a cell in one kernel, from `Kernels.run()`."""

    name: str
    state: str = "unfinished"
    """`done`, `failed`, `refused` or `dead`, as the kind of a `KernelSaid`; or `unfinished` when time was up."""
    why: str = ""
    stdout: str = ""
    stderr: str = ""
    pictures: list[KernelSaid] = field(default_factory=list)
    left_out: int = 0
    """How much more there was than was to be kept: characters of output, and bytes of pictures."""


_Stream = deque[KernelSaid]
"""What an iteration has still to give."""


class _Cell:
    """A cell in one kernel."""

    def __init__(self, number: int, stream: _Stream) -> None:
        self.number = number
        self.stream: _Stream | None = stream
        """None if none of it is wanted any more."""


class _Kernel:
    def __init__(self, name: str, session: _Session, process: subprocess.Popen[bytes] | None) -> None:
        self.name = name
        self.session = session
        self.process = process
        self.cells: deque[_Cell] = deque()
        """What was sent and is not over, in order."""
        self.dead = ""
        self.has_input = False
        self.deaf = False
        """It was told that another console has the input, and has not taken it since."""
        self._me: int | None = None
        self._ending = ""
        self._busy = self._failed = self._why = ""
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in ("stdout", "stderr")}

    def hear(self, said: tuple[Any, ...] | None) -> Iterator[tuple[_Stream | None, KernelSaid]]:
        """What that means for the stream of a cell."""
        kind, *rest = said or ("over", "the link is gone")
        stream = self.cells[0].stream if self.cells else None
        if kind in ("stdout", "stderr"):
            yield stream, KernelSaid(self.name, kind, self._decoders[kind].decode(rest[0]))
        elif kind == "picture":
            yield stream, KernelSaid(self.name, kind, rest[0]["text"], rest[0]["mime"], rest[1])
        elif kind == "status":
            what, _, which = rest[0].partition(" ")
            if what == "busy":
                self._busy = which
            elif what == "failed":
                self._failed = which
            elif what == "incomplete" and self.cells:
                # Its rest does not come.
                self._failed, self._why = self._busy, "the cell has no end, so it was not run"
                with contextlib.suppress(ConnectionError, RuntimeError):
                    self.session.interrupt()
            elif what in ("exited", "killed"):
                self._ending = f"the kernel has {rest[0]}"
        elif kind == "roster":
            you, owner, is_known = rest
            self._me = self._me if you is None else you
            # What was written before this console lost the input may be heard after that.
            if is_known and not self.deaf:
                self.has_input = owner is not None and owner == self._me
        elif kind == "deaf":
            # Nothing that was sent and has not begun is taken.
            self.has_input, self.deaf = False, True
            yield from self._all_over("refused", _DEAF)
        elif kind == "over":
            self.dead = self._ending or f"the kernel is gone: {rest[0]}"
            yield from self._all_over("dead", self.dead)
        while self.cells and self.session.is_over(self.cells[0].number):
            cell = self.cells.popleft()
            failed = self._failed != "" and self._failed == self._busy
            why, self._why = self._why, ""
            yield cell.stream, KernelSaid(self.name, "failed" if failed else "done", why)

    def _all_over(self, kind: str, why: str) -> Iterator[tuple[_Stream | None, KernelSaid]]:
        while self.cells:
            yield self.cells.popleft().stream, KernelSaid(self.name, kind, why)


class Kernels:
    """Any number of kernels, told apart by name, at one client: one thread, and one connection for each.

    with Kernels() as kernels:
        kernels.start("a", "b")
        for name, result in kernels.run("6 * 7").items():
            print(name, result.stdout)

    A cell is Python code of one line or several; the value of its last expression is displayed, so it is in `stdout`. A
    kernel that dies, or whose link is lost for a minute, is told as that in the result of each cell that it had, and
    the others go on. Kernels that were started here end with this process. One thread at a time uses it.
    """

    def __init__(self) -> None:
        self._kernels: dict[str, _Kernel] = {}
        self._numbers: dict[int, _Kernel] = {}
        self._count = 0
        self._sessions = _Sessions()
        # All kernels of this process read from it: its end is the end of their parent.
        self._life: tuple[int, int] | None = None

    # -- Which there are -----------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The names of all kernels, in the order in which they came. Those that are dead stay until they are ended."""
        return list(self._kernels)

    @property
    def dead(self) -> dict[str, str]:
        """Why a kernel is gone, by name, as far as run() and stream() have heard."""
        return {name: kernel.dead for name, kernel in self._kernels.items() if kernel.dead}

    def start(self, *names: str, options: Iterable[str] = ()) -> None:
        """Starts kernels on this machine, by `python -m trunkline.kernel` with these options. They start side by side,
        and share the directory and the environment of this process. If one does not start, none of them is kept:
        ChildProcessError says which. Each takes one descriptor of this process, and a second while it starts."""
        self._check_new(names)
        if self._life is None:
            self._life = os.pipe()
        key = Key.generate()
        starting: deque[tuple[str, subprocess.Popen[bytes]]] = deque()
        try:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "key")
                key.write_new_file(file)
                command = [sys.executable, "-m", "trunkline.kernel", "--listen", "127.0.0.1:0", "--key-file", str(file)]
                command += ["--with-parent", *options]
                for name in names:
                    if len(starting) == _AT_ONCE:
                        self._started(starting, key)
                    # Ctrl-C on the terminal is for this process, which tells the kernels itself.
                    process = subprocess.Popen(
                        command, stdin=self._life[0], stdout=subprocess.PIPE, start_new_session=True
                    )
                    starting.append((name, process))
                while starting:
                    self._started(starting, key)
        except BaseException as error:
            started = len(self._kernels)
            _end([process for _, process in starting])
            self.end(*(name for name in names if name in self._kernels))
            if isinstance(error, OSError) and error.errno == errno.EMFILE:
                why = f"each kernel takes a descriptor of this process, and `ulimit -n` was enough for {started}"
                raise OSError(error.errno, why) from error
            raise

    def _started(self, starting: deque[tuple[str, subprocess.Popen[bytes]]], key: Key) -> None:
        name, process = starting[0]
        assert process.stdout is not None
        said = process.stdout.readline().decode()
        # It says nothing more there.
        process.stdout.close()
        _, _, address = said.strip().rpartition("listening on ")
        if not address:
            raise ChildProcessError(f"the kernel {name} did not start; what it wrote to standard error says why")
        self._add(name, _Session.connect(address, Config(key, resume_grace=_GRACE)), process)
        starting.popleft()

    def connect(self, name: str, address: str | tuple[str, int] | os.PathLike[str], config: Config | Key) -> None:
        """Connects to a kernel that runs elsewhere. It is left running at the end."""
        self._check_new((name,))
        config = config if isinstance(config, Config) else Config(config, resume_grace=_GRACE)
        self._add(name, _Session.connect(address, config), None)

    def _check_new(self, names: Iterable[str]) -> None:
        seen = set(self._kernels)
        for name in names:
            if name in seen:
                raise ValueError(f"there is a kernel {name} already; end() makes its name free")
            seen.add(name)

    def _add(self, name: str, session: _Session, process: subprocess.Popen[bytes] | None) -> None:
        self._count += 1
        self._kernels[name] = self._numbers[self._count] = _Kernel(name, session, process)
        self._sessions.add(self._count, session)

    # -- What they do --------------------------------------------------------------------------------------------------

    def stream(self, code: str, *names: str, timeout: float | None = None) -> Iterator[KernelSaid]:
        """Sends a cell to all kernels, or to those that are named, at once; gives what they say as it comes. Each
        kernel's last is `done`, `failed`, `refused` or `dead`.

        Raises KeyError for a name that there is not, before anything is sent, and TimeoutError after `timeout` seconds;
        the cells run on then, as they do when the iteration is left, and what they say is dropped. Of several streams
        at a time each gets its own; what comes for one while another is read is kept for it.
        """
        kernels = self._chosen(names)
        return self._stream(code, kernels, None if timeout is None else time.monotonic() + timeout)

    def _stream(
        self, code: str, kernels: list[_Kernel], until: float | None, interrupts: bool = False
    ) -> Iterator[KernelSaid]:
        stream: _Stream = deque()
        left = 0
        # A line that ends in an empty one is a block, which is whole.
        message = code.rstrip("\n") + "\n\n"
        try:
            for kernel in kernels:
                problem = self._send(kernel, message, stream)
                if problem is not None:
                    stream.append(problem)
            left = len(kernels)
            while left:
                while stream:
                    said = stream.popleft()
                    left -= said.kind in ("done", "failed", "refused", "dead")
                    yield said
                try:
                    heard = not left or self._hear(until)
                except KeyboardInterrupt:
                    if not interrupts:
                        raise
                    # The next is the caller's.
                    interrupts, heard = False, True
                    self.interrupt(
                        *(kernel.name for kernel in kernels if any(cell.stream is stream for cell in kernel.cells))
                    )
                if not heard:
                    raise TimeoutError(f"{left} of {len(kernels)} kernels have not finished the cell in time")
        finally:
            for kernel in kernels:
                for cell in kernel.cells:
                    cell.stream = None if cell.stream is stream else cell.stream

    def _send(self, kernel: _Kernel, message: str, stream: _Stream) -> KernelSaid | None:
        if kernel.dead:
            return KernelSaid(kernel.name, "dead", kernel.dead)
        try:
            number = kernel.session.send(message, 0)
        except ValueError as error:
            return KernelSaid(kernel.name, "refused", str(error))
        except ConnectionError:
            if kernel.deaf:
                return KernelSaid(kernel.name, "refused", _DEAF)
            # Why is told by what it says next: that another has the input, or its end.
            kernel.cells.append(_Cell(sys.maxsize, stream))
            return None
        except RuntimeError as error:
            return KernelSaid(kernel.name, "refused", f"{error}; take_input() takes it from another console")
        if number is None:
            return KernelSaid(kernel.name, "refused", "it has not read the cells that it has, which are too many")
        kernel.cells.append(_Cell(number, stream))
        return None

    def _hear(self, until: float | None) -> bool:
        """Hears what one kernel says next. Returns False if none has said anything in time."""
        heard = self._sessions.next(None if until is None else max(until - time.monotonic(), 0))
        if heard is None:
            return False
        number, said = heard
        kernel = self._numbers[number]
        for stream, each in kernel.hear(said):
            if stream is not None:
                stream.append(each)
        if kernel.dead:
            self._sessions.remove(number)
        return True

    def run(
        self,
        code: str,
        *names: str,
        timeout: float | None = None,
        keep: int = 16 << 20,
        progress: bool | None = None,
    ) -> dict[str, KernelResult]:
        """Runs a cell in all kernels, or in those that are named, and waits for all; after `timeout` seconds, what has
        not finished is `unfinished` and runs on. Of each kernel's output and pictures `keep` characters and bytes are
        kept. Ctrl-C interrupts the cells, and their results come as those of cells that have failed; a second one
        raises KeyboardInterrupt. With `progress` a line on standard error tells how many have finished; None: if that
        is a terminal.
        """
        kernels = self._chosen(names)
        results = {kernel.name: KernelResult(kernel.name) for kernel in kernels}
        pieces: dict[str, dict[str, list[str]]] = {name: {"stdout": [], "stderr": []} for name in results}
        room = dict.fromkeys(results, keep)
        line = _Progress(len(kernels), progress)
        with contextlib.suppress(TimeoutError):
            until = None if timeout is None else time.monotonic() + timeout
            for said in self._stream(code, kernels, until, interrupts=True):
                result = results[said.name]
                if said.kind in ("stdout", "stderr"):
                    kept = said.text[: room[said.name]]
                    pieces[said.name][said.kind].append(kept)
                    room[said.name] -= len(kept)
                    result.left_out += len(said.text) - len(kept)
                elif said.kind != "picture":
                    result.state, result.why = said.kind, said.text
                    line.show(said.kind)
                elif len(said.body) <= room[said.name]:
                    result.pictures.append(said)
                    room[said.name] -= len(said.body)
                else:
                    result.left_out += len(said.body)
        line.end()
        for name, result in results.items():
            result.stdout, result.stderr = ("".join(pieces[name][kind]) for kind in ("stdout", "stderr"))
        return results

    def interrupt(self, *names: str) -> None:
        """Stops what runs in all kernels, or in those that are named. What does nothing, or is dead, is passed over."""
        for kernel in self._chosen(names):
            with contextlib.suppress(ConnectionError, RuntimeError):
                kernel.session.interrupt()

    def take_input(self, *names: str) -> None:
        """Takes the input from other consoles, in all kernels or in those that are named. Raises TimeoutError if one
        has not given it within 10 s."""
        # What has come already may say that another has it. Kernels that print without end do not hold this up.
        enough = time.monotonic() + 1
        while time.monotonic() < enough and self._hear(time.monotonic()):
            pass
        kernels = self._chosen(names)
        for kernel in kernels:
            if not kernel.has_input:
                with contextlib.suppress(ConnectionError):
                    kernel.session.take_input()
                    kernel.deaf = False
        until = time.monotonic() + _END
        while left := [kernel.name for kernel in kernels if not kernel.has_input and not kernel.dead]:
            if not self._hear(until):
                raise TimeoutError(f"the input of {', '.join(left)} was not given")

    def _chosen(self, names: tuple[str, ...]) -> list[_Kernel]:
        # Each once, however often it is named.
        return [self._kernels[name] for name in dict.fromkeys(names)] if names else list(self._kernels.values())

    # -- The end -------------------------------------------------------------------------------------------------------

    def end(self, *names: str) -> None:
        """Ends the kernels with these names that were started here, leaves the others, and forgets all of them."""
        ended = [self._kernels.pop(name) for name in dict.fromkeys(names)]
        for number, kernel in list(self._numbers.items()):
            if kernel in ended:
                del self._numbers[number]
                self._sessions.remove(number)
        _end([kernel.process for kernel in ended if kernel.process is not None])
        for kernel in ended:
            kernel.session.close()

    def close(self) -> None:
        """Ends all kernels that were started here, and leaves the others."""
        self.end(*self._kernels)
        if self._life is not None:
            for descriptor in self._life:
                os.close(descriptor)
            self._life = None

    def __enter__(self) -> Kernels:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    until = time.monotonic() + _END
    for process in processes:
        try:
            process.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


class _Progress:
    def __init__(self, count: int, shown: bool | None) -> None:
        self._shown = sys.stderr is not None and sys.stderr.isatty() if shown is None else shown
        self._count = count
        self._over = self._bad = 0
        self._last = 0.0

    def show(self, kind: str) -> None:
        self._over += 1
        self._bad += kind != "done"
        now = time.monotonic()
        if self._shown and (now - self._last > 0.1 or self._over == self._count):
            self._last = now
            filled = 30 * self._over // max(self._count, 1)
            bad = f", {self._bad} not well" if self._bad else ""
            sys.stderr.write(f"\r[{'#' * filled}{'.' * (30 - filled)}] {self._over}/{self._count} kernels{bad}")
            sys.stderr.flush()

    def end(self) -> None:
        if self._shown and self._last:
            sys.stderr.write("\n")
