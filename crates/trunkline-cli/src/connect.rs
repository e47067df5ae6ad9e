//! A connection to a host.

use std::net::ToSocketAddrs;
use std::path::Path;
use std::time::Duration;

use trunkline::{Config, ConnectError, Connection, HandshakeError};

use crate::failure::{Failure, NO_PERMISSION, UNAVAILABLE};
use crate::key;

/// How long a link may be lost before that is the end.
const GRACE: Duration = Duration::from_secs(3600);

pub fn connect(address: &str, key_file: &Path) -> Result<Connection, Failure> {
    let config = Config::new(key::read(key_file)?).interactive().resume_grace(GRACE);
    let unavailable = |text: String| Failure::new(UNAVAILABLE, text);
    let addresses: Vec<_> = address
        .to_socket_addrs()
        .map_err(|error| {
            unavailable(format!("{address}: {error}; an address is HOST:PORT, as the host has printed it"))
        })?
        .collect();
    Connection::connect(addresses, config).map_err(|error| match error {
        ConnectError::Handshake(HandshakeError::NotAuthorised | HandshakeError::BadProof) => Failure::new(
            NO_PERMISSION,
            format!("{address}: {error}; use the key file that the host was started with"),
        ),
        error => unavailable(format!("{address}: {error}; is the host running there?")),
    })
}
