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

#[cfg(test)]
mod tests {
    use x25519_dalek::{PublicKey, StaticSecret};

    use super::*;

    /// [`Primitives`] with an ephemeral key that is known, on another implementation of the curve.
    struct Known;

    impl CryptoResolver for Known {
        fn resolve_rng(&self) -> Option<Box<dyn Random>> {
            Primitives.resolve_rng()
        }

        fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
            Some(Box::new(KnownCurve { secret: StaticSecret::from([0; 32]), public: [0; 32] }))
        }

        fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
            Primitives.resolve_hash(choice)
        }

        fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
            Primitives.resolve_cipher(choice)
        }
    }

    struct KnownCurve {
        secret: StaticSecret,
        public: [u8; 32],
    }

    impl Dh for KnownCurve {
        fn name(&self) -> &'static str {
            "25519"
        }

        fn pub_len(&self) -> usize {
            32
        }

        fn priv_len(&self) -> usize {
            32
        }

        fn set(&mut self, key: &[u8]) {
            self.secret = StaticSecret::from(*key.first_chunk().unwrap());
            self.public = PublicKey::from(&self.secret).to_bytes();
        }

        fn generate(&mut self, _: &mut dyn Random) -> Result<(), Error> {
            Err(Error::Rng)
        }

        fn pubkey(&self) -> &[u8] {
            &self.public
        }

        fn privkey(&self) -> &[u8] {
            &[]
        }

        fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
            let theirs = PublicKey::from(*public.first_chunk::<32>().unwrap());
            out[..32].copy_from_slice(self.secret.diffie_hellman(&theirs).as_bytes());
            Ok(())
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// The vector's lines of this name.
    fn lines(name: &str) -> Vec<Vec<u8>> {
        let vector = include_str!("../../../tests/data/noise_nnpsk0.txt");
        let all = vector.lines().filter_map(|line| line.split_once(' '));
        all.filter(|(known, _)| *known == name).map(|(_, value)| hex(value)).collect()
    }

    fn line(name: &str) -> Vec<u8> {
        lines(name).remove(0)
    }

    /// What is said on either side, byte for byte: the handshake, and the first records with its keys.
    #[test]
    fn the_handshake_and_its_records_are_those_of_the_vector() {
        let key = Key::from(*line("psk").first_chunk::<32>().unwrap());
        let prologue = line("prologue");
        let (one, other) = (line("initiator-ephemeral"), line("responder-ephemeral"));
        let begin = || builder(Box::new(Known), &key, &prologue).unwrap();
        let mut initiator = begin().fixed_ephemeral_key_for_testing_only(&one).build_initiator().unwrap();
        let mut responder = begin().fixed_ephemeral_key_for_testing_only(&other).build_responder().unwrap();
        let (payloads, messages) = (lines("payload"), lines("message"));
        assert_eq!((payloads.len(), messages.len()), (6, 6));
        let mut buffer = [0; 1000];
        for at in 0..2 {
            let (from, to) =
                if at == 0 { (&mut initiator, &mut responder) } else { (&mut responder, &mut initiator) };
            let len = from.write_message(&payloads[at], &mut buffer).unwrap();
            assert_eq!(buffer[..len], messages[at]);
            let len = to.read_message(&messages[at], &mut buffer).unwrap();
            assert_eq!(buffer[..len], payloads[at]);
        }
        assert_eq!(initiator.get_handshake_hash(), line("hash"));
        let (mut first, mut second) = initiator.dangerously_get_raw_split();
        let mut here = Seal::new(&mut first, &mut second);
        let (mut first, mut second) = responder.dangerously_get_raw_split();
        let mut there = Seal::new(&mut second, &mut first);
        for at in 2..6 {
            let (from, to) = if at % 2 == 0 { (&mut here, &mut there) } else { (&mut there, &mut here) };
            let mut record = Vec::new();
            from.seal(&mut record, 1000, std::iter::once(&*payloads[at]));
            assert_eq!(record[2..], messages[at]);
            assert_eq!(to.open(&mut record).unwrap(), payloads[at]);
        }
    }

    /// Nothing that a fork or a second thread would double is kept: no two hellos have the same key.
    #[test]
    fn hellos_that_are_made_at_once_never_repeat() {
        let key = Key::generate();
        let hellos: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let key = &key;
                    scope.spawn(move || {
                        (0..200).map(|_| Initiator::new(key, b"").unwrap().1).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let mut keys: Vec<_> = hellos.iter().map(|hello| &hello[..32]).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 800);
    }

    /// Points of a small order would make a secret that is known.
    #[test]
    fn a_point_that_gives_no_secret_is_refused() {
        for low in [0, 1] {
            let mut point = [0; 32];
            point[0] = low;
            let mut curve = Primitives.resolve_dh(&DHChoice::Curve25519).unwrap();
            curve.generate(&mut System).unwrap();
            assert!(curve.dh(&point, &mut [0; 32]).is_err());
        }
    }
}
