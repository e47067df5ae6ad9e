//! What receivers call: they take, wait, and say that they wait.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::{Announce, Claim, Nothing, ReceiveQueues, State};
use crate::proto::session::Reads;
use crate::queue::batch::Batch;
use crate::queue::sync::MutexGuard;
use crate::queue::until::{Until, check_may_wait};
use crate::queue::waiters::{Owner, Wakes};

impl ReceiveQueues {
    /// Takes all that a queue has into an empty batch, waiting as long as `until` allows. An
    /// interrupt ends a wait, this one or the next.
    pub(crate) fn take(&self, claim: &Claim, batch: &mut Batch, until: Until) -> Result<(), Nothing> {
        debug_assert!(batch.is_empty());
        let mut state = self.state.lock();
        let mut late = matches!(until, Until::Now);
        let mut may_lead = !late;
        loop {
            if let Some(result) = state.try_take(claim, batch) {
                // A reader that was announced is at work again.
                self.announce(state, claim, false);
                return result;
            }
            if state.must_report(claim) {
                self.attend(state);
                state = self.state.lock();
                continue;
            }
            if late {
                self.announce(state, claim, false);
                return Err(Nothing::Empty);
            }
            check_may_wait();
            let queue = state.queue(claim.number);
            if std::mem::take(&mut queue.interrupted) {
                self.announce(state, claim, false);
                return Err(Nothing::Interrupted);
            }
            if queue.announce == Announce::Reading {
                self.announce(state, claim, true);
                state = self.state.lock();
                continue;
            }
            if std::mem::take(&mut may_lead) {
                // Before it sleeps, it looks once more; so what came in between is not missed.
                drop(state);
                let led = self.attention.lead(until, &mut || self.has_something(claim));
                state = self.state.lock();
                late = led && matches!(until, Until::At(at) if Instant::now() >= at);
                continue;
            }
            let arrived = Arc::clone(&queue.arrived);
            queue.waiters.add_thread(&arrived);
            // Behind the count: the role is not left free from now on.
            self.attention.call();
            match until {
                Until::At(at) => {
                    let waited = arrived.wait_until(&mut state, at);
                    // What came in the last moment is still taken.
                    late = waited.timed_out() && Instant::now() >= at;
                }
                Until::Now | Until::Forever => arrived.wait(&mut state),
            }
            state.queue(claim.number).waiters.remove_thread(&arrived);
        }
    }

    /// Takes all that a queue has; if it has nothing, `task` is woken when it has. A task that was told
    /// to wait counts as a reader that waits until it comes again.
    pub(crate) fn poll_take(&self, claim: &Claim, batch: &mut Batch, task: &Waker) -> Result<(), Nothing> {
        let mut state = self.state.lock();
        if let Some(result) = state.try_take(claim, batch) {
            self.announce(state, claim, false);
            return result;
        }
        let must_report = state.must_report(claim);
        let queue = state.queue(claim.number);
        let interrupted = std::mem::take(&mut queue.interrupted);
        let spent = if interrupted { None } else { queue.waiters.add_task(Owner::ONLY, task) };
        if must_report {
            self.attend(state);
            state = self.state.lock();
        }
        self.announce(state, claim, !interrupted);
        drop(spent);
        if interrupted {
            return Err(Nothing::Interrupted);
        }
        self.attention.call();
        Err(Nothing::Empty)
    }

    /// Returns `true` if a reader that waits would find something.
    fn has_something(&self, claim: &Claim) -> bool {
        let mut state = self.state.lock();
        let ended = state.ended.is_some();
        let queue = state.queue(claim.number);
        ended || queue.interrupted || !queue.pieces.items.is_empty()
    }

    /// Ends a wait of a queue's reader with `Interrupted`, this one or its next.
    pub(crate) fn interrupt(&self, number: u8, serial: u64) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        if let Some(queue) = state.queues.get_mut(usize::from(number)).and_then(Option::as_mut)
            && queue.serial == serial
        {
            queue.interrupted = true;
            queue.waiters.notify(&mut wakes);
        }
        drop(state);
        wakes.run();
        self.attention.poke();
    }

    /// Returns `true` if there is an interrupt that no reader has seen.
    pub(crate) fn is_interrupted(&self, claim: &Claim) -> bool {
        self.state.lock().queue(claim.number).interrupted
    }

    /// Forgets an interrupt that no reader has seen.
    pub(crate) fn clear_interrupt(&self, claim: &Claim) {
        self.state.lock().queue(claim.number).interrupted = false;
    }

    /// Whether the peer is told from now on when the queue's reader waits.
    pub(crate) fn set_announce(&self, claim: &Claim, announce: bool) {
        let mut state = self.state.lock();
        let queue = state.queue(claim.number);
        match (queue.announce, announce) {
            (Announce::No, true) => queue.announce = Announce::Reading,
            (_, false) => {
                let waiting = std::mem::take(&mut queue.announce) == Announce::Waiting;
                if waiting {
                    self.tell_readers(state, claim, false, None);
                }
            }
            _ => {}
        }
    }

    /// Tells the peer that a reader waits, or no longer, if it is to be told.
    fn announce(&self, mut state: MutexGuard<'_, State>, claim: &Claim, waits: bool) {
        let queue = state.queue(claim.number);
        let (from, to) = if waits {
            (Announce::Reading, Announce::Waiting)
        } else {
            (Announce::Waiting, Announce::Reading)
        };
        if queue.announce == from {
            queue.announce = to;
            self.tell_readers(state, claim, waits, None);
        }
    }

    /// Tells the peer of this side's readers; a relay has a count of its own.
    pub(crate) fn set_waiting(&self, claim: &Claim, waiting: bool, count: Option<u32>) {
        self.tell_readers(self.state.lock(), claim, waiting, count);
    }

    fn tell_readers(
        &self,
        mut state: MutexGuard<'_, State>,
        claim: &Claim,
        waiting: bool,
        count: Option<u32>,
    ) {
        for channel in claim.channels().iter() {
            let reads = Reads { channel, waiting, count };
            match state.reads.iter_mut().find(|known| known.channel == channel) {
                Some(known) => *known = reads,
                None => state.reads.push(reads),
            }
        }
        self.attend(state);
    }

    /// A channel on which a token comes while the queue has something. `some_left`: the receiver
    /// itself holds something back.
    pub(crate) fn ready(&self, claim: &Claim, some_left: bool) -> crossbeam_channel::Receiver<()> {
        let (token, ready) = crossbeam_channel::bounded(1);
        let mut state = self.state.lock();
        let ended = state.ended.is_some();
        let queue = state.queue(claim.number);
        if some_left || !queue.pieces.items.is_empty() {
            let _ = token.try_send(());
        }
        // Without a sender the channel counts as disconnected: always ready, which is so.
        if !ended {
            queue.waiters.add_token(token);
        }
        ready
    }

    /// Puts the token back after a take, if there is more.
    pub(crate) fn rearm(&self, claim: &Claim, some_left: bool) {
        let mut state = self.state.lock();
        let queue = state.queue(claim.number);
        if some_left || !queue.pieces.items.is_empty() {
            queue.waiters.put_tokens();
        }
        if state.must_report(claim) {
            self.attend(state);
        }
    }
}
