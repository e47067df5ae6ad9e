//! The clients: how they come, are away, and go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use trunkline::{Access, ChannelSet};

use super::cursor::{Cursor, State};
use super::input::Inlet;
use super::presence::Presence;
use super::private::Answers;
use super::roster::Notes;
use super::shared::Held;
use super::{Key, Router, Upstream};
use crate::filter::News;

/// A client that joins.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    pub(crate) access: Arc<Access>,
    /// The channels that it may receive and send on.
    pub(crate) receives: ChannelSet,
    pub(crate) sends: ChannelSet,
    /// The largest message that it takes.
    pub(crate) largest: usize,
    pub(crate) now: Instant,
}

/// How a client's connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaving {
    /// In order: what it has sent still counts.
    InOrder,
    /// Otherwise: nothing that was not taken does.
    Lost,
}

pub(super) struct Client {
    pub(super) id: u64,
    pub(super) joined: Instant,
    pub(super) access: Arc<Access>,
    pub(super) sends: ChannelSet,
    pub(super) largest: usize,
    pub(super) presence: Presence,
    /// One for each channel of the log.
    pub(super) cursors: Vec<Cursor>,
    /// It is in the list of those that may have something to get.
    pub(super) queued: bool,
    /// Its connection is being closed by the hub.
    pub(super) closing: bool,
    pub(super) inlet: Inlet,
    pub(super) held: VecDeque<Held>,
    pub(super) notes: Notes,
    pub(super) answers: Answers,
}

impl Router {
    /// A client joins. It gets what the log has, and then what comes.
    pub(crate) fn handle_join(&mut self, joining: Joining) -> Key {
        self.ids += 1;
        let Joining { access, receives, sends, largest, now } = joining;
        let channels = self.log.channels().iter();
        let cursors =
            channels
                .map(|channel| {
                    if receives.contains(channel.id) {
                        Cursor::joins(channel)
                    } else {
                        Cursor::absent(channel)
                    }
                })
                .collect();
        let client = Client {
            id: self.ids,
            joined: now,
            access: Arc::clone(&access),
            sends,
            largest,
            presence: Presence::Here,
            cursors,
            queued: false,
            closing: false,
            inlet: Inlet::new(self.number()),
            held: VecDeque::new(),
            notes: Notes::new(self.plan.roster.is_some_and(|roster| receives.contains(roster))),
            answers: Answers::new(self.plan.private.is_some_and(|private| receives.contains(private))),
        };
        let key = self.clients.insert(client);
        self.tell(&News::Joined { client: self.ids, access: &access });
        self.board.changed();
        self.wake(key);
        key
    }

    /// The number by which others know a client.
    #[cfg(test)]
    pub(crate) fn id(&self, key: Key) -> u64 {
        self.clients[key].id
    }

    pub(crate) fn has(&self, key: Key) -> bool {
        self.clients.contains(key)
    }

    /// A client's socket is lost. It keeps its place in everything.
    pub(crate) fn handle_away(&mut self, key: Key, now: Instant) {
        if let Some(client) = self.clients.get_mut(key)
            && client.presence == Presence::Here
        {
            client.presence = Presence::Away(now);
            self.away.push_back((now, key));
            self.board.changed();
        }
    }

    /// Judges hear of the clients that are away for too long.
    pub(super) fn tell_lost(&mut self, now: Instant) {
        while let Some((since, key)) = self.away.front().copied()
            && now.saturating_duration_since(since) >= self.plan.settings.owner_grace
        {
            self.away.pop_front();
            self.tell(&News::Lost { client: self.clients[key].id });
        }
    }

    /// A client is away no more, or for good. Returns `true` if the judges have heard that it is.
    fn end_absence(&mut self, key: Key) -> bool {
        let told = self.away.len();
        self.away.retain(|(_, other)| *other != key);
        told == self.away.len()
    }

    /// It has a socket again.
    pub(crate) fn handle_back(&mut self, key: Key) {
        if let Some(client) = self.clients.get_mut(key)
            && matches!(client.presence, Presence::Away(_))
        {
            client.presence = Presence::Here;
            let client = client.id;
            if self.end_absence(key) {
                self.tell(&News::Back { client });
            }
            self.board.changed();
            self.wake(key);
        }
    }

    /// A client's connection is over. Returns `true` if the driver is to go on taking its input, until
    /// [`Router::handle_drained`].
    pub(crate) fn handle_leave(&mut self, key: Key, how: Leaving) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        let may_own = how == Leaving::InOrder
            && !client.closing
            && self.plan.input.is_some_and(|input| client.sends.contains(input))
            && !matches!(self.upstream, Upstream::Over { .. });
        if !may_own {
            self.forget(key);
            return false;
        }
        client.presence = Presence::Gone;
        let id = client.id;
        for cursor in &mut client.cursors {
            cursor.state = State::Absent;
        }
        client.held.clear();
        client.notes = Notes::new(false);
        self.tell_left(key, id);
        self.end_conversation(key);
        self.board.changed();
        self.refresh_prompt();
        true
    }

    /// Everything that a client had sent was taken.
    pub(crate) fn handle_drained(&mut self, key: Key) {
        if self.clients.get(key).is_some_and(|client| client.presence == Presence::Gone) {
            self.forget(key);
        }
    }

    fn tell_left(&mut self, key: Key, client: u64) {
        self.end_absence(key);
        self.tell(&News::Left { client });
    }

    pub(super) fn forget(&mut self, key: Key) {
        if let Some(client) = self.clients.get(key).filter(|client| client.presence != Presence::Gone) {
            let id = client.id;
            self.tell_left(key, id);
        }
        self.end_conversation(key);
        self.abandon_input(key);
        self.clients.remove(key);
        for list in self.idle.iter_mut().chain(&mut self.stopped) {
            list.retain(|(other, _)| *other != key);
        }
        self.pool.forget(key);
        self.parked.retain(|(other, _)| *other != key);
        self.board.changed();
    }
}
