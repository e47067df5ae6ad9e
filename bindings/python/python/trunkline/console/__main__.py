"""The command `python -m trunkline.console`."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from pathlib import Path

from .. import Config, Error, Key
from .._trunkline import _attend
from ._spawn import Spawned

DESCRIPTION = """A console for a kernel. With a script on standard input, each line is sent when the kernel is idle or
waits for it."""
EPILOG = """Lines for the console: :interrupt, :take, :restart (of a kernel of its own), :detach, :quit. A line that
begins with two colons is for the kernel, with one. Exit status: 0; 1 if --fail was given and a statement has raised; 2
wrong use; 3 the kernel or the link is gone."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m trunkline.console", description=DESCRIPTION, epilog=EPILOG)
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--connect", metavar="ADDR", help="host:port of a kernel")
    place.add_argument("--unix", metavar="PATH", type=Path, help="the Unix socket of a kernel")
    place.add_argument("--spawn", action="store_true", help="start a kernel that ends with this console (the default)")
    parser.add_argument("--key-file", metavar="F", type=Path, help="the key of the kernel")
    parser.add_argument("--asyncio", action="store_true", help="with --spawn: statements of the kernel may `await`")
    parser.add_argument(
        "--gui", choices=("qt", "tk"), help="with --spawn: whose event loop runs while the prompt waits"
    )
    parser.add_argument("--fail", action="store_true", help="exit status 1 if a statement of a script has raised")
    return parser


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    address: str | Path | None = options.connect or options.unix
    if (address is None) != (options.key_file is None):
        parser.error("--key-file belongs to --connect or --unix")
    own = [*(["--asyncio"] if options.asyncio else []), *([f"--gui={options.gui}"] if options.gui else [])]
    if own and address is not None:
        parser.error(f"{own[0].partition('=')[0]} is for a kernel that is started here; give it to that kernel")
    if len(own) == 2:
        parser.error("--asyncio and --gui each bring a loop for the time at the prompt: only one of them")
    try:
        if address is not None:
            return _face(address, Key.from_file(options.key_file), None, options.fail)
        with Spawned(*own) as kernel:
            return _face(kernel.address, kernel.key, kernel, options.fail)
    except (Error, OSError, ValueError) as error:
        print(f"trunkline.console: {error}", file=sys.stderr)
        return 3 if isinstance(error, ConnectionError) else 2


def _face(address: str | Path, key: Key, kernel: Spawned | None, report_failures: bool) -> int:
    config = Config(key, resume_grace=60)
    terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    if terminal and importlib.util.find_spec("prompt_toolkit") is not None:
        from ._terminal import attend

        return attend(address, config, kernel)
    # A script ends by a signal as any program does.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _attend(address, config, "trunkline.console", not terminal, report_failures, kernel is not None)


if __name__ == "__main__":
    sys.exit(main())
