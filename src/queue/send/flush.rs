//! Waiting until the peer has what was sent, and until the I/O thread has let go.

use std::sync::Arc;
use std::task::Waker;

use super::{SendQueue, State, Unflushed, wait};
use crate::error::CloseError;
use crate::proto::session::Flush;
use crate::queue::sync::Condvar;
use crate::queue::until::{Until, check_may_wait};
use crate::queue::waiters::Owner;

impl SendQueue {
    /// Waits until the peer has everything that was accepted before the call.
    pub(crate) fn flush(&self, until: Until) -> Result<(), Unflushed> {
        check_may_wait();
        let ticket = self.begin_flush();
        let condvar = Arc::new(Condvar::new());
        let mut state = self.state.lock();
        loop {
            match state.flushed(ticket) {
                Some(result) => return result,
                None => state.flushing.add_thread(&condvar),
            }
            if wait(&condvar, &mut state, until).is_err() {
                state.flushing.remove_thread(&condvar);
                // It may be done by now.
                let result = state.flushed(ticket).unwrap_or(Err(Unflushed::Late));
                state.flushes.retain(|flush| flush.ticket != ticket);
                return result;
            }
        }
    }

    /// Begins a flush, for [`poll_flush`](SendQueue::poll_flush).
    pub(crate) fn begin_flush(&self) -> u64 {
        let mut state = self.state.lock();
        state.tickets += 1;
        let ticket = state.tickets;
        let mark = state.outbound.mark();
        state.flushes.push(Flush { ticket, mark, offset: None });
        state.scheduled = true;
        drop(state);
        // Also if it is scheduled: this thread is about to wait, so the loop must be run.
        self.attention.attend();
        self.attention.call();
        ticket
    }

    /// Looks at a flush; if it is not done, `task` is woken when it is.
    pub(crate) fn poll_flush(&self, ticket: u64, task: &Waker) -> Option<Result<(), Unflushed>> {
        let mut state = self.state.lock();
        let done = state.flushed(ticket);
        let owner = Owner::Sole(ticket);
        let spent = if done.is_none() { state.flushing.add_task(owner, task) } else { None };
        drop(state);
        drop(spent);
        done
    }

    /// Forgets a flush.
    pub(crate) fn cancel_flush(&self, ticket: u64) {
        let mut state = self.state.lock();
        state.flushes.retain(|flush| flush.ticket != ticket);
        let spent = state.flushing.remove_task(ticket);
        drop(state);
        drop(spent);
    }

    /// Waits until the I/O thread has let go of the connection; `true` if it has.
    pub(crate) fn wait_gone(&self, until: Until) -> bool {
        check_may_wait();
        self.attention.call();
        let condvar = Arc::new(Condvar::new());
        let mut state = self.state.lock();
        while state.gone.is_none() {
            state.ending.add_thread(&condvar);
            if wait(&condvar, &mut state, until).is_err() {
                state.ending.remove_thread(&condvar);
                return state.gone.is_some();
            }
        }
        true
    }

    /// Returns `true` if the I/O thread has let go; else `task` is woken when it does.
    pub(crate) fn poll_gone(&self, task: &Waker) -> bool {
        let mut state = self.state.lock();
        let gone = state.gone.is_some();
        let spent = if gone { None } else { state.ending.add_task(Owner::Shared, task) };
        drop(state);
        drop(spent);
        gone
    }

    /// Says if the peer has all that was sent, once the I/O thread has let go.
    pub(crate) fn delivered(&self) -> Result<(), CloseError> {
        let state = self.state.lock();
        if state.gone == Some(true) { Ok(()) } else { Err(CloseError { cause: state.ended.clone() }) }
    }
}

impl State {
    /// What has become of a flush, once something has.
    pub(super) fn flushed(&mut self, ticket: u64) -> Option<Result<(), Unflushed>> {
        let Some(at) = self.flushes.iter().position(|flush| flush.ticket == ticket) else {
            return Some(Ok(()));
        };
        let cause = self.ended.clone()?;
        self.flushes.swap_remove(at);
        Some(Err(Unflushed::Ended(cause)))
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use std::sync::{OnceLock, Weak};

    use super::*;
    use crate::error::{CloseCode, ConnectionError};
    use crate::id::ChannelSet;
    use crate::proto::credit::Credit;
    use crate::proto::outbound::Outbound;
    use crate::proto::session::{Output, Wishes};
    use crate::queue::attend::Attend;
    use crate::queue::send::Comes;

    /// Else it depends on a race with the I/O thread whether a flush tells of the end.
    #[test]
    fn a_flush_after_the_end_fails_even_if_nothing_is_on_its_way() {
        /// The I/O thread gets its turn between the call and the wait.
        struct Answers(OnceLock<Weak<SendQueue>>);

        impl Attend for Answers {
            fn attend(&self) {
                let queue = self.0.get().unwrap().upgrade().unwrap();
                queue.exchange(&mut Wishes::default(), &mut Output::default(), |_, _, flushes, _| {
                    flushes.clear();
                    Comes::WhenCalled
                });
            }
        }

        let window = Credit::new(100_000).unwrap();
        let outbound = Outbound::new(ChannelSet::ALL, window, 1 << 20, 1 << 20);
        let answers = Arc::new(Answers(OnceLock::new()));
        let queue = Arc::new(SendQueue::new(outbound, answers.clone()));
        answers.0.set(Arc::downgrade(&queue)).unwrap();
        assert_eq!(queue.flush(Until::Forever), Ok(()));
        let cause = ConnectionError::ClosedByPeer { code: CloseCode::NORMAL, reason: String::new() };
        queue.end(&cause);
        assert_eq!(queue.flush(Until::Forever), Err(Unflushed::Ended(cause)));
    }
}
