//! Messages of the standard input become lines, and each line knows its messages.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// The longest line that is gathered from pieces. The same as a message's usual limit.
pub(super) const LONGEST_LINE: usize = 16 << 20;

/// So many messages are taken in before they are looked at: each by itself would cost two switches of threads.
const MOST_AHEAD: usize = 64;
/// Or so many bytes, save for the last message of them.
const BYTES_AHEAD: usize = 64 * 1024;

/// The messages of the standard input that a kernel has not used up.
#[derive(Debug, Default)]
pub(super) struct Input {
    queue: VecDeque<Item>,
    /// Of the messages in the queue.
    bytes: usize,
    /// How many messages have come.
    arrived: u64,
    /// How many messages were looked at.
    read: u64,
    /// The beginning of a line whose end has not come, and its first message.
    part: Vec<u8>,
    part_first: u64,
    skip: Skip,
}

/// What becomes of the line that has begun.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Skip {
    #[default]
    No,
    /// It is too long: what comes before its end is dropped, and told.
    TooLong,
    /// Its beginning was dropped, and so is the rest: half a line must not run.
    Dropped,
}

#[derive(Debug)]
enum Item {
    Message { number: u64, bytes: Bytes },
    Break(Break),
}

/// What stands between messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Break {
    /// The console has no more lines for now.
    Finished,
    /// The console abandoned what it sent.
    Reset,
    /// Something was left out.
    Gap { messages: u64 },
}

/// The messages that a line is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Span {
    pub(super) fn contains(self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

/// What comes next.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// A line with its newline; the last of a run may have none.
    Line(Span, Vec<u8>),
    /// A line of more than [`LONGEST_LINE`] bytes, which was dropped.
    TooLong(Span),
    /// A message of no bytes that is no part of a line: a program that reads is told that there is no more, as one on
    /// a terminal is, and a statement whose rest is missing is dropped.
    EndOfInput(Span),
    Break(Break),
    /// Nothing, or a part of a line.
    Nothing,
}

impl Input {
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.arrived += 1;
        self.bytes += bytes.len();
        self.queue.push_back(Item::Message { number: self.arrived, bytes });
    }

    pub(super) fn push_break(&mut self, found: Break) {
        if let Break::Gap { messages } = found {
            // They count: both sides go by the number.
            self.arrived = self.arrived.saturating_add(messages);
        }
        self.queue.push_back(Item::Break(found));
    }

    /// Everything that has come was looked at.
    pub(super) fn is_used_up(&self) -> bool {
        self.queue.is_empty()
    }

    /// More may be taken in before what is there is looked at.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < MOST_AHEAD && self.bytes < BYTES_AHEAD
    }

    /// How many messages were looked at.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// The messages of a line whose end has not come.
    pub(super) fn part(&self) -> Option<Span> {
        let any = !self.part.is_empty() || self.skip == Skip::TooLong;
        any.then_some(Span { first: self.part_first, last: self.read })
    }

    /// Takes the next line or break.
    pub(super) fn next(&mut self) -> Next {
        loop {
            match self.queue.front_mut() {
                None => return Next::Nothing,
                Some(Item::Break(_)) => {
                    if let Some(span) = self.part() {
                        // Where the console has finished, the last line needs no newline.
                        let finished = matches!(self.queue.front(), Some(Item::Break(Break::Finished)));
                        let line = std::mem::take(&mut self.part);
                        if std::mem::take(&mut self.skip) == Skip::TooLong {
                            return Next::TooLong(span);
                        }
                        if finished {
                            return Next::Line(span, line);
                        }
                    }
                    self.skip = Skip::No;
                    let Some(Item::Break(found)) = self.queue.pop_front() else { return Next::Nothing };
                    if let Break::Gap { messages } = found {
                        self.read = self.read.saturating_add(messages);
                    }
                    return Next::Break(found);
                }
                Some(Item::Message { number, bytes }) => {
                    let number = *number;
                    self.read = number;
                    if self.part.is_empty() && self.skip == Skip::No {
                        self.part_first = number;
                        if bytes.is_empty() {
                            self.queue.pop_front();
                            return Next::EndOfInput(Span { first: number, last: number });
                        }
                    }
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let taken = end.map_or(bytes.len(), |end| end + 1);
                    if self.skip == Skip::No && self.part.len() + taken > LONGEST_LINE + 1 {
                        self.skip = Skip::TooLong;
                        self.part = Vec::new();
                    }
                    if self.skip == Skip::No {
                        self.part.extend_from_slice(&bytes[..taken]);
                    }
                    bytes.advance(taken);
                    self.bytes -= taken;
                    if bytes.is_empty() {
                        self.queue.pop_front();
                    }
                    if end.is_some() {
                        let span = Span { first: self.part_first, last: number };
                        let line = std::mem::take(&mut self.part);
                        match std::mem::take(&mut self.skip) {
                            Skip::No => return Next::Line(span, line),
                            Skip::TooLong => return Next::TooLong(span),
                            Skip::Dropped => {}
                        }
                    }
                }
            }
        }
    }

    /// Drops what is left of a message, of which a line was taken. Returns `true` if there was something.
    pub(super) fn drop_rest_of(&mut self, message: u64) -> bool {
        let rest = matches!(self.queue.front(), Some(Item::Message { number, .. }) if *number == message);
        if rest && let Some(Item::Message { bytes, .. }) = self.queue.pop_front() {
            self.bytes -= bytes.len();
        }
        rest
    }

    /// Takes the other whole lines of a message, of which a line was taken.
    pub(super) fn take_lines_of(&mut self, message: u64, line: &mut Vec<u8>) {
        let Some(Item::Message { number, bytes }) = self.queue.front_mut() else { return };
        if *number != message {
            return;
        }
        if let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') {
            line.extend_from_slice(&bytes.split_to(last + 1));
            self.bytes -= last + 1;
            if bytes.is_empty() {
                self.queue.pop_front();
            }
        }
    }

    /// The message of which a line was taken and something is left.
    pub(super) fn begun(&self) -> Option<u64> {
        match self.queue.front() {
            Some(Item::Message { number, .. }) if *number <= self.read => Some(*number),
            _ => None,
        }
    }

    /// Drops the line that has begun, also the part that has not come.
    pub(super) fn drop_part(&mut self) {
        if self.part().is_some() {
            self.part = Vec::new();
            self.skip = Skip::Dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(first: u64, last: u64, text: &str) -> Next {
        Next::Line(Span { first, last }, text.as_bytes().to_vec())
    }

    fn input(messages: &[&str]) -> Input {
        let mut input = Input::default();
        for message in messages {
            input.push(Bytes::copy_from_slice(message.as_bytes()));
        }
        input
    }

    #[test]
    fn a_line_knows_the_messages_that_it_is_made_of() {
        let mut input = input(&["a\nb\n", "c", "", "d\ne", "\n"]);
        assert_eq!(input.next(), line(1, 1, "a\n"));
        assert_eq!((input.read(), input.begun()), (1, Some(1)));
        assert_eq!(input.next(), line(1, 1, "b\n"));
        assert_eq!(input.next(), line(2, 4, "cd\n"));
        assert_eq!(input.next(), line(4, 5, "e\n"));
        assert_eq!((input.next(), input.read(), input.part()), (Next::Nothing, 5, None));
    }

    #[test]
    fn a_message_of_no_bytes_between_lines_is_an_end() {
        let mut input = input(&["", "a\n", "", "", "b", "", "\n"]);
        let end = |number| Next::EndOfInput(Span { first: number, last: number });
        assert_eq!((input.next(), input.next()), (end(1), line(2, 2, "a\n")));
        assert_eq!((input.next(), input.next()), (end(3), end(4)));
        assert_eq!((input.next(), input.read(), input.is_used_up()), (line(5, 7, "b\n"), 7, true));
    }

    #[test]
    fn the_whole_lines_of_a_message_belong_together_if_they_are_to() {
        let mut input = input(&["be", "gin\nb\nc\nd", "\ne\n"]);
        let Next::Line(span, mut text) = input.next() else { panic!("a line") };
        input.take_lines_of(span.last, &mut text);
        assert_eq!((span, &*text), (Span { first: 1, last: 2 }, &b"begin\nb\nc\n"[..]));
        // What has begun is not lost, and the next message stays another.
        assert_eq!(input.next(), line(2, 3, "d\n"));
        assert_eq!(input.next(), line(3, 3, "e\n"));
        let mut last = b"x\n".to_vec();
        input.take_lines_of(3, &mut last);
        assert_eq!(last, b"x\n");
    }

    #[test]
    fn a_block_that_was_taken_leaves_room_for_more() {
        let mut input = Input::default();
        for _ in 0..3 {
            input.push(Bytes::from(b"line\n".repeat(BYTES_AHEAD)));
            assert!(!input.has_room());
            let Next::Line(span, mut text) = input.next() else { panic!("a line") };
            input.take_lines_of(span.last, &mut text);
            assert_eq!((text.len(), input.bytes, input.has_room()), (5 * BYTES_AHEAD, 0, true));
        }
    }

    #[test]
    fn the_last_line_of_a_run_needs_no_newline_and_one_that_was_cut_is_dropped() {
        let mut input = input(&["half"]);
        assert_eq!((input.next(), input.part()), (Next::Nothing, Some(Span { first: 1, last: 1 })));
        input.push_break(Break::Finished);
        assert_eq!(input.next(), line(1, 1, "half"));
        assert_eq!(input.next(), Next::Break(Break::Finished));
        input.push(Bytes::from_static(b"cut"));
        input.push_break(Break::Gap { messages: 3 });
        input.push(Bytes::from_static(b"whole\n"));
        assert_eq!(input.next(), Next::Break(Break::Gap { messages: 3 }));
        assert_eq!((input.read(), input.next()), (5, line(6, 6, "whole\n")));
    }

    #[test]
    fn few_messages_are_taken_in_before_they_are_looked_at() {
        let mut input = Input::default();
        while input.has_room() {
            input.push(Bytes::from_static(b"a\nb\n"));
        }
        assert_eq!((input.queue.len(), input.bytes), (MOST_AHEAD, 4 * MOST_AHEAD));
        assert_eq!(input.next(), line(1, 1, "a\n"));
        assert!(input.drop_rest_of(1) && input.has_room());
        while !matches!(input.next(), Next::Nothing) {}
        assert_eq!((input.is_used_up(), input.bytes), (true, 0));
        input.push(Bytes::from(vec![b'x'; BYTES_AHEAD]));
        assert!(!input.has_room());
    }

    #[test]
    fn the_rest_of_a_line_whose_beginning_was_dropped_is_no_line() {
        let mut input = input(&["remove(everything "]);
        assert_eq!(input.next(), Next::Nothing);
        input.drop_part();
        assert_eq!(input.part(), None);
        for piece in ["but(", "this))\nnext\n"] {
            input.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!(input.next(), line(3, 3, "next\n"));
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_to_its_end_and_costs_no_memory() {
        let mut input = Input::default();
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        for _ in 0..40 {
            input.push(piece.clone());
            assert_eq!(input.next(), Next::Nothing);
            assert!(input.part.capacity() <= 2 * LONGEST_LINE);
        }
        assert_eq!(input.part.capacity(), 0);
        input.push(Bytes::from_static(b"end\nnext\n"));
        assert_eq!(input.next(), Next::TooLong(Span { first: 1, last: 41 }));
        assert_eq!(input.next(), line(41, 41, "next\n"));
    }
}
