//! The settings that the I/O thread works with: plain numbers, checked before they come here.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) window: u32,
    pub(crate) max_message: u32,
    pub(crate) max_assembly: usize,
    pub(crate) max_unread: usize,
    pub(crate) send_queue: u32,
    pub(crate) handshake_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) pending_handshakes: usize,
    pub(crate) backlog: usize,
    pub(crate) max_connections: usize,
    /// The interval and the timeout.
    pub(crate) heartbeat: Option<(Duration, Duration)>,
    pub(crate) linger: Duration,
    pub(crate) resume_grace: Duration,
    pub(crate) local_grace: Duration,
    pub(crate) replay_limit: u32,
    pub(crate) max_suspended: usize,
    pub(crate) suspended_bytes: usize,
}
