//! The accepting side of a handshake.

use std::fmt;

use super::{
    ACCEPT, ACCEPTED, Asked, CLIENT, CLIENT_HELLO, CLIENT_PROOF, Collect, Granted, MAGIC, PROOF_SIGNED,
    SEALED, SEALED_HELLO, SERVER, SERVER_HELLO, Status, VERSION, array, proof, proves, read_asked,
    write_accept,
};
use crate::error::HandshakeError;
use crate::key::Key;

/// What a listener has for a key, by which a handshake finds it.
pub(crate) trait Credential: Clone {
    fn key(&self) -> &Key;
}

/// What the server side makes of its input.
pub(crate) enum Step<C> {
    /// More bytes are needed.
    More,
    /// The client has named a key that is known: send this and go on.
    Reply([u8; SERVER_HELLO]),
    /// Hang up without a word: the other side speaks something else.
    HangUp,
    /// Send this, and then hang up.
    Refuse(Refusal),
    /// The client has proved its key and asks for this; `accept` makes the answer.
    Proved(Proved<C>),
}

/// The last words to a client that is refused.
pub(crate) enum Refusal {
    Hello([u8; SERVER_HELLO]),
    SealedHello([u8; SEALED_HELLO]),
    Accept([u8; ACCEPT]),
}

impl Refusal {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Hello(bytes) => bytes,
            Self::SealedHello(bytes) => bytes,
            Self::Accept(bytes) => bytes,
        }
    }

    /// The reason that is in the bytes.
    pub(crate) fn error(&self) -> HandshakeError {
        let status = match self {
            Self::Hello(bytes) => bytes[5],
            Self::SealedHello(bytes) => bytes[5],
            Self::Accept(bytes) => bytes[0],
        };
        Status::from_byte(status).and_then(Status::error).unwrap_or(HandshakeError::Malformed)
    }
}

/// A client that has proved its key, and what it asks for.
pub(crate) struct Proved<C> {
    pub(crate) credential: C,
    pub(crate) asked: Asked,
    transcript: Transcript,
}

struct Transcript {
    client_hello: [u8; CLIENT_HELLO],
    server_hello: [u8; SERVER_HELLO],
    client_proof: [u8; CLIENT_PROOF],
}

impl<C: Credential> Proved<C> {
    /// The Accept that ends the handshake: what is granted, or why not.
    pub(crate) fn accept(&self, granted: Result<&Granted, Status>) -> [u8; ACCEPT] {
        self.transcript.accept(self.credential.key(), granted)
    }
}

impl Transcript {
    fn accept(&self, key: &Key, granted: Result<&Granted, Status>) -> [u8; ACCEPT] {
        let signed = write_accept(granted);
        let parts: &[&[u8]] =
            &[ACCEPTED, &self.client_hello, &self.server_hello, &self.client_proof, &signed];
        let mut message = [0; ACCEPT];
        message[..signed.len()].copy_from_slice(&signed);
        message[signed.len()..].copy_from_slice(&proof(key, parts));
        message
    }
}

enum State<C> {
    Hello(Collect<SEALED_HELLO>),
    Proof {
        credential: C,
        client_hello: [u8; CLIENT_HELLO],
        server_hello: [u8; SERVER_HELLO],
        proof: Collect<CLIENT_PROOF>,
    },
    Done,
}

/// The accepting side of one handshake.
pub(crate) struct ServerHandshake<C> {
    nonce: [u8; 32],
    state: State<C>,
}

impl<C: Credential> ServerHandshake<C> {
    /// `nonce` must be random and never used before.
    pub(crate) fn new(nonce: [u8; 32]) -> Self {
        Self { nonce, state: State::Hello(Collect::new()) }
    }

    /// Takes what it needs from the front of `input`. `find` finds a key by its id.
    pub(crate) fn handle(&mut self, input: &mut &[u8], find: impl FnOnce(&[u8; 8]) -> Option<C>) -> Step<C> {
        match &mut self.state {
            State::Hello(hello) => {
                hello.fill_to(input, CLIENT_HELLO);
                if !hello.magic_fits() {
                    self.state = State::Done;
                    return Step::HangUp;
                }
                let sealed = hello.len > 7 && hello.bytes[7] & SEALED != 0;
                if !hello.fill_to(input, if sealed { SEALED_HELLO } else { CLIENT_HELLO }) {
                    return Step::More;
                }
                let hello = hello.bytes;
                if sealed { self.handle_sealed_hello(&hello) } else { self.handle_hello(array(&hello), find) }
            }
            State::Proof { proof, .. } => {
                let Some(client_proof) = proof.fill(input) else { return Step::More };
                self.handle_proof(client_proof)
            }
            State::Done => Step::More,
        }
    }

    fn handle_hello(
        &mut self,
        hello: [u8; CLIENT_HELLO],
        find: impl FnOnce(&[u8; 8]) -> Option<C>,
    ) -> Step<C> {
        let mut reply = [0; SERVER_HELLO];
        reply[..4].copy_from_slice(&MAGIC);
        reply[4] = VERSION;
        reply[8..40].copy_from_slice(&self.nonce);
        let found =
            check_version(&hello).and_then(|()| find(&array(&hello[8..])).ok_or(Status::NotAuthorised));
        match found {
            Ok(credential) => {
                let tag = proof(credential.key(), &[SERVER, &hello, &reply[..40]]);
                reply[40..].copy_from_slice(&tag);
                self.state = State::Proof {
                    credential,
                    client_hello: hello,
                    server_hello: reply,
                    proof: Collect::new(),
                };
                Step::Reply(reply)
            }
            Err(status) => {
                reply[5] = status as u8;
                self.state = State::Done;
                Step::Refuse(Refusal::Hello(reply))
            }
        }
    }

    /// This side cannot seal, and says so in the size of the hello's kind.
    fn handle_sealed_hello(&mut self, hello: &[u8; SEALED_HELLO]) -> Step<C> {
        let mut reply = [0; SEALED_HELLO];
        reply[..4].copy_from_slice(&MAGIC);
        reply[4] = VERSION;
        reply[5] = check_version(hello).err().unwrap_or(Status::PlainOnly) as u8;
        reply[7] = SEALED;
        self.state = State::Done;
        Step::Refuse(Refusal::SealedHello(reply))
    }

    fn handle_proof(&mut self, client_proof: [u8; CLIENT_PROOF]) -> Step<C> {
        let State::Proof { credential, client_hello, server_hello, .. } =
            std::mem::replace(&mut self.state, State::Done)
        else {
            return Step::More;
        };
        let transcript = Transcript { client_hello, server_hello, client_proof };
        let (signed, tag) = client_proof.split_at(PROOF_SIGNED);
        let key = credential.key();
        if !proves(key, &[CLIENT, &client_hello, &server_hello, signed], tag) {
            return Step::Refuse(Refusal::Accept(transcript.accept(key, Err(Status::NotAuthorised))));
        }
        let asked = read_asked(&client_proof);
        // A new session begins at its beginning.
        let new = asked.session.is_none();
        if !asked.terms.is_legal() || new && (asked.offset, asked.attempt) != (0, 0) {
            return Step::Refuse(Refusal::Accept(transcript.accept(key, Err(Status::BadTerms))));
        }
        Step::Proved(Proved { credential, asked, transcript })
    }
}

/// Flags that version 1 does not have ask for something that this side cannot do.
fn check_version(hello: &[u8]) -> Result<(), Status> {
    let speaks = (hello[4]..=hello[5]).contains(&VERSION);
    let known = hello[6] == 0 && hello[7] & !SEALED == 0;
    if speaks && known { Ok(()) } else { Err(Status::NoCommonVersion) }
}

impl<C> fmt::Debug for ServerHandshake<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerHandshake")
    }
}
