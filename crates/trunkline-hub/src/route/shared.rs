//! Messages on shared channels, which are judged, and what the judges say themselves.

use bytes::Bytes;
use trunkline::ChannelId;

use super::input::Numbers;
use super::plan::Up;
use super::{Action, Key, Router};
use crate::code;
use crate::filter::{Judge, Line, Lines, News, Origin, Verdict};
use crate::guarded::guarded;

/// A message that waits for an input message of its sender.
#[derive(Debug)]
pub(super) struct Held {
    channel: ChannelId,
    own: u64,
    message: Bytes,
}

/// A judge, and where it speaks.
pub(crate) struct Bench {
    judge: Box<dyn Judge>,
    channel: Option<ChannelId>,
    /// It is to be asked once there is room upstream.
    asked: bool,
}

/// So many are kept for each client.
const MOST: usize = 16;

impl Bench {
    /// `channel`: where the judge may say something itself.
    pub(crate) fn new(judge: impl Judge, channel: Option<ChannelId>) -> Self {
        Self { judge: Box::new(judge), channel, asked: false }
    }

    /// Something may follow from what the judge was told last.
    fn ask(&mut self) -> Option<Action> {
        let channel = self.channel.filter(|_| !self.asked)?;
        self.asked = true;
        Some(Action::Say { channel })
    }
}

impl Router {
    /// A message from a client on a shared channel.
    pub(crate) fn handle_shared(&mut self, key: Key, channel: ChannelId, message: Bytes) {
        match self.judge(key, channel, &message) {
            Some(Verdict::Pass) => self.actions.push_back(Action::Pass { channel, message }),
            Some(Verdict::Rewrite(message)) => self.actions.push_back(Action::Pass { channel, message }),
            Some(Verdict::Hold(own)) => self.hold(key, Held { channel, own, message }),
            Some(Verdict::Drop) | None => {}
            Some(Verdict::Refuse(code)) => self.actions.push_back(Action::Skip { key, channel, code }),
        }
        if let Up::Shared(at) = self.plan.up(channel) {
            self.actions.extend(self.benches[*at].ask());
        }
    }

    /// There is room upstream for what a judge has to say on a channel.
    pub(crate) fn handle_say_room(&mut self, channel: ChannelId) {
        for bench in self.benches.iter_mut().filter(|bench| bench.channel == Some(channel)) {
            if std::mem::take(&mut bench.asked)
                && self.plan.may_send.contains(channel)
                && let Some(Some(message)) = guarded(|| bench.judge.say())
            {
                self.actions.push_back(Action::Pass { channel, message });
            }
        }
    }

    /// There was no room for what a judge has to say, and may be now.
    fn say_again(&mut self, channel: ChannelId) {
        if self.benches.iter().any(|bench| bench.asked && bench.channel == Some(channel)) {
            self.actions.push_back(Action::Say { channel });
        }
    }

    /// All judges hear of a client.
    pub(super) fn tell(&mut self, news: &News<'_>) {
        for bench in &mut self.benches {
            let _ = guarded(|| bench.judge.hear(news));
            self.actions.extend(bench.ask());
        }
    }

    /// What a client has sent lies unread until there is room on a channel upstream.
    pub(crate) fn park(&mut self, key: Key, channel: ChannelId) {
        if !self.parked.contains(&(key, channel)) {
            self.parked.push((key, channel));
        }
    }

    /// There is room on a channel upstream that is not the input's.
    pub(crate) fn handle_shared_room(&mut self, channel: ChannelId) {
        self.say_again(channel);
        let private = self.plan.private.filter(|_| self.plan.pool.contains(channel));
        let actions = &mut self.actions;
        self.parked.retain(|(key, of)| {
            if *of == channel {
                actions.push_back(Action::Look { key: *key, channel: private.unwrap_or(channel) });
            }
            *of != channel
        });
    }

    /// Upstream wants no more of the run of a shared channel: no client's run is.
    pub(crate) fn handle_shared_stopped(&mut self, channel: ChannelId, code: u32) {
        self.say_again(channel);
        let senders = self.clients.iter().filter(|(_, client)| client.sends.contains(channel));
        self.actions.extend(senders.map(|(key, _)| Action::Skip { key, channel, code }));
    }

    /// A client interrupts what runs; the core has checked that it may.
    pub(crate) fn handle_interrupt(&mut self, key: Key) {
        if self.plan.may_interrupt && self.clients.contains(key) {
            self.actions.push_back(Action::InterruptUpstream);
        }
    }

    fn judge(&mut self, key: Key, channel: ChannelId, message: &[u8]) -> Option<Verdict> {
        let (owner, passed) = (self.owner(), self.number());
        let client = self.clients.get(key)?;
        let Up::Shared(at) = *self.plan.up(channel) else { return None };
        if !self.plan.may_send.contains(channel) {
            return Some(Verdict::Refuse(code::NOT_SENT_HERE));
        }
        let numbers = Numbers { inlet: &client.inlet, relayed: &self.relayed };
        let origin = Origin {
            client: client.id,
            access: &client.access,
            owns_input: owner == Some(key),
            passed,
            lines: &numbers,
        };
        let judge = &mut self.benches[at].judge;
        Some(guarded(|| judge.judge(&origin, message)).unwrap_or(Verdict::Refuse(code::FAULT)))
    }

    fn hold(&mut self, key: Key, held: Held) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let known = |other: &Held| other.own == held.own && other.message == held.message;
        if client.held.iter().any(known) {
            return;
        }
        if client.held.len() == MOST {
            let channel = held.channel;
            self.actions.push_back(Action::Skip { key, channel, code: code::UNREAD });
            return;
        }
        client.held.push_back(held);
    }

    /// What a client's lines have become may decide on what is held of it.
    pub(super) fn judge_held(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.held.is_empty() {
            return;
        }
        let held = std::mem::take(&mut client.held);
        for held in held {
            let client = &self.clients[key];
            let numbers = Numbers { inlet: &client.inlet, relayed: &self.relayed };
            if numbers.line(held.own) == Line::Coming {
                self.clients[key].held.push_back(held);
            } else {
                self.handle_shared(key, held.channel, held.message);
            }
        }
    }

    /// The same for all clients.
    pub(super) fn judge_all_held(&mut self) {
        let keys: Vec<_> =
            self.clients.iter().filter(|(_, client)| !client.held.is_empty()).map(|(key, _)| key).collect();
        for key in keys {
            self.judge_held(key);
        }
    }
}
