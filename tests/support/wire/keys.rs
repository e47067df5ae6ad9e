//! Keys, proofs, and the bytes of numbers.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub type RawKey = [u8; 32];

/// The first 8 bytes of SHA-256("trunkline key id" ‖ key).
pub fn key_id(key: &RawKey) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update(b"trunkline key id");
    hash.update(key);
    array(&hash.finalize()[..8])
}

/// HMAC-SHA256(key, parts joined).
pub fn mac(key: &RawKey, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key length");
    for part in parts {
        mac.update(part);
    }
    array(&mac.finalize().into_bytes())
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller sliced the right size")
}

pub(super) fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes(array(bytes))
}

pub(super) fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(array(bytes))
}

pub(super) fn be64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(array(bytes))
}

pub(super) fn be128(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(array(bytes))
}

/// The bytes as somebody on the way leaves them.
pub(super) fn flipped<const N: usize>(mut bytes: [u8; N], flip: Option<(usize, u8)>) -> [u8; N] {
    if let Some((at, mask)) = flip {
        bytes[at] ^= mask;
    }
    bytes
}
