//! Ends of runs and gaps: notes, which cost no credit. So they have a bound of their own: of the
//! notes in a row that have not gone out, those above [`MOST`] are merged, as the peer merges what
//! is unread. The merged end keeps the last kind and code, and the gaps are added up before it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::channel::{Ahead, Item, MOST, gate, sum};
use super::payload::Stopped;
use super::queue::Outbound;
use crate::proto::frame::{Control, End};
use crate::proto::inbound::Stop;
use crate::proto::segment::Spare;

impl Outbound {
    // ---- ends

    /// Ends the run of a sender, behind what it has sent. Nothing happens if a run was ended
    /// before and nothing was sent since. `Ok(true)`: senders that wait may find room.
    pub(crate) fn end(
        &mut self,
        place: usize,
        generation: u32,
        end: End,
        spare: &mut impl Spare,
    ) -> Result<bool, Stopped> {
        let channel = self.channels.at(place);
        if channel.generation != generation {
            return Err(Stopped(channel.stop_code));
        }
        if std::mem::replace(&mut channel.ended, true) {
            return Ok(false);
        }
        if let Some(unmet) = &mut self.unmet {
            unmet.end(channel, place, end);
            return Ok(false);
        }
        let mut room = false;
        if channel.gate & gate::WAITING != 0 {
            // An end that waits already belongs to an earlier run.
            let later = channel.waiting.iter().any(|item| matches!(item, Item::End(_)));
            if end == End::Finish || later {
                self.wait_with_note(place, Item::End(end));
                return Ok(false);
            }
            self.drop_waiting(place);
            room = true;
        }
        if self.has_many_notes(place) {
            self.owe(place).end = Some(end);
        } else {
            self.begin(place, spare);
            self.push_end(place, end, spare);
        }
        Ok(room)
    }

    pub(super) fn push_end(&mut self, place: usize, end: End, spare: &mut impl Spare) {
        let channel = self.channels.at(place);
        channel.open = false;
        channel.runs = channel.runs.wrapping_add(1);
        let channel = channel.id;
        self.push_note(place, &Control::End { channel, end }, spare);
    }

    pub(super) fn push_gap(&mut self, place: usize, messages: u64, bytes: u64, spare: &mut impl Spare) {
        let channel = self.channels.at(place).id;
        self.push_note(place, &Control::Gap { channel, messages, bytes }, spare);
    }

    fn push_note(&mut self, place: usize, note: &Control, spare: &mut impl Spare) {
        let channel = self.channels.at(place);
        channel.notes += 1;
        let lane = channel.lane;
        self.lanes.push_control(lane, note, spare);
        self.pushed(place);
    }

    // ---- gaps

    /// Tells the peer that so much was left out here.
    pub(crate) fn gap(
        &mut self,
        place: usize,
        generation: u32,
        messages: u64,
        bytes: u64,
    ) -> Result<(), Stopped> {
        let channel = self.channels.at(place);
        if channel.generation != generation {
            return Err(Stopped(channel.stop_code));
        }
        if let Some(unmet) = &mut self.unmet {
            unmet.gap(channel, place, messages, bytes);
        } else if channel.gate & gate::WAITING != 0 {
            self.wait_with_note(place, Item::Gap { messages, bytes });
        } else {
            let ahead = self.owe(place);
            ahead.gap = Some(sum(ahead.gap, messages, bytes));
        }
        Ok(())
    }

    /// Puts what a channel owes into its lane, so that it keeps its place among what other channels send
    /// later. Above the bound for notes it goes on being merged.
    pub(crate) fn keep_place(&mut self, place: usize, spare: &mut impl Spare) {
        let channel = self.channels.at(place);
        if channel.gate & gate::AHEAD != 0 && channel.ahead.gap.is_some() && !self.has_many_notes(place) {
            self.begin(place, spare);
        }
    }

    // ---- how many

    /// Returns `true` if so many notes stand in a row at the end of what has not gone out that the
    /// next ones are merged.
    fn has_many_notes(&mut self, place: usize) -> bool {
        let channel = self.channels.at(place);
        if self.lanes.has_passed(channel.lane, channel.last_pushed) {
            channel.notes = 0;
        }
        channel.notes >= MOST
    }

    /// A note goes behind what waits with a channel.
    fn wait_with_note(&mut self, place: usize, note: Item) {
        let channel = self.channels.at(place);
        let neighbours =
            matches!((&note, channel.waiting.back()), (Item::Gap { .. }, Some(Item::Gap { .. })));
        if channel.notes >= MOST || neighbours {
            channel.waited += merge(&mut channel.waiting, note);
        } else {
            channel.notes += 1;
            self.wait(place, note);
        }
    }

    // ---- what goes ahead of a message

    /// Something goes ahead of a channel's next message, or by itself with the next take.
    fn owe(&mut self, place: usize) -> &mut Ahead {
        let channel = self.channels.at(place);
        channel.gate |= gate::AHEAD;
        self.owing.insert(channel.id);
        &mut channel.ahead
    }

    /// Pushes what goes ahead of anything of the application's on a channel.
    pub(super) fn begin(&mut self, place: usize, spare: &mut impl Spare) {
        let channel = self.channels.at(place);
        if channel.gate & gate::AHEAD == 0 {
            return;
        }
        channel.gate &= !gate::AHEAD;
        let ahead = std::mem::take(&mut channel.ahead);
        self.owing.remove(channel.id);
        if let Some(code) = ahead.reset {
            self.push_end(place, End::Reset(code), spare);
        }
        if let Some((messages, bytes)) = ahead.gap {
            self.push_gap(place, messages, bytes, spare);
        }
        if let Some(end) = ahead.end {
            self.push_end(place, end, spare);
        }
    }

    /// Pushes the gaps and ends that go out by themselves. A RESET that is owed for a run which has
    /// not begun waits for that run.
    pub(super) fn push_owed(&mut self, spare: &mut impl Spare) {
        for id in std::mem::take(&mut self.owing).iter() {
            let place = self.place(id);
            self.begin(place, spare);
        }
    }

    // ---- the peer's STOP

    /// The peer wants no more of a channel's run; the place whose senders must hear of it. A STOP of
    /// a run that has ended says nothing.
    pub(crate) fn handle_stop(&mut self, stop: Stop, spare: &mut impl Spare) -> Option<usize> {
        let place = self.place(stop.channel);
        let channel = self.channels.at(place);
        if stop.run != channel.runs || channel.ahead.reset.is_some() {
            return None;
        }
        // A run that its senders have finished is not theirs any more.
        if channel.ahead.end.is_some() {
            channel.ahead = Ahead { end: Some(End::Reset(stop.code)), ..Default::default() };
            return None;
        }
        if let Some(at) = channel.waiting.iter().position(|item| matches!(item, Item::End(_))) {
            let before = self.freed.len();
            self.freed.extend(channel.waiting.drain(..=at).filter_map(Item::into_payload));
            let dropped: usize = self.freed[before..].iter().map(Bytes::len).sum();
            channel.followed += at as u64 + 1;
            channel.notes = channel.waiting.len() as u32;
            self.waiting_bytes -= dropped;
            self.push_end(place, End::Reset(stop.code), spare);
            self.follow(place, spare);
            return Some(place);
        }
        self.stop(place, stop.code, spare);
        Some(place)
    }

    /// Ends the run of a channel's senders.
    fn stop(&mut self, place: usize, code: u32, spare: &mut impl Spare) {
        self.drop_waiting(place);
        let channel = self.channels.at(place);
        channel.generation = channel.generation.wrapping_add(1);
        channel.stop_code = code;
        // Those that belong to the run count no more.
        channel.senders = 0;
        channel.ended = true;
        channel.ahead.gap = None;
        channel.gate &= !gate::AHEAD;
        let id = channel.id;
        self.owing.remove(id);
        let channel = self.channels.at(place);
        if channel.open {
            self.push_end(place, End::Reset(code), spare);
        } else {
            channel.ahead.reset = Some(code);
            channel.gate |= gate::AHEAD;
        }
    }
}

/// Merges a note into those at the end of what waits, of which there are [`MOST`]: from there on
/// there is one gap at most, and one end behind it. Returns how many items more there are now.
fn merge(waiting: &mut VecDeque<Item>, note: Item) -> u64 {
    let end = matches!(waiting.back(), Some(Item::End(_))).then(|| waiting.pop_back()).flatten();
    let before = waiting.len() + usize::from(end.is_some());
    match (note, waiting.back_mut()) {
        (Item::Gap { messages, bytes }, Some(Item::Gap { messages: m, bytes: b })) => {
            (*m, *b) = sum(Some((*m, *b)), messages, bytes);
            waiting.extend(end);
        }
        (gap @ Item::Gap { .. }, _) => {
            waiting.push_back(gap);
            waiting.extend(end);
        }
        (other, _) => waiting.push_back(other),
    }
    (waiting.len() - before) as u64
}
