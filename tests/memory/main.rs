//! What the library holds and allocates, counted by the allocator. The tests run one after the other,
//! since what others allocate at the same time would count too.

#[path = "../support/mod.rs"]
mod support;

mod steady;
mod suspended;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};

use support::heap::Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
