//! All that user threads and the I/O thread share; all locking lives here.
//!
//! | lock | protects | held for |
//! |---|---|---|
//! | `SendQueue::state` | the sending half of the session and who waits for it | one encode, or one exchange of the I/O thread |
//! | `Inbox::state` | the receive queues of one connection and which channel goes where | moving pieces, never bytes by the message |
//! | `Schedule::state` | which connections want the I/O loop, who runs it, and whether that one sleeps | pushing one entry, or swapping the list |
//! | `Pool::state` | emptied buffers | moving one |
//!
//! A thread holds one of them at a time, with two exceptions: the pool's may be taken under any
//! other and takes none itself, and the I/O thread takes an inbox's under its send queue's; so no
//! two threads can wait for each other. Everything a condition variable waits
//! for is behind the lock that it is used with, and is changed before the notification, so no
//! wake-up is lost. The model checker runs these types as they are (`loom.rs`).

pub(crate) mod batch;
pub(crate) mod pool;
pub(crate) mod recv;
pub(crate) mod route;
pub(crate) mod schedule;
pub(crate) mod send;
pub(crate) mod sync;

/// A connection's way to the I/O loop.
pub(crate) trait Attend: Send + Sync {
    /// The connection's queues have something for it.
    fn attend(&self);

    /// The connection's queues have something for it that can wait for a lease.
    fn attend_later(&self) {
        self.attend();
    }

    /// The connection's queues have something for it; if nobody runs the loop, this thread does.
    fn attend_here(&self) {
        self.attend();
    }

    /// Somebody is about to wait for what the loop does.
    fn call(&self) {}

    /// A reader that may run the loop itself has something to look at.
    fn poke(&self) {}

    /// Runs the loop in this thread until `done`, or until it is better to wait for another to do
    /// it. `false`: somebody else runs it.
    fn lead(&self, _until: Until, _done: &mut dyn FnMut() -> bool) -> bool {
        false
    }

    /// A reader begins to wait (1), or has been woken (-1).
    fn parked(&self, _change: isize) {}
}

use send::Until;

#[cfg(all(test, trunkline_loom))]
mod loom;
