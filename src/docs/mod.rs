//! Longer reading: what is on the wire, and why the library is built as it is.
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
