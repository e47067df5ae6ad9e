//! x
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod ending;
mod lines;
mod meta;
mod options;
mod pictures;
mod questions;
mod run;
mod script;
mod sys;
#[cfg(unix)]
mod terminal;

pub use ending::Ending;
pub use options::{Mode, Options};
pub use run::{attend, configure};
