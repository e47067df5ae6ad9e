#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod console;
pub mod kernel;
pub mod layout;
mod place;

pub use place::{PlaceError, connect, listen};
