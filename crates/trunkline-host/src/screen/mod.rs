//! The screen of a program: what it shows, which modes it has set, and what a joiner is sent for it.
//!
//! `vt100` draws. Before it stands a [splitter](pieces), so that each sequence is whole when it is looked at:
//! questions are answered and taken out, what `vt100` does not know is put in terms that it does, and what it
//! does not keep is kept beside it. The screen has no threads, no clock and no descriptors.

mod answers;
mod modes;
mod pieces;
mod sequence;
mod snapshot;
#[cfg(test)]
mod tests;

use std::num::NonZeroU16;

use bytes::Bytes;

use crate::size::Size;
use modes::{Modes, REPORTS};
use pieces::{Kind, Piece, Splitter};
use sequence::{Csi, inside};

/// How a size stands in the output: `ESC _ trunkline size COLUMNS ROWS ESC \`. Terminals ignore it.
const SIZE_MARK: &[u8] = b"\x1b_trunkline size ";

/// The screen of a program on a terminal, as a value.
///
/// The host feeds it everything that the program writes, by [`Screen::take_output`]. That answers the program's
/// questions (where is the cursor, what terminal is this, which colours) and returns what viewers get: the
/// same bytes without the questions, so that no attached terminal answers them again, and never cut within a
/// character or a sequence. A viewer's copy takes that in by [`Screen::follow`].
///
/// ```
/// use trunkline_host::{Screen, Size};
///
/// let mut screen = Screen::new(Size::new(20, 4));
/// let mut answers = Vec::new();
/// let shown = screen.take_output(b"hello\x1b[6n, \xe4\xb8", &mut answers);
/// assert_eq!(&shown[..], b"hello, "); // the rest of the character has not come yet
/// assert_eq!(answers, b"\x1b[1;6R");
///
/// let mut copy = Screen::new(Size::default());
/// copy.follow(&screen.snapshot());
/// assert_eq!(copy.size(), Size::new(20, 4));
/// assert_eq!(copy.text(), "hello, ");
/// ```
pub struct Screen {
    splitter: Splitter,
    drawn: Drawn,
}

/// What the pieces are drawn on.
struct Drawn {
    size: Size,
    parser: vt100::Parser,
    modes: Modes,
    #[cfg(test)]
    panics: u32,
}

/// What becomes of a piece for viewers.
enum Shown {
    Same,
    Not,
    Instead(Vec<u8>),
}

impl Screen {
    /// Makes an empty screen.
    #[must_use]
    pub fn new(size: Size) -> Self {
        Self { splitter: Splitter::new(), drawn: Drawn::new(size) }
    }

    /// Takes in what the program has written, adds the answers to its questions to `answers`, and returns
    /// what viewers get.
    pub fn take_output(&mut self, output: &[u8], answers: &mut Vec<u8>) -> Bytes {
        let mut shown = Vec::with_capacity(output.len());
        let Self { splitter, drawn } = self;
        splitter.feed(output, |piece| match drawn.take(piece, answers) {
            Shown::Same => shown.extend_from_slice(bytes_of(piece)),
            Shown::Not => {}
            Shown::Instead(bytes) => shown.extend_from_slice(&bytes),
        });
        shown.into()
    }

    /// The program's output is over. Returns what viewers get of a character or a sequence whose end has not
    /// come.
    pub fn finish_output(&mut self) -> Bytes {
        let mut shown = Vec::new();
        self.splitter.finish(|piece| shown.extend_from_slice(bytes_of(piece)));
        shown.into()
    }

    /// Takes in what viewers get: output, and the marks of its size. Answers nothing.
    pub fn follow(&mut self, shown: &[u8]) {
        let Self { splitter, drawn } = self;
        splitter.feed(shown, |piece| match piece {
            Piece::Whole(Kind::Other, string) if string.starts_with(SIZE_MARK) => {
                if let Some(size) = read_size_mark(string) {
                    drawn.resize(size);
                }
            }
            piece => drop(drawn.take(piece, &mut Vec::new())),
        });
    }

    /// The terminal has another size from here on. Returns the mark that tells viewers.
    pub fn resize(&mut self, size: Size) -> Bytes {
        self.drawn.resize(size);
        size_mark(size).into()
    }

    /// Returns the size.
    #[must_use]
    pub fn size(&self) -> Size {
        self.drawn.size
    }

    /// Returns the text that the screen shows, its lines without the blanks at their ends.
    #[must_use]
    pub fn text(&self) -> String {
        self.drawn.parser.screen().contents()
    }

    /// Returns the title of the window, without control characters. Empty if the program has set none.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.drawn.modes.title
    }

    /// Returns the column and the row of the cursor, from 0.
    #[must_use]
    pub fn cursor(&self) -> (u16, u16) {
        let (row, column) = self.drawn.cursor();
        (column - 1, row - 1)
    }

    /// Returns `true` if the program uses the alternate screen, as editors do.
    #[must_use]
    pub fn is_alternate(&self) -> bool {
        self.drawn.parser.screen().alternate_screen()
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("size", &self.size())
            .field("title", &self.title())
            .finish_non_exhaustive()
    }
}

fn size_mark(size: Size) -> Vec<u8> {
    let mut mark = SIZE_MARK.to_vec();
    mark.extend_from_slice(format!("{} {}\x1b\\", size.columns(), size.rows()).as_bytes());
    mark
}

/// The size, if the bytes are a mark of it and nothing else.
pub(crate) fn read_size_mark(string: &[u8]) -> Option<Size> {
    if !string.starts_with(SIZE_MARK) || !string.ends_with(b"\x1b\\") {
        return None;
    }
    let text = std::str::from_utf8(inside(string)).ok()?;
    let (columns, rows) = text.strip_prefix("trunkline size ")?.split_once(' ')?;
    Some(Size::new(columns.parse().ok()?, rows.parse().ok()?))
}

fn bytes_of<'a>(piece: Piece<'a>) -> &'a [u8] {
    match piece {
        Piece::Plain(bytes) | Piece::Whole(_, bytes) | Piece::Broken(bytes) | Piece::Long(_, bytes) => bytes,
    }
}

impl Drawn {
    fn new(size: Size) -> Self {
        let (rows, columns) = cells(size);
        Self {
            size,
            parser: vt100::Parser::new(rows, columns, 0),
            modes: Modes::new(),
            #[cfg(test)]
            panics: 0,
        }
    }

    fn take(&mut self, piece: Piece<'_>, answers: &mut Vec<u8>) -> Shown {
        match piece {
            Piece::Plain(text) => {
                match self.modes.charsets.translate(text) {
                    None => self.draw(text),
                    Some(text) => self.draw(&text),
                }
                Shown::Same
            }
            Piece::Whole(Kind::Escape, sequence) => self.escape(sequence, answers),
            Piece::Whole(Kind::Csi, sequence) => self.csi(sequence, answers),
            Piece::Whole(Kind::Osc, string) => {
                if let [b'0' | b'2', b';', title @ ..] = inside(string) {
                    self.modes.set_title(title);
                }
                shown(!answers::osc(string, answers))
            }
            Piece::Whole(Kind::Dcs, string) => shown(!answers::dcs(string, answers)),
            // A size that the program writes is not the terminal's.
            Piece::Whole(Kind::Other, string) => {
                shown(!answers::other(string) && !string.starts_with(SIZE_MARK))
            }
            Piece::Broken(_) | Piece::Long(..) => Shown::Same,
        }
    }

    /// Draws text. Bytes that are no text are left to the viewers' terminals: what `vt100` makes of them depends on
    /// how they are cut. So are variation selectors: `vt100` changes the width of a cell by them, as most terminals
    /// do not, and panics where the cell is the last.
    fn draw(&mut self, text: &[u8]) {
        if text.is_ascii() {
            return self.process(text);
        }
        for chunk in text.utf8_chunks() {
            for part in chunk.valid().split(['\u{fe0e}', '\u{fe0f}']) {
                self.process(part.as_bytes());
            }
        }
    }

    /// A panic in `vt100` is a fault of its own, and no reason for a program to lose its host: the screen begins anew, empty.
    fn process(&mut self, bytes: &[u8]) {
        let parser = &mut self.parser;
        let drawn = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parser.process(bytes)));
        if drawn.is_err() {
            let (rows, columns) = cells(self.size);
            self.parser = vt100::Parser::new(rows, columns, 0);
            #[cfg(test)]
            {
                self.panics += 1;
            }
        }
    }

    fn escape(&mut self, sequence: &[u8], answers: &mut Vec<u8>) -> Shown {
        if self.modes.charsets.designate(sequence) {
            return Shown::Same;
        }
        match sequence {
            b"\x1b7" => self.save_cursor(),
            b"\x1b8" => self.restore_cursor(),
            b"\x1bD" => self.process(b"\n"),
            b"\x1bE" => self.process(b"\r\n"),
            b"\x1bc" => {
                self.modes.reset();
                self.process(sequence);
            }
            _ if answers::escape(sequence, answers) => return Shown::Not,
            _ => self.process(sequence),
        }
        Shown::Same
    }

    fn csi(&mut self, sequence: &[u8], answers: &mut Vec<u8>) -> Shown {
        // Most of all sequences: colours and moves, which `vt100` knows, and which mean nothing else here.
        if let [_, _, first, ..] = sequence
            && !(b'<'..=b'?').contains(first)
            && matches!(
                sequence.last(),
                Some(b'@'..=b'H' | b'J'..=b'M' | b'P' | b'S' | b'T' | b'X' | b'd' | b'm')
            )
        {
            self.process(sequence);
            return Shown::Same;
        }
        // Control characters in it work all the same.
        let Some(csi) = Csi::read(sequence) else {
            self.process(sequence);
            return Shown::Same;
        };
        let known = answers::Known {
            size: self.size,
            cursor: self.cursor(),
            keyboard_flags: self.modes.keyboard_flags(self.parser.screen().alternate_screen()),
        };
        if answers::csi(&csi, &known, |mode| self.mode(mode), answers) {
            return Shown::Not;
        }
        match (csi.private, csi.intermediate, csi.last) {
            (Some(b'?'), None, b'h' | b'l') => return self.private_modes(&csi, sequence),
            (None, None, b'h' | b'l') => {
                for mode in csi.parameters() {
                    match mode {
                        4 => self.modes.insert = csi.last == b'h',
                        20 => self.modes.newline = csi.last == b'h',
                        _ => {}
                    }
                }
            }
            (None, None, b's') if csi.parameters().is_empty() => self.save_cursor(),
            (None, None, b'u') => self.restore_cursor(),
            (Some(b'>' | b'<' | b'='), None, b'u') => {
                self.modes.keyboard(&csi, self.parser.screen().alternate_screen());
            }
            (None, Some(b'!'), b'p') => self.soft_reset(),
            // The window is the viewer's own.
            (None, None, b't') if csi.parameter(0) <= 9 => return Shown::Not,
            // More would only be drawn over, one by one.
            (None, None, b'b') => {
                let cells = u32::from(self.size.columns()) * u32::from(self.size.rows());
                let count = u32::from(csi.count()).min(cells);
                self.process(format!("\x1b[{count}b").as_bytes());
            }
            (None, None, b'I') => {
                let tabs = usize::from(csi.count().min(self.size.columns()));
                self.process(&vec![b'\t'; tabs]);
            }
            (None, None, b'Z') => {
                let column = self.cursor().1 - 1;
                let stops = column.div_ceil(8).saturating_sub(csi.count());
                self.process(format!("\x1b[{}G", stops * 8 + 1).as_bytes());
            }
            (None, None, b'a') => self.process(format!("\x1b[{}C", csi.count()).as_bytes()),
            (None, None, b'e') => self.process(format!("\x1b[{}B", csi.count()).as_bytes()),
            _ => self.process(sequence),
        }
        Shown::Same
    }

    fn private_modes(&mut self, csi: &Csi, sequence: &[u8]) -> Shown {
        let on = csi.last == b'h';
        for mode in csi.parameters() {
            self.modes.set(*mode, on);
            match (mode, on) {
                (1048, true) => self.save_cursor(),
                (1048, false) => self.restore_cursor(),
                (1047, _) => self.process(if on { b"\x1b[?47h" } else { b"\x1b[?47l" }),
                (1049, true) => self.modes.save_cursor(),
                (1049, false) => self.modes.restore_cursor(),
                _ => {}
            }
            self.process(format!("\x1b[?{mode}{}", char::from(csi.last)).as_bytes());
        }
        if !csi.parameters().iter().any(|mode| REPORTS.contains(mode)) {
            // Control characters in it are with what viewers get, and have no effect here.
            return Shown::Same;
        }
        let rest: Vec<_> =
            csi.parameters().iter().filter(|mode| !REPORTS.contains(mode)).map(u16::to_string).collect();
        if rest.is_empty() {
            return Shown::Not;
        }
        debug_assert!(sequence.ends_with(&[csi.last]));
        Shown::Instead(format!("\x1b[?{}{}", rest.join(";"), char::from(csi.last)).into_bytes())
    }

    fn save_cursor(&mut self) {
        self.modes.save_cursor();
        self.process(b"\x1b7");
    }

    fn restore_cursor(&mut self) {
        self.modes.restore_cursor();
        self.process(b"\x1b8");
    }

    fn soft_reset(&mut self) {
        self.modes.soft_reset();
        let (row, column) = self.cursor();
        self.process(b"\x1b[m\x1b[?6l\x1b[r\x1b>\x1b[?1l\x1b[?25h");
        self.process(format!("\x1b[{row};{column}H").as_bytes());
    }

    fn resize(&mut self, size: Size) {
        let (rows, columns) = cells(size);
        self.size = size;
        self.parser.set_size(rows, columns);
    }

    /// Row and column, from 1. Behind the last column is in it.
    fn cursor(&self) -> (u16, u16) {
        let (row, column) = self.parser.screen().cursor_position();
        (row + 1, column.min(self.size.columns() - 1) + 1)
    }

    /// Whether a private mode is on; `None` if it is not known.
    fn mode(&self, mode: u16) -> Option<bool> {
        use vt100::{MouseProtocolEncoding as Encoding, MouseProtocolMode as Mouse};
        let screen = self.parser.screen();
        let mouse = |mode| Some(screen.mouse_protocol_mode() == mode);
        match mode {
            1 => Some(screen.application_cursor()),
            9 => mouse(Mouse::Press),
            25 => Some(!screen.hide_cursor()),
            47 | 1047 | 1049 => Some(screen.alternate_screen()),
            1000 => mouse(Mouse::PressRelease),
            1002 => mouse(Mouse::ButtonMotion),
            1003 => mouse(Mouse::AnyMotion),
            1005 => Some(screen.mouse_protocol_encoding() == Encoding::Utf8),
            1006 => Some(screen.mouse_protocol_encoding() == Encoding::Sgr),
            2004 => Some(screen.bracketed_paste()),
            // What is between its beginning and its end is drawn at once: viewers do it, here nothing waits.
            2026 => Some(false),
            _ => self.modes.is_on(mode),
        }
    }
}

/// Rows and columns of what is drawn on. `vt100` panics where a wide character stands in the only column.
fn cells(size: Size) -> (NonZeroU16, NonZeroU16) {
    let (rows, columns) = size.cells();
    (rows, columns.max(NonZeroU16::new(2).unwrap_or(columns)))
}

fn shown(yes: bool) -> Shown {
    if yes { Shown::Same } else { Shown::Not }
}
