//! The end of a connection that a task waits for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::{CloseError, ConnectionError};
use crate::handle::Handle;
use crate::io::shared::Shared;

/// A future that ends when a connection is closed; see [`Connection::closing`](crate::Connection::closing).
///
/// Dropping it cancels nothing: the connection closes all the same.
#[must_use = "the connection closes without it; it tells whether the peer has everything"]
pub struct Closing {
    shared: Arc<Shared>,
}

impl Closing {
    pub(crate) fn new(handle: &Handle) -> Self {
        Self { shared: Arc::clone(&handle.shared) }
    }
}

impl Future for Closing {
    type Output = Result<(), CloseError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.shared.is_forked() {
            return Poll::Ready(Err(CloseError { cause: Some(ConnectionError::Forked) }));
        }
        if self.shared.send.poll_gone(context.waker()) {
            Poll::Ready(self.shared.send.delivered())
        } else {
            Poll::Pending
        }
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closing")
    }
}
