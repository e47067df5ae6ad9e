//! The traits of the `futures` crates for the handles: one file for each kind.
//!
//! They add nothing but the traits: the waiting is that of the `poll_` functions, which need no
//! feature.

mod io;
mod sink;
mod stream;

pub use sink::SenderSink;
