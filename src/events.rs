//! Listening to what happens on a connection outside its channels.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::handle::Handle;
use crate::io::shared::Shared;
use crate::queue::events::Wants;
use crate::queue::mailbox::NoEvent;
use crate::queue::until::Until;
use crate::queue::waiters::{Owner, always};

/// Why a call returned no event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Nothing has happened, or nothing in time.
    #[error("nothing has happened")]
    Empty,
    /// The connection is over, and every event was read.
    #[error("the connection is over, and all of its events were read")]
    Over,
}

/// What happens on a connection, one event after the other; see
/// [`Connection::events`](crate::Connection::events).
///
/// Events are state rather than a log. What repeats itself before it is read is told once: the last outage,
/// the newest state of each channel's reader, one interrupt. So nothing that still matters is lost, however
/// late it is read, and a peer cannot make unread events grow.
///
/// It does not keep the connection open.
///
/// ```
/// use std::time::Duration;
/// use trunkline::{Config, Connection, Event, EventError, Key};
///
/// let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let events = there.events();
/// assert_eq!(events.try_recv(), Err(EventError::Empty));
/// here.interrupt()?;
/// assert_eq!(events.recv_timeout(Duration::from_secs(10))?, Event::Interrupt);
/// drop(here);
/// assert!(matches!(events.recv()?, Event::Closed(_)));
/// assert_eq!(events.recv(), Err(EventError::Over));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// Returns the next event, and waits until there is one.
    ///
    /// # Errors
    ///
    /// [`EventError::Over`] once the connection is over and every event was read.
    pub fn recv(&self) -> Result<Event, EventError> {
        self.take(Until::Forever)
    }

    /// Returns the next event if there is one now.
    ///
    /// # Errors
    ///
    /// [`EventError::Empty`] if there is none; otherwise as [`recv`](Events::recv).
    pub fn try_recv(&self) -> Result<Event, EventError> {
        self.take(Until::Now)
    }

    /// Returns the next event, and waits for it no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`EventError::Empty`] if none came in time; otherwise as [`recv`](Events::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, EventError> {
        self.take(Until::after(timeout))
    }

    /// Returns the next event, and waits for it until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Events::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Event, EventError> {
        self.take(Until::At(deadline))
    }

    /// Returns an iterator over the events, which waits for each and ends with the connection.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Returns an iterator over the events that are there now.
    pub fn try_iter(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Returns the next event; if there is none, the task is woken when there is.
    pub fn poll_recv(&self, context: &mut Context<'_>) -> Poll<Result<Event, EventError>> {
        self.poll_as(Owner::Shared, context)
    }

    pub(crate) fn poll_as(&self, owner: Owner, context: &mut Context<'_>) -> Poll<Result<Event, EventError>> {
        if self.shared.is_forked() {
            return Poll::Ready(Err(EventError::Over));
        }
        match self.shared.events.poll_take(self.mailbox, owner, context.waker()) {
            Some(result) => Poll::Ready(result.map_err(no_event)),
            None => Poll::Pending,
        }
    }

    /// Returns a crossbeam channel to `select!` on. It has a token while there is an event, and is
    /// disconnected when the connection is over. After it fires, call [`try_recv`](Events::try_recv).
    #[must_use]
    pub fn ready(&self) -> crossbeam_channel::Receiver<()> {
        if self.shared.is_forked() {
            return always();
        }
        self.shared.events.ready(self.mailbox)
    }
}

pub(crate) fn no_event(why: NoEvent) -> EventError {
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

/// The peer's interrupts, and no other events; see
/// [`Connection::interrupts`](crate::Connection::interrupts).
///
/// Interrupts that were not taken merge into one. One that comes before anything listens is kept for the
/// first `Events` or `Interrupts` that does.
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

    /// Waits for an interrupt, no longer than `timeout`. Returns `false` if none came, or the connection is
    /// over.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.0.recv_timeout(timeout).is_ok()
    }

    /// Returns `true` if an interrupt came since the last call that took one. Never waits.
    pub fn take(&self) -> bool {
        self.0.try_recv().is_ok()
    }

    /// Returns `Ready(true)` if an interrupt came, and `Ready(false)` once the connection is over;
    /// otherwise the task is woken when one of them happens.
    pub fn poll_wait(&self, context: &mut Context<'_>) -> Poll<bool> {
        self.0.poll_recv(context).map(|event| event.is_ok())
    }

    /// Returns a crossbeam channel to `select!` on, as [`Events::ready`] does.
    #[must_use]
    pub fn ready(&self) -> crossbeam_channel::Receiver<()> {
        self.0.ready()
    }
}
