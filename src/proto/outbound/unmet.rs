//! What is accepted before the peer is there, by this side's own limits. Nothing is encoded until
//! then.

use std::collections::VecDeque;

use bytes::Bytes;

use super::channel::{Channel, Item, MOST, sum};
use super::payload::{Payload, Priority, Refused};
use super::sieve::Discarded;
use crate::proto::credit::cost;
use crate::proto::frame::End;

#[derive(Debug, Default)]
pub(super) struct Unmet {
    /// By place, in the order in which it was accepted.
    pub(super) items: VecDeque<(usize, Item)>,
    /// Bytes of each lane, as they will be counted there.
    queued: [usize; 2],
}

impl Unmet {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn into_items(self) -> impl Iterator<Item = Item> {
        self.items.into_iter().map(|(_, item)| item)
    }

    pub(super) fn bytes(&self) -> usize {
        self.queued.iter().sum()
    }

    pub(super) fn offer(
        &mut self,
        channel: &mut Channel,
        place: usize,
        payload: Payload<'_>,
        limit: usize,
    ) -> Result<(), Refused> {
        let len = payload.as_slice().len();
        self.room(channel, cost(len), limit)?;
        let _ = channel.credit.spend(cost(len).min(channel.credit.get()));
        channel.began(len);
        self.queued[channel.lane as usize] += cost(len) as usize;
        self.items.push_back((place, Item::Message(payload.to_bytes(0))));
        Ok(())
    }

    /// Takes back the messages of a channel's newest run, and the gaps among them.
    pub(super) fn discard(
        &mut self,
        channel: &mut Channel,
        place: usize,
        most: u64,
        freed: &mut Vec<Bytes>,
    ) -> Discarded {
        let mut all = Discarded::default();
        let is_end = |(of, item): &(usize, Item)| *of == place && matches!(item, Item::End(_));
        let from = self.items.iter().rposition(is_end).map_or(0, |at| at + 1);
        let own = self
            .items
            .iter()
            .skip(from)
            .filter(|(of, item)| *of == place && matches!(item, Item::Message(_)));
        // The oldest stay, if not all may go.
        let mut stay = (own.count() as u64).saturating_sub(most);
        let mut at = 0;
        self.items.retain(|(of, item)| {
            at += 1;
            match item {
                _ if *of != place || at <= from => true,
                Item::Message(_) if stay > 0 => {
                    stay -= 1;
                    true
                }
                Item::Gap { .. } if stay > 0 => true,
                Item::Message(message) => {
                    all.add(message.len(), true);
                    freed.push(message.clone());
                    false
                }
                Item::Gap { messages, bytes } => {
                    all.gap = Some(sum(all.gap, *messages, *bytes));
                    false
                }
                Item::Rest(_) | Item::End(_) => true,
            }
        });
        self.queued[channel.lane as usize] -= all.cost as usize;
        let _ = channel.credit.grant(all.cost);
        all
    }

    /// `Ok` if a message of this cost would be accepted, else the reason.
    pub(super) fn room(&self, channel: &Channel, cost: u32, limit: usize) -> Result<(), Refused> {
        if self.queued[channel.lane as usize] >= limit {
            return Err(Refused::QueueFull);
        }
        let spent = cost.min(channel.credit.get());
        // One that is larger than the window is accepted alone.
        if spent == 0 || spent < cost && channel.messages > 0 { Err(Refused::Credit) } else { Ok(()) }
    }

    pub(super) fn end(&mut self, channel: &mut Channel, place: usize, end: End) {
        match self.last_note(channel, place, |item| matches!(item, Item::End(_))) {
            Some(Item::End(last)) => *last = end,
            _ => self.items.push_back((place, Item::End(end))),
        }
    }

    pub(super) fn gap(&mut self, channel: &mut Channel, place: usize, messages: u64, bytes: u64) {
        match self.last_note(channel, place, |item| matches!(item, Item::Gap { .. })) {
            Some(Item::Gap { messages: m, bytes: b }) => (*m, *b) = sum(Some((*m, *b)), messages, bytes),
            _ => self.items.push_back((place, Item::Gap { messages, bytes })),
        }
    }

    /// The last note of a kind of a channel, where it has so many at its end that the next one is
    /// merged with it. Else the next one counts.
    fn last_note(
        &mut self,
        channel: &mut Channel,
        place: usize,
        kind: impl Fn(&Item) -> bool,
    ) -> Option<&mut Item> {
        if channel.notes < MOST {
            channel.notes += 1;
            return None;
        }
        let notes = self.items.iter_mut().rev().filter(|(of, _)| *of == place).map(|(_, item)| item);
        let mut notes = notes.take_while(|item| matches!(item, Item::End(_) | Item::Gap { .. }));
        notes.find(|item| kind(item))
    }
}

const _: () = assert!(Priority::Urgent as usize == 0 && Priority::Normal as usize == 1);
