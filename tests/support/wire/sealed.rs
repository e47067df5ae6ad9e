//! The sealed handshake as far as a refusal: this speaker cannot seal.

use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use super::keys::{array, be16, key_id, random};
use super::stream::{WireError, read_exact_by, violation};
use super::{MAGIC, RawKey, VERSION, status};

pub const SEALED_HELLO: usize = 64;
pub const SEALED_REPLY: usize = 64;

/// The first message of a sealed handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedHello {
    pub magic: [u8; 4],
    pub low: u8,
    pub high: u8,
    /// Bit 0 says that it is one.
    pub flags: u16,
    pub key_id: [u8; 8],
    /// Noise message 1, with an empty payload.
    pub noise: [u8; 48],
}

impl SealedHello {
    /// What a client without the key can make of it: the Noise message is random bytes.
    pub fn forged(key: &RawKey) -> Self {
        Self { magic: MAGIC, low: VERSION, high: VERSION, flags: 1, key_id: key_id(key), noise: random() }
    }

    pub fn encode(&self) -> [u8; SEALED_HELLO] {
        let mut out = [0; SEALED_HELLO];
        out[0..4].copy_from_slice(&self.magic);
        out[4] = self.low;
        out[5] = self.high;
        out[6..8].copy_from_slice(&self.flags.to_be_bytes());
        out[8..16].copy_from_slice(&self.key_id);
        out[16..64].copy_from_slice(&self.noise);
        out
    }

    pub fn decode(bytes: &[u8; SEALED_HELLO]) -> Self {
        Self {
            magic: array(&bytes[0..4]),
            low: bytes[4],
            high: bytes[5],
            flags: be16(&bytes[6..8]),
            key_id: array(&bytes[8..16]),
            noise: array(&bytes[16..64]),
        }
    }
}

/// ServerHello[0..8] with bit 0 of the flags set, and 56 zeros.
pub(super) fn send_refusal(stream: &mut TcpStream, status: u8) -> Result<(), WireError> {
    let mut reply = [0; SEALED_REPLY];
    reply[0..4].copy_from_slice(&MAGIC);
    reply[4] = VERSION;
    reply[5] = status;
    reply[7] = 1;
    Ok(stream.write_all(&reply)?)
}

/// Reads a SealedReply that refuses, checks all of it, and gives its status.
pub fn read_sealed_refusal(stream: &mut TcpStream, deadline: Instant) -> Result<u8, WireError> {
    let mut reply = [0; SEALED_REPLY];
    read_exact_by(stream, &mut reply, deadline)?;
    if reply[0..4] != MAGIC {
        return violation(format!("SealedReply magic {:02x?}", &reply[0..4]));
    }
    if be16(&reply[6..8]) != 1 {
        return violation(format!("SealedReply flags {:#x}", be16(&reply[6..8])));
    }
    match reply[5] {
        status::NO_COMMON_VERSION | status::NOT_AUTHORISED | status::TOO_BUSY | status::ONLY_PLAIN => {}
        other => return violation(format!("SealedReply status {other}")),
    }
    if reply[8..] != [0; SEALED_REPLY - 8] {
        return violation("SealedReply refuses and carries a Noise message");
    }
    Ok(reply[5])
}
