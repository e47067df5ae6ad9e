//! What a receiver finds next, in its batch or in its queue.

use std::task::Waker;

use super::{Received, Receiver};
use crate::error::{ConnectionError, RecvError};
use crate::id::{ChannelId, ChannelSet};
use crate::message::Message;
use crate::proto::credit::cost;
use crate::proto::frame::End;
use crate::queue::batch::{Batch, Entry, Peek};
use crate::queue::receive::Nothing;
use crate::queue::until::Until;

/// What comes next.
pub(super) enum Next {
    Received(Received),
    /// The runs of all channels have ended.
    AllOver,
}

/// Why there is nothing.
pub(crate) enum No {
    Empty,
    Interrupted,
    Lost(ConnectionError),
}

/// How long to wait for more: as a thread, or as a task that is woken.
pub(crate) enum Wait<'a> {
    Thread(Until),
    Task(&'a Waker),
}

#[derive(Default)]
pub(super) struct Local {
    pub(super) batch: Batch,
    /// Channels whose run has ended and that sent nothing after it.
    pub(super) over: ChannelSet,
    /// That is all of them, which was not told yet.
    pub(super) all_over: bool,
    /// Something that was looked at and not given out.
    pub(super) put_back: Option<Next>,
    /// Something of the above is set, or `ready` is, so that `next_quickly` will not do.
    pub(super) careful: bool,
    pub(super) ready: Option<crossbeam_channel::Receiver<()>>,
    /// A stream has told that the connection is lost.
    #[cfg(feature = "futures")]
    pub(super) told_end: bool,
}

impl Local {
    /// There is more to be looked at than the batch.
    fn is_special(&self) -> bool {
        !self.over.is_empty() || self.all_over || self.put_back.is_some() || self.ready.is_some()
    }

    /// Something was fetched and not given out.
    pub(super) fn has_some(&self) -> bool {
        !self.batch.is_empty() || self.put_back.is_some() || self.all_over
    }
}

impl Receiver {
    /// The common case: a short message that was fetched before, and nothing to be done besides.
    #[inline(always)]
    pub(super) fn next_quickly(&self) -> Option<Message> {
        let local = &mut *self.local.borrow_mut();
        if local.careful || self.handle.shared.is_forked() {
            return None;
        }
        let message = local.batch.next_quickly()?;
        if self.claim.counts.add(message.channel(), cost(message.len())) {
            self.report(message.channel());
        }
        Some(message)
    }

    #[cold]
    pub(super) fn report(&self, channel: ChannelId) {
        self.handle.shared.receive.report(channel);
    }

    pub(super) fn next(&self, wait: &Wait<'_>) -> Result<Next, No> {
        let shared = &self.handle.shared;
        if shared.is_forked() {
            return Err(No::Lost(ConnectionError::Forked));
        }
        let local = &mut *self.local.borrow_mut();
        let next = self.next_of(local, wait);
        local.careful = local.is_special();
        // Lets a `select!` on `ready` fire again if there is more.
        if local.ready.is_some() && next.is_ok() {
            shared.receive.rearm(&self.claim, local.has_some());
        }
        next
    }

    fn next_of(&self, local: &mut Local, wait: &Wait<'_>) -> Result<Next, No> {
        let shared = &self.handle.shared;
        if let Some(next) = local.put_back.take() {
            return Ok(next);
        }
        if std::mem::take(&mut local.all_over) {
            return Ok(Next::AllOver);
        }
        loop {
            let received = match local.batch.next(&mut &*shared.pool) {
                Some(Entry::Message(message)) => {
                    let channel = message.channel();
                    local.over.remove(channel);
                    if self.claim.counts.add(channel, cost(message.len())) {
                        self.report(channel);
                    }
                    Received::Message(message)
                }
                Some(Entry::Gap { channel, messages, bytes, free_notes }) => {
                    shared.receive.report_notes(channel, free_notes);
                    Received::Gap { channel, messages, bytes }
                }
                Some(Entry::End { channel, end, free_notes }) => {
                    shared.receive.report_notes(channel, free_notes);
                    local.over.insert(channel);
                    if local.over == self.channels() {
                        local.over = ChannelSet::EMPTY;
                        local.all_over = true;
                    }
                    match end {
                        End::Finish => Received::Finished(channel),
                        End::Reset(code) => Received::Reset { channel, code },
                    }
                }
                None => {
                    let taken = match wait {
                        Wait::Thread(until) => shared.receive.take(&self.claim, &mut local.batch, *until),
                        Wait::Task(waker) => shared.receive.poll_take(&self.claim, &mut local.batch, waker),
                    };
                    taken.map_err(|nothing| match nothing {
                        Nothing::Empty => No::Empty,
                        Nothing::Interrupted => No::Interrupted,
                        Nothing::Ended(cause) => No::Lost(cause),
                    })?;
                    continue;
                }
            };
            return Ok(Next::Received(received));
        }
    }

    /// What comes next for a caller that wants messages: an end of one channel of several is passed
    /// over.
    pub(super) fn next_message(&self, wait: &Wait<'_>) -> Result<Result<Message, RecvError>, No> {
        let single = self.channels().len() == 1;
        loop {
            let next = self.next(wait)?;
            let local = &mut *self.local.borrow_mut();
            return Ok(Err(match next {
                Next::Received(Received::Message(message)) => return Ok(Ok(message)),
                Next::Received(Received::Gap { channel, messages, bytes }) => {
                    RecvError::Gap { channel, messages, bytes }
                }
                Next::Received(Received::Finished(_)) => {
                    // The last end is the end of all.
                    if !std::mem::take(&mut local.all_over) {
                        continue;
                    }
                    RecvError::Finished
                }
                Next::Received(Received::Reset { channel, code }) => {
                    if single {
                        local.all_over = false;
                    }
                    RecvError::Reset { channel, code }
                }
                Next::AllOver => RecvError::Finished,
            }));
        }
    }

    pub(super) fn put_back(&self, next: Next) {
        let local = &mut *self.local.borrow_mut();
        local.put_back = Some(next);
        local.careful = true;
    }

    /// What comes next for a reader.
    pub(crate) fn next_for_reader(&self, wait: &Wait<'_>) -> Result<Result<Message, RecvError>, No> {
        self.next_message(wait)
    }

    /// Returns `true` if a reader of bytes would not wait: something is there that is no empty message
    /// and no end of one channel of several, which are taken; or an interrupt.
    pub(crate) fn has_bytes_or_end(&self) -> bool {
        if self.handle.shared.is_forked() {
            return true;
        }
        let local = &mut *self.local.borrow_mut();
        let found = self.look_for_bytes_or_end(local);
        local.careful = local.is_special();
        found
    }

    fn look_for_bytes_or_end(&self, local: &mut Local) -> bool {
        let receive = &self.handle.shared.receive;
        loop {
            if local.put_back.is_some() || local.all_over {
                return true;
            }
            match local.batch.peek() {
                Some(Peek::Bytes) => return true,
                Some(Peek::EmptyMessage) => drop(self.next_of(local, &Wait::Thread(Until::Now))),
                Some(Peek::Note) => match self.next_of(local, &Wait::Thread(Until::Now)) {
                    Ok(Next::Received(Received::Finished(_))) if !local.all_over => {}
                    next => local.put_back = next.ok(),
                },
                None => match receive.take(&self.claim, &mut local.batch, Until::Now) {
                    Ok(()) => {}
                    Err(Nothing::Ended(_)) => return true,
                    Err(Nothing::Empty | Nothing::Interrupted) => return receive.is_interrupted(&self.claim),
                },
            }
        }
    }
}
