"""What happens on a connection or at a listener, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ._errors import ConnectionLost, HandshakeError

if TYPE_CHECKING:
    from ._trunkline import Access


class Event:
    """What happens on a connection outside its channels, from `Connection.events()`.

    Each is a class in here, so `match` works: `case Event.Opened(channel): …`.
    """

    @dataclass(frozen=True, slots=True)
    class Opened:
        """The peer sends on a channel that has no receiver yet. What it sent waits."""

        channel: int

    @dataclass(frozen=True, slots=True)
    class Interrupt:
        """The peer asks this side to interrupt what it computes."""

    @dataclass(frozen=True, slots=True)
    class Waiting:
        """A reader of the peer's waits with nothing to read, or no longer does."""

        channel: int
        waiting: bool
        taken: int
        """How many messages of the channel the peer had received by then, modulo 2³²."""

    @dataclass(frozen=True, slots=True)
    class Stopped:
        """The peer wants no more of a run that this side sends."""

        channel: int
        code: int

    @dataclass(frozen=True, slots=True)
    class Suspended:
        """The socket is lost, and the connection waits for another."""

        cause: ConnectionLost

    @dataclass(frozen=True, slots=True)
    class Resumed:
        """There is a socket again."""

        after: float
        """How long there was none, in seconds."""
        attempts: int

    @dataclass(frozen=True, slots=True)
    class Closed:
        """The connection is over. Nothing follows."""

        cause: ConnectionLost

    @dataclass(frozen=True, slots=True)
    class Other:
        """Something that this version of the package does not know."""

        text: str

    Any: TypeAlias = Opened | Interrupt | Waiting | Stopped | Suspended | Resumed | Closed | Other


class ListenerEvent:
    """What happens at a listener beside the connections, from `Listener.events()`."""

    @dataclass(frozen=True, slots=True)
    class TurnedAway:
        """Peers were turned away, for this reason."""

        error: HandshakeError
        peers: int
        last: tuple[str, int] | None
        """The address of the last of them."""
        text: str

    @dataclass(frozen=True, slots=True)
    class AcceptFailed:
        """The system gave no socket for a client that connects."""

        reason: str
        text: str

    @dataclass(frozen=True, slots=True)
    class Closed:
        """The listener is closed. Nothing follows."""

        text: str

    @dataclass(frozen=True, slots=True)
    class Other:
        """Something that this version of the package does not know."""

        text: str

    Any: TypeAlias = TurnedAway | AcceptFailed | Closed | Other


class Received:
    """What `Receiver.recv_any()` returns beside messages."""

    @dataclass(frozen=True, slots=True)
    class Finished:
        """The peer has finished a run of this channel."""

        channel: int

    @dataclass(frozen=True, slots=True)
    class Reset:
        """The peer abandoned a run of this channel."""

        channel: int
        code: int

    @dataclass(frozen=True, slots=True)
    class Gap:
        """The peer left out so much at this place."""

        channel: int
        messages: int
        bytes: int

    Any: TypeAlias = Finished | Reset | Gap


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """Counts of one channel, both directions."""

    channel: int
    messages_sent: int
    bytes_sent: int
    staged: int
    """Bytes that were accepted and wait for credit."""
    send_credit: int
    messages_received: int
    bytes_received: int
    unread: int
    """Messages received and not taken yet."""
    unread_bytes: int
    receive_credit: int


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A client that a listener has, from `Listener.sessions()`."""

    access: Access
    """What the key that it has proved lets it do."""
    age: float
    """Seconds since it came first."""
    suspended: bool
    """Its socket is lost, and it may come back."""
    sealed: bool
    peer_addr: tuple[str, int] | None
    """Of its socket now."""
    peer_pid: int | None
    """The process at the other end of a Unix socket, if the system tells."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of a connection since it began."""

    channels: list[ChannelStats]
    messages_sent: int
    messages_received: int
    bytes_written: int
    bytes_read: int
    queued: int
    """Bytes in the send queue."""
    held: int
    """All that the connection holds, in bytes."""
    rtt: float | None
    """The round trip that was measured last, in seconds."""
    wakes: int
    reads: int
    writes: int


class CloseCode:
    """Why one side closed a connection: 0 to 6 are the protocol's, 256 and up the application's own."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL = 2
    MESSAGE_TOO_LARGE = 3
    NOT_PERMITTED = 4
    HEARTBEAT_LOST = 5
    SHUTTING_DOWN = 6
    PANICKED = 65535
    """The program of the other side failed: what it sent may not be all that it meant to send."""

    @staticmethod
    def application(number: int) -> int:
        """Returns the application's own code `number`, 0 to 65278."""
        if not 0 <= number < 65279:
            raise ValueError("an application's close code is 0 to 65278")
        return 256 + number
