//! The receive queues of a session: what was delivered and not taken.

use std::collections::VecDeque;

use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::cost;
use crate::proto::frame::{Control, WORD, Word};
use crate::proto::inbound::{Deliver, Taken};

/// The receive queues: what was delivered and not taken.
pub(super) struct Sink {
    may_receive: ChannelSet,
    max_message: usize,
    pub(super) waiting: VecDeque<Taken>,
    /// What waits of each channel, in cost.
    pub(super) held: Vec<u64>,
    /// Ends and gaps that cost no credit and wait, of each channel.
    pub(super) free_notes: Vec<u32>,
}

impl Deliver for Sink {
    fn frames(&mut self, channel: ChannelId, frames: &[u8], messages: u32) {
        assert!(self.may_receive.contains(channel));
        let mut rest = frames;
        let mut counted = 0;
        while !rest.is_empty() {
            let word = Word::first_of(rest).expect("whole frames");
            let (frame, after) = rest.split_at_checked(WORD + word.len()).expect("whole frames");
            assert_eq!(word.channel(), channel);
            if word.is_control() {
                let free_notes = u32::from(word.has_more());
                match Control::decode(channel, &frame[WORD..]) {
                    Ok(Control::End { channel: id, .. } | Control::Gap { channel: id, .. }) => {
                        assert_eq!(id, channel);
                    }
                    other => panic!("{other:?} is neither an end nor a gap"),
                }
                self.free_notes[channel.index()] += free_notes;
                self.waiting.push_back(Taken { free_notes, ..Taken::none(channel) });
            } else {
                assert_eq!(word.check(), Ok(()));
                assert!(word.is_whole_message() && word.len() <= self.max_message);
                counted += 1;
                self.keep(channel, word.len());
            }
            rest = after;
        }
        assert_eq!(counted, messages);
    }

    fn message(&mut self, channel: ChannelId, payload: Vec<u8>) {
        assert!(self.may_receive.contains(channel));
        assert!(payload.len() <= self.max_message);
        self.keep(channel, payload.len());
    }
}

impl Sink {
    pub(super) fn new(may_receive: ChannelSet, max_message: u32) -> Self {
        Self {
            may_receive,
            max_message: max_message as usize,
            waiting: VecDeque::new(),
            held: vec![0; ChannelId::COUNT],
            free_notes: vec![0; ChannelId::COUNT],
        }
    }

    fn keep(&mut self, channel: ChannelId, len: usize) {
        self.held[channel.index()] += u64::from(cost(len));
        self.waiting.push_back(Taken { cost: cost(len), messages: 1, ..Taken::none(channel) });
    }
}
