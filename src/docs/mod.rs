//! Longer reading: the wire, sessions, the design, and where the time goes.
//!
//! Nothing in here is code. Start with the [crate guide](crate) to use the library; come here to
//! write another implementation, to review this one, or to work on it.

#[doc = include_str!("protocol.md")]
pub mod protocol {}

#[doc = include_str!("design.md")]
pub mod design {}

#[doc = include_str!("sessions.md")]
pub mod sessions {}

#[doc = include_str!("performance.md")]
pub mod performance {}
