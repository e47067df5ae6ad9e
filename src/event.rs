//! What a connection tells its application outside the channels.

use crate::error::ConnectionError;
use crate::id::ChannelId;

/// Something that happened on a connection outside its channels; see
/// [`Connection::events`](crate::Connection::events).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The peer sends on a channel that has no [`Receiver`](crate::Receiver) yet. What it sent waits. Told
    /// once, until the channel gets a receiver.
    Opened(ChannelId),
    /// The peer asks this side to interrupt what it computes (the protocol's INTERRUPT). Interrupts that
    /// were not read merge into one.
    Interrupt,
    /// A reader of the peer's is blocked on this channel with nothing to read, or no longer is (the
    /// protocol's WAITING). Of each channel only the newest state is told.
    Waiting {
        /// The channel.
        channel: ChannelId,
        /// `true` if the reader waits.
        waiting: bool,
        /// How many messages of the channel the peer had received by then in this session, modulo 2³².
        taken: u32,
    },
    /// The peer wants no more of a run that this side sends on a channel: its receiver was dropped or
    /// stopped (the protocol's STOP). Sends of that run fail with
    /// [`Disconnect::Stopped`](crate::Disconnect::Stopped). Of each channel only the newest stop is told.
    Stopped {
        /// The channel.
        channel: ChannelId,
        /// The peer's code.
        code: u32,
    },
    /// The socket is lost, and the connection waits for another. Calls stay blocked and what is sent waits.
    /// [`Resumed`](Event::Resumed) or [`Closed`](Event::Closed) follows. Of outages that were not read only
    /// the last is told.
    Suspended {
        /// Why the socket was given up.
        cause: ConnectionError,
    },
    /// There is a socket again, and everything goes on where it was. Or there is the first one, after
    /// [`Connection::connect_lazily`](crate::Connection::connect_lazily).
    Resumed {
        /// How long there was no socket.
        after: std::time::Duration,
        /// How many attempts the client needed; on a listener's side, how many reached it.
        attempts: u32,
    },
    /// The connection is over, with this cause. Nothing follows.
    Closed(ConnectionError),
}
