"""Interrupts: decided in the handler of a signal, in the main thread, where the next statement cannot begin meanwhile.

The kernel sends SIGURG to the main thread when a statement is to be stopped, and again until the handler has heard it
inside of the program's own code. SIGINT means "stop what runs", whoever sends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

from .._trunkline import _Interpreter

KICK = signal.SIGURG


def run_user(act: Callable[..., object], *arguments: object) -> BaseException | None:
    """Everything of the program's own runs below this frame. Returns what it has raised."""
    try:
        act(*arguments)
    except BaseException as error:
        return error
    return None


_USER: CodeType = run_user.__code__


class Interrupts:
    def __init__(self, interpreter: _Interpreter) -> None:
        self.interpreter = interpreter
        self.leaving = False
        """The interpreter ends: whatever it still waits for may be stopped."""
        self.instead: Callable[[FrameType | None], bool] | None = None
        """Returns True if it has stopped the statement at this frame in another way than by KeyboardInterrupt."""
        self._raises_in_loop = False
        self.kept = False
        """A SIGINT has come while the loop was at work, and nothing was raised."""
        self._inside = False
        self._shields: set[CodeType] = set()
        self._before: tuple[Any, ...] | None = None

    def install(self) -> None:
        shielded = (
            self._on_kick,
            self._on_interrupt,
            self._deliver,
            self._on_unraisable,
            self.raise_interrupt,
            self._stop,
        )
        self._shields = {each.__code__ for each in shielded}
        # A program that asks for the default, or whether it is set, means this one: so does asyncio.
        # The very same object, for asyncio compares with `is`.
        handler = self._on_interrupt
        before = (
            signal.default_int_handler,
            signal.getsignal(signal.SIGINT),
            signal.getsignal(KICK),
            sys.unraisablehook,
        )
        self._before = before
        _current.append(self)
        signal.default_int_handler = handler  # type: ignore[assignment]
        signal.signal(signal.SIGINT, handler)
        signal.signal(KICK, self._on_kick)
        sys.unraisablehook = self._on_unraisable

    def restore(self) -> None:
        """The process has the handlers that it had. One that is not Python's cannot be put back: the default is."""
        if self._before is None:
            return
        default, interrupt, kick, hook = self._before
        self._before = None
        _current.remove(self)
        # In this order: what comes in between is for the caller.
        signal.default_int_handler = default
        sys.unraisablehook = hook
        signal.signal(KICK, signal.SIG_DFL if kick is None else kick)
        signal.signal(signal.SIGINT, signal.SIG_DFL if interrupt is None else interrupt)

    def raise_interrupt(self, frame: FrameType | None = None) -> None:
        """Does what Ctrl-C does: KeyboardInterrupt, unless the program has a handler of its own."""
        handler = signal.getsignal(signal.SIGINT)
        if handler == self._on_interrupt:
            self._stop(frame)
        if callable(handler):
            handler(signal.SIGINT, frame or sys._getframe(1))
        elif handler == signal.SIG_DFL:
            signal.raise_signal(signal.SIGINT)

    def _on_kick(self, _signal: int, frame: FrameType | None) -> None:
        if self._inside:
            # Handlers nest; the kernel sends another.
            return
        self._inside = True
        try:
            hit = self._deliver(frame)
        finally:
            self._inside = False
        if hit:
            self.raise_interrupt(frame)

    def _on_interrupt(self, _signal: int, frame: FrameType | None) -> None:
        if self.leaving:
            raise KeyboardInterrupt
        if self._is_loop(frame):
            self.kept = True
            if self._raises_in_loop:
                raise KeyboardInterrupt
        if self.interpreter.is_own_signal():
            # It was for a statement that may be over.
            if self._deliver(frame):
                self._stop(frame)
        elif self._is_user(frame):
            self.interpreter.stop_requested()
            self._stop(frame)

    def _stop(self, frame: FrameType | None) -> None:
        if self.instead is None or not self.instead(frame):
            raise KeyboardInterrupt

    def _deliver(self, frame: FrameType | None) -> bool:
        return self._is_user(frame) and self.interpreter.stop_requested()

    def _is_user(self, frame: FrameType | None) -> bool:
        """Whether a frame belongs to the program, and not to the loop that has called it."""
        inner = False
        while frame is not None:
            if frame.f_code is _USER:
                return inner
            if frame.f_code in self._shields:
                return False
            inner = True
            frame = frame.f_back
        return False

    @contextlib.contextmanager
    def raised_in_loop(self) -> Iterator[None]:
        """SIGINT is for what has called the loop, unless a statement runs: Ctrl-C at the terminal of the process."""
        self._raises_in_loop = True
        try:
            if self.kept:
                raise KeyboardInterrupt
            yield
        finally:
            self._raises_in_loop = self.kept = False

    def _is_loop(self, frame: FrameType | None) -> bool:
        """Whether a frame belongs to the loop, while it has called neither the program nor a handler."""
        while frame is not None:
            if frame.f_code is _USER or frame.f_code in self._shields:
                return False
            frame = frame.f_back
        return True

    def _on_unraisable(self, unraisable: Any, /) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            # Swallowed where nothing can be raised, as in a finalizer: once more, outside of it.
            self.interpreter.stop_again()
        else:
            sys.__unraisablehook__(unraisable)

    def _forked(self) -> None:
        """A forked process is none of the kernel's."""
        signal.signal(KICK, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) == self._on_interrupt:
            signal.signal(signal.SIGINT, _raise)
        sys.unraisablehook = sys.__unraisablehook__


_current: list[Interrupts] = []


def _forked() -> None:
    for each in _current:
        each._forked()


# Once in a process: what is registered stays.
os.register_at_fork(after_in_child=_forked)


def _raise(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
