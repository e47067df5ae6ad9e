//! What a terminal is sent that joins: the screen as it is, and every mode.

use bytes::Bytes;

use super::pieces::Kind;
use super::{Drawn, Modes, Screen, size_mark};

impl Screen {
    /// Returns what brings a terminal to this state, whatever it showed before: both screens, the cursor, the
    /// scroll region, the title and all modes of input. What follows in the output fits behind it. It asks
    /// nothing, rings no bell and leaves the clipboard alone.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        let mut to = size_mark(self.size());
        self.drawn.write(&mut to);
        match self.splitter.inside() {
            None => to.extend_from_slice(self.splitter.pending()),
            // Its beginning is not kept. What still comes of it is read as a string that means nothing.
            Some(Kind::Csi) => to.extend_from_slice(b"\x1b[?"),
            Some(Kind::Osc) => to.extend_from_slice(b"\x1b]7777;"),
            Some(_) => to.extend_from_slice(b"\x1bX"),
        }
        to.into()
    }
}

impl Screen {
    /// Returns what a viewer's terminal is sent when it leaves the program in this state: every mode that the
    /// program has set is reset, and the main screen is shown. What is on the main screen stays.
    #[must_use]
    pub fn leave(&self) -> Bytes {
        let screen = self.drawn.parser.screen();
        let modes = &self.drawn.modes;
        let mut to = Vec::new();
        if self.splitter.inside().is_some() || !self.splitter.pending().is_empty() {
            // It breaks off what has begun.
            to.push(0x18);
        }
        if !Region::of(screen).is_whole(screen) || Region::of(screen).origin {
            to.extend_from_slice(b"\x1b7\x1b[?6l\x1b[r\x1b8\x1b[?6l");
        }
        if screen.alternate_screen() {
            if modes.has_keyboard(true) {
                Modes::new().write_keyboard(true, &mut to);
            }
            to.extend_from_slice(b"\x1b[?1049l");
        }
        if modes.has_keyboard(false) {
            Modes::new().write_keyboard(false, &mut to);
        }
        to.extend_from_slice(b"\x1b[m");
        let (rows, columns) = screen.size();
        let fresh = vt100::Parser::new(rows, columns, 0);
        to.extend_from_slice(fresh.screen().input_mode_diff(screen).as_bytes());
        if screen.hide_cursor() {
            to.extend_from_slice(b"\x1b[?25h");
        }
        modes.write_leave(&mut to);
        to.into()
    }
}

/// A copy of a screen to try things on.
struct Probe(vt100::Parser);

impl Probe {
    fn new(screen: &vt100::Screen) -> Self {
        let (rows, columns) = screen.size();
        let mut parser = vt100::Parser::new(rows, columns, 0);
        *parser.screen_mut() = screen.clone();
        Self(parser)
    }

    /// The screen after a sequence.
    fn after(mut self, sequence: &[u8]) -> vt100::Screen {
        self.0.process(sequence);
        self.0.screen().clone()
    }
}

/// The rows of the scroll region, from 0, and whether the cursor counts from its top.
struct Region {
    top: u16,
    bottom: u16,
    origin: bool,
}

impl Region {
    /// `vt100` does not say it, but moves the cursor by it.
    fn of(screen: &vt100::Screen) -> Self {
        let row = |sequence: &[u8]| Probe::new(screen).after(sequence).cursor_position().0;
        let (top, bottom) = (row(b"\x1b[?6h\x1b[H"), row(b"\x1b[?6h\x1b[65535;1H"));
        let origin = row(b"\x1b[H") > 0 || row(b"\x1b[65535;1H") < screen.size().0.get() - 1;
        Self { top, bottom, origin }
    }

    fn is_whole(&self, screen: &vt100::Screen) -> bool {
        self.top == 0 && self.bottom == screen.size().0.get() - 1
    }
}

impl Drawn {
    fn write(&self, to: &mut Vec<u8>) {
        let screen = self.parser.screen();
        // The keyboard of the alternate screen is reset even if that is not shown.
        to.extend_from_slice(b"\x1b[?1049h");
        self.modes.write_keyboard(true, to);
        to.extend_from_slice(
            b"\x1b[?1049l\x1b[?6l\x1b[r\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l",
        );
        Modes::write_reset(to);
        let main = Probe::new(screen).after(b"\x1b[?47l");
        self.modes.write_keyboard(false, to);
        to.extend_from_slice(main.contents_formatted().as_bytes());
        if screen.alternate_screen() {
            let saved = Probe::new(&main).after(b"\x1b8");
            // The way in is most often one that keeps the cursor, and then both are the same.
            let kept = saved.cursor_position() == main.cursor_position();
            cursor(&saved, 0, to);
            if kept {
                to.extend_from_slice(b"\x1b[?1049h");
            } else {
                to.extend_from_slice(b"\x1b7");
                cursor(&main, 0, to);
                to.extend_from_slice(b"\x1b[?47h");
            }
            to.extend_from_slice(screen.contents_formatted().as_bytes());
        }
        let saved = Probe::new(screen).after(b"\x1b8");
        if !screen.alternate_screen() || saved.cursor_position() != (0, 0) {
            cursor(&saved, 0, to);
            to.extend_from_slice(b"\x1b7");
        }
        let region = Region::of(screen);
        if !region.is_whole(screen) {
            to.extend_from_slice(format!("\x1b[{};{}r", region.top + 1, region.bottom + 1).as_bytes());
        }
        if region.origin {
            to.extend_from_slice(b"\x1b[?6h");
        }
        cursor(screen, if region.origin { region.top } else { 0 }, to);
        to.extend_from_slice(if screen.hide_cursor() { b"\x1b[?25l" } else { b"\x1b[?25h" });
        to.extend_from_slice(screen.input_mode_formatted().as_bytes());
        self.modes.write(to);
    }
}

/// Moves the cursor where a screen has it, in rows from `top`, and sets what that writes with.
fn cursor(screen: &vt100::Screen, top: u16, to: &mut Vec<u8>) {
    let (row, column) = screen.cursor_position();
    let last = screen.size().1.get() - 1;
    let mut at = column.min(last);
    if column > last && at > 0 && screen.cell(row, at).is_some_and(vt100::Cell::is_wide_continuation) {
        at -= 1;
    }
    to.extend_from_slice(format!("\x1b[m\x1b[{};{}H", row.saturating_sub(top) + 1, at + 1).as_bytes());
    if column > last {
        // Behind the last column it gets by writing there, and waits for the next character to wrap.
        let written = screen.rows_formatted(at, last + 1 - at).nth(row.into()).unwrap_or_default();
        to.extend_from_slice(written.as_bytes());
        if !screen.cell(row, at).is_some_and(vt100::Cell::has_contents) {
            to.push(b' ');
        }
    }
    to.extend_from_slice(screen.attributes_formatted().as_bytes());
}

/// The cursor counts from the top of the region and stands outside of it: `ESC 8` can bring it there.
#[cfg(test)]
pub(super) fn is_lost(screen: &vt100::Screen) -> bool {
    let region = Region::of(screen);
    region.origin && !(region.top..=region.bottom).contains(&screen.cursor_position().0)
}
