"""The kernel's loop inside of an application: `trunkline.kernel.embed()`."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from .. import Access, Config, Key
from .._trunkline import _Interpreter
from . import _answers, _pictures, _sources, _streams
from ._interrupts import Interrupts
from ._loop import Loop

_GRACE = 600.0
"""Seconds that a console keeps its place whose link is lost."""
_LOOK = 0.5
"""Seconds after which it is looked whether there are consoles."""
_STACK = signal.SIGUSR2

Address = str | tuple[str, int] | os.PathLike[str]


class Scope(dict[str, Any]):
    """The names of statements: their own, and behind them those of the caller's module, as they are then."""

    def __init__(self, own: dict[str, Any], module: dict[str, Any]) -> None:
        super().__init__(own)
        self["__builtins__"] = module.get("__builtins__", __builtins__)
        self._module = module

    def __missing__(self, name: str) -> Any:
        return self._module[name]

    def all(self) -> dict[str, Any]:
        return {**self._module, **self}


def names_of(frame: FrameType) -> dict[str, Any]:
    """What a caller calls things: its module's own names, or, in a function, a scope with a copy of its variables."""
    if frame.f_locals is frame.f_globals:
        return frame.f_globals
    return Scope(dict(frame.f_locals), frame.f_globals)


def config(key: Key, watch_key: Key | None, allow_plaintext: bool) -> Config:
    watch = [] if watch_key is None else [(watch_key, Access.read_only(name="watch"))]
    return Config(key, keys=watch, preset="interactive", resume_grace=_GRACE, allow_plaintext=allow_plaintext)


def run(
    address: Address,
    config: Config,
    names: dict[str, Any],
    leave_after: float | None,
    listening: Callable[[str], object],
) -> None:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("embed() works in the main thread alone, which is the one that signals interrupt")
    if _streams.is_replaced():
        raise RuntimeError("this process is a kernel already: end that, or use its console")
    with contextlib.ExitStack() as restores:
        interpreter = _Interpreter.embedded(address, config)
        status = 1
        # The consoles are told the end when everything is as it was, so that nothing here is theirs any more.
        restores.callback(lambda: interpreter.close(status))
        listening(interpreter.address() or "")
        interrupts = Interrupts(interpreter)
        restores.callback(interrupts.restore)
        # From here on Ctrl-C waits until everything is in its place, and again until everything is back.
        interrupts.install()
        streams = _streams.Streams(interpreter, interrupts)
        restores.callback(streams.restore)
        _sources.install()
        restores.callback(_pictures.install(interpreter, interrupts))
        restores.enter_context(_stack_of_main(interpreter))
        _answers.start(interpreter, names.all if isinstance(names, Scope) else lambda: names)
        wait = lambda: _wait(interpreter, leave_after)  # noqa: E731
        # The environment is the application's.
        loop = Loop(interpreter, streams.stdin, names, wait=wait, resizes=False)
        restores.enter_context(interrupts.raised_in_loop())
        status = _status(loop.run())
    if interrupts.kept:
        raise KeyboardInterrupt


def _wait(interpreter: _Interpreter, leave_after: float | None) -> tuple[str, str | None] | None:
    if leave_after is None:
        return interpreter.next(None)
    until = time.monotonic() + leave_after
    while True:
        event = interpreter.next(min(max(until - time.monotonic(), 0.0), _LOOK))
        if event is not None:
            return event
        if interpreter.consoles() > 0:
            until = time.monotonic() + leave_after
        elif time.monotonic() >= until:
            return None


def _status(leaves: BaseException | None) -> int:
    """What a process would exit with."""
    code = leaves.code if isinstance(leaves, SystemExit) else None
    return 0 if code is None else code & 0xFF if isinstance(code, int) else 1


@contextlib.contextmanager
def _stack_of_main(interpreter: _Interpreter) -> Iterator[None]:
    """As in a kernel, a signal tells where code is that holds the interpreter's lock, if nothing else has it."""
    if _is_caught(_STACK):
        yield
        return
    reads, writes = os.pipe()
    try:
        os.set_blocking(writes, False)
        faulthandler.register(_STACK, file=writes, all_threads=False, chain=False)
        # It takes the reading end.
        interpreter.report_stack_with(_STACK, reads)
        yield
    finally:
        # First, for without a handler the signal would end the application.
        interpreter.report_no_stack()
        faulthandler.unregister(_STACK)
        os.close(writes)


def _is_caught(number: int) -> bool:
    """Whether anything in this process, Python or not, handles a signal. It is so where that cannot be known."""
    try:
        with open("/proc/self/status") as status:
            masks = [line.split()[1] for line in status if line.startswith(("SigCgt:", "SigIgn:"))]
    except OSError:
        return True
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def say_where(address: str) -> None:
    """What tells where it listens, unless the caller gives something else."""
    if sys.stderr is not None:
        print(f"trunkline: listening on {address}", file=sys.stderr, flush=True)
