"""A Jupyter kernel whose cells run in a kernel of trunkline's."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import re
import signal
import socket
import sys
import threading
from collections import deque
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import zmq

from .. import Config
from .._trunkline import _Session
from ._cell import Cell, error
from ._history import History
from ._is_complete import is_complete
from ._output import Output
from ._wire import PROTOCOL, Asked, Wire

_PATIENCE = 3.0
"""Seconds after which a question to the kernel has no answer."""
_AHEAD = 256
"""So much of what the kernel has said waits for frontends; the rest waits in the kernel."""
_BATCH = 64
_LOOK = 1.0
"""Seconds after which a parent that is gone is noticed."""
_INTERRUPTED = (b"interrupted\n", b"the statement had ended before the interrupt reached it\n")
"""What a kernel says on standard error of an interrupt."""
_TAKE = ":take"
_LEAVE = ("exit", "quit")
_HELP = re.compile(r"\?{1,2}([\w.]+)|([\w.]+)\?{1,2}")
"""`?name` or `name?` asks what that is."""
_DEAF = f"another console of this kernel has the input; a cell with {_TAKE} takes it"

Said = tuple[Any, ...]


class Bridge:
    """Serves frontends until one of them, the kernel or the process that has started this one ends it."""

    def __init__(self, wire: Wire, address: str | Path, config: Config) -> None:
        self._wire = wire
        self._session = _Session.connect(address, config)
        self._said: queue.Queue[Said | None] = queue.Queue(_AHEAD)
        self._looked_at = threading.Semaphore(0)
        self._woken, self._wakes = socket.socketpair()
        for end in (self._woken, self._wakes):
            end.setblocking(False)
        self._cells: deque[Cell] = deque()
        """The first of them is in the kernel, if it was sent."""
        self._last: Cell | None = None
        """The one that background threads print to."""
        self._count = 0
        self._history = History()
        self._questions: dict[int, tuple[Asked, float]] = {}
        self._output = Output(wire)
        self._info: dict[str, Any] = {}
        self._asked_info: int | None = None
        self._is_served = False
        self._waits_for_info: list[Asked] = []
        self._failed = self._busy = self._ending = ""
        self._asks = False
        """A person was asked for a line."""
        self._stops = False
        """What runs is to be stopped."""
        self._over = False
        self._status = 0
        self._parent = int(os.environ.get("JPY_PARENT_PID") or 0)

    def serve(self) -> int:
        """Returns the exit status of this process."""
        wire = self._wire
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._end)
        threading.Thread(target=self._listen, name="trunkline-listen", daemon=True).start()
        wire.poller.register(self._woken, zmq.POLLIN)
        wire.publish("status", {"execution_state": "starting"}, {})
        while not self._over:
            ready = dict(wire.poller.poll(math.ceil(1000 * self._patience())))
            if wire.heartbeat in ready:
                wire.echo()
            wire.welcome()
            wire.flush()
            # An interrupt is for the cells that were sent before it.
            for where in (wire.shell, wire.stdin, wire.control):
                while not self._over and (asked := wire.read(where)) is not None:
                    self._obey(asked)
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
            self._hear_all()
            self._output.settle()
            self._stop_if_wanted()
            self._advance()
            self._ask_info()
            self._give_up_questions()
            if self._parent and os.getppid() != self._parent:
                self._over = True
        signal.set_wakeup_fd(-1)
        wire.close()
        # What the kernel says meanwhile is for its other consoles.
        threading.Thread(target=self._drain, daemon=True).start()
        self._session.close()
        return self._status

    def _patience(self) -> float:
        if not self._said.empty() and not self._wire.is_full:
            return 0
        soon = self._output.patience()
        # The kernel may have room for a cell again.
        full = 0.02 if self._current is not None and self._current.next is not None else None
        return min(each for each in (soon, full, _LOOK) if each is not None)

    @property
    def _current(self) -> Cell | None:
        """The cell that the kernel has."""
        return self._cells[0] if self._cells and self._cells[0].begun else None

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._over = True

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._stops = True

    # -- The kernel ----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while (said := self._session.next(None)) is not None:
            self._said.put(said)
            self._wake()
            if said[0] == "status":
                # What the session says of itself is true as of the status that is looked at.
                self._looked_at.acquire()
        self._said.put(None)
        self._wake()

    def _wake(self) -> None:
        # If there is no room it is awake.
        with contextlib.suppress(OSError):
            self._wakes.send(b"\0")

    def _drain(self) -> None:
        while self._said.get() is not None:
            self._looked_at.release()

    def _hear_all(self) -> None:
        for _ in range(_BATCH):
            if self._wire.is_full or self._over:
                return
            try:
                said = self._said.get_nowait()
            except queue.Empty:
                return
            if said is None:
                self._gone("the connection to the kernel is over")
                return
            self._hear(*said)

    def _hear(self, kind: str, *rest: Any) -> None:
        cell = self._current
        if kind in ("stdout", "stderr", "picture") and cell is not None and cell.is_mute:
            return
        if kind == "stderr" and rest[0] in _INTERRUPTED and cell is not None and (cell.interrupted or cell.lacks_input):
            # The error of the cell says so, if it has not caught the interrupt.
            cell.was_stopped = rest[0] == _INTERRUPTED[0]
            return
        parent = self._parent_of_output()
        if kind in ("stdout", "stderr"):
            self._output.add(kind, rest[0], parent)
        elif kind == "picture":
            self._output.show(rest[0], rest[1], cell, parent)
        elif kind == "cut":
            self._output.add("stderr", f"[output was cut here: {rest[2]} bytes]\n".encode(), parent)
        elif kind == "status":
            self._hear_status(rest[0])
            self._looked_at.release()
        elif kind == "answer":
            self._answer(rest[0], json.loads(rest[1]))
        elif kind == "deaf":
            if cell is not None:
                self._finish(error("InputTaken", _DEAF))
        elif kind == "nonsense":
            _tell(rest[0])
        elif kind == "link_lost":
            _tell(f"the link to the kernel is lost, trying: {rest[0]}")
        elif kind == "link_back":
            _tell("the link to the kernel is back")
        elif kind == "over":
            self._gone(self._ending or f"the kernel is gone: {rest[0]}")

    def _parent_of_output(self) -> dict[str, Any]:
        """The request that output belongs to."""
        if self._current is not None:
            return self._current.asked.header
        # While nothing of ours runs, a statement of another console may.
        return {} if self._last is None or self._busy else self._last.asked.header

    def _ask_info(self) -> None:
        if self._is_served and self._asked_info is None:
            # If the link is lost, another time.
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._asked_info = self._session.ask("info")

    def _hear_status(self, status: str) -> None:
        what, _, which = status.partition(" ")
        cell = self._current
        # What was said before this bridge has come.
        self._is_served = True
        if what == "waiting":
            self._ask_person()
            return
        if what != "busy":
            # That a read is over may be said behind the question of the next.
            self._output.flush()
        if what == "busy":
            self._busy = which
            if cell is not None:
                cell.has_run = cell.has_run or cell.runs
        elif what == "failed":
            self._failed = which
        elif what == "incomplete" and cell is not None:
            # Its rest does not come.
            cell.has_no_end()
            self._stop()
        elif what in ("exited", "killed"):
            self._ending = f"the kernel has {status}"
            self._status = int(which) % 256 if what == "exited" else 1
            if cell is not None and status != "exited 0":
                cell.error = error("KernelGone", self._ending)
        self._look()
        if what == "idle":
            self._busy = ""

    def _look(self) -> None:
        """Whether what was sent is over."""
        cell = self._current
        if cell is None or cell.sent is None or not self._session.is_over(cell.sent):
            return
        cell.end_message(self._failed != "" and self._failed == self._busy)
        if cell.is_over:
            self._finish(cell.error)

    def _gone(self, why: str) -> None:
        self._output.flush()
        while self._cells:
            if not self._cells[0].begun:
                self._cells[0].asked.begin()
            self._finish(error("KernelGone", why))
        _tell(why)
        self._status = self._status or (0 if self._ending else 1)
        self._over = True

    # -- Cells ---------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Sends the next part of a cell, if there is room."""
        if not self._cells or self._info == {}:
            return
        cell = self._cells[0]
        if not cell.begun:
            self._begin(cell)
        message = self._current.next if self._current is not None else None
        if message is None:
            return
        self._failed = ""
        try:
            cell.sent = self._session.send(message, 0)
        except ValueError as why:
            self._finish(error("NotSent", str(why)))
        except (ConnectionError, RuntimeError):
            self._finish(error("InputTaken", _DEAF))

    def _begin(self, cell: Cell) -> None:
        cell.asked.begin()
        text = cell.code.strip()
        if not cell.silent:
            self._last = cell
            if text:
                self._count += 1
                self._history.add(self._count, cell.code)
            content = {"code": cell.code, "execution_count": self._count}
            self._wire.publish("execute_input", content, cell.asked.header)
        help_of = _HELP.fullmatch(text)
        if help_of is not None:
            cell.begin_without_code(self._count)
            self._question(cell.asked, "inspect", help_of.group(1) or help_of.group(2))
        elif text in ("", _TAKE, *_LEAVE):
            cell.begin_without_code(self._count)
            if text == _TAKE:
                with contextlib.suppress(ConnectionError, RuntimeError):
                    self._session.take_input()
            if text in _LEAVE:
                # A terminal leaves; what is to become of the kernel, it says itself.
                cell.payload = [{"source": "ask_exit", "keepkernel": False}]
            self._finish(None)
        else:
            cell.begin(self._count, self._info.get("language") == "python")

    def _finish(self, why: dict[str, Any] | None) -> None:
        """The first cell is over."""
        self._output.flush()
        cell = self._cells.popleft()
        reply: dict[str, Any] = {
            "execution_count": cell.count,
            "payload": cell.payload,
            "user_expressions": cell.values,
        }
        if why is not None:
            if not cell.silent:
                self._wire.publish("error", why, cell.asked.header)
            reply.update({"status": "error", **why})
        cell.asked.reply(reply)
        if why is not None and cell.stop_on_error:
            # Those that were asked for before this one has failed.
            cells, self._cells = self._cells, deque()
            for each in cells:
                each.asked.begin()
                each.asked.reply({"status": "aborted"})

    def _ask_person(self) -> None:
        """The program waits for a line."""
        cell = self._current or self._last
        if cell is None or self._session.activity() != "waiting":
            return
        if cell.allow_stdin:
            content = {"prompt": self._output.take_question(), "password": self._session.is_secret()}
            self._asks = True
            self._wire.send(self._wire.stdin, "input_request", content, cell.asked.header, cell.asked.idents)
        elif cell is self._current:
            cell.lacks_input = True
            self._stop()

    def _hear_person(self, line: str) -> None:
        # What nobody waits for any more would run as a statement.
        if self._asks and self._session.activity() == "waiting":
            try:
                self._session.send(line.replace("\n", " ") + "\n", 0)
            except ValueError as why:
                # The program waits on.
                self._output.add("stderr", f"[not sent: {why}]\n".encode(), self._parent_of_output())
                self._ask_person()
                return
            except (ConnectionError, RuntimeError):
                pass
        self._asks = False

    def _stop_if_wanted(self) -> None:
        """Stops the cell that runs. A cell that does not run yet does not begin."""
        if self._stops and self._cells:
            cell = self._cells[0]
            cell.interrupted = True
            if not cell.begun:
                self._begin(cell)
            if cell is not self._current:
                # There was nothing to run.
                pass
            elif cell.sent is None:
                self._finish(error("KeyboardInterrupt", ""))
            elif cell.runs:
                self._stop()
        self._stops = False

    def _stop(self) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._session.interrupt()

    # -- Requests ------------------------------------------------------------------------------------------------------

    def _obey(self, asked: Asked) -> None:
        if asked.kind == "execute_request":
            self._cells.append(Cell(asked))
            return
        if asked.kind == "input_reply":
            self._hear_person(asked.get("value", str, ""))
            return
        act = getattr(self, f"_on_{asked.kind}", None)
        if act is None:
            _tell(f"{asked.kind!r} is not understood here")
            return
        asked.begin()
        act(asked)

    def _on_kernel_info_request(self, asked: Asked) -> None:
        if self._info == {}:
            # What it is, it says itself.
            self._waits_for_info.append(asked)
            return
        language = self._info.get("language", "python")
        name = {"name": language, "version": self._info.get("version", ""), "file_extension": ".txt"}
        if language == "python":
            name.update({"mimetype": "text/x-python", "file_extension": ".py", "pygments_lexer": "python3"})
            name.update({"codemirror_mode": {"name": "python", "version": 3}, "nbconvert_exporter": "python"})
        asked.reply(
            {
                "protocol_version": PROTOCOL,
                "implementation": "trunkline",
                "implementation_version": "0.1.0",
                "language_info": name,
                "banner": self._info.get("banner", ""),
                "help_links": [],
                "debugger": False,
            }
        )

    def _on_complete_request(self, asked: Asked) -> None:
        self._question(asked, "complete", asked.get("code", str, ""))

    def _on_inspect_request(self, asked: Asked) -> None:
        self._question(asked, "inspect", asked.get("code", str, ""))

    def _question(self, asked: Asked, operation: str, code: str) -> None:
        cursor = max(asked.get("cursor_pos", int, len(code)), 0)
        try:
            number = self._session.ask(operation, code, cursor)
        except (ConnectionError, RuntimeError, ValueError):
            self._reply_to(asked, {})
        else:
            self._questions[number] = (asked, monotonic() + _PATIENCE)

    def _answer(self, number: int, answer: dict[str, Any]) -> None:
        if number == self._asked_info:
            self._info = {"language": "python", **answer}
            waits, self._waits_for_info = self._waits_for_info, []
            for asked in waits:
                self._on_kernel_info_request(asked)
        elif number in self._questions:
            self._reply_to(self._questions.pop(number)[0], answer)

    def _reply_to(self, asked: Asked, answer: dict[str, Any]) -> None:
        if asked.kind == "complete_request":
            cursor = asked.get("cursor_pos", int, 0)
            found = {"matches": answer.get("matches", []), "metadata": {}}
            asked.reply({**found, "cursor_start": answer.get("start", cursor), "cursor_end": answer.get("end", cursor)})
            return
        text = answer.get("text")
        if asked.kind == "execute_request":
            cell = self._current
            # It may be interrupted meanwhile.
            if cell is not None and cell.asked is asked:
                said = text or answer.get("error", "the kernel does not answer now")
                self._wire.publish("stream", {"name": "stdout", "text": said + "\n"}, asked.header)
                self._finish(None)
            return
        data = {} if text is None else {"text/plain": text}
        asked.reply({"found": text is not None, "data": data, "metadata": {}})

    def _give_up_questions(self) -> None:
        now = monotonic()
        for number, (asked, until) in list(self._questions.items()):
            if until < now:
                del self._questions[number]
                self._reply_to(asked, {})

    def _on_is_complete_request(self, asked: Asked) -> None:
        asked.reply(is_complete(asked.get("code", str, "")))

    def _on_history_request(self, asked: Asked) -> None:
        asked.reply({"history": self._history.find(asked.content)})

    def _on_comm_info_request(self, asked: Asked) -> None:
        asked.reply({"comms": {}})

    def _on_comm_open(self, asked: Asked) -> None:
        # There is none here that a widget could talk to.
        content = {"comm_id": asked.get("comm_id", str, ""), "data": {}}
        self._wire.publish("comm_close", content, asked.header)
        self._wire.publish("status", {"execution_state": "idle"}, asked.header)

    def _on_comm_msg(self, asked: Asked) -> None:
        self._wire.publish("status", {"execution_state": "idle"}, asked.header)

    _on_comm_close = _on_comm_msg

    def _on_interrupt_request(self, asked: Asked) -> None:
        self._stops = True
        self._stop_if_wanted()
        asked.reply({})

    def _on_shutdown_request(self, asked: Asked) -> None:
        content = {"restart": asked.get("restart", bool, False)}
        self._wire.publish("shutdown_reply", {"status": "ok", **content}, asked.header)
        asked.reply(content)
        self._over = True


def _tell(text: str) -> None:
    print(f"trunkline.jupyter: {text}", file=sys.stderr)
