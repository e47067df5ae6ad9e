//! The client's half of the handshake.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::keys::flipped;
use super::stream::{WireError, dial, read_exact_by, violation};
use super::*;

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
    /// Acknowledge Accept, and everything after it. On at first.
    pub auto_ack: bool,
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
                grace: 60_000,
                attempt: 0,
                proof: [0; 32],
            },
            auto_ack: true,
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

    /// In milliseconds; 0: the session ends with its socket.
    pub fn grace(mut self, milliseconds: u32) -> Self {
        self.proof.grace = milliseconds;
        self
    }

    /// Acknowledge nothing, not even Accept.
    pub fn silent(mut self) -> Self {
        self.auto_ack = false;
        self
    }

    /// Asks for a session that is there, with the terms that this handshake has.
    pub fn session(mut self, session: [u8; 16], offset: u64, attempt: u32) -> Self {
        (self.proof.session, self.proof.offset, self.proof.attempt) = (session, offset, attempt);
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
        match hello.status {
            status::OK => {}
            status::NO_COMMON_VERSION
            | status::NOT_AUTHORISED
            | status::TOO_BUSY
            | status::ONLY_SEALED
            | status::ONLY_PLAIN => {
                if hello.proof != [0; 32] {
                    return violation("ServerHello refuses but carries a proof");
                }
                return Err(WireError::RefusedByHello(Box::new(hello)));
            }
            other => return violation(format!("ServerHello status {other}")),
        }
        if hello.version != VERSION || !(self.hello.low..=self.hello.high).contains(&hello.version) {
            return violation(format!("ServerHello chose version {}", hello.version));
        }
        let head = &self.server_hello_bytes[..SERVER_HELLO_HEAD];
        let expected = mac(&self.key, &[b"trunkline/1 server", &self.hello_bytes, head]);
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
            &[b"trunkline/1 client", &self.hello_bytes, &self.server_hello_bytes, &head[..CLIENT_PROOF_HEAD]],
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
                &self.accept_bytes[..ACCEPT_HEAD],
            ],
        );
        if accept.mac != expected {
            return violation("the MAC of Accept is wrong");
        }
        self.check_accepted(accept)
    }

    /// Checks an Accept that is known to come from the server.
    pub(super) fn check_accepted(&self, accept: Accept) -> Result<Accept, WireError> {
        match accept.status {
            status::OK => self.check_accept(&accept).map(|()| accept),
            2..=6 if self.accept_bytes[1..ACCEPT_HEAD].iter().any(|&byte| byte != 0) => {
                violation(format!("Accept refuses and is not zero: {accept:?}"))
            }
            2..=6 => Err(WireError::RefusedByAccept(Box::new(accept))),
            other => violation(format!("Accept status {other}")),
        }
    }

    fn check_accept(&self, accept: &Accept) -> Result<(), WireError> {
        if accept.zero != 0 {
            return violation(format!("Accept[2..4] is {:#x}", accept.zero));
        }
        if accept.rights & !1 != 0 {
            return violation(format!("Accept rights {:#x}", accept.rights));
        }
        if !window_is_legal(accept.window) {
            return violation(format!("Accept window {}", accept.window));
        }
        if accept.grace > self.proof.grace {
            return violation(format!("Accept grants {} ms of {}", accept.grace, self.proof.grace));
        }
        if (accept.grace == 0) != (accept.session == [0; 16]) {
            return violation(format!("a grace of {} with the id {:02x?}", accept.grace, accept.session));
        }
        if self.proof.is_new() {
            if accept.offset != 0 {
                return violation(format!("a new session at offset {}", accept.offset));
            }
        } else if accept.session != self.proof.session {
            return violation("Accept names another session");
        }
        Ok(())
    }

    /// All four messages.
    pub fn shake(&mut self) -> Result<Accept, WireError> {
        self.send_hello()?;
        self.read_server_hello()?;
        self.send_proof()?;
        self.read_accept()
    }

    /// All four messages, and what comes after them.
    pub fn finish(mut self) -> Result<RawPeer, WireError> {
        let accept = self.shake()?;
        Ok(self.into_peer(accept))
    }

    pub fn into_peer(self, accept: Accept) -> RawPeer {
        RawPeer::as_client(self, accept)
    }
}
