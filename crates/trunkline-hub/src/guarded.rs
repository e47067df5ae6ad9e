//! Code of the caller's in the hub's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the caller's. Returns `None` if it has panicked: the panic hook has told that, and the hub goes on. What
/// the code shares with others may be half changed, as after any panic.
pub(crate) fn guarded<T>(code: impl FnOnce() -> T) -> Option<T> {
    // What it has panicked with could panic once more when it is dropped.
    catch_unwind(AssertUnwindSafe(code)).map_err(std::mem::forget).ok()
}
