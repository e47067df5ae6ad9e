//! How much of a channel is kept.

use std::fmt;

use trunkline::ChannelId;

use crate::Snapshot;

/// What a hub keeps of the channels of a [`broadcast`](crate::Hub::broadcast).
pub struct History {
    pub(crate) bound: u64,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Bytes,
    Nothing,
    Snapshot(Box<dyn FnMut(ChannelId) -> Box<dyn Snapshot>>),
}

/// What clients may lag by where nothing is kept for those that join.
const LAG: u64 = 1 << 20;
/// What clients may lag by behind a snapshot.
const BEHIND_SNAPSHOT: u64 = 4 << 20;

impl History {
    /// Keeps so many bytes of all channels together, the newest, where a message counts as its length + 32. A client that
    /// joins gets them, and one that is slower may lag by so much. The newest message stays, whatever its size.
    #[must_use]
    pub fn bytes(bytes: usize) -> Self {
        Self { bound: bytes as u64, kind: Kind::Bytes }
    }

    /// Keeps nothing for clients that join. One that is slower may lag by 1 MiB.
    #[must_use]
    pub fn none() -> Self {
        Self { bound: LAG, kind: Kind::Nothing }
    }

    /// Keeps for each channel a snapshot of what came, with which a client begins that joins or that has lost something.
    /// `snapshot` makes one for each channel. One that is slower may lag by 4 MiB.
    ///
    /// A client reads a reset (code 0) before a snapshot that stands for something that it has lost, then the gap.
    #[must_use]
    pub fn snapshot(snapshot: impl FnMut(ChannelId) -> Box<dyn Snapshot> + 'static) -> Self {
        Self { bound: BEHIND_SNAPSHOT, kind: Kind::Snapshot(Box::new(snapshot)) }
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("bound", &self.bound).finish_non_exhaustive()
    }
}
