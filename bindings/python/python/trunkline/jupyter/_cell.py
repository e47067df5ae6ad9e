"""A cell on its way through the kernel."""

from __future__ import annotations

import contextlib
import io
import token as tokens
import tokenize
import traceback
from collections import deque
from typing import Any

from ._wire import Asked

_MODULE = '__import__("trunkline.jupyter._inside", fromlist=["arm"])'
_BLANK = (tokens.NL, tokens.NEWLINE, tokens.INDENT, tokens.DEDENT, tokens.COMMENT, tokens.ENDMARKER)

Error = dict[str, Any]


def error(name: str, value: str) -> Error:
    return {"ename": name, "evalue": value, "traceback": [f"{name}: {value}" if value else name]}


def _is_quiet(code: str) -> bool:
    """A semicolon at the end means that the value of the last expression is not shown."""
    last = ""
    # Code that is none is told by the kernel.
    with contextlib.suppress(SyntaxError, tokenize.TokenError):
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type not in _BLANK:
                last = token.string
    return last == ";"


class Cell:
    """It is up to three messages to the kernel, each sent when the one before is over."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.code: str = asked.get("code", str, "")
        self.silent: bool = asked.get("silent", bool, False)
        self.allow_stdin: bool = asked.get("allow_stdin", bool, True)
        self.stop_on_error: bool = asked.get("stop_on_error", bool, True)
        self.count = 0
        self.begun = False
        self.error: Error | None = None
        self.values: dict[str, Any] = {}
        self.payload: list[dict[str, Any]] = []
        self.interrupted = False
        """A person wants it to stop."""
        self.has_run = False
        self.was_stopped = False
        """The kernel says so."""
        self._python = False
        self.lacks_input = False
        self.sent: int | None = None
        """The number of the message that the kernel has, and that is not over."""
        self._endless = False
        self._messages: deque[tuple[str, str]] = deque()

    def begin(self, count: int, python: bool) -> None:
        self.begun = True
        self.count = count
        self._python = python
        if python:
            shows = not self.silent and not _is_quiet(self.code)
            self._messages.append(("prepares", f"{_MODULE}.arm({count}, {shows})\n"))
        # A message that ends in an empty line is a block, which is whole.
        self._messages.append(("runs", self.code.rstrip("\n") + "\n\n"))
        expressions = self.asked.get("user_expressions", dict, {})
        if python and expressions:
            wanted = {str(name): str(code) for name, code in expressions.items()}
            self._messages.append(("tells", f"{_MODULE}.evaluate({wanted!r}, globals())\n"))

    def begin_without_code(self, count: int) -> None:
        """The kernel gets nothing of it."""
        self.begun = True
        self.count = count

    @property
    def next(self) -> str | None:
        """The message that is to be sent; None if there is none now."""
        return self._messages[0][1] if self._messages and self.sent is None else None

    @property
    def is_mute(self) -> bool:
        """What is said now is no matter of the cell's: it is not run yet, or not at all. Without what prepares it,
        results are text."""
        return self._endless or bool(self._messages and self._messages[0][0] == "prepares")

    def has_no_end(self) -> None:
        """The kernel waits for the rest of it, so it is not run."""
        self._endless = True
        self.error = error("SyntaxError", "the cell has no end")
        if not self._python:
            return
        try:
            compile(self.code, "the cell", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as why:
            lines = traceback.format_exception_only(why)
            self.error = {"ename": type(why).__name__, "evalue": str(why), "traceback": "".join(lines).splitlines()}

    @property
    def runs(self) -> bool:
        """What the kernel runs, or is about to, is the code of the cell itself."""
        return bool(self._messages) and self._messages[0][0] == "runs"

    @property
    def is_over(self) -> bool:
        return self.begun and not self._messages

    def end_message(self, failed: bool) -> None:
        """The message that was sent is over."""
        self.sent = None
        what, _ = self._messages.popleft()
        # One that is to be stopped before it has begun is over without a word. A program in Python may have caught it.
        stopped = self.interrupted and (not self.has_run or (self.was_stopped and not self._python))
        if what == "runs" and (failed or stopped) and self.error is None:
            name, why = ("KeyboardInterrupt", "") if self.interrupted else ("Error", "what was raised is shown above")
            self.error = error(name, why)
        if what == "prepares" and self.interrupted:
            # It has not begun to run.
            self.error = error("KeyboardInterrupt", "")
        if self.error is not None:
            self._messages.clear()
        if self.error is not None and self.lacks_input:
            self.error = error("StdinNotImplementedError", "the cell reads input, and this frontend gives none")
