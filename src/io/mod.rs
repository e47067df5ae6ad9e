//! The I/O thread: the one place with sockets and a clock.
//!
//! | file | topic |
//! |---|---|
//! | `thread` | the public handle, the thread, and how it ends |
//! | `driver` | the loop: a value with one method, [`turn`](driver::Driver::turn) |
//! | `conn` | one connection: its socket, session and queues; `conn::outage`: without a socket |
//! | `resume` | how a connection outlives its socket |
//! | `accept` | listeners |
//! | `connect` | a client's attempts |
//! | `pending`, `establish` | handshakes until there is a connection, and how it begins |
//! | `socket`, `outbox`, `pace`, `timer` | reading and writing, what waits to be written, how fast it drains, deadlines |
//! | `spin` | whether to look again for a moment before sleeping |

pub(crate) mod accept;
pub(crate) mod conn;
pub(crate) mod connect;
pub(crate) mod driver;
pub(crate) mod establish;
pub(crate) mod outbox;
pub(crate) mod pace;
pub(crate) mod pending;
pub(crate) mod resume;
pub(crate) mod shared;
pub(crate) mod socket;
pub(crate) mod spin;
pub(crate) mod thread;
pub(crate) mod timer;

#[cfg(all(test, not(trunkline_loom)))]
mod tests;

pub use thread::IoThread;
