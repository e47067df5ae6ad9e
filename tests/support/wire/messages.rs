//! The four messages of the plain handshake.

use super::keys::{array, be16, be32, be64, be128, key_id, random};
use super::{MAGIC, RawKey, VERSION};

pub const CLIENT_HELLO: usize = 48;
pub const SERVER_HELLO: usize = 72;
pub const CLIENT_PROOF: usize = 72;
pub const ACCEPT: usize = 104;
/// What of ClientProof its proof covers.
pub const CLIENT_PROOF_HEAD: usize = 40;
/// What of Accept its MAC covers.
pub const ACCEPT_HEAD: usize = 72;
/// What of ServerHello its proof covers.
pub const SERVER_HELLO_HEAD: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    pub magic: [u8; 4],
    pub low: u8,
    pub high: u8,
    pub flags: u16,
    pub key_id: [u8; 8],
    pub nonce: [u8; 32],
}

impl ClientHello {
    pub fn new(key: &RawKey) -> Self {
        Self { magic: MAGIC, low: VERSION, high: VERSION, flags: 0, key_id: key_id(key), nonce: random() }
    }

    pub fn encode(&self) -> [u8; CLIENT_HELLO] {
        let mut out = [0; CLIENT_HELLO];
        out[0..4].copy_from_slice(&self.magic);
        out[4] = self.low;
        out[5] = self.high;
        out[6..8].copy_from_slice(&self.flags.to_be_bytes());
        out[8..16].copy_from_slice(&self.key_id);
        out[16..48].copy_from_slice(&self.nonce);
        out
    }

    pub fn decode(bytes: &[u8; CLIENT_HELLO]) -> Self {
        Self {
            magic: array(&bytes[0..4]),
            low: bytes[4],
            high: bytes[5],
            flags: be16(&bytes[6..8]),
            key_id: array(&bytes[8..16]),
            nonce: array(&bytes[16..48]),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    pub magic: [u8; 4],
    pub version: u8,
    pub status: u8,
    pub flags: u16,
    pub nonce: [u8; 32],
    pub proof: [u8; 32],
}

impl ServerHello {
    pub fn encode(&self) -> [u8; SERVER_HELLO] {
        let mut out = [0; SERVER_HELLO];
        out[0..4].copy_from_slice(&self.magic);
        out[4] = self.version;
        out[5] = self.status;
        out[6..8].copy_from_slice(&self.flags.to_be_bytes());
        out[8..40].copy_from_slice(&self.nonce);
        out[40..72].copy_from_slice(&self.proof);
        out
    }

    pub fn decode(bytes: &[u8; SERVER_HELLO]) -> Self {
        Self {
            magic: array(&bytes[0..4]),
            version: bytes[4],
            status: bytes[5],
            flags: be16(&bytes[6..8]),
            nonce: array(&bytes[8..40]),
            proof: array(&bytes[40..72]),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientProof {
    pub session: [u8; 16],
    pub offset: u64,
    pub window: u32,
    pub max_message: u32,
    /// In milliseconds.
    pub grace: u32,
    pub attempt: u32,
    pub proof: [u8; 32],
}

impl ClientProof {
    pub fn encode(&self) -> [u8; CLIENT_PROOF] {
        let mut out = [0; CLIENT_PROOF];
        out[0..16].copy_from_slice(&self.session);
        out[16..24].copy_from_slice(&self.offset.to_be_bytes());
        out[24..28].copy_from_slice(&self.window.to_be_bytes());
        out[28..32].copy_from_slice(&self.max_message.to_be_bytes());
        out[32..36].copy_from_slice(&self.grace.to_be_bytes());
        out[36..40].copy_from_slice(&self.attempt.to_be_bytes());
        out[40..72].copy_from_slice(&self.proof);
        out
    }

    pub fn decode(bytes: &[u8; CLIENT_PROOF]) -> Self {
        Self {
            session: array(&bytes[0..16]),
            offset: be64(&bytes[16..24]),
            window: be32(&bytes[24..28]),
            max_message: be32(&bytes[28..32]),
            grace: be32(&bytes[32..36]),
            attempt: be32(&bytes[36..40]),
            proof: array(&bytes[40..72]),
        }
    }

    /// Whether it asks for a session of its own.
    pub fn is_new(&self) -> bool {
        self.session == [0; 16]
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    pub status: u8,
    pub rights: u8,
    pub zero: u16,
    pub session: [u8; 16],
    pub offset: u64,
    pub window: u32,
    pub max_message: u32,
    /// Bit n: the client may send on channel n.
    pub may_send: u128,
    /// Bit n: the server may send on channel n.
    pub may_receive: u128,
    /// In milliseconds.
    pub grace: u32,
    pub mac: [u8; 32],
}

impl Accept {
    /// A refusal: zero but for its status, and the MAC that is made when it is sent.
    pub fn refusing(status: u8) -> Self {
        Self {
            status,
            rights: 0,
            zero: 0,
            session: [0; 16],
            offset: 0,
            window: 0,
            max_message: 0,
            may_send: 0,
            may_receive: 0,
            grace: 0,
            mac: [0; 32],
        }
    }

    pub fn encode(&self) -> [u8; ACCEPT] {
        let mut out = [0; ACCEPT];
        out[0] = self.status;
        out[1] = self.rights;
        out[2..4].copy_from_slice(&self.zero.to_be_bytes());
        out[4..20].copy_from_slice(&self.session);
        out[20..28].copy_from_slice(&self.offset.to_be_bytes());
        out[28..32].copy_from_slice(&self.window.to_be_bytes());
        out[32..36].copy_from_slice(&self.max_message.to_be_bytes());
        out[36..52].copy_from_slice(&self.may_send.to_be_bytes());
        out[52..68].copy_from_slice(&self.may_receive.to_be_bytes());
        out[68..72].copy_from_slice(&self.grace.to_be_bytes());
        out[72..104].copy_from_slice(&self.mac);
        out
    }

    pub fn decode(bytes: &[u8; ACCEPT]) -> Self {
        Self {
            status: bytes[0],
            rights: bytes[1],
            zero: be16(&bytes[2..4]),
            session: array(&bytes[4..20]),
            offset: be64(&bytes[20..28]),
            window: be32(&bytes[28..32]),
            max_message: be32(&bytes[32..36]),
            may_send: be128(&bytes[36..52]),
            may_receive: be128(&bytes[52..68]),
            grace: be32(&bytes[68..72]),
            mac: array(&bytes[72..104]),
        }
    }

    pub fn may_interrupt(&self) -> bool {
        self.rights & 1 == 1
    }

    /// Whether both name the same terms; the offset is none, and neither is the MAC.
    pub fn same_terms(&self, other: &Self) -> bool {
        let plain = |accept: &Self| Self { offset: 0, mac: [0; 32], ..accept.clone() };
        plain(self) == plain(other)
    }
}
