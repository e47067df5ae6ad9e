//! What the handles of a connection and the I/O thread share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::driver::{Command, Place};
use crate::error::ConnectionError;
use crate::id::ChannelSet;
use crate::queue::Attend;
use crate::queue::pool::Pool;
use crate::queue::recv::Inbox;
use crate::queue::schedule::{Schedule, Wake};
use crate::queue::send::SendQueue;
use crate::stats::Stats;

impl Wake for mio::Waker {
    fn wake(&self) {
        // It fails only when the thread's poll is gone, and then nobody sleeps in it.
        let _ = mio::Waker::wake(self);
    }
}

/// What reaches the I/O thread from outside.
pub(crate) struct Core {
    pub(crate) schedule: Schedule<Command, mio::Waker>,
    pub(crate) pool: Arc<Pool>,
}

/// Calls the I/O thread for one connection.
pub(crate) struct Attention {
    pub(crate) core: Arc<Core>,
    pub(crate) place: Place,
}

impl Attend for Attention {
    fn attend(&self) {
        self.core.schedule.push(Command::Attend(self.place));
    }
}

/// What does not change during a connection.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) local_addr: Option<SocketAddr>,
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) may_send: ChannelSet,
    pub(crate) may_receive: ChannelSet,
    pub(crate) may_interrupt: bool,
    pub(crate) window: u32,
    pub(crate) linger: Duration,
}

/// One connection, as its handles see it.
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    pub(crate) place: Place,
    pub(crate) facts: Facts,
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

    pub(crate) fn rtt(&self) -> Option<Duration> {
        Some(self.rtt.load(Relaxed)).filter(|&nanos| nanos > 0).map(Duration::from_nanos)
    }

    /// Everything is over: wakes everyone with the cause.
    pub(crate) fn end(&self, cause: &ConnectionError) {
        self.inbox.end(cause);
        self.send.end(cause);
    }
}
