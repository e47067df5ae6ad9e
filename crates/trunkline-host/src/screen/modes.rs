//! What `vt100` does not keep: more modes, the keyboard protocol, character sets, the title.

use super::sequence::Csi;

/// Private modes that are kept for joiners, besides those that `vt100` keeps: wrapping, blinking, focus,
/// the wheel in the alternate screen, two encodings of the mouse, and how Alt and Meta are sent.
const KEPT: [u16; 9] = [7, 12, 1004, 1007, 1015, 1016, 1034, 1036, 1039];
/// The one of them that is on at first.
const WRAPS: u16 = 7;
/// Modes of which a terminal reports by itself. An attached terminal must not, so viewers never see them.
pub(super) const REPORTS: [u16; 2] = [2031, 2048];
/// How many levels the stack of a keyboard has; the protocol lets a terminal forget the oldest.
const LEVELS: usize = 16;
/// The longest title that is kept, in bytes.
const TITLE: usize = 512;

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Modes {
    /// Those of [`KEPT`] that are on, in its order.
    on: [bool; KEPT.len()],
    pub(super) insert: bool,
    pub(super) newline: bool,
    /// For the main screen, and for the alternate one.
    keyboards: [Keyboard; 2],
    pub(super) charsets: Charsets,
    saved_charsets: Charsets,
    pub(super) title: String,
}

/// The flags of the keyboard protocol, and those beneath them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Keyboard {
    below: Vec<u8>,
    flags: u8,
}

/// Which of the two sets that a terminal has at hand is in use, and whether each is the one of lines and
/// corners.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Charsets {
    lines: [bool; 2],
    second: bool,
}

impl Modes {
    pub(super) fn new() -> Self {
        Self {
            on: KEPT.map(|mode| mode == WRAPS),
            insert: false,
            newline: false,
            keyboards: Default::default(),
            charsets: Charsets::default(),
            saved_charsets: Charsets::default(),
            title: String::new(),
        }
    }

    /// Everything as at first, except for the title.
    pub(super) fn reset(&mut self) {
        *self = Self { title: std::mem::take(&mut self.title), ..Self::new() };
    }

    /// What `CSI ! p` resets.
    pub(super) fn soft_reset(&mut self) {
        self.insert = false;
        self.charsets = Charsets::default();
        self.set(WRAPS, true);
    }

    pub(super) fn set(&mut self, mode: u16, on: bool) {
        if let Some(place) = KEPT.iter().position(|kept| *kept == mode) {
            self.on[place] = on;
        }
    }

    /// `None` if it is not kept here.
    pub(super) fn is_on(&self, mode: u16) -> Option<bool> {
        KEPT.iter().position(|kept| *kept == mode).map(|place| self.on[place])
    }

    pub(super) fn set_title(&mut self, title: &[u8]) {
        let title = String::from_utf8_lossy(&title[..title.len().min(2 * TITLE)]);
        let plain: String = title.chars().filter(|letter| !letter.is_control()).collect();
        self.title = plain[..plain.floor_char_boundary(TITLE)].to_owned();
    }

    pub(super) fn save_cursor(&mut self) {
        self.saved_charsets = self.charsets;
    }

    pub(super) fn restore_cursor(&mut self) {
        self.charsets = self.saved_charsets;
    }

    /// The flags of the keyboard protocol.
    pub(super) fn keyboard_flags(&self, alternate: bool) -> u8 {
        self.keyboards[usize::from(alternate)].flags
    }

    /// `CSI > FLAGS u`, `CSI < COUNT u` and `CSI = FLAGS ; HOW u`.
    pub(super) fn keyboard(&mut self, csi: &Csi, alternate: bool) {
        let keyboard = &mut self.keyboards[usize::from(alternate)];
        let flags = u8::try_from(csi.parameter(0) & 31).unwrap_or_default();
        match csi.private {
            Some(b'>') => {
                if keyboard.below.len() == LEVELS {
                    keyboard.below.remove(0);
                }
                keyboard.below.push(std::mem::replace(&mut keyboard.flags, flags));
            }
            Some(b'<') => {
                for _ in 0..csi.count().min(LEVELS as u16 + 1) {
                    keyboard.flags = keyboard.below.pop().unwrap_or_default();
                }
            }
            _ => match csi.parameter(1) {
                2 => keyboard.flags |= flags,
                3 => keyboard.flags &= !flags,
                _ => keyboard.flags = flags,
            },
        }
    }

    /// What brings a terminal to these modes that has all of them as at first, but for the keyboards.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        for (mode, on) in KEPT.iter().zip(self.on) {
            if on != (*mode == WRAPS) {
                to.extend_from_slice(format!("\x1b[?{mode}{}", if on { 'h' } else { 'l' }).as_bytes());
            }
        }
        for (mode, on) in [(4, self.insert), (20, self.newline)] {
            if on {
                to.extend_from_slice(format!("\x1b[{mode}h").as_bytes());
            }
        }
        if !self.title.is_empty() {
            to.extend_from_slice(format!("\x1b]2;{}\x1b\\", self.title).as_bytes());
        }
        // What `ESC 7` has kept of the sets is not passed on: a terminal has it with the cursor.
        self.charsets.write(to);
    }

    /// Resets what [`Modes::write`] does not set.
    pub(super) fn write_reset(to: &mut Vec<u8>) {
        for mode in KEPT {
            to.extend_from_slice(format!("\x1b[?{mode}{}", if mode == WRAPS { 'h' } else { 'l' }).as_bytes());
        }
        to.extend_from_slice(b"\x1b[4l\x1b[20l\x1b(B\x1b)B\x0f");
    }

    /// Resets what is set, for a terminal that leaves.
    pub(super) fn write_leave(&self, to: &mut Vec<u8>) {
        for (mode, on) in KEPT.iter().zip(self.on) {
            if on != (*mode == WRAPS) {
                to.extend_from_slice(format!("\x1b[?{mode}{}", if on { 'l' } else { 'h' }).as_bytes());
            }
        }
        for (mode, on) in [(4, self.insert), (20, self.newline)] {
            if on {
                to.extend_from_slice(format!("\x1b[{mode}l").as_bytes());
            }
        }
        // In any case: the way back to the main screen may have brought others.
        to.extend_from_slice(b"\x1b(B\x1b)B\x0f");
    }

    /// Returns `true` if a screen's keyboard is not as at first.
    pub(super) fn has_keyboard(&self, alternate: bool) -> bool {
        self.keyboards[usize::from(alternate)] != Keyboard::default()
    }

    /// The flags of one screen's keyboard, while that screen is shown.
    pub(super) fn write_keyboard(&self, alternate: bool, to: &mut Vec<u8>) {
        let keyboard = &self.keyboards[usize::from(alternate)];
        let mut levels = keyboard.below.iter().chain([&keyboard.flags]);
        let first = levels.next().copied().unwrap_or_default();
        to.extend_from_slice(format!("\x1b[<{LEVELS}u\x1b[={first}u").as_bytes());
        for flags in levels {
            to.extend_from_slice(format!("\x1b[>{flags}u").as_bytes());
        }
    }
}

impl Charsets {
    /// `ESC ( 0` and its like: `true` if it was one.
    pub(super) fn designate(&mut self, sequence: &[u8]) -> bool {
        let [_, set @ (b'(' | b')'), name] = sequence else { return false };
        self.lines[usize::from(*set == b')')] = *name == b'0';
        true
    }

    /// Text as a screen shows it that knows one set only. `None` if it is the same.
    pub(super) fn translate(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let shifts = memchr::memchr2(0x0e, 0x0f, text).is_some();
        if !shifts && !self.lines[usize::from(self.second)] {
            return None;
        }
        let mut shown = Vec::with_capacity(text.len() * 2);
        for byte in text {
            // The shifts stay, so that no two bytes meet that were apart.
            self.second = match byte {
                0x0e => true,
                0x0f => false,
                _ => self.second,
            };
            match byte {
                b'_'..=b'~' if self.lines[usize::from(self.second)] => {
                    let mut bytes = [0; 4];
                    let line = LINES[usize::from(byte - b'_')];
                    shown.extend_from_slice(line.encode_utf8(&mut bytes).as_bytes());
                }
                byte => shown.push(*byte),
            }
        }
        Some(shown)
    }

    fn write(self, to: &mut Vec<u8>) {
        if self.lines[0] {
            to.extend_from_slice(b"\x1b(0");
        }
        if self.lines[1] {
            to.extend_from_slice(b"\x1b)0");
        }
        if self.second {
            to.push(0x0e);
        }
    }
}

/// The set of lines and corners, from `_` to `~`.
const LINES: [char; 32] = [
    ' ', '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─', '⎼', '⎽',
    '├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
];
