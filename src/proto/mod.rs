//! The protocol without sockets, threads, locks or clock: bytes and `now` go in, bytes and what
//! they mean come out. The driver in `io` and the tests run the same code.
//!
//! [`Session`](session::Session) is what the driver talks to; a user thread talks to its sending
//! half, [`Outbound`](outbound::Outbound), which lives behind the send queue's lock.

pub(crate) mod credit;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod inbound;
pub(crate) mod liveness;
pub(crate) mod outbound;
pub(crate) mod replay;
pub(crate) mod seal;
pub(crate) mod segment;
pub(crate) mod session;
pub(crate) mod table;
pub(crate) mod violation;

#[cfg(test)]
mod tests;
