//! What a test sends, followed: no judge, but it knows what the library may answer.

use super::Frame;
use super::keys::array;

/// Cuts a stream into frames again, for as long as it is one.
#[derive(Default)]
pub(super) struct Ledger {
    /// The word and what has come of a control frame's payload.
    begun: Vec<u8>,
    /// What is to come of a data frame's payload.
    skip: usize,
    /// What was sent is no stream of frames; nothing can be said about the answer.
    pub lost: bool,
}

pub(super) enum Entry<'a> {
    Data {
        channel: u8,
        more: bool,
        len: usize,
    },
    Control {
        channel: u8,
        opcode: u8,
        body: &'a [u8],
        /// How many bytes of those that were fed come after it.
        after: usize,
    },
}

impl Ledger {
    pub fn is_between_frames(&self) -> bool {
        self.begun.is_empty() && self.skip == 0
    }

    pub fn feed(&mut self, mut bytes: &[u8], mut enter: impl FnMut(Entry<'_>)) {
        while !bytes.is_empty() && !self.lost {
            let wanted = match self.begun.get(..4) {
                None if self.skip > 0 => {
                    let skipped = self.skip.min(bytes.len());
                    self.skip -= skipped;
                    bytes = &bytes[skipped..];
                    continue;
                }
                None => 4,
                Some(word) => 4 + Frame::check_word(array(word)).expect("the word was checked"),
            };
            let taken = (wanted - self.begun.len()).min(bytes.len());
            self.begun.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.begun.len() < wanted {
                return;
            }
            let word: [u8; 4] = array(&self.begun[..4]);
            let channel = word[0] & 0x7F;
            if wanted > 4 {
                let (opcode, body) = (self.begun[4], &self.begun[5..]);
                enter(Entry::Control { channel, opcode, body, after: bytes.len() });
                self.begun.clear();
                continue;
            }
            match Frame::check_word(word) {
                Err(_) => self.lost = true,
                Ok(len) if word[0] >> 7 == 0 => {
                    enter(Entry::Data { channel, more: word[1] >> 7 == 1, len });
                    self.skip = len;
                    self.begun.clear();
                }
                Ok(_) => {}
            }
        }
    }
}
