//! What a reader has fetched and not given out, as one stream: bytes, and the ends and gaps between
//! them, each at its place. It has no locks and no threads; every call of a reader is a view of it.

use std::collections::VecDeque;
use std::ops::Deref;

use crate::error::RecvError;
use crate::message::Message;

/// Messages up to this size that come behind others are put together: a line that comes byte by byte
/// must not cost a message's memory for each.
const SMALL: usize = 512;
/// How large such a chunk gets.
const CHUNK: usize = 64 * 1024;

#[derive(Debug)]
enum Chunk {
    Message(Message),
    Gathered(Vec<u8>),
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Message(message) => message,
            Self::Gathered(bytes) => bytes,
        }
    }
}

/// One piece of the stream.
#[derive(Debug)]
enum Part {
    /// Bytes, from the one that is given out next; there is one.
    Bytes(Chunk, usize),
    /// The end of a run, or a gap. `told`: a reader of lines has told it, because it cut a line.
    Break { why: RecvError, told: bool },
}

/// What stands at the front of the stream.
#[derive(Debug)]
pub(super) enum Front {
    Bytes,
    Break,
    Nothing,
}

/// Where the next line ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LineEnd {
    /// After so many bytes, of which the last is the delimiter.
    Delimiter(usize),
    /// There are so many bytes without a delimiter, and then the end of the run: they are the last
    /// line.
    Finish(usize),
    /// There are so many bytes without a delimiter, perhaps none, and then something that cuts the
    /// line.
    Cut(usize),
    /// There are so many bytes, and the line goes on.
    Open(usize),
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    parts: VecDeque<Part>,
    /// How many of them are breaks, and the bytes before the first.
    breaks: usize,
    run: usize,
    searched: Searched,
}

/// How much of the front has been searched for a delimiter that is not there.
#[derive(Debug, Default)]
struct Searched {
    delimiter: u8,
    /// Whole parts, the bytes of which are still in the stream, and how much of the next part.
    parts: usize,
    bytes: usize,
    beyond: usize,
}

impl Stream {
    /// Appends a message. An empty one is no part of a stream of bytes.
    pub(super) fn push(&mut self, message: Message) {
        if message.is_empty() {
            return;
        }
        if self.breaks == 0 {
            self.run += message.len();
        }
        if message.len() <= SMALL {
            match self.parts.back_mut() {
                Some(Part::Bytes(Chunk::Gathered(bytes), _)) if bytes.len() < CHUNK => {
                    return bytes.extend_from_slice(&message);
                }
                Some(Part::Bytes(..)) => {
                    let gathered = Chunk::Gathered(message.to_vec());
                    return self.parts.push_back(Part::Bytes(gathered, 0));
                }
                Some(Part::Break { .. }) | None => {}
            }
        }
        self.parts.push_back(Part::Bytes(Chunk::Message(message), 0));
    }

    /// Appends the end of a run, or a gap.
    pub(super) fn push_break(&mut self, why: RecvError) {
        self.breaks += 1;
        self.parts.push_back(Part::Break { why, told: false });
    }

    /// What comes next. Breaks that were told are passed over.
    pub(super) fn front(&mut self) -> Front {
        while matches!(self.parts.front(), Some(Part::Break { told: true, .. })) {
            self.take_break();
        }
        match self.parts.front() {
            Some(Part::Bytes(..)) => Front::Bytes,
            Some(Part::Break { .. }) => Front::Break,
            None => Front::Nothing,
        }
    }

    /// The bytes at the front; empty if there are none.
    pub(super) fn bytes(&self) -> &[u8] {
        match self.parts.front() {
            Some(Part::Bytes(chunk, at)) => &chunk[*at..],
            _ => &[],
        }
    }

    /// So many bytes of the front were given out.
    pub(super) fn consume(&mut self, mut amount: usize) {
        while amount > 0
            && let Some(Part::Bytes(chunk, at)) = self.parts.front_mut()
        {
            let taken = amount.min(chunk.len() - *at);
            *at += taken;
            amount -= taken;
            self.run -= taken;
            let gone = *at == chunk.len();
            let searched = &mut self.searched;
            if searched.parts > 0 {
                searched.bytes -= taken;
                searched.parts -= usize::from(gone);
            } else {
                searched.beyond = searched.beyond.saturating_sub(taken);
            }
            if gone {
                self.parts.pop_front();
            }
        }
    }

    /// Takes the break at the front.
    pub(super) fn take_break(&mut self) -> Option<RecvError> {
        if !matches!(self.parts.front(), Some(Part::Break { .. })) {
            return None;
        }
        let Some(Part::Break { why, .. }) = self.parts.pop_front() else { return None };
        self.breaks -= 1;
        let bytes = self.parts.iter().map_while(|part| match part {
            Part::Bytes(chunk, at) => Some(chunk.len() - at),
            Part::Break { .. } => None,
        });
        self.run = bytes.sum();
        Some(why)
    }

    /// Finds where the next line ends.
    pub(super) fn find_line(&mut self, delimiter: u8) -> LineEnd {
        if self.searched.delimiter != delimiter {
            self.searched = Searched { delimiter, ..Searched::default() };
        }
        let searched = &mut self.searched;
        while let Some(Part::Bytes(chunk, at)) = self.parts.get(searched.parts) {
            let bytes = &chunk[*at..];
            let from = searched.beyond;
            if let Some(found) = bytes[from..].iter().position(|&byte| byte == delimiter) {
                return LineEnd::Delimiter(searched.bytes + from + found + 1);
            }
            // The last chunk may still grow.
            if searched.parts + 1 == self.parts.len() {
                searched.beyond = bytes.len();
                return LineEnd::Open(self.run);
            }
            searched.bytes += bytes.len();
            searched.parts += 1;
            searched.beyond = 0;
        }
        match self.parts.get(searched.parts) {
            Some(Part::Break { why: RecvError::Finished, .. }) if self.run > 0 => LineEnd::Finish(self.run),
            Some(Part::Break { .. }) => LineEnd::Cut(self.run),
            _ => LineEnd::Open(self.run),
        }
    }

    /// A line is cut, so many bytes before a break. The first time the break is told, and the bytes stay
    /// for a reader of bytes; then both are dropped.
    pub(super) fn cut_line(&mut self, before: usize) -> Option<RecvError> {
        let at = self.parts.iter().position(|part| matches!(part, Part::Break { .. }))?;
        let Part::Break { why, told } = &mut self.parts[at] else { return None };
        let told_before = std::mem::replace(told, true);
        if before > 0 && !told_before {
            return Some(why.clone());
        }
        self.consume(before);
        self.take_break().filter(|_| !told_before)
    }

    /// Copies as many bytes of the front as there is room for.
    pub(super) fn copy_to(&self, mut room: &mut [u8]) {
        for part in &self.parts {
            let Part::Bytes(chunk, at) = part else { break };
            let bytes = &chunk[*at..];
            let (to, rest) = room.split_at_mut(bytes.len().min(room.len()));
            to.copy_from_slice(&bytes[..to.len()]);
            room = rest;
        }
    }

    /// Copies so many bytes of the front.
    pub(super) fn copy(&self, amount: usize) -> Vec<u8> {
        let mut copy = Vec::with_capacity(amount);
        for part in &self.parts {
            let Part::Bytes(chunk, at) = part else { break };
            let bytes = &chunk[*at..];
            copy.extend_from_slice(&bytes[..bytes.len().min(amount - copy.len())]);
            if copy.len() == amount {
                break;
            }
        }
        copy
    }

    #[cfg(all(test, not(trunkline_loom)))]
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Returns how many bytes stand before the first break, and `true` if there is one.
    pub(super) fn run(&self) -> (usize, bool) {
        (self.run, self.breaks > 0)
    }
}
