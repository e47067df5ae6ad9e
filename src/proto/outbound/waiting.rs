//! What was accepted and waits for credit, with its channel.

use std::collections::VecDeque;

use bytes::Bytes;

use super::channel::{Item, gate};
use super::payload::Payload;
use super::queue::Outbound;
use crate::id::ChannelId;
use crate::proto::credit::cost;
use crate::proto::segment::Spare;
use crate::proto::violation::Violation;

/// How much may wait with a channel for another message to be accepted ahead of its credit: as much
/// as a pipe holds.
const AHEAD_BYTES: usize = 64 << 10;
const AHEAD_ITEMS: usize = 64;

impl Outbound {
    /// Accepts a message that has no credit yet, or no room in its lane, if little else waits with the
    /// channel; it follows as these come. `false`: nothing was done.
    pub(crate) fn offer_ahead(
        &mut self,
        place: usize,
        payload: Payload<'_>,
        in_turn: bool,
        cramped: bool,
    ) -> bool {
        let channel = self.channels.at(place);
        let waits = || channel.waiting.iter().map(Item::len).sum::<usize>();
        let free = channel.gate & gate::WAITING == 0
            || channel.waiting.len() < AHEAD_ITEMS && waits() + payload.as_slice().len() <= AHEAD_BYTES;
        let in_turn = in_turn || channel.gate & gate::LINE == 0;
        if !free || !in_turn || self.unmet.is_some() {
            return false;
        }
        channel.began(payload.as_slice().len());
        if cramped {
            self.cramped.insert(channel.id);
        }
        self.wait(place, Item::Message(payload.to_bytes(0)));
        true
    }

    /// The lanes have room again.
    #[cold]
    pub(super) fn follow_cramped(&mut self, spare: &mut impl Spare) {
        for id in std::mem::take(&mut self.cramped).iter() {
            let place = self.place(id);
            if self.channels.at(place).gate & gate::WAITING != 0 {
                self.follow(place, spare);
            }
        }
    }

    pub(super) fn wait(&mut self, place: usize, item: Item) {
        self.waiting_bytes += item.len();
        let channel = self.channels.at(place);
        if channel.gate & gate::WAITING == 0 {
            channel.gate |= gate::WAITING;
            self.waiting += 1;
        }
        channel.waited += 1;
        channel.waiting.push_back(item);
    }

    /// Drops all that waits with a channel.
    pub(super) fn drop_waiting(&mut self, place: usize) {
        let channel = self.channels.at(place);
        let items = std::mem::take(&mut channel.waiting);
        channel.followed += items.len() as u64;
        self.waiting_bytes -= items.iter().map(Item::len).sum::<usize>();
        self.freed.extend(items.into_iter().filter_map(Item::into_payload));
        self.waits_no_more(place);
    }

    pub(super) fn waits_no_more(&mut self, place: usize) {
        let channel = self.channels.at(place);
        if channel.gate & gate::WAITING != 0 {
            channel.gate &= !gate::WAITING;
            channel.waiting = VecDeque::new();
            self.waiting -= 1;
        }
    }

    /// Sends of what waits with a channel what there is credit for. `true`: that was all.
    pub(super) fn follow(&mut self, place: usize, spare: &mut impl Spare) -> bool {
        while let Some(item) = self.channels.at(place).waiting.pop_front() {
            self.waiting_bytes -= item.len();
            let left = match item {
                Item::Message(message) => self.push_rest(place, message, true, spare),
                Item::Rest(rest) => self.push_rest(place, rest, false, spare),
                Item::End(end) => {
                    self.begin(place, spare);
                    self.push_end(place, end, spare);
                    None
                }
                Item::Gap { messages, bytes } => {
                    self.push_gap(place, messages, bytes, spare);
                    None
                }
            };
            let channel = self.channels.at(place);
            if let Some(left) = left {
                self.waiting_bytes += left.len();
                channel.waiting.push_front(left);
                return false;
            }
            channel.followed += 1;
        }
        self.waits_no_more(place);
        true
    }

    /// Sends of what is left of a message what there is credit for; what is left then.
    fn push_rest(&mut self, place: usize, rest: Bytes, whole: bool, spare: &mut impl Spare) -> Option<Item> {
        let least = self.least_credit(rest.len());
        if self.channels.at(place).credit.get() < least {
            return Some(if whole { Item::Message(rest) } else { Item::Rest(rest) });
        }
        self.begin(place, spare);
        if rest.is_empty() {
            let _ = self.channels.at(place).credit.spend(cost(0));
            self.push_data(place, false, Payload::Slice(&[]), spare);
            return None;
        }
        let sent = self.push_fragments(place, Payload::Shared(&rest), spare);
        let left = (sent < rest.len()).then(|| Item::Rest(rest.slice(sent..)));
        self.freed.push(rest);
        left
    }

    /// The peer granted credit; the place of the channel if a waiting sender may go on now.
    pub(crate) fn handle_credit(
        &mut self,
        id: ChannelId,
        bytes: u32,
        spare: &mut impl Spare,
    ) -> Result<Option<usize>, Violation> {
        let place = self.place(id);
        self.channels.at(place).credit.grant(bytes).ok_or(Violation::CreditOverflow(id))?;
        Ok(self.follow(place, spare).then_some(place))
    }
}
