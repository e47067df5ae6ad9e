//! Private conversations: each client has one with the program, on a channel of a pool.
//!
//! A conversation is one run each way. The channel is lent again only when both have ended, and the program ends its run
//! only after it has read the end of the client's; otherwise the next client would get the last one's answers.

use std::collections::VecDeque;

use bytes::Bytes;
use trunkline::{ChannelId, ChannelSet};

use super::downward::Gives;
use super::log::{COST, End};
use super::{Action, Key, Router};
use crate::code;

/// The channels upstream.
pub(super) struct Pool {
    free: VecDeque<ChannelId>,
    lent: Vec<Lent>,
}

/// A conversation that has begun.
#[derive(Debug)]
struct Lent {
    channel: ChannelId,
    /// `None` once the client wants no more of it: what still comes is discarded.
    client: Option<Key>,
    /// The client's run has ended, and upstream was told.
    finished: bool,
    /// The program's run has ended.
    answered: bool,
}

/// Answers that a client has not taken.
#[derive(Debug)]
pub(super) struct Answers {
    may: bool,
    queue: VecDeque<Answer>,
    bytes: u64,
    pub(super) blocked: bool,
}

#[derive(Debug)]
enum Answer {
    Message(Bytes),
    Gap(u64, u64),
    End(End),
}

impl Pool {
    pub(super) fn new(channels: ChannelSet) -> Self {
        Self { free: channels.iter().collect(), lent: Vec::new() }
    }

    fn of_client(&mut self, key: Key) -> Option<&mut Lent> {
        self.lent.iter_mut().find(|lent| lent.client == Some(key))
    }

    fn of_channel(&mut self, channel: ChannelId) -> Option<&mut Lent> {
        self.lent.iter_mut().find(|lent| lent.channel == channel)
    }

    /// Lends a channel, or says which one is lent.
    fn lend(&mut self, key: Key) -> Option<ChannelId> {
        if let Some(lent) = self.of_client(key) {
            return Some(lent.channel);
        }
        let channel = self.free.pop_front()?;
        self.lent.push(Lent { channel, client: Some(key), finished: false, answered: false });
        Some(channel)
    }

    /// Channels on which both runs have ended can be lent again.
    fn collect(&mut self) {
        let free = &mut self.free;
        self.lent.retain(|lent| {
            let over = lent.finished && lent.answered;
            if over {
                free.push_back(lent.channel);
            }
            !over
        });
    }

    pub(super) fn forget(&mut self, key: Key) {
        if let Some(lent) = self.of_client(key) {
            lent.client = None;
        }
    }
}

impl Answers {
    pub(super) fn new(may: bool) -> Self {
        Self { may, queue: VecDeque::new(), bytes: 0, blocked: false }
    }

    /// There is something that may be sent.
    pub(super) fn has_next(&self) -> bool {
        !self.blocked && !self.queue.is_empty()
    }

    pub(super) fn has_something(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn next(&self) -> Option<Gives<'_>> {
        self.queue.front().map(|answer| match answer {
            Answer::Message(bytes) => Gives::Message(bytes),
            Answer::Gap(messages, bytes) => Gives::Gap { messages: *messages, bytes: *bytes },
            Answer::End(end) => Gives::End(*end),
        })
    }

    fn push(&mut self, answer: Answer) {
        if let Answer::Message(bytes) = &answer {
            self.bytes += bytes.len() as u64;
        }
        self.bytes += COST;
        self.queue.push_back(answer);
    }

    fn clear(&mut self) {
        self.queue.clear();
        self.bytes = 0;
    }
}

impl Router {
    /// The upstream channel on which a client's next private message would go; `None`: it waits unread, because its last
    /// conversation is not over. [`Action::Look`] names the client then.
    pub(crate) fn private_wish(&mut self, key: Key) -> Option<Option<ChannelId>> {
        match self.pool.of_client(key) {
            Some(lent) if lent.finished => None,
            Some(lent) => Some(Some(lent.channel)),
            None => Some(self.pool.free.front().copied()),
        }
    }

    /// A private message from a client.
    pub(crate) fn handle_private(&mut self, key: Key, message: Bytes) {
        let Some(channel) = self.plan.private.filter(|_| self.clients.contains(key)) else { return };
        match self.pool.lend(key) {
            Some(lent) if self.plan.may_send.contains(lent) => {
                self.actions.push_back(Action::Pass { channel: lent, message });
            }
            Some(_) => {
                self.end_conversation(key);
                self.actions.push_back(Action::Refuse { key, channel, code: code::NOT_SENT_HERE });
            }
            None => {
                self.actions.push_back(Action::Refuse { key, channel, code: code::NO_PRIVATE_CHANNEL });
            }
        }
    }

    /// A client has ended its run.
    pub(crate) fn handle_private_end(&mut self, key: Key, end: End) {
        match end {
            End::Finish => {
                if let Some(lent) = self.pool.of_client(key)
                    && !std::mem::replace(&mut lent.finished, true)
                {
                    let channel = lent.channel;
                    self.actions.push_back(Action::EndUpstream { channel, end: End::Finish });
                }
                self.collect_private(key);
            }
            // It wants no more answers either.
            End::Reset(code) => self.cut_conversation(key, End::Reset(code)),
        }
    }

    /// A client wants no more answers.
    pub(super) fn conversation_stopped(&mut self, key: Key) {
        if let Some(client) = self.clients.get_mut(key) {
            client.answers.clear();
        }
        if self.end_conversation(key)
            && let Some(channel) = self.plan.private
        {
            self.actions.push_back(Action::Refuse { key, channel, code: 0 });
        }
    }

    /// The client's conversation is over for it: it is told so.
    fn cut_conversation(&mut self, key: Key, end: End) {
        self.end_conversation(key);
        if let Some(client) = self.clients.get_mut(key) {
            client.answers.clear();
            client.answers.push(Answer::End(end));
            self.wake(key);
        }
    }

    /// The client wants no more of its conversation: upstream reads its end, and what still comes is discarded.
    /// Returns `true` if there was one.
    pub(super) fn end_conversation(&mut self, key: Key) -> bool {
        let Some(lent) = self.pool.of_client(key) else { return false };
        lent.client = None;
        let channel = lent.channel;
        if !std::mem::replace(&mut lent.finished, true) {
            self.actions.push_back(Action::EndUpstream { channel, end: End::Finish });
        }
        self.pool.collect();
        true
    }

    fn collect_private(&mut self, key: Key) {
        self.pool.collect();
        if self.pool.of_client(key).is_none()
            && let Some(channel) = self.plan.private
        {
            // Its next conversation may begin.
            self.actions.push_back(Action::Look { key, channel });
        }
    }

    /// An answer from upstream.
    pub(crate) fn handle_answer(&mut self, channel: ChannelId, message: Bytes) {
        let Some(key) = self.pool.of_channel(channel).and_then(|lent| lent.client) else { return };
        self.answer(key, Answer::Message(message));
    }

    /// Upstream has left something out.
    pub(crate) fn handle_answer_gap(&mut self, channel: ChannelId, messages: u64, bytes: u64) {
        let Some(key) = self.pool.of_channel(channel).and_then(|lent| lent.client) else { return };
        self.answer(key, Answer::Gap(messages, bytes));
    }

    fn answer(&mut self, key: Key, answer: Answer) {
        let most = self.plan.settings.unread_answers as u64;
        let Some(client) = self.clients.get_mut(key).filter(|client| client.answers.may) else { return };
        client.answers.push(answer);
        // One message of any size may always wait.
        if client.answers.bytes > most && client.answers.queue.len() > 1 {
            self.cut_conversation(key, End::Reset(code::UNREAD));
            if let Some(channel) = self.plan.private {
                self.actions.push_back(Action::Refuse { key, channel, code: code::UNREAD });
            }
            return;
        }
        self.wake(key);
    }

    /// The program has ended its run.
    pub(crate) fn handle_answer_end(&mut self, channel: ChannelId, end: End) {
        let Some(lent) = self.pool.of_channel(channel) else { return };
        lent.answered = true;
        let client = lent.client;
        let early = !std::mem::replace(&mut lent.finished, true);
        if early {
            // It should have read the client's end first; so that end is now.
            self.actions.push_back(Action::EndUpstream { channel, end: End::Finish });
        }
        self.pool.collect();
        let Some(key) = client else { return };
        if let Some(client) = self.clients.get_mut(key).filter(|client| client.answers.may) {
            client.answers.push(Answer::End(end));
            self.wake(key);
        }
        if let Some(channel) = self.plan.private {
            if early {
                self.actions.push_back(Action::Refuse { key, channel, code: 0 });
            }
            self.actions.push_back(Action::Look { key, channel });
        }
    }

    /// Upstream wants no more of a client's run.
    pub(crate) fn handle_private_stopped(&mut self, channel: ChannelId, code: u32) {
        let Some(lent) = self.pool.of_channel(channel) else { return };
        // The stop has ended the run upstream.
        lent.finished = true;
        let client = lent.client;
        self.pool.collect();
        if let Some(key) = client
            && let Some(channel) = self.plan.private
        {
            self.actions.push_back(Action::Refuse { key, channel, code });
            self.collect_private(key);
        }
    }

    pub(super) fn answer_sent(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if let Some(answer) = client.answers.queue.pop_front() {
            client.answers.bytes -= COST;
            if let Answer::Message(bytes) = answer {
                client.answers.bytes -= bytes.len() as u64;
            }
        }
    }
}
