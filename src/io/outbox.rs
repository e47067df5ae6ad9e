//! What was taken from the send queue and is on its way into the socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::socket::Socket;
use crate::proto::segment::{Segment, Spare};

/// Slices of one vectored write: half of them segments with two parts.
const SLICES: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) segments: VecDeque<Segment>,
    /// How much of the first segment is written.
    offset: usize,
}

/// How a write went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wrote {
    /// All of what was offered.
    All(usize),
    /// The socket is full.
    Part(usize),
}

impl Outbox {
    pub(crate) fn new(first: Vec<u8>) -> Self {
        let first = if first.is_empty() { None } else { Some(Segment::Frames(first)) };
        Self { segments: first.into_iter().collect(), offset: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// One write of as much as one call takes.
    pub(crate) fn write(&mut self, socket: &mut Socket, spare: &mut impl Spare) -> io::Result<Wrote> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut offered = 0;
        let mut skip = self.offset;
        for segment in self.segments.iter().take(SLICES / 2) {
            for part in segment.parts() {
                let skipped = skip.min(part.len());
                let part = &part[skipped..];
                skip -= skipped;
                if !part.is_empty() {
                    slices[count] = IoSlice::new(part);
                    count += 1;
                    offered += part.len();
                }
            }
        }
        match socket.write_vectored(&slices[..count]) {
            Ok(written) => {
                self.advance(written, spare);
                Ok(if written == offered { Wrote::All(written) } else { Wrote::Part(written) })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Wrote::Part(0)),
            Err(error) => Err(error),
        }
    }

    fn advance(&mut self, written: usize, spare: &mut impl Spare) {
        self.offset += written;
        while let Some(first) = self.segments.front() {
            let len = first.len();
            if self.offset < len {
                break;
            }
            self.offset -= len;
            if let Some(Segment::Frames(buffer)) = self.segments.pop_front() {
                spare.put(buffer);
            }
        }
    }
}
