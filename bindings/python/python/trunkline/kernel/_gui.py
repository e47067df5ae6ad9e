"""Event loops of GUIs: they run while the prompt waits, and while `input()` does, so that windows stay alive.

A pipe wakes them: when the kernel has something for the loop or for a read, and when a signal has come, whose handler
Python runs as soon as it runs any code.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from .._trunkline import _Interpreter
from ._interrupts import run_user
from ._streams import Input


class Toolkit(Protocol):
    def look(self) -> None:
        """The kernel is looked at next: what has come before needs no waking."""

    def run(self) -> None:
        """Runs events until the pipe has something since then."""


class Gui:
    def __init__(self, toolkit: str, interpreter: _Interpreter, stdin: Input) -> None:
        self._interpreter = interpreter
        reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        self._toolkit: Toolkit = (Tk if toolkit == "tk" else Qt)(reads)
        stdin.read_by(self._read_line)
        start_thread(self._watch, "trunkline-gui")

    def _watch(self) -> None:
        while self._interpreter.wait_ready():
            # What is full wakes as well.
            with contextlib.suppress(BlockingIOError):
                os.write(self._writes, b"\0")

    def next(self) -> tuple[str, str | None] | None:
        """What the kernel's loop has to do next."""
        while True:
            self._toolkit.look()
            if (event := self._interpreter.next(0.0)) is not None:
                return event
            # What is raised in a callback is the callback's; an interrupt ends that alone.
            error = run_user(self._run_events)
            if isinstance(error, SystemExit):
                raise error
            if error is not None and not isinstance(error, KeyboardInterrupt):
                traceback.print_exception(error)

    def _read_line(self, secret: bool) -> tuple[str, bytes | None]:
        reading = self._interpreter.reading(secret)
        try:
            while True:
                self._toolkit.look()
                if (line := reading.poll()) is not None:
                    return line
                self._run_events()
        finally:
            reading.close()

    def _run_events(self) -> None:
        other = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        if other not in (-1, self._writes):
            # The program's own.
            signal.set_wakeup_fd(other)
        self._toolkit.run()


def start_thread(run: Callable[[], None], name: str) -> None:
    thread = threading.Thread(target=run, name=name, daemon=True)
    # It is no thread of the program's.
    thread._trunkline = True  # type: ignore[attr-defined]
    thread.start()


class Tk:
    """The pipe is one more file that Tcl looks at."""

    def __init__(self, pipe: int) -> None:
        import tkinter

        self._pipe = pipe
        os.set_blocking(pipe, False)
        self._runs: Any = None
        self._readable = tkinter.READABLE
        self._roots: weakref.WeakSet[Any] = weakref.WeakSet()
        kind: Any = tkinter.Tk
        init = kind.__init__

        def init_and_attach(root: Any, *arguments: Any, **options: Any) -> None:
            init(root, *arguments, **options)
            self._attach(root)

        kind.__init__ = init_and_attach

    def _attach(self, root: Any) -> None:
        """From here on a loop of this thread hears the pipe, also the program's own `mainloop()`: then a signal's
        handler runs, and what it raises ends that."""
        if threading.current_thread() is threading.main_thread() and _exists(root):
            self._roots.add(root)
            root.tk.createfilehandler(self._pipe, self._readable, self._woken)

    def _woken(self, *_: object) -> None:
        self._drain()
        if self._runs is not None:
            self._runs.quit()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._pipe, 4096)) == 4096:
                pass

    def look(self) -> None:
        """What is in the pipe is still there when it runs."""

    def run(self) -> None:
        root = next(filter(_exists, self._roots), None)
        if root is None:
            select.select([self._pipe], [], [])
            self._drain()
            return
        self._runs = root.tk
        try:
            # It ends as well when all windows are closed, or when the program has ended it: all is looked at again.
            root.tk.mainloop(0)
        finally:
            self._runs = None


def _exists(root: Any) -> bool:
    try:
        return bool(int(root.tk.call("winfo", "exists", ".")))
    except Exception:
        # Closed, or never shown.
        return False


class Qt:
    """A thread listens to the pipe, and ends the loop by an event. Nothing of Python runs in the loop for that: what a
    signal's handler raises would be swallowed there, or crash Qt's bindings."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._woken = threading.Event()
        self._lock = threading.Lock()
        self._runs: Any = None
        """What ends the loop that runs."""
        # PyQt ends the process for what a slot raises, unless there is another hook than the usual.
        sys.excepthook = _print_exception
        start_thread(self._listen, "trunkline-gui-wake")

    def _listen(self) -> None:
        while os.read(self._pipe, 4096):
            with self._lock:
                self._woken.set()
                if self._runs is not None:
                    self._runs()

    def look(self) -> None:
        self._woken.clear()

    def run(self) -> None:
        core = _core()
        if core is None:
            self._woken.wait()
            return
        kind = getattr(core.QEvent, "Type", core.QEvent).Quit
        loop = core.QEventLoop()
        with self._lock:
            if self._woken.is_set():
                return
            # It is kept until the loop runs.
            self._runs = lambda: core.QCoreApplication.postEvent(loop, core.QEvent(kind))
        try:
            (loop.exec if hasattr(loop, "exec") else loop.exec_)()
        finally:
            with self._lock:
                self._runs = None


def _core() -> Any:
    """What the program uses: it has made an application with it."""
    for binding in ("PySide6", "PyQt6", "PySide2", "PyQt5"):
        core = sys.modules.get(f"{binding}.QtCore")
        if core is not None and core.QCoreApplication.instance() is not None:
            return core
    return None


def _print_exception(*error: Any) -> None:
    traceback.print_exception(*error)
