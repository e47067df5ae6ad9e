//! Keys out of what a terminal sends.

use super::escapes::{Escapes, Token};

/// A key, or what a terminal tells instead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Key {
    Char(char),
    /// Ctrl and a letter or sign, as `Ctrl('C')`.
    Ctrl(char),
    Alt(char),
    Enter,
    Tab,
    Backspace,
    AltBackspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    WordLeft,
    WordRight,
    Home,
    End,
    PasteBegins,
    PasteEnds,
    /// The terminal has said what it can; `true` if sixel is among that.
    Abilities(bool),
    /// Something that means nothing here.
    Other,
}

/// Reads keys. What is cut between two reads is put together.
#[derive(Debug)]
pub(super) struct Keys {
    escapes: Escapes,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self { escapes: Escapes::of_keys() }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], mut give: impl FnMut(Key)) {
        for &byte in bytes {
            self.escapes.feed(byte, |token| give(key(token)));
        }
    }
}

fn key(token: Token) -> Key {
    match token {
        Token::Text(c) => Key::Char(c),
        Token::Invalid => Key::Char('\u{FFFD}'),
        Token::Control(b'\r' | b'\n') => Key::Enter,
        Token::Control(b'\t') => Key::Tab,
        Token::Control(0x08 | 0x7F) => Key::Backspace,
        Token::Control(byte) => Key::Ctrl((byte | 0x40).into()),
        Token::Escape(0x08 | 0x7F) => Key::AltBackspace,
        Token::Escape(b'\r' | b'\n') => Key::Enter,
        Token::Escape(byte) if byte.is_ascii_graphic() => Key::Alt(char::from(byte).to_ascii_lowercase()),
        Token::Escape(_) => Key::Other,
        Token::Single(last) => match last {
            b'M' => Key::Enter,
            last => cursor(last, false),
        },
        Token::Csi { parameters, last } => csi(&parameters, last),
    }
}

fn cursor(last: u8, word: bool) -> Key {
    match last {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' if word => Key::WordRight,
        b'D' if word => Key::WordLeft,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        _ => Key::Other,
    }
}

fn csi(parameters: &[u8], last: u8) -> Key {
    let text = std::str::from_utf8(parameters).unwrap_or_default();
    if let Some(abilities) = text.strip_prefix('?') {
        return if last == b'c' {
            Key::Abilities(abilities.split(';').skip(1).any(|it| it == "4"))
        } else {
            Key::Other
        };
    }
    let mut numbers = text.split(';').map(|number| number.parse().unwrap_or(1_u32));
    let (first, modifiers) = (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
    // Bit 1 is Alt, bit 2 is Ctrl, of a number less one.
    let word = modifiers.saturating_sub(1) & 0b110 != 0;
    match last {
        b'~' => match first {
            1 | 7 => Key::Home,
            3 => Key::Delete,
            4 | 8 => Key::End,
            200 => Key::PasteBegins,
            201 => Key::PasteEnds,
            // The form of xterm's modifyOtherKeys.
            27 => numbers.next().map_or(Key::Other, |code| modified(code, modifiers)),
            _ => Key::Other,
        },
        b'u' => modified(first, modifiers),
        // The answer to a question for the cursor's place, and F3.
        b'R' => Key::Other,
        last => cursor(last, word),
    }
}

/// A key with its modifiers as numbers, as newer terminals send it.
fn modified(code: u32, modifiers: u32) -> Key {
    let bits = modifiers.saturating_sub(1);
    let Some(c) = char::from_u32(code) else { return Key::Other };
    match c {
        '\r' => Key::Enter,
        '\t' => Key::Tab,
        '\x7F' | '\x08' if bits & 2 != 0 => Key::AltBackspace,
        '\x7F' | '\x08' => Key::Backspace,
        c if bits & 4 != 0 => Key::Ctrl(c.to_ascii_uppercase()),
        c if bits & 2 != 0 => Key::Alt(c.to_ascii_lowercase()),
        c if c.is_control() => Key::Other,
        c => Key::Char(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        let mut reader = Keys::new();
        // Byte by byte, as a slow link brings them.
        for byte in bytes {
            reader.feed(std::slice::from_ref(byte), |key| keys.push(key));
        }
        keys
    }

    #[test]
    fn keys_of_all_common_terminals_are_known() {
        for (bytes, key) in [
            (&b"\x1b[A"[..], Key::Up),
            (b"\x1bOA", Key::Up),
            (b"\x1b[1;5C", Key::WordRight),
            (b"\x1b[1;3D", Key::WordLeft),
            (b"\x1bf", Key::Alt('f')),
            (b"\x1b\x7f", Key::AltBackspace),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[7~", Key::Home),
            (b"\x1b[200~", Key::PasteBegins),
            (b"\x03", Key::Ctrl('C')),
            (b"\x1b[99;5u", Key::Ctrl('C')),
            (b"\x1b[27;5;99~", Key::Ctrl('C')),
            (b"\x1c", Key::Ctrl('\\')),
            (b"\x1b[?62;4;6c", Key::Abilities(true)),
            (b"\x1b[?64;14c", Key::Abilities(false)),
            (b"\x1b[12;40R", Key::Other),
            (b"\x1b]", Key::Alt(']')),
            (b"\x7f", Key::Backspace),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:?}");
        }
    }
}
