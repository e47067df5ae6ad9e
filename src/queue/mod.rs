//! All that user threads and the I/O thread share; all locking lives here.
//!
//! | lock | protects | held for |
//! |---|---|---|
//! | `SendQueue::state` | the sending half of the session and who waits for it | one encode, or one exchange of the I/O thread |
//! | `ReceiveQueues::state` | the receive queues of one connection and which channel goes where | moving pieces, never bytes by the message |
//! | `Schedule::state` | which connections want the I/O loop, who runs it, and whether that one sleeps | pushing one entry, or swapping the list |
//! | `Pool::state` | emptied buffers | moving one |
//!
//! | `Events`, `AcceptQueue` | what waits to be told, and who waits for it | moving one entry |
//!
//! A thread holds one of them at a time, with two exceptions: the pool's and the schedule's may be
//! taken under any other and take none themselves, and the I/O thread takes the receive queues' under
//! its send queue's; so no two threads can wait for each other. Everything a condition variable
//! waits for is behind the lock that it is used with, and is changed before the notification, so no
//! wake-up is lost. A task's waker and a user's buffer are run and dropped with no lock held. The
//! model checker runs these types as they are (`loom.rs`).

pub(crate) mod accept;
pub(crate) mod batch;
pub(crate) mod events;
pub(crate) mod pool;
pub(crate) mod receive;
pub(crate) mod schedule;
pub(crate) mod send;
pub(crate) mod staging;
pub(crate) mod sync;
pub(crate) mod waiters;

/// A connection's way to the I/O loop.
pub(crate) trait Attend: Send + Sync {
    /// The connection's queues have something for it.
    fn attend(&self);

    /// A thread or a task is about to wait for what the loop does.
    fn call(&self) {}

    /// A reader that may run the loop itself has something to look at.
    fn poke(&self) {}

    /// Runs the loop in this thread until `done`, or until it is better to wait for another to do
    /// it. `false`: another thread runs it.
    fn lead(&self, _until: Until, _done: &mut dyn FnMut() -> bool) -> bool {
        false
    }
}

use send::Until;

#[cfg(all(test, trunkline_loom))]
mod loom;
