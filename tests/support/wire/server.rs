//! The server's half of the handshake.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::keys::{array, flipped};
use super::stream::{WireError, prepare, read_exact_by, violation};
use super::*;

/// The first message of a client, of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    Plain(ClientHello),
    Sealed(SealedHello),
}

/// One server handshake. As with the client half: change `hello` and `accept` before they are
/// sent, or flip a byte on the wire.
pub struct ServerHandshake {
    pub stream: TcpStream,
    pub key: RawKey,
    pub deadline: Instant,
    pub hello: ServerHello,
    /// Its grace is what the server grants at most; what the client asks for may be less.
    pub accept: Accept,
    /// Of a sealed connection, once its hello was answered.
    pub seal: Option<RawSeal>,
    noise: Option<seal::Handshake>,
    pub flip_hello: Option<(usize, u8)>,
    pub flip_accept: Option<(usize, u8)>,
    pub client_hello_bytes: [u8; CLIENT_HELLO],
    pub hello_bytes: [u8; SERVER_HELLO],
    pub client_proof_bytes: [u8; CLIENT_PROOF],
}

impl ServerHandshake {
    /// Accepts one socket.
    pub fn accept(listener: &TcpListener, key: &RawKey) -> Self {
        Self::accept_within(listener, key, PATIENCE).expect("somebody connects")
    }

    /// Accepts one socket, if somebody connects in time.
    pub fn accept_within(listener: &TcpListener, key: &RawKey, time: Duration) -> Option<Self> {
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let deadline = Instant::now() + time;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if Instant::now() >= deadline {
                        return None;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("accept: {error}"),
            }
        };
        stream.set_nonblocking(false).expect("a socket can be blocking");
        Some(Self::over(stream, key))
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
                rights: 1,
                session: random(),
                window: 1 << 20,
                max_message: 1 << 24,
                may_send: u128::MAX,
                may_receive: u128::MAX,
                grace: 60_000,
                ..Accept::refusing(status::OK)
            },
            seal: None,
            noise: None,
            flip_hello: None,
            flip_accept: None,
            client_hello_bytes: [0; CLIENT_HELLO],
            hello_bytes: [0; SERVER_HELLO],
            client_proof_bytes: [0; CLIENT_PROOF],
        }
    }

    /// Answers with the terms of a session that is there, and with what was received in it.
    pub fn resuming(mut self, peer: &RawPeer) -> Self {
        let own = peer.own_accept.clone().expect("a server's peer has the Accept that it sent");
        self.accept = Accept { offset: peer.heard(), mac: [0; 32], ..own };
        self
    }

    /// The first message, whichever kind it is; a sealed one is for [`refuse_sealed`].
    ///
    /// [`refuse_sealed`]: Self::refuse_sealed
    pub fn read_any_hello(&mut self) -> Result<Hello, WireError> {
        let mut bytes = [0; SEALED_HELLO];
        read_exact_by(&mut self.stream, &mut bytes[..8], self.deadline)?;
        let sealed = bytes[7] & 1 == 1;
        let len = if sealed { SEALED_HELLO } else { CLIENT_HELLO };
        read_exact_by(&mut self.stream, &mut bytes[8..len], self.deadline)?;
        if sealed {
            return Ok(Hello::Sealed(SealedHello::decode(&bytes)));
        }
        self.client_hello_bytes = array(&bytes[..CLIENT_HELLO]);
        Ok(Hello::Plain(ClientHello::decode(&self.client_hello_bytes)))
    }

    /// Reads a hello of either kind and checks all of it; of a sealed one the nonce is zeros.
    pub fn read_hello(&mut self) -> Result<ClientHello, WireError> {
        let hello = match self.read_any_hello()? {
            Hello::Plain(hello) => hello,
            Hello::Sealed(hello) => {
                let mut noise = seal::Handshake::new(&hello.encode()[..16]);
                match noise.read_first(&self.key, &hello.noise) {
                    Some(payload) if payload.is_empty() => self.noise = Some(noise),
                    _ => return violation("the client's Noise message is not the key's"),
                }
                let SealedHello { magic, low, high, flags, key_id, .. } = hello;
                ClientHello { magic, low, high, flags, key_id, nonce: [0; 32] }
            }
        };
        if hello.magic != MAGIC {
            return violation(format!("ClientHello magic {:02x?}", hello.magic));
        }
        if hello.flags != u16::from(self.noise.is_some()) {
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

    /// Answers a SealedHello: 64 bytes, and the end.
    pub fn refuse_sealed(mut self, status: u8) -> Result<(), WireError> {
        sealed::send_refusal(&mut self.stream, status)
    }

    pub fn send_hello(&mut self) -> Result<(), WireError> {
        if let Some(noise) = &mut self.noise {
            let mut reply = [0; SEALED_REPLY];
            reply[..8].copy_from_slice(&self.hello.encode()[..8]);
            reply[7] |= 1;
            if self.hello.status == status::OK {
                let message = noise.write_second(&reply[..8]);
                reply[8..].copy_from_slice(&message);
                let (receives, sends) = noise.split();
                self.seal = Some(RawSeal::new(sends, receives));
            }
            let bytes = flipped(reply, self.flip_hello);
            return Ok(self.stream.write_all(&bytes)?);
        }
        let head = self.hello.encode();
        self.hello.proof = if self.hello.status == status::OK {
            let head = &head[..SERVER_HELLO_HEAD];
            mac(&self.key, &[b"trunkline/1 server", &self.client_hello_bytes, head])
        } else {
            [0; 32]
        };
        self.hello_bytes = self.hello.encode();
        let bytes = flipped(self.hello_bytes, self.flip_hello);
        Ok(self.stream.write_all(&bytes)?)
    }

    pub fn read_proof(&mut self) -> Result<ClientProof, WireError> {
        if let Some(seal) = &mut self.seal {
            let mut record = [0; sealed::SEALED_PROOF];
            read_exact_by(&mut self.stream, &mut record, self.deadline)?;
            let text = seal.open(&record).map_err(WireError::Violation)?;
            if text.len() != CLIENT_PROOF_HEAD {
                return violation(format!("the first record has {} bytes", text.len()));
            }
            self.client_proof_bytes[..CLIENT_PROOF_HEAD].copy_from_slice(&text);
            return Self::check_proof(ClientProof::decode(&self.client_proof_bytes));
        }
        read_exact_by(&mut self.stream, &mut self.client_proof_bytes, self.deadline)?;
        let proof = ClientProof::decode(&self.client_proof_bytes);
        let expected = mac(
            &self.key,
            &[
                b"trunkline/1 client",
                &self.client_hello_bytes,
                &self.hello_bytes,
                &self.client_proof_bytes[..CLIENT_PROOF_HEAD],
            ],
        );
        if proof.proof != expected {
            return violation("the client's proof is wrong");
        }
        Self::check_proof(proof)
    }

    fn check_proof(proof: ClientProof) -> Result<ClientProof, WireError> {
        if !window_is_legal(proof.window) {
            return violation(format!("a window of {}", proof.window));
        }
        if proof.is_new() && (proof.offset, proof.attempt) != (0, 0) {
            let (offset, attempt) = (proof.offset, proof.attempt);
            return violation(format!("a new session with offset {offset} and attempt {attempt}"));
        }
        if !proof.is_new() && proof.attempt == 0 {
            return violation("a session is resumed with attempt 0");
        }
        Ok(proof)
    }

    /// The wire bytes of Accept as it stands; needs the ClientProof.
    pub fn make_accept(&mut self) -> [u8; ACCEPT] {
        let head = self.accept.encode();
        self.accept.mac = mac(
            &self.key,
            &[
                b"trunkline/1 accept",
                &self.client_hello_bytes,
                &self.hello_bytes,
                &self.client_proof_bytes,
                &head[..ACCEPT_HEAD],
            ],
        );
        flipped(self.accept.encode(), self.flip_accept)
    }

    pub fn send_accept(&mut self) -> Result<(), WireError> {
        if let Some(seal) = &mut self.seal {
            let mut bytes = seal.record(&self.accept.encode()[..ACCEPT_HEAD]);
            if let Some((at, mask)) = self.flip_accept {
                bytes[at] ^= mask;
            }
            return Ok(self.stream.write_all(&bytes)?);
        }
        let bytes = self.make_accept();
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Refuses by Accept, in whatever is there of the handshake.
    pub fn refuse(&mut self, status: u8) -> Result<(), WireError> {
        self.accept = Accept::refusing(status);
        self.send_accept()
    }

    /// No more grace than the client asks for, and without any no session.
    pub fn settle_grace(&mut self, proof: &ClientProof) {
        self.accept.grace = self.accept.grace.min(proof.grace);
        if self.accept.grace == 0 {
            self.accept.session = [0; 16];
        }
    }

    /// The first three messages.
    pub fn hear(&mut self) -> Result<ClientProof, WireError> {
        self.read_hello()?;
        self.send_hello()?;
        self.read_proof()
    }

    /// All four messages, of a new session.
    pub fn finish(mut self) -> Result<RawPeer, WireError> {
        let proof = self.hear()?;
        self.settle_grace(&proof);
        self.send_accept()?;
        Ok(self.into_peer(&proof))
    }

    pub fn into_peer(self, proof: &ClientProof) -> RawPeer {
        RawPeer::as_server(self, proof)
    }
}
