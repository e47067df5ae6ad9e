//! All that user threads and the I/O thread share; all locking lives here.
//!
//! | lock | protects | held for |
//! |---|---|---|
//! | `SendQueue::state` | the sending half of the session and what waits for it | one encode, or one exchange of the I/O thread |
//! | `ReceiveQueues::state` | the receive queues of one connection and which channel goes where | moving pieces, never bytes by the message |
//! | `Schedule::state` | which connections want the I/O loop, which thread runs it, and if that one sleeps | pushing one entry, or swapping the list |
//! | `Pool::state` | emptied buffers | moving one |
//! | `Mailboxes`, `AcceptQueue` | what waits to be told, and what waits for it | moving one entry |
//!
//! A thread holds one of them at a time, with two exceptions: the pool's and the schedule's may be
//! taken under any other and take none themselves, and the I/O thread takes the receive queues' under
//! its send queue's; so no two threads can wait for each other. Everything a condition variable
//! waits for is behind the lock that it is used with, and is changed before the notification, so no
//! wake-up is lost. A task's waker and a user's buffer are run and dropped with no lock held. The
//! model checker runs these types as they are (`loom.rs`).

pub(crate) mod accept;
pub(crate) mod attend;
pub(crate) mod batch;
pub(crate) mod events;
pub(crate) mod listener_events;
pub(crate) mod mailbox;
pub(crate) mod pool;
pub(crate) mod receive;
pub(crate) mod schedule;
pub(crate) mod send;
pub(crate) mod staging;
pub(crate) mod sync;
pub(crate) mod until;
pub(crate) mod waiters;

#[cfg(all(test, trunkline_loom))]
mod loom;
