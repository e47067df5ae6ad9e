//! Errors of readers.

use std::io;

/// A blocked read of a [`Reader`](crate::Reader) returned early, because its
/// [`Interrupter`](crate::Interrupter) was used.
///
/// It comes as an [`io::Error`] of the kind `Other`: std's own readers retry a read that fails with the
/// kind `Interrupted`. [`is_read_interrupted`] tells it from other errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the read was interrupted by this program")]
pub struct ReadInterrupted;

/// Returns `true` if a read failed because its [`Interrupter`](crate::Interrupter) was used.
#[must_use]
pub fn is_read_interrupted(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<ReadInterrupted>())
}
