"""Pictures and other rich results of the interpreter, at their place of the output."""

from __future__ import annotations

from collections.abc import Callable

from .. import _display
from .._trunkline import _Interpreter
from . import _streams
from ._interrupts import Interrupts


def install(interpreter: _Interpreter, interrupts: Interrupts) -> Callable[[], None]:
    """From here on values and pictures are shown on the display channel. Returns what ends that."""

    def show(mime: str, body: bytes, text: str, name: str | None, replaces: bool) -> None:
        _streams.flush()
        # While it waits for a console that takes nothing it can be interrupted, and is left out then.
        if interpreter.show(mime, body, text, name, replaces) == "interrupted" and interpreter.stop_requested():
            interrupts.raise_interrupt()

    return _display.install(show)
