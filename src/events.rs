//! Listening to what happens on a connection outside its channels.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::handle::Handle;
use crate::io::shared::Shared;
use crate::queue::events::{NoEvent, Wants};
use crate::queue::until::Until;

/// Why there is no event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Nothing has happened, or not in time.
    #[error("nothing has happened")]
    Empty,
    /// The connection is over, and every event was read.
    #[error("the connection is over, and all of its events were read")]
    Over,
}

/// What happens on a connection, one event after the other; see
/// [`Connection::events`](crate::Connection::events).
///
/// Events are state rather than a log: what repeats itself while it is not read is told once (the
/// last outage, the newest state of each channel's reader, one interrupt). So nothing that still
/// matters is lost, however late it is read.
///
/// It does not keep the connection open.
pub struct Events {
    shared: Arc<Shared>,
    mailbox: u64,
}

impl Events {
    pub(crate) fn new(handle: &Handle, wants: Wants) -> Self {
        let shared = Arc::clone(&handle.shared);
        let mailbox = if shared.is_forked() { 0 } else { shared.events.listen(wants) };
        Self { shared, mailbox }
    }

    fn take(&self, until: Until) -> Result<Event, EventError> {
        if self.shared.is_forked() {
            return Err(EventError::Over);
        }
        self.shared.events.take(self.mailbox, until).map_err(no_event)
    }

    /// The next event; waits for it.
    ///
    /// # Errors
    ///
    /// [`EventError::Over`] once the connection is over and every event was read.
    pub fn recv(&self) -> Result<Event, EventError> {
        self.take(Until::Forever)
    }

    /// The next event if there is one.
    ///
    /// # Errors
    ///
    /// [`EventError::Empty`] if there is none now, else as [`recv`](Events::recv).
    pub fn try_recv(&self) -> Result<Event, EventError> {
        self.take(Until::Now)
    }

    /// The next event; waits at most so long.
    ///
    /// # Errors
    ///
    /// [`EventError::Empty`] if none came in time, else as [`recv`](Events::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, EventError> {
        self.take(Until::after(timeout))
    }

    /// The next event; waits until then at most.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Events::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Event, EventError> {
        self.take(Until::At(deadline))
    }

    /// The events, until the connection is over.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The events that are there now.
    pub fn try_iter(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// The next event, for an executor: the task is woken when there is one.
    pub fn poll_recv(&self, context: &mut Context<'_>) -> Poll<Result<Event, EventError>> {
        if self.shared.is_forked() {
            return Poll::Ready(Err(EventError::Over));
        }
        match self.shared.events.poll_take(self.mailbox, context.waker()) {
            Some(result) => Poll::Ready(result.map_err(no_event)),
            None => Poll::Pending,
        }
    }

    /// A crossbeam channel to `select!` on: it has a token while there is an event, and is
    /// disconnected when the connection is over. After it fires, call
    /// [`try_recv`](Events::try_recv).
    #[must_use]
    pub fn ready(&self) -> crossbeam_channel::Receiver<()> {
        if self.shared.is_forked() {
            return crossbeam_channel::never();
        }
        self.shared.events.ready(self.mailbox)
    }
}

fn no_event(why: NoEvent) -> EventError {
    match why {
        NoEvent::Yet => EventError::Empty,
        NoEvent::Ever => EventError::Over,
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if !self.shared.is_forked() {
            self.shared.events.leave(self.mailbox);
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// The peer's interrupts, and nothing else; see
/// [`Connection::interrupts`](crate::Connection::interrupts).
///
/// Interrupts that were not looked at merge into one. One that comes before anything listens is kept
/// for the first that does.
///
/// It does not keep the connection open.
#[derive(Debug)]
pub struct Interrupts(Events);

impl Interrupts {
    pub(crate) fn new(handle: &Handle) -> Self {
        Self(Events::new(handle, Wants::Interrupts))
    }

    /// Waits for an interrupt. Returns `false` once the connection is over.
    pub fn wait(&self) -> bool {
        self.0.recv().is_ok()
    }

    /// Waits for an interrupt, at most so long. Returns `false` if none came.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.0.recv_timeout(timeout).is_ok()
    }

    /// Returns `true` if there was an interrupt since the last call that looked.
    pub fn take(&self) -> bool {
        self.0.try_recv().is_ok()
    }

    /// Waits for an interrupt, for an executor: `Ready(false)` once the connection is over.
    pub fn poll_wait(&self, context: &mut Context<'_>) -> Poll<bool> {
        self.0.poll_recv(context).map(|event| event.is_ok())
    }

    /// A crossbeam channel to `select!` on, as [`Events::ready`].
    #[must_use]
    pub fn ready(&self) -> crossbeam_channel::Receiver<()> {
        self.0.ready()
    }
}
