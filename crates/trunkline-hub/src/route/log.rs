//! What came from upstream, for clients that read it at their own pace.
//!
//! All channels share one order. Each has entries of its own, so that a client can pass over a channel that has no
//! room, and each belongs to a *group* with one bound, whose entries leave in the order in which they came.

use std::collections::VecDeque;

use bytes::Bytes;
use trunkline::ChannelId;

use super::position::{Amount, Position};
use super::screen::Screen;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Finish,
    Reset(u32),
}

/// One thing that came.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Message(Bytes),
    /// What upstream left out.
    Gap(Amount),
    End(End),
}

impl Entry {
    fn cost(&self) -> u64 {
        match self {
            Self::Message(bytes) => bytes.len() as u64 + COST,
            Self::Gap(_) | Self::End(_) => COST,
        }
    }
}

/// An entry and its place in the order of all channels.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) place: u64,
    pub(crate) entry: Entry,
}

/// What a channel keeps, and what a client that joins gets of it.
pub(crate) enum Keeps {
    /// All that the group's bound allows.
    History,
    /// The same for clients that lag; one that joins begins with what comes.
    Nothing,
    /// The newest message, and for clients that lag those before it that the group's bound allows. What is missing is
    /// no gap.
    Latest,
    /// A snapshot stands for what came before.
    Screen(Screen),
}

/// One channel of the log.
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) keeps: Keeps,
    group: usize,
    entries: VecDeque<Logged>,
    /// Where the entries begin and end.
    start: Position,
    end: Position,
    /// The newest end of a run that was trimmed.
    trimmed_end: Option<End>,
    /// How the newest run has ended, if it has.
    ended: Option<End>,
}

/// Channels with one bound.
struct Group {
    bound: u64,
    /// What its entries cost.
    cost: u64,
    /// Whose each entry is, oldest first.
    order: VecDeque<u8>,
    /// The channel and the index of its newest message, and its cost.
    newest: Option<(usize, u64, u64)>,
}

/// The log.
#[derive(Default)]
pub(crate) struct Log {
    channels: Vec<Channel>,
    groups: Vec<Group>,
    places: u64,
}

/// Every entry costs so much besides its bytes, as on the wire.
pub(crate) const COST: u64 = 32;
/// So much of ends and gaps may stand behind a newest message that is larger than the bound.
const NOTES: u64 = 64 << 10;
/// Up to here a message is copied, so that it does not keep the buffer of its neighbours.
const COPY: usize = 16 << 10;

impl Log {
    /// A group with a bound in bytes; its number.
    pub(crate) fn add_group(&mut self, bound: u64) -> usize {
        self.groups.push(Group { bound, cost: 0, order: VecDeque::new(), newest: None });
        self.groups.len() - 1
    }

    /// A channel; its slot.
    pub(crate) fn add_channel(&mut self, id: ChannelId, group: usize, keeps: Keeps) -> usize {
        self.channels.push(Channel {
            id,
            keeps,
            group,
            entries: VecDeque::new(),
            start: Position::default(),
            end: Position::default(),
            trimmed_end: None,
            ended: None,
        });
        self.channels.len() - 1
    }

    pub(crate) fn channels(&self) -> &[Channel] {
        &self.channels
    }

    pub(crate) fn channel(&self, slot: usize) -> &Channel {
        &self.channels[slot]
    }

    pub(crate) fn channel_mut(&mut self, slot: usize) -> &mut Channel {
        &mut self.channels[slot]
    }

    /// The bound of the group of a channel.
    pub(crate) fn bound(&self, slot: usize) -> u64 {
        self.groups[self.channels[slot].group].bound
    }

    /// What all entries cost.
    pub(crate) fn cost(&self) -> u64 {
        self.groups.iter().map(|group| group.cost).sum()
    }

    /// Puts something at the end, and lets go of what is above the bound.
    pub(crate) fn append(&mut self, slot: usize, entry: Entry) {
        let entry = match entry {
            Entry::Message(bytes) if bytes.len() <= COPY => Entry::Message(Bytes::copy_from_slice(&bytes)),
            other => other,
        };
        let channel = &mut self.channels[slot];
        let group = &mut self.groups[channel.group];
        let cost = entry.cost();
        match &entry {
            Entry::Message(bytes) => {
                if let Keeps::Screen(screen) = &mut channel.keeps {
                    screen.feed(bytes);
                }
                group.newest = Some((slot, channel.end.index, cost));
                channel.ended = None;
            }
            Entry::End(end) => channel.ended = Some(*end),
            Entry::Gap(_) => {}
        }
        channel.end.pass(&entry);
        channel.entries.push_back(Logged { place: self.places, entry });
        group.order.push_back(slot as u8);
        group.cost += cost;
        self.places += 1;
        let group = channel.group;
        self.trim(group);
    }

    fn trim(&mut self, group: usize) {
        let group = &mut self.groups[group];
        while group.cost > group.bound
            && let Some(&slot) = group.order.front()
        {
            let slot = usize::from(slot);
            let channel = &mut self.channels[slot];
            if let Some((newest, index, cost)) = group.newest
                && (newest, index) == (slot, channel.start.index)
            {
                if group.cost - cost <= NOTES {
                    return;
                }
                group.newest = None;
            }
            group.order.pop_front();
            let Some(logged) = channel.entries.pop_front() else { return };
            group.cost -= logged.entry.cost();
            channel.start.pass(&logged.entry);
            if let Entry::End(end) = logged.entry {
                channel.trimmed_end = Some(end);
            }
        }
    }
}

impl Channel {
    pub(crate) fn is_latest(&self) -> bool {
        matches!(self.keeps, Keeps::Latest)
    }

    pub(crate) fn start(&self) -> &Position {
        &self.start
    }

    pub(crate) fn end(&self) -> &Position {
        &self.end
    }

    pub(crate) fn trimmed_end(&self) -> Option<End> {
        self.trimmed_end
    }

    /// How the newest run has ended; `None` while one is open, and before the first.
    pub(crate) fn ended(&self) -> Option<End> {
        self.ended
    }

    /// Where the newest message begins that is left, or else the end.
    pub(crate) fn newest(&self) -> Position {
        let last = self.entries.iter().rposition(|logged| matches!(logged.entry, Entry::Message(_)));
        let before = last.unwrap_or(self.entries.len());
        let mut place = self.start;
        self.entries.iter().take(before).for_each(|logged| place.pass(&logged.entry));
        place
    }

    /// The entry at an index that was not trimmed.
    #[inline]
    pub(crate) fn entry(&self, index: u64) -> Option<&Logged> {
        self.entries.get(usize::try_from(index.checked_sub(self.start.index)?).ok()?)
    }
}

impl Position {
    /// Goes on behind an entry.
    pub(crate) fn pass(&mut self, entry: &Entry) {
        self.index += 1;
        self.cost += u128::from(COST);
        match entry {
            Entry::Message(bytes) => {
                self.amount.add(Amount::of(1, bytes.len() as u64));
                self.cost += bytes.len() as u128;
            }
            Entry::Gap(amount) => self.amount.add(*amount),
            Entry::End(_) => self.ends += 1,
        }
    }
}
