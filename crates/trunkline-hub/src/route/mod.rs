//! The routing as a value: no threads, no sockets, no clock.
//!
//! Events go in by `handle_*`, with the time where it matters. What is to be done comes out in two ways. What a
//! client gets is pulled, one thing at a time, by [`Router::next`], so that a slow client holds nothing but its
//! cursors. Everything else is an [`Action`], to be done before the next event goes in. [`Router::next_ready`]
//! names the clients that may have something to get, each once.

mod actions;
mod clients;
mod cursor;
mod downward;
mod gives;
mod input;
mod lines;
mod log;
mod plan;
mod position;
mod presence;
mod private;
mod relayed;
mod roster;
mod screen;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use slab::Slab;
use trunkline::{ChannelId, CloseCode};

pub(crate) use actions::Action;
use clients::Client;
pub(crate) use clients::{Joining, Leaving};
pub(crate) use gives::{Gives, Way};
use input::Input;
pub(crate) use input::{Judged, Wish};
pub(crate) use log::{End, Keeps, Log};
pub(crate) use plan::{Plan, Settings, Up, channels};
use private::Pool;
use relayed::Relayed;
use roster::Board;
pub(crate) use roster::LONGEST_REQUEST;
pub(crate) use screen::Screen;
pub(crate) use shared::Bench;

/// A client, as long as it is here. Numbers are used again.
pub(crate) type Key = usize;

/// What upstream is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Upstream {
    Live,
    Suspended,
    /// Clients get what is left, until then.
    Over {
        /// `None`: no clock reaches it.
        deadline: Option<Instant>,
        code: CloseCode,
        reason: String,
    },
}

/// The value.
pub(crate) struct Router {
    plan: Plan,
    log: Log,
    /// For each channel of the log: clients that have all of it, and those that have stopped its run.
    idle: Vec<Vec<(Key, u64)>>,
    stopped: Vec<Vec<(Key, u64)>>,
    clients: Slab<Client>,
    ids: u64,
    input: Input,
    pool: Pool,
    board: Board,
    relayed: Relayed,
    benches: Vec<Bench>,
    /// Clients that are away, and of which the judges were not told: since when, oldest first.
    away: VecDeque<(Instant, Key)>,
    upstream: Upstream,
    ready: VecDeque<Key>,
    /// Clients whose messages wait for room on a channel upstream.
    parked: Vec<(Key, ChannelId)>,
    actions: VecDeque<Action>,
}

impl Router {
    pub(crate) fn new(plan: Plan, log: Log, benches: Vec<Bench>, now: Instant) -> Self {
        let lists = || log.channels().iter().map(|_| Vec::new()).collect();
        Self {
            idle: lists(),
            stopped: lists(),
            pool: Pool::new(plan.pool & plan.may_send),
            board: Board::new(now),
            plan,
            log,
            clients: Slab::new(),
            ids: 0,
            input: Input::default(),
            relayed: Relayed::default(),
            benches,
            away: VecDeque::new(),
            upstream: Upstream::Live,
            ready: VecDeque::new(),
            parked: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the log holds, as it counts.
    pub(crate) fn log_cost(&self) -> usize {
        usize::try_from(self.log.cost()).unwrap_or(usize::MAX)
    }

    /// The next thing to do.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next client that may have something to get. Its turn ends with [`Router::end_turn`].
    pub(crate) fn next_ready(&mut self) -> Option<Key> {
        loop {
            let key = self.ready.pop_front()?;
            if let Some(client) = self.clients.get_mut(key)
                && std::mem::take(&mut client.queued)
            {
                return Some(key);
            }
        }
    }

    /// Returns `true` if clients have something to get.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many those are, at most.
    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// A client may have something to get.
    fn wake(&mut self, key: Key) {
        if let Some(client) = self.clients.get_mut(key)
            && !std::mem::replace(&mut client.queued, true)
        {
            self.ready.push_back(key);
        }
    }

    fn wake_all(&mut self) {
        for (key, client) in &mut self.clients {
            if !std::mem::replace(&mut client.queued, true) {
                self.ready.push_back(key);
            }
        }
    }

    // ---- upstream

    pub(crate) fn handle_suspended(&mut self) {
        if self.upstream == Upstream::Live {
            self.upstream = Upstream::Suspended;
            self.board.changed();
        }
    }

    pub(crate) fn handle_resumed(&mut self) {
        if self.upstream == Upstream::Suspended {
            self.upstream = Upstream::Live;
            self.board.changed();
        }
    }

    /// Upstream is over, or the hub is to end: clients get what is left, within the linger, and then CLOSE.
    pub(crate) fn handle_over(&mut self, code: CloseCode, reason: &str, linger: Duration, now: Instant) {
        if !matches!(self.upstream, Upstream::Over { .. }) {
            self.upstream =
                Upstream::Over { deadline: now.checked_add(linger), code, reason: reason.to_owned() };
            self.board.changed();
            self.wake_all();
        }
    }

    /// Upstream is over, and no client is left.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.upstream, Upstream::Over { .. }) && self.clients.is_empty()
    }

    // ---- time

    /// When [`Router::handle_timeout`] is to be called.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let over = match &self.upstream {
            Upstream::Over { deadline, .. } if !self.clients.is_empty() => *deadline,
            _ => None,
        };
        let board = if self.clients.is_empty() { None } else { self.board.due(self.number()) };
        let away = self.away.front().and_then(|(since, _)| since.checked_add(self.plan.settings.owner_grace));
        [over, board, away, self.input.patience_ends(&self.plan.settings)].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.publish(now);
        self.tell_lost(now);
        if let Upstream::Over { deadline, code, reason } = &self.upstream
            && deadline.is_some_and(|deadline| now >= deadline)
        {
            for (key, client) in &mut self.clients {
                if !std::mem::replace(&mut client.closing, true) {
                    self.actions.push_back(Action::Close { key, code: *code, reason: reason.clone() });
                }
            }
        }
    }
}
