//! Errors of readers.

use std::io;

/// Why a blocked read of a [`Reader`](crate::Reader) returned early: its
/// [`Interrupter`](crate::Interrupter) was used.
///
/// It comes as an [`io::Error`] of the kind `Other` (std's own readers would swallow the kind
/// `Interrupted` and read on); [`is_read_interrupted`] tells it from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the read was interrupted by this program")]
pub struct ReadInterrupted;

/// Whether a read failed because its [`Interrupter`](crate::Interrupter) was used.
#[must_use]
pub fn is_read_interrupted(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<ReadInterrupted>())
}
