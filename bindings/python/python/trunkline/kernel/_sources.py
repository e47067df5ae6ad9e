"""The source lines of what was typed, for tracebacks, pdb and inspect: as long as its code lives."""

from __future__ import annotations

import itertools
import linecache
import weakref
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any

PREFIX = "<trunkline-"
_numbers = itertools.count(1)


def new_name() -> str:
    """Of a statement; no two in a process have one."""
    return f"{PREFIX}{next(_numbers)}>"


class _Cache(dict[str, Any]):
    """linecache.clearcache() forgets files, which can be read again; what was typed cannot."""

    def clear(self) -> None:
        typed = {name: entry for name, entry in self.items() if name.startswith(PREFIX)}
        super().clear()
        self.update(typed)


def install() -> None:
    if not isinstance(linecache.cache, _Cache):
        linecache.cache = _Cache(linecache.cache)


_alive: dict[str, int] = {}


def register(name: str, source: str, codes: Iterable[CodeType]) -> None:
    """Keeps the source of these pieces until they, and all code in them, are gone."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    for code in codes:
        for each in _all_in(code):
            _alive[name] = _alive.get(name, 0) + 1
            weakref.finalize(each, _gone, name).atexit = False


def _all_in(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_in(constant)


def _gone(name: str) -> None:
    _alive[name] -= 1
    if not _alive[name]:
        del _alive[name]
        linecache.cache.pop(name, None)
