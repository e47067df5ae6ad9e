//! Runs a program so that others can share it.

#![deny(missing_docs)]
#![deny(unsafe_code)]

mod ending;
pub mod marks;
mod program;
mod recording;
mod screen;
mod size;

pub use ending::{Ending, Signal, SignalError};
pub use program::{Bell, Happened, MAX_OUTPUT, Program, Setup, StartError, Stream};
pub use recording::Recording;
pub use screen::Screen;
pub use size::{MAX_COLUMNS, MAX_ROWS, Size, SizeError, SizePolicy, Sizes};
