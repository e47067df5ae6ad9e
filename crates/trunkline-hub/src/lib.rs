#![doc = include_str!("guide.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod code;
mod drive;
mod filter;
mod guarded;
mod history;
mod hub;
pub mod kernel;
mod route;
mod snapshot;

pub use filter::{Judge, Line, News, Origin, Verdict};
pub use history::History;
pub use hub::{Hub, HubError, Running};
pub use snapshot::Snapshot;
