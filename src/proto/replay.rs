//! What was sent and the peer may ask for again: the stream from the peer's last ACK on.
//!
//! Segments stay as they were taken from the send queue; what moves is a cursor. After a lost
//! socket the cursor goes back to where the peer says that it stands, perhaps in the middle of a
//! segment, and writing goes on from there.
//!
//! ```text
//!      base        acked           cursor    written             end
//!        |-----------|----------------|---------|-----------------|
//!          freed with   the peer may     written   taken, not
//!          its segment  ask for it       before    written yet
//! ```

use std::collections::VecDeque;

use super::segment::{Segment, Spare};

/// A segment that fills less of its buffer than this part is packed together with others once it
/// is written: a message of 16 bytes must not hold a buffer of 64 KiB until it is acknowledged.
const PACKED: usize = 4;
/// The least buffer to pack into.
const PACK: usize = 2048;

#[derive(Debug)]
pub(crate) struct Replay {
    segments: VecDeque<Segment>,
    /// What is written is kept; else it is freed at once.
    keep: bool,
    /// Offset of the first byte of the first segment.
    base: u64,
    /// The peer has told that it has everything before this.
    acked: u64,
    /// The offset of the next byte to write, its segment and its place in it.
    cursor: u64,
    index: usize,
    skip: usize,
    /// How far the cursor has ever been: the peer cannot have more.
    written: u64,
    end: u64,
}

impl Replay {
    pub(crate) fn new(keep: bool) -> Self {
        Self {
            segments: VecDeque::new(),
            keep,
            base: 0,
            acked: 0,
            cursor: 0,
            index: 0,
            skip: 0,
            written: 0,
            end: 0,
        }
    }

    /// Takes new segments: `fill` appends to the queue and returns the stream's new end.
    pub(crate) fn extend(&mut self, fill: impl FnOnce(&mut VecDeque<Segment>) -> u64) {
        self.end = fill(&mut self.segments);
        debug_assert_eq!(
            self.end - self.base,
            self.segments.iter().map(|segment| segment.len() as u64).sum::<u64>()
        );
    }

    /// Returns `true` if there is nothing to write.
    pub(crate) fn is_written(&self) -> bool {
        self.cursor == self.end
    }

    /// Bytes that the peer has not acknowledged, if they are kept at all.
    #[cfg(test)]
    pub(crate) fn unacknowledged(&self) -> u64 {
        if self.keep { self.end - self.acked } else { 0 }
    }

    /// What is to be written, from the cursor on: non-empty slices.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.skip;
        self.segments.range(self.index.min(self.segments.len())..).flat_map(Segment::parts).filter_map(
            move |part| {
                let skipped = skip.min(part.len());
                skip -= skipped;
                Some(&part[skipped..]).filter(|part| !part.is_empty())
            },
        )
    }

    /// So many bytes went into the socket.
    pub(crate) fn advance(&mut self, written: usize, spare: &mut impl Spare) {
        self.cursor += written as u64;
        self.written = self.written.max(self.cursor);
        self.skip += written;
        while let Some(segment) = self.segments.get(self.index) {
            let len = segment.len();
            if self.skip < len {
                break;
            }
            self.skip -= len;
            if self.keep {
                self.index += 1;
                self.pack(spare);
            } else {
                self.free_first(spare);
            }
        }
        if !self.keep {
            self.acked = self.base;
        }
    }

    /// Packs the last written segment, if it wastes memory.
    fn pack(&mut self, spare: &mut impl Spare) {
        let at = self.index - 1;
        let Some(Segment::Frames(small)) = self.segments.get(at) else { return };
        if small.len() * PACKED > small.capacity() {
            return;
        }
        if at > 0
            && let Some(Segment::Frames(before)) = self.segments.get(at - 1)
            && before.capacity() - before.len() >= small.len()
        {
            // It is among the last of what was written, so near the front or the back.
            let Some(Segment::Frames(small)) = self.segments.remove(at) else { return };
            self.index = at;
            if let Some(Segment::Frames(before)) = self.segments.get_mut(at - 1) {
                before.extend_from_slice(&small);
            }
            spare.put(small);
        } else if small.capacity() > PACK.max(small.len()) {
            let mut packed = spare.take(PACK.max(small.len()));
            packed.extend_from_slice(small);
            if let Some(Segment::Frames(small)) =
                self.segments.get_mut(at).map(|place| std::mem::replace(place, Segment::Frames(packed)))
            {
                spare.put(small);
            }
        }
    }

    /// The peer has everything before `offset`. More than was written it cannot have: then it has
    /// what was.
    pub(crate) fn acknowledge(&mut self, offset: u64, spare: &mut impl Spare) {
        if !self.keep {
            return;
        }
        self.acked = self.acked.max(offset.min(self.cursor));
        while self.index > 0
            && let Some(first) = self.segments.front()
            && self.base + first.len() as u64 <= self.acked
        {
            self.free_first(spare);
            self.index -= 1;
        }
    }

    fn free_first(&mut self, spare: &mut impl Spare) {
        if let Some(segment) = self.segments.pop_front() {
            self.base += segment.len() as u64;
            if let Segment::Frames(buffer) = segment {
                spare.put(buffer);
            }
        }
    }

    /// Returns `true` if the stream can go on at `offset`: not before what the peer had acknowledged, nor
    /// behind what it was ever sent.
    pub(crate) fn reaches(&self, offset: u64) -> bool {
        self.keep && (self.acked..=self.written).contains(&offset)
    }

    /// The peer stands at `offset`: the next byte to write is that one. Nothing happens, and it
    /// returns `false`, if the stream does not [reach](Replay::reaches) it.
    pub(crate) fn rewind(&mut self, offset: u64, spare: &mut impl Spare) -> bool {
        if !self.reaches(offset) {
            return false;
        }
        (self.cursor, self.index) = (offset, 0);
        let mut at = self.base;
        while let Some(segment) = self.segments.get(self.index)
            && at + segment.len() as u64 <= offset
        {
            at += segment.len() as u64;
            self.index += 1;
        }
        self.skip = (offset - at) as usize;
        self.acknowledge(offset, spare);
        true
    }

    /// All that the peer has not acknowledged, and its offset, if that is no more than `most` bytes.
    pub(crate) fn tail(&self, most: usize) -> Option<(u64, Vec<u8>)> {
        if !self.keep || self.end - self.acked > most as u64 {
            return None;
        }
        let parts = self.segments.iter().flat_map(Segment::parts).flatten();
        Some((self.acked, parts.skip((self.acked - self.base) as usize).copied().collect()))
    }

    /// Memory held: the capacities, not only the bytes.
    pub(crate) fn memory(&self) -> usize {
        let held = self.segments.iter().map(Segment::memory);
        held.sum::<usize>() + self.segments.capacity() * size_of::<Segment>()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::proto::segment::Fresh;

    /// The stream that the segments are pieces of: byte n is n.
    fn segment(from: &mut u64, len: usize, large: bool) -> Segment {
        let bytes: Vec<u8> = (*from..*from + len as u64).map(|n| n as u8).collect();
        *from += len as u64;
        if large && len > 4 {
            let word = [bytes[0], bytes[1], bytes[2], bytes[3]];
            return Segment::Large { word, payload: Bytes::copy_from_slice(&bytes[4..]) };
        }
        let mut buffer = Vec::with_capacity(len.max(2048));
        buffer.extend(bytes);
        Segment::Frames(buffer)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, bool),
        Write(usize),
        Ack(usize),
        Rewind(usize),
    }

    proptest! {
        /// Whatever is pushed, written, acknowledged and rewound: what comes out is the stream,
        /// from exactly where the cursor was put.
        #[test]
        fn it_goes_on_at_exactly_the_offset(steps in prop::collection::vec(prop_oneof![
            (1usize..3000, any::<bool>()).prop_map(|(len, large)| Step::Push(len, large)),
            (1usize..100, any::<bool>()).prop_map(|(len, large)| Step::Push(len, large)),
            (0usize..4000).prop_map(Step::Write),
            (0usize..5000).prop_map(Step::Ack),
            (0usize..5000).prop_map(Step::Rewind),
        ], 0..200)) {
            let mut replay = Replay::new(true);
            let (mut end, mut cursor, mut written, mut acked) = (0u64, 0u64, 0u64, 0u64);
            for step in steps {
                match step {
                    Step::Push(len, large) => replay.extend(|segments| {
                        segments.push_back(segment(&mut end, len, large));
                        end
                    }),
                    Step::Write(len) => {
                        let next: Vec<u8> = replay.unwritten().flatten().copied().take(len).collect();
                        prop_assert_eq!(next.len() as u64, (len as u64).min(end - cursor));
                        for byte in &next {
                            prop_assert_eq!(*byte, cursor as u8);
                            cursor += 1;
                        }
                        written = written.max(cursor);
                        replay.advance(next.len(), &mut Fresh);
                    }
                    Step::Ack(back) => {
                        let offset = written.saturating_sub(back as u64);
                        acked = acked.max(offset.min(cursor));
                        replay.acknowledge(offset, &mut Fresh);
                    }
                    Step::Rewind(back) => {
                        let offset = (written + 100).saturating_sub(back as u64);
                        let fits = offset >= acked && offset <= written;
                        prop_assert_eq!(replay.rewind(offset, &mut Fresh), fits);
                        if fits {
                            cursor = offset;
                            acked = offset;
                        }
                    }
                }
                prop_assert_eq!(replay.is_written(), cursor == end);
                prop_assert_eq!(replay.unacknowledged(), end - acked);
                let tail: Vec<u8> = (acked..end).map(|offset| offset as u8).collect();
                prop_assert_eq!(replay.tail(2000), (tail.len() <= 2000).then_some((acked, tail)));
            }
        }
    }

    /// 10,000 small messages that were written one by one hold no 10,000 buffers.
    #[test]
    fn small_segments_are_packed() {
        let mut replay = Replay::new(true);
        let mut end = 0;
        for _ in 0..10_000 {
            replay.extend(|segments| {
                segments.push_back(segment(&mut end, 20, false));
                end
            });
            replay.advance(20, &mut Fresh);
        }
        assert!(replay.memory() < 400_000, "{} bytes hold {end}", replay.memory());
    }

    #[test]
    fn without_resumption_nothing_is_kept() {
        let mut replay = Replay::new(false);
        let mut end = 0;
        replay.extend(|segments| {
            segments.extend([segment(&mut end, 100, false), segment(&mut end, 100, true)]);
            end
        });
        replay.advance(150, &mut Fresh);
        assert_eq!(replay.segments.len(), 1);
        replay.advance(50, &mut Fresh);
        assert!(replay.segments.is_empty() && replay.is_written() && !replay.reaches(200));
    }
}
