//! The hub over real sockets.

#[path = "../../../../tests/support/mod.rs"]
mod support;

mod chain;
mod ends;
mod hub;
mod input;
mod joining;
mod outages;
mod private;
mod read_only;
mod roster;
mod script;
mod shared;
#[path = "../../../trunkline-kernel/examples/tiny.rs"]
#[allow(dead_code)]
mod tiny;
