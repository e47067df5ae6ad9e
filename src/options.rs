//! The settings that the I/O thread works with: plain numbers, checked before they come here.

use std::time::Duration;

use crate::proto::handshake::Takes;
use crate::proto::seal;
use crate::sealing::Sealing;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) sealing: Sealing,
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

impl Options {
    /// Returns `true` if a client seals a connection over TCP, or over a Unix socket.
    pub(crate) fn seals(&self, over_tcp: bool) -> bool {
        match self.sealing {
            Sealing::Auto => over_tcp && seal::IS_BUILT,
            Sealing::Always => true,
            Sealing::Never => false,
        }
    }

    /// The kinds of connections that a listener takes. `near`: other machines cannot reach it.
    pub(crate) fn takes(&self, near: bool) -> Takes {
        match self.sealing {
            Sealing::Auto if seal::IS_BUILT => Takes { plain: near, sealed: true },
            Sealing::Always => Takes { plain: false, sealed: true },
            Sealing::Auto | Sealing::Never => Takes { plain: true, sealed: false },
        }
    }
}
