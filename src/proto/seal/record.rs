//! The records of a sealed socket: each direction's key and count, sealed and opened in place.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use super::{LENGTH, MOST, TAG, Tampered};

/// A key seals no more records than this (protocol, section 8).
const RECORDS: u64 = 65_536;

/// Both directions of a sealed socket.
pub(crate) struct Seal {
    sends: Direction,
    receives: Direction,
}

impl Seal {
    /// The keys are wiped here.
    pub(super) fn new(sends: &mut [u8; 32], receives: &mut [u8; 32]) -> Self {
        Self { sends: Direction::new(sends, RECORDS), receives: Direction::new(receives, RECORDS) }
    }

    /// Appends one record to `out`, with as much of `parts` as fits into `most` bytes. Returns how much that
    /// was; nothing is appended if it is nothing.
    pub(crate) fn seal<'a>(
        &mut self,
        out: &mut Vec<u8>,
        most: usize,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> usize {
        let begin = out.len();
        let mut left = most.min(MOST);
        out.extend_from_slice(&[0; LENGTH]);
        for part in parts {
            let take = part.len().min(left);
            out.extend_from_slice(&part[..take]);
            left -= take;
            if left == 0 {
                break;
            }
        }
        let text = begin + LENGTH;
        let sealed = out.len() - text;
        if sealed == 0 {
            out.truncate(begin);
            return 0;
        }
        let tag = self.sends.seal(&mut out[text..]);
        out.extend_from_slice(&tag);
        // At most 65,535, as `MOST` says.
        let length = ((sealed + TAG) as u16).to_be_bytes();
        out[begin..text].copy_from_slice(&length);
        sealed
    }

    /// Opens a whole record, its length included, and returns its text.
    pub(crate) fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<&'a mut [u8], Tampered> {
        self.receives.open(record.get_mut(LENGTH..).ok_or(Tampered)?)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

struct Direction {
    key: LessSafeKey,
    /// The number of the next record.
    next: u64,
    records: u64,
}

impl Direction {
    fn new(key: &mut [u8; 32], records: u64) -> Self {
        Self { key: take(key), next: 0, records }
    }

    /// The nonce of the next record, for which the key is changed when its time has come.
    fn nonce(&mut self) -> Nonce {
        let number = self.next;
        // 2⁶⁴ records of one byte take longer than any socket lives.
        self.next += 1;
        if number > 0 && number.is_multiple_of(self.records) {
            self.rekey();
        }
        nonce(number)
    }

    /// Noise, section 11.3 and 4.2: the first 32 bytes of what the old key makes of 32 zeros.
    #[cold]
    fn rekey(&mut self) {
        let mut next = [0; 32];
        let sealed = self.key.seal_in_place_separate_tag(nonce(u64::MAX), Aad::empty(), &mut next);
        debug_assert!(sealed.is_ok(), "32 bytes are not too many");
        self.key = take(&mut next);
    }

    fn seal(&mut self, text: &mut [u8]) -> [u8; TAG] {
        let nonce = self.nonce();
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), text);
        let tag = sealed.expect("a record is shorter than what AES-GCM can seal");
        *tag.as_ref().first_chunk().expect("the tag of AES-GCM has 16 bytes")
    }

    fn open<'a>(&mut self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Tampered> {
        let nonce = self.nonce();
        self.key.open_in_place(nonce, Aad::empty(), sealed).map_err(|_| Tampered)
    }
}

fn take(key: &mut [u8; 32]) -> LessSafeKey {
    let taken = UnboundKey::new(&AES_256_GCM, key).expect("a key of AES-256 has 32 bytes");
    key.zeroize();
    LessSafeKey::new(taken)
}

/// As the Noise framework has it for AES-GCM: 32 zero bits and the number, big-endian.
fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{Front, OVERHEAD, front};
    use super::*;

    fn pair(records: u64) -> (Seal, Seal) {
        let direction = |byte| Direction::new(&mut [byte; 32], records);
        (
            Seal { sends: direction(1), receives: direction(2) },
            Seal { sends: direction(2), receives: direction(1) },
        )
    }

    #[test]
    fn a_key_is_wiped_where_it_is_taken() {
        let (mut one, mut other) = ([1; 32], [2; 32]);
        Seal::new(&mut one, &mut other);
        assert_eq!((one, other), ([0; 32], [0; 32]));
    }

    #[test]
    fn records_of_all_sizes_open_and_change_keys_together() {
        for records in [1, 2, 3, 7] {
            let (mut here, mut there) = pair(records);
            let mut out = Vec::new();
            for size in [1, 2, 15, 16, 17, 255, 256, 257, MOST - 1, MOST, 1, 1, 1, 1] {
                for _ in 0..2 {
                    std::mem::swap(&mut here, &mut there);
                    out.clear();
                    let text = vec![size as u8; size];
                    let (front_half, back_half) = text.split_at(size / 2);
                    assert_eq!(here.seal(&mut out, MOST, [front_half, &[], back_half].into_iter()), size);
                    assert_eq!(out.len(), size + OVERHEAD);
                    assert_eq!(front(&out), Ok(Front::Record(out.len())));
                    assert_eq!(there.open(&mut out).unwrap(), text);
                }
            }
        }
    }

    /// The key changes before record N, and not before N − 1 or N + 1.
    #[test]
    fn the_key_changes_at_exactly_its_record() {
        for number in 0..10 {
            let mut direction = Direction::new(&mut [1; 32], 4);
            let mut unchanged = Direction::new(&mut [1; 32], u64::MAX);
            direction.next = number;
            unchanged.next = number;
            let (mut one, mut other) = (*b"text", *b"text");
            direction.seal(&mut one);
            unchanged.seal(&mut other);
            assert_eq!(one != other, number == 4 || number == 8, "{number}");
        }
    }

    /// Another implementation of AES-GCM agrees, past nonces of one and of two bytes, and past the changes of
    /// the key before records 65,536 and 131,072.
    #[test]
    fn nonces_and_keys_are_those_of_the_noise_framework() {
        use aes_gcm::aead::{Aead, KeyInit};
        use aes_gcm::{Aes256Gcm, Nonce};

        let nonce = |number: u64| {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&number.to_be_bytes());
            Nonce::from(nonce)
        };
        let cipher = |key: &[u8; 32]| Aes256Gcm::new_from_slice(key).unwrap();
        let mut direction = Direction::new(&mut [5; 32], RECORDS);
        let mut key = [5; 32];
        for number in 0..2 * RECORDS + 2 {
            if number > 0 && number.is_multiple_of(RECORDS) {
                let next = cipher(&key).encrypt(&nonce(u64::MAX), &[0; 32][..]).unwrap();
                key = *next.first_chunk().unwrap();
            }
            let mut sealed = [7; 4];
            let tag = direction.seal(&mut sealed);
            let near = |border: u64| number.abs_diff(border) < 3;
            if number < 3 || [256, 65_536, 131_072].into_iter().any(near) {
                let expected = cipher(&key).encrypt(&nonce(number), &[7; 4][..]).unwrap();
                assert_eq!([&sealed[..], &tag[..]].concat(), expected, "record {number}");
            }
        }
    }

    #[test]
    fn every_bit_of_a_record_counts_and_nothing_opens_twice() {
        let mut whole = Vec::new();
        pair(RECORDS).0.seal(&mut whole, MOST, std::iter::once(&b"some text"[..]));
        for bit in LENGTH * 8..whole.len() * 8 {
            let mut broken = whole.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(pair(RECORDS).1.open(&mut broken), Err(Tampered), "bit {bit}");
        }
        let mut there = pair(RECORDS).1;
        there.open(&mut whole.clone()).unwrap();
        assert_eq!(there.open(&mut whole.clone()), Err(Tampered), "a record that came before");
        assert_eq!(pair(RECORDS).0.open(&mut whole), Err(Tampered), "a record of the other direction");
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_anything_is_waited_for() {
        for length in 0..=16_u16 {
            assert_eq!(front(&length.to_be_bytes()), Err(Tampered));
        }
        assert_eq!(front(&17_u16.to_be_bytes()), Ok(Front::Part));
        assert_eq!(front(&[0]), Ok(Front::Part));
        let mut largest = vec![0xFF; 2 + 65_535];
        assert_eq!(front(&largest), Ok(Front::Record(65_537)));
        largest.pop();
        assert_eq!(front(&largest), Ok(Front::Part));
    }
}
