//! What was accepted before the peer was there, by this side's own limits, once the peer's are
//! known.
//!
//! Mostly they allow it all, and only the credit that is left is another. If they do not, the
//! frames of the channels that have too little credit are taken out of the lanes again: their
//! messages wait with the channel, and follow in fragments as credit comes.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Channel, Lane, Mark, Outbound, Payload, Priority};
use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::{Credit, cost};
use crate::proto::frame::{Control, End, WORD, Word};
use crate::proto::segment::{Segment, Spare};

/// What the peer does not take, although it was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Conflict {
    NotPermitted(ChannelId),
    /// A message above this.
    TooLarge(u32),
}

/// What waits with a channel behind what is staged.
#[derive(Debug)]
pub(crate) enum Waiting {
    Message(Bytes),
    /// The beginning of one, while the rest is looked for.
    Part(Vec<u8>),
    End(End),
}

impl Outbound {
    /// The peer is there: `initial` and `max_message` are what it granted. Nothing was taken yet.
    /// The channels whose messages wait for credit now; flushes wait for those, see
    /// [`Mark::add`].
    pub(crate) fn settle(
        &mut self,
        may_send: ChannelSet,
        initial: Credit,
        max_message: u32,
        spare: &mut impl Spare,
    ) -> Result<Vec<ChannelId>, Conflict> {
        debug_assert_eq!(self.taken, [0; 2]);
        let before = std::mem::replace(&mut self.initial, initial);
        let limit_before = std::mem::replace(&mut self.max_message, max_message);
        self.may_send = may_send;
        if let Some(channel) = self.channels.iter().find(|channel| !may_send.contains(channel.id)) {
            return Err(Conflict::NotPermitted(channel.id));
        }
        if max_message < limit_before && self.largest() > max_message as usize {
            return Err(Conflict::TooLarge(max_message));
        }
        let mut short = ChannelSet::EMPTY;
        for channel in self.channels.iter_mut() {
            let spent = before.get() - channel.credit.get();
            match initial.get().checked_sub(spent).and_then(Credit::new) {
                Some(left) => channel.credit = left,
                None => {
                    channel.credit = initial;
                    short |= channel.id;
                }
            }
        }
        if !short.is_empty() {
            self.take_back(short, spare);
        }
        for id in ChannelSet::ALL.iter() {
            if self.channels.get_mut(id).is_some_and(|channel| channel.staged.is_some()) {
                // There may be more credit than was thought.
                let _ = self.handle_credit(id, 0, spare);
            }
        }
        Ok(short.iter().collect())
    }

    /// The length of the largest message that waits.
    fn largest(&self) -> usize {
        let mut largest = 0;
        let mut lengths = [0; ChannelId::COUNT];
        for lane in &self.lanes {
            let full = lane.full.iter().flat_map(Segment::parts);
            let mut parts = full.chain([&lane.open[..]]);
            while let Some(mut frames) = parts.next() {
                while let Some(word) = Word::first_of(frames) {
                    let length = &mut lengths[word.channel().index()];
                    *length += if word.is_control() { 0 } else { word.len() };
                    largest = largest.max(*length);
                    if !word.has_more() {
                        *length = 0;
                    }
                    // The payload of a large segment is a part of its own.
                    frames = frames.get(WORD + word.len()..).unwrap_or_else(|| {
                        parts.next();
                        &[]
                    });
                }
            }
        }
        for channel in self.channels.iter() {
            largest =
                largest.max(lengths[channel.id.index()] + channel.staged.as_ref().map_or(0, Bytes::len));
        }
        largest
    }

    /// Moves the frames of some channels from the lanes to the channels.
    fn take_back(&mut self, channels: ChannelSet, spare: &mut impl Spare) {
        for channel in self.channels.iter_mut().filter(|channel| channels.contains(channel.id)) {
            channel.open = false;
            // The rest of a message whose beginning is in a lane follows it below.
            self.staged -= usize::from(channel.staged.is_some());
        }
        for priority in [Priority::Urgent, Priority::Normal] {
            let at = priority as usize;
            let Lane { full, open } = std::mem::take(&mut self.lanes[at]);
            self.pushed[at] -= self.queued[at] as u64;
            self.queued[at] = 0;
            for segment in full.into_iter().chain([Segment::Frames(open)]) {
                match segment {
                    Segment::Large { word, payload } => {
                        let word = Word::from_bytes(word);
                        if channels.contains(word.channel()) {
                            self.channel(word).take_back_data(word.has_more(), Payload::Shared(&payload));
                        } else {
                            let data = Payload::Shared(&payload);
                            self.push_data(word.channel(), priority, word.has_more(), data, spare);
                        }
                    }
                    Segment::Frames(frames) => self.take_back_frames(&frames, priority, channels, spare),
                }
            }
        }
        for id in channels.iter() {
            let Some(place) = self.channels.place(id) else { continue };
            let channel = self.channels.at(place);
            if let Some(rest) = channel.staged.take() {
                channel.take_back_data(false, Payload::Shared(&rest));
            }
            let ends = std::mem::take(&mut channel.ends);
            channel.backlog.extend(ends.into_iter().map(Waiting::End));
            self.staged += 1;
            if self.follow(place, spare) {
                self.staged -= 1;
            }
        }
    }

    fn take_back_frames(
        &mut self,
        mut frames: &[u8],
        priority: Priority,
        channels: ChannelSet,
        spare: &mut impl Spare,
    ) {
        while let Some(word) = Word::first_of(frames) {
            let (frame, rest) = frames.split_at(WORD + word.len());
            frames = rest;
            let (id, payload) = (word.channel(), &frame[WORD..]);
            if word.is_control() {
                // Nothing but the ends of runs goes through the lanes.
                let Ok(Control::End { end, .. }) = Control::decode(id, payload) else { continue };
                if channels.contains(id) {
                    self.channel(word).backlog.push_back(Waiting::End(end));
                } else {
                    self.push_control(id, priority, &Control::End { channel: id, end }, spare);
                }
            } else if channels.contains(id) {
                self.channel(word).take_back_data(word.has_more(), Payload::Slice(payload));
            } else {
                self.push_data(id, priority, word.has_more(), Payload::Slice(payload), spare);
            }
        }
    }

    fn channel(&mut self, word: Word) -> &mut Channel {
        let place = self.channels.place(word.channel()).expect("what is in a lane was sent on a channel");
        self.channels.at(place)
    }

    /// Sends of a channel's backlog what there is credit for, the first of it being staged
    /// otherwise; whether that was all.
    pub(super) fn follow(&mut self, place: usize, spare: &mut impl Spare) -> bool {
        while let Some(next) = self.channels.at(place).backlog.pop_front() {
            match next {
                Waiting::End(end) => self.push_end(place, end, spare),
                // The rest is always found.
                Waiting::Part(_) => {}
                Waiting::Message(message) => {
                    if let Some(rest) = self.push_rest(place, &message, spare) {
                        self.channels.at(place).staged = Some(rest);
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Sends of what is left of a message what there is credit for; what is left then.
    pub(super) fn push_rest(&mut self, place: usize, rest: &Bytes, spare: &mut impl Spare) -> Option<Bytes> {
        let channel = self.channels.at(place);
        if rest.is_empty() {
            // An empty message that has not been sent yet: it costs something as well.
            if channel.credit.spend(cost(0)).is_none() {
                return Some(rest.clone());
            }
            let (id, lane) = (channel.id, channel.lane);
            channel.open = true;
            self.push_data(id, lane, false, Payload::Slice(&[]), spare);
            return None;
        }
        let sent = self.push_fragments(place, Payload::Shared(rest), spare);
        self.channels.at(place).open |= sent > 0;
        (sent < rest.len()).then(|| rest.slice(sent..))
    }

    /// The peer stopped the run of a channel with a backlog. Whether the run had an end there: then
    /// its senders are not to hear of it.
    pub(super) fn stop_backlog(&mut self, place: usize, code: u32, spare: &mut impl Spare) -> bool {
        let channel = self.channels.at(place);
        let Some(end) = channel.backlog.iter().position(|next| matches!(next, Waiting::End(_))) else {
            channel.backlog = VecDeque::new();
            return false;
        };
        channel.backlog.drain(..=end);
        channel.backlog.push_front(Waiting::End(End::Reset(code)));
        channel.staged = None;
        if self.follow(place, spare) {
            self.staged -= 1;
            self.push_ends(place, spare);
        }
        true
    }
}

impl Channel {
    /// A fragment that was in a lane, or the rest of its message.
    fn take_back_data(&mut self, more: bool, payload: Payload<'_>) {
        match self.backlog.back_mut() {
            Some(Waiting::Part(part)) => {
                part.extend_from_slice(payload.as_slice());
                if !more {
                    let whole = std::mem::take(part);
                    self.backlog.pop_back();
                    self.backlog.push_back(Waiting::Message(whole.into()));
                }
            }
            _ if more => self.backlog.push_back(Waiting::Part(payload.as_slice().to_vec())),
            _ => self.backlog.push_back(Waiting::Message(payload.to_bytes(0))),
        }
    }
}

impl Mark {
    /// What was accepted on these channels before the mark waits with them now.
    pub(crate) fn add(&mut self, channels: &[ChannelId]) {
        self.staged.extend(channels);
    }
}
