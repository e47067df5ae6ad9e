"""The event loop of `--asyncio`: statements run in it, may `await`, and leave tasks that go on at the prompt.

An interrupt is raised where the statement runs. While the loop waits, or works for itself or for another task, the
statement's task is cancelled instead: what is raised in the middle of that would be lost or would lose something. Only
a task that keeps the loop for long is interrupted itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import selectors
import threading
import time
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any

from .._trunkline import _Interpreter
from ._interrupts import Interrupts

_MACHINERY = (os.path.dirname(asyncio.__file__) + os.sep, selectors.__file__, __file__)
_PATIENCE = 0.1
"""Seconds that a task may keep the loop before it is taken for what is to be interrupted."""


class EventLoop:
    def __init__(self, interpreter: _Interpreter, interrupts: Interrupts) -> None:
        self._interpreter = interpreter
        self._runner = asyncio.Runner()
        # As if all were one program: a variable that a statement sets, the next one sees.
        self._context = contextvars.copy_context()
        self._waits = False
        self._running = False
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        """The statement's task was cancelled for an interrupt."""
        self._asked = 0.0
        self._came_round = False
        """Since then the loop has run what it had."""
        self._again = False
        """The handler was asked to be called once more for the same interrupt."""
        self._error: BaseException | None = None
        self._loop = self._runner.get_loop()
        interrupts.instead = self._cancel
        thread = threading.Thread(target=self._watch, name="trunkline-asyncio", daemon=True)
        # It is no thread of the program's.
        thread._trunkline = True  # type: ignore[attr-defined]
        thread.start()

    # -- Between statements ----------------------------------------------------------------------------------------

    def next(self) -> tuple[str, str | None] | None:
        """What the kernel's loop has to do next. Tasks run until there is something."""
        while True:
            self._renew()
            if (event := self._interpreter.next(0.0)) is not None:
                return event
            self._waits = True
            try:
                self._loop.run_forever()
            except KeyboardInterrupt:
                # A task has raised it, and is over.
                pass
            finally:
                self._waits = False

    def _watch(self) -> None:
        while self._interpreter.wait_ready():
            # One that the program has closed is replaced before the next wait, which looks first.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._waits:
            self._loop.stop()

    def _renew(self) -> None:
        if self._loop.is_closed():
            self._runner = asyncio.Runner()
            self._loop = self._runner.get_loop()
        # asyncio.run() leaves none.
        asyncio.set_event_loop(self._loop)

    def close(self) -> None:
        """Cancels the tasks that are left, and waits for their ends."""
        self._renew()
        self._runner.close()

    # -- A statement -----------------------------------------------------------------------------------------------

    def run(self, codes: Sequence[CodeType], names: dict[str, Any]) -> None:
        """Runs the pieces of a statement, each to its end. Raises what they raise."""
        self._stopped = False
        self._running = True
        try:
            self._run(codes, names)
        finally:
            if self._again:
                # That was for the statement, which is over.
                self._interpreter.stop_requested()
            self._running = self._again = False
            self._task = None
            error, self._error = self._error, None
        if error is not None:
            if self._stopped and isinstance(error, asyncio.CancelledError):
                raise KeyboardInterrupt().with_traceback(error.__traceback__) from None
            raise error

    def _run(self, codes: Sequence[CodeType], names: dict[str, Any]) -> None:
        self._task = self._loop.create_task(self._pieces(codes, names), context=self._context)
        if self._stopped:
            self._task.cancel()
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError as error:
            # Before it has begun.
            self._error = error
        except KeyboardInterrupt:
            # Another task has raised it, which was busy. This one gets the chance to end.
            if not self._stopped:
                self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._task)
            raise

    async def _pieces(self, codes: Sequence[CodeType], names: dict[str, Any]) -> None:
        try:
            for code in codes:
                if self._stopped:
                    # Since then nothing was awaited.
                    raise asyncio.CancelledError
                result = eval(code, names)
                if code.co_flags & inspect.CO_COROUTINE:
                    await result
        except BaseException as error:
            # The loop would put its own frames into what is shown, and stops at some of these.
            self._error = error

    def _cancel(self, frame: FrameType | None) -> bool:
        """Called by the handler of an interrupt. Returns False if it is to be raised."""
        if not self._running or frame is None:
            return False
        again, self._again = self._again, False
        is_machinery = frame.f_code.co_filename.startswith(_MACHINERY)
        if is_machinery and not again and asyncio.current_task(self._loop) is self._task is not None:
            # The statement's task runs, in code that is not its own. A cancellation would wait for its next `await`,
            # and what comes may be a read or a loop that has none. The kernel asks again, when this is over.
            self._interpreter.stop_again()
            if self._interpreter.is_stopping():
                return True
        if is_machinery:
            if not again:
                self._cancel_task()
            return True
        if asyncio.current_task(self._loop) is self._task:
            # A second time only for a second interrupt.
            return again
        # Another task runs. It is none of the statement's, unless the statement's cannot end because of it.
        if not again:
            self._cancel_task()
        elif self._came_round or time.monotonic() - self._asked > _PATIENCE:
            return self._came_round
        self._again = True
        self._interpreter.stop_again()
        return True

    def _cancel_task(self) -> None:
        self._stopped = True
        self._came_round = False
        self._asked = time.monotonic()
        if self._task is not None:
            self._task.cancel()
            # It may wait in the system, which a handler that returns does not end.
            self._loop.call_soon_threadsafe(self._come_round)

    def _come_round(self) -> None:
        self._came_round = True
