//! The seal of a socket, with the records that wait on either side of it.

use std::io;

use super::socket::Read;
use crate::proto::seal::{Front, MOST, OVERHEAD, Seal, front};
use crate::proto::segment::Spare;

/// So many bytes are sealed for one write at most, in the largest records.
const BATCH: usize = 2 * (MOST + OVERHEAD);

/// Of what a socket has carried, at most so much is lost when it is lost, because a record can be read only
/// when all of it has come: a record has at most this part of what went before it. Otherwise a link that is
/// cut again and again before a whole record is through would get nowhere.
const PART: u64 = 4;
/// A socket begins with records of at most this size.
const FIRST: usize = 4096;

/// What an operation fails with on a record that does not open. No system call fails with it.
pub(crate) const TAMPERED: io::ErrorKind = io::ErrorKind::InvalidData;

#[derive(Debug)]
pub(crate) struct Sealed {
    seal: Box<Seal>,
    /// Bytes of text that were sealed.
    carried: u64,
    /// Sealed, and not taken by the socket, from `at` on. Without a buffer while there is nothing.
    unwritten: Vec<u8>,
    at: usize,
    /// Read and not opened: the beginning of a record, or more of them than a pass's share.
    unopened: Vec<u8>,
    /// A whole record is among them.
    has_whole: bool,
}

impl Sealed {
    /// `ahead`: sealed bytes that go before all others. `early`: what came behind the handshake.
    pub(crate) fn new(seal: Box<Seal>, ahead: Vec<u8>, early: Vec<u8>) -> Self {
        let has_whole = !early.is_empty();
        Self { seal, carried: 0, unwritten: ahead, at: 0, unopened: early, has_whole }
    }

    /// Returns `true` if all that was sealed is written.
    pub(crate) fn is_clear(&self) -> bool {
        self.unwritten.is_empty()
    }

    pub(crate) fn memory(&self) -> usize {
        self.unwritten.capacity() + self.unopened.capacity()
    }

    // ---- to the socket

    /// Writes what was sealed before; and then, if all of that went out, as much of `parts` as one write may
    /// take, in records of at most `record` bytes of text, 1 to [`MOST`]. Returns how much of `parts` was
    /// sealed, and whether the socket took it all.
    ///
    /// `spare` is a buffer that all links share; one whose socket is full keeps it until it is not.
    pub(crate) fn write<'a, P: Iterator<Item = &'a [u8]>>(
        &mut self,
        parts: P,
        record: usize,
        spare: &mut Vec<u8>,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<(usize, bool)> {
        if !self.unwritten.is_empty() {
            self.at += taken(write(&self.unwritten[self.at..]))?;
            if self.at < self.unwritten.len() {
                return Ok((0, false));
            }
            self.at = 0;
            self.unwritten.clear();
        }
        let mut out = std::mem::take(&mut self.unwritten);
        if out.capacity() < spare.capacity() {
            out = std::mem::take(spare);
        }
        let sealed = self.seal_into(parts, record, &mut out);
        let written = if out.is_empty() { 0 } else { taken(write(&out))? };
        let all = written == out.len();
        if all {
            out.clear();
            *spare = out;
        } else {
            (self.unwritten, self.at) = (out, written);
        }
        Ok((sealed, all))
    }

    /// Seals what fits into one write.
    fn seal_into<'a>(
        &mut self,
        parts: impl Iterator<Item = &'a [u8]>,
        record: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        out.clear();
        let before = self.carried;
        let mut parts = Rest { part: &[], parts };
        loop {
            let part = usize::try_from(self.carried / PART).unwrap_or(usize::MAX);
            let most = record.min(part.max(FIRST));
            if out.len() + most + OVERHEAD > BATCH {
                break;
            }
            let text = self.seal.seal(out, most, Pieces { rest: &mut parts, left: most });
            if text == 0 {
                break;
            }
            self.carried += text as u64;
        }
        (self.carried - before) as usize
    }

    // ---- from the socket

    /// Reads behind what was not opened yet, into `bytes`: how many there are then, all of them to be opened.
    pub(crate) fn read(
        &mut self,
        bytes: &mut [u8],
        spare: &mut impl Spare,
        read: impl FnOnce(&mut [u8]) -> io::Result<Read>,
    ) -> io::Result<Read> {
        let before = self.unopened.len();
        let new = if std::mem::take(&mut self.has_whole) {
            0
        } else {
            match read(&mut bytes[before..])? {
                Read::Bytes(new) => new,
                other => return Ok(other),
            }
        };
        if before > 0 {
            bytes[..before].copy_from_slice(&self.unopened);
            self.unopened.clear();
            spare.put(std::mem::take(&mut self.unopened));
        }
        Ok(Read::Bytes(before + new))
    }

    /// Opens the record at the front of `bytes`: its text, and how long it is in all. `None`: it has not come
    /// whole.
    pub(crate) fn open<'a>(&mut self, bytes: &'a mut [u8]) -> io::Result<Option<(&'a [u8], usize)>> {
        let tampered = |_| io::Error::from(TAMPERED);
        match front(bytes).map_err(tampered)? {
            Front::Part => Ok(None),
            Front::Record(length) => {
                let text = self.seal.open(&mut bytes[..length]).map_err(tampered)?;
                Ok(Some((text, length)))
            }
        }
    }

    /// Keeps what is not to be opened now.
    pub(crate) fn keep(&mut self, bytes: &[u8], spare: &mut impl Spare) {
        self.has_whole = !matches!(front(bytes), Ok(Front::Part));
        if !bytes.is_empty() {
            self.unopened = spare.take(bytes.len());
            self.unopened.extend_from_slice(bytes);
        }
    }
}

fn taken(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

/// What is left of the parts, of which one may be taken in pieces.
struct Rest<'a, P> {
    part: &'a [u8],
    parts: P,
}

/// As many pieces of it as one record takes.
struct Pieces<'r, 'a, P> {
    rest: &'r mut Rest<'a, P>,
    left: usize,
}

impl<'a, P: Iterator<Item = &'a [u8]>> Iterator for Pieces<'_, 'a, P> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        if self.rest.part.is_empty() {
            self.rest.part = self.rest.parts.next()?;
        }
        let (piece, rest) = self.rest.part.split_at(self.rest.part.len().min(self.left));
        self.rest.part = rest;
        self.left -= piece.len();
        Some(piece)
    }
}

#[cfg(all(test, feature = "sealed", not(trunkline_loom)))]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::proto::seal::{Initiator, Responder};
    use crate::proto::segment::Fresh;

    fn pair() -> (Sealed, Sealed) {
        let key = Key::generate();
        let (initiator, message) = Initiator::new(&key, b"").unwrap();
        let (message, there) = Responder::new(&key, b"", &message).unwrap().answer(&[7; 8]).unwrap();
        let (payload, here) = initiator.finish(&message).unwrap();
        assert_eq!(payload, [7; 8]);
        let sealed = |seal| Sealed::new(Box::new(seal), Vec::new(), Vec::new());
        (sealed(here), sealed(there))
    }

    /// Whatever the socket takes and gives at a time, and however the text is cut into parts and records: it
    /// arrives.
    #[test]
    fn text_arrives_however_it_is_cut() {
        let text: Vec<u8> = (0..200_000_u32).map(|n| (n / 3) as u8).collect();
        for (parts, record, takes, gives) in
            [(1, 1, 7, 3), (100, 1024, 1000, 999), (65_536, MOST, 70_000, 100_000), (7, 64, 64, usize::MAX)]
        {
            let text = &text[..text.len().min(parts * record * 3).max(1000)];
            let (mut here, mut there) = pair();
            let (mut wire, mut out, mut got) = (Vec::new(), Vec::new(), Vec::new());
            let mut at = 0;
            while at < text.len() || !here.is_clear() {
                let mut room = takes;
                let (sealed, _) = here
                    .write(text[at..].chunks(parts), record, &mut out, |bytes| {
                        let take = bytes.len().min(std::mem::take(&mut room));
                        wire.extend_from_slice(&bytes[..take]);
                        Ok(take)
                    })
                    .unwrap();
                at += sealed;
            }
            let mut scratch = vec![0; 256 * 1024];
            let mut rest = &wire[..];
            while !rest.is_empty() || there.has_whole {
                let read = there.read(&mut scratch, &mut Fresh, |room| {
                    let take = rest.len().min(gives).min(room.len());
                    room[..take].copy_from_slice(&rest[..take]);
                    rest = &rest[take..];
                    Ok(Read::Bytes(take))
                });
                let Ok(Read::Bytes(read)) = read else { panic!() };
                let mut begin = 0;
                while let Some((text, length)) = there.open(&mut scratch[begin..read]).unwrap() {
                    assert!(text.len() <= record);
                    got.extend_from_slice(text);
                    begin += length;
                }
                there.keep(&scratch[begin..read], &mut Fresh);
            }
            assert_eq!(got, text);
            assert!(there.unopened.is_empty());
        }
    }
}
