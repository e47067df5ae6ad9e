//! The connecting side of a handshake.
//!
//! It has two halves. In the first the server proves its key and nothing has been asked for, so
//! several may run side by side; in the second the client proves its own and names what it wants.

use super::{
    ACCEPT, ACCEPT_SIGNED, ACCEPTED, Asked, CLIENT, CLIENT_HELLO, CLIENT_PROOF, Collect, Granted, MAGIC,
    PROOF_SIGNED, SERVER, SERVER_HELLO, Status, VERSION, no_common_version, proof, proves, read_accept,
    write_asked,
};
use crate::error::HandshakeError;
use crate::key::Key;

/// What the client side makes of its input.
#[derive(Debug)]
pub(crate) enum Step {
    /// More bytes are needed.
    More,
    /// The server has proved its key; [`ClientHandshake::prove`] goes on.
    ServerProved,
    /// The server has accepted.
    Accepted(Granted),
    /// It is over. What was `verified` was said by the server itself.
    Failed { error: HandshakeError, verified: bool },
}

pub(super) fn failed(error: HandshakeError) -> Step {
    Step::Failed { error, verified: false }
}

#[derive(Debug)]
enum State {
    Hello(Collect<SERVER_HELLO>),
    ServerProved { server_hello: [u8; SERVER_HELLO] },
    Accept { server_hello: [u8; SERVER_HELLO], client_proof: [u8; CLIENT_PROOF], accept: Collect<ACCEPT> },
    Done,
}

/// The connecting side of one handshake.
#[derive(Debug)]
pub(crate) struct ClientHandshake {
    hello: [u8; CLIENT_HELLO],
    state: State,
}

impl ClientHandshake {
    /// The handshake and its first message. `nonce` must be random and never used before.
    pub(crate) fn new(key: &Key, nonce: [u8; 32]) -> (Self, [u8; CLIENT_HELLO]) {
        let mut hello = [0; CLIENT_HELLO];
        hello[..4].copy_from_slice(&MAGIC);
        hello[4] = VERSION;
        hello[5] = VERSION;
        hello[8..16].copy_from_slice(&key.id());
        hello[16..].copy_from_slice(&nonce);
        (Self { hello, state: State::Hello(Collect::new()) }, hello)
    }

    /// Takes what it needs from the front of `input`.
    pub(crate) fn handle(&mut self, input: &mut &[u8], key: &Key) -> Step {
        match &mut self.state {
            State::Hello(collect) => {
                let whole = collect.fill(input);
                if !collect.magic_fits() {
                    return failed(HandshakeError::NotTrunkline);
                }
                let Some(server_hello) = whole else { return Step::More };
                self.handle_hello(server_hello, key)
            }
            State::Accept { server_hello, client_proof, accept } => {
                let Some(accept) = accept.fill(input) else { return Step::More };
                let (signed, tag) = accept.split_at(ACCEPT_SIGNED);
                let parts: &[&[u8]] = &[ACCEPTED, &self.hello, &*server_hello, &*client_proof, signed];
                // A server that takes the proof for wrong signs its answer all the same.
                if !proves(key, parts, tag) {
                    return failed(HandshakeError::BadProof);
                }
                self.state = State::Done;
                match read_accept(&accept) {
                    Ok(granted) => Step::Accepted(granted),
                    Err(HandshakeError::Malformed) => failed(HandshakeError::Malformed),
                    Err(error) => Step::Failed { error, verified: true },
                }
            }
            // Nothing may come before the client has spoken.
            State::ServerProved { .. } => failed(HandshakeError::Malformed),
            State::Done => Step::More,
        }
    }

    fn handle_hello(&mut self, server_hello: [u8; SERVER_HELLO], key: &Key) -> Step {
        let Some(status) = Status::of_hello(server_hello[5]) else {
            return failed(HandshakeError::Malformed);
        };
        let version = server_hello[4];
        if status == Status::NoCommonVersion || status == Status::Ok && version != VERSION {
            return failed(no_common_version(version));
        }
        if let Some(error) = status.error() {
            return failed(error);
        }
        if !proves(key, &[SERVER, &self.hello, &server_hello[..40]], &server_hello[40..]) {
            return failed(HandshakeError::BadProof);
        }
        if server_hello[6..8] != [0, 0] {
            return failed(HandshakeError::Malformed);
        }
        self.state = State::ServerProved { server_hello };
        Step::ServerProved
    }

    /// The ClientProof that asks for a session; `None` before the server has proved its key, and
    /// after the first call.
    pub(crate) fn prove(&mut self, key: &Key, asked: &Asked) -> Option<[u8; CLIENT_PROOF]> {
        let State::ServerProved { server_hello } = self.state else { return None };
        let signed = write_asked(asked);
        let mut client_proof = [0; CLIENT_PROOF];
        client_proof[..PROOF_SIGNED].copy_from_slice(&signed);
        let tag = proof(key, &[CLIENT, &self.hello, &server_hello, &signed]);
        client_proof[PROOF_SIGNED..].copy_from_slice(&tag);
        self.state = State::Accept { server_hello, client_proof, accept: Collect::new() };
        Some(client_proof)
    }
}
