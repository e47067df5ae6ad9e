//! The four messages and their proofs (protocol, section 1).
//!
//! Bytes in, bytes out. Each side collects one fixed-size message at a time in a fixed buffer and
//! allocates nothing for a peer that has proved nothing. A server's handshake and a client's are
//! two types: neither can be in a state of the other.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::HandshakeError;
use crate::id::ChannelSet;
use crate::key::Key;
use crate::proto::credit::Credit;
use crate::proto::seal;

pub(crate) mod client;
pub(crate) mod sealed_client;
pub(crate) mod server;
pub(crate) mod talk;

#[cfg(test)]
mod tests;

const MAGIC: [u8; 4] = [0xF4, b'T', b'L', b'N'];
const VERSION: u8 = 1;
/// Bit 0 of a hello's flags: the hello of a sealed connection (protocol, section 8).
const SEALED: u8 = 1;

pub(crate) const CLIENT_HELLO: usize = 48;
pub(crate) const SERVER_HELLO: usize = 72;
pub(crate) const CLIENT_PROOF: usize = 72;
pub(crate) const ACCEPT: usize = 104;
/// A hello of a sealed connection, and its answer.
pub(crate) const SEALED_HELLO: usize = 64;
/// What stands before the Noise message in each of them.
const SEALED_HELLO_HEAD: usize = 16;
const SEALED_REPLY_HEAD: usize = 8;
const _: () = assert!(SEALED_HELLO_HEAD + seal::MESSAGE_1 == SEALED_HELLO);
const _: () = assert!(SEALED_REPLY_HEAD + seal::MESSAGE_2 == SEALED_HELLO);
/// The first record of a client, and of a server.
const SEALED_PROOF: usize = PROOF_SIGNED + seal::OVERHEAD;
const SEALED_ACCEPT: usize = ACCEPT_SIGNED + seal::OVERHEAD;

/// What the proofs of ClientProof and Accept cover of the message itself.
const PROOF_SIGNED: usize = CLIENT_PROOF - 32;
const ACCEPT_SIGNED: usize = ACCEPT - 32;

/// The smallest window besides 0 (protocol, section 3).
const LEAST_WINDOW: u32 = 64;

/// The status byte of ServerHello and Accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    Ok,
    NoCommonVersion,
    NotAuthorised,
    TooBusy,
    SessionUnknown,
    SessionExpired,
    /// An offset out of range, a late attempt, or terms that are not the session's.
    BadTerms,
    SealedOnly,
    PlainOnly,
}

impl Status {
    const ALL: [Self; 9] = [
        Self::Ok,
        Self::NoCommonVersion,
        Self::NotAuthorised,
        Self::TooBusy,
        Self::SessionUnknown,
        Self::SessionExpired,
        Self::BadTerms,
        Self::SealedOnly,
        Self::PlainOnly,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// The status of a ServerHello; `None` for one that is not legal there.
    fn of_hello(byte: u8) -> Option<Self> {
        Self::from_byte(byte)
            .filter(|status| !matches!(status, Self::SessionUnknown | Self::SessionExpired | Self::BadTerms))
    }

    /// The status of an Accept; `None` for one that is not legal there.
    fn of_accept(byte: u8) -> Option<Self> {
        Self::from_byte(byte)
            .filter(|status| !matches!(status, Self::NoCommonVersion | Self::SealedOnly | Self::PlainOnly))
    }

    /// What a client that was told this is told by the library. A client knows its own version as well, see
    /// [`no_common_version`].
    pub(crate) fn error(self) -> Option<HandshakeError> {
        Some(match self {
            Self::Ok => return None,
            Self::NoCommonVersion => HandshakeError::NoCommonVersion { client: 0, server: VERSION },
            Self::NotAuthorised => HandshakeError::NotAuthorised,
            Self::TooBusy => HandshakeError::TooBusy,
            Self::SessionUnknown => HandshakeError::SessionUnknown,
            Self::SessionExpired => HandshakeError::SessionExpired,
            Self::BadTerms => HandshakeError::TermsChanged,
            Self::SealedOnly => HandshakeError::SealedOnly,
            Self::PlainOnly => HandshakeError::PlainOnly,
        })
    }
}

/// What a client is told that has no version in common with a server, whose answer names this one.
fn no_common_version(server: u8) -> HandshakeError {
    HandshakeError::NoCommonVersion { client: VERSION, server }
}

/// The name of a session, random; zeros name none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct SessionId(pub(crate) [u8; 16]);

impl SessionId {
    pub(crate) const NONE: Self = Self([0; 16]);

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// How long a side goes on without a socket, as it is on the wire: milliseconds, of which the
/// largest number means for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Grace(pub(crate) u32);

impl Grace {
    pub(crate) const NONE: Self = Self(0);
    const FOREVER: Self = Self(u32::MAX);

    pub(crate) fn new(time: Duration) -> Self {
        // A grace of less than a millisecond is a grace all the same.
        let ms = time.as_nanos().div_ceil(1_000_000);
        u32::try_from(ms).map_or(Self::FOREVER, Self)
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The time; `None` for ever.
    pub(crate) fn time(self) -> Option<Duration> {
        (self != Self::FOREVER).then(|| Duration::from_millis(self.0.into()))
    }
}

/// What one side grants for the whole of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) window: u32,
    pub(crate) max_message: u32,
    pub(crate) grace: Grace,
}

impl Terms {
    /// Returns `true` if the window is one that the protocol allows.
    fn is_legal(&self) -> bool {
        self.window == 0 || (LEAST_WINDOW..=Credit::MAX).contains(&self.window)
    }
}

/// What a client asks for in ClientProof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) session: SessionId,
    /// How much of the server's stream the client has received in that session.
    pub(crate) offset: u64,
    pub(crate) terms: Terms,
    pub(crate) attempt: u32,
}

/// What a server grants in Accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Granted {
    pub(crate) session: SessionId,
    /// How much of the client's stream the server has received in that session.
    pub(crate) offset: u64,
    pub(crate) terms: Terms,
    pub(crate) rights: Rights,
}

/// The kinds of connections that a server takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Takes {
    pub(crate) plain: bool,
    pub(crate) sealed: bool,
}

/// What the server lets the client do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rights {
    pub(crate) interrupt: bool,
    pub(crate) send: ChannelSet,
    pub(crate) receive: ChannelSet,
}

/// A message of a known size that is being collected.
#[derive(Debug)]
struct Collect<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Collect<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Takes from the front of `input` up to a message of `size` bytes; `true` once it is whole.
    fn fill_to(&mut self, input: &mut &[u8], size: usize) -> bool {
        let take = input.len().min(size.saturating_sub(self.len));
        let (front, rest) = input.split_at(take);
        self.bytes[self.len..self.len + take].copy_from_slice(front);
        self.len += take;
        *input = rest;
        self.len >= size
    }

    /// Takes what it needs from the front of `input`; the message once it is whole.
    fn fill(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        self.fill_to(input, N).then_some(self.bytes)
    }

    /// Returns `true` if what is there so far can be the beginning of a trunkline message.
    fn magic_fits(&self) -> bool {
        let len = self.len.min(MAGIC.len());
        self.bytes[..len] == MAGIC[..len]
    }
}

fn hmac(key: &Key, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

fn proof(key: &Key, parts: &[&[u8]]) -> [u8; 32] {
    hmac(key, parts).finalize().into_bytes().into()
}

fn proves(key: &Key, parts: &[&[u8]], tag: &[u8]) -> bool {
    // Compares in constant time.
    hmac(key, parts).verify_slice(tag).is_ok()
}

const SERVER: &[u8] = b"trunkline/1 server";
const CLIENT: &[u8] = b"trunkline/1 client";
const ACCEPTED: &[u8] = b"trunkline/1 accept";

/// ClientProof without its proof.
fn write_asked(asked: &Asked) -> [u8; PROOF_SIGNED] {
    let mut message = [0; PROOF_SIGNED];
    message[..16].copy_from_slice(&asked.session.0);
    message[16..24].copy_from_slice(&asked.offset.to_be_bytes());
    message[24..28].copy_from_slice(&asked.terms.window.to_be_bytes());
    message[28..32].copy_from_slice(&asked.terms.max_message.to_be_bytes());
    message[32..36].copy_from_slice(&asked.terms.grace.0.to_be_bytes());
    message[36..40].copy_from_slice(&asked.attempt.to_be_bytes());
    message
}

fn read_asked(message: &[u8]) -> Asked {
    Asked {
        session: SessionId(array(message)),
        offset: u64::from_be_bytes(array(&message[16..])),
        terms: Terms {
            window: read_u32(message, 24),
            max_message: read_u32(message, 28),
            grace: Grace(read_u32(message, 32)),
        },
        attempt: read_u32(message, 36),
    }
}

/// Accept without its HMAC. One that refuses is zero behind its status.
fn write_accept(granted: Result<&Granted, Status>) -> [u8; ACCEPT_SIGNED] {
    let mut message = [0; ACCEPT_SIGNED];
    match granted {
        Err(status) => message[0] = status as u8,
        Ok(granted) => {
            message[1] = u8::from(granted.rights.interrupt);
            message[4..20].copy_from_slice(&granted.session.0);
            message[20..28].copy_from_slice(&granted.offset.to_be_bytes());
            message[28..32].copy_from_slice(&granted.terms.window.to_be_bytes());
            message[32..36].copy_from_slice(&granted.terms.max_message.to_be_bytes());
            message[36..52].copy_from_slice(&granted.rights.send.bits().to_be_bytes());
            message[52..68].copy_from_slice(&granted.rights.receive.bits().to_be_bytes());
            message[68..72].copy_from_slice(&granted.terms.grace.0.to_be_bytes());
        }
    }
    message
}

/// Reads an Accept whose HMAC was verified.
fn read_accept(message: &[u8]) -> Result<Granted, HandshakeError> {
    let status = Status::of_accept(message[0]).ok_or(HandshakeError::Malformed)?;
    if let Some(error) = status.error() {
        return if message[1..ACCEPT_SIGNED].iter().all(|&byte| byte == 0) {
            Err(error)
        } else {
            Err(HandshakeError::Malformed)
        };
    }
    let granted = Granted {
        session: SessionId(array(&message[4..])),
        offset: u64::from_be_bytes(array(&message[20..])),
        terms: Terms {
            window: read_u32(message, 28),
            max_message: read_u32(message, 32),
            grace: Grace(read_u32(message, 68)),
        },
        rights: Rights {
            interrupt: message[1] & 1 == 1,
            send: ChannelSet::from_bits(u128::from_be_bytes(array(&message[36..]))),
            receive: ChannelSet::from_bits(u128::from_be_bytes(array(&message[52..]))),
        },
    };
    // Without a grace there is no session to name, and with one there is.
    let consistent = granted.session.is_none() == granted.terms.grace.is_none();
    if message[1] > 1 || message[2..4] != [0, 0] || !granted.terms.is_legal() || !consistent {
        return Err(HandshakeError::Malformed);
    }
    Ok(granted)
}

/// The first `N` bytes of a message whose size is known.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a handshake message has a fixed size")
}

fn read_u32(message: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(&message[at..]))
}
