//! One connection, as its handles see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::link::NewSocket;
use crate::access::Access;
use crate::error::ConnectionError;
use crate::id::ChannelSet;
use crate::peer_process::PeerProcess;
use crate::queue::attend::Attend;
use crate::queue::events::{Events, Happenings};
use crate::queue::pool::Pool;
use crate::queue::receive::ReceiveQueues;
use crate::queue::send::SendQueue;
use crate::stats::Stats;

/// A connection's way to the I/O thread.
pub(crate) trait Io: Attend {
    /// The counts of the connection, exact as of the call; `None` once the I/O thread has let go.
    fn stats(&self) -> Option<Stats>;

    /// How often another thread had to wake the I/O thread.
    fn wakes(&self) -> u64;
}

/// What does not change during a connection.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) linger: Duration,
    /// What the listener knows of the peer's key; `None` on the side that connected, and on a pair.
    pub(crate) access: Option<Access>,
}

/// What the last handshake settled, and what has become of its socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agreed {
    pub(crate) local_addr: Option<SocketAddr>,
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) peer_process: Option<PeerProcess>,
    pub(crate) sealed: bool,
    pub(crate) may_send: ChannelSet,
    pub(crate) may_receive: ChannelSet,
    pub(crate) may_interrupt: bool,
    /// There is no socket now, and another is waited for.
    pub(crate) suspended: bool,
}

impl Agreed {
    /// There is a socket.
    pub(crate) fn attach(&mut self, new: &NewSocket) {
        (self.local_addr, self.peer_addr) = (new.socket.local_addr(), new.peer_addr);
        self.peer_process = new.process.clone();
        self.sealed = new.seal.is_some();
        self.suspended = false;
    }
}

pub(crate) struct Shared {
    pub(crate) io: Arc<dyn Io>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) facts: Facts,
    /// Held for a copy; no other lock is taken while it is held.
    pub(crate) agreed: Mutex<Agreed>,
    pub(crate) send: SendQueue,
    pub(crate) receive: ReceiveQueues,
    pub(crate) events: Events,
    /// The last measured round trip in nanoseconds; 0 before the first. Written by the I/O thread,
    /// read alone, so `Relaxed` is enough.
    pub(crate) rtt: AtomicU64,
    /// The counts at the end, once the I/O thread has let go.
    pub(crate) last_stats: Mutex<Option<Stats>>,
    born: forkguard::Guard,
}

impl Shared {
    pub(crate) fn new(
        io: Arc<dyn Io>,
        pool: Arc<Pool>,
        facts: Facts,
        agreed: Agreed,
        send: SendQueue,
        receive: ReceiveQueues,
    ) -> Self {
        Self {
            io,
            pool,
            facts,
            agreed: Mutex::new(agreed),
            send,
            receive,
            events: Events::new(Happenings::default()),
            rtt: AtomicU64::new(0),
            last_stats: Mutex::new(None),
            born: forkguard::new(),
        }
    }

    /// Returns `true` in a process that was forked from the one that made the connection: nothing of
    /// it may be touched there, not even its locks, which another thread may have held.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.born.clone().detected_fork()
    }

    /// Nothing is, in a process that was forked.
    pub(crate) fn agreed(&self) -> Agreed {
        if self.is_forked() { Agreed::default() } else { self.agreed.lock().clone() }
    }

    /// Why the connection is over.
    pub(crate) fn ended(&self) -> Option<ConnectionError> {
        if self.is_forked() { Some(ConnectionError::Forked) } else { self.send.ended() }
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        Some(self.rtt.load(Relaxed)).filter(|&nanos| nanos > 0).map(Duration::from_nanos)
    }

    /// Everything is over: wakes all with the cause.
    pub(crate) fn end(&self, cause: &ConnectionError) {
        // First, so that a thread that the receive queues wake, and that lets go of everything, comes
        // too late to close it and so to change the cause.
        self.send.end(cause);
        self.receive.end(cause);
        self.events.close(cause);
    }
}
