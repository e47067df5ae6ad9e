"""How a task of asyncio waits: the library's I/O thread writes to a socket that the event loop watches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ._trunkline import _Alarm

if TYPE_CHECKING:
    from ._trunkline import _Operation


class _Loop:
    """The tasks of one event loop that wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.alarm = _Alarm()
        self.waits: dict[int, asyncio.Future[None]] = {}
        loop.add_reader(self.alarm.fileno(), self._ring)

    def _ring(self) -> None:
        for number in self.alarm.take():
            wait = self.waits.get(number)
            if wait is not None and not wait.done():
                wait.set_result(None)


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()


async def wait(operation: _Operation) -> Any:
    """Waits for what an operation gives. A task that is cancelled has taken nothing."""
    loop = asyncio.get_running_loop()
    here = _loops.get(loop)
    if here is None:
        here = _loops[loop] = _Loop(loop)
    ticket = here.alarm.ticket()
    number = ticket.number
    try:
        while True:
            done = operation.poll(ticket)
            if done is not None:
                return done[0]
            # The ticket may be due already; the loop looks after this task waits.
            here.waits[number] = future = loop.create_future()
            await future
    finally:
        here.waits.pop(number, None)
        operation.cancel()
