//! The error of a call that an interrupter ended.

use std::io;

/// A call that waited returned early, because an [`Interrupter`](crate::Interrupter) was used.
///
/// The calls of a [`Reader`](crate::Reader) and a [`Writer`](crate::Writer) return it in an [`io::Error`] of
/// the kind `Other`: std's own readers and writers retry what fails with the kind `Interrupted`.
/// [`is_interrupted`] tells it from other errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the call was interrupted by this program")]
pub struct Interrupted;

/// Returns `true` if a read or a write failed because its [`Interrupter`](crate::Interrupter) was used.
#[must_use]
pub fn is_interrupted(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Interrupted>())
}
