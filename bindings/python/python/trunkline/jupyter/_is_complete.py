"""Whether what a person types in a terminal is a whole cell."""

from __future__ import annotations

import ast
import re
import warnings
from codeop import PyCF_ALLOW_INCOMPLETE_INPUT, PyCF_DONT_IMPLY_DEDENT  # type: ignore[attr-defined]

_MISSES = ("incomplete input", "was never closed", "unterminated triple-quoted")


def is_complete(code: str) -> dict[str, str]:
    """The answer to `is_complete_request`."""
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | PyCF_ALLOW_INCOMPLETE_INPUT | PyCF_DONT_IMPLY_DEDENT
    if code.startswith(":"):
        # For the bridge.
        return {"status": "complete"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = compile(code + "\n", "<cell>", "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        if isinstance(error, SyntaxError) and any(each in str(error) for each in _MISSES):
            return {"status": "incomplete", "indent": _indent(code)}
        return {"status": "invalid"}
    last = code.rpartition("\n")[2]
    # As in a terminal, an empty line ends a compound statement.
    compound = isinstance(tree, ast.Module) and tree.body and hasattr(tree.body[-1], "body")
    if compound and "\n" in code and last.strip():
        return {"status": "incomplete", "indent": _indent(code)}
    return {"status": "complete"}


def _indent(code: str) -> str:
    last = code.rstrip("\n").rpartition("\n")[2]
    found = re.match(r"[ \t]*", last)
    indent = found.group() if found else ""
    if last.rstrip().endswith(":"):
        return indent + "    "
    if re.match(r"\s*(return|raise|pass|break|continue)\b", last):
        return indent[:-4]
    return indent
