//! The loop of a remote interpreter.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod console;
pub mod kernel;
pub mod layout;
