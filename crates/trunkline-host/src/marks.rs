//! Two pipes and a connection put back into one order: a value without descriptors and clock.
//!
//! An interpreter writes standard output and standard error to two pipes, so that what its children and its C
//! code write is in them too, and sends its statuses and pictures over a connection. The order between the three
//! is lost, unless marks tell it.
//!
//! # What the interpreter does
//!
//! It counts from 1. Before it writes to another stream than the last time, and with each status or picture
//! (a *frame*), it takes the next number and writes the same [`mark`] to both pipes, each with one `write`, which a pipe
//! takes whole. A mark says what is written next: one of the streams, or a frame. A frame is sent with its
//! number, behind everything that the interpreter has flushed, and before the marks of that number.
//!
//! # What the host does
//!
//! It reads the pipes and the connection as they come, gives what it reads to a [`Merge`], and passes on what
//! that gives back. Behind a mark on one pipe it waits for the same mark on the other. It does not wait for ever:
//! a pipe that an interpreter has redirected brings no marks.
//!
//! ```
//! use std::time::Instant;
//! use trunkline_host::marks::{Merge, Merged, Next, mark};
//! use trunkline_host::Stream::{Stderr, Stdout};
//!
//! let (token, now) = ([7; 16], Instant::now());
//! let mut merge = Merge::new(token);
//! let one = mark(&token, 1, Next::Stderr);
//! let two = mark(&token, 2, Next::Frame);
//! // The host happens to read standard output first.
//! merge.read(Stdout, &[b"before ".as_slice(), &one, &two].concat(), true, now);
//! merge.read(Stderr, &[one.as_slice(), b"error ", &two].concat(), true, now);
//! merge.frame(2, "idle 1", now);
//! assert_eq!(merge.next(now), Some(Merged::Output(Stdout, "before ".into())));
//! assert_eq!(merge.next(now), Some(Merged::Output(Stderr, "error ".into())));
//! assert_eq!(merge.next(now), Some(Merged::Frame("idle 1")));
//! assert_eq!(merge.next(now), None);
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use memchr::memmem;

use crate::program::Stream;

/// What tells a mark from other output: bytes that the host has drawn at random for this interpreter.
pub type Token = [u8; 16];

/// How long a mark is, in bytes. Pipes take 512 at least in one piece.
pub const MARK: usize = 24;
/// How long a mark, or the frame that it announces, is waited for while nothing comes.
const PATIENCE: Duration = Duration::from_millis(250);
/// From how many bytes on that wait a stream is not to be read.
const HELD: usize = 256 * 1024;

/// What the interpreter writes behind a mark.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Next {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A frame with the number of the mark.
    Frame,
}

/// Returns a mark: the token, the number in 7 bytes, the lowest first, and 1, 2 or 3 for what comes next.
#[must_use]
pub fn mark(token: &Token, number: u64, next: Next) -> [u8; MARK] {
    let mut bytes = [0; MARK];
    bytes[..16].copy_from_slice(token);
    bytes[16..23].copy_from_slice(&number.to_le_bytes()[..7]);
    bytes[23] = match next {
        Next::Stdout => 1,
        Next::Stderr => 2,
        Next::Frame => 3,
    };
    bytes
}

fn read_mark(bytes: &[u8]) -> Option<(u64, Next)> {
    let mut number = [0; 8];
    number[..7].copy_from_slice(bytes.get(16..23)?);
    let next = match bytes.get(23)? {
        1 => Next::Stdout,
        2 => Next::Stderr,
        3 => Next::Frame,
        _ => return None,
    };
    Some((u64::from_le_bytes(number), next))
}

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Merged<F> {
    /// Output, without marks.
    Output(Stream, Bytes),
    /// A frame.
    Frame(F),
}

/// Puts the pieces into their order.
///
/// Nothing is lost and nothing comes twice, whatever the interpreter writes. What stands between two marks of a stream
/// keeps its order. The order between the streams is that of the marks, as long as both pipes bring them.
#[derive(Debug)]
pub struct Merge<F> {
    token: Token,
    sides: [Side; 2],
    frames: VecDeque<(u64, F)>,
    /// The last mark that was passed.
    passed: u64,
    /// It announces a frame that has not come.
    awaited: Option<u64>,
    first: Option<Stream>,
    reads: u64,
    /// Since when nothing has come that could end a wait.
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Side {
    items: VecDeque<Item>,
    held: usize,
    /// The beginning of what may be a mark.
    cut: Vec<u8>,
    last: u64,
    over: bool,
}

#[derive(Debug)]
enum Item {
    /// Output, and in which read it came.
    Bytes(Bytes, u64),
    Mark(u64, Next),
}

impl<F> Merge<F> {
    /// Begins with nothing read.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self {
            token,
            sides: Default::default(),
            frames: VecDeque::new(),
            passed: 0,
            awaited: None,
            first: None,
            reads: 0,
            since: None,
        }
    }

    /// Takes in what was read of a stream. `all` if the read had room for more than there was, as a piece has that is
    /// smaller than [`MAX_OUTPUT`](crate::MAX_OUTPUT): then no mark is cut at its end.
    pub fn read(&mut self, stream: Stream, output: &[u8], all: bool, now: Instant) {
        self.reads += 1;
        self.since = Some(now);
        self.sides[stream as usize].read(&self.token, output, all, self.reads);
    }

    /// Takes in a frame with the number of its mark.
    pub fn frame(&mut self, number: u64, frame: F, now: Instant) {
        self.since = Some(now);
        self.frames.push_back((number, frame));
    }

    /// A stream is over: no mark comes of it.
    pub fn end(&mut self, stream: Stream) {
        let reads = self.reads;
        let side = &mut self.sides[stream as usize];
        side.over = true;
        let cut = std::mem::take(&mut side.cut);
        side.push(cut.into(), reads);
    }

    /// Returns `false` if so much of the stream waits for its turn that it is not to be read now.
    #[must_use]
    pub fn has_room(&self, stream: Stream) -> bool {
        self.sides[stream as usize].held < HELD
    }

    /// Tells that the pipes were left unread for a while: what is waited for may lie there.
    pub fn resume(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// When [`Merge::next`] gives up a wait and has something, although nothing has come.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let waits = self.awaited.is_some()
            || !self.frames.is_empty()
            || self.sides.iter().any(|side| !side.items.is_empty());
        self.since.filter(|_| waits).map(|since| since + PATIENCE)
    }

    /// Returns what comes next, `None` if that has not come yet.
    pub fn next(&mut self, now: Instant) -> Option<Merged<F>> {
        loop {
            if let Some(frame) = self.next_frame() {
                return Some(Merged::Frame(frame));
            }
            let patient = self.since.is_none_or(|since| now < since + PATIENCE);
            if self.awaited.is_some() {
                if patient && !self.is_over() {
                    return None;
                }
                self.awaited = None;
            }
            if let Some((stream, bytes)) = self.next_bytes() {
                return Some(Merged::Output(stream, bytes));
            }
            // One that comes late, after it was given up, tells nothing any more.
            if let Some(late) =
                self.sides.iter_mut().find(|side| side.mark().is_some_and(|mark| mark <= self.passed))
            {
                late.items.pop_front();
                continue;
            }
            match [0, 1].map(|side| self.sides[side].mark()) {
                [None, None] if self.is_over() => {
                    return self.frames.pop_front().map(|(_, frame)| Merged::Frame(frame));
                }
                // Its mark went elsewhere: the interpreter has closed its copies of the descriptors.
                [None, None] if !patient && !self.frames.is_empty() => {
                    self.passed = self.frames.front().map_or(self.passed, |(number, _)| *number);
                }
                [None, None] => return None,
                // The other pipe may still bring it.
                [Some(_), None] if !self.sides[1].over && patient => return None,
                [None, Some(_)] if !self.sides[0].over && patient => return None,
                [one, other] => {
                    let number = one.unwrap_or(u64::MAX).min(other.unwrap_or(u64::MAX));
                    self.pass(number);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.sides.iter().all(|side| side.over)
    }

    fn next_frame(&mut self) -> Option<F> {
        let (number, _) = self.frames.front()?;
        if *number > self.passed {
            return None;
        }
        if self.awaited.is_some_and(|awaited| awaited <= *number) {
            self.awaited = None;
        }
        self.frames.pop_front().map(|(_, frame)| frame)
    }

    /// Output before the next mark: first of the stream that the last mark has named, then as it was read.
    fn next_bytes(&mut self) -> Option<(Stream, Bytes)> {
        let at = |stream: Stream| self.sides[stream as usize].bytes_at().map(|read| (stream, read));
        let first = self.first.take().and_then(at);
        let one =
            [at(Stream::Stdout), at(Stream::Stderr)].into_iter().flatten().min_by_key(|(_, read)| *read);
        let (stream, _) = first.or(one)?;
        // It stays the first until the next mark.
        self.first = first.map(|(stream, _)| stream);
        Some((stream, self.sides[stream as usize].pop_bytes()?))
    }

    /// Both sides go on behind a mark, or the one that has it.
    fn pass(&mut self, number: u64) {
        for side in &mut self.sides {
            if side.mark() == Some(number)
                && let Some(Item::Mark(_, next)) = side.items.pop_front()
            {
                self.first = match next {
                    Next::Stdout => Some(Stream::Stdout),
                    Next::Stderr => Some(Stream::Stderr),
                    Next::Frame => None,
                };
                self.awaited = (next == Next::Frame).then_some(number);
            }
        }
        self.passed = number;
    }
}

impl Side {
    fn read(&mut self, token: &Token, output: &[u8], all: bool, read: u64) {
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(output);
        let bytes = Bytes::from(bytes);
        let (mut start, mut from) = (0, 0);
        while let Some(found) = memmem::find(&bytes[from..], token) {
            let at = from + found;
            if bytes.len() - at < MARK {
                break;
            }
            match read_mark(&bytes[at..at + MARK]) {
                // What a program has copied from its own output counts backwards, and is output.
                Some((number, next)) if number > self.last => {
                    self.push(bytes.slice(start..at), read);
                    self.items.push_back(Item::Mark(number, next));
                    self.last = number;
                    (start, from) = (at + MARK, at + MARK);
                }
                _ => from = at + 1,
            }
        }
        let cut =
            if all { bytes.len() } else { from.max(start) + cut_mark(&bytes[from.max(start)..], token) };
        self.push(bytes.slice(start..cut), read);
        self.cut = bytes[cut..].to_vec();
    }

    fn push(&mut self, bytes: Bytes, read: u64) {
        if !bytes.is_empty() {
            self.held += bytes.len();
            self.items.push_back(Item::Bytes(bytes, read));
        }
    }

    fn bytes_at(&self) -> Option<u64> {
        match self.items.front() {
            Some(Item::Bytes(_, read)) => Some(*read),
            _ => None,
        }
    }

    fn pop_bytes(&mut self) -> Option<Bytes> {
        let Some(Item::Bytes(bytes, _)) = self.items.pop_front() else { return None };
        self.held -= bytes.len();
        Some(bytes)
    }

    fn mark(&self) -> Option<u64> {
        match self.items.front() {
            Some(Item::Mark(number, _)) => Some(*number),
            _ => None,
        }
    }
}

/// Where the bytes end before what may be a mark that is cut.
fn cut_mark(bytes: &[u8], token: &Token) -> usize {
    let last = bytes.len().saturating_sub(MARK - 1);
    (last..bytes.len())
        .find(|at| {
            let tail = &bytes[*at..];
            tail[..tail.len().min(token.len())] == token[..tail.len().min(token.len())]
        })
        .unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: Token = *b"\0token\0token\0to\0";

    /// What an interpreter does.
    #[derive(Clone, Debug)]
    enum Deed {
        Write(Stream, Vec<u8>),
        Frame,
    }

    /// An interpreter, and what lies in its pipes and on its connection.
    #[derive(Default)]
    struct World {
        pipes: [VecDeque<u8>; 2],
        sent: VecDeque<u64>,
        number: u64,
        last: Option<Stream>,
        /// Which pipes lack their marks.
        lacks: [bool; 2],
    }

    impl World {
        fn mark(&mut self, next: Next) {
            self.number += 1;
            for (pipe, lacks) in self.pipes.iter_mut().zip(self.lacks) {
                if !lacks {
                    pipe.extend(mark(&TOKEN, self.number, next));
                }
            }
        }

        fn act(&mut self, deed: &Deed) {
            match deed {
                Deed::Write(stream, text) => {
                    if self.last != Some(*stream) {
                        self.mark(if *stream == Stream::Stdout { Next::Stdout } else { Next::Stderr });
                        self.last = Some(*stream);
                    }
                    self.pipes[*stream as usize].extend(text);
                }
                Deed::Frame => {
                    self.sent.push_back(self.number + 1);
                    self.mark(Next::Frame);
                    self.last = None;
                }
            }
        }

        /// The host reads something.
        fn read(&mut self, what: u8, most: usize, merge: &mut Merge<u64>, now: Instant) {
            match what {
                0 => {
                    if let Some(number) = self.sent.pop_front() {
                        merge.frame(number, number, now);
                    }
                }
                what => {
                    let stream = if what == 1 { Stream::Stdout } else { Stream::Stderr };
                    let pipe = &mut self.pipes[stream as usize];
                    let all = pipe.len() < most;
                    let bytes: Vec<u8> = pipe.drain(..pipe.len().min(most)).collect();
                    if !bytes.is_empty() {
                        merge.read(stream, &bytes, all, now);
                    }
                }
            }
        }
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
        // Parts of the token, and marks from before, are output.
        let text = prop_oneof![
            4 => "[a-z]{1,5}".prop_map(String::into_bytes),
            1 => (1..16_usize).prop_map(|length| TOKEN[..length].to_vec()),
            1 => Just(mark(&TOKEN, 0, Next::Stdout).to_vec()),
            1 => Just([&TOKEN[..], &TOKEN[..]].concat()),
        ];
        prop_oneof![4 => (stream, text).prop_map(|(stream, text)| Deed::Write(stream, text)), 1 => Just(Deed::Frame)]
    }

    /// Reads and deeds in any order, the time standing still; then all that is left, and the end.
    fn merged(world: &mut World, deeds: &[Deed], reads: &[(u8, usize, bool)]) -> Vec<Merged<u64>> {
        let mut merge = Merge::new(TOKEN);
        let now = Instant::now();
        let mut got = Vec::new();
        let mut deeds = deeds.iter();
        for (what, most, act) in reads {
            if *act {
                deeds.next().into_iter().for_each(|deed| world.act(deed));
            }
            world.read(*what, *most, &mut merge, now);
            got.extend(std::iter::from_fn(|| merge.next(now)));
        }
        deeds.for_each(|deed| world.act(deed));
        for what in [1, 2, 0, 1, 2].into_iter().chain([0; 100]) {
            world.read(what, usize::MAX, &mut merge, now);
            got.extend(std::iter::from_fn(|| merge.next(now)));
        }
        merge.end(Stream::Stdout);
        merge.end(Stream::Stderr);
        got.extend(std::iter::from_fn(|| merge.next(now)));
        joined(got)
    }

    fn joined(pieces: Vec<Merged<u64>>) -> Vec<Merged<u64>> {
        let mut joined: Vec<Merged<u64>> = Vec::new();
        for piece in pieces {
            match (joined.last_mut(), piece) {
                (Some(Merged::Output(last, text)), Merged::Output(stream, more)) if *last == stream => {
                    *text = [&text[..], &more[..]].concat().into();
                }
                (_, piece) => joined.push(piece),
            }
        }
        joined
    }

    fn reads() -> impl Strategy<Value = Vec<(u8, usize, bool)>> {
        prop::collection::vec((0..3_u8, prop_oneof![1..30_usize, 20..200_usize], any::<bool>()), 0..80)
    }

    proptest! {
        #[test]
        fn everything_comes_in_the_order_in_which_it_was_done(deeds in prop::collection::vec(deed(), 0..20), reads in reads()) {
            let mut number = 0;
            let mut last = None;
            let expected = deeds.iter().map(|deed| match deed {
                Deed::Write(stream, text) => {
                    number += u64::from(last.replace(*stream) != Some(*stream));
                    Merged::Output(*stream, text.clone().into())
                }
                Deed::Frame => {
                    number += 1;
                    last = None;
                    Merged::Frame(number)
                }
            });
            let expected = joined(expected.collect());
            prop_assert_eq!(merged(&mut World::default(), &deeds, &reads), expected);
        }

        #[test]
        fn nothing_is_lost_or_doubled_if_a_pipe_lacks_its_marks(
            deeds in prop::collection::vec(deed(), 0..20), reads in reads(), lacks in any::<[bool; 2]>(),
        ) {
            let mut world = World { lacks, ..World::default() };
            let got = merged(&mut world, &deeds, &reads);
            for stream in [Stream::Stdout, Stream::Stderr] {
                let of = |piece: &Merged<u64>| match piece {
                    Merged::Output(from, bytes) if *from == stream => bytes.to_vec(),
                    _ => Vec::new(),
                };
                let text: Vec<u8> = got.iter().flat_map(of).collect();
                let written: Vec<u8> = deeds.iter().flat_map(|deed| match deed {
                    Deed::Write(to, text) if *to == stream => text.clone(),
                    _ => Vec::new(),
                }).collect();
                prop_assert_eq!(text, written);
            }
            let frames = got.iter().filter(|piece| matches!(piece, Merged::Frame(_))).count();
            prop_assert_eq!(frames, deeds.iter().filter(|deed| matches!(deed, Deed::Frame)).count());
        }
    }

    #[test]
    fn a_mark_that_one_pipe_lacks_is_waited_for_and_given_up() {
        let start = Instant::now();
        let mut merge = Merge::<()>::new(TOKEN);
        let bytes = [&mark(&TOKEN, 1, Next::Stdout)[..], b"text"].concat();
        merge.read(Stream::Stdout, &bytes, true, start);
        assert_eq!(merge.next(start), None);
        let due = merge.due().unwrap();
        assert_eq!(due, start + PATIENCE);
        // What the other pipe brings meanwhile was written before, and is a reason to wait longer.
        let later = start + PATIENCE / 2;
        merge.read(Stream::Stderr, b"error", true, later);
        assert_eq!(merge.next(later), Some(Merged::Output(Stream::Stderr, "error".into())));
        assert_eq!(merge.next(due), None);
        assert_eq!(merge.next(later + PATIENCE), Some(Merged::Output(Stream::Stdout, "text".into())));
        assert_eq!(merge.due(), None);
        // It comes after all, and means nothing any more.
        merge.read(Stream::Stderr, &mark(&TOKEN, 1, Next::Stdout), true, later);
        merge.read(Stream::Stderr, b"more", true, later);
        assert_eq!(merge.next(later), Some(Merged::Output(Stream::Stderr, "more".into())));
    }

    #[test]
    fn a_frame_that_never_comes_is_given_up() {
        let start = Instant::now();
        let mut merge = Merge::<()>::new(TOKEN);
        for stream in [Stream::Stdout, Stream::Stderr] {
            merge.read(stream, &[&mark(&TOKEN, 1, Next::Frame)[..], b"text"].concat(), true, start);
        }
        assert_eq!(merge.next(start), None);
        assert!(merge.next(merge.due().unwrap()).is_some());
    }

    #[test]
    fn a_frame_whose_mark_never_comes_is_given_up_behind_what_was_written() {
        let start = Instant::now();
        let mut merge = Merge::new(TOKEN);
        merge.frame(7, "idle", start);
        merge.read(Stream::Stdout, b"text", true, start);
        assert_eq!(merge.next(start), Some(Merged::Output(Stream::Stdout, "text".into())));
        assert_eq!(merge.next(start), None);
        // The host has not read the pipes meanwhile.
        let due = merge.due().unwrap();
        merge.resume(due);
        assert_eq!(merge.next(due), None);
        assert_eq!(merge.next(due + PATIENCE), Some(Merged::Frame("idle")));
        assert_eq!(merge.due(), None);
    }

    #[test]
    fn a_stream_that_waits_is_not_read_without_bound() {
        let now = Instant::now();
        let mut merge = Merge::<()>::new(TOKEN);
        merge.read(Stream::Stdout, &mark(&TOKEN, 1, Next::Stdout), true, now);
        let mut read = 0;
        while merge.has_room(Stream::Stdout) {
            merge.read(Stream::Stdout, &[b'x'; 1000], true, now);
            read += 1000;
            assert!(read <= HELD + 1000);
            assert_eq!(merge.next(now), None);
        }
        assert!(merge.has_room(Stream::Stderr));
        merge.read(Stream::Stderr, &mark(&TOKEN, 1, Next::Stdout), true, now);
        while merge.next(now).is_some() {}
        assert!(merge.has_room(Stream::Stdout));
    }
}
