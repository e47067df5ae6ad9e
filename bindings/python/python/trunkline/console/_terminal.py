"""The console for a person at a terminal, with prompt_toolkit."""

from __future__ import annotations

import codecs
import json
import os
import signal
import sys
import termios
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, get_app, get_app_or_none
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import DummyHistory, FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.lexers import Lexer, PygmentsLexer
from prompt_toolkit.patch_stdout import patch_stdout

from .. import Config
from .._trunkline import _Session
from ._spawn import Spawned

_PATIENCE = 2.5
_LINGER = 0.05
"""Seconds after which a line is shown whose end has not come."""
_PROMPTS = {"idle": ">>> ", "incomplete": "... "}
_COMMANDS = (":interrupt", ":take", ":restart", ":detach", ":quit")


def attend(address: str | Path, config: Config, kernel: Spawned | None) -> int:
    """Is the console of a kernel until one of the two ends. Returns the exit status."""
    while True:
        person = _Person(_Session.connect(address, config), kernel)
        status = person.attend()
        if status is not None:
            return status
        assert kernel is not None
        kernel.end()
        kernel.start()
        address, config = kernel.address, Config(kernel.key)


class _Person:
    def __init__(self, session: _Session, kernel: Spawned | None) -> None:
        self._session = session
        self._kernel = kernel
        self._changed = threading.Condition()
        self._answers: dict[int, dict[str, Any] | None] = {}
        self._tail = ""
        """The beginning of a line of output, which may be the question of a program."""
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in ("stdout", "stderr")}
        self._end: str | None = None
        self._owners = 0
        """How often it was told who has the input."""
        self._told: tuple[int, int, int] | None = None
        self._statuses = 0
        """How often the kernel has said what it does."""
        self._may_raise = False
        self._interrupted = False
        """Ctrl-C came while something was done that is not to be left half done."""
        self.tip = ""
        self._prompt: PromptSession[str] = PromptSession(
            history=_history(),
            completer=_Completer(self),
            complete_in_thread=True,
            complete_while_typing=False,
            lexer=_lexer(),
            bottom_toolbar=lambda: self.tip or None,
            enable_open_in_editor=False,
        )
        self._prompt.default_buffer.on_text_insert += self._typed
        # What is not to be seen is kept nowhere, and nothing is asked about it.
        self._secret: PromptSession[str] = PromptSession(
            history=DummyHistory(), is_password=True, enable_open_in_editor=False
        )

    def attend(self) -> int | None:
        """Returns None if the kernel is to be started again."""
        threading.Thread(target=self._listen, name="trunkline-listen", daemon=True).start()
        if signal.getsignal(signal.SIGINT) not in (None, signal.SIG_IGN):
            signal.signal(signal.SIGINT, self._take_signal)
        while True:
            try:
                kind = self._wait_until_settled()
                secret = kind == "waiting" and self._session.is_secret()
                if kind == "over":
                    print(f"trunkline.console: {self._end}", file=sys.stderr)
                    return 3
                line = self._ask(kind, secret)
            except KeyboardInterrupt:
                self._interrupt()
                continue
            except EOFError:
                # For a program that reads it is the end of its input, as on any terminal.
                if kind == "waiting" and self._end_input():
                    continue
                line = ":quit"
            if line is None:
                continue
            if secret:
                # Whatever it is, it is the answer; and for nothing else than what it was typed for.
                if self._session.is_secret():
                    self._send(line + "\n")
            elif line.startswith(":") and not line.startswith("::"):
                leaves, status = self._obey(line.strip())
                if leaves:
                    if status is not None and self._kernel is not None:
                        self._end_kernel()
                    self._session.close()
                    return status
            else:
                self._send(line.removeprefix(":") + "\n")

    def _take_signal(self, _number: int, _frame: object) -> None:
        if self._may_raise:
            self._may_raise = False
            raise KeyboardInterrupt
        app = get_app_or_none()
        if app is not None and app.is_running and app.loop is not None:
            app.loop.call_soon_threadsafe(self._leave_prompt, app)
        else:
            self._interrupted = True

    def _leave_prompt(self, app: Application[Any]) -> None:
        if app.is_running and not app.is_done:
            app.exit(exception=KeyboardInterrupt())
        else:
            self._interrupted = True

    def _ask(self, kind: str, secret: bool) -> str | None:
        self.tip = ""
        with self._changed:
            message, self._tail = (self._tail, "") if kind == "waiting" else (_PROMPTS[kind], self._tail)
        if kind != "waiting":
            self._show_tail()
        # While there is a prompt, output goes above it.
        above = ExitStack()
        with self._changed:
            above.enter_context(patch_stdout(raw=True))
        try:
            self._tell_size()
            prompt = self._secret if secret else self._prompt
            line = prompt.prompt(message, pre_run=lambda: self._watch(secret), handle_sigint=False)
            # What came with the end of the line, or while the prompt was taken away, is kept for the next, save for
            # Ctrl-C.
            keys = get_typeahead(prompt.input) + _unread_keys(prompt.input)
            interrupts = [at for at, press in enumerate(keys) if press.key == Keys.ControlC]
            if interrupts:
                self._interrupted, keys = True, keys[interrupts[-1] + 1 :]
            store_typeahead(prompt.input, keys)
            return line
        finally:
            with self._changed:
                above.close()
                # Whatever watches the prompt sees that it is over.
                self._changed.notify_all()

    def _tell_size(self) -> None:
        """Tells the kernel how large the terminal is: before a hub only the owner's size counts."""
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
            now = (size.columns, size.lines, self._owners)
            if now != self._told and size.columns > 0 and size.lines > 0:
                self._session.command(f"resize {size.columns} {size.lines}")
                self._told = now
        except (OSError, RuntimeError, ValueError):
            # A kernel that takes no commands now is told at the next prompt.
            return

    def _watch(self, secret: bool) -> None:
        """Ends the prompt when the kernel ends, or waits for a secret no longer."""
        app = get_app()

        def is_over() -> bool:
            return not app.is_running or self._activity() == "over" or (secret and not self._session.is_secret())

        def watch() -> None:
            with self._changed:
                self._changed.wait_for(is_over)
            if app.is_running and app.loop is not None:
                app.loop.call_soon_threadsafe(lambda: app.exit(result=None) if app.is_running else None)

        threading.Thread(target=watch, daemon=True).start()

    def _wait_until_settled(self) -> str:
        with self._changed:
            while True:
                if self._interrupted:
                    self._interrupted = False
                    raise KeyboardInterrupt
                activity = self._activity()
                if activity in ("idle", "incomplete", "waiting", "over"):
                    return activity
                self._may_raise = True
                try:
                    changed = self._changed.wait(_LINGER)
                finally:
                    self._may_raise = False
                if not changed and self._tail:
                    self._show_tail()

    def _activity(self) -> str:
        return "over" if self._end is not None else self._session.activity()

    def _send(self, text: str) -> None:
        try:
            while self._session.send(text, 0.1) is None:
                if self._interrupted:
                    self._interrupted = False
                    self._interrupt()
        except (ConnectionError, ValueError) as error:
            print(f"trunkline.console: {error}", file=sys.stderr)

    def _end_input(self) -> bool:
        try:
            self._session.end_of_input()
        except (ConnectionError, RuntimeError) as error:
            # As for a line: another console may have the input.
            print(f"trunkline.console: {error}", file=sys.stderr)
        return self._activity() != "over"

    def _end_kernel(self) -> None:
        """It ends as any Python does, and what it prints until then is shown. Ctrl-C does not wait for it."""
        try:
            self._session.command("exit")
            with self._changed:
                self._may_raise = True
                self._changed.wait_for(lambda: self._end is not None or self._interrupted)
        except (KeyboardInterrupt, ConnectionError, RuntimeError):
            return
        finally:
            self._may_raise = False
        self._show_tail()

    def _interrupt(self) -> None:
        with self._changed:
            before = self._statuses
        try:
            if self._session.interrupt():
                # What the kernel did before is no longer so.
                with self._changed:
                    self._changed.wait_for(lambda: self._statuses != before or self._end is not None, _PATIENCE)
        except (ConnectionError, RuntimeError) as error:
            print(f"trunkline.console: {error}", file=sys.stderr)

    def _obey(self, command: str) -> tuple[bool, int | None]:
        if command == ":interrupt":
            self._interrupt()
        elif command == ":take":
            self._session.take_input()
        elif command in (":quit", ":detach"):
            return True, 0
        elif command == ":restart" and self._kernel is not None:
            return True, None
        elif command == ":restart":
            print("trunkline.console: this kernel was started elsewhere; `exit()` ends it", file=sys.stderr)
        else:
            print(f"trunkline.console: there are {', '.join(_COMMANDS)}", file=sys.stderr)
        return False, None

    # -- What the kernel says ------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while (said := self._session.next(None)) is not None:
            with self._changed:
                self._hear(*said)
                self._changed.notify_all()
        with self._changed:
            self._end = self._end or "the kernel is gone"
            self._changed.notify_all()

    def _hear(self, kind: str, *rest: Any) -> None:
        if kind in ("stdout", "stderr"):
            text = self._tail + self._decoders[kind].decode(rest[0])
            lines, newline, self._tail = text.rpartition("\n")
            sys.stdout.write(lines + newline)
            sys.stdout.flush()
        elif kind == "picture":
            header, body = rest
            if header["mime"] == "text/plain":
                self._hear("stdout", body)
                return
            print(header["text"] or f"<{header['mime']}, {len(body)} bytes>")
        elif kind == "cut":
            print(f"[output was cut here: {rest[2]} bytes]")
        elif kind == "answer":
            number, answer = rest
            if number in self._answers:
                self._answers[number] = json.loads(answer)
        elif kind == "roster":
            self._owners += 1
        elif kind == "deaf":
            print("trunkline.console: another console has the input; :take takes it")
        elif kind in ("nonsense", "link_lost"):
            print(f"trunkline.console: {'the link is lost, trying' if kind == 'link_lost' else rest[0]}")
        elif kind == "status":
            self._statuses += 1
            if rest[0].startswith(("exited", "killed")):
                self._end = f"the kernel has {'ended' if rest[0] == 'exited 0' else rest[0]}"
        elif kind == "over":
            self._end = self._end or f"the kernel is gone: {rest[0]}"

    def _show_tail(self) -> None:
        with self._changed:
            tail, self._tail = self._tail, ""
        if tail:
            sys.stdout.write(tail)
            sys.stdout.flush()

    # -- Questions -----------------------------------------------------------------------------------------------------

    def question(self, operation: str, code: str, cursor: int) -> dict[str, Any]:
        """Asks the kernel, and waits for the answer: never on the thread that draws."""
        with self._changed:
            try:
                number = self._session.ask(operation, code, cursor)
            except (ConnectionError, RuntimeError, ValueError):
                return {}
            self._answers[number] = None
            self._changed.wait_for(lambda: self._answers[number] is not None or self._end is not None, _PATIENCE)
            return self._answers.pop(number) or {}

    def _typed(self, buffer: Buffer) -> None:
        """A tip for the call whose parenthesis was opened."""
        document = buffer.document
        if document.char_before_cursor == ")":
            self.tip = ""
        if document.char_before_cursor != "(":
            return
        code, cursor, app = document.text, document.cursor_position, get_app()

        def ask() -> None:
            text = self.question("inspect", code, cursor - 1).get("text", "")
            self.tip = text.partition("\n")[0]
            app.invalidate()

        threading.Thread(target=ask, daemon=True).start()


def _unread_keys(source: Input) -> list[KeyPress]:
    """What was typed while the terminal made no signals of keys, and the prompt did not read it any more."""
    if not isinstance(source, Vt100Input):
        return []
    descriptor = source.fileno()
    usual: list[Any] = termios.tcgetattr(descriptor)
    at_once: list[Any] = [each.copy() if isinstance(each, list) else each for each in usual]
    at_once[3] &= ~(termios.ICANON | termios.ECHO)
    at_once[6][termios.VMIN], at_once[6][termios.VTIME] = 0, 0
    termios.tcsetattr(descriptor, termios.TCSANOW, at_once)
    try:
        typed = os.read(descriptor, 4096)
    except OSError:
        return []
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, usual)
    source.vt100_parser.feed(typed.decode(errors="replace"))
    return source.flush_keys()


class _Completer(Completer):
    def __init__(self, person: _Person) -> None:
        self._person = person

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        if document.text.startswith(":"):
            for command in _COMMANDS:
                if command.startswith(document.text):
                    yield Completion(command, -len(document.text))
            return
        answer = self._person.question("complete", document.text, document.cursor_position)
        start = answer.get("start", 0) - document.cursor_position
        for match in answer.get("matches", ()):
            yield Completion(match, min(start, 0))


def _lexer() -> Lexer | None:
    try:
        from pygments.lexers.python import PythonLexer  # type: ignore[import-untyped]
    except ImportError:
        return None
    return PygmentsLexer(PythonLexer)


def _history() -> History:
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state", "trunkline")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return FileHistory(str(folder / "history"))
    except OSError:
        return InMemoryHistory()
