//! What the system gives: the standard streams, a bell, signals, and one call that waits for all of them.

#[cfg(unix)]
mod signals;
#[cfg(unix)]
pub(crate) mod tty;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use signals::{Signals, in_order};
#[cfg(unix)]
pub(crate) use unix::{Bell, Sink, Source, wait};

#[cfg(not(unix))]
mod other;
#[cfg(not(unix))]
pub(crate) use other::{Bell, Signals, Sink, Source, wait};

use std::io;

/// What a read has found.
pub(crate) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    End,
}

/// What to say about a stream that does not work.
pub(crate) fn unreadable(error: &io::Error) -> String {
    format!("the standard input cannot be read: {error}")
}
