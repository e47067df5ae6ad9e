//! What a program asks its terminal, and what it is told.
//!
//! The host answers, at once, whether a terminal is attached or not, and always the same. What it does not
//! know gets the answer that says so, where there is one. Questions about the title and the clipboard get
//! none: their answers would type what another program has chosen.

use super::sequence::{Csi, inside};
use crate::size::Size;

/// What an answer depends on.
pub(super) struct Known {
    pub(super) size: Size,
    /// Row and column of the cursor, from 1.
    pub(super) cursor: (u16, u16),
    pub(super) keyboard_flags: u8,
}

/// A VT220 with colours and a cursor of its own.
const DEVICE: &str = "\x1b[?62;22c";

/// Returns `true` if the sequence asks something.
pub(super) fn csi(
    csi: &Csi,
    known: &Known,
    mode: impl Fn(u16) -> Option<bool>,
    answer: &mut Vec<u8>,
) -> bool {
    let (row, column) = known.cursor;
    let first = csi.parameter(0);
    let text = match (csi.private, csi.intermediate, csi.last) {
        (None, None, b'c') if first == 0 => DEVICE.to_owned(),
        (Some(b'>'), None, b'c') if first == 0 => "\x1b[>1;100;0c".to_owned(),
        (Some(b'='), None, b'c') if first == 0 => "\x1bP!|00000000\x1b\\".to_owned(),
        (None, None, b'n') if first == 5 => "\x1b[0n".to_owned(),
        (None, None, b'n') if first == 6 => format!("\x1b[{row};{column}R"),
        (Some(b'?'), None, b'n') if first == 6 => format!("\x1b[?{row};{column}R"),
        (Some(b'?'), None, b'n') if first == 996 => "\x1b[?997;1n".to_owned(),
        (None | Some(b'?'), None, b'n') => String::new(),
        (Some(b'?'), None, b'u') => format!("\x1b[?{}u", known.keyboard_flags),
        (Some(b'?'), Some(b'$'), b'p') => {
            let state = mode(first).map_or(0, |on| if on { 1 } else { 2 });
            format!("\x1b[?{first};{state}$y")
        }
        (None, Some(b'$'), b'p') => format!("\x1b[{first};0$y"),
        (Some(b'>'), None, b'q') if first == 0 => {
            format!("\x1bP>|trunkline {}\x1b\\", env!("CARGO_PKG_VERSION"))
        }
        (None, None, b'x') if first < 2 => format!("\x1b[{};1;1;128;128;1;0x", first + 2),
        (None, None, b't') => match first {
            11 => "\x1b[1t".to_owned(),
            18 => format!("\x1b[8;{};{}t", known.size.rows(), known.size.columns()),
            19 => format!("\x1b[9;{};{}t", known.size.rows(), known.size.columns()),
            13..=16 | 20 | 21 => String::new(),
            _ => return false,
        },
        _ => return false,
    };
    answer.extend_from_slice(text.as_bytes());
    true
}

/// Returns `true` if the sequence asks something: `ESC Z`.
pub(super) fn escape(sequence: &[u8], answer: &mut Vec<u8>) -> bool {
    let asks = sequence == b"\x1bZ";
    if asks {
        answer.extend_from_slice(DEVICE.as_bytes());
    }
    asks
}

/// Returns `true` if the string asks something: a colour, or the clipboard.
pub(super) fn osc(string: &[u8], answer: &mut Vec<u8>) -> bool {
    let inside = inside(string);
    let mut fields = inside.split(|byte| *byte == b';');
    let command = fields.next().unwrap_or_default();
    let asked = |field: &[u8]| field == b"?" || field.ends_with(b"=?");
    match command {
        b"10" | b"11" | b"12" => {
            let first: u8 = if command == b"10" {
                10
            } else if command == b"11" {
                11
            } else {
                12
            };
            let mut asks = false;
            // Each further field is about the next colour.
            for (number, field) in (first..=12).zip(fields) {
                if asked(field) {
                    asks = true;
                    let colour = if number == 11 { "0000/0000/0000" } else { "ffff/ffff/ffff" };
                    answer.extend_from_slice(format!("\x1b]{number};rgb:{colour}\x1b\\").as_bytes());
                }
            }
            asks
        }
        b"4" => {
            let fields: Vec<_> = fields.collect();
            let mut asks = false;
            for pair in fields.chunks_exact(2) {
                let number = std::str::from_utf8(pair[0]).ok().and_then(|text| text.parse::<u8>().ok());
                if asked(pair[1]) {
                    asks = true;
                    if let Some(number) = number {
                        let [red, green, blue] = colour(number);
                        let text = format!(
                            "\x1b]4;{number};rgb:{red:02x}{red:02x}/{green:02x}{green:02x}/{blue:02x}{blue:02x}\x1b\\"
                        );
                        answer.extend_from_slice(text.as_bytes());
                    }
                }
            }
            asks
        }
        b"5" | b"13" | b"14" | b"15" | b"16" | b"17" | b"18" | b"19" | b"21" | b"52" => fields.any(asked),
        b"1337" => fields.any(|field| field.starts_with(b"Report")),
        // Keys of a notification, its query among them.
        b"99" => fields.next().is_some_and(|keys| keys.split(|byte| *byte == b':').any(|key| key == b"p=?")),
        _ => false,
    }
}

/// Returns `true` if the string asks something: a setting, or what the terminal can do.
pub(super) fn dcs(string: &[u8], answer: &mut Vec<u8>) -> bool {
    let inside = inside(string);
    if inside.starts_with(b"$q") {
        answer.extend_from_slice(b"\x1bP0$r\x1b\\");
    } else if let Some(names) = inside.strip_prefix(b"+q") {
        answer.extend_from_slice(b"\x1bP0+r");
        answer.extend(names.iter().filter(|byte| byte.is_ascii_hexdigit() || **byte == b';').take(256));
        answer.extend_from_slice(b"\x1b\\");
    } else {
        return false;
    }
    true
}

/// Returns `true` if the string asks whether the terminal shows pictures. A terminal that does not says
/// nothing.
pub(super) fn other(string: &[u8]) -> bool {
    let Some(keys) = string.strip_prefix(b"\x1b_G") else { return false };
    let keys = keys.split(|byte| *byte == b';' || *byte == 0x1b).next().unwrap_or_default();
    keys.split(|byte| *byte == b',').any(|key| key == b"a=q")
}

/// The colour of a number as xterm has it at first.
fn colour(number: u8) -> [u8; 3] {
    const FIRST: [[u8; 3]; 16] = [
        [0, 0, 0],
        [205, 0, 0],
        [0, 205, 0],
        [205, 205, 0],
        [0, 0, 238],
        [205, 0, 205],
        [0, 205, 205],
        [229, 229, 229],
        [127, 127, 127],
        [255, 0, 0],
        [0, 255, 0],
        [255, 255, 0],
        [92, 92, 255],
        [255, 0, 255],
        [0, 255, 255],
        [255, 255, 255],
    ];
    let step = |level: u8| if level == 0 { 0 } else { 55 + 40 * level };
    match number {
        0..=15 => FIRST[usize::from(number)],
        16..=231 => {
            let number = number - 16;
            [step(number / 36), step(number / 6 % 6), step(number % 6)]
        }
        232..=255 => [8 + 10 * (number - 232); 3],
    }
}
