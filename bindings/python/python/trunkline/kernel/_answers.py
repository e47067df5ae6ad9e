"""Introspection: answers for a console while the program runs. It runs none of the program's own code.

Properties are not called and values are not asked for their repr(): what is not of a built-in type is shown as its
type.
"""

from __future__ import annotations

import builtins
import inspect
import json
import keyword
import os
import pkgutil
import re
import sys
import threading
import types
from collections.abc import Callable, Iterable
from typing import Any

from .._trunkline import _Interpreter

_MOST_MATCHES = 500
_MOST_VARIABLES = 1000
_MOST_TEXT = 200
_NAME = re.compile(r"[\w.]*\Z")
_IMPORT = re.compile(r"^\s*(?:import|from)\s+(?:[\w.]+\s*,\s*)*[\w.]*\Z")
_MISSING = object()


Names = Callable[[], dict[str, Any]]
"""What the names of the program mean now, in a dict that is not changed here."""


def start(interpreter: _Interpreter, names: Names) -> None:
    thread = threading.Thread(target=_answer_all, args=(interpreter, names), name="trunkline-answers", daemon=True)
    # It is no thread of the program's.
    thread._trunkline = True  # type: ignore[attr-defined]
    thread.start()


def _answer_all(interpreter: _Interpreter, names: Names) -> None:
    while (asked := interpreter.next_question()) is not None:
        number, request = asked
        try:
            answer = _answer(json.loads(request), names)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        interpreter.answer(number, json.dumps(answer, ensure_ascii=True))


def _answer(request: dict[str, Any], names: Names) -> dict[str, Any]:
    operation = request["op"]
    if operation == "complete":
        return _complete(request["code"], request["cursor"], names())
    if operation == "inspect":
        return _inspect(request["code"], request["cursor"], names())
    if operation == "variables":
        return _variables(names())
    if operation == "stack":
        return _stack()
    return {
        "language": "python",
        "version": ".".join(map(str, sys.version_info[:3])),
        "banner": f"Python {sys.version}",
        "pid": os.getpid(),
    }


# -- Names -------------------------------------------------------------------------------------------------------------


def _complete(code: str, cursor: int, names: dict[str, Any]) -> dict[str, Any]:
    before = code[:cursor]
    found = _NAME.search(before)
    name = found.group() if found else ""
    start, _, last = name.rpartition(".")
    if _IMPORT.search(before.rpartition("\n")[2]):
        options = _modules(start)
    elif start:
        value = _static(start, names)
        options = [] if value is _MISSING else _attributes(value)
    else:
        options = [*names, *dir(builtins), *keyword.kwlist]
    matches = sorted({option for option in options if isinstance(option, str) and option.startswith(last)}, key=_rank)
    if not last:
        matches = [match for match in matches if not match.startswith("_")]
    cursor = len(before)
    return {"matches": matches[:_MOST_MATCHES], "start": cursor - len(last), "end": cursor}


def _rank(name: str) -> tuple[int, str]:
    return (2 if name.startswith("__") else 1 if name.startswith("_") else 0, name)


def _modules(package: str) -> Iterable[str]:
    if not package:
        return [*sys.builtin_module_names, *(module.name for module in pkgutil.iter_modules())]
    # Only of one that is there: an import runs code.
    path = sys.modules[package].__dict__.get("__path__") if package in sys.modules else None
    return [module.name for module in pkgutil.iter_modules(list(path))] if path else []


def _static(dotted: str, names: dict[str, Any]) -> Any:
    """The value of a dotted name, if it is found without running code of the program's."""
    first, *rest = dotted.split(".")
    value = names.get(first, _MISSING)
    if value is _MISSING:
        value = builtins.__dict__.get(first, _MISSING)
    for name in rest:
        if value is _MISSING:
            return _MISSING
        value = _attribute(value, name)
    return value


def _attribute(value: Any, name: str) -> Any:
    found = inspect.getattr_static(value, name, _MISSING)
    if isinstance(found, (staticmethod, classmethod)):
        return found.__func__
    if isinstance(found, (types.GetSetDescriptorType, types.MemberDescriptorType)):
        # What C code computes, and nothing else.
        return getattr(value, name, _MISSING) if type(value).__module__ == "builtins" else _MISSING
    # A property, or another descriptor of the program's, would run code.
    if not isinstance(found, (types.FunctionType, type)) and hasattr(type(found), "__get__"):
        builtin = type(found).__module__ == "builtins" and not isinstance(found, property)
        return found if builtin else _MISSING
    return found


def _attributes(value: Any) -> set[str]:
    found: set[str] = set()
    kinds = [type(value), *([value] if isinstance(value, type) else [])]
    for kind in kinds:
        for base in type.__dict__["__mro__"].__get__(kind):
            found.update(type.__dict__["__dict__"].__get__(base))
    own = inspect.getattr_static(value, "__dict__", None)
    if isinstance(own, types.GetSetDescriptorType) and not isinstance(value, type):
        own = own.__get__(value)
    if isinstance(value, types.ModuleType):
        own = vars(types.ModuleType)["__dict__"].__get__(value)
    if isinstance(own, dict):
        found.update(name for name in list(own) if isinstance(name, str))
    return found


def _inspect(code: str, cursor: int, names: dict[str, Any]) -> dict[str, Any]:
    before = _NAME.search(code[:cursor])
    after = re.match(r"\w*", code[cursor:])
    name = (before.group() if before else "") + (after.group() if after else "")
    if not name:
        # Inside of the parentheses of a call: what is called.
        called = re.search(r"([\w.]+)\s*\([^()]*\Z", code[:cursor])
        name = called.group(1) if called else ""
    value = _static(name, names) if name else _MISSING
    if value is _MISSING:
        return {"error": f"{name or 'nothing'}: not found without running code"}
    lines = [f"{name}: {type(value).__name__}"]
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, type, types.MethodDescriptorType)):
        try:
            lines = [f"{name}{inspect.signature(value)}"]
        except (ValueError, TypeError):
            lines = [f"{name}(…)"]
    elif not callable(value):
        lines.append(_text(value))
    doc = inspect.getattr_static(value, "__doc__", None)
    if isinstance(doc, (types.GetSetDescriptorType, types.MemberDescriptorType)):
        doc = getattr(value, "__doc__", None) if type(value).__module__ == "builtins" else None
    if isinstance(doc, str):
        lines += ["", inspect.cleandoc(doc)]
    return {"text": "\n".join(lines)[:20_000]}


# -- Values ------------------------------------------------------------------------------------------------------------


def _variables(names: dict[str, Any]) -> dict[str, Any]:
    # In one step, for the program goes on.
    items = [item for item in names.copy().items() if isinstance(item[0], str) and not item[0].startswith("_")]
    variables = [
        {"name": name[:_MOST_TEXT], "type": type(value).__name__, "size": _size(value), "text": _text(value)}
        for name, value in items[:_MOST_VARIABLES]
        if not isinstance(value, types.ModuleType)
    ]
    return {"variables": variables}


def _size(value: Any) -> str:
    if type(value) in (str, bytes, bytearray, list, tuple, dict, set, frozenset):
        return str(len(value))
    if type(value).__module__ == "numpy" and type(value).__name__ == "ndarray":
        return "×".join(map(str, value.shape))
    return ""


def _text(value: Any, left: int = _MOST_TEXT, depth: int = 3) -> str:
    """The beginning of a value, of built-in types alone."""
    kind = type(value)
    if kind is int:
        # A large one takes long, and the interpreter's lock meanwhile.
        return repr(value) if value.bit_length() < 1000 else f"<int of {value.bit_length()} bits>"
    if kind in (float, bool, complex, type(None), range, type(...)):
        return repr(value)
    if kind in (str, bytes, bytearray):
        return _cut(repr(value[:left]), left)
    if kind in (list, tuple, set, frozenset, dict):
        return _container(value, left, depth)
    if kind in (types.FunctionType, types.BuiltinFunctionType, type):
        return f"<{'class' if kind is type else 'function'} {value.__qualname__}>"
    return f"<{kind.__name__}>"


def _container(value: Any, left: int, depth: int) -> str:
    brackets = "[]" if type(value) is list else "()" if type(value) is tuple else "{}"
    if depth == 0:
        return brackets[0] + "…" + brackets[1]
    parts: list[str] = []
    room = left
    try:
        for item in value.items() if type(value) is dict else value:
            if room <= 0:
                parts.append("…")
                break
            each = ": ".join(_text(part, room, depth - 1) for part in item) if type(value) is dict else None
            parts.append(_text(item, room, depth - 1) if each is None else each)
            room -= len(parts[-1]) + 2
    except RuntimeError:
        # The program changes it meanwhile.
        parts.append("…")
    return _cut(brackets[0] + ", ".join(parts) + brackets[1], left)


def _cut(text: str, left: int) -> str:
    return text if len(text) <= left else text[: max(left - 1, 0)] + "…"


def _stack() -> dict[str, Any]:
    known = {thread.ident: thread for thread in threading.enumerate()}
    threads = []
    for ident, frame in sys._current_frames().items():
        thread = known.get(ident)
        if hasattr(thread, "_trunkline"):
            continue
        frames: list[dict[str, Any]] = []
        at: types.FrameType | None = frame
        while at is not None:
            code = at.f_code
            frames.append({"file": code.co_filename, "line": at.f_lineno or 0, "function": code.co_name})
            at = at.f_back
        threads.append({"name": thread.name if thread else f"thread {ident}", "frames": frames})
    return {"threads": threads}
