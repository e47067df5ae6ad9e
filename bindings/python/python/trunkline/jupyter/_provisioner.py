"""The kernel provisioner `trunkline-provisioner`: a kernelspec runs on another machine, behind one connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Float, Unicode

from .. import Config, Connection, Error, Event, Key, RecvError, Sender
from ._forward import Ports, stop
from ._serve import ORDERS, PYTHON, SOCKETS, STDERR, STDOUT, target

_START = 60.0
"""Seconds that the other machine may take to start a process."""


class TrunklineProvisioner(KernelProvisionerBase):
    """Starts kernels by `python -m trunkline.jupyter serve` on another machine.

    In a kernelspec:

    "metadata": {"kernel_provisioner": {
        "provisioner_name": "trunkline-provisioner",
        "config": {"address": "host:4000", "key_file": "/path/of/the.key"}
    }}
    """

    address = Unicode(help="host:port of the other machine, or the path of a Unix socket").tag(config=True)
    key_file = Unicode(help="the key of the other machine").tag(config=True)
    grace = Float(86_400, help="seconds that a lost link may take to come back").tag(config=True)
    cwd = Unicode(help="the directory there; or that of the notebook, if it is there, or the home").tag(config=True)

    _remote: _Remote | None = None
    _listeners: dict[str, socket.socket] = {}  # noqa: RUF012

    @property
    def has_process(self) -> bool:
        return self._remote is not None and self._remote.has_kernel

    async def poll(self) -> int | None:
        # While the link is lost the kernel is taken to live.
        return 0 if self._remote is None else self._remote.status

    async def wait(self) -> int | None:
        if self._remote is None:
            return 0
        while self._remote.status is None:
            await asyncio.sleep(0.05)
        self._remote.has_kernel = False
        return self._remote.status

    async def send_signal(self, signum: int) -> None:
        if self.has_process and self._remote is not None:
            self._remote.signal(signum)

    async def terminate(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGTERM)

    async def kill(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGKILL)
        if self._remote is not None and self._remote.is_away:
            # It ends there, too, when the other machine has waited long enough.
            self._remote.close()

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        manager: Any = self.parent
        if not self.address or not self.key_file:
            raise ValueError("the kernelspec's provisioner needs `address` and `key_file` in its config")
        if manager.transport != "tcp":
            raise ValueError(f"the provisioner of trunkline does not know the transport {manager.transport!r}")
        if kwargs.pop("transport_encryption", "disabled") == "required":
            raise ValueError("what goes to the other machine is encrypted by trunkline, and not by CurveZMQ")
        if self._remote is not None and self._remote.status is not None and self._remote.is_over:
            self._close()
        if self._remote is None:
            # They stay when the kernel is restarted. No other process can take them.
            self._listeners = {name: socket.create_server((manager.ip, 0)) for name in SOCKETS}
            for name, listener in self._listeners.items():
                setattr(manager, f"{name}_port", listener.getsockname()[1])
            try:
                self._remote = await asyncio.to_thread(self._connect)
            except BaseException:
                self._close()
                raise
        manager.write_connection_file()
        command = [*self.kernel_spec.argv, *kwargs.pop("extra_arguments", [])]
        given: dict[str, Any] = await super().pre_launch(cmd=command, **kwargs)
        return given

    def _connect(self) -> _Remote:
        key = Key.from_file(self.key_file)
        address = Path(self.address) if "/" in self.address else self.address
        config = Config(key, resume_grace=self.grace, local_grace=self.grace)
        listeners = {target(name): listener for name, listener in self._listeners.items()}
        return _Remote(Connection.connect(address, config), listeners, self.log.warning)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        assert self._remote is not None
        manager: Any = self.parent
        info: KernelConnectionInfo = manager.get_connection_info()
        signs = {name: _text(info[name]) for name in ("key", "signature_scheme", "kernel_name") if name in info}
        first, *rest = cmd
        launch = {
            # The kernelspec of an environment means its interpreter, which is another there.
            "argv": [PYTHON if first == sys.executable or _is_python(first) else first, *rest],
            "cwd": self.cwd or str(kwargs.get("cwd") or "") or None,
            "env": {name: kwargs["env"][name] for name in self.kernel_spec.env if name in kwargs["env"]},
            "connection": signs,
        }
        await asyncio.to_thread(self._remote.launch, launch)
        self.connection_info = info
        return self.connection_info

    async def cleanup(self, restart: bool = False) -> None:
        # A restart keeps the connection, and its ports.
        if not restart:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for listener in self._listeners.values():
            stop(listener)
        self._listeners = {}
        if self._remote is not None:
            self._remote.close()
            self._remote = None

    async def get_provisioner_info(self) -> dict[str, Any]:
        info: dict[str, Any] = await super().get_provisioner_info()
        return {**info, "address": self.address}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _is_python(command: str) -> bool:
    name = command.removeprefix("python")
    return command.startswith("python") and (name == "" or name.replace(".", "").isdigit())


class _Remote:
    """The connection to the other machine."""

    def __init__(self, connection: Connection, listeners: dict[str, socket.socket], tell: Any) -> None:
        self._connection = connection
        self._tell = tell
        self._changed = threading.Condition()
        self._answers: dict[int, str | None] = {}
        self._count = 0
        self._orders: Sender = connection.sender(ORDERS)
        self.has_kernel = False
        self.status: int | None = None
        """The exit status of the kernel, or 1 if the connection is over."""
        self.is_over = False
        Ports(connection, listeners)
        for act in (self._listen, self._watch, self._read_words):
            threading.Thread(target=act, name="trunkline-remote", daemon=True).start()

    @property
    def is_away(self) -> bool:
        return self._connection.is_suspended

    def launch(self, launch: dict[str, Any]) -> None:
        with self._changed:
            self._count += 1
            number = self._count
        try:
            self._orders.send(json.dumps({"id": number, "launch": launch}), _START)
            with self._changed:
                if not self._changed.wait_for(lambda: number in self._answers or self.is_over, _START):
                    raise TimeoutError(f"the other machine has not started the kernel within {_START:.0f} s")
                error = self._answers.pop(number, "the connection is over")
                if error is not None:
                    raise RuntimeError(f"the other machine did not start the kernel: {error}")
                self.has_kernel = True
        except Error as lost:
            raise RuntimeError(f"the other machine is gone: {lost}") from lost

    def signal(self, number: int) -> None:
        # If the link is lost it arrives when it is back.
        with contextlib.suppress(Error):
            self._orders.send(json.dumps({"signal": number}), 1)

    def _listen(self) -> None:
        answers = self._connection.receiver(ORDERS)
        while True:
            try:
                self._hear(bytes(answers.recv()))
            except RecvError:
                continue
            except Error:
                break
            except Exception as error:
                self._tell(f"the other machine says what makes no sense: {error}")
        with self._changed:
            self.is_over = True
            self.status = 1 if self.status is None else self.status
            self._changed.notify_all()

    def _hear(self, answer: bytes) -> None:
        said = json.loads(answer)
        with self._changed:
            if "exited" in said:
                self.status = int(said["exited"])
            elif said["id"] == self._count:
                error = self._answers[self._count] = said.get("error")
                if error is None:
                    # The end of the kernel before came before this, and that of this one comes behind.
                    self.status = None
            self._changed.notify_all()

    def _watch(self) -> None:
        for event in self._connection.events():
            if isinstance(event, Event.Suspended):
                self._tell(f"the link to the kernel is lost, trying: {event.cause}")
            elif isinstance(event, Event.Resumed):
                self._tell("the link to the kernel is back")

    def _read_words(self) -> None:
        words = self._connection.receiver(STDOUT, STDERR)
        while True:
            try:
                message = words.recv()
            except RecvError:
                continue
            except Error:
                return
            # As a kernel does that runs here.
            with contextlib.suppress(OSError):
                os.write(message.channel, bytes(message))

    def close(self) -> None:
        with contextlib.suppress(Error):
            if self.is_away:
                self._connection.abandon()
            else:
                self._connection.close(timeout=5)
