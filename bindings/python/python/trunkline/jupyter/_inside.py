"""The part of the bridge that runs in the kernel: results and errors of a cell keep their form.

It imports nothing of Jupyter's. What it shows goes by the display channel, so other consoles of the kernel see it as
text in its place. Statements of other consoles are displayed and fail as ever.
"""

from __future__ import annotations

import builtins
import json
import re
import sys
import traceback
from base64 import b64decode, b64encode
from types import TracebackType
from typing import Any

from .. import _display

RESULT = "jupyter-result"
"""The id under which the result of a cell is shown."""
BUNDLE = "application/vnd.trunkline.bundle+json"
"""A result of several kinds, as Jupyter has it: `{"data":{…},"metadata":{…}}`."""
ERROR = "jupyter-error:"
"""What the id of an error begins with; its name and what it says follow, as JSON. The body is the traceback."""
_MOST_ID = 240
"""Bytes. A longer one would be cut."""
_MOST_TEXT = 5000
"""Characters of the text that stands for a picture, which would be cut as well."""
_SINGLE = (["image/png"], ["image/jpeg"], ["image/svg+xml"], ["text/html"])

_NAME = re.compile(r"<trunkline-(\d+)>")
_KINDS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_latex_": "text/latex",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_json_": "application/json",
    "_repr_javascript_": "application/javascript",
}
_MOST_CELLS = 10_000

_cells: dict[str, int] = {}
"""The cells by the names of their statements."""
_shows = True
"""The value of the cell is shown."""
_armed = ""
"""The name of the statement that is the cell."""


def arm(cell: int, shows: bool) -> None:
    """The next statement is a cell with this number."""
    global _armed, _shows
    _shows = shows
    found = _NAME.fullmatch(sys._getframe(1).f_code.co_filename)
    if found is None:
        raise RuntimeError("this is called by the bridge to Jupyter")
    _armed = f"<trunkline-{int(found.group(1)) + 1}>"
    _cells[_armed] = cell
    if len(_cells) > _MOST_CELLS:
        del _cells[next(iter(_cells))]
    # A hook that the program has set is respected.
    if sys.displayhook is sys.__displayhook__:
        sys.displayhook = _show_value
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show_error
        _display.at_end(_forget_hook)
    if not hasattr(builtins, "display"):
        builtins.display = _display.display  # type: ignore[attr-defined]
        _display.at_end(lambda: builtins.__dict__.pop("display", None))
    _display.begin_cell()


def _forget_hook() -> None:
    if sys.excepthook is _show_error:
        sys.excepthook = sys.__excepthook__


def _show_value(value: object, /) -> None:
    name = sys._getframe(1).f_code.co_filename
    if name != _armed or _display._show is None:
        sys.__displayhook__(value)
        return
    if value is None:
        return
    if not _shows:
        builtins._ = value  # type: ignore[attr-defined]
        return
    builtins._ = None  # type: ignore[attr-defined]
    text = repr(value)
    data, metadata = _bundle(value)
    try:
        if not data:
            _display._show("text/plain", (text + "\n").encode("utf-8", "replace"), _cut(text), RESULT, False)
        elif not metadata and len(text) <= _MOST_TEXT and list(data) in _SINGLE:
            # As the kernel itself would show it.
            [(mime, form)] = data.items()
            body = b64decode(form) if mime in ("image/png", "image/jpeg") else str(form).encode("utf-8", "replace")
            _display._show(mime, body, text, RESULT, False)
        else:
            bundle = json.dumps({"data": {"text/plain": text, **data}, "metadata": metadata})
            _display._show(BUNDLE, bundle.encode(), _cut(text), RESULT, False)
    except ValueError:
        # It is too large to be shown in one piece.
        print(text)
    builtins._ = value  # type: ignore[attr-defined]


def _bundle(value: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """The forms that a value has besides its repr(), as Jupyter sends them."""
    kind = type(value)
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if kind.__module__ == "builtins":
        return data, metadata
    several = getattr(kind, "_repr_mimebundle_", None)
    if callable(several):
        _take(several, value, None, data, metadata)
    for name, mime in _KINDS.items():
        method = getattr(kind, name, None)
        if callable(method) and mime not in data:
            _take(method, value, mime, data, metadata)
    if not data:
        rich = _display._rich(value)
        if rich is not None:
            data[rich[0]] = _plain(rich[1], rich[0])
    data.pop("text/plain", None)
    return data, metadata


def _take(method: Any, value: object, mime: str | None, data: dict[str, Any], metadata: dict[str, Any]) -> None:
    try:
        said = method(value)
        more: Any = {}
        if isinstance(said, tuple):
            said, more = said if len(said) == 2 else (None, {})
        if mime is not None and said is not None:
            said, more = {mime: said}, {mime: more} if more else {}
        if isinstance(said, dict):
            new = {kind: _plain(body, kind) for kind, body in said.items() if body is not None}
            # What is no JSON is no form of it.
            json.dumps([new, more])
            data.update(new)
            metadata.update(more)
    except NotImplementedError:
        pass
    except Exception:
        # As everywhere in Jupyter: it is told, and the other forms are shown.
        traceback.print_exc()


def _plain(body: Any, mime: str) -> Any:
    if isinstance(body, (bytes, bytearray, memoryview)):
        is_text = mime.startswith("text/") or mime == "image/svg+xml"
        return bytes(body).decode("utf-8", "replace") if is_text else b64encode(body).decode()
    return body


def _show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    if _display._show is None or not _is_of_cell(error, trace):
        sys.stderr.write(text)
        return
    text = re.sub(r'File "(<trunkline-\d+>)", line', _place, text)
    try:
        said = str(error)
    except Exception:
        said = "<exception str() failed>"
    said = re.sub(r"\((<trunkline-\d+>), line", lambda found: f"({_place(found)}", said)
    try:
        _display._show("text/plain", text.encode("utf-8", "replace"), "", _error_id(kind.__name__, said), False)
    except ValueError:
        sys.stderr.write(text)


def _error_id(name: str, said: str) -> str:
    said = said.encode("utf-8", "replace").decode()
    found = ERROR + json.dumps([name, said], ensure_ascii=False)
    while len(found.encode()) > _MOST_ID:
        # The traceback has all of it.
        name, said = name[:80], said[: len(said) // 2]
        found = ERROR + json.dumps([name, said + "…"], ensure_ascii=False)
    return found


def _is_of_cell(error: BaseException, trace: TracebackType | None) -> bool:
    if isinstance(error, SyntaxError) and error.filename == _armed:
        return True
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _armed:
            return True
        trace = trace.tb_next
    return False


def _place(found: re.Match[str]) -> str:
    cell = _cells.get(found.group(1))
    return f'File "{found.group(1)}", line' if cell is None else f"Cell In[{cell}], line"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"


def evaluate(expressions: dict[str, str], names: dict[str, Any]) -> None:
    """The values of expressions that a frontend wants to know after its cell."""
    found: dict[str, Any] = {}
    for name, code in expressions.items():
        try:
            value = eval(code, names)
            data, metadata = _bundle(value)
            found[name] = {"status": "ok", "data": {"text/plain": repr(value), **data}, "metadata": metadata}
        except Exception as error:
            trace = traceback.format_exc().splitlines()
            found[name] = {
                "status": "error",
                "ename": type(error).__name__,
                "evalue": str(error),
                "traceback": trace,
            }
    assert _display._show is not None
    text = ", ".join(f"{name}: {each['status']}" for name, each in found.items())
    _display._show(VALUES, json.dumps(found).encode(), text, None, False)


VALUES = "application/vnd.trunkline.values+json"
"""What evaluate() has found."""
