//! The accepting side of a handshake.

use std::fmt;

use super::{
    ACCEPT, ACCEPTED, Asked, CLIENT, CLIENT_HELLO, CLIENT_PROOF, Collect, Granted, MAGIC, PROOF_SIGNED,
    SEALED, SEALED_HELLO, SEALED_HELLO_HEAD, SEALED_PROOF, SEALED_REPLY_HEAD, SERVER, SERVER_HELLO, Status,
    Takes, VERSION, array, proof, proves, read_asked, write_accept,
};
use crate::error::HandshakeError;
use crate::key::Key;
use crate::proto::seal::{Front, MOST, Responder, Seal, front};

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
    /// The client, or one that has recorded its message, has named a key that is known and shown that it is
    /// used: [`ServerHandshake::answer`] goes on, which is work. The number is random and the message's own.
    Owed(u64),
    /// Hang up without a word: the other side speaks something else, or is not the one that it seemed to be.
    HangUp(HandshakeError),
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
    /// A sealed Accept.
    Record(Status, Vec<u8>),
}

impl Refusal {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Hello(bytes) => bytes,
            Self::SealedHello(bytes) => bytes,
            Self::Accept(bytes) => bytes,
            Self::Record(_, bytes) => bytes,
        }
    }

    /// The reason that is in the bytes.
    pub(crate) fn error(&self) -> HandshakeError {
        let status = match self {
            Self::Hello(bytes) => bytes[5],
            Self::SealedHello(bytes) => bytes[5],
            Self::Accept(bytes) => bytes[0],
            Self::Record(status, _) => *status as u8,
        };
        Status::from_byte(status).and_then(Status::error).unwrap_or(HandshakeError::Malformed)
    }
}

/// A client that has proved its key, and what it asks for.
pub(crate) struct Proved<C> {
    pub(crate) credential: C,
    pub(crate) asked: Asked,
    way: Way,
}

/// How the answer is made.
enum Way {
    Plain(Box<Transcript>),
    Sealed(Box<Seal>),
}

struct Transcript {
    client_hello: [u8; CLIENT_HELLO],
    server_hello: [u8; SERVER_HELLO],
    client_proof: [u8; CLIENT_PROOF],
}

impl<C: Credential> Proved<C> {
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.way, Way::Sealed(_))
    }

    /// The Accept that ends the handshake: what is granted, or why not.
    pub(crate) fn accept(&mut self, granted: Result<&Granted, Status>) -> Vec<u8> {
        match &mut self.way {
            Way::Plain(transcript) => transcript.accept(self.credential.key(), granted).to_vec(),
            Way::Sealed(seal) => sealed_accept(seal, granted),
        }
    }

    /// The same, and behind it what is left of the stream.
    pub(crate) fn accept_and_say(&mut self, granted: &Granted, tail: &[u8]) -> Vec<u8> {
        let mut bytes = self.accept(Ok(granted));
        match &mut self.way {
            Way::Plain(_) => bytes.extend_from_slice(tail),
            Way::Sealed(seal) => {
                let mut rest = tail;
                while !rest.is_empty() {
                    let sealed = seal.seal(&mut bytes, MOST, std::iter::once(rest));
                    rest = &rest[sealed..];
                }
            }
        }
        bytes
    }

    /// The seal of what follows, if it is to be sealed.
    pub(crate) fn into_seal(self) -> Option<Box<Seal>> {
        match self.way {
            Way::Plain(_) => None,
            Way::Sealed(seal) => Some(seal),
        }
    }
}

fn sealed_accept(seal: &mut Seal, granted: Result<&Granted, Status>) -> Vec<u8> {
    let mut record = Vec::new();
    seal.seal(&mut record, MOST, std::iter::once(&write_accept(granted)[..]));
    record
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
    /// The tag of a sealed hello is right. What is needed for the answer is made again from the hello, so
    /// that those that wait for it hold little.
    Owed {
        credential: C,
        hello: [u8; SEALED_HELLO],
    },
    SealedProof {
        credential: C,
        seal: Box<Seal>,
        record: Collect<SEALED_PROOF>,
    },
    Done,
}

/// The accepting side of one handshake.
pub(crate) struct ServerHandshake<C> {
    nonce: [u8; 32],
    takes: Takes,
    state: State<C>,
}

impl<C: Credential> ServerHandshake<C> {
    /// `nonce` must be random and never used before.
    pub(crate) fn new(nonce: [u8; 32], takes: Takes) -> Self {
        Self { nonce, takes, state: State::Hello(Collect::new()) }
    }

    /// Takes what it needs from the front of `input`. `find` finds a key by its id.
    pub(crate) fn handle(&mut self, input: &mut &[u8], find: impl FnOnce(&[u8; 8]) -> Option<C>) -> Step<C> {
        match &mut self.state {
            State::Hello(hello) => {
                hello.fill_to(input, CLIENT_HELLO);
                if !hello.magic_fits() {
                    self.state = State::Done;
                    return Step::HangUp(HandshakeError::NotTrunkline);
                }
                let sealed = hello.len > 7 && hello.bytes[7] & SEALED != 0;
                if !hello.fill_to(input, if sealed { SEALED_HELLO } else { CLIENT_HELLO }) {
                    return Step::More;
                }
                let hello = hello.bytes;
                if sealed {
                    self.handle_sealed_hello(&hello, find)
                } else {
                    self.handle_hello(array(&hello), find)
                }
            }
            State::Proof { proof, .. } => {
                let Some(client_proof) = proof.fill(input) else { return Step::More };
                self.handle_proof(client_proof)
            }
            State::SealedProof { record, .. } => {
                let Some(record) = record.fill(input) else { return Step::More };
                self.handle_sealed_proof(record)
            }
            // A client says nothing before it was answered.
            State::Owed { .. } => {
                self.state = State::Done;
                Step::HangUp(HandshakeError::Malformed)
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
        let found = check_version(&hello)
            .and_then(|()| self.takes.plain.then_some(()).ok_or(Status::SealedOnly))
            .and_then(|()| find(&array(&hello[8..])).ok_or(Status::NotAuthorised));
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

    fn handle_sealed_hello(
        &mut self,
        hello: &[u8; SEALED_HELLO],
        find: impl FnOnce(&[u8; 8]) -> Option<C>,
    ) -> Step<C> {
        let found = check_version(hello)
            .and_then(|()| self.takes.sealed.then_some(()).ok_or(Status::PlainOnly))
            .and_then(|()| find(&array(&hello[8..])).ok_or(Status::NotAuthorised))
            .and_then(|credential| match respond(&credential, hello) {
                Some(_) => Ok(credential),
                None => Err(Status::NotAuthorised),
            });
        match found {
            Ok(credential) => {
                self.state = State::Owed { credential, hello: *hello };
                // A part of a point on the curve, which was made by chance.
                Step::Owed(u64::from_be_bytes(array(&hello[SEALED_HELLO_HEAD..])))
            }
            Err(status) => self.refuse_sealed(status),
        }
    }

    fn refuse_sealed(&mut self, status: Status) -> Step<C> {
        self.state = State::Done;
        let mut reply = [0; SEALED_HELLO];
        reply[..SEALED_REPLY_HEAD].copy_from_slice(&sealed_reply(status));
        Step::Refuse(Refusal::SealedHello(reply))
    }

    /// Answers a sealed hello, which takes two multiplications on the curve. `None`: the hello cannot be
    /// answered, and the other side is to be hung up on.
    pub(crate) fn answer(&mut self) -> Option<[u8; SEALED_HELLO]> {
        let State::Owed { credential, hello } = std::mem::replace(&mut self.state, State::Done) else {
            return None;
        };
        let head = sealed_reply(Status::Ok);
        let (message, seal) = respond(&credential, &hello)?.answer(&head)?;
        let mut reply = [0; SEALED_HELLO];
        reply[..SEALED_REPLY_HEAD].copy_from_slice(&head);
        reply[SEALED_REPLY_HEAD..].copy_from_slice(&message);
        self.state = State::SealedProof { credential, seal: Box::new(seal), record: Collect::new() };
        Some(reply)
    }

    fn handle_sealed_proof(&mut self, mut record: [u8; SEALED_PROOF]) -> Step<C> {
        let State::SealedProof { credential, mut seal, .. } = std::mem::replace(&mut self.state, State::Done)
        else {
            return Step::More;
        };
        if front(&record) != Ok(Front::Record(SEALED_PROOF)) {
            return Step::HangUp(HandshakeError::Malformed);
        }
        // One that has only recorded a hello comes no further, and there is nothing to tell it.
        let Ok(message) = seal.open(&mut record) else { return Step::HangUp(HandshakeError::BadProof) };
        let asked = read_asked(message);
        if !is_legal(&asked) {
            let record = sealed_accept(&mut seal, Err(Status::BadTerms));
            return Step::Refuse(Refusal::Record(Status::BadTerms, record));
        }
        Step::Proved(Proved { credential, asked, way: Way::Sealed(seal) })
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
        if !is_legal(&asked) {
            return Step::Refuse(Refusal::Accept(transcript.accept(key, Err(Status::BadTerms))));
        }
        Step::Proved(Proved { credential, asked, way: Way::Plain(Box::new(transcript)) })
    }
}

fn is_legal(asked: &Asked) -> bool {
    // A new session begins at its beginning.
    asked.terms.is_legal() && (!asked.session.is_none() || (asked.offset, asked.attempt) == (0, 0))
}

/// The beginning of a SealedReply.
fn sealed_reply(status: Status) -> [u8; SEALED_REPLY_HEAD] {
    let mut head = [0; SEALED_REPLY_HEAD];
    head[..4].copy_from_slice(&MAGIC);
    head[4] = VERSION;
    head[5] = status as u8;
    head[7] = SEALED;
    head
}

/// `None`: the message was not made with this key.
fn respond(credential: &impl Credential, hello: &[u8; SEALED_HELLO]) -> Option<Responder> {
    let (head, message) = hello.split_at(SEALED_HELLO_HEAD);
    Responder::new(credential.key(), head, &array(message))
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
