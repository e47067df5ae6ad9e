//! Where the output of the program has left the cursor.

use unicode_width::UnicodeWidthChar;

use super::escapes::{Escapes, Token};

/// How much of a line without an end is remembered, in bytes, to be shown again after the screen was cleared.
const TAIL: usize = 1024;

/// Follows output with bounded memory, however long its lines are.
#[derive(Debug)]
pub(super) struct Column {
    escapes: Escapes,
    columns: usize,
    /// 0 to `columns`; the latter if the last column is full, and the next character goes to the next row.
    at: usize,
    /// The end of the line, as text.
    tail: String,
    /// Something stands in the row, maybe behind the cursor.
    used: bool,
    /// The program has chosen a colour or the like.
    styled: bool,
}

impl Column {
    pub(super) fn new(columns: usize) -> Self {
        Self {
            escapes: Escapes::of_screen(),
            columns,
            at: 0,
            tail: String::new(),
            used: false,
            styled: false,
        }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn tail(&self) -> &str {
        &self.tail
    }

    /// Returns `true` if the program has begun a line.
    pub(super) fn is_used(&self) -> bool {
        self.used || self.at > 0
    }

    pub(super) fn is_styled(&self) -> bool {
        self.styled
    }

    /// Returns `true` if no character and no sequence has begun.
    pub(super) fn is_between(&self) -> bool {
        self.escapes.is_ground()
    }

    /// The cursor is at the beginning of a row, and what began is over.
    pub(super) fn begin_row(&mut self) {
        self.escapes.reset();
        self.at = 0;
        self.tail.clear();
        self.used = false;
    }

    /// The row is full, and the line goes on in the next.
    pub(super) fn wrap(&mut self) {
        self.at = 0;
    }

    pub(super) fn resize(&mut self, columns: usize) {
        self.columns = columns;
        self.at = self.at.min(columns);
    }

    /// Follows bytes that are written. Returns where the last character or sequence begins that is not
    /// complete; the length if all are.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> usize {
        let mut begun = 0;
        let mut at = 0;
        while at < bytes.len() {
            if self.escapes.is_ground() {
                let plain = bytes[at..].iter().take_while(|byte| (0x20..0x7F).contains(*byte)).count();
                if plain > 0 {
                    self.advance(plain);
                    let shown = &bytes[at + plain.saturating_sub(TAIL)..at + plain];
                    self.tail.push_str(std::str::from_utf8(shown).unwrap_or_default());
                    self.trim();
                    at += plain;
                    continue;
                }
                begun = at;
            }
            let mut tokens = [None, None];
            let mut count = 0;
            self.escapes.feed(bytes[at], |token| {
                tokens[count] = Some(token);
                count += 1;
            });
            tokens.into_iter().flatten().for_each(|token| self.take(token));
            at += 1;
        }
        if self.escapes.is_ground() { bytes.len() } else { begun }
    }

    fn take(&mut self, token: Token) {
        match token {
            Token::Text(c) => self.text(c),
            Token::Invalid => self.text('\u{FFFD}'),
            Token::Control(b'\n' | 0x0B | 0x0C) => {
                self.at = 0;
                self.tail.clear();
                self.used = false;
            }
            Token::Control(b'\r') => {
                self.at = 0;
                self.tail.clear();
            }
            Token::Control(0x08) => self.at = self.at.saturating_sub(1),
            Token::Control(b'\t') => {
                // At the right margin a tab stays.
                self.at = (self.at / 8 * 8 + 8).min(self.columns.saturating_sub(1).max(self.at));
                self.tail.push('\t');
                self.trim();
            }
            Token::Csi { parameters, last } => self.csi(&parameters, last),
            Token::Control(_) | Token::Escape(_) | Token::Single(_) => {}
        }
    }

    fn csi(&mut self, parameters: &[u8], last: u8) {
        let text = std::str::from_utf8(parameters).unwrap_or_default();
        let number = || text.split(';').next().and_then(|it| it.parse::<usize>().ok()).unwrap_or(1).max(1);
        let right = self.columns.saturating_sub(1);
        match last {
            b'm' => self.styled = !text.is_empty() && text.split(';').next_back() != Some("0"),
            b'C' => self.at = self.at.saturating_add(number()).min(right),
            b'D' => self.at = self.at.saturating_sub(number()),
            b'G' => {
                self.at = (number() - 1).min(right);
                self.tail.clear();
            }
            b'H' | b'f' => {
                let column = text.split(';').nth(1).and_then(|it| it.parse::<usize>().ok()).unwrap_or(1);
                self.at = column.saturating_sub(1).min(right);
                self.tail.clear();
            }
            b'K' | b'J' if self.at == 0 || text == "2" => self.used = false,
            b'E' | b'F' => {
                self.at = 0;
                self.tail.clear();
            }
            _ => {}
        }
    }

    fn text(&mut self, c: char) {
        match c.width().unwrap_or(0) {
            0 => {}
            1 => self.advance(1),
            wide => {
                let begin = if self.at + wide > self.columns { 0 } else { self.at };
                self.at = (begin + wide).min(self.columns);
                self.used = true;
            }
        }
        self.tail.push(c);
        self.trim();
    }

    fn advance(&mut self, count: usize) {
        self.used = true;
        let columns = self.columns.max(1);
        let at = self.at + count;
        self.at = if at <= columns { at } else { (at - 1) % columns + 1 };
    }

    fn trim(&mut self) {
        if self.tail.len() > 2 * TAIL {
            let cut = self.tail.ceil_char_boundary(self.tail.len() - TAIL);
            self.tail.drain(..cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use proptest::prelude::*;

    fn at(columns: usize, output: &str) -> usize {
        let mut column = Column::new(columns);
        column.follow(output.as_bytes());
        column.at()
    }

    #[test]
    fn the_column_is_that_of_a_terminal() {
        for (output, column) in [
            ("name? ", 6),
            ("one\ntwo", 3),
            ("100 %\r20", 2),
            ("\x1b[1;31mred\x1b[0m: ", 5),
            ("\x1b]0;title\x07x", 1),
            ("漢字", 4),
            ("e\u{301}", 1),
            ("a\tb", 9),
            ("ab\x08", 1),
            ("abcdefghij", 10),
            ("abcdefghijk", 1),
            ("123456789漢", 2),
        ] {
            assert_eq!(at(10, output), column, "{output:?}");
        }
    }

    proptest! {
        /// The same as an emulator, for text and the sequences that prompts have, in pieces that are cut anywhere.
        #[test]
        fn the_column_is_that_of_an_emulator(
            parts in prop::collection::vec(
                prop_oneof![
                    "[ -~]{0,30}", "[α-ωé漢字─]{0,9}",
                    Just("\x1b[1;32m".to_owned()), Just("\r".to_owned()), Just("\r\n".to_owned()),
                    Just("\x1b]0;t\x07".to_owned()), Just("\x1b[K".to_owned()),
                ],
                0..12,
            ),
            columns in 5_u16..40,
            cut in 1_usize..7,
        ) {
            let output = parts.concat();
            let mut emulator = vt100::Parser::new(NonZeroU16::new(50).unwrap(), NonZeroU16::new(columns).unwrap(), 0);
            emulator.process(output.as_bytes());
            let mut column = Column::new(columns.into());
            for piece in output.as_bytes().chunks(cut) {
                column.follow(piece);
            }
            // The emulator too has a column behind the last.
            prop_assert_eq!(column.at(), usize::from(emulator.screen().cursor_position().1));
        }

        #[test]
        fn memory_is_bounded(output in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut column = Column::new(80);
            for _ in 0..20 {
                let complete = column.follow(&output);
                prop_assert!(complete <= output.len() && column.at() <= 80);
                prop_assert!(column.tail.len() <= 2 * TAIL + 4);
            }
        }
    }
}
