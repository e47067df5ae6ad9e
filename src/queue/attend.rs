//! How the queues call the I/O loop.

use super::until::Until;

/// A connection's way to the I/O loop.
pub(crate) trait Attend: Send + Sync {
    /// The connection's queues have something for it.
    fn attend(&self);

    /// A thread or a task is about to wait for what the loop does.
    fn call(&self) {}

    /// A reader that may run the loop itself has something to look at.
    fn poke(&self) {}

    /// Runs the loop in this thread until `done`, or until it is better to wait for another to do
    /// it. `false`: another thread runs it.
    fn lead(&self, _until: Until, _done: &mut dyn FnMut() -> bool) -> bool {
        false
    }
}
