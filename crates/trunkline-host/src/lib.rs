//! Runs a program so that others can share it.

#![deny(missing_docs)]
#![deny(unsafe_code)]

mod screen;
mod size;

pub use screen::Screen;
pub use size::{MAX_COLUMNS, MAX_ROWS, Size, SizeError, SizePolicy, Sizes};
