//! Private conversations: each client has one with the program, on a channel of a pool.
//!
//! A conversation is one run each way. The channel is lent again only when both have ended, and the program ends its run
//! only after it has read the end of the client's; otherwise the next client would get the last one's answers.

use std::collections::VecDeque;

use bytes::Bytes;
use trunkline::{ChannelId, ChannelSet};

use super::gives::Gives;
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

/// Answers that a client has not taken. Each of its questions, which are its runs, has one run of answers.
#[derive(Debug)]
pub(super) struct Answers {
    may: bool,
    queue: VecDeque<Answer>,
    bytes: u64,
    /// How many ends are in the queue.
    ends: usize,
    /// The client wants no answers to so many questions that were not taken yet.
    unwanted: u32,
    pub(super) blocked: bool,
}

/// A client that has not taken so many ends is asked nothing more.
const MOST_ENDS: usize = 64;

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
        Self { may, queue: VecDeque::new(), bytes: 0, ends: 0, unwanted: 0, blocked: false }
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
        self.bytes += answer.cost();
        self.ends += usize::from(matches!(answer, Answer::End(_)));
        self.queue.push_back(answer);
    }

    fn pop(&mut self) -> Option<Answer> {
        let answer = self.queue.pop_front()?;
        self.bytes -= answer.cost();
        self.ends -= usize::from(matches!(answer, Answer::End(_)));
        Some(answer)
    }

    /// Drops the rest of a run. Returns `true` if its end was there.
    fn drop_run(&mut self) -> bool {
        while let Some(answer) = self.pop() {
            if let Answer::End(_) = answer {
                return true;
            }
        }
        false
    }

    /// Leaves of the run that is under way that it was reset.
    fn cut(&mut self, code: u32) {
        while let Some(answer) = self.queue.pop_back_if(|answer| !matches!(answer, Answer::End(_))) {
            self.bytes -= answer.cost();
        }
        self.push(Answer::End(End::Reset(code)));
    }

    /// Leaves the same of each run that is over too.
    fn cut_all(&mut self, code: u32) {
        let runs = self.ends + 1;
        while self.pop().is_some() {}
        for _ in 0..runs {
            self.push(Answer::End(End::Reset(code)));
        }
    }
}

impl Answer {
    fn cost(&self) -> u64 {
        match self {
            Answer::Message(bytes) => bytes.len() as u64 + COST,
            Answer::Gap(..) | Answer::End(_) => COST,
        }
    }
}

impl Router {
    /// The upstream channel on which a client's next private message would go; `None`: it waits unread, because its last
    /// conversation is not over, or it does not take its answers. [`Action::Look`] names the client then.
    pub(crate) fn private_wish(&mut self, key: Key) -> Option<Option<ChannelId>> {
        if self.clients.get(key).is_some_and(|client| client.answers.ends >= MOST_ENDS) {
            return None;
        }
        match self.pool.of_client(key) {
            Some(lent) if lent.finished => None,
            Some(lent) => Some(Some(lent.channel)),
            None => Some(self.pool.free.front().copied()),
        }
    }

    /// A private message from a client.
    pub(crate) fn handle_private(&mut self, key: Key, message: Bytes) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if self.pool.of_client(key).is_none() && client.answers.unwanted > 0 {
            client.answers.unwanted -= 1;
            return self.skip_question(key, code::OVER);
        }
        match self.pool.lend(key) {
            Some(channel) => self.actions.push_back(Action::Pass { channel, message }),
            None => {
                let none = (self.plan.pool & self.plan.may_send).is_empty();
                let code = if none { code::NOT_SENT_HERE } else { code::NO_PRIVATE_CHANNEL };
                self.skip_question(key, code);
                self.push_answer(key, Answer::End(End::Reset(code)));
            }
        }
    }

    /// A client has ended its run.
    pub(crate) fn handle_private_end(&mut self, key: Key, end: End) {
        let Some(lent) = self.pool.of_client(key) else {
            // It has said nothing in that run, and gets an answer without anything.
            let Some(client) = self.clients.get_mut(key) else { return };
            match client.answers.unwanted.checked_sub(1) {
                Some(unwanted) => client.answers.unwanted = unwanted,
                None => self.push_answer(key, Answer::End(end)),
            }
            return;
        };
        if !std::mem::replace(&mut lent.finished, true) {
            let channel = lent.channel;
            self.actions.push_back(Action::EndUpstream { channel, end: End::Finish });
        }
        match end {
            End::Finish => self.collect_private(key),
            // It wants no more answers either.
            End::Reset(code) => self.cut_conversation(key, |answers| answers.cut(code), code),
        }
    }

    /// A client wants no more of the run of its answers.
    pub(super) fn conversation_stopped(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.answers.blocked = false;
        if client.answers.drop_run() {
            // That conversation was over, and a later one goes on.
            return self.look_at_private(key);
        }
        if self.pool.of_client(key).is_some() {
            self.drop_conversation(key, code::OVER);
        } else {
            client.answers.unwanted += 1;
        }
    }

    /// The client's conversation is over for it: it is told so.
    fn cut_conversation(&mut self, key: Key, cut: impl FnOnce(&mut Answers), code: u32) {
        self.drop_conversation(key, code);
        if let Some(client) = self.clients.get_mut(key) {
            cut(&mut client.answers);
            self.wake(key);
        }
    }

    /// The client's conversation is over for it, and what is left of its question is refused.
    fn drop_conversation(&mut self, key: Key, code: u32) {
        if self.end_conversation(key) {
            self.skip_question(key, code);
        }
        self.look_at_private(key);
    }

    fn skip_question(&mut self, key: Key, code: u32) {
        if let Some(channel) = self.plan.private {
            self.actions.push_back(Action::Skip { key, channel, code });
        }
    }

    /// The next conversation of a client may begin.
    fn look_at_private(&mut self, key: Key) {
        if let Some(channel) = self.plan.private {
            self.actions.push_back(Action::Look { key, channel });
        }
    }

    /// Nothing more of its conversation is for the client: upstream reads its end, and what still comes is discarded.
    /// Returns `true` if its question had not ended.
    pub(super) fn end_conversation(&mut self, key: Key) -> bool {
        let Some(lent) = self.pool.of_client(key) else { return false };
        lent.client = None;
        let channel = lent.channel;
        let was_open = !std::mem::replace(&mut lent.finished, true);
        if was_open {
            self.actions.push_back(Action::EndUpstream { channel, end: End::Finish });
        }
        self.pool.collect();
        was_open
    }

    fn collect_private(&mut self, key: Key) {
        self.pool.collect();
        if self.pool.of_client(key).is_none() {
            self.look_at_private(key);
        }
    }

    /// An answer from upstream.
    pub(crate) fn handle_answer(&mut self, channel: ChannelId, message: Bytes) {
        let Some(key) = self.pool.of_channel(channel).and_then(|lent| lent.client) else { return };
        let Some(client) = self.clients.get(key) else { return };
        let answer = if message.len() > client.largest {
            Answer::Gap(1, message.len() as u64)
        } else {
            Answer::Message(message)
        };
        self.answer(key, answer);
    }

    /// Upstream has left something out.
    pub(crate) fn handle_answer_gap(&mut self, channel: ChannelId, messages: u64, bytes: u64) {
        let Some(key) = self.pool.of_channel(channel).and_then(|lent| lent.client) else { return };
        self.answer(key, Answer::Gap(messages, bytes));
    }

    fn answer(&mut self, key: Key, answer: Answer) {
        let most = self.plan.settings.unread_answers as u64;
        self.push_answer(key, answer);
        let Some(client) = self.clients.get(key) else { return };
        // One message of any size may always wait.
        if client.answers.bytes > most && client.answers.queue.len() > 1 {
            self.cut_conversation(key, |answers| answers.cut_all(code::UNREAD), code::UNREAD);
        }
    }

    fn push_answer(&mut self, key: Key, answer: Answer) {
        let Some(client) = self.clients.get_mut(key).filter(|client| client.answers.may) else { return };
        client.answers.push(answer);
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
        self.push_answer(key, Answer::End(end));
        if early {
            self.skip_question(key, code::OVER);
        }
        self.look_at_private(key);
    }

    /// Upstream wants no more of a client's run.
    pub(crate) fn handle_private_stopped(&mut self, channel: ChannelId, code: u32) {
        let Some(lent) = self.pool.of_channel(channel) else { return };
        // The stop has ended the run upstream.
        let early = !std::mem::replace(&mut lent.finished, true);
        let client = lent.client;
        self.pool.collect();
        if let Some(key) = client {
            if early {
                self.skip_question(key, code);
            }
            self.collect_private(key);
        }
    }

    /// How many ends of answers wait for a client.
    #[cfg(test)]
    pub(super) fn ends_of_answers(&self, key: Key) -> usize {
        self.clients[key].answers.ends
    }

    /// How many channels of the pool are free, and how many are lent.
    #[cfg(test)]
    pub(super) fn private_channels(&self) -> (usize, usize) {
        (self.pool.free.len(), self.pool.lent.len())
    }

    pub(super) fn answer_sent(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let before = client.answers.ends;
        client.answers.pop();
        if before == MOST_ENDS && client.answers.ends < MOST_ENDS {
            self.look_at_private(key);
        }
    }
}
