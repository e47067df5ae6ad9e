"""The five sockets of a Jupyter kernel."""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path
from time import monotonic
from typing import Any

import zmq
from jupyter_client.jsonutil import json_clean, json_default
from jupyter_client.session import Session, json_packer

PROTOCOL = "5.3"

_QUEUE = 200
"""So many messages wait for a frontend that reads slowly. What follows waits in the kernel."""
_PATIENCE = 5.0
"""Seconds for which a frontend that reads nothing holds up the others. Then it loses what it has no room for."""

Message = dict[str, Any]


class Asked:
    """A request of a frontend: where it came from, and what it says."""

    def __init__(self, wire: Wire, socket: zmq.Socket[bytes], idents: list[bytes], message: Message) -> None:
        self._wire = wire
        self._socket = socket
        self.idents = idents
        self.header: Message = message["header"]
        self.kind: str = message["header"]["msg_type"]
        self.content: Message = message["content"]
        if not isinstance(self.content, dict):
            raise ValueError(f"the content of a {self.kind!r} is no object of JSON")

    def reply(self, content: Message) -> None:
        """Answers, and says that the kernel has done what was asked."""
        kind = self.kind.removesuffix("_request") + "_reply"
        content = {"status": "ok", **content}
        self._wire.send(self._socket, kind, content, self.header, self.idents)
        self._wire.publish("status", {"execution_state": "idle"}, self.header)

    def begin(self) -> None:
        self._wire.publish("status", {"execution_state": "busy"}, self.header)

    def get(self, name: str, kind: type, default: Any) -> Any:
        """What the frontend says of this, if it is of the kind that it should be."""
        value = self.content.get(name, default)
        return value if isinstance(value, kind) else default


def _pack(said: Any) -> bytes:
    try:
        return json_packer(said)
    except UnicodeEncodeError:
        # Half of a character, as of an emoji that was cut, has no bytes. JSON has an escape for it.
        return json.dumps(json_clean(said), default=json_default, allow_nan=False).encode()


class Wire:
    def __init__(self, file: Path) -> None:
        info = json.loads(file.read_text())
        if "curve_secretkey" in info or "curve_publickey" in info:
            raise ValueError("this kernel does not encrypt what it says to frontends; switch transport_encryption off")
        self.session = Session(
            key=info.get("key", "").encode(), signature_scheme=info.get("signature_scheme") or "hmac-sha256"
        )
        self.session.pack = _pack
        self._context = zmq.Context()
        self.shell, self.control, self.stdin = (self._bind(info, name) for name in ("shell", "control", "stdin"))
        self.heartbeat = self._bind(info, "hb", zmq.REP)
        self._iopub = self._bind(info, "iopub", zmq.XPUB)
        self._iopub.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._pending: deque[list[bytes]] = deque()
        self._stuck_since: float | None = None
        self.poller = zmq.Poller()
        for socket in (self.shell, self.control, self.stdin, self.heartbeat, self._iopub):
            self.poller.register(socket, zmq.POLLIN)

    def _bind(self, info: Message, name: str, kind: int = zmq.ROUTER) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 1000
        if kind == zmq.ROUTER:
            # A frontend that comes back by another connection is the same.
            socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        elif kind == zmq.XPUB:
            socket.setsockopt(zmq.XPUB_NODROP, 1)
            socket.sndhwm = _QUEUE
        between = "-" if info["transport"] == "ipc" else ":"
        address = f"{info['transport']}://{info['ip']}{between}{info[name + '_port']}"
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"{error.strerror}: {address}, where Jupyter expects this kernel") from None
        return socket

    # -- What frontends say --------------------------------------------------------------------------------------------

    def read(self, socket: zmq.Socket[bytes]) -> Asked | None:
        """The next request; None if there is none, or if it is not signed."""
        try:
            frames = socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        try:
            idents, rest = self.session.feed_identities(frames)
            return Asked(self, socket, idents, self.session.deserialize(rest))
        except Exception as error:
            # Whatever it is, it changes nothing.
            print(f"trunkline.jupyter: a message that makes no sense: {error}", file=sys.stderr)
            return None

    def echo(self) -> None:
        self.heartbeat.send_multipart(self.heartbeat.recv_multipart())

    def welcome(self) -> None:
        """Greets those that have subscribed, which so know that they miss nothing from here on."""
        while self._iopub.poll(0, zmq.POLLIN):
            frame = self._iopub.recv()
            if frame[:1] == b"\x01":
                topic = frame[1:].decode("utf-8", "replace")
                self._post("iopub_welcome", {"subscription": topic}, {}, frame[1:])

    # -- What the kernel says ------------------------------------------------------------------------------------------

    def send(
        self, socket: zmq.Socket[bytes], kind: str, content: Message, parent: Message, idents: list[bytes]
    ) -> None:
        self.session.send(socket, kind, content, parent, idents)

    def publish(self, kind: str, content: Message, parent: Message) -> None:
        self._post(kind, content, parent, kind.encode())

    def _post(self, kind: str, content: Message, parent: Message, topic: bytes) -> None:
        message = self.session.msg(kind, content, parent)
        self._pending.append(self.session.serialize(message, topic))
        self.flush()

    @property
    def is_full(self) -> bool:
        """Whether a frontend has no room, so that no more output is to be taken from the kernel."""
        return bool(self._pending)

    def flush(self) -> None:
        """Sends what waits, as far as frontends have room."""
        while self._pending:
            try:
                self._iopub.send_multipart(self._pending[0], zmq.NOBLOCK)
            except zmq.Again:
                now = monotonic()
                self._stuck_since = self._stuck_since or now
                if now - self._stuck_since < _PATIENCE:
                    self.poller.register(self._iopub, zmq.POLLIN | zmq.POLLOUT)
                    return
                self._iopub.setsockopt(zmq.XPUB_NODROP, 0)
                self._iopub.send_multipart(self._pending[0])
                self._iopub.setsockopt(zmq.XPUB_NODROP, 1)
            else:
                self._stuck_since = None
            self._pending.popleft()
        self.poller.register(self._iopub, zmq.POLLIN)

    def close(self) -> None:
        until = monotonic() + 1
        while self._pending and monotonic() < until:
            self.poller.poll(50)
            self.flush()
        self._context.destroy(linger=1000)
