//! What goes from upstream to the clients.

use bytes::Bytes;
use trunkline::ChannelId;

use super::cursor::{Next, State};
use super::gives::{Gives, Way};
use super::log::{End, Entry};
use super::{Action, Key, Router, Upstream};

/// More than a turn of upstream can bring: its bytes, and as many messages as there may be in them.
const MARGIN: u64 = 256 << 10;

impl Router {
    // ---- upstream's side

    /// A message from upstream on a channel of the log.
    pub(crate) fn handle_message(&mut self, channel: ChannelId, message: Bytes) {
        self.append(channel, Entry::Message(message));
    }

    /// Upstream has left something out.
    pub(crate) fn handle_gap(&mut self, channel: ChannelId, messages: u64, bytes: u64) {
        self.append(channel, Entry::Gap(super::position::Amount::of(messages, bytes)));
    }

    /// Upstream has ended a run.
    pub(crate) fn handle_end(&mut self, channel: ChannelId, end: End) {
        self.append(channel, Entry::End(end));
    }

    fn append(&mut self, channel: ChannelId, entry: Entry) {
        let Some(slot) = self.plan.slot(channel) else { return };
        let ends = matches!(entry, Entry::End(_));
        self.log.append(slot, entry);
        self.wake_list(slot, false);
        if ends {
            self.wake_list(slot, true);
        }
    }

    /// The clients in a list of a channel have something to look at.
    fn wake_list(&mut self, slot: usize, stopped: bool) {
        let lists = if stopped { &mut self.stopped } else { &mut self.idle };
        if lists[slot].is_empty() {
            return;
        }
        let mut list = std::mem::take(&mut lists[slot]);
        for (key, id) in list.drain(..) {
            if let Some(client) = self.clients.get_mut(key)
                && client.id == id
            {
                let cursor = &mut client.cursors[slot];
                if stopped {
                    cursor.listed = false;
                } else if cursor.state == State::Idle {
                    cursor.state = State::Ready;
                }
                self.wake(key);
            }
        }
        // Its memory is used again.
        let lists = if stopped { &mut self.stopped } else { &mut self.idle };
        lists[slot] = list;
    }

    // ---- the clients' side

    /// What a client gets next, and on which handle. `None` if nothing can be sent to it now.
    pub(crate) fn next(&mut self, key: Key) -> Option<(Way, Gives<'_>)> {
        if self.clients.get(key).is_none_or(|client| client.closing) {
            return None;
        }
        if let Some(note) = self.next_note(key) {
            return Some((Way::Roster, Gives::Owned(note)));
        }
        if self.clients[key].answers.has_next() {
            return self.clients[key].answers.next().map(|gives| (Way::Private, gives));
        }
        let slot = self.pick(key)?;
        let client = &self.clients[key];
        let fresh = matches!(client.cursors[slot].peek(self.log.channel(slot)), Some((_, Next::Snapshot)));
        if fresh {
            let super::log::Keeps::Screen(screen) = &mut self.log.channel_mut(slot).keeps else {
                return None;
            };
            return Some((Way::Log(slot), Gives::Owned(screen.snapshot())));
        }
        let (_, next) = client.cursors[slot].peek(self.log.channel(slot))?;
        let gives = match next {
            Next::Abandon => Gives::End(End::Reset(0)),
            Next::Gap(amount) => {
                let (messages, bytes) = amount.saturated();
                Gives::Gap { messages, bytes }
            }
            Next::Message(bytes) => Gives::Message(bytes),
            Next::End(end) => Gives::End(end),
            Next::Snapshot => return None,
        };
        Some((Way::Log(slot), gives))
    }

    /// The channel on which a client gets the next thing of the log: the one that is first there, among those that
    /// have room.
    fn pick(&mut self, key: Key) -> Option<usize> {
        let client = &mut self.clients[key];
        let mut best: Option<(u64, usize)> = None;
        for (slot, cursor) in client.cursors.iter_mut().enumerate() {
            if matches!(cursor.state, State::Absent | State::Idle) {
                continue;
            }
            let channel = self.log.channel(slot);
            cursor.settle(channel, client.largest);
            match cursor.state {
                State::Stopped => {
                    // It hears of the next end.
                    if !std::mem::replace(&mut cursor.listed, true) {
                        self.stopped[slot].push((key, client.id));
                    }
                    continue;
                }
                State::Blocked => continue,
                _ => {}
            }
            match cursor.peek(channel) {
                None => {
                    cursor.state = State::Idle;
                    self.idle[slot].push((key, client.id));
                }
                Some((place, _)) if best.is_none_or(|(first, _)| place < first) => best = Some((place, slot)),
                Some(_) => {}
            }
        }
        let (place, slot) = best?;
        if self.log.channel(slot).is_latest() && self.waits_for_log(key, place) {
            return self.pick_besides_latest(key);
        }
        Some(slot)
    }

    /// Something that stands before a place of the log is not sent.
    fn waits_for_log(&self, key: Key, place: u64) -> bool {
        let cursors = self.clients[key].cursors.iter().enumerate();
        cursors.into_iter().any(|(slot, cursor)| {
            let channel = self.log.channel(slot);
            !channel.is_latest() && cursor.is_before(channel, place)
        })
    }

    /// The same as [`pick`](Router::pick) where a latest message waits for a channel that has no room.
    fn pick_besides_latest(&mut self, key: Key) -> Option<usize> {
        let cursors = self.clients[key].cursors.iter().enumerate();
        let candidates = cursors.filter_map(|(slot, cursor)| {
            let channel = self.log.channel(slot);
            if cursor.state != State::Ready {
                return None;
            }
            let (place, _) = cursor.peek(channel)?;
            (!channel.is_latest() || !self.waits_for_log(key, place)).then_some((place, slot))
        });
        candidates.min().map(|(_, slot)| slot)
    }

    /// What [`next`](Router::next) returned was sent.
    pub(crate) fn sent(&mut self, key: Key, way: Way) {
        let Some(client) = self.clients.get_mut(key) else { return };
        match way {
            Way::Log(slot) => {
                client.cursors[slot].sent(self.log.channel(slot));
                self.input.owner_progresses(key);
            }
            Way::Private => self.answer_sent(key),
            Way::Roster => {
                client.notes.sent();
                if let Some(channel) = self.plan.roster.filter(|_| self.roster_wish(key)) {
                    self.actions.push_back(Action::Look { key, channel });
                }
            }
        }
    }

    /// Only the newest message of this channel is kept. Before one is sent, [`Router::handle_staged`] is to be called for
    /// each channel of the log on which the rest of a message waits for room, and then what is next is asked again.
    pub(crate) fn is_latest(&self, slot: usize) -> bool {
        self.log.channel(slot).is_latest()
    }

    /// Of the message that was sent last on a channel of the log, the rest waits for room, and
    /// [`Router::handle_room`] will tell of that. Returns `true` if that is news.
    pub(crate) fn handle_staged(&mut self, key: Key, slot: usize) -> bool {
        let latest = self.is_latest(slot);
        self.clients.get_mut(key).is_some_and(|client| !latest && client.cursors[slot].stage())
    }

    /// Returns `true` if reading more from upstream could make a gap for a client that has room: its turn comes first.
    pub(crate) fn would_lose(&self) -> bool {
        self.ready.iter().filter_map(|key| self.clients.get(*key)).any(|client| {
            client.cursors.iter().enumerate().any(|(slot, cursor)| {
                let channel = self.log.channel(slot);
                let bound = self.log.bound(slot);
                cursor.state == State::Ready
                    && !channel.is_latest()
                    && cursor.cost_behind(channel) > bound.saturating_sub(MARGIN).max(bound / 2)
            })
        })
    }

    /// There is no room for it.
    pub(crate) fn handle_no_room(&mut self, key: Key, way: Way) {
        let Some(client) = self.clients.get_mut(key) else { return };
        match way {
            Way::Log(slot) => {
                if client.cursors[slot].state == State::Ready {
                    client.cursors[slot].state = State::Blocked;
                }
            }
            Way::Private => client.answers.blocked = true,
            Way::Roster => client.notes.blocked = true,
        }
    }

    /// There is room again.
    pub(crate) fn handle_room(&mut self, key: Key, way: Way) {
        let Some(client) = self.clients.get_mut(key) else { return };
        match way {
            Way::Log(slot) => client.cursors[slot].has_room(),
            Way::Private => client.answers.blocked = false,
            Way::Roster => client.notes.blocked = false,
        }
        self.wake(key);
    }

    /// A client wants no more of the run of a channel.
    pub(crate) fn handle_stopped(&mut self, key: Key, way: Way) {
        let Some(client) = self.clients.get_mut(key) else { return };
        match way {
            Way::Log(slot) => {
                let cursor = &mut client.cursors[slot];
                match cursor.state {
                    State::Absent => return,
                    State::Idle => self.idle[slot].retain(|(other, _)| *other != key),
                    _ => {}
                }
                cursor.stop();
            }
            Way::Private => self.conversation_stopped(key),
            Way::Roster => client.notes = super::roster::Notes::new(false),
        }
        self.wake(key);
    }

    /// A client's turn is over; `more`: it may have more to get.
    pub(crate) fn end_turn(&mut self, key: Key, more: bool) {
        if more {
            self.wake(key);
            return;
        }
        let Upstream::Over { code, reason, .. } = &self.upstream else { return };
        let Some(client) = self.clients.get_mut(key) else { return };
        // What it has no room for is given up only when the linger is over.
        let done =
            client.cursors.iter().all(|c| matches!(c.state, State::Idle | State::Stopped | State::Absent))
                && !client.answers.has_something()
                && !client.queued;
        if done && !std::mem::replace(&mut client.closing, true) {
            self.actions.push_back(Action::Close { key, code: *code, reason: reason.clone() });
        }
    }
}
