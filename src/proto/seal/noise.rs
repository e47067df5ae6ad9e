//! The Noise handshake `Noise_NNpsk0_25519_AESGCM_SHA256`: snow's, with ring's primitives.
//!
//! ring keeps an ephemeral key to itself and uses it once, which is all that this pattern needs.

use std::sync::OnceLock;

use parking_lot::Mutex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState};

use super::record::Seal;
use super::{MESSAGE_1, MESSAGE_2, TAG};
use crate::key::Key;

/// The connecting side, which has sent message 1.
pub(crate) struct Initiator(Box<HandshakeState>);

impl Initiator {
    /// `prologue`: what stands before message 1. `None` if the system gives no random numbers.
    pub(crate) fn new(key: &Key, prologue: &[u8]) -> Option<(Self, [u8; MESSAGE_1])> {
        let mut state = builder(Box::new(Primitives), key, prologue)?.build_initiator().ok()?;
        let mut message = [0; MESSAGE_1];
        state.write_message(&[], &mut message).ok()?;
        Some((Self(Box::new(state)), message))
    }

    /// Takes message 2: what was sealed in it, and the seal of what follows. `None`: its sender does not
    /// have the key, or it was changed on the way.
    pub(crate) fn finish(mut self, message: &[u8; MESSAGE_2]) -> Option<([u8; 8], Seal)> {
        let mut payload = [0; MESSAGE_2];
        let len = self.0.read_message(message, &mut payload).ok()?;
        let (mut first, mut second) = self.0.dangerously_get_raw_split();
        Some((*payload[..len].first_chunk()?, Seal::new(&mut first, &mut second)))
    }
}

/// The accepting side, which has message 1. That its tag was right shows that its sender has the key, or has
/// recorded a message of one that has.
pub(crate) struct Responder(Box<HandshakeState>);

impl Responder {
    /// Checks the tag of message 1, which costs a few hashes.
    pub(crate) fn new(key: &Key, prologue: &[u8], message: &[u8; MESSAGE_1]) -> Option<Self> {
        let mut state = builder(Box::new(Primitives), key, prologue)?.build_responder().ok()?;
        state.read_message(message, &mut [0; MESSAGE_1]).ok()?;
        Some(Self(Box::new(state)))
    }

    /// Makes message 2 and the seal of what follows, which costs two multiplications on the curve. `None`:
    /// the sender's point is none, or the system gives no random numbers.
    pub(crate) fn answer(mut self, payload: &[u8; 8]) -> Option<([u8; MESSAGE_2], Seal)> {
        let mut message = [0; MESSAGE_2];
        self.0.write_message(payload, &mut message).ok()?;
        let (mut first, mut second) = self.0.dangerously_get_raw_split();
        Some((message, Seal::new(&mut second, &mut first)))
    }
}

fn builder<'a>(
    primitives: Box<dyn CryptoResolver + Send>,
    key: &'a Key,
    prologue: &'a [u8],
) -> Option<Builder<'a>> {
    static PARAMS: OnceLock<NoiseParams> = OnceLock::new();
    let params = PARAMS.get_or_init(|| {
        "Noise_NNpsk0_25519_AESGCM_SHA256".parse().expect("it is a name of the Noise framework")
    });
    Builder::with_resolver(params.clone(), primitives).prologue(prologue).ok()?.psk(0, key.bytes()).ok()
}

/// ring's, as snow asks for them.
struct Primitives;

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(System))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(Curve { key: Mutex::new(None), public: [0; 32] }))
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(Sha256(digest::Context::new(&digest::SHA256))))
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(AesGcm(None)))
    }
}

/// The system's random numbers, with nothing kept in this process that a fork could double.
struct System;

impl Random for System {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        SystemRandom::new().fill(bytes).map_err(|_| Error::Rng)
    }
}

struct Curve {
    /// Used up by the one agreement that it is for.
    key: Mutex<Option<EphemeralPrivateKey>>,
    public: [u8; 32],
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    /// No key of this pattern comes from outside.
    fn set(&mut self, _: &[u8]) {
        *self.key.get_mut() = None;
    }

    fn generate(&mut self, _: &mut dyn Random) -> Result<(), Error> {
        let key = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).map_err(|_| Error::Rng)?;
        let public = key.compute_public_key().map_err(|_| Error::Dh)?;
        self.public.copy_from_slice(public.as_ref());
        *self.key.get_mut() = Some(key);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &[]
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let key = self.key.lock().take().ok_or(Error::Dh)?;
        let public = UnparsedPublicKey::new(&X25519, public.get(..32).ok_or(Error::Dh)?);
        agree_ephemeral(key, &public, |shared| out[..32].copy_from_slice(shared)).map_err(|_| Error::Dh)
    }
}

struct Sha256(digest::Context);

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = digest::Context::new(&digest::SHA256);
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(self.0.clone().finish().as_ref());
    }
}

/// For the handshake alone; its messages are short.
struct AesGcm(Option<LessSafeKey>);

impl AesGcm {
    fn nonce(number: u64) -> Nonce {
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&number.to_be_bytes());
        Nonce::assume_unique_for_key(bytes)
    }
}

impl Cipher for AesGcm {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new);
    }

    fn encrypt(&self, nonce: u64, ad: &[u8], text: &[u8], out: &mut [u8]) -> usize {
        let key = self.0.as_ref().expect("snow sets a key first");
        let (sealed, tag) = out.split_at_mut(text.len());
        sealed.copy_from_slice(text);
        let made = key.seal_in_place_separate_tag(Self::nonce(nonce), Aad::from(ad), sealed);
        tag[..TAG].copy_from_slice(made.expect("a handshake's messages are short").as_ref());
        text.len() + TAG
    }

    fn decrypt(&self, nonce: u64, ad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let key = self.0.as_ref().ok_or(Error::Decrypt)?;
        let mut text = sealed.to_vec();
        let text =
            key.open_in_place(Self::nonce(nonce), Aad::from(ad), &mut text).map_err(|_| Error::Decrypt)?;
        out.get_mut(..text.len()).ok_or(Error::Decrypt)?.copy_from_slice(text);
        Ok(text.len())
    }
}
