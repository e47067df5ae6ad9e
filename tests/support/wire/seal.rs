//! Noise_NNpsk0_25519_AESGCM_SHA256 and its records, written from the Noise specification (revision 34)
//! and the protocol's page, with other crates than the library's.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};

use super::keys::{array, mac};
use super::{RawKey, random};

pub const PROTOCOL_NAME: &[u8; 32] = b"Noise_NNpsk0_25519_AESGCM_SHA256";
/// A key of a direction is used for so many records.
pub const RECORDS_OF_A_KEY: u64 = 65_536;
/// The length of the largest record.
pub const LARGEST_RECORD: usize = 65_535;
const TAG: usize = 16;

/// Section 5.1: a key and the next nonce.
#[derive(Clone)]
pub struct Cipher {
    key: [u8; 32],
    pub next: u64,
}

impl Cipher {
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, next: 0 }
    }

    fn aes(&self) -> Aes256Gcm {
        Aes256Gcm::new_from_slice(&self.key).expect("32 bytes")
    }

    /// Section 12.4: 32 zero bits, and the number big-endian.
    fn nonce(number: u64) -> Nonce<aes_gcm::aead::consts::U12> {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        nonce.into()
    }

    fn seal_with(&self, number: u64, ad: &[u8], text: &[u8]) -> Vec<u8> {
        self.aes().encrypt(&Self::nonce(number), Payload { msg: text, aad: ad }).expect("it is short")
    }

    pub fn seal(&mut self, ad: &[u8], text: &[u8]) -> Vec<u8> {
        let sealed = self.seal_with(self.next, ad, text);
        self.next += 1;
        sealed
    }

    pub fn open(&mut self, ad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let text = self.aes().decrypt(&Self::nonce(self.next), Payload { msg: sealed, aad: ad }).ok()?;
        self.next += 1;
        Some(text)
    }

    /// Sections 4.2 and 11.3.
    pub fn rekey(&mut self) {
        self.key = array(&self.seal_with(u64::MAX, &[], &[0; 32])[..32]);
    }
}

/// Sections 5.2 and 5.3, as far as this pattern needs them.
pub struct Handshake {
    hash: [u8; 32],
    chaining: [u8; 32],
    cipher: Option<Cipher>,
    ephemeral: StaticSecret,
    theirs: Option<PublicKey>,
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    array(&hash.finalize())
}

/// Section 4.3.
fn hkdf<const N: usize>(chaining: &[u8; 32], input: &[u8]) -> [[u8; 32]; N] {
    let secret = mac(chaining, &[input]);
    let mut outputs = [[0; 32]; N];
    for at in 0..N {
        let before: &[u8] = if at == 0 { &[] } else { &outputs[at - 1] };
        outputs[at] = mac(&secret, &[before, &[at as u8 + 1]]);
    }
    outputs
}

impl Handshake {
    pub fn new(prologue: &[u8]) -> Self {
        Self::with_ephemeral(prologue, random())
    }

    pub fn with_ephemeral(prologue: &[u8], ephemeral: [u8; 32]) -> Self {
        let ephemeral = StaticSecret::from(ephemeral);
        let mut new =
            Self { hash: *PROTOCOL_NAME, chaining: *PROTOCOL_NAME, cipher: None, ephemeral, theirs: None };
        new.mix_hash(prologue);
        new
    }

    pub fn handshake_hash(&self) -> [u8; 32] {
        self.hash
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    fn mix_key(&mut self, input: &[u8]) {
        let [chaining, key] = hkdf(&self.chaining, input);
        self.chaining = chaining;
        self.cipher = Some(Cipher::new(key));
    }

    fn mix_psk(&mut self, psk: &RawKey) {
        let [chaining, data, key] = hkdf(&self.chaining, psk);
        self.chaining = chaining;
        self.mix_hash(&data);
        self.cipher = Some(Cipher::new(key));
    }

    fn seal(&mut self, text: &[u8]) -> Vec<u8> {
        let sealed = self.cipher.as_mut().expect("psk0 has a key at once").seal(&self.hash, text);
        self.mix_hash(&sealed);
        sealed
    }

    fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        let text = self.cipher.as_mut().expect("psk0 has a key at once").open(&self.hash, sealed)?;
        self.mix_hash(sealed);
        Some(text)
    }

    fn write_ephemeral(&mut self) -> [u8; 32] {
        let public = PublicKey::from(&self.ephemeral).to_bytes();
        self.mix_hash(&public);
        self.mix_key(&public);
        public
    }

    fn read_ephemeral(&mut self, message: &[u8]) {
        let public: [u8; 32] = array(&message[..32]);
        self.mix_hash(&public);
        self.mix_key(&public);
        self.theirs = Some(PublicKey::from(public));
    }

    fn agree(&mut self) {
        let shared = self.ephemeral.diffie_hellman(&self.theirs.expect("it was read"));
        self.mix_key(shared.as_bytes());
    }

    /// The initiator's: psk, e.
    pub fn write_first(&mut self, psk: &RawKey, payload: &[u8]) -> Vec<u8> {
        self.mix_psk(psk);
        let mut message = self.write_ephemeral().to_vec();
        message.extend(self.seal(payload));
        message
    }

    pub fn read_first(&mut self, psk: &RawKey, message: &[u8]) -> Option<Vec<u8>> {
        self.mix_psk(psk);
        self.read_ephemeral(message);
        self.open(&message[32..])
    }

    /// The responder's: e, ee.
    pub fn write_second(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut message = self.write_ephemeral().to_vec();
        self.agree();
        message.extend(self.seal(payload));
        message
    }

    pub fn read_second(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        self.read_ephemeral(message);
        self.agree();
        self.open(&message[32..])
    }

    /// The initiator's cipher and the responder's.
    pub fn split(&self) -> (Cipher, Cipher) {
        let [first, second] = hkdf(&self.chaining, &[]);
        (Cipher::new(first), Cipher::new(second))
    }
}

/// One end of a sealed socket.
#[derive(Clone)]
pub struct RawSeal {
    pub sends: Cipher,
    pub receives: Cipher,
    /// Of what was received and is no whole record yet.
    partial: Vec<u8>,
    /// The texts of the records that came, each by its length.
    pub lengths: Vec<usize>,
    /// What is put into one record at most.
    pub most: usize,
}

impl RawSeal {
    pub fn new(sends: Cipher, receives: Cipher) -> Self {
        let most = LARGEST_RECORD - TAG;
        Self { sends, receives, partial: Vec::new(), lengths: Vec::new(), most }
    }

    fn before(cipher: &mut Cipher) {
        if cipher.next > 0 && cipher.next.is_multiple_of(RECORDS_OF_A_KEY) {
            cipher.rekey();
        }
    }

    /// One record, its length included.
    pub fn record(&mut self, text: &[u8]) -> Vec<u8> {
        Self::before(&mut self.sends);
        let sealed = self.sends.seal(&[], text);
        let mut record = (sealed.len() as u16).to_be_bytes().to_vec();
        record.extend(sealed);
        record
    }

    /// As many records as the bytes need.
    pub fn seal(&mut self, bytes: &[u8]) -> Vec<u8> {
        let most = self.most;
        bytes.chunks(most).flat_map(|text| self.record(text)).collect()
    }

    /// Takes what was received, and gives the texts of what is whole. `Err` says what is wrong.
    pub fn open(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        self.partial.extend_from_slice(bytes);
        let mut text = Vec::new();
        let mut at = 0;
        while let Some(length) = self.partial.get(at..at + 2) {
            let length = usize::from(u16::from_be_bytes(array(length)));
            if length <= TAG {
                return Err(format!("a record of {length} bytes"));
            }
            let Some(sealed) = self.partial.get(at + 2..at + 2 + length) else { break };
            Self::before(&mut self.receives);
            let number = self.receives.next;
            let opened = self.receives.open(&[], sealed);
            let opened = opened.ok_or_else(|| format!("record {number} of {length} bytes does not open"))?;
            self.lengths.push(opened.len());
            text.extend(opened);
            at += 2 + length;
        }
        self.partial.drain(..at);
        Ok(text)
    }
}
