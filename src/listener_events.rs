//! Listening to what happens at a listener beside the connections.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::events::{EventError, no_event};
use crate::io::core::Core;
use crate::listener_event::ListenerEvent;
use crate::queue::listener_events as queue;
use crate::queue::until::Until;
use crate::queue::waiters::{Owner, always};

/// What happens at a listener beside the connections that it accepts, one event after the other; see
/// [`Listener::events`](crate::Listener::events).
///
/// What repeats itself before it is read is counted, so strangers cannot make unread events grow. It does
/// not keep the listener open.
pub struct ListenerEvents {
    events: Arc<queue::ListenerEvents>,
    mailbox: u64,
    core: Arc<Core>,
}

impl ListenerEvents {
    pub(crate) fn new(events: &Arc<queue::ListenerEvents>, core: &Arc<Core>) -> Self {
        let mailbox = if core.is_forked() { 0 } else { events.listen(()) };
        Self { events: Arc::clone(events), mailbox, core: Arc::clone(core) }
    }

    fn take(&self, until: Until) -> Result<ListenerEvent, EventError> {
        if self.core.is_forked() {
            return Err(EventError::Over);
        }
        self.events.take(self.mailbox, until).map_err(no_event)
    }

    /// Returns the next event, and waits until there is one.
    ///
    /// # Errors
    ///
    /// [`EventError::Over`] once the listener is closed and every event was read.
    pub fn recv(&self) -> Result<ListenerEvent, EventError> {
        self.take(Until::Forever)
    }

    /// Returns the next event if there is one now.
    ///
    /// # Errors
    ///
    /// [`EventError::Empty`] if there is none; otherwise as [`recv`](ListenerEvents::recv).
    pub fn try_recv(&self) -> Result<ListenerEvent, EventError> {
        self.take(Until::Now)
    }

    /// Returns the next event, and waits for it no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`EventError::Empty`] if none came in time; otherwise as [`recv`](ListenerEvents::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<ListenerEvent, EventError> {
        self.take(Until::after(timeout))
    }

    /// Returns the next event, and waits for it until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](ListenerEvents::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<ListenerEvent, EventError> {
        self.take(Until::At(deadline))
    }

    /// Returns an iterator over the events, which waits for each and ends with the listener.
    pub fn iter(&self) -> impl Iterator<Item = ListenerEvent> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Returns an iterator over the events that are there now.
    pub fn try_iter(&self) -> impl Iterator<Item = ListenerEvent> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Returns the next event; if there is none, the task is woken when there is.
    pub fn poll_recv(&self, context: &mut Context<'_>) -> Poll<Result<ListenerEvent, EventError>> {
        if self.core.is_forked() {
            return Poll::Ready(Err(EventError::Over));
        }
        match self.events.poll_take(self.mailbox, Owner::Shared, context.waker()) {
            Some(result) => Poll::Ready(result.map_err(no_event)),
            None => Poll::Pending,
        }
    }

    /// Returns a crossbeam channel to `select!` on. It has a token while there is an event, and is
    /// disconnected when the listener is closed. After it fires, call
    /// [`try_recv`](ListenerEvents::try_recv).
    #[must_use]
    pub fn ready(&self) -> crossbeam_channel::Receiver<()> {
        if self.core.is_forked() { always() } else { self.events.ready(self.mailbox) }
    }
}

impl Drop for ListenerEvents {
    fn drop(&mut self) {
        if !self.core.is_forked() {
            self.events.leave(self.mailbox);
        }
    }
}

impl fmt::Debug for ListenerEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListenerEvents")
    }
}
