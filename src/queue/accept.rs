//! The connections of a listener that wait to be accepted.
//!
//! There is a limited number of seats. A connection has one from when its client has proved its key
//! until it is accepted or gone, so a peer cannot fill memory with connections that the
//! application never looks at.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::sync::{Condvar, Mutex};
use super::until::{Until, check_may_wait};
use super::waiters::{Owner, Waiters, Wakes};

/// Why there is nothing to accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotAccepted {
    /// Not now, or not in time.
    Yet,
    /// The listener is closed.
    Ever,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    /// Seats that are taken, by those that wait too.
    taken: usize,
    waiters: Waiters,
    closed: bool,
}

/// `state` protects everything. No other lock is taken while it is held.
#[derive(Debug)]
pub(crate) struct AcceptQueue<T> {
    state: Mutex<State<T>>,
    seats: usize,
}

/// A seat, which is given back when it is dropped or its connection is accepted.
#[derive(Debug)]
pub(crate) struct Seat<T> {
    queue: Arc<AcceptQueue<T>>,
    taken: bool,
}

impl<T> AcceptQueue<T> {
    pub(crate) fn new(seats: usize) -> Arc<Self> {
        let state = State { waiting: VecDeque::new(), taken: 0, waiters: Waiters::default(), closed: false };
        Arc::new(Self { state: Mutex::new(state), seats })
    }

    /// A seat, if one is free.
    pub(crate) fn seat(self: &Arc<Self>) -> Option<Seat<T>> {
        let mut state = self.state.lock();
        let free = !state.closed && state.taken < self.seats;
        state.taken += usize::from(free);
        free.then(|| Seat { queue: Arc::clone(self), taken: true })
    }

    /// The next connection, waiting as long as `until` allows.
    pub(crate) fn accept(&self, until: Until) -> Result<T, NotAccepted> {
        let condvar = Arc::new(Condvar::new());
        let mut state = self.state.lock();
        let mut late = matches!(until, Until::Now);
        loop {
            if let Some(result) = state.try_accept() {
                return result;
            }
            if late {
                return Err(NotAccepted::Yet);
            }
            check_may_wait();
            state.waiters.add_thread(&condvar);
            match until {
                Until::At(at) => {
                    late = condvar.wait_until(&mut state, at).timed_out() && Instant::now() >= at;
                }
                Until::Now | Until::Forever => condvar.wait(&mut state),
            }
            state.waiters.remove_thread(&condvar);
        }
    }

    /// The next connection, if there is one; else `task` is woken when there is.
    pub(crate) fn poll_accept(&self, owner: Owner, task: &Waker) -> Option<Result<T, NotAccepted>> {
        let mut state = self.state.lock();
        let result = state.try_accept();
        let spent = if result.is_none() { state.waiters.add_task(owner, task) } else { None };
        drop(state);
        drop(spent);
        result
    }

    /// A channel on which a token comes while there is something to accept.
    pub(crate) fn ready(&self) -> crossbeam_channel::Receiver<()> {
        let (token, ready) = crossbeam_channel::bounded(1);
        let mut state = self.state.lock();
        if !state.waiting.is_empty() {
            let _ = token.try_send(());
        }
        if !state.closed {
            state.waiters.add_token(token);
        }
        ready
    }

    /// Nothing is accepted any more. Returns those that wait.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        state.closed = true;
        state.waiters.end(&mut wakes);
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        wakes.run();
        left
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

impl<T> State<T> {
    fn try_accept(&mut self) -> Option<Result<T, NotAccepted>> {
        let next = self.waiting.pop_front();
        if !self.waiting.is_empty() {
            self.waiters.put_tokens();
        }
        match next {
            Some(item) => {
                self.taken -= 1;
                Some(Ok(item))
            }
            None => self.closed.then_some(Err(NotAccepted::Ever)),
        }
    }
}

impl<T> Seat<T> {
    /// The connection can be accepted; `Err` if the listener is closed.
    pub(crate) fn offer(mut self, item: T) -> Result<(), T> {
        let mut wakes = Wakes::default();
        let mut state = self.queue.state.lock();
        if state.closed {
            return Err(item);
        }
        self.taken = false;
        state.waiting.push_back(item);
        state.waiters.notify(&mut wakes);
        drop(state);
        wakes.run();
        Ok(())
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        if self.taken {
            self.queue.state.lock().taken -= 1;
        }
    }
}
