"""A Python interpreter that consoles reach over one socket: `python -m trunkline.kernel --listen ADDR --key-file F`.

The command is a host process with the sockets, and a CPython interpreter as its child. Any console of trunkline
works with it: `python -m trunkline.console`, or those that are written in Rust. `embed()` does the same inside of an
application, in its own process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from .. import Key

__all__ = ["embed"]


def embed(
    address: str | tuple[str, int] | os.PathLike[str],
    key: Key,
    *,
    namespace: dict[str, Any] | None = None,
    watch_key: Key | None = None,
    allow_plaintext: bool = False,
    leave_after: float | None = None,
    listening: Callable[[str], object] | None = None,
) -> None:
    """Serves consoles from inside of an application, and returns when one of them says `exit()`.

    It is called where a person is to look around, and blocks there. Consoles connect to `address`, "host:port" or
    `(host, port)` (port 0 takes a free one), or a `pathlib.Path`, which is a Unix socket. Before it waits it calls
    `listening` with the address; otherwise that is printed on standard error.

    Statements run in the main thread. They see the caller's variables and its module's names. At a module's level an
    assignment changes the module. In a function it does not change the function's variables, as nothing can from
    outside: statements work on names of their own, which begin as a copy. `namespace` is a dict to use instead.

    - key, watch_key: what lets a console in, and what lets one in that may watch only
    - allow_plaintext: lets it listen where other machines reach, without encryption
    - leave_after: seconds after which it returns if there is no console and nothing runs; None waits for ever

    While it runs, `sys.stdin`, `sys.stdout`, `sys.stderr`, `sys.displayhook`, `getpass.getpass`, and the handlers of
    SIGINT and SIGURG are the kernel's; afterwards they are what they were, also if it raises. Output of C code and of
    children goes where the application's goes. A statement that prints waits for the console that has typed it. Ctrl-C
    at the application's terminal stops the statement that runs; while none does, embed() raises KeyboardInterrupt. A
    `SystemExit` ends embed() alone. An application may call it again.

    Raises RuntimeError in another thread than the main one, and in a process that is a kernel at the moment; otherwise
    as `Listener` does.
    """
    from . import _embed

    if leave_after is not None and not leave_after >= 0:
        raise ValueError("leave_after is a number of seconds, 0 or more")
    names = _embed.names_of(sys._getframe(1)) if namespace is None else namespace
    config = _embed.config(key, watch_key, allow_plaintext)
    _embed.run(address, config, names, leave_after, _embed.say_where if listening is None else listening)
