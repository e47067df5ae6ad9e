#![doc = include_str!("../README.md")]
//!
//! # How it is made
//!
//! - [`Setup`] starts a [`Program`], which the caller's thread runs by [`Program::next`]: output comes out,
//!   [input](Program::input), [sizes](Program::resize) and [signals](Program::signal) go in, and nothing of it blocks.
//! - [`Host`] joins a program to the channels of a kernel; [`interpreter`] joins a kernel in a process of its own.
//! - [`Screen`], [`Sizes`], [`Recording`] and [`marks`] are values, without threads, clock or descriptors.
//!
//! One part has unsafe code, for what a new process does between fork and exec.

#![deny(missing_docs)]
#![deny(unsafe_code)]
#![cfg(unix)]

mod ending;
mod host;
pub mod interpreter;
pub mod marks;
mod outlet;
mod program;
mod recording;
mod screen;
mod size;

pub use ending::{Ending, Signal, SignalError};
pub use host::{Host, INPUT_CLOSED, ServeError, Served, Stopper};
pub use program::{Bell, Happened, MAX_OUTPUT, Program, Setup, StartError, Stream};
pub use recording::Recording;
pub use screen::Screen;
pub use size::{MAX_COLUMNS, MAX_ROWS, Size, SizeError, SizePolicy, SizePolicyError, Sizes};
