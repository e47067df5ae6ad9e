"""The command `python -m trunkline.kernel`: a host, whose child is the interpreter."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from .. import Error
from .._trunkline import _serve

DESCRIPTION = """Serves a Python interpreter to consoles: any number may watch, one at a time types."""
EPILOG = """The key file is made if there is none; consoles need a copy. The line `listening on ADDRESS` on standard
output says where. The exit status is that of the interpreter, or 128 and the number of the signal that has ended it."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Asked(Exception):
    """A signal asks for the end."""


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _Asked


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m trunkline.kernel", description=DESCRIPTION, epilog=EPILOG)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--listen", metavar="ADDR", help="host:port; port 0 takes a free one")
    place.add_argument("--unix", metavar="PATH", type=Path, help="a Unix socket")
    parser.add_argument("--key-file", metavar="F", type=Path, required=True, help="what lets a console in")
    parser.add_argument("--watch-key-file", metavar="F", type=Path, help="a key that lets in, to watch only")
    parser.add_argument(
        "--allow-plaintext", action="store_true", help="listen where other machines reach without encryption"
    )
    parser.add_argument("--asyncio", action="store_true", help="statements may `await`; tasks go on at the prompt")
    parser.add_argument(
        "--gui", choices=("qt", "tk", "none"), default="none", help="whose event loop runs while the prompt waits"
    )
    # The console that has started this process holds the other end of its standard input.
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)
    return parser


def _end_with_parent() -> None:
    # Not by sys.stdin, whose lock this thread would hold at the interpreter's end.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _listening(address: str) -> None:
    try:
        print(f"listening on {address}", flush=True)
    except OSError:
        # The reader of this line is gone, and the interpreter is served all the same.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def main(arguments: list[str] | None = None) -> int:
    try:
        return _main(arguments)
    except _Asked:
        return 128 + signal.SIGTERM


def _main(arguments: list[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.asyncio and options.gui != "none":
        parser.error("--asyncio and --gui each bring a loop for the time at the prompt: only one of them")
    for number in _SIGNALS:
        signal.signal(number, _end)
    if options.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    command = [sys.executable, *_flags(), "-m", "trunkline.kernel._interpreter"]
    if options.asyncio:
        command.append("--asyncio")
    if options.gui != "none":
        command.append(f"--gui={options.gui}")
    address = options.listen if options.unix is None else options.unix
    try:
        return _serve(address, options.key_file, options.watch_key_file, options.allow_plaintext, command, _listening)
    except (Error, OSError) as error:
        print(f"trunkline.kernel: {error}", file=sys.stderr)
        return 2
    finally:
        # It ends already.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _flags() -> list[str]:
    """The interpreter is started as this one was."""
    flags = [f"-W{warning}" for warning in sys.warnoptions]
    flags += ["-X" + (name if value is True else f"{name}={value}") for name, value in sys._xoptions.items()]
    for name, flag in (("isolated", "-I"), ("ignore_environment", "-E"), ("no_user_site", "-s"), ("no_site", "-S")):
        if getattr(sys.flags, name):
            flags.append(flag)
    return flags


if __name__ == "__main__":
    sys.exit(main())
