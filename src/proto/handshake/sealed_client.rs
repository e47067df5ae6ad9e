//! The connecting side of a sealed handshake. It accepts nothing else than a sealed connection.

use super::client::{Step, failed};
use super::{
    Asked, Collect, MAGIC, SEALED, SEALED_ACCEPT, SEALED_HELLO, SEALED_HELLO_HEAD, SEALED_REPLY_HEAD, Status,
    VERSION, array, no_common_version, read_accept, write_asked,
};
use crate::error::HandshakeError;
use crate::key::Key;
use crate::proto::seal::{Front, Initiator, MOST, Seal, front};

enum State {
    Reply { initiator: Initiator, reply: Collect<SEALED_HELLO> },
    ServerProved(Box<Seal>),
    Accept { seal: Box<Seal>, record: Collect<SEALED_ACCEPT> },
    Accepted(Box<Seal>),
    Done,
}

pub(crate) struct SealedClient {
    state: State,
}

impl SealedClient {
    /// The handshake and its first message. `None`: the system gives no random numbers, or this build cannot
    /// seal.
    pub(crate) fn new(key: &Key) -> Option<(Self, [u8; SEALED_HELLO])> {
        let mut hello = [0; SEALED_HELLO];
        hello[..4].copy_from_slice(&MAGIC);
        hello[4] = VERSION;
        hello[5] = VERSION;
        hello[7] = SEALED;
        hello[8..SEALED_HELLO_HEAD].copy_from_slice(&key.id());
        let (initiator, message) = Initiator::new(key, &hello[..SEALED_HELLO_HEAD])?;
        hello[SEALED_HELLO_HEAD..].copy_from_slice(&message);
        Some((Self { state: State::Reply { initiator, reply: Collect::new() } }, hello))
    }

    /// Takes what it needs from the front of `input`.
    pub(crate) fn handle(&mut self, input: &mut &[u8]) -> Step {
        match &mut self.state {
            State::Reply { reply, .. } => {
                let whole = reply.fill(input);
                if !reply.magic_fits() {
                    return failed(HandshakeError::NotTrunkline);
                }
                let Some(reply) = whole else { return Step::More };
                self.handle_reply(&reply)
            }
            State::Accept { record, .. } => {
                let Some(record) = record.fill(input) else { return Step::More };
                self.handle_accept(record)
            }
            // Nothing may come before the client has spoken.
            State::ServerProved(_) => failed(HandshakeError::Malformed),
            State::Accepted(_) | State::Done => Step::More,
        }
    }

    fn handle_reply(&mut self, reply: &[u8; SEALED_HELLO]) -> Step {
        let State::Reply { initiator, .. } = std::mem::replace(&mut self.state, State::Done) else {
            return Step::More;
        };
        let Some(status) = Status::of_hello(reply[5]) else { return failed(HandshakeError::Malformed) };
        // A plain answer begins in the same way, and is no answer.
        if reply[6..8] != [0, SEALED] {
            return failed(HandshakeError::Malformed);
        }
        let version = reply[4];
        if status == Status::NoCommonVersion || status == Status::Ok && version != VERSION {
            return failed(no_common_version(version));
        }
        if let Some(error) = status.error() {
            return failed(error);
        }
        let (head, message) = reply.split_at(SEALED_REPLY_HEAD);
        match initiator.finish(&array(message)) {
            Some((sealed_head, seal)) if sealed_head == head => {
                self.state = State::ServerProved(Box::new(seal));
                Step::ServerProved
            }
            Some(_) | None => failed(HandshakeError::BadProof),
        }
    }

    /// The first record, which asks for a session; `None` before the server has proved its key, and after
    /// the first call.
    pub(crate) fn prove(&mut self, asked: &Asked) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::ServerProved(mut seal) => {
                let mut record = Vec::new();
                seal.seal(&mut record, MOST, std::iter::once(&write_asked(asked)[..]));
                self.state = State::Accept { seal, record: Collect::new() };
                Some(record)
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    fn handle_accept(&mut self, mut record: [u8; SEALED_ACCEPT]) -> Step {
        let State::Accept { mut seal, .. } = std::mem::replace(&mut self.state, State::Done) else {
            return Step::More;
        };
        if front(&record) != Ok(Front::Record(SEALED_ACCEPT)) {
            return failed(HandshakeError::Malformed);
        }
        let Ok(accept) = seal.open(&mut record) else { return failed(HandshakeError::BadProof) };
        match read_accept(accept) {
            Ok(granted) => {
                self.state = State::Accepted(seal);
                Step::Accepted(granted)
            }
            Err(HandshakeError::Malformed) => failed(HandshakeError::Malformed),
            Err(error) => Step::Failed { error, verified: true },
        }
    }

    /// The seal of what follows, once the server has accepted.
    pub(crate) fn into_seal(self) -> Option<Box<Seal>> {
        match self.state {
            State::Accepted(seal) => Some(seal),
            _ => None,
        }
    }
}
