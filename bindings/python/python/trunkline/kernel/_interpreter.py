"""The interpreter under a host: what `python -m trunkline.kernel` starts as its child."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import signal
import sys

from .._trunkline import _Interpreter
from . import _answers, _pictures, _sources, _streams
from ._interrupts import Interrupts
from ._loop import Loop, main_module

SOCKET = "TRUNKLINE_HOST_SOCKET"
SECRET = "TRUNKLINE_HOST_SECRET"
LAST_WORDS = "TRUNKLINE_HOST_LAST_WORDS"
_STACK = signal.SIGUSR2


def main() -> None:
    try:
        socket, secret = int(os.environ.pop(SOCKET)), os.environ.pop(SECRET)
        words = os.environ.pop(LAST_WORDS, None)
    except (KeyError, ValueError):
        sys.exit("this is a part of `python -m trunkline.kernel`, which starts it")
    interpreter = _Interpreter.of_host(socket, secret, None if words is None else int(words))
    faulthandler.enable(file=2)
    interrupts = Interrupts(interpreter)
    stdin = _streams.Streams(interpreter, interrupts).stdin
    _streams.unbuffer_c()
    _sources.install()
    _pictures.install(interpreter, interrupts)
    # A program, and its environment, may have chosen another.
    backend = {"--gui=tk": "TkAgg", "--gui=qt": "QtAgg"}
    chosen = [backend[each] for each in sys.argv[1:] if each in backend]
    os.environ.setdefault("MPLBACKEND", chosen[0] if chosen else "module://trunkline.display")
    _report_stack(interpreter)
    module = main_module()
    _answers.start(interpreter, lambda: module.__dict__)
    interrupts.install()
    # After everything that the program does at its exit.
    atexit.register(interpreter.close)
    arguments = sys.argv[1:]
    tasks, wait = None, None
    # Each only here: it takes a while to import.
    if "--asyncio" in arguments:
        from ._asyncio import EventLoop

        tasks = EventLoop(interpreter, interrupts)
        wait = tasks.next
    for toolkit in ("tk", "qt"):
        if f"--gui={toolkit}" in arguments:
            from ._gui import Gui

            wait = Gui(toolkit, interpreter, stdin).next
    sys.argv = [""]
    loop = Loop(interpreter, stdin, module.__dict__, tasks=tasks, wait=wait)
    leaves = None
    try:
        leaves = loop.run()
    finally:
        interrupts.leaving = True
        if tasks is not None:
            with contextlib.suppress(KeyboardInterrupt):
                tasks.close()
        _streams.flush()
    if leaves is not None:
        # The interpreter says what is wrong with an odd status, as always.
        raise leaves


def _report_stack(interpreter: _Interpreter) -> None:
    """While code holds the interpreter's lock, a signal makes the main thread write down where it is."""
    with contextlib.suppress(OSError, ValueError):
        reads, writes = os.pipe()
        os.set_blocking(writes, False)
        faulthandler.register(_STACK, file=writes, all_threads=False, chain=False)
        interpreter.report_stack_with(_STACK, reads)


if __name__ == "__main__":
    main()
