//! A flush that a task waits for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::{ConnectionError, FlushError};
use crate::io::shared::Shared;
use crate::queue::send::Unflushed;

/// A future that ends when the peer has everything; see
/// [`Connection::flushing`](crate::Connection::flushing).
///
/// It does not keep the connection open. Dropping it cancels the wait, and nothing else.
#[must_use = "a future does nothing unless it is polled"]
pub struct Flushing {
    shared: Arc<Shared>,
    ticket: u64,
}

impl Flushing {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let ticket = if shared.is_forked() { 0 } else { shared.send.begin_flush() };
        Self { shared: Arc::clone(shared), ticket }
    }
}

impl Future for Flushing {
    type Output = Result<(), FlushError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.shared.is_forked() {
            return Poll::Ready(Err(ConnectionError::Forked.into()));
        }
        match self.shared.send.poll_flush(self.ticket, context.waker()) {
            Some(done) => Poll::Ready(done.map_err(|why| unflushed(&self.shared, why))),
            None => Poll::Pending,
        }
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        if !self.shared.is_forked() {
            self.shared.send.cancel_flush(self.ticket);
        }
    }
}

impl fmt::Debug for Flushing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flushing")
    }
}

/// What a caller hears of a flush that came to nothing.
pub(crate) fn unflushed(shared: &Shared, why: Unflushed) -> FlushError {
    match why {
        Unflushed::Ended(cause) => cause.into(),
        Unflushed::Late if shared.agreed().suspended => FlushError::Suspended,
        Unflushed::Late => FlushError::TimedOut,
    }
}
