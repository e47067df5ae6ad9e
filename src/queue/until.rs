//! How long a call waits.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long a call may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// Not at all.
    Now,
    At(Instant),
    Forever,
}

impl Until {
    /// A time that far off counts as for ever.
    pub(crate) fn after(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Self::Forever, Self::At)
    }
}

thread_local! {
    static RUNS_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread runs the I/O loop. What the loop frees may be the user's memory, and
/// its drop the user's code: a call that waits for the loop from there would wait for ever.
pub(crate) struct RunsLoop {
    /// What held before: a loop may be run from within another's.
    before: bool,
}

impl RunsLoop {
    pub(crate) fn enter() -> Self {
        Self { before: RUNS_LOOP.replace(true) }
    }
}

impl Drop for RunsLoop {
    fn drop(&mut self) {
        RUNS_LOOP.set(self.before);
    }
}

/// Returns `true` if this thread runs the I/O loop now.
pub(crate) fn runs_loop() -> bool {
    RUNS_LOOP.get()
}

/// Called before a thread waits for what the I/O loop does.
///
/// # Panics
///
/// If this thread runs the loop.
pub(crate) fn check_may_wait() {
    assert!(
        !runs_loop(),
        "trunkline: a call that waits was made from the drop of a payload, which the I/O loop runs; \
         use the calls that do not wait there, or hand the work to another thread"
    );
}
