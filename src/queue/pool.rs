//! Emptied buffers, shared by all connections of an I/O thread.
//!
//! A buffer is lent only while it holds something, so an idle connection has none, and a busy one
//! allocates none.

use std::sync::Arc;

use bytes::Bytes;

use super::sync::Mutex;
use crate::proto::frame::MAX_DATA;
use crate::proto::inbound::{LOOKAHEAD, PIECE, SMALL};
use crate::proto::segment::Spare;

/// The payload of a frame of the largest size, or a segment.
const LARGE: usize = MAX_DATA + LOOKAHEAD;
/// The sizes of buffers, and how many of each are kept at most (together about 6 MiB).
const CLASSES: [(usize, usize); 3] = [(2048, 256), (PIECE + SMALL + 64, 64), (LARGE, 64)];

#[derive(Debug, Default)]
pub(crate) struct Pool {
    state: Mutex<[Vec<Vec<u8>>; CLASSES.len()]>,
}

impl Pool {
    /// A buffer for one message, which keeps it for as long as the application does: so only what
    /// fills a large one gets one from here, and the rest have one of their own size.
    pub(crate) fn lend(&self, room: usize) -> Vec<u8> {
        if (LARGE / 10 * 9..=LARGE).contains(&room) {
            (&mut &*self).take(room)
        } else {
            Vec::with_capacity(room)
        }
    }

    /// A message that gives its buffer back when it is dropped.
    pub(crate) fn share(pool: &Arc<Self>, message: Vec<u8>) -> Bytes {
        if message.capacity() == LARGE {
            Bytes::from_owner(Shared { message, pool: Arc::clone(pool) })
        } else {
            Bytes::from(message)
        }
    }
}

struct Shared {
    message: Vec<u8>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        (&mut &*self.pool).put(std::mem::take(&mut self.message));
    }
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
