//! What is encoded and waits for the socket, a lane for each priority.

use std::collections::VecDeque;

use bytes::Bytes;

use super::sieve::{Discarded, Extent, Sieve, each_frame};
use super::{Payload, Priority};
use crate::id::ChannelId;
use crate::proto::frame::{Control, MAX_DATA, WORD, Word};
use crate::proto::segment::{Segment, Spare};

/// A shared payload above this size is referred to instead of copied.
pub(super) const COPY: usize = 4096;
/// A full segment; a frame of any size fits.
const SEGMENT: usize = 64 * 1024 + WORD;
/// The first segment of a lane that was empty: a single small message should not hold a full one.
const FIRST_SEGMENT: usize = 2048;

#[derive(Debug, Default)]
struct Lane {
    full: VecDeque<Segment>,
    /// The segment that the next frame is appended to.
    open: Vec<u8>,
    /// What was taken back: so many bytes count as out once the lane is out up to a position.
    drops: VecDeque<(u64, u64)>,
    /// The sum of their bytes.
    dropped: u64,
    /// Bytes in the lane.
    queued: usize,
    /// Bytes that were ever taken out.
    taken: u64,
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.full.is_empty()
    }

    /// Room for `len` more bytes at the end of the lane, in a segment of about `longest` at most.
    fn room(&mut self, len: usize, longest: usize, spare: &mut impl Spare) -> &mut Vec<u8> {
        if self.open.capacity() - self.open.len() < len || self.open.len() >= longest {
            let next = if self.is_empty() { len.max(FIRST_SEGMENT) } else { len.max(SEGMENT) };
            self.seal();
            self.open = spare.take(next);
        }
        &mut self.open
    }

    /// What was taken back before the position that the lane is out to counts as out.
    #[cold]
    fn pass_drops(&mut self) {
        while let Some((at, bytes)) = self.drops.front().copied().filter(|(at, _)| *at <= self.taken) {
            debug_assert!(at <= self.taken);
            self.drops.pop_front();
            self.taken += bytes;
            self.dropped -= bytes;
        }
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.full.push_back(Segment::Frames(std::mem::take(&mut self.open)));
        }
    }
}

/// What was taken back from a lane, while it is walked through.
struct Drops {
    old: VecDeque<(u64, u64)>,
    new: VecDeque<(u64, u64)>,
    /// The position that the walk has come to.
    at: u64,
}

impl Drops {
    /// The next segment had `before` bytes and keeps so many of them. What went counts at its end.
    fn pass(&mut self, before: usize, left: usize) {
        let mut end = self.at + before as u64;
        let mut gone = (before - left) as u64;
        while let Some((_, bytes)) = self.old.front().copied().filter(|(at, _)| *at <= end) {
            self.old.pop_front();
            end += bytes;
            gone += bytes;
        }
        if gone > 0 {
            self.new.push_back((end - gone, gone));
        }
        self.at = end;
    }
}

/// The lanes of a connection. A position in a lane is how many bytes ever entered it before; what was
/// taken back counts until what stood behind it goes out.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: [Lane; 2],
    /// The longest payload of a frame: less than the protocol allows on a slow link.
    longest: usize,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self { lanes: Default::default(), longest: MAX_DATA }
    }

    pub(super) fn limit_frames(&mut self, longest: usize) {
        self.longest = longest.min(MAX_DATA);
    }

    #[inline]
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    #[inline]
    pub(super) fn queued(&self, priority: Priority) -> usize {
        self.lanes[priority as usize].queued
    }

    pub(super) fn all_queued(&self) -> usize {
        self.lanes.iter().map(|lane| lane.queued).sum()
    }

    /// Memory held: the capacities, not only the bytes.
    pub(super) fn memory(&self) -> usize {
        let held = self.lanes.iter().map(|lane| {
            let full = lane.full.iter().map(Segment::memory).sum::<usize>();
            full + lane.full.capacity() * size_of::<Segment>() + lane.open.capacity()
        });
        held.sum()
    }

    /// The position behind all that has entered a lane.
    #[inline]
    pub(super) fn end(&self, priority: Priority) -> u64 {
        let lane = &self.lanes[priority as usize];
        lane.taken + lane.queued as u64 + lane.dropped
    }

    /// Returns `true` if everything before a position was taken out.
    pub(super) fn has_passed(&self, priority: Priority, position: u64) -> bool {
        self.lanes[priority as usize].taken >= position
    }

    pub(super) fn ends(&self) -> [u64; 2] {
        [Priority::Urgent, Priority::Normal].map(|priority| self.end(priority))
    }

    pub(super) fn have_passed(&self, positions: [u64; 2]) -> bool {
        self.lanes.iter().zip(positions).all(|(lane, position)| lane.taken >= position)
    }

    /// Appends a small frame to the segment at hand. `false`: there is no room, and nothing was
    /// done.
    #[inline]
    pub(super) fn push_quickly(&mut self, id: ChannelId, priority: Priority, payload: &[u8]) -> bool {
        let lane = &mut self.lanes[priority as usize];
        let open = &mut lane.open;
        let len = payload.len();
        if open.capacity() - open.len() < WORD + len || open.len() >= self.longest {
            return false;
        }
        lane.queued += WORD + len;
        open.extend_from_slice(&Word::data(id, false, len).to_bytes());
        open.extend_from_slice(payload);
        true
    }

    pub(super) fn push_data(
        &mut self,
        id: ChannelId,
        priority: Priority,
        more: bool,
        payload: Payload<'_>,
        spare: &mut impl Spare,
    ) {
        let len = payload.as_slice().len();
        let word = Word::data(id, more, len).to_bytes();
        let longest = self.longest;
        let lane = &mut self.lanes[priority as usize];
        match payload {
            Payload::Shared(bytes) if len > COPY => {
                lane.seal();
                lane.full.push_back(Segment::Large { word, payload: Bytes::clone(bytes) });
            }
            _ => {
                let room = lane.room(WORD + len, longest, spare);
                room.extend_from_slice(&word);
                room.extend_from_slice(payload.as_slice());
            }
        }
        lane.queued += WORD + len;
    }

    pub(super) fn push_control(&mut self, priority: Priority, control: &Control, spare: &mut impl Spare) {
        let longest = self.longest;
        let lane = &mut self.lanes[priority as usize];
        let room = lane.room(32, longest, spare);
        let before = room.len();
        control.encode(room);
        let bytes = room.len() - before;
        lane.queued += bytes;
    }

    /// Moves segments out: all that is urgent, and of the rest about `most` bytes; how many bytes
    /// that was.
    pub(super) fn take(&mut self, most: usize, out: &mut VecDeque<Segment>) -> usize {
        let mut all = 0;
        for (lane, most) in self.lanes.iter_mut().zip([usize::MAX, most]) {
            let mut taken = 0;
            while taken < most {
                let segment = match lane.full.pop_front() {
                    Some(segment) => segment,
                    None if lane.open.is_empty() => break,
                    None => Segment::Frames(std::mem::take(&mut lane.open)),
                };
                taken += segment.len();
                out.push_back(segment);
            }
            lane.queued -= taken;
            lane.taken += taken as u64;
            if !lane.drops.is_empty() {
                lane.pass_drops();
            }
            all += taken;
        }
        all
    }

    /// Takes back the newest whole messages of a channel that stand behind the last end of a run, at most so
    /// many, and the gaps among them. The first message stays, since some of it may be out.
    pub(super) fn discard(
        &mut self,
        id: ChannelId,
        priority: Priority,
        most: u64,
        freed: &mut Vec<Bytes>,
    ) -> Discarded {
        let lane = &mut self.lanes[priority as usize];
        let mut extent = Extent::default();
        for segment in &lane.full {
            let [first, _] = segment.parts();
            match segment {
                Segment::Frames(bytes) => each_frame(bytes, |frame| extent.see(id, frame)),
                Segment::Large { .. } => extent.see(id, first),
            }
        }
        each_frame(&lane.open, |frame| extent.see(id, frame));
        let mut sieve = Sieve::new(id, &extent, most);
        let mut drops = Drops { old: std::mem::take(&mut lane.drops), new: VecDeque::new(), at: lane.taken };
        lane.full.retain_mut(|segment| {
            let before = segment.len();
            let left = match segment {
                Segment::Frames(bytes) => {
                    sieve.sift(bytes);
                    bytes.len()
                }
                Segment::Large { word, .. } if sieve.keeps(&*word) => before,
                Segment::Large { payload, .. } => {
                    freed.push(payload.clone());
                    0
                }
            };
            drops.pass(before, left);
            left > 0
        });
        let before = lane.open.len();
        sieve.sift(&mut lane.open);
        drops.pass(before, lane.open.len());
        lane.drops = drops.new;
        let dropped = lane.drops.iter().map(|(_, bytes)| bytes).sum::<u64>();
        lane.queued -= (dropped - lane.dropped) as usize;
        lane.dropped = dropped;
        sieve.taken()
    }

    /// Drops all that waits. Positions stay valid: what is dropped counts as taken.
    pub(super) fn clear(&mut self, freed: &mut Vec<Bytes>) {
        for lane in &mut self.lanes {
            lane.taken += lane.queued as u64 + lane.dropped;
            lane.drops = VecDeque::new();
            (lane.queued, lane.dropped) = (0, 0);
            freed.extend(std::mem::take(&mut lane.full).into_iter().filter_map(Segment::into_payload));
            lane.open = Vec::new();
        }
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use super::*;
    use crate::proto::segment::Fresh;

    #[test]
    fn what_waits_counts_with_the_buffers_that_it_is_in() {
        let mut lanes = Lanes::new();
        let id = ChannelId::new(1);
        for count in 1..=5 {
            lanes.push_data(id, Priority::Normal, false, Payload::Slice(&[7; 4000]), &mut Fresh);
            assert_eq!(lanes.all_queued(), count * 4004);
        }
        // The first filled a buffer, the others share one of the full size.
        let held = lanes.memory();
        assert!((4004 + SEGMENT..4004 + SEGMENT + 4096).contains(&held), "{held}");
    }
}
