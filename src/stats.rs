//! Counts of a connection.

use std::time::Duration;

use crate::id::ChannelId;

/// Counts of a connection since it began; see [`Connection::stats`](crate::Connection::stats).
///
/// ```
/// use trunkline::{ChannelId, Config, Connection, Key};
///
/// let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// here.sender(ChannelId::new(1))?.send("three")?;
/// here.flush()?;
/// let stats = there.stats();
/// assert_eq!((stats.messages_received, stats.channels[0].unread_bytes), (1, 5));
/// assert_eq!(stats.held.unread, 5 + 32); // as it counts in the account
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The channels that were used, in ascending order.
    pub channels: Vec<ChannelStats>,
    /// Messages sent, on all channels.
    pub messages_sent: u64,
    /// Messages received, on all channels.
    pub messages_received: u64,
    /// Bytes of the frame stream written to sockets, headers and control frames included.
    pub bytes_written: u64,
    /// Bytes of the frame stream read from sockets.
    pub bytes_read: u64,
    /// Bytes in the send queue.
    pub queued: u64,
    /// What the connection holds.
    pub held: Held,
    /// The round trip that was measured last.
    pub rtt: Option<Duration>,
    /// How often another thread had to wake the connection's I/O thread, which serves all of its
    /// connections.
    pub wakes: u64,
    /// Calls that read from the socket.
    pub reads: u64,
    /// Calls that wrote to the socket.
    pub writes: u64,
    /// Sealed sockets that were given up because something on the way had changed what they carried.
    pub tampered: u64,
}

/// What a connection holds, in bytes, by kind; see [`Stats::held`].
///
/// It is what the peer can make this side hold, and the sum is bounded: see [the
/// design](crate::docs::design#what-is-bounded-and-by-what).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// Whole messages that the application has not read; each counts its length + 32. What a receiver has
    /// taken counts until it reports it, which it does by half a window at the latest.
    pub unread: u64,
    /// What has come of messages and frames that are not complete.
    pub unfinished: u64,
    /// Encoded frames, and sealed records, that wait for the socket, with the buffers that they are in; and
    /// records that have not come whole.
    pub queued: u64,
    /// Messages that were accepted and wait for credit, or for a peer that was never there.
    pub waiting: u64,
    /// Buffers that were taken for the socket and that the peer has not acknowledged, as they are
    /// allocated.
    pub replay: u64,
}

impl Held {
    /// Returns the sum of all kinds.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.unread + self.unfinished + self.queued + self.waiting + self.replay
    }
}

/// Counts of one channel, both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// The channel.
    pub channel: ChannelId,
    /// Messages sent: accepted by `send`.
    pub messages_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Bytes that were accepted and wait for credit.
    pub staged: u64,
    /// Credit: bytes that may still be sent, where each frame costs its length + 32 (protocol, section 3).
    pub send_credit: u32,
    /// Messages received, whole.
    pub messages_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Messages received and not taken by the application yet.
    pub unread: u64,
    /// Their bytes.
    pub unread_bytes: u64,
    /// Credit that the peer has left, in the same unit.
    pub receive_credit: u32,
}

impl ChannelStats {
    pub(crate) fn new(channel: ChannelId) -> Self {
        Self {
            channel,
            messages_sent: 0,
            bytes_sent: 0,
            staged: 0,
            send_credit: 0,
            messages_received: 0,
            bytes_received: 0,
            unread: 0,
            unread_bytes: 0,
            receive_credit: 0,
        }
    }
}
