//! A client's handshake of either kind.

use super::Asked;
use super::client::{ClientHandshake, Step};
use super::sealed_client::SealedClient;
use crate::key::Key;
use crate::proto::seal::Seal;

pub(crate) enum ClientTalk {
    Plain(Box<ClientHandshake>),
    Sealed(Box<SealedClient>),
}

impl ClientTalk {
    /// A plain handshake and its first message. `nonce` must be random and never used before.
    pub(crate) fn plain(key: &Key, nonce: [u8; 32]) -> (Self, Vec<u8>) {
        let (handshake, hello) = ClientHandshake::new(key, nonce);
        (Self::Plain(Box::new(handshake)), hello.to_vec())
    }

    /// A sealed one. `None`: the system gives no random numbers, or this build cannot seal.
    pub(crate) fn sealed(key: &Key) -> Option<(Self, Vec<u8>)> {
        let (handshake, hello) = SealedClient::new(key)?;
        Some((Self::Sealed(Box::new(handshake)), hello.to_vec()))
    }

    /// Takes what it needs from the front of `input`.
    pub(crate) fn handle(&mut self, input: &mut &[u8], key: &Key) -> Step {
        match self {
            Self::Plain(handshake) => handshake.handle(input, key),
            Self::Sealed(handshake) => handshake.handle(input),
        }
    }

    /// What proves this side's key and asks for a session; `None` before the server has proved its own, and
    /// after the first call.
    pub(crate) fn prove(&mut self, key: &Key, asked: &Asked) -> Option<Vec<u8>> {
        match self {
            Self::Plain(handshake) => handshake.prove(key, asked).map(|proof| proof.to_vec()),
            Self::Sealed(handshake) => handshake.prove(asked),
        }
    }

    /// The seal of what follows, if it is to be sealed.
    pub(crate) fn into_seal(self) -> Option<Box<Seal>> {
        match self {
            Self::Plain(_) => None,
            Self::Sealed(handshake) => handshake.into_seal(),
        }
    }
}
