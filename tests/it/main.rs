//! The integration tests, in one program: what they need is linked once, and they run in parallel.
//!
//! Tests that measure the memory of the process have a program of their own.

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod closing;
mod connecting;
mod debug;
mod ends;
mod events;
mod examples;
mod handles;
mod interrupts;
mod keys;
mod latency;
mod lazy;
mod leader;
mod leaving;
mod listening;
mod order;
mod outages;
mod reader;
mod regressions;
mod relay;
mod stdio;
mod streams;
mod tasks;
mod traps;
#[cfg(unix)]
mod unix;
mod user_memory;
mod wakers;
mod wire;
mod writer;
