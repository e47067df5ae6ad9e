//! What is offered to the sending half, and what it says to that.

use bytes::Bytes;

/// Which messages go first; see [`Connection::sender_with`](crate::Connection::sender_with).
///
/// Within a priority, messages go in the order in which they were sent, across all channels.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key, Priority};
/// const CONTROL: ChannelId = ChannelId::new(3);
/// let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let control = here.sender_with(CONTROL, Priority::Urgent)?;
/// control.send("interrupt")?;
/// assert_eq!(&*there.receiver(CONTROL)?.recv()?, b"interrupt");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Priority {
    /// Ahead of all normal messages that still wait: for control, and for answers that a person waits for.
    Urgent,
    /// In the order in which it was sent, behind what is urgent.
    #[default]
    Normal,
}

/// A message that is offered.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    Slice(&'a [u8]),
    Shared(&'a Bytes),
}

impl Payload<'_> {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Slice(slice) => slice,
            Self::Shared(bytes) => bytes,
        }
    }

    pub(super) fn slice(&self, from: usize, to: usize) -> Payload<'_> {
        Payload::Slice(&self.as_slice()[from..to])
    }

    pub(super) fn to_bytes(self, from: usize) -> Bytes {
        match self {
            Self::Slice(slice) => Bytes::copy_from_slice(&slice[from..]),
            Self::Shared(bytes) => bytes.slice(from..),
        }
    }
}

/// Why a message was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// The channel has too little credit, or an earlier message is not all out.
    Credit,
    /// The lanes hold as much as they may.
    QueueFull,
    /// The message is larger than the peer takes.
    TooLarge(u32),
    /// The peer stopped the run that this sender belongs to.
    Stopped(u32),
}

/// The peer stopped the run that a sender belongs to, with this code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stopped(pub(crate) u32);
