"""What was run here, for frontends that ask."""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import Any

_MOST = 1000


class History:
    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=_MOST)

    def add(self, number: int, code: str) -> None:
        self._lines.append((number, code))

    def find(self, request: dict[str, Any]) -> list[list[Any]]:
        """Session, line and code of each; with `output` the code is a pair, whose second is not kept here."""
        lines = list(self._lines)
        how, most = request.get("hist_access_type"), request.get("n")
        if how == "range":
            first, last = (request.get(name) for name in ("start", "stop"))
            lines = [
                line
                for line in lines
                if (not isinstance(first, int) or line[0] >= first) and (not isinstance(last, int) or line[0] < last)
            ]
        elif how == "search":
            pattern = str(request.get("pattern") or "*")
            lines = [line for line in lines if fnmatchcase(line[1], pattern)]
            if request.get("unique"):
                lines = list({line[1]: line for line in lines}.values())
        if how != "range" and isinstance(most, int) and most >= 0:
            lines = lines[len(lines) - min(most, len(lines)) :]
        return [[0, number, [code, None] if request.get("output") else code] for number, code in lines]
