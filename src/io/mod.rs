//! The I/O thread: the one place with sockets and a clock.
//!
//! From the ground up; each uses only what stands above it in this table, and the sources do not
//! know each other.
//!
//! | file | topic |
//! |---|---|
//! | `trace` `place` `timer` `spin` `backoff` `pace` `peer` `socket_file` `keyring` | leaves |
//! | `socket` | a stream socket of either kind, and what listens for them |
//! | `sealed` | the seal of a socket, and the records that wait |
//! | `link` | a socket as a connection uses it |
//! | `shared` `accepted` `reply` | what the handles of a connection see, and how they come to a program |
//! | `command` `core` | what other threads ask for, and which thread runs the loop |
//! | `env` | what a source sees while it is served |
//! | `conn` | source: one connection |
//! | `server_handshake` `client_handshake` | sources: a socket until there is a connection |
//! | `dial` | source: a client's way to a server |
//! | `sessions` `strangers` `listen` | source: a listener, and its verdict on each proved client |
//! | `establish` | what a new connection is made of |
//! | `driver` | the loop, which alone knows all sources and moves what one hands over to the next |
//! | `thread` | the public handle, the thread, and how it ends |

pub(crate) mod accepted;
mod backoff;
mod client_handshake;
pub(crate) mod command;
pub(crate) mod conn;
pub(crate) mod core;
mod dial;
mod driver;
pub(crate) mod env;
pub(crate) mod establish;
mod keyring;
mod leaving;
pub(crate) mod link;
mod listen;
mod pace;
#[cfg(unix)]
pub(crate) mod peer;
pub(crate) mod place;
pub(crate) mod reply;
mod sealed;
mod server_handshake;
mod sessions;
pub(crate) mod shared;
pub(crate) mod socket;
#[cfg(unix)]
pub(crate) mod socket_file;
mod spin;
mod strangers;
pub(crate) mod thread;
mod timer;
mod trace;

#[cfg(all(test, not(trunkline_loom)))]
mod tests;

pub use thread::{IoThread, IoThreadBuilder};
