//! The input has one owner.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline::Access;

use super::lines::Stretches;
use super::log::End;
use super::plan::Settings;
use super::presence::Presence;
use super::{Action, Key, Router, Upstream};
use crate::code;
use crate::filter::{Line, Lines, News};

/// How long a program waits at most for an owner that takes nothing of its output.
const PATIENCE: Duration = Duration::from_secs(5);
/// An access takes from the same owner once in this time.
const TAKE_PAUSE: Duration = Duration::from_secs(1);

/// The input of the program.
#[derive(Default)]
pub(super) struct Input {
    owner: Option<Key>,
    /// The number of the owner that the judges have heard of.
    told: Option<u64>,
    /// How many messages were passed on in this session with upstream.
    pub(super) passed: u64,
    /// After so many messages a reader of the program waits.
    pub(super) waiting: Option<u32>,
    /// Upstream has no room.
    full: bool,
    /// Clients whose input waits for that.
    parked: VecDeque<Key>,
    /// The client that was told that the program waits, and the count that it was told.
    prompted: Option<(Key, u32)>,
    /// Upstream is not read, because the owner lags; since its last progress.
    stalled: Option<Instant>,
    /// The owner took nothing for too long.
    gave_up: bool,
}

/// A client's way to the input.
#[derive(Debug)]
pub(super) struct Inlet {
    /// Its messages that the hub has taken, passed on or refused, and those that it has dropped.
    taken: u64,
    dropped: u64,
    /// Its own number of the last one that was passed on.
    last_passed: u64,
    /// The number that was passed on when it last knew that number.
    knows: u64,
    pub(super) stretches: Stretches,
    /// Which access has taken the input from it, and when.
    taken_by: Vec<(Arc<Access>, Instant)>,
}

/// Whether a client's input may be looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    Take,
    /// It lies unread until [`Action::Look`] names it.
    Wait,
}

/// What becomes of a message that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Judged {
    /// It is to be sent upstream; then [`Router::input_passed`] or [`Router::input_not_passed`].
    Pass,
    /// It is refused.
    Refused,
}

impl Inlet {
    pub(super) fn new(knows: u64) -> Self {
        Self {
            taken: 0,
            dropped: 0,
            last_passed: 0,
            knows,
            stretches: Stretches::default(),
            taken_by: Vec::new(),
        }
    }

    /// The client knows how many messages were passed on.
    pub(super) fn set_knows(&mut self, number: u64) {
        self.knows = self.knows.max(number);
    }

    /// How many whole messages have come from the client, as far as the hub knows.
    pub(super) fn received(&self) -> u64 {
        self.taken + self.dropped
    }
}

/// A client's lines, in the numbers of the program.
#[derive(Debug)]
pub(super) struct Numbers<'a> {
    pub(super) inlet: &'a Inlet,
    pub(super) relayed: &'a super::Relayed,
}

impl Lines for Numbers<'_> {
    fn line(&self, own: u64) -> Line {
        match self.inlet.stretches.line(own, self.inlet.received()) {
            Line::Passed(number) => self.relayed.line(number),
            other => other,
        }
    }
}

impl Input {
    /// The owner was sent something.
    pub(super) fn owner_progresses(&mut self, key: Key) {
        if self.owner == Some(key) {
            (self.stalled, self.gave_up) = (None, false);
        }
    }

    /// When the program no longer waits for the owner.
    pub(super) fn patience_ends(&self, settings: &Settings) -> Option<Instant> {
        self.stalled.filter(|_| settings.wait_for_owner).map(|since| since + PATIENCE)
    }
}

impl Router {
    /// How many input messages were passed on, as clients know it.
    pub(super) fn number(&self) -> u64 {
        self.relayed.input().unwrap_or(self.input.passed)
    }

    /// How many will have been passed on when all that is under way has arrived.
    fn expected(&self) -> u64 {
        self.relayed.expected(self.input.passed)
    }

    /// What was passed on last is under way to a hub upstream, which has not said what came before it.
    pub(super) fn is_uncertain(&self) -> bool {
        self.relayed.is_uncertain(self.input.passed)
    }

    pub(crate) fn owns_input(&self, key: Key) -> bool {
        self.input.owner == Some(key)
    }

    pub(super) fn owner(&self) -> Option<Key> {
        self.input.owner
    }

    /// The owner has been away for so long that others may have the input.
    fn owner_is_lost(&self, owner: Key, now: Instant) -> bool {
        match self.clients[owner].presence {
            Presence::Away(since) => now.saturating_duration_since(since) >= self.plan.settings.owner_grace,
            Presence::Here | Presence::Gone => false,
        }
    }

    fn may_send_input(&self, key: Key) -> bool {
        self.plan.input.is_some_and(|input| {
            self.plan.may_send.contains(input) && self.clients[key].sends.contains(input)
        })
    }

    /// What becomes of a message from a client now.
    fn fate(&self, key: Key, now: Instant) -> Result<(), u32> {
        if !self.may_send_input(key) || matches!(self.upstream, Upstream::Over { .. }) {
            return Err(code::NOT_SENT_HERE);
        }
        match self.input.owner {
            Some(owner) if owner == key => Ok(()),
            Some(owner) if !self.owner_is_lost(owner, now) => Err(code::NOT_OWNER),
            // No other client's line was passed on that this client may not have seen.
            _ if self.clients[key].inlet.knows == self.expected() && !self.relayed.is_taking() => Ok(()),
            _ => Err(code::NOT_OWNER),
        }
    }

    // ---- messages

    /// Whether the driver is to look at what a client has sent. A message that would be passed on is taken only when
    /// upstream has room for it; one that would be refused is, at once.
    pub(crate) fn wish(&mut self, key: Key, now: Instant) -> Wish {
        if self.clients.get(key).is_some()
            && self.fate(key, now).is_ok()
            && (self.input.full
                || self.relayed.is_losing()
                || self.relayed.is_taking() && !self.relayed.takes_for(key)
                || self.input.owner != Some(key) && self.is_uncertain())
        {
            if !self.input.parked.contains(&key) {
                self.input.parked.push_back(key);
            }
            return Wish::Wait;
        }
        Wish::Take
    }

    /// A message was taken; `dropped` of the client's were dropped unread so far.
    pub(crate) fn handle_input(&mut self, key: Key, dropped: u64, now: Instant) -> Judged {
        self.handle_dropped(key, dropped);
        let Some(client) = self.clients.get_mut(key) else { return Judged::Refused };
        client.inlet.taken += 1;
        match self.fate(key, now) {
            Ok(()) => Judged::Pass,
            Err(code) => {
                self.refuse_input(key, code);
                Judged::Refused
            }
        }
    }

    /// Of a client's input so many messages were dropped so far: what came of a run after it was refused. Its sender
    /// may have ended the run before it heard of that, so it is told here.
    pub(crate) fn handle_dropped(&mut self, key: Key, dropped: u64) {
        if let Some(client) = self.clients.get_mut(key)
            && dropped > client.inlet.dropped
        {
            client.inlet.dropped = dropped;
            client.notes.lost(client.inlet.last_passed, client.inlet.received());
            client.inlet.stretches.lost();
            self.wake(key);
            self.refresh_prompt();
            self.judge_held(key);
        }
    }

    /// It was sent upstream.
    pub(crate) fn input_passed(&mut self, key: Key) {
        // First, so that a new owner is not told of a prompt that this message answers.
        self.input.passed += 1;
        self.make_owner(key);
        let passed = self.input.passed;
        let number = self.expected();
        let Some(client) = self.clients.get_mut(key) else { return };
        let own = client.inlet.received();
        client.inlet.last_passed = own;
        client.inlet.knows = number;
        if client.inlet.stretches.passed(own, passed) {
            client.notes.line(own, passed);
            self.wake(key);
        }
        self.refresh_prompt();
        self.judge_held(key);
    }

    /// Upstream does not take it, and refuses with this code.
    pub(crate) fn input_not_passed(&mut self, key: Key, code: u32) {
        self.refuse_input(key, code);
    }

    fn refuse_input(&mut self, key: Key, code: u32) {
        if let Some(channel) = self.plan.input {
            self.actions.push_back(Action::Refuse { key, channel, code });
        }
    }

    /// [`Action::Refuse`] was done on the input of a client, of which so many were dropped so far.
    pub(crate) fn handle_refused(&mut self, key: Key, dropped: u64) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.presence == Presence::Gone {
            let (id, messages) = (client.id, dropped.saturating_sub(client.inlet.dropped));
            self.forget(key);
            if messages > 0 {
                self.tell_dropped(id, messages);
            }
            return;
        }
        client.inlet.dropped = dropped;
        client.notes.lost(client.inlet.last_passed, client.inlet.received());
        client.inlet.stretches.lost();
        self.wake(key);
        self.refresh_prompt();
        self.judge_held(key);
    }

    /// A client has ended its run. For the owner that is its release.
    pub(crate) fn handle_input_end(&mut self, key: Key, end: End) {
        if self.input.owner != Some(key) {
            return;
        }
        if self.plan.settings.pass_end_of_input
            && let Some(channel) = self.plan.input
        {
            self.actions.push_back(Action::EndUpstream { channel, end });
        }
        self.set_owner(None);
    }

    /// A client has left something out.
    pub(crate) fn handle_input_gap(&mut self, key: Key, messages: u64, bytes: u64) {
        if self.input.owner == Some(key)
            && let Some(channel) = self.plan.input
        {
            self.actions.push_back(Action::GapUpstream { channel, messages, bytes });
        }
    }

    /// Upstream has no room for input.
    pub(crate) fn handle_input_full(&mut self) {
        self.input.full = true;
    }

    /// It has.
    pub(crate) fn handle_input_room(&mut self) {
        self.input.full = false;
        self.look_at_parked();
    }

    pub(super) fn look_at_parked(&mut self) {
        if let Some(channel) = self.plan.input {
            let parked = self.input.parked.drain(..);
            self.actions.extend(parked.map(|key| Action::Look { key, channel }));
        }
    }

    /// Upstream wants no more of the run of the input: no client's input is.
    pub(crate) fn handle_input_stopped(&mut self, code: u32) {
        if self.relayed.is_behind_hub() {
            return self.lose_upstream(code);
        }
        let keys: Vec<_> =
            self.clients.iter().map(|(key, _)| key).filter(|key| self.may_send_input(*key)).collect();
        for key in keys {
            self.refuse_input(key, code);
        }
        self.set_owner(None);
    }

    // ---- the owner

    fn make_owner(&mut self, key: Key) {
        if self.input.owner != Some(key) {
            self.set_owner(Some(key));
        }
    }

    /// Gives the input to another client, or to none. What the owner before had sent and was not taken was refused,
    /// or it was released in order.
    fn set_owner(&mut self, owner: Option<Key>) {
        if let Some(before) = self.input.owner.take()
            && owner.is_some_and(|owner| owner != before)
        {
            self.refuse_input(before, code::TAKEN);
        }
        self.input.owner = owner;
        (self.input.stalled, self.input.gave_up) = (None, false);
        let client = owner.map(|owner| self.clients[owner].id);
        if std::mem::replace(&mut self.input.told, client) != client {
            self.tell(&News::Owner { client });
        }
        self.board.changed();
        self.refresh_prompt();
        self.look_at_parked();
    }

    /// A client is forgotten.
    pub(super) fn abandon_input(&mut self, key: Key) {
        self.input.parked.retain(|parked| *parked != key);
        if self.input.prompted.is_some_and(|(prompted, _)| prompted == key) {
            self.input.prompted = None;
        }
        self.relayed.forget(key);
        if self.input.owner == Some(key) {
            self.input.owner = None;
            self.set_owner(None);
        }
    }

    /// A client asks for the input. `number`: only if it is free, and so many messages were passed on.
    pub(super) fn take(&mut self, key: Key, number: Option<u64>, now: Instant) -> Result<(), String> {
        if !self.may_send_input(key) {
            return Err("this key may not send input".to_owned());
        }
        let now_number = self.expected();
        if self.input.owner == Some(key) {
            return Ok(());
        }
        if let Some(number) = number
            && number != now_number
        {
            return Err(format!("{now_number} messages were passed on, not {number}"));
        }
        if let Some(owner) = self.input.owner
            && !self.owner_is_lost(owner, now)
        {
            self.check_take(key, owner, number.is_some(), now)?;
        }
        Ok(())
    }

    fn check_take(&mut self, key: Key, owner: Key, only_free: bool, now: Instant) -> Result<(), String> {
        let access = Arc::clone(&self.clients[key].access);
        let holder = &mut self.clients[owner];
        let id = holder.id;
        let own_ghost = matches!(holder.presence, Presence::Away(_)) && holder.access == access;
        if own_ghost {
            return Ok(());
        }
        if only_free {
            return Err(format!("client {id} has the input"));
        }
        if !access.may_take_input() {
            return Err(format!("client {id} has the input, and this key may not take it"));
        }
        let taken = &mut holder.inlet.taken_by;
        taken.retain(|(_, at)| now.saturating_duration_since(*at) < TAKE_PAUSE);
        if taken.iter().any(|(other, _)| *other == access) {
            return Err(format!("the input was taken from client {id} less than a second ago"));
        }
        taken.push((access, now));
        Ok(())
    }

    /// A client has the input, and knows how much was passed on.
    pub(super) fn grant(&mut self, key: Key) {
        let number = self.expected();
        if let Some(client) = self.clients.get_mut(key) {
            client.inlet.knows = number;
            self.make_owner(key);
        }
    }

    /// A client lets go of the input; what it had sent and was not taken is refused.
    pub(super) fn release(&mut self, key: Key) -> Result<(), String> {
        if self.input.owner != Some(key) {
            return Err("this client does not have the input".to_owned());
        }
        self.refuse_input(key, code::TAKEN);
        self.set_owner(None);
        Ok(())
    }

    /// Upstream is a hub, and another of its clients has the input now: `last_passed` of this hub's messages were passed
    /// on there, and those behind it were not, whichever clients they are of.
    pub(super) fn lose_to(&mut self, last_passed: u64, code: u32) {
        let (owner, number) = (self.input.owner, self.number());
        for (key, client) in &mut self.clients {
            let inlet = &mut client.inlet;
            // What it knows may count messages that were not passed on.
            inlet.knows = inlet.knows.min(number);
            let before = inlet.last_passed;
            while inlet.last_passed > 0
                && inlet.stretches.number(inlet.last_passed).is_none_or(|passed| passed > last_passed)
            {
                inlet.last_passed = inlet.stretches.before(inlet.last_passed).unwrap_or(0);
            }
            // The owner hears of it when the rest of its run is refused.
            if before != inlet.last_passed && owner != Some(key) {
                client.notes.lost(inlet.last_passed, inlet.received());
                inlet.stretches.lost();
            }
        }
        let keys: Vec<_> = self.clients.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.wake(key);
        }
        if let Some(owner) = owner {
            self.refuse_input(owner, code);
            self.set_owner(None);
        }
    }

    // ---- the prompt

    /// A reader of the program waits for input, or no longer, after so many messages.
    pub(crate) fn handle_waiting(&mut self, waiting: bool, count: u32) {
        self.input.waiting = waiting.then_some(count);
        self.refresh_prompt();
    }

    /// Tells the owner of an open prompt, and an owner before it that it is no longer its.
    pub(super) fn refresh_prompt(&mut self) {
        #[expect(clippy::cast_possible_truncation, reason = "the count on the wire is modulo 2³²")]
        let open = self.input.waiting == Some(self.input.passed as u32);
        #[expect(clippy::cast_possible_truncation, reason = "the count on the wire is modulo 2³²")]
        let now = self
            .input
            .owner
            .filter(|owner| open && self.clients[*owner].presence != Presence::Gone)
            .map(|owner| (owner, self.clients[owner].inlet.received() as u32));
        if now == self.input.prompted {
            return;
        }
        if let Some((key, count)) = self.input.prompted
            && now.is_none_or(|(owner, _)| owner != key)
        {
            self.actions.push_back(Action::Prompt { key, waiting: false, count });
        }
        if let Some((key, count)) = now {
            self.actions.push_back(Action::Prompt { key, waiting: true, count });
        }
        self.input.prompted = now;
    }

    // ---- waiting for the owner

    /// Whether upstream may be read. If the program waits for the owner of its input, it is not while the owner lags by
    /// half of what the log keeps, unless it is away or has taken nothing for 5 s.
    pub(crate) fn may_read(&mut self, now: Instant) -> bool {
        let Some(owner) = self.input.owner.filter(|_| self.plan.settings.wait_for_owner) else { return true };
        let client = &self.clients[owner];
        let cursors = client.cursors.iter().enumerate();
        let lags = client.presence == Presence::Here
            && cursors.into_iter().any(|(slot, cursor)| {
                let channel = self.log.channel(slot);
                !channel.is_latest()
                    && !matches!(cursor.state, super::cursor::State::Stopped | super::cursor::State::Absent)
                    && cursor.cost_behind(channel) * 2 > self.log.bound(slot)
            });
        if !lags {
            (self.input.stalled, self.input.gave_up) = (None, false);
            return true;
        }
        if self.input.gave_up {
            return true;
        }
        let since = *self.input.stalled.get_or_insert(now);
        self.input.gave_up = now.saturating_duration_since(since) >= PATIENCE;
        if self.input.gave_up {
            self.input.stalled = None;
        }
        self.input.gave_up
    }
}
