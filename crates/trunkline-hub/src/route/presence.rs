//! Whether a client is there.

use std::time::Instant;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Presence {
    Here,
    /// Its socket is lost, since then.
    Away(Instant),
    /// Its connection has ended in order; its whole messages are still taken.
    Gone,
}
