"""What is shown besides text: pictures and other rich results, on the display channel of a kernel."""

from __future__ import annotations

import base64
import binascii
import builtins
import io
import os
import sys
from collections.abc import Callable
from typing import Any

_METHODS = (("image/png", "_repr_png_"), ("image/svg+xml", "_repr_svg_"), ("text/html", "_repr_html_"))
"""What an object may have, the best first. Looked up on its type, as Python's own methods are: a class is not taken for
one of its objects, and an object that has any attribute is not taken for one that has these."""
_MOST_TEXT = 2000
_MISSING = object()

Show = Callable[[str, bytes, str, str | None, bool], None]
"""Shows a rich result at this place of the output: kind, body, the text instead, id, whether it replaces."""

_show: Show | None = None
"""None in a process that is no kernel."""


def display(value: object, *, id: str | None = None, replaces: bool = False) -> None:
    """Shows a value at this place of the output, as a picture if it has one.

    The first of `_repr_png_()` (bytes, or their base64), `_repr_svg_()` and `_repr_html_()` (str) that the value's type
    has and that does not return None is shown, and so is a figure of matplotlib; `repr(value)` goes with it for a
    console that has no pictures. Any other value is printed, and so is every value outside of a kernel.

    With `replaces` it takes the place of the last one that was shown with the same `id`, as in an animation; where
    there is none it is shown as new. Raises ValueError if the console takes nothing as large, or if `replaces` has no
    `id`.
    """
    if replaces and id is None:
        raise ValueError("what replaces another needs the id of the other")
    rich = _rich(value) if _show is not None else None
    if rich is None or _show is None:
        print(repr(value))
    else:
        _show(*rich, _text(value), id, replaces)


def _rich(value: object) -> tuple[str, bytes] | None:
    kind = type(value)
    if kind.__module__ == "builtins":
        return None
    for mime, name in _METHODS:
        method = getattr(kind, name, None)
        if not callable(method):
            continue
        try:
            body = method(value)
        except NotImplementedError:
            continue
        if isinstance(body, tuple):
            # What IPython knows: the body, and what is to be known of it.
            body = body[0] if body else None
        if body is not None:
            return mime, _bytes(body, mime, f"{kind.__qualname__}.{name}()")
    figure = sys.modules.get("matplotlib.figure")
    if figure is not None and isinstance(value, figure.Figure):
        return "image/png", png(value)
    return None


def _bytes(body: object, mime: str, said_by: str) -> bytes:
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    if not isinstance(body, str):
        raise TypeError(f"{said_by} is to return bytes or str, and returned {type(body).__name__}")
    if not mime.startswith("image/png"):
        return body.encode("utf-8", "replace")
    try:
        return base64.b64decode(body)
    except binascii.Error as error:
        raise ValueError(f"{said_by} returned a str that is not base64: {error}") from None


def _text(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"


def png(figure: Any) -> bytes:
    """A figure of matplotlib as it is now."""
    body = io.BytesIO()
    figure.savefig(body, format="png")
    return body.getvalue()


# -- In a kernel -------------------------------------------------------------------------------------------------------


def install(show: Show) -> Callable[[], None]:
    """From here on this process shows what it displays by `show`, and the values of statements, too. Returns what ends
    that."""
    global _show
    before = sys.displayhook, sys.__displayhook__, builtins.__dict__.get("_", _MISSING)
    _show = show
    # A program that puts the usual hook back means this one.
    sys.displayhook = sys.__displayhook__ = _hook

    def restore() -> None:
        global _show, in_cells
        _show = None
        in_cells = False
        while _ends:
            _ends.pop()()
        sys.displayhook, sys.__displayhook__, last = before
        # A program may have a function there, as gettext installs one.
        if last is not _MISSING:
            builtins.__dict__["_"] = last
        else:
            builtins.__dict__.pop("_", None)

    return restore


_ends: list[Callable[[], None]] = []


def at_end(act: Callable[[], None]) -> None:
    """It is called when this process is a kernel no more, if it goes on then."""
    _ends.append(act)


_print_value = sys.__displayhook__


def _hook(value: object, /) -> None:
    rich = None if value is None or _show is None else _rich(value)
    if rich is None or _show is None:
        _print_value(value)
        return
    # As the usual hook: what cannot be shown is not kept.
    builtins._ = None  # type: ignore[attr-defined]
    _show(*rich, _text(value), None, False)
    builtins._ = value  # type: ignore[attr-defined]


def _forked() -> None:
    """A forked process is none of the kernel's."""
    global _show
    _show = None


if hasattr(os, "register_at_fork"):
    # Once in a process: what is registered stays.
    os.register_at_fork(after_in_child=_forked)


def after_statement() -> None:
    """Draws the figures that a statement has changed, if matplotlib is interactive."""
    # It may be about to be imported, by a thread.
    draw = getattr(sys.modules.get("trunkline.display"), "_draw_changed", None)
    if draw is not None:
        draw()


in_cells = False
"""A notebook runs cells here: a figure is shown at the end of the cell that has made it."""


def begin_cell() -> None:
    """A cell of a notebook begins. It has no figures of the cells before."""
    global in_cells
    in_cells = True
    begin = getattr(sys.modules.get("trunkline.display"), "_begin_cell", None)
    if begin is not None:
        begin()
