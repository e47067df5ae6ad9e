//! The integration tests, in one program: what they need is linked once, and they run in parallel.
//!
//! Tests that measure the memory of the process have programs of their own, and so have those of the two
//! large examples.

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod closing;
mod connecting;
mod debug;
mod ends;
mod events;
mod examples;
mod interrupts;
mod latency;
mod leaving;
mod listening;
mod order;
mod outages;
mod reader;
mod streams;
mod tasks;
mod user_memory;
mod wakers;
mod wire;
mod writer;
