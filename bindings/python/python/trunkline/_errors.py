"""The exceptions of trunkline: one class for each error of the library, with its text.

All are below `Error`, and below the built-in that fits. Two rules:

- A `TimeoutError` always means that a call gave up because its time was over. A connection that is lost is never
  one, so that a loop that goes on after a `TimeoutError` ends with its connection.
- Everything below `ConnectionLost` means that the connection is over for good. All of its handles raise the same.
"""

from __future__ import annotations

import builtins


class Error(Exception):
    """What trunkline raises."""


# How a connection ends.


class ConnectionLost(Error, builtins.ConnectionError):
    """The connection is over."""

    code: int | None
    """The code of the close that was sent or received, if there was one."""
    fault: str | None
    """`"peer"`, `"caller"`, `"network"`, `"library"`; None if it was closed in good order."""


class ConnectionClosed(ConnectionLost):
    """This side closed the connection."""


class ClosedByPeer(ConnectionLost):
    """The peer closed the connection."""

    reason: str


class ProtocolViolation(ConnectionLost):
    """The peer broke the protocol."""

    reason: str


class HeartbeatLost(ConnectionLost):
    """Nothing was heard from the peer for too long."""

    silence: float
    """How long, in seconds."""


class SocketLost(ConnectionLost, builtins.ConnectionResetError):
    """The socket ended: the peer's process or the network failed."""


class Tampered(ConnectionLost):
    """What came over a sealed socket was changed on the way."""


class SessionExpired(ConnectionLost):
    """The session was without a socket for longer than it is kept."""


class SessionUnknown(ConnectionLost):
    """The peer does not know the session any more; it was probably restarted."""


class PeerUnreachable(ConnectionLost):
    """The peer could not be reached again in time."""


class PeerGone(ConnectionLost):
    """The peer's process is gone: nothing listens at its address any more."""


class Refused(ConnectionLost, builtins.ConnectionRefusedError):
    """The server that a lazy connection waited for is there, and the handshake failed."""

    handshake: HandshakeError


class Forked(ConnectionLost):
    """The connection belongs to the process that this one was forked from."""


class IoThreadStopped(ConnectionLost):
    """The I/O thread of the connection has stopped."""


# Why there is no connection.


class ConfigError(Error, ValueError):
    """A setting that cannot work."""


class PlaintextError(ConfigError):
    """The address can be reached from other machines, and nothing is encrypted."""


class OutOfRangeError(ConfigError):
    """A number outside its limits."""


class HeartbeatError(ConfigError):
    """The heartbeat timeout leaves no room for a heartbeat."""


class CannotSealError(ConfigError):
    """The library was built without what seals (encrypts) connections."""


class DuplicateKeyError(ConfigError):
    """The same key was given twice."""


class BindError(Error, OSError):
    """The system refused the address or the socket; `errno` says why."""


class SocketFileError(BindError):
    """The system refused the file of a Unix socket; `errno` may say why."""

    path: str


class SocketInUse(SocketFileError):
    """Another process listens at the Unix socket."""


class NotASocket(SocketFileError):
    """What is at the path is no socket, and is not replaced."""


class SocketExposed(SocketFileError, PermissionError):
    """Other users can change the directory of the Unix socket."""


class ForeignDirectory(SocketFileError, PermissionError):
    """The directory of the Unix socket belongs to another user."""


class ConnectError(Error, builtins.ConnectionError):
    """The address could not be resolved, or nothing answers there; `errno` may say why."""


class ConnectTimedOut(ConnectError, TimeoutError):
    """Nothing answered within `connect_timeout`."""


class HandshakeError(ConnectError):
    """The other side answered, and the handshake failed."""


class NotTrunkline(HandshakeError):
    """The other side does not speak trunkline."""


class NoCommonVersion(HandshakeError):
    """The two speak no common protocol version, or the server does not know what the client asks for."""

    client: int
    """The version that the client speaks; 0 at a listener."""
    server: int
    """The version that the server's answer names; 0 if it names none."""


class NotAuthorised(HandshakeError, PermissionError):
    """The server does not accept the key."""


class BadProof(HandshakeError, PermissionError):
    """The server could not prove that it has the key."""


class TooBusy(HandshakeError):
    """The server has as many connections as it takes."""


class ForeignUser(HandshakeError, PermissionError):
    """The process at the other end of a Unix socket belongs to another user."""

    user: int | None


class HandshakeSessionUnknown(HandshakeError):
    """The server does not know the session."""


class HandshakeSessionExpired(HandshakeError):
    """The session was away for longer than the server keeps it."""


class TermsChanged(HandshakeError):
    """The server cannot go on from where this side stands."""


class SealedOnly(HandshakeError):
    """The server takes only sealed connections."""


class PlainOnly(HandshakeError):
    """The server takes only plain connections."""


class Malformed(HandshakeError):
    """The other side broke the protocol in the handshake."""


class HandshakeNotPermitted(HandshakeError, PermissionError):
    """The server does not let this side use a channel that it has used before the server was there."""

    channel: int
    sending: bool


class HandshakeMessageTooLarge(HandshakeError):
    """A message that was sent before the server was there is larger than it takes."""

    limit: int


class HandshakeTimedOut(HandshakeError, TimeoutError):
    """The handshake was not done in time."""


class HandshakeDisconnected(HandshakeError):
    """The other side hung up during the handshake."""


# Keys.


class InvalidKey(Error):
    """A key could not be read or written."""


class KeyFileError(InvalidKey, OSError):
    """The file could not be opened, read or written, or exists already; `errno` may say why."""

    path: str


class KeyExposed(InvalidKey, PermissionError):
    """Other users can read or change the file."""

    path: str
    mode: int


class KeyNotSet(InvalidKey, LookupError):
    """The environment variable is not set."""

    variable: str


class KeyNotHex(InvalidKey, ValueError):
    """The text is not 64 hex digits."""


# Channels.


class ChannelIdError(Error, ValueError):
    """Not a channel: channels are numbered 0 to 127."""


class ChannelError(Error):
    """A channel cannot be used that way."""


class NotPermitted(ChannelError, PermissionError):
    """The server's settings for the key do not let this side use the channel that way."""

    channel: int
    sending: bool


class InUse(ChannelError, RuntimeError):
    """Another receiver has the channel."""

    channel: int


class PriorityInUse(ChannelError, RuntimeError):
    """Other senders of the channel have another priority."""

    channel: int


class InterruptNotPermitted(ChannelError, PermissionError):
    """The server does not let this side interrupt it."""


class NoChannel(ChannelError, ValueError):
    """A receiver needs at least one channel."""


class Interrupted(Error):
    """An interrupter ended the call."""


class SendError(Error):
    """A message was not sent."""


class Full(SendError, BlockingIOError):
    """There is no room now."""


class SendTimedOut(SendError, TimeoutError):
    """There was no room in time."""


class TooLarge(SendError, ValueError):
    """The message is larger than the peer takes."""

    limit: int


class Stopped(SendError, BrokenPipeError):
    """The peer stopped receiving on the channel. A new sender begins a new run."""

    code: int


class RecvError(Error):
    """No message was received."""


class Finished(RecvError, EOFError):
    """The peer has finished a run: what it sent was read to the end."""


class Reset(RecvError, builtins.ConnectionResetError):
    """The peer abandoned a run of the channel."""

    channel: int
    code: int


class Gap(RecvError):
    """The peer left something out here. What follows can still be received."""

    channel: int
    messages: int
    bytes: int


class RecvTimedOut(RecvError, TimeoutError):
    """No message came in time."""


# Flushing, closing, accepting, events.


class FlushError(Error):
    """The peer has not confirmed that it has everything."""


class FlushTimedOut(FlushError, TimeoutError):
    """The peer has not confirmed in time."""


class Suspended(FlushError, TimeoutError):
    """There is no socket at the moment, so the peer cannot confirm."""


class CloseError(Error, builtins.ConnectionError):
    """The peer has not confirmed that it has everything that was sent before the close."""

    cause: ConnectionLost | None
    """How the connection ended."""


class AcceptError(Error):
    """There is no client."""


class AcceptTimedOut(AcceptError, TimeoutError):
    """No client came in time."""


class ListenerClosed(AcceptError, builtins.ConnectionError):
    """The listener is closed."""


class EventError(Error):
    """There is no event."""


class EventTimedOut(EventError, TimeoutError):
    """Nothing has happened in time."""


class EventsOver(EventError, EOFError):
    """All events were read, and no more will come."""
