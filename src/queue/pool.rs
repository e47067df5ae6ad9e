//! Emptied buffers, shared by all connections of an I/O thread.
//!
//! A buffer is lent only while it holds something, so an idle connection has none, and a busy one
//! allocates none.

use super::sync::Mutex;
use crate::proto::inbound::{PIECE, SMALL};
use crate::proto::outbound::SEGMENT;
use crate::proto::segment::Spare;

/// The sizes of buffers, and how many of each are kept at most (together about 6 MiB).
const CLASSES: [(usize, usize); 3] = [(2048, 256), (PIECE + SMALL + 64, 64), (SEGMENT, 64)];

#[derive(Debug, Default)]
pub(crate) struct Pool {
    state: Mutex<[Vec<Vec<u8>>; CLASSES.len()]>,
}

impl Spare for &Pool {
    fn take(&mut self, room: usize) -> Vec<u8> {
        let Some(class) = CLASSES.iter().position(|(size, _)| *size >= room) else {
            return Vec::with_capacity(room);
        };
        let kept = self.state.lock()[class].pop();
        kept.unwrap_or_else(|| Vec::with_capacity(CLASSES[class].0))
    }

    fn put(&mut self, mut buffer: Vec<u8>) {
        let Some(class) = CLASSES.iter().position(|(size, _)| *size == buffer.capacity()) else { return };
        buffer.clear();
        let mut state = self.state.lock();
        if state[class].len() < CLASSES[class].1 {
            state[class].push(buffer);
        }
    }
}
