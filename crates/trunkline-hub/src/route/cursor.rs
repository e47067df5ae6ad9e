//! How far a client has read a channel of the log, and what it gets next.

use bytes::Bytes;

use super::log::{Channel, End, Entry, Keeps};
use super::position::{Amount, Position};

/// Whether a client can be sent something on a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It has everything, and is in the channel's list of those.
    Idle,
    /// There may be something, and room for it.
    Ready,
    /// It has no room, or the rest of a message waits for room.
    Blocked,
    /// The client has stopped the run, and gets nothing until it ends.
    Stopped,
    /// The client may not receive the channel.
    Absent,
}

/// A client's place in a channel.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    at: Position,
    pub(crate) state: State,
    /// It is in the channel's list of those that wait for the end of a run that they stopped.
    pub(crate) listed: bool,
    /// What was left out since the last thing that was sent.
    gap: Amount,
    /// An end that was trimmed, and comes after the gap.
    end: Option<End>,
    /// The client's run has begun.
    open: bool,
    /// The next thing is a snapshot, which stands for all that came.
    fresh: Option<Fresh>,
    /// Of a message that was sent, the rest waits for room; its place in the log.
    staged: Option<u64>,
    /// The place of what was sent last.
    last: u64,
}

/// Why a client gets a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fresh {
    /// Its run begins.
    Begins,
    /// It has lost something, so it is told what the snapshot stands for.
    Lost,
}

/// What comes next on a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Next<'a> {
    /// The run is abandoned: a snapshot follows.
    Abandon,
    Gap(Amount),
    Snapshot,
    Message(&'a Bytes),
    End(End),
}

impl Cursor {
    /// The place of a client that joins.
    pub(crate) fn joins(channel: &Channel) -> Self {
        let mut cursor = Self {
            at: Position::default(),
            state: State::Ready,
            listed: false,
            gap: Amount::default(),
            end: None,
            open: false,
            fresh: None,
            staged: None,
            last: 0,
        };
        match &channel.keeps {
            Keeps::History => {}
            Keeps::Latest => cursor.at = channel.newest(),
            Keeps::Nothing => {
                cursor.at = *channel.end();
                cursor.end = channel.ended();
            }
            Keeps::Screen(_) => {
                cursor.at = *channel.end();
                cursor.fresh = (channel.end().index > 0).then_some(Fresh::Begins);
                cursor.end = channel.ended();
            }
        }
        cursor
    }

    /// A client that may not receive the channel.
    pub(crate) fn absent(channel: &Channel) -> Self {
        Self { state: State::Absent, ..Self::joins(channel) }
    }

    /// Passes over what is not sent as it is: what was trimmed, gaps, messages that the client does not take, and
    /// what a snapshot stands for.
    pub(crate) fn settle(&mut self, channel: &Channel, largest: usize) {
        let start = channel.start();
        if self.at.index < start.index {
            self.gap.add(start.amount.since(self.at.amount));
            if start.ends > self.at.ends {
                self.end = channel.trimmed_end();
                if self.state == State::Stopped {
                    // The run that was stopped has ended meanwhile.
                    self.state = State::Ready;
                    self.end = None;
                }
            }
            self.at = *start;
        }
        while let Some(logged) = channel.entry(self.at.index) {
            let stopped = self.state == State::Stopped;
            match &logged.entry {
                Entry::Gap(amount) => self.gap.add(*amount),
                Entry::Message(bytes) if bytes.len() > largest => {
                    self.gap.add(Amount::of(1, bytes.len() as u64));
                }
                Entry::Message(_) if stopped => {}
                Entry::End(_) if stopped => self.state = State::Ready,
                Entry::Message(_) | Entry::End(_) => break,
            }
            self.at.pass(&logged.entry);
        }
        if self.state == State::Stopped || channel.is_latest() {
            self.gap = Amount::default();
        }
        if matches!(channel.keeps, Keeps::Screen(_)) && self.state != State::Stopped {
            self.settle_on_screen(channel);
        }
    }

    /// On a channel with a snapshot, each run begins with one, and a gap is followed by one.
    fn settle_on_screen(&mut self, channel: &Channel) {
        let begins = !self.open
            && matches!(channel.entry(self.at.index), Some(logged) if matches!(logged.entry, Entry::Message(_)));
        if !self.gap.is_nothing() {
            self.fresh.get_or_insert(Fresh::Lost);
        } else if begins {
            self.fresh.get_or_insert(Fresh::Begins);
        }
        let Some(fresh) = self.fresh else { return };
        // It stands for all that is there.
        match fresh {
            Fresh::Begins => self.gap = Amount::default(),
            Fresh::Lost => self.gap.add(channel.end().amount.since(self.at.amount)),
        }
        self.at = *channel.end();
        self.end = channel.ended();
    }

    /// The place of what comes next, and what it is; `None` if the client has everything. To be called after
    /// [`settle`](Cursor::settle).
    pub(crate) fn peek<'a>(&self, channel: &'a Channel) -> Option<(u64, Next<'a>)> {
        if self.state == State::Stopped {
            return None;
        }
        let logged = channel.entry(self.at.index);
        let place = logged.map_or(self.last, |logged| logged.place);
        if self.fresh.is_some() {
            // An end that is the newest thing is told after the snapshot.
            let next = if self.open {
                Next::Abandon
            } else if self.gap.is_nothing() {
                Next::Snapshot
            } else {
                Next::Gap(self.gap)
            };
            return Some((place, next));
        }
        if !self.gap.is_nothing() {
            return Some((place, Next::Gap(self.gap)));
        }
        if let Some(end) = self.end {
            return Some((place, Next::End(end)));
        }
        logged.and_then(|logged| match &logged.entry {
            Entry::Message(bytes) => Some((place, Next::Message(bytes))),
            Entry::End(end) => Some((place, Next::End(*end))),
            // `settle` has passed it.
            Entry::Gap(_) => None,
        })
    }

    /// What [`peek`](Cursor::peek) returned was sent.
    pub(crate) fn sent(&mut self, channel: &Channel) {
        if self.fresh.is_some() {
            if self.open {
                self.open = false;
            } else if !self.gap.is_nothing() {
                self.gap = Amount::default();
            } else {
                self.fresh = None;
                self.open = true;
            }
            return;
        }
        if !self.gap.is_nothing() {
            self.gap = Amount::default();
            return;
        }
        if self.end.take().is_some() {
            self.open = false;
            return;
        }
        if let Some(logged) = channel.entry(self.at.index) {
            self.open = !matches!(logged.entry, Entry::End(_));
            self.last = logged.place;
            self.at.pass(&logged.entry);
        }
    }

    /// The rest of the message that was sent last waits for room. Returns `true` if that is news.
    pub(crate) fn stage(&mut self) -> bool {
        if matches!(self.state, State::Stopped | State::Absent) {
            return false;
        }
        self.state = State::Blocked;
        self.staged.replace(self.last).is_none()
    }

    /// There is room.
    pub(crate) fn has_room(&mut self) {
        if self.state == State::Blocked {
            self.staged = None;
            self.state = State::Ready;
        }
    }

    /// The client has stopped the run. Returns `true` if it had one that has not ended.
    pub(crate) fn stop(&mut self) {
        self.state = State::Stopped;
        self.staged = None;
        self.gap = Amount::default();
        self.end = None;
        self.open = false;
    }

    /// Returns `true` if something that stands before a place of the log is not sent and in no gap.
    pub(crate) fn is_before(&self, channel: &Channel, place: u64) -> bool {
        match self.state {
            State::Idle | State::Stopped | State::Absent => false,
            State::Ready | State::Blocked => {
                self.staged.is_some_and(|staged| staged < place)
                    || channel.entry(self.at.index).is_some_and(|logged| logged.place < place)
            }
        }
    }

    /// How many bytes of what came were not sent.
    pub(crate) fn behind(&self, channel: &Channel) -> u64 {
        if self.state == State::Absent {
            return 0;
        }
        u64::try_from(channel.end().amount.bytes - self.at.amount.bytes).unwrap_or(u64::MAX)
    }

    /// What that costs.
    pub(crate) fn cost_behind(&self, channel: &Channel) -> u64 {
        u64::try_from(channel.end().cost - self.at.cost).unwrap_or(u64::MAX)
    }
}
