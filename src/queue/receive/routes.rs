//! Where the messages of each channel go, as the I/O thread knows it.

use crate::id::{ChannelId, ChannelSet};

/// Where messages wait whose channel has no receiver.
pub(crate) const UNCLAIMED: u8 = 0;

/// The I/O thread's copy of where channels go.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(super) version: Option<u32>,
    pub(super) table: [u8; ChannelId::COUNT],
    /// The open runs that were handed over last.
    pub(super) open: ChannelSet,
}

impl Default for Routes {
    fn default() -> Self {
        Self { version: None, table: [UNCLAIMED; ChannelId::COUNT], open: ChannelSet::EMPTY }
    }
}
