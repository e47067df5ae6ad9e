//! The sending half itself: senders, messages that have room, and what goes out.

use std::collections::VecDeque;

use bytes::Bytes;

use super::channel::{Ahead, Channel, Item, Sent, gate};
use super::lanes::{COPY, Lanes};
use super::payload::{Payload, Priority, Refused, Stopped};
use super::unmet::Unmet;
use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::{Credit, cost};
use crate::proto::frame::{End, FRAME_COST};
use crate::proto::inbound::Waiting;
use crate::proto::segment::{Segment, Spare};
use crate::proto::table::Table;

/// A fragment that is not a message's last is not made smaller than this without need.
const LEAST_FRAGMENT: usize = 4096;

#[derive(Debug)]
pub(crate) struct Outbound {
    pub(super) may_send: ChannelSet,
    pub(super) initial: Credit,
    pub(super) max_message: u32,
    pub(super) limit: usize,
    pub(super) channels: Table<Channel>,
    pub(super) lanes: Lanes,
    /// Channels with something that waits, and its bytes.
    pub(super) waiting: usize,
    pub(super) waiting_bytes: usize,
    /// Channels with a gap or an end that goes out by itself.
    pub(super) owing: ChannelSet,
    /// Channels with something that was accepted ahead of room in the lanes.
    pub(super) cramped: ChannelSet,
    /// What was accepted before the peer was there.
    pub(super) unmet: Option<Unmet>,
    /// Payloads that are done with. They may be the user's memory, whose drop is the user's code, so
    /// they go once no lock is held.
    pub(super) freed: Vec<Bytes>,
}

/// A point behind all that has been accepted.
#[derive(Debug)]
pub(crate) struct Mark {
    lanes: [u64; 2],
    waiting: Vec<(ChannelId, u64)>,
    owing: ChannelSet,
    unmet: bool,
}

impl Outbound {
    /// `initial` and `max_message` are what the peer granted, `limit` is how many bytes may wait.
    pub(crate) fn new(may_send: ChannelSet, initial: Credit, max_message: u32, limit: usize) -> Self {
        Self {
            may_send,
            initial,
            max_message,
            limit,
            channels: Table::new(),
            lanes: Lanes::new(),
            waiting: 0,
            waiting_bytes: 0,
            owing: ChannelSet::EMPTY,
            cramped: ChannelSet::EMPTY,
            unmet: None,
            freed: Vec::new(),
        }
    }

    /// Frames are made no longer than this from now on, so that what is urgent gets between them.
    pub(crate) fn limit_frames(&mut self, longest: usize) {
        self.lanes.limit_frames(longest);
    }

    pub(crate) fn may_send(&self, id: ChannelId) -> bool {
        self.may_send.contains(id)
    }

    // ---- senders

    pub(super) fn place(&mut self, id: ChannelId) -> usize {
        let credit = self.initial;
        self.channels.place_or_insert(id, || Channel::new(id, credit))
    }

    /// A sender for a channel: its place and generation. `None`: other senders have it with
    /// another priority.
    pub(crate) fn claim(&mut self, id: ChannelId, priority: Option<Priority>) -> Option<(usize, u32)> {
        let place = self.place(id);
        let channel = self.channels.at(place);
        // Without one that was asked for: that of the other senders, or the normal one.
        let priority = priority.or((channel.senders == 0).then_some(Priority::Normal));
        if channel.senders == 0 {
            channel.ended = false;
        }
        if let Some(priority) = priority
            && priority != channel.lane
        {
            // A frame of this channel that still waits in the slower lane must not be overtaken.
            let waits = channel.lane == Priority::Normal
                && !self.lanes.has_passed(Priority::Normal, channel.last_pushed);
            if channel.senders > 0
                || channel.gate != 0 && !channel.owes_a_reset_alone()
                || waits
                || self.unmet.is_some() && channel.messages > 0
            {
                return None;
            }
            channel.lane = priority;
            channel.last_pushed = 0;
        }
        channel.senders += 1;
        Some((place, channel.generation))
    }

    /// How many senders belong to a channel's run.
    pub(crate) fn senders(&mut self, place: usize) -> u32 {
        self.channels.at(place).senders
    }

    pub(crate) fn clone_sender(&mut self, place: usize, generation: u32) {
        let channel = self.channels.at(place);
        channel.senders += u32::from(channel.generation == generation);
    }

    /// A sender is gone; with the last one its run ends as `end` says. `true`: senders that wait may
    /// find room.
    pub(crate) fn release(
        &mut self,
        place: usize,
        generation: u32,
        end: End,
        spare: &mut impl Spare,
    ) -> bool {
        let channel = self.channels.at(place);
        if channel.generation != generation {
            return false;
        }
        channel.senders -= 1;
        channel.senders == 0 && self.end(place, generation, end, spare).unwrap_or(false)
    }

    /// The code of the STOP that ended the run of a sender.
    pub(crate) fn stopped(&mut self, place: usize, generation: u32) -> Option<Stopped> {
        let channel = self.channels.at(place);
        (channel.generation != generation).then_some(Stopped(channel.stop_code))
    }

    /// Senders stand in line for room on a channel, or no longer: then no other overtakes them.
    pub(crate) fn set_line(&mut self, place: usize, there: bool) {
        let channel = self.channels.at(place);
        channel.gate = if there { channel.gate | gate::LINE } else { channel.gate & !gate::LINE };
    }

    // ---- messages

    /// The common case of [`offer`](Outbound::offer), kept apart so that it is short: a small
    /// message that fits into the segment at hand. `false`: nothing was done, `offer` decides.
    #[inline]
    pub(crate) fn offer_quickly(&mut self, place: usize, generation: u32, payload: &[u8]) -> bool {
        let channel = self.channels.at(place);
        let len = payload.len();
        if len > COPY.min(self.max_message as usize)
            || channel.generation != generation
            || channel.gate != 0 && !channel.owes_a_reset_alone()
            || self.lanes.queued(channel.lane) >= self.limit
            || channel.credit.get() < cost(len)
            || !self.lanes.push_quickly(channel.id, channel.lane, payload)
        {
            return false;
        }
        let _ = channel.credit.spend(cost(len));
        channel.began(len);
        channel.last_pushed = self.lanes.end(channel.lane);
        true
    }

    /// Accepts a message whole, or says why not. `in_turn`: the sender has stood in line.
    pub(crate) fn offer(
        &mut self,
        place: usize,
        generation: u32,
        payload: Payload<'_>,
        in_turn: bool,
        spare: &mut impl Spare,
    ) -> Result<(), Refused> {
        let channel = self.channels.at(place);
        if channel.generation != generation {
            return Err(Refused::Stopped(channel.stop_code));
        }
        let len = payload.as_slice().len();
        if len > self.max_message as usize {
            return Err(Refused::TooLarge(self.max_message));
        }
        if channel.gate & gate::WAITING != 0 || channel.gate & gate::LINE != 0 && !in_turn {
            return Err(Refused::Credit);
        }
        if let Some(unmet) = &mut self.unmet {
            return unmet.offer(channel, place, payload, self.limit);
        }
        if self.lanes.queued(channel.lane) >= self.limit {
            return Err(Refused::QueueFull);
        }
        if len <= self.lanes.longest() && channel.credit.get() >= cost(len) {
            self.begin(place, spare);
            let channel = self.channels.at(place);
            let _ = channel.credit.spend(cost(len));
            channel.began(len);
            self.push_data(place, false, payload, spare);
            return Ok(());
        }
        let least = self.least_credit(len);
        if self.channels.at(place).credit.get() < least {
            return Err(Refused::Credit);
        }
        self.begin(place, spare);
        self.channels.at(place).began(len);
        let sent = self.push_fragments(place, payload, spare);
        if sent < len {
            self.wait(place, Item::Rest(payload.to_bytes(sent)));
        }
        Ok(())
    }

    /// `Ok` if a message of a usual size would be accepted now, else the reason.
    pub(crate) fn room(&mut self, place: usize, generation: u32) -> Result<(), Refused> {
        let least = self.least_credit(LEAST_FRAGMENT);
        let channel = self.channels.at(place);
        if channel.generation != generation {
            return Err(Refused::Stopped(channel.stop_code));
        }
        if channel.gate & (gate::WAITING | gate::LINE) != 0 {
            return Err(Refused::Credit);
        }
        if let Some(unmet) = &self.unmet {
            return unmet.room(channel, least, self.limit);
        }
        if self.lanes.queued(channel.lane) >= self.limit {
            return Err(Refused::QueueFull);
        }
        if channel.credit.get() < least { Err(Refused::Credit) } else { Ok(()) }
    }

    /// The least credit with which it pays to send a fragment of what is left of a message. A
    /// quarter of the window always comes back: a peer keeps less than half of it to itself. One
    /// that grants less than its window by and by still gets fragments.
    pub(super) fn least_credit(&self, left: usize) -> u32 {
        let fragment = (self.initial.get() / 4).clamp(FRAME_COST + 1, cost(LEAST_FRAGMENT));
        cost(left.min(self.lanes.longest())).min(fragment)
    }

    /// Sends as much of a message as there is credit for; how much that was.
    pub(super) fn push_fragments(
        &mut self,
        place: usize,
        payload: Payload<'_>,
        spare: &mut impl Spare,
    ) -> usize {
        let len = payload.as_slice().len();
        let mut sent = 0;
        while sent < len {
            // Once begun, all credit is used: what is left of it could be just what keeps the peer from
            // granting more, and how much is left depends on how long frames may be at the moment.
            let least = if sent == 0 { self.least_credit(len) } else { FRAME_COST + 1 };
            let longest = self.lanes.longest();
            let channel = self.channels.at(place);
            if channel.credit.get() < least {
                break;
            }
            let fragment = (len - sent).min(longest).min((channel.credit.get() - FRAME_COST) as usize);
            if channel.credit.spend(cost(fragment)).is_none() {
                break;
            }
            let more = sent + fragment < len;
            if let Payload::Shared(bytes) = payload {
                let part = bytes.slice(sent..sent + fragment);
                self.push_data(place, more, Payload::Shared(&part), spare);
            } else {
                self.push_data(place, more, payload.slice(sent, sent + fragment), spare);
            }
            sent += fragment;
        }
        sent
    }

    pub(super) fn push_data(
        &mut self,
        place: usize,
        more: bool,
        payload: Payload<'_>,
        spare: &mut impl Spare,
    ) {
        let channel = self.channels.at(place);
        channel.open = true;
        self.lanes.push_data(channel.id, channel.lane, more, payload, spare);
        self.pushed(place);
    }

    pub(super) fn pushed(&mut self, place: usize) {
        let channel = self.channels.at(place);
        channel.last_pushed = self.lanes.end(channel.lane);
    }

    // ---- what goes out

    /// Moves encoded segments out: all that is urgent, and of the rest about `most` bytes; how
    /// many bytes that was.
    pub(crate) fn take(&mut self, most: usize, spare: &mut impl Spare, out: &mut VecDeque<Segment>) -> usize {
        self.push_owed(spare);
        let taken = self.lanes.take(most, out);
        if !self.cramped.is_empty() && self.is_below_limit() {
            self.follow_cramped(spare);
        }
        taken
    }

    /// A mark behind all that has been accepted so far.
    pub(crate) fn mark(&self) -> Mark {
        let waiting = self.channels.iter().filter(|channel| channel.gate & gate::WAITING != 0);
        Mark {
            lanes: self.lanes.ends(),
            waiting: waiting.map(|channel| (channel.id, channel.waited)).collect(),
            owing: self.owing,
            unmet: self.unmet.is_some(),
        }
    }

    /// Returns `true` if everything before the mark has been taken.
    pub(crate) fn has_passed(&mut self, mark: &mut Mark) -> bool {
        if mark.unmet {
            if self.unmet.is_some() {
                return false;
            }
            *mark = self.mark();
        }
        let before = (mark.waiting.len(), mark.owing);
        mark.owing = mark.owing & self.owing;
        mark.waiting.retain(|(id, waited)| {
            self.channels.get_mut(*id).is_some_and(|channel| channel.followed < *waited)
        });
        if (mark.waiting.len(), mark.owing) != before {
            // What waited, or was owed, is in its lane now.
            mark.lanes = self.lanes.ends();
        }
        mark.waiting.is_empty() && mark.owing.is_empty() && self.lanes.have_passed(mark.lanes)
    }

    /// Drops all that waits: the connection ends.
    pub(crate) fn clear(&mut self) {
        self.lanes.clear(&mut self.freed);
        (self.waiting, self.waiting_bytes) = (0, 0);
        self.owing = ChannelSet::EMPTY;
        self.cramped = ChannelSet::EMPTY;
        let unmet = self.unmet.take().into_iter().flat_map(Unmet::into_items);
        self.freed.extend(unmet.filter_map(Item::into_payload));
        for channel in self.channels.iter_mut() {
            channel.gate = 0;
            channel.ahead = Ahead::default();
            channel.followed = channel.waited;
            let waiting = std::mem::take(&mut channel.waiting);
            self.freed.extend(waiting.into_iter().filter_map(Item::into_payload));
        }
    }

    /// Returns `true` if payloads are done with.
    #[inline]
    pub(crate) fn has_freed(&self) -> bool {
        !self.freed.is_empty()
    }

    /// Takes them out, to be dropped once no lock is held.
    pub(crate) fn take_freed(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.freed)
    }

    /// Returns `true` if all that was accepted has been taken.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queued() == 0
            && self.waiting == 0
            && self.owing.is_empty()
            && self.unmet.as_ref().is_none_or(Unmet::is_empty)
    }

    /// Returns `true` if senders may find room again.
    pub(crate) fn is_below_limit(&self) -> bool {
        [Priority::Urgent, Priority::Normal].iter().any(|lane| self.lanes.queued(*lane) < self.limit)
    }

    /// Bytes in the lanes.
    pub(crate) fn queued(&self) -> usize {
        self.lanes.all_queued()
    }

    /// What is known of the channels, in bytes that are allocated.
    pub(crate) fn table(&self) -> usize {
        self.channels.memory()
    }

    /// Memory of the lanes.
    pub(crate) fn queued_memory(&self) -> usize {
        self.lanes.memory()
    }

    /// Bytes that were accepted and wait for credit, or for the peer.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes + self.unmet.as_ref().map_or(0, Unmet::bytes)
    }

    pub(crate) fn credit(&mut self, place: usize) -> u32 {
        self.channels.at(place).credit.get()
    }

    /// Bytes of a channel that were accepted and wait.
    pub(crate) fn staged(&mut self, place: usize) -> u64 {
        self.channels.at(place).staged()
    }

    /// The largest message that the peer takes.
    pub(crate) fn max_message(&self) -> u32 {
        self.max_message
    }

    /// A reader of the peer's waits, or no longer.
    pub(crate) fn handle_waiting(&mut self, waiting: Waiting) {
        let place = self.place(waiting.channel);
        self.channels.at(place).peer_waiting = waiting.waiting.then_some(waiting.count);
    }

    /// Returns `true` if a reader of the peer's is blocked on the channel and has taken all that was
    /// sent.
    pub(crate) fn peer_is_waiting(&mut self, place: usize) -> bool {
        let channel = self.channels.at(place);
        channel.peer_waiting == Some(channel.messages as u32)
    }

    /// What was accepted on each channel that was used.
    pub(crate) fn counts(&self) -> impl Iterator<Item = Sent> {
        self.channels.iter().map(|channel| Sent {
            channel: channel.id,
            messages: channel.messages,
            bytes: channel.bytes,
            credit: channel.credit.get(),
            staged: channel.staged(),
        })
    }
}
