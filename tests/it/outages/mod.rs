//! Connections that outlive their socket (protocol, section 6).

mod peers;
mod resume;
mod tampering;
mod told;

use std::net::SocketAddr;

use crate::support::wire::{ClientHandshake, RawKey, RawPeer, WireError};

/// Asks for a session; the Accept, and the socket behind it.
fn ask(
    addr: SocketAddr,
    key: &RawKey,
    session: [u8; 16],
    offset: u64,
    attempt: u32,
) -> Result<RawPeer, WireError> {
    ClientHandshake::new(addr, key).session(session, offset, attempt).finish()
}

/// The status of a refusal; 0 if it was none.
fn status(result: Result<RawPeer, WireError>) -> u8 {
    match result {
        Err(WireError::RefusedByAccept(accept)) => accept.status,
        Err(other) => panic!("{other:?}"),
        Ok(_) => 0,
    }
}
