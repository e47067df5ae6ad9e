//! What was taken from the send queue and is on its way into the socket, or may be asked for again.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::socket::Socket;
use crate::proto::replay::Replay;
use crate::proto::segment::{Segment, Spare};

/// Slices of one vectored write.
const SLICES: usize = 128;

#[derive(Debug)]
pub(crate) struct Outbox {
    /// The end of the handshake, which is no part of the stream.
    ahead: Vec<u8>,
    replay: Replay,
}

/// How a write went; how many bytes of the stream that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wrote {
    /// All of what was offered.
    All(usize),
    /// The socket is full.
    Part(usize),
}

impl Outbox {
    /// `keep`: what was written is kept until it is acknowledged.
    pub(crate) fn new(ahead: Vec<u8>, keep: bool) -> Self {
        Self { ahead, replay: Replay::new(keep) }
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.replay.is_written()
    }

    /// Takes new segments; see [`Replay::extend`].
    pub(crate) fn extend(&mut self, fill: impl FnOnce(&mut VecDeque<Segment>) -> u64) {
        self.replay.extend(fill);
    }

    pub(crate) fn replay(&self) -> &Replay {
        &self.replay
    }

    pub(crate) fn acknowledge(&mut self, offset: u64, spare: &mut impl Spare) {
        self.replay.acknowledge(offset, spare);
    }

    /// The socket is gone, and with it what was to be said on it alone.
    pub(crate) fn suspend(&mut self) {
        self.ahead = Vec::new();
    }

    /// Whether what will be written is kept; only before anything is.
    pub(crate) fn keep(&mut self, keep: bool) {
        self.replay = Replay::new(keep);
    }

    /// The end of a new socket's handshake.
    pub(crate) fn put_ahead(&mut self, ahead: Vec<u8>) {
        self.ahead = ahead;
    }

    /// Goes on at `offset`. `false`: the stream does not reach that offset.
    pub(crate) fn resume(&mut self, offset: u64, spare: &mut impl Spare) -> bool {
        self.replay.rewind(offset, spare)
    }

    /// One write of as much as one call takes.
    pub(crate) fn write(&mut self, socket: &mut Socket, spare: &mut impl Spare) -> io::Result<Wrote> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut offered = 0;
        let ahead = Some(&*self.ahead).filter(|ahead| !ahead.is_empty());
        for part in ahead.into_iter().chain(self.replay.unwritten()).take(SLICES) {
            slices[count] = IoSlice::new(part);
            count += 1;
            offered += part.len();
        }
        match socket.write_vectored(&slices[..count]) {
            Ok(written) => {
                let before = written.min(self.ahead.len());
                if before > 0 {
                    self.ahead.drain(..before);
                }
                let stream = written - before;
                self.replay.advance(stream, spare);
                Ok(if written == offered { Wrote::All(stream) } else { Wrote::Part(stream) })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Wrote::Part(0)),
            Err(error) => Err(error),
        }
    }
}
