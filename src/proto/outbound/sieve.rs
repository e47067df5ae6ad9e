//! Which frames of a channel can be taken back from a lane, and taking them.

use super::channel::sum;
use crate::id::ChannelId;
use crate::proto::credit::cost;
use crate::proto::frame::{Control, WORD, Word};

/// What was taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Discarded {
    pub(crate) messages: u64,
    /// Of their payloads.
    pub(crate) bytes: u64,
    /// Credit that they had taken.
    pub(super) cost: u32,
    /// What earlier gaps among them tell of.
    pub(super) gap: Option<(u64, u64)>,
    /// The rest of the last message is not in the lane.
    pub(super) torn: bool,
    /// Notes behind the last data that stays.
    pub(super) notes: u32,
}

impl Discarded {
    pub(super) fn add(&mut self, len: usize, whole: bool) {
        self.messages += u64::from(whole);
        self.bytes += len as u64;
        self.cost += cost(len);
    }

    /// The gap that tells of it and of what earlier ones told.
    pub(super) fn gap_with_earlier(&self) -> Option<(u64, u64)> {
        if self.messages == 0 { self.gap } else { Some(sum(self.gap, self.messages, self.bytes)) }
    }
}

/// Calls `see` with each frame of a buffer.
pub(super) fn each_frame(mut bytes: &[u8], mut see: impl FnMut(&[u8])) {
    while let Some(word) = Word::first_of(bytes) {
        let (frame, rest) = bytes.split_at(WORD + word.len());
        see(frame);
        bytes = rest;
    }
}

/// Which of a channel's frames can be taken back, by their number.
#[derive(Clone, Debug, Default)]
pub(super) struct Extent {
    frames: usize,
    /// From here on messages are whole and belong to the newest run.
    from: usize,
    /// What comes from here on begins a message.
    fresh: bool,
    /// The last data frame was not the last of its message.
    within: bool,
    /// The first frames of messages.
    starts: Vec<usize>,
}

impl Extent {
    pub(super) fn see(&mut self, id: ChannelId, frame: &[u8]) {
        let Some(word) = Word::first_of(frame).filter(|word| word.channel() == id) else { return };
        self.frames += 1;
        if !word.is_control() && !std::mem::replace(&mut self.within, word.has_more()) {
            self.starts.push(self.frames - 1);
        }
        if word.is_control() {
            self.fresh |= self.frames == 1;
            if !is_gap(word, frame) {
                (self.from, self.fresh) = (self.frames, true);
            }
        } else if !word.has_more() && !std::mem::replace(&mut self.fresh, true) {
            self.from = self.frames;
        }
    }
}

fn is_gap(word: Word, frame: &[u8]) -> bool {
    matches!(Control::decode(word.channel(), &frame[WORD..]), Ok(Control::Gap { .. }))
}

/// Takes them back.
pub(super) struct Sieve {
    id: ChannelId,
    /// The first frame that may go.
    from: usize,
    seen: usize,
    taken: Discarded,
}

impl Sieve {
    /// Takes back the newest messages, at most so many.
    pub(super) fn new(id: ChannelId, extent: &Extent, most: u64) -> Self {
        let from = if extent.fresh { extent.from } else { extent.frames };
        let may_go = &extent.starts[extent.starts.partition_point(|start| *start < from)..];
        let stay = may_go.len().saturating_sub(usize::try_from(most).unwrap_or(usize::MAX));
        let from = match may_go.get(stay) {
            // Notes between those that stay stay too.
            Some(start) if stay > 0 => *start,
            None if stay > 0 => extent.frames,
            _ => from,
        };
        Self { id, from, seen: 0, taken: Discarded::default() }
    }

    pub(super) fn taken(self) -> Discarded {
        self.taken
    }

    /// Returns `true` if a frame stays; of a large one it needs the word alone.
    pub(super) fn keeps(&mut self, frame: &[u8]) -> bool {
        let Some(word) = Word::first_of(frame).filter(|word| word.channel() == self.id) else { return true };
        let number = self.seen;
        self.seen += 1;
        let may_go = number >= self.from;
        if !word.is_control() {
            if may_go {
                self.taken.add(word.len(), !word.has_more());
                self.taken.torn = word.has_more();
            } else {
                self.taken.notes = 0;
            }
            return !may_go;
        }
        if may_go && let Ok(Control::Gap { messages, bytes, .. }) = Control::decode(self.id, &frame[WORD..]) {
            self.taken.gap = Some(sum(self.taken.gap, messages, bytes));
            return false;
        }
        self.taken.notes += 1;
        true
    }

    pub(super) fn sift(&mut self, bytes: &mut Vec<u8>) {
        let (mut from, mut to) = (0, 0);
        while let Some(word) = Word::first_of(&bytes[from..]) {
            let len = WORD + word.len();
            if self.keeps(&bytes[from..from + len]) {
                bytes.copy_within(from..from + len, to);
                to += len;
            }
            from += len;
        }
        bytes.truncate(to);
    }
}
