//! What a connection tells its application outside the channels.

use crate::error::ConnectionError;
use crate::id::ChannelId;

/// Something that happened on a connection; see [`Connection::events`](crate::Connection::events).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The peer sends on a channel that has no [`Receiver`](crate::Receiver) yet. What it sent
    /// waits; told once, until the channel gets a receiver.
    Opened(ChannelId),
    /// The peer asks to interrupt what is being computed (the protocol's INTERRUPT).
    Interrupt,
    /// A reader of the peer's is blocked on this channel with nothing to read, or no longer (the
    /// protocol's WAITING).
    Waiting {
        /// The channel.
        channel: ChannelId,
        /// Whether it waits.
        waiting: bool,
        /// How many messages of the channel the peer had received by then, modulo 2³².
        taken: u32,
    },
    /// The socket was lost; the connection waits for another. Calls stay blocked and what is sent
    /// waits. [`Resumed`](Event::Resumed) or [`Closed`](Event::Closed) follows.
    Suspended {
        /// Why the socket was given up.
        cause: ConnectionError,
    },
    /// There is a socket again, and everything goes on where it was; or there is the first, after
    /// [`Connection::connect_lazily`](crate::Connection::connect_lazily).
    Resumed {
        /// How long there was none.
        after: std::time::Duration,
        /// How many attempts it took; on a listener's side, how many it saw.
        attempts: u32,
    },
    /// The connection is over; nothing follows.
    Closed(ConnectionError),
}
