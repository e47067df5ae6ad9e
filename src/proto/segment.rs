//! Pieces of an encoded frame stream, each cut at a frame boundary.

use bytes::Bytes;

use super::frame::WORD;

/// A piece of the stream that goes to the socket as it is.
#[derive(Debug)]
pub(crate) enum Segment {
    /// Frames, one after the other.
    Frames(Vec<u8>),
    /// One frame whose payload is not copied.
    Large { word: [u8; WORD], payload: Bytes },
}

impl Segment {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Frames(bytes) => bytes.len(),
            Self::Large { payload, .. } => WORD + payload.len(),
        }
    }

    /// A payload that was not copied, which may be the user's memory.
    pub(crate) fn into_payload(self) -> Option<Bytes> {
        match self {
            Self::Frames(_) => None,
            Self::Large { payload, .. } => Some(payload),
        }
    }

    /// The memory that it holds: capacities, not only the bytes.
    pub(crate) fn memory(&self) -> usize {
        match self {
            Self::Frames(bytes) => bytes.capacity(),
            Self::Large { payload, .. } => payload.len(),
        }
    }

    /// The two parts of its bytes, the second perhaps empty.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        match self {
            Self::Frames(bytes) => [bytes, &[]],
            Self::Large { word, payload } => [word, payload],
        }
    }
}

/// Where emptied buffers wait for their next use, so that a busy connection allocates nothing.
pub(crate) trait Spare {
    /// An empty buffer with room for at least `room` bytes.
    fn take(&mut self, room: usize) -> Vec<u8>;
    /// Gives a buffer back; its contents are forgotten.
    fn put(&mut self, buffer: Vec<u8>);
}

/// A [`Spare`] for tests and fuzzing: always a fresh buffer.
#[cfg(any(test, fuzzing))]
#[derive(Debug, Default)]
pub(crate) struct Fresh;

#[cfg(any(test, fuzzing))]
impl Spare for Fresh {
    fn take(&mut self, room: usize) -> Vec<u8> {
        Vec::with_capacity(room)
    }

    fn put(&mut self, _: Vec<u8>) {}
}
