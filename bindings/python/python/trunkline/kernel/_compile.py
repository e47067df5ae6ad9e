"""What was typed becomes code: whether it is whole, and one piece of code for each statement."""

from __future__ import annotations
import __future__

import ast
from collections.abc import Iterator
from types import CodeType

_FEATURES = [getattr(__future__, name) for name in __future__.all_feature_names]
_INCOMPLETE_INPUT = 0x4000
_DONT_IMPLY_DEDENT = 0x200
_COMPOUND = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)


class Compiler:
    """Remembers what `from __future__ import` has switched on, as an interactive interpreter does."""

    def __init__(self, awaits: bool) -> None:
        self.flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if awaits else 0

    def _parse(self, source: str, name: str, flags: int) -> ast.Module:
        tree = compile(source, name, "exec", ast.PyCF_ONLY_AST | flags | self.flags, dont_inherit=True)
        assert isinstance(tree, ast.Module)
        return tree

    def tree(self, messages: list[str], name: str) -> ast.Module | None:
        """The statement that these messages are; None if its rest is missing. A message is a typed line, or a block
        of several lines, which needs no empty line to end."""
        source = "".join(messages)
        try:
            tree = self._parse(source, name, _INCOMPLETE_INPUT | _DONT_IMPLY_DEDENT)
        except SyntaxError as error:
            if not _is_incomplete(error):
                raise
            if not messages[-1].strip():
                # An empty line ends what it can end, and tells what is wrong with what it cannot.
                try:
                    self._parse(source, name, 0)
                except IndentationError:
                    raise
                except SyntaxError:
                    pass
            return None
        if tree.body and not any(is_block(message) for message in messages):
            last = tree.body[-1]
            # As in the interactive interpreter, an empty line ends a compound statement. A line that begins another
            # statement ends it too.
            if isinstance(last, _COMPOUND) and messages[-1].strip():
                return None
        return tree

    def pieces(self, tree: ast.Module, name: str, block: bool) -> Iterator[CodeType]:
        """The code of each statement. Of typed lines each expression is displayed, of a block the last."""
        for at, node in enumerate(tree.body):
            if not block or (at == len(tree.body) - 1 and isinstance(node, ast.Expr)):
                shown = ast.Interactive([node])
                code = compile(shown, name, "single", self.flags, dont_inherit=True)
            else:
                code = compile(ast.Module([node], []), name, "exec", self.flags, dont_inherit=True)
            for feature in _FEATURES:
                if code.co_flags & feature.compiler_flag:
                    self.flags |= feature.compiler_flag
            yield code


def is_block(message: str) -> bool:
    return "\n" in message[:-1]


def _is_incomplete(error: SyntaxError) -> bool:
    text = str(error)
    return any(part in text for part in ("incomplete input", "was never closed", "unterminated triple-quoted"))
