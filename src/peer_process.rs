//! The process at the other end of a Unix socket.

use std::fmt;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(unix)]
use std::sync::Arc;

/// The process at the other end of a Unix socket: the one that connected or, for a client, the one that
/// listens. See [`Connection::peer_process`](crate::Connection::peer_process).
///
/// It is pinned: however long the value is kept, it stands for that process and no other, even after the
/// system has given the number to a new one. Processes that were started by it, or that inherited its socket,
/// are others.
#[derive(Clone)]
pub struct PeerProcess {
    id: u32,
    #[cfg(unix)]
    pin: Arc<OwnedFd>,
}

impl PeerProcess {
    #[cfg(unix)]
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn new(id: u32, pin: OwnedFd) -> Self {
        Self { id, pin: Arc::new(pin) }
    }

    /// Returns the process id. Once the process [has exited](PeerProcess::has_exited), the number may be
    /// another's.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns `true` if the process has ended.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        #[cfg(unix)]
        {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let mut pin = [PollFd::new(&*self.pin, PollFlags::IN)];
            matches!(poll(&mut pin, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
        }
        #[cfg(not(unix))]
        {
            true
        }
    }
}

/// A pidfd: it becomes readable when the process ends, and signals that are sent through it reach no other
/// process.
#[cfg(unix)]
impl AsFd for PeerProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pin.as_fd()
    }
}

impl fmt::Debug for PeerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerProcess").field("id", &self.id).finish_non_exhaustive()
    }
}
