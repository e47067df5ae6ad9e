//! The sending half of a session: checks credit, encodes, and keeps what waits for the socket.
//!
//! It lives behind the send queue's lock: user threads offer messages, the I/O thread applies what
//! the peer granted and takes encoded segments.
//!
//! - Credit is checked before a frame enters a lane, so what is in a lane can always be sent.
//! - A message is accepted whole or not at all. Of one that has more than the credit at hand, the
//!   first fragments enter a lane and the rest *waits* with the channel; it follows as credit
//!   comes, whatever the sender does meanwhile (trap 10).

mod channel;
mod discard;
mod lanes;
mod meet;
mod notes;
mod payload;
mod queue;
mod sieve;
mod unmet;
mod waiting;

pub(crate) use meet::Conflict;
pub use payload::Priority;
pub(crate) use payload::{Payload, Refused, Stopped};
pub(crate) use queue::{Mark, Outbound};
