//! The peer is there for the first time, and its limits are known: everything that was accepted
//! before is sent in that order; where a channel has too little credit for it, the rest waits with
//! the channel.

use super::channel::{Item, gate};
use super::queue::Outbound;
use super::unmet::Unmet;
use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::Credit;
use crate::proto::segment::Spare;

/// What the peer does not take, although it was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Conflict {
    NotPermitted(ChannelId),
    /// A message above this.
    TooLarge(u32),
}

impl Outbound {
    /// One whose peer is not there yet; `initial` and `max_message` are this side's own.
    pub(crate) fn unmet(initial: Credit, max_message: u32, limit: usize) -> Self {
        Self { unmet: Some(Unmet::default()), ..Self::new(ChannelSet::ALL, initial, max_message, limit) }
    }

    /// The peer is there: `initial` and `max_message` are what it granted.
    pub(crate) fn meet(
        &mut self,
        may_send: ChannelSet,
        initial: Credit,
        max_message: u32,
        spare: &mut impl Spare,
    ) -> Result<(), Conflict> {
        let Some(unmet) = self.unmet.take() else { return Ok(()) };
        (self.may_send, self.initial, self.max_message) = (may_send, initial, max_message);
        if let Some(channel) = self.channels.iter().find(|channel| !may_send.contains(channel.id)) {
            let conflict = Conflict::NotPermitted(channel.id);
            self.freed.extend(unmet.into_items().filter_map(Item::into_payload));
            return Err(conflict);
        }
        let largest = unmet.items.iter().map(|(_, item)| item.len()).max().unwrap_or(0);
        if largest > max_message as usize {
            self.freed.extend(unmet.into_items().filter_map(Item::into_payload));
            return Err(Conflict::TooLarge(max_message));
        }
        for channel in self.channels.iter_mut() {
            channel.credit = initial;
            channel.open = false;
        }
        for (place, item) in unmet.items {
            // Everything goes the way of what waits for credit, and mostly through it at once.
            let blocked = self.channels.at(place).gate & gate::WAITING != 0;
            self.wait(place, item);
            if !blocked {
                self.follow(place, spare);
            }
        }
        Ok(())
    }
}
