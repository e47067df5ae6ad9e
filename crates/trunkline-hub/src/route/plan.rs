//! Which channel takes which route.

use std::ops::RangeInclusive;
use std::time::Duration;

use trunkline::{ChannelId, ChannelSet};

/// Where a channel goes that clients send on.
#[derive(Clone, Copy)]
pub(crate) enum Up {
    /// Clients do not send here.
    Refused,
    Input,
    /// Each message is judged by the judge of this place.
    Shared(usize),
    Private,
    Roster,
    /// The caller's own affair.
    Aside,
}

/// What the caller has chosen.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How long an owner that is away keeps the input for itself.
    pub(crate) owner_grace: Duration,
    pub(crate) pass_end_of_input: bool,
    pub(crate) wait_for_owner: bool,
    /// How many bytes of answers a client may leave unread in the hub.
    pub(crate) unread_answers: usize,
    /// How long clients get what is left once upstream is over.
    pub(crate) linger: Duration,
}

/// The routes of all channels.
pub(crate) struct Plan {
    /// The slot in the log of a channel that upstream sends on.
    pub(crate) down: [Option<u8>; ChannelId::COUNT],
    pub(crate) up: Vec<Up>,
    pub(crate) input: Option<ChannelId>,
    pub(crate) private: Option<ChannelId>,
    /// The private channels upstream.
    pub(crate) pool: ChannelSet,
    pub(crate) roster: Option<ChannelId>,
    /// What the hub's own connection may send, and whether it may interrupt.
    pub(crate) may_send: ChannelSet,
    pub(crate) may_interrupt: bool,
    pub(crate) settings: Settings,
}

impl Plan {
    pub(crate) fn up(&self, channel: ChannelId) -> &Up {
        &self.up[usize::from(channel.get())]
    }

    pub(crate) fn slot(&self, channel: ChannelId) -> Option<usize> {
        self.down[usize::from(channel.get())].map(usize::from)
    }
}

/// The channels of a range of numbers, as far as they exist.
pub(crate) fn channels(range: RangeInclusive<u8>) -> ChannelSet {
    range.filter_map(|number| ChannelId::try_from(number).ok()).collect()
}
