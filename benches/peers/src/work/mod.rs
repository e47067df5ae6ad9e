//! What the two processes of a run exchange and measure, whatever carries it.

pub mod beside;
pub mod clock;
pub mod message;
