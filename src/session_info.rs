//! Which clients a listener has.

use std::net::SocketAddr;
use std::time::Instant;

use crate::access::Access;
use crate::peer_process::PeerProcess;

/// One client of a listener; see [`Listener::sessions`](crate::Listener::sessions).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionInfo {
    /// What the listener's settings say of the key that the client has proved: its name, and what it may do.
    pub access: Access,
    /// When the client came first.
    pub since: Instant,
    /// `true` if the connection is sealed.
    pub sealed: bool,
    /// `true` if there is no socket at the moment, and the client is waited for.
    pub suspended: bool,
    /// The address of its socket; during an outage, that of the last one. `None` over a Unix socket.
    pub peer_addr: Option<SocketAddr>,
    /// Its process, over a Unix socket, if the system tells it.
    pub peer_process: Option<PeerProcess>,
}
