//! What is kept for replay, beside a plain model of it.

use bytes::Bytes;

use super::input::Input;
use crate::proto::replay::Replay;
use crate::proto::segment::{Fresh, Segment};

/// Pushes, writes, acknowledges and rewinds as the input says: what comes out is the stream, from
/// exactly where the cursor was put, and an offset that the peer cannot stand at changes nothing.
pub fn replay(data: &[u8]) {
    let mut input = Input(data);
    let mut model = Model::new(!input.byte().is_multiple_of(8));
    while !input.0.is_empty() {
        model.step(&mut input);
        assert_eq!(model.replay.is_written(), model.cursor == model.end);
    }
    model.check_tail();
    model.write(usize::MAX);
    assert!(model.replay.is_written());
    model.check_tail();
}

struct Model {
    replay: Replay,
    keep: bool,
    /// The offsets, as in the picture in `proto/replay.rs`.
    acked: u64,
    cursor: u64,
    written: u64,
    end: u64,
    /// Where each segment that was pushed ends, for the one that keeps nothing.
    ends: Vec<u64>,
}

/// So many bytes of the stream: what a byte is depends on its offset.
fn stream(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|offset| (offset.wrapping_mul(0x9E37_79B9) >> 11) as u8).collect()
}

impl Model {
    fn new(keep: bool) -> Self {
        let replay = Replay::new(keep);
        Self { replay, keep, acked: 0, cursor: 0, written: 0, end: 0, ends: Vec::new() }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 8 {
            0..=2 => {
                let segments: Vec<_> = (0..=input.byte() % 3).map(|_| self.segment(input)).collect();
                let end = self.end;
                self.replay.extend(|queue| {
                    queue.extend(segments);
                    end
                });
            }
            3 | 4 => {
                let most = usize::from(input.byte()) << (input.byte() % 8);
                self.write(most);
            }
            5 => {
                let offset = self.offset(input);
                self.replay.acknowledge(offset, &mut Fresh);
                if self.keep {
                    self.acked = self.acked.max(offset.min(self.cursor));
                }
            }
            _ => {
                let offset = self.offset(input);
                let fits = self.keep && (self.acked..=self.written).contains(&offset);
                assert_eq!(self.replay.reaches(offset), fits);
                assert_eq!(self.replay.rewind(offset, &mut Fresh), fits);
                if fits {
                    (self.cursor, self.acked) = (offset, offset);
                }
            }
        }
    }

    /// The next piece of the stream, in a buffer that may be much larger.
    fn segment(&mut self, input: &mut Input<'_>) -> Segment {
        let kind = input.byte();
        let len = 1 + (usize::from(input.byte()) << (kind & 3));
        let bytes = stream(self.end, len);
        self.end += len as u64;
        self.ends.push(self.end);
        if kind & 4 == 0
            && let Some((word, payload)) = bytes.split_first_chunk()
        {
            return Segment::Large { word: *word, payload: Bytes::copy_from_slice(payload) };
        }
        let mut buffer = Vec::with_capacity(bytes.len() + (usize::from(kind >> 4) << 8));
        buffer.extend(bytes);
        Segment::Frames(buffer)
    }

    /// An offset at or near one that means something, or any.
    fn offset(&self, input: &mut Input<'_>) -> u64 {
        let near = match input.byte() % 8 {
            0 | 1 => self.acked,
            2 | 3 => self.cursor,
            4 => self.written,
            5 => self.end,
            6 => self.acked + (self.written - self.acked) * u64::from(input.byte()) / 256,
            _ => return input.number(),
        };
        (near + u64::from(input.byte() % 16)).saturating_sub(u64::from(input.byte() % 16))
    }

    fn write(&mut self, most: usize) {
        let mut left = most;
        let mut offset = self.cursor;
        for part in self.replay.unwritten() {
            assert!(!part.is_empty());
            let taken = part.len().min(left);
            assert!(part[..taken] == *stream(offset, taken), "not the {taken} bytes at {offset}");
            offset += taken as u64;
            left -= taken;
        }
        assert_eq!(offset - self.cursor, (self.end - self.cursor).min(most as u64));
        self.replay.advance((offset - self.cursor) as usize, &mut Fresh);
        self.cursor = offset;
        self.written = self.written.max(offset);
        if !self.keep {
            self.acked = self.ends.iter().copied().rfind(|&end| end <= offset).unwrap_or(0);
        }
    }

    fn check_tail(&self) {
        let tail = self.replay.tail(1000);
        if self.keep && self.end - self.acked <= 1000 {
            let (at, bytes) = tail.expect("a tail that is short enough");
            assert_eq!(at, self.acked);
            assert!(bytes == stream(self.acked, (self.end - self.acked) as usize));
        } else {
            assert_eq!(tail, None);
        }
    }
}
