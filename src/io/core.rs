//! What reaches the I/O loop from outside, and the loop itself, which one thread runs at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use super::command::Command;
use super::place::Place;
use super::shared::Io;
use crate::queue::attend::Attend;
use crate::queue::pool::Pool;
use crate::queue::schedule::{Schedule, Wake};
use crate::queue::until::{Until, runs_loop};
use crate::stats::Stats;

impl Wake for mio::Waker {
    fn wake(&self) {
        // It fails only when the thread's poll is gone, and then nothing sleeps in it.
        let _ = mio::Waker::wake(self);
    }
}

/// The I/O loop, as the thread that has the role of running it sees it.
pub(crate) trait Run: Send {
    /// One pass, which sleeps until `until` at the latest. `false`: there is nothing to do and
    /// there will not be.
    fn turn(&mut self, until: Option<Instant>) -> std::io::Result<bool>;

    /// One pass over what other threads asked for, which neither sleeps nor looks at sockets.
    fn pass(&mut self);

    /// Returns `true` if there is something to do that cannot wait for a lease: more to write, or a client to
    /// answer. More to read can, since the thread that left the loop with it probably comes back for it.
    fn is_pressed(&self) -> bool;

    /// Returns `true` if anything was received since the last call.
    fn take_received(&mut self) -> bool;

    /// Returns `true` if a thread that slept was given something since the last call.
    fn take_served(&mut self) -> bool;
}

/// How long a reader runs the loop at a time; one that waits longer leaves it to the I/O thread.
const PATIENCE: Duration = Duration::from_millis(5);

pub(crate) struct Core {
    pub(crate) schedule: Schedule<Command, mio::Waker>,
    pub(crate) pool: Arc<Pool>,
    /// Locked only by the thread that has the role, so nothing waits for it. Gone when the I/O
    /// thread has ended.
    pub(crate) driver: Mutex<Option<Box<dyn Run>>>,
    /// The loop may be run by threads that wait for it.
    pub(crate) lends: bool,
    born: forkguard::Guard,
}

impl Core {
    pub(crate) fn new(waker: mio::Waker, lends: bool) -> Self {
        Self {
            schedule: Schedule::new(waker),
            pool: Arc::new(Pool::default()),
            driver: Mutex::new(None),
            lends,
            born: forkguard::new(),
        }
    }

    /// Returns `true` in a forked process, where no I/O thread runs.
    pub(crate) fn is_forked(&self) -> bool {
        self.born.clone().detected_fork()
    }

    /// Asks something of the I/O loop.
    pub(crate) fn push(&self, command: Command) {
        if self.schedule.push(command) {
            let mut role = Role { core: self, received: false, call: true };
            if let Some(driver) = &mut *self.driver.lock() {
                driver.pass();
                role.call = driver.is_pressed();
            }
        }
    }

    /// Returns `true` if it is better that the I/O thread stays in the loop: others wait for it.
    pub(crate) fn others_wait(&self) -> bool {
        !self.schedule.sleepers().is_zero()
    }
}

/// The role, held by another thread than the I/O thread; given up however that thread leaves.
struct Role<'a> {
    core: &'a Core,
    received: bool,
    call: bool,
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        self.core.schedule.release(self.received, self.call);
    }
}

/// Calls the I/O thread for one connection.
pub(crate) struct Attention {
    pub(crate) core: Arc<Core>,
    pub(crate) place: Place,
}

impl Attend for Attention {
    fn attend(&self) {
        self.core.push(Command::Attend(self.place));
    }

    fn call(&self) {
        self.core.schedule.call();
    }

    fn poke(&self) {
        self.core.schedule.poke();
    }

    fn lead(&self, until: Until, done: &mut dyn FnMut() -> bool) -> bool {
        if !self.core.schedule.try_lead() {
            return false;
        }
        let mut role = Role { core: &self.core, received: false, call: true };
        let mut driver = self.core.driver.lock();
        let Some(driver) = &mut *driver else { return false };
        let patience = Instant::now() + PATIENCE;
        let end = match until {
            Until::At(at) => at.min(patience),
            _ => patience,
        };
        while !done() {
            if Instant::now() >= end || !matches!(driver.turn(Some(end)), Ok(true)) {
                return true;
            }
        }
        role.received = driver.take_received();
        role.call = driver.is_pressed();
        true
    }
}

impl Io for Attention {
    fn stats(&self) -> Option<Stats> {
        if runs_loop() {
            return None;
        }
        let (reply, answer) = bounded(1);
        self.core.push(Command::Stats(self.place, reply));
        answer.recv().ok()
    }

    fn wakes(&self) -> u64 {
        self.core.schedule.wakes()
    }
}
