//! Both halves of the Trunkline wire protocol, written from `protocol.md` alone.
//!
//! Blocking, std-only (but for the hash), and strict: what the library sends is
//! checked frame by frame against the specification, so every test that reads
//! with a [`RawPeer`] is a conformance test of what it reads. What a test *sends*
//! is not checked at all; that is the point.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// How long anything may take before a test calls it stuck.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const MAGIC: [u8; 4] = [0xF4, 0x54, 0x4C, 0x4E];
pub const VERSION: u8 = 1;
pub const CLIENT_HELLO: usize = 48;
pub const SERVER_HELLO: usize = 72;
pub const CLIENT_PROOF: usize = 64;
pub const ACCEPT: usize = 100;
/// The largest payload of a data frame.
pub const MAX_DATA: usize = 65_536;
/// The largest payload of a control frame.
pub const MAX_CONTROL: usize = 1_024;
/// What a data frame costs besides its payload.
pub const FRAME_COST: usize = 32;
/// The most credit a channel can hold.
pub const MAX_CREDIT: i64 = (1 << 31) - 1;

/// Values of the two status fields.
pub mod status {
    pub const OK: u8 = 0;
    pub const NO_COMMON_VERSION: u8 = 1;
    pub const NOT_AUTHORISED: u8 = 2;
    pub const TOO_BUSY: u8 = 3;
    pub const SESSION_UNKNOWN: u8 = 4;
}

/// Codes of CLOSE.
pub mod code {
    pub const NORMAL: u16 = 0;
    pub const PROTOCOL: u16 = 1;
    pub const FLOW_CONTROL: u16 = 2;
    pub const TOO_LARGE: u16 = 3;
    pub const NOT_PERMITTED: u16 = 4;
    pub const HEARTBEAT: u16 = 5;
    pub const SHUTTING_DOWN: u16 = 6;
}

/// Opcodes of control frames.
pub mod opcode {
    pub const CREDIT: u8 = 0x01;
    pub const FINISH: u8 = 0x02;
    pub const RESET: u8 = 0x03;
    pub const STOP: u8 = 0x04;
    pub const PING: u8 = 0x05;
    pub const PONG: u8 = 0x06;
    pub const ACK: u8 = 0x07;
    pub const WAITING: u8 = 0x08;
    pub const INTERRUPT: u8 = 0x09;
    pub const CLOSE: u8 = 0x0A;
    pub const GAP: u8 = 0x0B;
    pub const FIRST_UNKNOWN: u8 = 0x0C;
    pub const FIRST_EXTENSION: u8 = 0x80;
}

// ---------------------------------------------------------------------------
// Keys and proofs

pub type RawKey = [u8; 32];

/// The first 8 bytes of SHA-256("trunkline key id" ‖ key).
pub fn key_id(key: &RawKey) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update(b"trunkline key id");
    hash.update(key);
    let digest = hash.finalize();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    id
}

/// HMAC-SHA256(key, parts joined).
pub fn mac(key: &RawKey, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key length");
    for part in parts {
        mac.update(part);
    }
    let mut tag = [0; 32];
    tag.copy_from_slice(&mac.finalize().into_bytes());
    tag
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller sliced the right size")
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes(array(bytes))
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(array(bytes))
}

fn be64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(array(bytes))
}

fn be128(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(array(bytes))
}

// ---------------------------------------------------------------------------
// The four messages

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
    pub proof: [u8; 32],
}

impl ClientProof {
    pub fn encode(&self) -> [u8; CLIENT_PROOF] {
        let mut out = [0; CLIENT_PROOF];
        out[0..16].copy_from_slice(&self.session);
        out[16..24].copy_from_slice(&self.offset.to_be_bytes());
        out[24..28].copy_from_slice(&self.window.to_be_bytes());
        out[28..32].copy_from_slice(&self.max_message.to_be_bytes());
        out[32..64].copy_from_slice(&self.proof);
        out
    }

    pub fn decode(bytes: &[u8; CLIENT_PROOF]) -> Self {
        Self {
            session: array(&bytes[0..16]),
            offset: be64(&bytes[16..24]),
            window: be32(&bytes[24..28]),
            max_message: be32(&bytes[28..32]),
            proof: array(&bytes[32..64]),
        }
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
    pub mac: [u8; 32],
}

impl Accept {
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
        out[68..100].copy_from_slice(&self.mac);
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
            mac: array(&bytes[68..100]),
        }
    }

    pub fn may_interrupt(&self) -> bool {
        self.rights & 1 == 1
    }
}

// ---------------------------------------------------------------------------
// Errors

/// Why a read gave no frame, or a handshake no peer.
#[derive(Debug)]
pub enum WireError {
    /// Nothing (or too little) came in time.
    Timeout,
    /// The stream ended; `partial` bytes of something unfinished had come before.
    End {
        partial: usize,
    },
    /// The stream was reset (also: broken pipe).
    Reset,
    /// The other side broke the protocol.
    Violation(String),
    /// The server said no; the ServerHello says why.
    RefusedByHello(Box<ServerHello>),
    /// The server said no; the Accept, whose MAC was right, says why.
    RefusedByAccept(Box<Accept>),
    Io(io::Error),
}

impl WireError {
    /// The stream is over, in whichever way TCP said so.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::End { .. } | Self::Reset)
    }

    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for WireError {}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as K;
        match error.kind() {
            K::WouldBlock | K::TimedOut => Self::Timeout,
            K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => Self::Reset,
            K::UnexpectedEof => Self::End { partial: 0 },
            _ => Self::Io(error),
        }
    }
}

fn violation<T>(what: impl Into<String>) -> Result<T, WireError> {
    Err(WireError::Violation(what.into()))
}

// ---------------------------------------------------------------------------
// Reading with a deadline

/// Fills `out` or says why not. A deadline is absolute: trickling does not extend it.
pub fn read_exact_by(stream: &mut TcpStream, out: &mut [u8], deadline: Instant) -> Result<(), WireError> {
    let mut have = 0;
    while have < out.len() {
        match read_some_by(stream, &mut out[have..], deadline)? {
            0 => return Err(WireError::End { partial: have }),
            n => have += n,
        }
    }
    Ok(())
}

fn read_some_by(stream: &mut TcpStream, out: &mut [u8], deadline: Instant) -> Result<usize, WireError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WireError::Timeout);
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(out) {
            Ok(n) => return Ok(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads until the stream ends; gives back what came. `Err(Timeout)` if it does not end.
pub fn read_to_end_by(stream: &mut TcpStream, deadline: Instant) -> Result<Vec<u8>, WireError> {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match read_some_by(stream, &mut chunk, deadline) {
            Ok(0) | Err(WireError::Reset) => return Ok(all),
            Ok(n) => all.extend_from_slice(&chunk[..n]),
            Err(error) => return Err(error),
        }
    }
}

/// A connected socket with the settings every raw peer uses.
pub fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("the server listens");
    prepare(&stream);
    stream
}

fn prepare(stream: &TcpStream) {
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout can be set");
}

// ---------------------------------------------------------------------------
// Client half of the handshake

/// One client handshake, step by step or at once with [`finish`](Self::finish).
///
/// The fields `hello` and `proof` may be changed before they are sent; proofs are made over what
/// is sent. The `flip_*` fields change a byte on the wire only, as somebody in between would.
pub struct ClientHandshake {
    pub stream: TcpStream,
    pub key: RawKey,
    pub deadline: Instant,
    pub hello: ClientHello,
    pub proof: ClientProof,
    /// XORed into the wire bytes of ClientHello: (offset, mask).
    pub flip_hello: Option<(usize, u8)>,
    /// XORed into the wire bytes of ClientProof: (offset, mask).
    pub flip_proof: Option<(usize, u8)>,
    /// Go on although the server's proof is wrong.
    pub ignore_server_proof: bool,
    pub hello_bytes: [u8; CLIENT_HELLO],
    pub server_hello_bytes: [u8; SERVER_HELLO],
    pub proof_bytes: [u8; CLIENT_PROOF],
    pub accept_bytes: [u8; ACCEPT],
}

impl ClientHandshake {
    pub fn new(addr: SocketAddr, key: &RawKey) -> Self {
        Self::over(dial(addr), key)
    }

    pub fn over(stream: TcpStream, key: &RawKey) -> Self {
        Self {
            stream,
            key: *key,
            deadline: Instant::now() + PATIENCE,
            hello: ClientHello::new(key),
            proof: ClientProof {
                session: [0; 16],
                offset: 0,
                window: 1 << 20,
                max_message: 1 << 24,
                proof: [0; 32],
            },
            flip_hello: None,
            flip_proof: None,
            ignore_server_proof: false,
            hello_bytes: [0; CLIENT_HELLO],
            server_hello_bytes: [0; SERVER_HELLO],
            proof_bytes: [0; CLIENT_PROOF],
            accept_bytes: [0; ACCEPT],
        }
    }

    pub fn window(mut self, window: u32) -> Self {
        self.proof.window = window;
        self
    }

    pub fn max_message(mut self, bytes: u32) -> Self {
        self.proof.max_message = bytes;
        self
    }

    /// The wire bytes of ClientHello, to send in any way the test likes.
    pub fn make_hello(&mut self) -> [u8; CLIENT_HELLO] {
        self.hello_bytes = self.hello.encode();
        flipped(self.hello_bytes, self.flip_hello)
    }

    pub fn send_hello(&mut self) -> Result<(), WireError> {
        let bytes = self.make_hello();
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Reads ServerHello and checks all of it; a status but 0 is `RefusedByHello`.
    pub fn read_server_hello(&mut self) -> Result<ServerHello, WireError> {
        read_exact_by(&mut self.stream, &mut self.server_hello_bytes, self.deadline)?;
        let hello = ServerHello::decode(&self.server_hello_bytes);
        if hello.magic != MAGIC {
            return violation(format!("ServerHello magic {:02x?}", hello.magic));
        }
        if hello.flags != 0 {
            return violation(format!("ServerHello flags {:#x}", hello.flags));
        }
        if hello.status != status::OK {
            if hello.status > status::TOO_BUSY {
                return violation(format!("ServerHello status {}", hello.status));
            }
            if hello.proof != [0; 32] {
                return violation("ServerHello refuses but carries a proof");
            }
            return Err(WireError::RefusedByHello(Box::new(hello)));
        }
        if !(self.hello.low..=self.hello.high).contains(&hello.version) {
            return violation(format!("ServerHello chose version {}", hello.version));
        }
        let expected =
            mac(&self.key, &[b"trunkline/1 server", &self.hello_bytes, &self.server_hello_bytes[..40]]);
        if hello.proof != expected && !self.ignore_server_proof {
            return violation("the server's proof is wrong");
        }
        Ok(hello)
    }

    /// The wire bytes of ClientProof; needs the ServerHello.
    pub fn make_proof(&mut self) -> [u8; CLIENT_PROOF] {
        let head = self.proof.encode();
        self.proof.proof = mac(
            &self.key,
            &[b"trunkline/1 client", &self.hello_bytes, &self.server_hello_bytes, &head[..32]],
        );
        self.proof_bytes = self.proof.encode();
        flipped(self.proof_bytes, self.flip_proof)
    }

    pub fn send_proof(&mut self) -> Result<(), WireError> {
        let bytes = self.make_proof();
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Reads Accept, checks its MAC whatever the status, and then the rest of it.
    ///
    /// With `flip_proof` the server's MAC covers other bytes than ours, so it is checked over
    /// those that were really on the wire.
    pub fn read_accept(&mut self) -> Result<Accept, WireError> {
        read_exact_by(&mut self.stream, &mut self.accept_bytes, self.deadline)?;
        let accept = Accept::decode(&self.accept_bytes);
        let expected = mac(
            &self.key,
            &[
                b"trunkline/1 accept",
                &flipped(self.hello_bytes, self.flip_hello),
                &self.server_hello_bytes,
                &flipped(self.proof_bytes, self.flip_proof),
                &self.accept_bytes[..68],
            ],
        );
        if accept.mac != expected {
            return violation("the MAC of Accept is wrong");
        }
        if accept.zero != 0 {
            return violation(format!("Accept[2..4] is {:#x}", accept.zero));
        }
        if accept.rights & !1 != 0 {
            return violation(format!("Accept rights {:#x}", accept.rights));
        }
        match accept.status {
            0 => Ok(accept),
            2..=6 => Err(WireError::RefusedByAccept(Box::new(accept))),
            other => violation(format!("Accept status {other}")),
        }
    }

    /// All four messages.
    pub fn finish(mut self) -> Result<RawPeer, WireError> {
        self.send_hello()?;
        self.read_server_hello()?;
        self.send_proof()?;
        let accept = self.read_accept()?;
        Ok(self.into_peer(accept))
    }

    pub fn into_peer(self, accept: Accept) -> RawPeer {
        RawPeer::new(self.stream, Role::Client, self.proof.window, self.proof.max_message, accept)
    }
}

fn flipped<const N: usize>(mut bytes: [u8; N], flip: Option<(usize, u8)>) -> [u8; N] {
    if let Some((at, mask)) = flip {
        bytes[at] ^= mask;
    }
    bytes
}

// ---------------------------------------------------------------------------
// Server half of the handshake

/// One server handshake. As with the client half: change `hello` and `accept` before they are
/// sent, or flip a byte on the wire.
pub struct ServerHandshake {
    pub stream: TcpStream,
    pub key: RawKey,
    pub deadline: Instant,
    pub hello: ServerHello,
    pub accept: Accept,
    pub flip_hello: Option<(usize, u8)>,
    pub flip_accept: Option<(usize, u8)>,
    pub client_hello_bytes: [u8; CLIENT_HELLO],
    pub hello_bytes: [u8; SERVER_HELLO],
    pub client_proof_bytes: [u8; CLIENT_PROOF],
}

impl ServerHandshake {
    /// Accepts one socket.
    pub fn accept(listener: &TcpListener, key: &RawKey) -> Self {
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "nobody connected");
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("accept: {error}"),
            }
        };
        stream.set_nonblocking(false).expect("a socket can be blocking");
        Self::over(stream, key)
    }

    pub fn over(stream: TcpStream, key: &RawKey) -> Self {
        prepare(&stream);
        Self {
            stream,
            key: *key,
            deadline: Instant::now() + PATIENCE,
            hello: ServerHello {
                magic: MAGIC,
                version: VERSION,
                status: status::OK,
                flags: 0,
                nonce: random(),
                proof: [0; 32],
            },
            accept: Accept {
                status: status::OK,
                rights: 1,
                zero: 0,
                session: random(),
                offset: 0,
                window: 1 << 20,
                max_message: 1 << 24,
                may_send: u128::MAX,
                may_receive: u128::MAX,
                mac: [0; 32],
            },
            flip_hello: None,
            flip_accept: None,
            client_hello_bytes: [0; CLIENT_HELLO],
            hello_bytes: [0; SERVER_HELLO],
            client_proof_bytes: [0; CLIENT_PROOF],
        }
    }

    pub fn read_hello(&mut self) -> Result<ClientHello, WireError> {
        read_exact_by(&mut self.stream, &mut self.client_hello_bytes, self.deadline)?;
        let hello = ClientHello::decode(&self.client_hello_bytes);
        if hello.magic != MAGIC {
            return violation(format!("ClientHello magic {:02x?}", hello.magic));
        }
        if hello.flags != 0 {
            return violation(format!("ClientHello flags {:#x}", hello.flags));
        }
        if !(hello.low..=hello.high).contains(&VERSION) {
            return violation(format!("ClientHello {}..={}", hello.low, hello.high));
        }
        if hello.key_id != key_id(&self.key) {
            return violation("ClientHello names another key");
        }
        Ok(hello)
    }

    pub fn send_hello(&mut self) -> Result<(), WireError> {
        let head = self.hello.encode();
        self.hello.proof = if self.hello.status == status::OK {
            mac(&self.key, &[b"trunkline/1 server", &self.client_hello_bytes, &head[..40]])
        } else {
            [0; 32]
        };
        self.hello_bytes = self.hello.encode();
        let bytes = flipped(self.hello_bytes, self.flip_hello);
        Ok(self.stream.write_all(&bytes)?)
    }

    pub fn read_proof(&mut self) -> Result<ClientProof, WireError> {
        read_exact_by(&mut self.stream, &mut self.client_proof_bytes, self.deadline)?;
        let proof = ClientProof::decode(&self.client_proof_bytes);
        let expected = mac(
            &self.key,
            &[
                b"trunkline/1 client",
                &self.client_hello_bytes,
                &self.hello_bytes,
                &self.client_proof_bytes[..32],
            ],
        );
        if proof.proof != expected {
            return violation("the client's proof is wrong");
        }
        if proof.session == [0; 16] && proof.offset != 0 {
            return violation("a new session with a receive offset");
        }
        Ok(proof)
    }

    pub fn send_accept(&mut self) -> Result<(), WireError> {
        let head = self.accept.encode();
        self.accept.mac = mac(
            &self.key,
            &[
                b"trunkline/1 accept",
                &self.client_hello_bytes,
                &self.hello_bytes,
                &self.client_proof_bytes,
                &head[..68],
            ],
        );
        let bytes = flipped(self.accept.encode(), self.flip_accept);
        Ok(self.stream.write_all(&bytes)?)
    }

    /// All four messages.
    pub fn finish(mut self) -> Result<RawPeer, WireError> {
        self.read_hello()?;
        self.send_hello()?;
        let proof = self.read_proof()?;
        self.send_accept()?;
        Ok(self.into_peer(&proof))
    }

    pub fn into_peer(self, proof: &ClientProof) -> RawPeer {
        // Seen from this side the roles of the two windows are exchanged.
        let (window, max_message) = (self.accept.window, self.accept.max_message);
        let seen = Accept {
            window: proof.window,
            max_message: proof.max_message,
            may_send: self.accept.may_receive,
            may_receive: self.accept.may_send,
            ..self.accept
        };
        RawPeer::new(self.stream, Role::Server, window, max_message, seen)
    }
}

// ---------------------------------------------------------------------------
// Frames

/// The 4-byte word before every payload. Takes nonsense as well: only the bits are masked.
pub fn word(control: bool, channel: u8, more: bool, len: u32) -> [u8; 4] {
    let bits = (u32::from(control) << 31)
        | (u32::from(channel & 0x7F) << 24)
        | (u32::from(more) << 23)
        | (len & 0x7F_FFFF);
    bits.to_be_bytes()
}

/// A data frame, of any size.
pub fn data(channel: u8, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = word(false, channel, more, payload.len() as u32).to_vec();
    out.extend_from_slice(payload);
    out
}

/// A control frame, with any opcode and body.
pub fn control(channel: u8, opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut out = word(true, channel, false, 1 + body.len() as u32).to_vec();
    out.push(opcode);
    out.extend_from_slice(body);
    out
}

pub fn credit(channel: u8, amount: u32) -> Vec<u8> {
    control(channel, opcode::CREDIT, &amount.to_be_bytes())
}

pub fn finish(channel: u8) -> Vec<u8> {
    control(channel, opcode::FINISH, &[])
}

pub fn reset(channel: u8, code: u32) -> Vec<u8> {
    control(channel, opcode::RESET, &code.to_be_bytes())
}

pub fn stop(channel: u8, code: u32) -> Vec<u8> {
    control(channel, opcode::STOP, &code.to_be_bytes())
}

pub fn ping(number: u64) -> Vec<u8> {
    control(0, opcode::PING, &number.to_be_bytes())
}

pub fn pong(number: u64) -> Vec<u8> {
    control(0, opcode::PONG, &number.to_be_bytes())
}

pub fn ack(offset: u64) -> Vec<u8> {
    control(0, opcode::ACK, &offset.to_be_bytes())
}

pub fn waiting(channel: u8, value: u8) -> Vec<u8> {
    control(channel, opcode::WAITING, &[value])
}

pub fn interrupt() -> Vec<u8> {
    control(0, opcode::INTERRUPT, &[])
}

pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    body.extend_from_slice(reason);
    control(0, opcode::CLOSE, &body)
}

pub fn gap(channel: u8, messages: u64, bytes: u64) -> Vec<u8> {
    let mut body = messages.to_be_bytes().to_vec();
    body.extend_from_slice(&bytes.to_be_bytes());
    control(channel, opcode::GAP, &body)
}

/// A frame that obeys section 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Data { channel: u8, more: bool, payload: Vec<u8> },
    Credit { channel: u8, amount: u32 },
    Finish { channel: u8 },
    Reset { channel: u8, code: u32 },
    Stop { channel: u8, code: u32 },
    Ping(u64),
    Pong(u64),
    Ack(u64),
    Waiting { channel: u8, waiting: bool },
    Interrupt,
    Close { code: u16, reason: String },
    Gap { channel: u8, messages: u64, bytes: u64 },
    Extension { channel: u8, opcode: u8, body: Vec<u8> },
}

impl Frame {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Data { channel, more, payload } => data(*channel, *more, payload),
            Self::Credit { channel, amount } => credit(*channel, *amount),
            Self::Finish { channel } => finish(*channel),
            Self::Reset { channel, code } => reset(*channel, *code),
            Self::Stop { channel, code } => stop(*channel, *code),
            Self::Ping(number) => ping(*number),
            Self::Pong(number) => pong(*number),
            Self::Ack(offset) => ack(*offset),
            Self::Waiting { channel, waiting: w } => waiting(*channel, u8::from(*w)),
            Self::Interrupt => interrupt(),
            Self::Close { code, reason } => close(*code, reason.as_bytes()),
            Self::Gap { channel, messages, bytes } => gap(*channel, *messages, *bytes),
            Self::Extension { channel, opcode, body } => control(*channel, *opcode, body),
        }
    }

    /// The payload length that `word` announces, if it may.
    pub fn check_word(word: [u8; 4]) -> Result<usize, WireError> {
        let bits = u32::from_be_bytes(word);
        let len = (bits & 0x7F_FFFF) as usize;
        if bits >> 31 == 0 {
            if len > MAX_DATA {
                return violation(format!("a data frame of {len} bytes"));
            }
        } else {
            if bits & (1 << 23) != 0 {
                return violation("a control frame with M set");
            }
            if len == 0 || len > MAX_CONTROL {
                return violation(format!("a control frame of {len} bytes"));
            }
        }
        Ok(len)
    }

    pub fn decode(word: [u8; 4], payload: &[u8]) -> Result<Self, WireError> {
        let len = Self::check_word(word)?;
        assert_eq!(len, payload.len());
        let channel = word[0] & 0x7F;
        if word[0] >> 7 == 0 {
            return Ok(Self::Data { channel, more: word[1] >> 7 == 1, payload: payload.to_vec() });
        }
        let (opcode, body) = (payload[0], &payload[1..]);
        let size = |size: usize| {
            if body.len() == size {
                Ok(())
            } else {
                violation(format!("opcode {opcode:#04x} with a body of {}", body.len()))
            }
        };
        let no_channel = || {
            if channel == 0 {
                Ok(())
            } else {
                violation(format!("opcode {opcode:#04x} on channel {channel}"))
            }
        };
        Ok(match opcode {
            opcode::CREDIT => {
                size(4)?;
                Self::Credit { channel, amount: be32(body) }
            }
            opcode::FINISH => {
                size(0)?;
                Self::Finish { channel }
            }
            opcode::RESET => {
                size(4)?;
                Self::Reset { channel, code: be32(body) }
            }
            opcode::STOP => {
                size(4)?;
                Self::Stop { channel, code: be32(body) }
            }
            opcode::PING => {
                size(8)?;
                no_channel()?;
                Self::Ping(be64(body))
            }
            opcode::PONG => {
                size(8)?;
                no_channel()?;
                Self::Pong(be64(body))
            }
            opcode::ACK => {
                size(8)?;
                no_channel()?;
                Self::Ack(be64(body))
            }
            opcode::WAITING => {
                size(1)?;
                match body[0] {
                    0 | 1 => Self::Waiting { channel, waiting: body[0] == 1 },
                    other => return violation(format!("WAITING {other}")),
                }
            }
            opcode::INTERRUPT => {
                size(0)?;
                no_channel()?;
                Self::Interrupt
            }
            opcode::CLOSE => {
                no_channel()?;
                if !(2..=257).contains(&body.len()) {
                    return size(2).map(|()| unreachable!());
                }
                match std::str::from_utf8(&body[2..]) {
                    Ok(reason) => Self::Close { code: be16(&body[..2]), reason: reason.to_owned() },
                    Err(_) => return violation("CLOSE with a reason that is not UTF-8"),
                }
            }
            opcode::GAP => {
                size(16)?;
                Self::Gap { channel, messages: be64(&body[..8]), bytes: be64(&body[8..]) }
            }
            opcode::FIRST_EXTENSION.. => Self::Extension { channel, opcode, body: body.to_vec() },
            _ => return violation(format!("opcode {opcode:#04x}")),
        })
    }
}

// ---------------------------------------------------------------------------
// After the handshake

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// What the frames amount to, fragments put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Message(u8, Vec<u8>),
    Finish(u8),
    Reset(u8, u32),
    Stop(u8, u32),
    Gap(u8, u64, u64),
    Credit(u8, u32),
    Waiting(u8, bool),
    Interrupt,
    Ping(u64),
    Pong(u64),
    Ack(u64),
    Close(u16, String),
    Extension(u8),
}

/// One end of a conversation, after the handshake.
///
/// Reading keeps the books: a peer that sends more than it was granted, on a channel it may not
/// use, a message larger than we said, an ACK of what was never sent, or anything after its
/// CLOSE, is a [`WireError::Violation`].
pub struct RawPeer {
    pub stream: TcpStream,
    pub role: Role,
    /// What the other side told us, seen from here: its window, its largest message, the channels
    /// *we* may send on (`may_send`) and those it may send on (`may_receive`).
    pub accept: Accept,
    pub window: u32,
    pub max_message: u32,
    /// Answer each PING that is read. On at first.
    pub auto_pong: bool,
    /// Acknowledge what is read, every 64 KiB. On at first.
    pub auto_ack: bool,
    /// How much was acknowledged.
    told: u64,
    /// Grant back the cost of each data frame that is read. Off at first.
    pub auto_credit: bool,
    /// What the peer may still send to us, per channel.
    pub receive_credit: Vec<i64>,
    /// What we may still send, per channel.
    pub send_credit: Vec<i64>,
    /// Bytes of the frame stream, each way.
    pub sent: u64,
    pub received: u64,
    /// The last ACK that came.
    pub acked: Option<u64>,
    /// How many data frames came.
    pub data_frames: u64,
    pub closed: Option<(u16, String)>,
    partial: Vec<Option<Vec<u8>>>,
    uncredited: Vec<u32>,
    stash: VecDeque<Event>,
    buffer: Vec<u8>,
    start: usize,
}

impl RawPeer {
    fn new(stream: TcpStream, role: Role, window: u32, max_message: u32, accept: Accept) -> Self {
        Self {
            stream,
            role,
            window,
            max_message,
            auto_pong: true,
            auto_ack: true,
            told: 0,
            auto_credit: false,
            receive_credit: vec![i64::from(window); 128],
            send_credit: vec![i64::from(accept.window); 128],
            sent: 0,
            received: 0,
            acked: None,
            data_frames: 0,
            closed: None,
            partial: vec![None; 128],
            uncredited: vec![0; 128],
            stash: VecDeque::new(),
            buffer: Vec::new(),
            start: 0,
            accept,
        }
    }

    /// A handshake with nothing unusual about it.
    pub fn connect(addr: SocketAddr, key: &RawKey) -> Self {
        ClientHandshake::new(addr, key).finish().expect("the handshake succeeds")
    }

    // -- sending ------------------------------------------------------------

    /// Any bytes; the books only count them.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.stream.write_all(bytes)?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    /// Any bytes; that the peer has closed already is no error.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) {
        match self.send_bytes(bytes) {
            Ok(()) | Err(WireError::Reset) => {}
            Err(error) => panic!("writing: {error}"),
        }
    }

    /// One data frame, credit or not; the books are debited.
    pub fn send_data(&mut self, channel: u8, more: bool, payload: &[u8]) {
        self.send_credit[usize::from(channel & 0x7F)] -= (payload.len() + FRAME_COST) as i64;
        self.try_send_bytes(&data(channel, more, payload));
    }

    /// One control frame; a CREDIT is entered in the books.
    pub fn send_control(&mut self, channel: u8, opcode: u8, body: &[u8]) {
        if opcode == opcode::CREDIT && body.len() == 4 {
            self.receive_credit[usize::from(channel & 0x7F)] += i64::from(be32(body));
        }
        self.try_send_bytes(&control(channel, opcode, body));
    }

    pub fn grant(&mut self, channel: u8, amount: u32) {
        self.send_control(channel, opcode::CREDIT, &amount.to_be_bytes());
    }

    pub fn send_frame(&mut self, frame: &Frame) {
        match frame {
            Frame::Data { channel, more, payload } => self.send_data(*channel, *more, payload),
            Frame::Credit { channel, amount } => self.grant(*channel, *amount),
            other => self.try_send_bytes(&other.encode()),
        }
    }

    /// A whole message within the credit, waiting for more when it is used up.
    pub fn send_message(&mut self, channel: u8, payload: &[u8]) -> Result<(), WireError> {
        let at = usize::from(channel);
        let deadline = Instant::now() + PATIENCE;
        let mut rest = payload;
        loop {
            let fits = (self.send_credit[at] - FRAME_COST as i64).min(MAX_DATA as i64);
            if fits < 0 || (fits == 0 && !rest.is_empty()) {
                let event = self.event_from_wire(deadline)?;
                self.stash_unless_credit(event);
                continue;
            }
            let (piece, after) = rest.split_at(rest.len().min(fits as usize));
            self.send_data(channel, !after.is_empty(), piece);
            rest = after;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn stash_unless_credit(&mut self, event: Event) {
        if !matches!(event, Event::Credit(..)) {
            self.stash.push_back(event);
        }
    }

    // -- receiving ----------------------------------------------------------

    /// The next frame, checked and entered in the books.
    pub fn read_frame(&mut self, timeout: Duration) -> Result<Frame, WireError> {
        self.read_frame_by(Instant::now() + timeout)
    }

    pub fn read_frame_by(&mut self, deadline: Instant) -> Result<Frame, WireError> {
        let word: [u8; 4] = loop {
            if let Some(word) = self.buffer.get(self.start..self.start + 4) {
                break array(word);
            }
            self.fill(deadline)?;
        };
        if self.closed.is_some() {
            return violation("a frame after CLOSE");
        }
        let len = Frame::check_word(word)?;
        while self.buffer.len() - self.start < 4 + len {
            self.fill(deadline)?;
        }
        let payload = &self.buffer[self.start + 4..self.start + 4 + len];
        let frame = Frame::decode(word, payload)?;
        self.start += 4 + len;
        self.received += 4 + len as u64;
        if self.auto_ack && self.received - self.told >= 64 * 1024 {
            self.told = self.received;
            self.try_send_bytes(&ack(self.received));
        }
        self.note(&frame)?;
        Ok(frame)
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), WireError> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let have = self.buffer.len();
        self.buffer.resize(have + 65_536, 0);
        let got = read_some_by(&mut self.stream, &mut self.buffer[have..], deadline);
        self.buffer.truncate(have + *got.as_ref().unwrap_or(&0));
        match got? {
            0 => Err(WireError::End { partial: have }),
            _ => Ok(()),
        }
    }

    fn note(&mut self, frame: &Frame) -> Result<(), WireError> {
        match frame {
            Frame::Data { channel, payload, .. } => {
                let at = usize::from(*channel);
                self.data_frames += 1;
                if self.accept.may_receive >> at & 1 == 0 {
                    return violation(format!("data on channel {channel}, not permitted"));
                }
                self.receive_credit[at] -= (payload.len() + FRAME_COST) as i64;
                if self.receive_credit[at] < 0 {
                    return violation(format!(
                        "channel {channel}: {} more than the credit",
                        -self.receive_credit[at]
                    ));
                }
                let whole = self.partial[at].as_ref().map_or(0, Vec::len) + payload.len();
                if whole > self.max_message as usize {
                    return violation(format!("channel {channel}: a message of {whole} bytes"));
                }
            }
            Frame::Credit { channel, amount } => {
                let at = usize::from(*channel);
                self.send_credit[at] += i64::from(*amount);
                if self.send_credit[at] > MAX_CREDIT {
                    return violation(format!("channel {channel}: credit overflows"));
                }
            }
            Frame::Finish { channel } if self.partial[usize::from(*channel)].is_some() => {
                return violation(format!("channel {channel}: FINISH inside a message"));
            }
            Frame::Ack(offset) => {
                if *offset > self.sent || self.acked.is_some_and(|before| *offset < before) {
                    return violation(format!("ACK {offset} after {:?}, sent {}", self.acked, self.sent));
                }
                self.acked = Some(*offset);
            }
            Frame::Close { code, reason } => self.closed = Some((*code, reason.clone())),
            Frame::Extension { opcode, .. } => {
                return violation(format!("version 1 sent extension {opcode:#04x}"));
            }
            _ => {}
        }
        Ok(())
    }

    /// The next thing that happened, from before (if a call had to read past it) or the wire.
    pub fn event(&mut self, timeout: Duration) -> Result<Event, WireError> {
        match self.stash.pop_front() {
            Some(event) => Ok(event),
            None => self.event_from_wire(Instant::now() + timeout),
        }
    }

    fn event_from_wire(&mut self, deadline: Instant) -> Result<Event, WireError> {
        loop {
            let frame = self.read_frame_by(deadline)?;
            return Ok(match frame {
                Frame::Data { channel, more, payload } => {
                    let at = usize::from(channel);
                    if self.auto_credit {
                        self.uncredited[at] += (payload.len() + FRAME_COST) as u32;
                        if self.uncredited[at] >= self.window.div_ceil(2) || more {
                            let amount = std::mem::take(&mut self.uncredited[at]);
                            self.grant(channel, amount);
                        }
                    }
                    let mut whole = self.partial[at].take().unwrap_or_default();
                    whole.extend_from_slice(&payload);
                    if more {
                        self.partial[at] = Some(whole);
                        continue;
                    }
                    Event::Message(channel, whole)
                }
                Frame::Credit { channel, amount } => Event::Credit(channel, amount),
                Frame::Finish { channel } => Event::Finish(channel),
                Frame::Reset { channel, code } => {
                    self.partial[usize::from(channel)] = None;
                    Event::Reset(channel, code)
                }
                Frame::Stop { channel, code } => Event::Stop(channel, code),
                Frame::Ping(number) => {
                    if self.auto_pong {
                        self.try_send_bytes(&pong(number));
                    }
                    Event::Ping(number)
                }
                Frame::Pong(number) => Event::Pong(number),
                Frame::Ack(offset) => Event::Ack(offset),
                Frame::Waiting { channel, waiting } => Event::Waiting(channel, waiting),
                Frame::Interrupt => Event::Interrupt,
                Frame::Close { code, reason } => Event::Close(code, reason),
                Frame::Gap { channel, messages, bytes } => Event::Gap(channel, messages, bytes),
                Frame::Extension { opcode, .. } => Event::Extension(opcode),
            });
        }
    }

    /// The first event that `wanted` likes; the others wait for later calls in their order.
    pub fn wait_for(
        &mut self,
        timeout: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Result<Event, WireError> {
        if let Some(at) = self.stash.iter().position(&mut wanted) {
            return Ok(self.stash.remove(at).expect("position found it"));
        }
        let deadline = Instant::now() + timeout;
        loop {
            let event = self.event_from_wire(deadline)?;
            if wanted(&event) {
                return Ok(event);
            }
            self.stash.push_back(event);
        }
    }

    /// The next message on `channel`; panics if the run ends or the peer closes instead.
    #[track_caller]
    pub fn expect_message(&mut self, channel: u8) -> Vec<u8> {
        let event = self.wait_for(PATIENCE, |event| match event {
            Event::Message(c, _) | Event::Finish(c) | Event::Reset(c, _) => *c == channel,
            Event::Close(..) => true,
            _ => false,
        });
        match event {
            Ok(Event::Message(_, payload)) => payload,
            other => panic!("wanted a message on channel {channel}, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn expect_pong(&mut self, number: u64) {
        let event = self.wait_for(PATIENCE, |event| matches!(event, Event::Pong(_) | Event::Close(..)));
        match event {
            Ok(Event::Pong(n)) if n == number => {}
            other => panic!("wanted PONG {number}, got {other:?}"),
        }
    }

    /// PING and its PONG: everything sent before has been looked at, and the peer has not closed.
    #[track_caller]
    pub fn expect_alive(&mut self) {
        let number = u64::from_be_bytes(random());
        self.try_send_bytes(&ping(number));
        self.expect_pong(number);
    }

    /// CLOSE with this code, and then the end of the stream. Gives the reason.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> String {
        self.expect_close_in(&[code]).1
    }

    #[track_caller]
    pub fn expect_close_in(&mut self, codes: &[u16]) -> (u16, String) {
        match self.read_close() {
            Ok((code, reason)) if codes.contains(&code) => (code, reason),
            other => panic!("wanted CLOSE with one of {codes:?} and the end, got {other:?}"),
        }
    }

    /// Reads to CLOSE and then to the end of the stream.
    pub fn read_close(&mut self) -> Result<(u16, String), WireError> {
        let event = self.wait_for(PATIENCE, |event| matches!(event, Event::Close(..)))?;
        let Event::Close(code, reason) = event else {
            unreachable!("wait_for gives what was wanted");
        };
        match self.read_frame(PATIENCE) {
            Err(error) if error.is_end() => Ok((code, reason)),
            Err(error) => Err(error),
            Ok(frame) => violation(format!("{frame:?} after CLOSE")),
        }
    }

    /// The end of the stream, with or without CLOSE and whatever comes before.
    #[track_caller]
    pub fn expect_end(&mut self) {
        loop {
            match self.read_frame(PATIENCE) {
                Ok(_) => {}
                Err(error) if error.is_end() => return,
                Err(error) => panic!("wanted the end of the stream, got {error}"),
            }
        }
    }

    /// Nothing on `channel` (messages, fragments, ends) for as long as a PING takes and then
    /// `quiet` longer.
    #[track_caller]
    pub fn expect_silence(&mut self, channel: u8, quiet: Duration) {
        let frames = self.data_frames;
        self.expect_alive();
        let result = self.wait_for(quiet, |event| match event {
            Event::Message(c, _) | Event::Finish(c) | Event::Reset(c, _) => *c == channel,
            Event::Close(..) => true,
            _ => false,
        });
        match result {
            Err(WireError::Timeout) if self.data_frames == frames => {}
            Err(WireError::Timeout) => panic!("data came on some channel"),
            other => panic!("wanted silence on channel {channel}, got {other:?}"),
        }
    }

    /// No more from us; the peer sees the end of the stream.
    pub fn shutdown_write(&mut self) {
        // It fails if the peer was faster, which is as good.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

// ---------------------------------------------------------------------------
// Seeded noise

/// SplitMix64: small, seeded, good enough for noise.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
