//! What the handles of a connection and the I/O thread share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::driver::{Command, Driver, Place};
use crate::error::ConnectionError;
use crate::id::ChannelSet;
use crate::queue::Attend;
use crate::queue::pool::Pool;
use crate::queue::recv::Inbox;
use crate::queue::schedule::{Schedule, Wake};
use crate::queue::send::{SendQueue, Until};
use crate::stats::Stats;

impl Wake for mio::Waker {
    fn wake(&self) {
        // It fails only when the thread's poll is gone, and then nobody sleeps in it.
        let _ = mio::Waker::wake(self);
    }
}

/// What reaches the I/O loop from outside, and the loop itself.
pub(crate) struct Core {
    pub(crate) schedule: Schedule<Command, mio::Waker>,
    pub(crate) pool: Arc<Pool>,
    /// Locked only by who has the role, so nobody waits for it. Gone when the I/O thread has ended.
    pub(crate) driver: Mutex<Option<Driver>>,
    /// Readers that wait to be woken. It only guides who should run the loop, so `Relaxed` is
    /// enough: read too early or too late it costs a lease at most.
    parked: AtomicIsize,
}

/// How long a reader runs the loop at a time; one that waits longer leaves it to the I/O thread.
const PATIENCE: Duration = Duration::from_millis(5);

impl Core {
    pub(crate) fn new(waker: mio::Waker) -> Self {
        Self {
            schedule: Schedule::new(waker),
            pool: Arc::new(Pool::default()),
            driver: Mutex::new(None),
            parked: AtomicIsize::new(0),
        }
    }

    /// Asks something of the I/O loop.
    pub(crate) fn push(&self, command: Command) {
        self.run(self.schedule.push(command, false));
    }

    /// The same, and runs the loop once if nobody else does.
    fn push_here(&self, command: Command) {
        self.run(self.schedule.push(command, true));
    }

    fn run(&self, role: bool) {
        if role {
            let mut role = Role { core: self, received: false, call: true };
            if let Some(driver) = &mut *self.driver.lock() {
                driver.pass();
                role.call = driver.is_pressed();
            }
        }
    }

    /// Whether it is better that the I/O thread stays in the loop: others wait for it.
    pub(crate) fn others_wait(&self) -> bool {
        self.parked.load(Relaxed) > 0
    }
}

/// The role, held by another thread than the I/O thread's; given up however that thread leaves.
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

    fn attend_here(&self) {
        self.core.push_here(Command::Attend(self.place));
    }

    fn attend_later(&self) {
        self.core.schedule.defer(Command::Attend(self.place));
    }

    fn call(&self) {
        self.core.schedule.call();
    }

    fn poke(&self) {
        self.core.schedule.poke();
    }

    fn parked(&self, change: isize) {
        if change != 0 {
            self.core.parked.fetch_add(change, Relaxed);
        }
    }

    fn lead(&self, until: Until, done: &mut dyn FnMut() -> bool) -> bool {
        if self.core.others_wait() || !self.core.schedule.try_lead() {
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
        role.call = driver.is_pressed() || self.core.others_wait();
        true
    }
}

/// What does not change during a connection.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) window: u32,
    pub(crate) linger: Duration,
}

/// What the last handshake settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    pub(crate) local_addr: Option<SocketAddr>,
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) may_send: ChannelSet,
    pub(crate) may_receive: ChannelSet,
    pub(crate) may_interrupt: bool,
}

/// One connection, as its handles see it.
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    pub(crate) place: Place,
    pub(crate) facts: Facts,
    pub(crate) agreed: Mutex<Agreed>,
    pub(crate) send: SendQueue,
    pub(crate) inbox: Inbox,
    /// The last measured round trip in nanoseconds; 0 before the first. Written by the I/O thread,
    /// read alone, so `Relaxed` is enough.
    pub(crate) rtt: AtomicU64,
    /// There is no socket now, and another is waited for. Written by the I/O thread, read alone.
    pub(crate) suspended: AtomicBool,
    /// The client was lost before it ever said anything: perhaps it never learned that it was
    /// accepted. Set before the connection ends.
    pub(crate) ghost: AtomicBool,
    /// The counts at the end, once the I/O thread has let go.
    pub(crate) last_stats: Mutex<Option<Stats>>,
}

impl Shared {
    pub(crate) fn pool(&self) -> &Pool {
        &self.core.pool
    }

    pub(crate) fn agreed(&self) -> Agreed {
        *self.agreed.lock()
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        Some(self.rtt.load(Relaxed)).filter(|&nanos| nanos > 0).map(Duration::from_nanos)
    }

    /// Everything is over: wakes everyone with the cause.
    pub(crate) fn end(&self, cause: &ConnectionError) {
        // First, so that somebody whom the inbox wakes, and who lets go of everything, comes too
        // late to close it and so to change the cause.
        self.send.end(cause);
        self.inbox.end(cause);
    }
}
