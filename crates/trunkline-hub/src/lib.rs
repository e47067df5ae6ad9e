//! Many clients at one program.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod code;
mod filter;
pub mod kernel;
mod route;
mod snapshot;

pub use filter::{Line, Origin, Verdict};
pub use snapshot::Snapshot;

/// The hub.
pub struct Hub;
