"""The command `python -m trunkline.jupyter`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from .. import Config, Error, Key, Listener

_GRACE = 3600.0
"""Seconds that a lost link to a kernel may take to come back."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m trunkline.jupyter", description="Trunkline and Jupyter.")
    commands = parser.add_subparsers(dest="command", required=True)

    kernel = commands.add_parser(
        "kernel",
        help="what Jupyter starts as its kernel",
        description="A Jupyter kernel whose cells run in a kernel of trunkline's: a fresh one, which ends with it, or "
        "one that runs already, which is left running.",
    )
    kernel.add_argument("-f", dest="file", metavar="FILE", type=Path, required=True, help="Jupyter's connection file")
    _add_place(kernel)

    install = commands.add_parser("install", help="makes a kernelspec", description="Makes a kernelspec for notebooks.")
    _add_place(install)
    install.add_argument("--name", default="trunkline", help="of the kernelspec (trunkline)")
    install.add_argument("--display-name", help="as notebooks show it")
    where = install.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="for this user (the default)")
    where.add_argument("--sys-prefix", action="store_true", help="for this Python environment")
    where.add_argument("--prefix", metavar="DIR", help="for the environment there")

    serve = commands.add_parser(
        "serve",
        help="runs kernels for notebooks elsewhere",
        description="Runs kernels of Jupyter's for notebooks on other machines, which have a kernelspec with the "
        "provisioner trunkline-provisioner. Those that have the key run what they like, as this user.",
        epilog="The key file is made if there is none. `listening on ADDRESS` on standard output says where.",
    )
    place = serve.add_mutually_exclusive_group(required=True)
    place.add_argument("--listen", metavar="ADDR", help="host:port; port 0 takes a free one")
    place.add_argument("--unix", metavar="PATH", type=Path, help="a Unix socket")
    serve.add_argument("--key-file", metavar="F", type=Path, required=True, help="what lets a notebook in")
    serve.add_argument(
        "--grace", metavar="SECONDS", type=float, default=86_400.0, help="how long a lost link is waited for (a day)"
    )
    return parser


def _add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--connect", metavar="ADDR", help="host:port of a kernel that runs")
    place.add_argument("--unix", metavar="PATH", type=Path, help="the Unix socket of a kernel that runs")
    parser.add_argument("--key-file", metavar="F", type=Path, help="the key of that kernel")


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "serve":
            return _serve(options)
        if (options.connect is None and options.unix is None) != (options.key_file is None):
            parser.error("--key-file belongs to --connect or --unix")
        if options.command == "install":
            return _install(options)
        # The key of the kernel that it starts is in a file meanwhile. Once it serves, it ends as frontends expect.
        signal.signal(signal.SIGTERM, _end)
        return _kernel(options)
    except _Asked:
        return 128 + signal.SIGTERM
    except ModuleNotFoundError as error:
        print(f"trunkline.jupyter: {error}; pip install trunkline[jupyter] brings it", file=sys.stderr)
        return 2
    except (Error, OSError, ValueError, KeyError) as error:
        print(f"trunkline.jupyter: {type(error).__name__}: {error}", file=sys.stderr)
        return 3 if isinstance(error, ConnectionError) else 2


def _kernel(options: argparse.Namespace) -> int:
    from ..console._spawn import Spawned
    from ._bridge import Bridge
    from ._wire import Wire

    # First, for the kernel may take the ports that Jupyter has found free.
    wire = Wire(options.file)
    with ExitStack() as stack:
        address: str | Path | None = options.connect or options.unix
        if address is not None:
            key = Key.from_file(options.key_file)
        else:
            # A notebook may await.
            spawned = stack.enter_context(Spawned("--asyncio"))
            address, key = spawned.address, spawned.key
        return Bridge(wire, address, Config(key, resume_grace=_GRACE)).serve()


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Asked(Exception):
    """A signal asks for the end."""


def _end(_number: int, _frame: FrameType | None) -> None:
    # A second one, which may have come with it, does not cut the end short.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise _Asked


def _serve(options: argparse.Namespace) -> int:
    try:
        for number in _SIGNALS:
            signal.signal(number, _end)
        key = Key.from_file_or_new(options.key_file)
        config = Config(key, resume_grace=options.grace, local_grace=options.grace)
        with Listener(options.listen or options.unix, config) as listener:
            _host(listener)
    except _Asked:
        pass
    return 0


def _host(listener: Listener) -> None:
    from ._serve import Host

    local = listener.local_addr
    if isinstance(local, tuple):
        name, port = local
        local = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    print(f"listening on {local}", flush=True)
    host = Host(listener)
    try:
        host.serve()
    finally:
        host.close()


def _install(options: argparse.Namespace) -> int:
    from jupyter_client.kernelspec import KernelSpecManager

    command = [sys.executable, "-m", "trunkline.jupyter", "kernel", "-f", "{connection_file}"]
    shown = "Python (trunkline)"
    if options.key_file is not None:
        # Here, and not when a notebook has nothing but a kernel that has ended.
        Key.from_file(options.key_file)
        place = ["--connect", options.connect] if options.connect else ["--unix", str(options.unix.absolute())]
        command += [*place, "--key-file", str(options.key_file.absolute())]
        shown = f"trunkline at {place[1]}"
    spec = {
        "argv": command,
        "display_name": options.display_name or shown,
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {"debugger": False},
    }
    prefix = sys.prefix if options.sys_prefix else options.prefix
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")
        made = KernelSpecManager().install_kernel_spec(folder, options.name, user=prefix is None, prefix=prefix)
    print(f"the kernelspec {options.name} is in {made}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
