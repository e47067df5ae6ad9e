//! A channel that is sent on.

use std::collections::VecDeque;

use bytes::Bytes;

use super::payload::Priority;
use crate::id::ChannelId;
use crate::proto::credit::Credit;
use crate::proto::frame::End;

/// What was accepted on a channel and is not in a lane, in order.
#[derive(Debug)]
pub(super) enum Item {
    Message(Bytes),
    /// What is left of a message whose first fragments are in a lane.
    Rest(Bytes),
    End(End),
    Gap {
        messages: u64,
        bytes: u64,
    },
}

/// Why the fast path is closed for a channel, as bits.
pub(super) mod gate {
    /// Something that was accepted waits.
    pub(in crate::proto::outbound) const WAITING: u8 = 1;
    /// Senders stand in line.
    pub(in crate::proto::outbound) const LINE: u8 = 2;
    /// Something goes ahead of the next message: a RESET that is owed, or a gap.
    pub(in crate::proto::outbound) const AHEAD: u8 = 4;
}

/// What goes ahead of a channel's next message, or goes out by itself when something is taken, in
/// this order.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The peer stopped the next run before it began: it is reset before it begins.
    pub(super) reset: Option<u32>,
    /// What was left out.
    pub(super) gap: Option<(u64, u64)>,
    /// The end of a run, which stands for all empty ones before it that were too many.
    pub(super) end: Option<End>,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    pub(super) credit: Credit,
    pub(super) lane: Priority,
    pub(super) gate: u8,
    pub(super) waiting: VecDeque<Item>,
    /// Items that ever waited, and those that went on.
    pub(super) waited: u64,
    pub(super) followed: u64,
    pub(super) ahead: Ahead,
    /// Ends and gaps at the end of what is in the lane, or waits.
    pub(super) notes: u32,
    /// A run has begun and not ended.
    pub(super) open: bool,
    /// The ends that entered a lane, modulo 2³²: the number of the newest run.
    pub(super) runs: u32,
    /// The senders that are there now have ended a run and sent nothing after it.
    pub(super) ended: bool,
    /// Counts the runs that the peer stopped: a sender belongs to one value of it.
    pub(super) generation: u32,
    pub(super) stop_code: u32,
    pub(super) senders: u32,
    /// The position of the channel's last bytes in its lane.
    pub(super) last_pushed: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// A reader of the peer's waits, after so many messages.
    pub(super) peer_waiting: Option<u32>,
}

impl Channel {
    pub(super) fn new(id: ChannelId, credit: Credit) -> Self {
        Self {
            id,
            credit,
            lane: Priority::default(),
            gate: 0,
            waiting: VecDeque::new(),
            waited: 0,
            followed: 0,
            ahead: Ahead::default(),
            notes: 0,
            open: false,
            runs: 0,
            ended: false,
            generation: 0,
            stop_code: 0,
            senders: 0,
            last_pushed: 0,
            messages: 0,
            bytes: 0,
            peer_waiting: None,
        }
    }

    /// Nothing of the channel waits but the reset of a run that the peer stopped before it began: that
    /// goes ahead of the next message, in whatever lane.
    pub(super) fn owes_a_reset_alone(&self) -> bool {
        self.gate == gate::AHEAD && matches!(self.ahead, Ahead { reset: Some(_), gap: None, end: None })
    }

    #[inline]
    pub(super) fn began(&mut self, bytes: usize) {
        self.open = true;
        self.ended = false;
        self.notes = 0;
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    /// Bytes that were accepted and wait.
    pub(super) fn staged(&self) -> u64 {
        self.waiting.iter().map(Item::len).sum::<usize>() as u64
    }
}

/// Counts of one channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) channel: ChannelId,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) credit: u32,
    pub(crate) staged: u64,
}

impl Item {
    pub(super) fn into_payload(self) -> Option<Bytes> {
        match self {
            Self::Message(bytes) | Self::Rest(bytes) => Some(bytes),
            Self::End(_) | Self::Gap { .. } => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Message(bytes) | Self::Rest(bytes) => bytes.len(),
            Self::End(_) | Self::Gap { .. } => 0,
        }
    }
}

/// So many notes in a row are told each by itself (protocol, section 3).
pub(super) const MOST: u32 = 16;

pub(super) fn sum(gap: Option<(u64, u64)>, messages: u64, bytes: u64) -> (u64, u64) {
    let (m, b) = gap.unwrap_or_default();
    (m.saturating_add(messages), b.saturating_add(bytes))
}
