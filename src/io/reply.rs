//! The answer to a client that waits for its connection, as a thread or as a task.

use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::{Condvar, Mutex};

use super::shared::Shared;
use crate::error::{ConnectError, ConnectionError};

/// What becomes of an attempt to connect.
type Answer = Result<Arc<Shared>, ConnectError>;

enum State {
    /// There is no answer yet. The task is woken when there is.
    Awaited(Option<Waker>),
    /// The answer was not taken yet.
    Given(Answer),
    /// The answer was taken, or is not wanted any more.
    Over,
}

struct Slot {
    state: Mutex<State>,
    given: Condvar,
}

/// Creates the two ends of an answer.
pub(crate) fn reply() -> (Reply, Awaiting) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Awaited(None)), given: Condvar::new() });
    (Reply(Some(Arc::clone(&slot))), Awaiting(slot))
}

/// The end that answers. A reply that is dropped says that the I/O thread has stopped.
pub(crate) struct Reply(Option<Arc<Slot>>);

impl Reply {
    /// Gives the answer; returns it if it is not wanted any more.
    pub(crate) fn send(mut self, answer: Answer) -> Result<(), Answer> {
        match self.0.take() {
            Some(slot) => slot.give(answer),
            None => Err(answer),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            let stopped = std::io::Error::from(ConnectionError::IoThreadStopped);
            let _ = slot.give(Err(stopped.into()));
        }
    }
}

impl Slot {
    fn give(&self, answer: Answer) -> Result<(), Answer> {
        let mut state = self.state.lock();
        if matches!(*state, State::Over) {
            return Err(answer);
        }
        let before = std::mem::replace(&mut *state, State::Given(answer));
        drop(state);
        self.given.notify_one();
        if let State::Awaited(Some(task)) = before {
            task.wake();
        }
        Ok(())
    }
}

/// The end that waits for the answer.
pub(crate) struct Awaiting(Arc<Slot>);

impl Awaiting {
    /// Waits for the answer as a thread. It is taken once.
    pub(crate) fn wait(&self) -> Answer {
        let mut state = self.0.state.lock();
        while matches!(*state, State::Awaited(_)) {
            self.0.given.wait(&mut state);
        }
        match std::mem::replace(&mut *state, State::Over) {
            State::Given(answer) => answer,
            _ => Err(std::io::Error::from(ConnectionError::IoThreadStopped).into()),
        }
    }

    /// Returns the answer, or lets the task be woken when there is one. It is taken once.
    pub(crate) fn poll(&self, task: &Waker) -> Poll<Answer> {
        let mut state = self.0.state.lock();
        if let State::Awaited(waits) = &mut *state {
            let spent = if waits.as_ref().is_some_and(|known| known.will_wake(task)) {
                None
            } else {
                waits.replace(task.clone())
            };
            drop(state);
            drop(spent);
            return Poll::Pending;
        }
        drop(state);
        Poll::Ready(self.wait())
    }

    /// The answer is not wanted any more; returns the connection that came all the same.
    pub(crate) fn cancel(&self) -> Option<Arc<Shared>> {
        let before = std::mem::replace(&mut *self.0.state.lock(), State::Over);
        match before {
            State::Given(Ok(shared)) => Some(shared),
            _ => None,
        }
    }
}
