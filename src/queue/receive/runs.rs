//! Which runs are delivered, and which were stopped and are discarded until they end.

use crate::id::{ChannelId, ChannelSet};
use crate::proto::inbound::{Runs, Stop};

/// What becomes of something that came for a channel that needs a look.
pub(super) enum Fate {
    Delivered,
    Discarded {
        /// The peer is to be told.
        stop: Option<Stop>,
        /// Where the channel goes has changed.
        changes: bool,
    },
}

#[derive(Debug, Default)]
pub(super) struct RunStates {
    /// How many runs of a channel have ended, where any has.
    ended: Vec<(ChannelId, u32)>,
    /// Channels with a run that has begun, perhaps with a part of a message, and not ended.
    open: ChannelSet,
    /// What comes is discarded until the run ends; STOP names it.
    discarding: ChannelSet,
    /// Channels whose receiver was dropped, and the code for their runs.
    refused: Vec<(ChannelId, u32)>,
    /// How many whole messages of a channel were dropped unread, where any were.
    discarded: Vec<(ChannelId, u64)>,
}

impl RunStates {
    /// What the I/O thread has received by now.
    pub(super) fn update(&mut self, runs: &Runs) {
        self.open = runs.open;
        for (channel, ended) in &runs.ended {
            match self.ended.iter_mut().find(|(known, _)| known == channel) {
                Some((_, known)) => *known = *ended,
                None => self.ended.push((*channel, *ended)),
            }
        }
    }

    /// Stops the newest run of a channel, whether it has begun or not.
    pub(super) fn stop(&mut self, channel: ChannelId, code: u32) -> Option<Stop> {
        let run = self.ended.iter().find(|(known, _)| *known == channel).map_or(0, |(_, ended)| *ended);
        self.discarding.insert(channel).then_some(Stop { channel, code, run })
    }

    /// Returns `true` if a run of the channel has begun and not ended.
    pub(super) fn is_open(&self, channel: ChannelId) -> bool {
        self.open.contains(channel)
    }

    /// Stops the newest run of a channel, and every later one, until there is a receiver.
    pub(super) fn refuse(&mut self, channel: ChannelId, code: u32) -> Option<Stop> {
        self.refused.push((channel, code));
        self.stop(channel, code)
    }

    /// There is a receiver: it gets the runs that have not been stopped.
    pub(super) fn claimed(&mut self, channels: ChannelSet) {
        self.refused.retain(|(channel, _)| !channels.contains(*channel));
    }

    /// Channels that need a look at each frame.
    pub(super) fn inspected(&self) -> ChannelSet {
        self.refused.iter().fold(self.discarding, |set, (channel, _)| set | *channel)
    }

    fn refusal(&self, channel: ChannelId) -> Option<u32> {
        self.refused.iter().find(|(known, _)| *known == channel).map(|(_, code)| *code)
    }

    /// Whole messages of a channel were dropped unread.
    pub(super) fn count_discarded(&mut self, channel: ChannelId, messages: u32) {
        if messages > 0 {
            match self.discarded.iter_mut().find(|(known, _)| *known == channel) {
                Some((_, sum)) => *sum += u64::from(messages),
                None => self.discarded.push((channel, messages.into())),
            }
        }
    }

    /// How many that were so far.
    pub(super) fn discarded(&self, channel: ChannelId) -> u64 {
        self.discarded.iter().find(|(known, _)| *known == channel).map_or(0, |(_, sum)| *sum)
    }

    /// A message or a gap came.
    pub(super) fn data(&mut self, channel: ChannelId) -> Fate {
        if self.discarding.contains(channel) {
            return Fate::Discarded { stop: None, changes: false };
        }
        match self.refusal(channel) {
            Some(code) => Fate::Discarded { stop: self.stop(channel, code), changes: false },
            None => Fate::Delivered,
        }
    }

    /// The end of a run came.
    pub(super) fn end(&mut self, channel: ChannelId) -> Fate {
        if self.discarding.remove(channel) {
            return Fate::Discarded { stop: None, changes: true };
        }
        match self.refusal(channel) {
            Some(_) => Fate::Discarded { stop: None, changes: false },
            None => Fate::Delivered,
        }
    }
}
