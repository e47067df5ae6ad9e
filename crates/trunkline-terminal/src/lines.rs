//! Lines out of bytes, in pieces where they are long.

use bytes::{Bytes, BytesMut};

/// A line that is longer is given on in pieces, so that memory is bounded whatever comes.
pub(crate) const PIECE: usize = 256 * 1024;

/// What a script has next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// A line, without its end. It may be empty.
    Line(Bytes),
    /// A piece of a line that is longer than [`PIECE`]. A `Line` follows sooner or later, with the rest.
    Part(Bytes),
}

/// Splits what is read.
#[derive(Default, Debug)]
pub(crate) struct Lines {
    buffer: BytesMut,
    /// So far there is no end of a line in the buffer.
    searched: usize,
    /// A part of the line that is in the buffer was given on.
    inside: bool,
}

impl Lines {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns how many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn next(&mut self) -> Option<Piece> {
        if let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
            let mut line = self.buffer.split_to(self.searched + at + 1);
            line.truncate(line.len() - 1);
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            self.searched = 0;
            self.inside = false;
            return Some(Piece::Line(line.freeze()));
        }
        self.searched = self.buffer.len();
        // A carriage return at the end may belong to the end of the line.
        if self.buffer.len() > PIECE {
            self.searched = 0;
            self.inside = true;
            let end = boundary(&self.buffer, PIECE);
            return Some(Piece::Part(self.buffer.split_to(end).freeze()));
        }
        None
    }

    /// Returns what is left at the end: a line that has no end.
    pub(crate) fn rest(&mut self) -> Option<Piece> {
        self.searched = 0;
        let inside = std::mem::take(&mut self.inside);
        (inside || !self.buffer.is_empty()).then(|| Piece::Line(self.buffer.split().freeze()))
    }
}

/// The last place at or before `most` at which no character is cut.
fn boundary(bytes: &[u8], most: usize) -> usize {
    let continues = |at: &usize| bytes[*at] & 0xC0 == 0x80;
    (most.saturating_sub(3)..=most).rev().find(|at| !continues(at)).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<Piece> {
        Some(Piece::Line(Bytes::copy_from_slice(text.as_bytes())))
    }

    #[test]
    fn lines_end_with_a_newline_or_a_carriage_return_before_it_or_the_end() {
        let mut lines = Lines::default();
        lines.feed(b"one\r\n\ntw");
        assert_eq!((lines.next(), lines.next(), lines.next()), (line("one"), line(""), None));
        lines.feed(b"o\nrest\r");
        assert_eq!((lines.next(), lines.next()), (line("two"), None));
        assert_eq!((lines.rest(), lines.rest()), (line("rest\r"), None));
    }

    #[test]
    fn a_long_line_comes_in_parts_that_cut_no_character() {
        let mut lines = Lines::default();
        let text = "─".repeat(PIECE);
        let mut whole = Vec::new();
        let mut parts = 0;
        for chunk in text.as_bytes().chunks(1000) {
            lines.feed(chunk);
            while let Some(Piece::Part(part)) = lines.next() {
                assert!(std::str::from_utf8(&part).is_ok() && part.len() <= PIECE);
                whole.extend_from_slice(&part);
                parts += 1;
            }
            assert!(lines.len() <= PIECE + 1000);
        }
        lines.feed(b"\n");
        match lines.next() {
            Some(Piece::Line(rest)) => whole.extend_from_slice(&rest),
            other => panic!("{other:?}"),
        }
        assert!(parts >= 2 && whole == text.as_bytes());
        assert_eq!(lines.rest(), None);
    }

    #[test]
    fn a_long_line_without_an_end_ends_where_the_input_does() {
        let mut lines = Lines::default();
        lines.feed(&vec![b'x'; PIECE + 1]);
        assert!(matches!(lines.next(), Some(Piece::Part(part)) if part.len() == PIECE));
        assert_eq!((lines.rest(), lines.rest()), (line("x"), None));
    }
}
