"""The loop of the interpreter: lines become statements, statements run, and what they raise is shown."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from .. import _display
from .._trunkline import _Interpreter
from . import _sources, _streams
from ._compile import Compiler, is_block
from ._interrupts import run_user

if TYPE_CHECKING:
    from ._asyncio import EventLoop

_HERE = os.path.dirname(__file__)

Wait = Callable[[], tuple[str, str | None] | None]
"""Waits until the loop has something to do next, and returns it."""


class Loop:
    def __init__(
        self,
        interpreter: _Interpreter,
        stdin: _streams.Input,
        names: dict[str, Any],
        *,
        tasks: EventLoop | None = None,
        wait: Wait | None = None,
        resizes: bool = True,
    ) -> None:
        self.interpreter = interpreter
        self.stdin = stdin
        self.names = names
        self.tasks = tasks
        self._resizes = resizes
        self._wait: Wait = (lambda: interpreter.next(None)) if wait is None else wait
        self.compiler = Compiler(awaits=tasks is not None)
        self._messages: list[str] = []
        """The statement that has begun."""
        self._name = ""

    def run(self) -> BaseException | None:
        """Runs what comes until the kernel is to end. Returns what the program has raised to end it."""
        while True:
            _streams.flush()
            self.stdin.drop_rest()
            event = self._wait()
            what, line = event or ("over", None)
            if self._resizes and (size := self.interpreter.new_size()) is not None:
                # Where `shutil.get_terminal_size()` looks first, between two statements.
                os.environ["COLUMNS"], os.environ["LINES"] = map(str, size)
            if what == "line" and line is not None:
                leaves = self._take(line)
                if leaves is not None:
                    return leaves
            elif what in ("exit", "over"):
                return None
            else:
                self._messages.clear()

    def _take(self, line: str) -> SystemExit | None:
        messages = self._messages
        messages.append(line if line.endswith("\n") else line + "\n")
        if len(messages) == 1:
            self._name = _sources.new_name()
        statement = _Statement(self, self._name, list(messages))
        # What is typed may be so large that reading it is to be interrupted, too. It is the statement's beginning.
        if not self.interpreter.run(statement):
            messages.clear()
        elif statement.is_incomplete:
            self.interpreter.incomplete()
        else:
            messages.clear()
            if statement.failed:
                self.interpreter.fail()
        return statement.leaves


class _Statement:
    """One statement, as the kernel runs it: read, then run, then what it has raised is shown."""

    def __init__(self, loop: Loop, name: str, messages: list[str]) -> None:
        self._loop = loop
        self._name = name
        self._messages = messages
        self._codes: list[CodeType] = []
        self.is_incomplete = False
        self.failed = False
        self.leaves: SystemExit | None = None

    def __call__(self) -> None:
        error = run_user(self._read)
        if error is None and not self.is_incomplete:
            error = run_user(self._run)
        self._codes.clear()
        if isinstance(error, SystemExit):
            self.leaves = error
        elif error is not None:
            self.failed = True
            run_user(self._show, error)
        # What it has printed stands before the next prompt.
        _streams.flush()

    def _read(self) -> None:
        compiler = self._loop.compiler
        tree = compiler.tree(self._messages, self._name)
        if tree is None:
            self.is_incomplete = True
            return
        block = any(is_block(message) for message in self._messages)
        self._codes.extend(compiler.pieces(tree, self._name, block))
        _sources.register(self._name, "".join(self._messages), self._codes)

    def _run(self) -> None:
        if self._loop.tasks is not None:
            self._loop.tasks.run(self._codes, self._loop.names)
        else:
            for code in self._codes:
                exec(code, self._loop.names)
        _display.after_statement()

    def _show(self, error: BaseException) -> None:
        _without_kernel(error)
        trace = error.__traceback__
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
        sys.last_exc = error  # type: ignore[attr-defined]
        # The hook of the interpreter itself reads source lines from files alone, before 3.13.
        hook = traceback.print_exception if sys.excepthook is sys.__excepthook__ else sys.excepthook
        failed = run_user(hook, type(error), error, trace)
        if failed is not None:
            text = f"the error could not be shown: {type(failed).__name__}\n"
            text += "".join(traceback.format_exception_only(type(error), None))
            run_user(sys.stderr.write, text)


def _without_kernel(error: BaseException) -> None:
    """Takes the kernel's own frames out of the tracebacks of an error and of those that led to it."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        todo += [each.__cause__, each.__context__]
        each.__traceback__ = _own_part(each.__traceback__)


def _own_part(trace: TracebackType | None) -> TracebackType | None:
    frames = []
    while trace is not None:
        if os.path.dirname(trace.tb_frame.f_code.co_filename) != _HERE:
            frames.append(trace)
        trace = trace.tb_next
    for frame, following in zip(frames, [*frames[1:], None][: len(frames)], strict=True):
        frame.tb_next = following
    return frames[0] if frames else None


def main_module() -> ModuleType:
    """A fresh `__main__` for what is typed."""
    module = ModuleType("__main__")
    names: dict[str, Any] = module.__dict__
    names.update({"__builtins__": __builtins__, "__annotations__": {}})
    sys.modules["__main__"] = module
    return module
