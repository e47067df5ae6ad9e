"""Pictures and other rich results of the interpreter, at their place of the output."""

from __future__ import annotations

from .. import _display
from .._trunkline import _Interpreter
from . import _streams
from ._interrupts import Interrupts


def install(interpreter: _Interpreter, interrupts: Interrupts) -> None:
    def show(mime: str, body: bytes, text: str, name: str | None, replaces: bool) -> None:
        _streams.flush()
        # While it waits for a console that takes nothing it can be interrupted, and is left out then.
        if interpreter.show(mime, body, text, name, replaces) == "interrupted" and interpreter.stop_requested():
            interrupts.raise_interrupt()

    _display.install(show)
