//! The two halves of each workload, without what carries them: what is to be sent next, and what
//! an arriving message means. The worlds move the messages.

pub mod clock;
pub mod flood;
pub mod message;
pub mod pinging;
pub mod receiving;
pub mod sending;
