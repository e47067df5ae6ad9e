//! What frames come to: what they ask for, what they did to runs, and what handling them cost.

use crate::error::CloseCode;
use crate::id::{ChannelId, ChannelSet};
use crate::proto::frame::MAX_FRAME_BUDGET;

/// What arrived for others than the receive queues. All of it is state that is merged, not a
/// queue: a peer that repeats itself makes it no larger (trap 7).
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) credits: Vec<(ChannelId, u32)>,
    pub(crate) stops: Vec<Stop>,
    pub(crate) ping: Option<u64>,
    pub(crate) pong: Option<u64>,
    pub(crate) ack: Option<u64>,
    pub(crate) close: Option<(CloseCode, String)>,
    pub(crate) interrupt: bool,
    /// Readers of the peer's that wait, or no longer.
    pub(crate) waiting: Vec<Waiting>,
}

/// The peer, or this side, wants no more of one run of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stop {
    pub(crate) channel: ChannelId,
    pub(crate) code: u32,
    pub(crate) run: u32,
}

/// A reader is blocked on a channel, or no longer, after so many messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    pub(crate) channel: ChannelId,
    pub(crate) waiting: bool,
    pub(crate) count: u32,
}

/// The runs of all channels, as far as they were received.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// Channels with a run that has begun and not ended.
    pub(crate) open: ChannelSet,
    /// How many runs have ended, of channels where one did since the last call.
    pub(crate) ended: Vec<(ChannelId, u32)>,
}

/// What the application took from a channel since it last said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) channel: ChannelId,
    pub(crate) cost: u32,
    pub(crate) messages: u32,
    /// Gaps and ends that cost no credit.
    pub(crate) free_notes: u32,
}

impl Taken {
    pub(crate) fn none(channel: ChannelId) -> Self {
        Self { channel, cost: 0, messages: 0, free_notes: 0 }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.cost = self.cost.saturating_add(more.cost);
        self.messages += more.messages;
        self.free_notes += more.free_notes;
    }

    /// Adds it to the last entry of a list, if that is of the same channel.
    pub(crate) fn add_to(self, list: &mut Vec<Self>) {
        match list.last_mut() {
            Some(last) if last.channel == self.channel => last.add(self),
            _ => list.push(self),
        }
    }
}

/// How many frames a call may still handle. One peer that sends tiny frames must not keep others
/// waiting, so they count, the costly ones more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget(pub(super) u32);

impl Budget {
    /// About half a millisecond of work.
    pub(crate) const fn pass() -> Self {
        Self(MAX_FRAME_BUDGET)
    }
    /// What a frame counts that is not a small whole message.
    pub(super) const CAREFUL: u32 = 8;

    pub(crate) fn is_spent(self) -> bool {
        self.0 == 0
    }

    pub(super) fn spend(&mut self, frames: u32) {
        self.0 = self.0.saturating_sub(frames);
    }
}

/// What the peer may do, as the handshake settled it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerRights {
    pub(crate) send: ChannelSet,
    pub(crate) receive: ChannelSet,
    pub(crate) interrupt: bool,
}
