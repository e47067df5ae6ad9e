"""What a kernel says becomes messages for frontends."""

from __future__ import annotations

import codecs
import json
from base64 import b64encode
from time import monotonic

from ._cell import Cell
from ._inside import BUNDLE, ERROR, RESULT, VALUES
from ._wire import Message, Wire

_LINGER = 0.25
"""Seconds after which the beginning of a line is shown. Until then it may be the question of a program that reads."""
_MOST = 64 * 1024
"""So much text goes in one message, as far as it is pieces."""


class Output:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in ("stdout", "stderr")}
        self._kind = "stdout"
        self._text = ""
        self._parent: Message = {}
        self._since = 0.0
        self._ids: set[str] = set()

    # -- Text ----------------------------------------------------------------------------------------------------------

    def add(self, kind: str, piece: bytes, parent: Message) -> None:
        if kind != self._kind or parent is not self._parent or len(self._text) > _MOST:
            self.flush()
        self._kind, self._parent = kind, parent
        if not self._text:
            self._since = monotonic()
        self._text += self._decoders[kind].decode(piece)

    def flush(self) -> None:
        """Shows everything."""
        text, self._text = self._text, ""
        if text:
            self._wire.publish("stream", {"name": self._kind, "text": text}, self._parent)

    def settle(self) -> None:
        """Shows what is known to be no question."""
        lines, newline, rest = self._text.rpartition("\n")
        if self._kind == "stderr" or monotonic() - self._since >= _LINGER:
            self.flush()
        elif newline:
            self._text = lines + newline
            self.flush()
            self._text, self._since = rest, monotonic()

    def patience(self) -> float | None:
        """Seconds until settle() has something to show; None if there is nothing."""
        return max(self._since + _LINGER - monotonic(), 0.001) if self._text else None

    def take_question(self) -> str:
        """What the program has asked: the line that has no end."""
        lines, newline, rest = self._text.rpartition("\n")
        if self._kind != "stdout":
            lines, newline, rest = self._text, "", ""
        self._text = lines + newline
        self.flush()
        return rest

    # -- What is more than text ----------------------------------------------------------------------------------------

    def show(self, header: Message, body: bytes, cell: Cell | None, parent: Message) -> None:
        self.flush()
        try:
            self._show(header, body, cell, parent)
        except (ValueError, TypeError, RecursionError) as error:
            # A program may show what it likes.
            text = f"[what was shown as {header['mime']} makes no sense: {error}]\n"
            self._wire.publish("stream", {"name": "stderr", "text": text}, parent)

    def _show(self, header: Message, body: bytes, cell: Cell | None, parent: Message) -> None:
        mime, name = header["mime"], header["id"]
        if mime == VALUES:
            if cell is not None:
                cell.values = _object(json.loads(body))
            return
        if name is not None and name.startswith(ERROR):
            text = body.decode("utf-8", "replace")
            if cell is not None:
                cell.error = _error(name, text)
            else:
                # It is from before this bridge.
                self._wire.publish("stream", {"name": "stderr", "text": text}, parent)
            return
        content = _content(mime, header["text"], body)
        if name == RESULT and cell is not None:
            self._wire.publish("execute_result", {**content, "execution_count": cell.count}, parent)
            return
        kind = "display_data"
        if name is not None and name != RESULT:
            content["transient"] = {"display_id": name}
            if header["replaces"] and name in self._ids:
                kind = "update_display_data"
            self._ids.add(name)
        self._wire.publish(kind, content, parent)


def _error(name: str, text: str) -> Message:
    kind, said = json.loads(name.removeprefix(ERROR))
    if not isinstance(kind, str) or not isinstance(said, str):
        raise ValueError("an error has a name and words")
    beginning = f"{kind}: {said[:-1]}"
    if said.endswith("…") and beginning in text:
        # It was cut, and stands at the end of the traceback.
        said = text[text.rindex(beginning) + len(kind) + 2 :].removesuffix("\n")
    return {"ename": kind, "evalue": said, "traceback": text.splitlines()}


def _object(value: object) -> Message:
    if not isinstance(value, dict):
        raise ValueError("it is no object of JSON")
    return value


def _content(mime: str, text: str, body: bytes) -> Message:
    if mime == BUNDLE:
        bundle = _object(json.loads(body))
        return {"data": _object(bundle.get("data")), "metadata": _object(bundle.get("metadata"))}
    data: Message = {"text/plain": text} if text else {}
    if mime == "text/plain":
        data[mime] = body.decode("utf-8", "replace").removesuffix("\n")
    elif mime.startswith("text/") or mime == "image/svg+xml":
        data[mime] = body.decode("utf-8", "replace")
    elif mime == "application/json" or mime.endswith("+json"):
        data[mime] = json.loads(body)
    else:
        data[mime] = b64encode(body).decode()
    return {"data": data, "metadata": {}}
