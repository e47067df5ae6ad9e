//! The integration tests, in one program: what they need is linked once, and they run in parallel.
//!
//! Tests that measure the memory of the process have programs of their own, and so have those that
//! start processes.

#[path = "../support/mod.rs"]
mod support;

mod user_memory;
mod wire;
