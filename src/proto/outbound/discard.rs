//! Taking back what was accepted and is not on its way: whole messages of the run that is open. What
//! stood there is told by a gap.

use super::channel::{Item, sum};
use super::payload::Stopped;
use super::queue::Outbound;
use super::sieve::Discarded;

impl Outbound {
    /// Drops the messages of a sender's run that wait, and tells of them by a gap. A message of which
    /// some may be out stays, and so does what belongs to earlier runs.
    pub(crate) fn discard(&mut self, place: usize, generation: u32, most: u64) -> Result<Discarded, Stopped> {
        let channel = self.channels.at(place);
        if channel.generation != generation {
            return Err(Stopped(channel.stop_code));
        }
        let mut all = Discarded::default();
        if channel.ended {
            // What waits or is in the lane belongs to runs that have ended.
            return Ok(all);
        }
        if let Some(unmet) = &mut self.unmet {
            all = unmet.discard(channel, place, most, &mut self.freed);
        } else {
            let newest = channel.waiting.iter().rposition(|item| matches!(item, Item::End(_)));
            let from = newest.map_or(0, |at| at + 1);
            let waiting = channel.waiting.iter().skip(from).filter(|item| matches!(item, Item::Message(_)));
            let waiting = waiting.count() as u64;
            // The oldest of those that wait stay, if not all of them may go.
            let mut stay = waiting.saturating_sub(most);
            // What is in the lane is older than all of those: a gap that is taken from there may not come
            // to stand behind one that stays.
            let most = most.saturating_sub(waiting);
            if newest.is_none() && most > 0 {
                all = self.lanes.discard(channel.id, channel.lane, most, &mut self.freed);
                // It was paid for; what waits is not.
                let _ = channel.credit.grant(all.cost);
                channel.notes = all.notes;
            }
            let mut place_in_line = 0;
            let before = channel.waiting.len();
            let (mut bytes, freed) = (0, &mut self.freed);
            channel.waiting.retain(|item| {
                place_in_line += 1;
                match item {
                    Item::Rest(rest) if std::mem::take(&mut all.torn) => {
                        bytes += rest.len();
                        all.messages += 1;
                        all.bytes += rest.len() as u64;
                        freed.push(rest.clone());
                        false
                    }
                    Item::Message(_) if place_in_line > from && stay > 0 => {
                        stay -= 1;
                        true
                    }
                    Item::Message(message) if place_in_line > from => {
                        bytes += message.len();
                        all.add(message.len(), true);
                        freed.push(message.clone());
                        false
                    }
                    Item::Gap { messages, bytes } if place_in_line > from && stay == 0 => {
                        all.gap = Some(sum(all.gap, *messages, *bytes));
                        false
                    }
                    _ => true,
                }
            });
            channel.followed += (before - channel.waiting.len()) as u64;
            let none_left = channel.waiting.is_empty();
            self.waiting_bytes -= bytes;
            if none_left {
                self.waits_no_more(place);
            }
        }
        let channel = self.channels.at(place);
        channel.messages -= all.messages;
        channel.bytes -= all.bytes;
        if let Some((messages, bytes)) = all.gap_with_earlier() {
            self.gap(place, generation, messages, bytes)?;
        }
        Ok(all)
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::id::{ChannelId, ChannelSet};
    use crate::proto::credit::Credit;
    use crate::proto::frame::{Control, End, WORD, Word};
    use crate::proto::outbound::{Payload, Priority};
    use crate::proto::segment::{Fresh, Segment};

    const WINDOW: u32 = 200_000;

    #[derive(Clone, Debug)]
    enum Op {
        Send { channel: u8, len: usize },
        Ahead { channel: u8, len: usize },
        Finish { channel: u8 },
        Gap { channel: u8 },
        Discard { channel: u8, most: u64 },
        Take(usize),
        Credit { channel: u8, bytes: u32 },
    }

    fn op() -> impl Strategy<Value = Op> {
        let channel = 0..3u8;
        let len = prop_oneof![4 => 4..100usize, 2 => 4000..5000usize, 1 => 60_000..150_000usize];
        prop_oneof![
            6 => (channel.clone(), len.clone()).prop_map(|(channel, len)| Op::Send { channel, len }),
            1 => (channel.clone(), len).prop_map(|(channel, len)| Op::Ahead { channel, len }),
            1 => channel.clone().prop_map(|channel| Op::Finish { channel }),
            1 => channel.clone().prop_map(|channel| Op::Gap { channel }),
            3 => (channel.clone(), prop_oneof![Just(u64::MAX), 0..4u64])
                .prop_map(|(channel, most)| Op::Discard { channel, most }),
            2 => (0..20_000usize).prop_map(Op::Take),
            2 => (channel, 0..100_000u32).prop_map(|(channel, bytes)| Op::Credit { channel, bytes }),
        ]
    }

    /// What a receiver makes of a stream: each message begins with its number on its channel, and
    /// gaps count, so each message stands where its number says.
    #[derive(Default)]
    struct Reader {
        next: [u64; 3],
        partial: [Vec<u8>; 3],
        ends: [u32; 3],
        cost: [u32; 3],
    }

    impl Reader {
        fn read(&mut self, bytes: &[u8]) {
            let mut rest = bytes;
            while let Some(word) = Word::first_of(rest) {
                let (frame, behind) = rest.split_at(WORD + word.len());
                rest = behind;
                let at = usize::from(word.channel().get());
                let payload = &frame[WORD..];
                if word.is_control() {
                    assert!(self.partial[at].is_empty(), "a note inside a message");
                    match Control::decode(word.channel(), payload).unwrap() {
                        Control::Gap { messages, .. } => self.next[at] += messages,
                        Control::End { .. } => self.ends[at] += 1,
                        other => panic!("{other:?}"),
                    }
                    continue;
                }
                self.cost[at] += crate::proto::credit::cost(payload.len());
                self.partial[at].extend_from_slice(payload);
                if !word.has_more() {
                    let message = std::mem::take(&mut self.partial[at]);
                    let number = u32::from_be_bytes(message[..4].try_into().unwrap());
                    assert_eq!(u64::from(number), self.next[at], "channel {at}");
                    self.next[at] += 1;
                }
            }
        }
    }

    /// The end of the run before waits for credit, and so does the next run: it has not begun on the wire.
    #[test]
    fn a_run_that_waits_behind_another_is_taken_back() {
        let mut outbound = Outbound::new(ChannelSet::ALL, Credit::new(1000).unwrap(), 1 << 20, 1 << 20);
        let (place, generation) = outbound.claim(ChannelId::new(1), None).unwrap();
        assert_eq!(outbound.offer(place, generation, Payload::Slice(&[1; 2000]), false, &mut Fresh), Ok(()));
        outbound.end(place, generation, End::Finish, &mut Fresh).unwrap();
        assert!(outbound.offer_ahead(place, Payload::Slice(&[2; 50]), false, false));
        // For the rest of the first and its end, and for no more.
        outbound.handle_credit(ChannelId::new(1), 1064, &mut Fresh).unwrap();
        let taken = outbound.discard(place, generation, u64::MAX).unwrap();
        assert_eq!((taken.messages, taken.bytes), (1, 50));
        // Again there is nothing, and nothing of an ended run either.
        assert_eq!(outbound.discard(place, generation, u64::MAX).unwrap().messages, 0);
        outbound.end(place, generation, End::Finish, &mut Fresh).unwrap();
        assert_eq!(outbound.discard(place, generation, u64::MAX).unwrap().messages, 0);
    }

    #[test]
    fn a_gap_in_the_lane_stays_before_a_message_that_waits_and_stays() {
        let mut outbound = Outbound::new(ChannelSet::ALL, Credit::new(1000).unwrap(), 1 << 20, 1 << 20);
        let (place, generation) = outbound.claim(ChannelId::new(1), None).unwrap();
        outbound.gap(place, generation, 1, 4).unwrap();
        outbound.keep_place(place, &mut Fresh);
        assert_eq!(outbound.offer(place, generation, Payload::Slice(&[0; 4]), false, &mut Fresh), Ok(()));
        assert!(outbound.offer_ahead(place, Payload::Slice(&[0; 2000]), false, false));
        outbound.gap(place, generation, 1, 4).unwrap();
        assert_eq!(outbound.discard(place, generation, 0).unwrap().messages, 0);
        outbound.handle_credit(ChannelId::new(1), 100_000, &mut Fresh).unwrap();
        let mut out = VecDeque::new();
        outbound.take(usize::MAX, &mut Fresh, &mut out);
        let mut kinds = Vec::new();
        for segment in out {
            let [first, second] = segment.parts();
            let bytes = [first, second].concat();
            super::super::sieve::each_frame(&bytes, |frame| {
                kinds.push(Word::first_of(frame).unwrap().is_control());
            });
        }
        assert_eq!(kinds, [true, false, false, true], "gap, both messages, gap");
    }

    proptest! {
        #[test]
        fn what_is_taken_back_is_told_at_its_place_and_nothing_is_torn(ops in prop::collection::vec(op(), 1..60)) {
            let credit = Credit::new(WINDOW).unwrap();
            let mut outbound = Outbound::new(ChannelSet::ALL, credit, 1 << 20, 4 << 20);
            let senders: Vec<_> = (0..3u8)
                .map(|id| outbound.claim(ChannelId::new(id), Some(Priority::Normal)).unwrap())
                .collect();
            let (mut reader, mut sent, mut finished) = (Reader::default(), [0u64; 3], [0u32; 3]);
            let mut granted = [WINDOW; 3];
            let mut open = [false; 3];
            let take = |outbound: &mut Outbound, reader: &mut Reader, most| {
                let mut out = VecDeque::new();
                outbound.take(most, &mut Fresh, &mut out);
                for segment in out {
                    match segment {
                        Segment::Frames(bytes) => reader.read(&bytes),
                        Segment::Large { word, payload } => reader.read(&[&word[..], &payload].concat()),
                    }
                }
            };
            for op in ops {
                match op {
                    Op::Send { channel, len } | Op::Ahead { channel, len } => {
                        let at = usize::from(channel);
                        let (place, generation) = senders[at];
                        let mut message = (sent[at] as u32).to_be_bytes().to_vec();
                        message.resize(len, 7);
                        let bytes = bytes::Bytes::from(message);
                        let payload = Payload::Shared(&bytes);
                        let accepted = if matches!(op, Op::Ahead { .. }) {
                            outbound.offer_ahead(place, payload, false, false)
                        } else {
                            outbound.offer(place, generation, payload, false, &mut Fresh).is_ok()
                        };
                        sent[at] += u64::from(accepted);
                        open[at] |= accepted;
                    }
                    Op::Finish { channel } => {
                        let at = usize::from(channel);
                        let (place, generation) = senders[at];
                        if std::mem::take(&mut open[at]) {
                            outbound.end(place, generation, End::Finish, &mut Fresh).unwrap();
                            finished[at] += 1;
                        }
                    }
                    Op::Gap { channel } => {
                        let at = usize::from(channel);
                        outbound.gap(senders[at].0, senders[at].1, 1, 1).unwrap();
                        sent[at] += 1;
                    }
                    Op::Discard { channel, most } => {
                        let at = usize::from(channel);
                        let taken = outbound.discard(senders[at].0, senders[at].1, most).unwrap();
                        prop_assert!(taken.messages <= most);
                    }
                    Op::Take(most) => take(&mut outbound, &mut reader, most),
                    Op::Credit { channel, bytes } => {
                        let at = usize::from(channel);
                        granted[at] += bytes;
                        outbound.handle_credit(ChannelId::new(channel), bytes, &mut Fresh).unwrap();
                    }
                }
            }
            let mut mark = outbound.mark();
            for (at, granted) in granted.iter_mut().enumerate() {
                *granted += 1 << 24;
                outbound.handle_credit(ChannelId::new(at as u8), 1 << 24, &mut Fresh).unwrap();
            }
            for _ in 0..3 {
                take(&mut outbound, &mut reader, usize::MAX);
            }
            prop_assert!(outbound.has_passed(&mut mark));
            prop_assert!(outbound.is_flushed());
            for at in 0..3 {
                prop_assert_eq!(reader.next[at], sent[at], "channel {}", at);
                prop_assert!(reader.ends[at] <= finished[at]);
                prop_assert_eq!(outbound.credit(senders[at].0), granted[at] - reader.cost[at]);
            }
        }
    }
}
