//! The sealed handshake.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::keys::{array, be16, key_id, random};
use super::seal::Handshake;
use super::stream::{WireError, dial, read_exact_by, violation};
use super::*;

pub const SEALED_HELLO: usize = 64;
pub const SEALED_REPLY: usize = 64;
/// A client's first record, and a server's, with their lengths.
pub const SEALED_PROOF: usize = 2 + CLIENT_PROOF_HEAD + 16;
pub const SEALED_ACCEPT: usize = 2 + ACCEPT_HEAD + 16;

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

/// A client's sealed handshake, step by step or at once with [`finish`](Self::finish).
pub struct SealedClient {
    pub plain: ClientHandshake,
    noise: Handshake,
    pub seal: Option<RawSeal>,
    /// XORed into the wire bytes of SealedHello and of the first record: (offset, mask).
    pub flip_hello: Option<(usize, u8)>,
    pub flip_proof: Option<(usize, u8)>,
    pub hello_bytes: [u8; SEALED_HELLO],
    pub reply_bytes: [u8; SEALED_REPLY],
    pub proof_bytes: Vec<u8>,
}

impl SealedClient {
    pub fn new(addr: SocketAddr, key: &RawKey) -> Self {
        Self::from_plain(ClientHandshake::over(dial(addr), key))
    }

    /// With the terms and the session of a plain one.
    pub fn from_plain(plain: ClientHandshake) -> Self {
        let key = plain.key;
        let mut hello = SealedHello { noise: [0; 48], ..SealedHello::forged(&key) };
        let mut noise = Handshake::new(&hello.encode()[..16]);
        hello.noise = array(&noise.write_first(&key, &[]));
        Self {
            plain,
            noise,
            seal: None,
            flip_hello: None,
            flip_proof: None,
            hello_bytes: hello.encode(),
            reply_bytes: [0; SEALED_REPLY],
            proof_bytes: Vec::new(),
        }
    }

    pub fn send_hello(&mut self) -> Result<(), WireError> {
        let bytes = keys::flipped(self.hello_bytes, self.flip_hello);
        Ok(self.plain.stream.write_all(&bytes)?)
    }

    /// Reads SealedReply and checks all of it; a status but 0 is `Refused`.
    pub fn read_reply(&mut self) -> Result<(), WireError> {
        read_exact_by(&mut self.plain.stream, &mut self.reply_bytes, self.plain.deadline)?;
        let (head, message) = self.reply_bytes.split_at(8);
        if head[0..4] != MAGIC || be16(&head[6..8]) != 1 {
            return violation(format!("SealedReply begins with {head:02x?}"));
        }
        if head[5] != status::OK {
            return match message.iter().all(|&byte| byte == 0) {
                true => Err(WireError::Refused(head[5])),
                false => violation("SealedReply refuses and carries a Noise message"),
            };
        }
        if head[4] != VERSION {
            return violation(format!("SealedReply chose version {}", head[4]));
        }
        match self.noise.read_second(message) {
            Some(payload) if payload == head => {}
            Some(payload) => return violation(format!("{payload:02x?} is sealed in {head:02x?}")),
            None => return violation("the server's Noise message does not open"),
        }
        let (sends, receives) = self.noise.split();
        self.seal = Some(RawSeal::new(sends, receives));
        Ok(())
    }

    pub fn send_proof(&mut self) -> Result<(), WireError> {
        let text = self.plain.proof.encode();
        let mut bytes = self.seal.as_mut().expect("SealedReply was read").record(&text[..CLIENT_PROOF_HEAD]);
        if let Some((at, mask)) = self.flip_proof {
            bytes[at] ^= mask;
        }
        self.proof_bytes = bytes;
        Ok(self.plain.stream.write_all(&self.proof_bytes)?)
    }

    /// Reads the server's first record, and checks what is in it.
    pub fn read_accept(&mut self) -> Result<Accept, WireError> {
        let mut bytes = [0; SEALED_ACCEPT];
        read_exact_by(&mut self.plain.stream, &mut bytes, self.plain.deadline)?;
        let seal = self.seal.as_mut().expect("SealedReply was read");
        let text = seal.open(&bytes).map_err(WireError::Violation)?;
        if text.len() != ACCEPT_HEAD {
            return violation(format!("the first record has {} bytes", text.len()));
        }
        self.plain.accept_bytes[..ACCEPT_HEAD].copy_from_slice(&text);
        self.plain.check_accepted(Accept::decode(&self.plain.accept_bytes))
    }

    pub fn shake(&mut self) -> Result<Accept, WireError> {
        self.send_hello()?;
        self.read_reply()?;
        self.send_proof()?;
        self.read_accept()
    }

    pub fn finish(mut self) -> Result<RawPeer, WireError> {
        let accept = self.shake()?;
        Ok(self.into_peer(accept))
    }

    pub fn into_peer(self, accept: Accept) -> RawPeer {
        RawPeer::as_sealed_client(self, accept)
    }
}
