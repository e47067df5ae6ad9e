//! Characters and escape sequences out of bytes, whether they come from the keys or go to the screen.

/// A sequence with more parameter bytes is none.
const LONGEST: usize = 64;

/// What a byte completes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token {
    /// A character that is shown.
    Text(char),
    /// Bytes that are not UTF-8; shown as U+FFFD.
    Invalid,
    /// A control character: 0 to 31, or 127.
    Control(u8),
    /// ESC and one more.
    Escape(u8),
    /// ESC O and one more.
    Single(u8),
    /// ESC [ parameters final.
    Csi { parameters: Vec<u8>, last: u8 },
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Ground,
    /// The beginning of a character, and how many bytes it has.
    Character {
        bytes: [u8; 4],
        there: usize,
        all: usize,
    },
    Escape,
    /// After ESC and an intermediate byte.
    Charset,
    Single,
    Csi(Vec<u8>),
    /// Longer than any that is known.
    Lost,
    /// A command for the screen that is a text: it ends with BEL or ESC \.
    Text {
        escape: bool,
    },
}

/// Reads bytes one by one. Its memory is bounded.
#[derive(Clone, Debug)]
pub(super) struct Escapes {
    state: State,
    /// Keys send no texts: Alt-] is a key, and must not swallow all that follow.
    texts: bool,
}

impl Escapes {
    pub(super) fn of_keys() -> Self {
        Self { state: State::Ground, texts: false }
    }

    pub(super) fn of_screen() -> Self {
        Self { state: State::Ground, texts: true }
    }

    /// Returns `true` if no sequence has begun.
    pub(super) fn is_ground(&self) -> bool {
        self.state == State::Ground
    }

    pub(super) fn reset(&mut self) {
        self.state = State::Ground;
    }

    /// Takes a byte, and gives what it completes: at most one token, but two if it ends a broken character.
    pub(super) fn feed(&mut self, byte: u8, mut give: impl FnMut(Token)) {
        if let State::Character { mut bytes, there, all } = self.state {
            if byte & 0xC0 == 0x80 {
                bytes[there] = byte;
                self.state = State::Character { bytes, there: there + 1, all };
                if there + 1 == all {
                    self.state = State::Ground;
                    let character =
                        std::str::from_utf8(&bytes[..all]).ok().and_then(|text| text.chars().next());
                    give(character.map_or(Token::Invalid, Token::Text));
                }
                return;
            }
            self.state = State::Ground;
            give(Token::Invalid);
        }
        if let Some(token) = self.step(byte) {
            give(token);
        }
    }

    fn step(&mut self, byte: u8) -> Option<Token> {
        // CAN and SUB end any sequence.
        if matches!(byte, 0x18 | 0x1A) && !matches!(self.state, State::Ground) {
            self.state = State::Ground;
            return None;
        }
        match std::mem::replace(&mut self.state, State::Ground) {
            State::Ground | State::Character { .. } => match byte {
                0x1B => self.state = State::Escape,
                0..=0x1F | 0x7F => return Some(Token::Control(byte)),
                0x20..=0x7E => return Some(Token::Text(byte.into())),
                0xC2..=0xF4 => {
                    let all = if byte < 0xE0 {
                        2
                    } else if byte < 0xF0 {
                        3
                    } else {
                        4
                    };
                    self.state = State::Character { bytes: [byte, 0, 0, 0], there: 1, all };
                }
                _ => return Some(Token::Invalid),
            },
            State::Escape => match byte {
                b'[' => self.state = State::Csi(Vec::new()),
                // On the screen SS3 is a shift for one character, which is text.
                b'O' if !self.texts => self.state = State::Single,
                b']' | b'P' | b'X' | b'^' | b'_' if self.texts => self.state = State::Text { escape: false },
                b' '..=b'/' if self.texts => self.state = State::Charset,
                0x1B => self.state = State::Escape,
                _ => return Some(Token::Escape(byte)),
            },
            State::Charset => return Some(Token::Escape(byte)),
            State::Single => return Some(Token::Single(byte)),
            State::Csi(mut parameters) => match byte {
                0x1B => self.state = State::Escape,
                b'@'..=b'~' => return Some(Token::Csi { parameters, last: byte }),
                b' '..=b'?' if parameters.len() < LONGEST => {
                    parameters.push(byte);
                    self.state = State::Csi(parameters);
                }
                b' '..=b'?' => self.state = State::Lost,
                // A control character inside of a sequence counts, and the sequence is over.
                _ => return self.step(byte),
            },
            State::Lost => match byte {
                b'@'..=b'~' => {}
                b' '..=b'?' => self.state = State::Lost,
                _ => return self.step(byte),
            },
            State::Text { escape } => match byte {
                0x07 => {}
                b'\\' if escape => {}
                0x1B => self.state = State::Text { escape: true },
                _ => self.state = State::Text { escape: false },
            },
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(mut escapes: Escapes, bytes: &[u8]) -> Vec<Token> {
        let mut tokens = Vec::new();
        for &byte in bytes {
            escapes.feed(byte, |token| tokens.push(token));
        }
        tokens
    }

    #[test]
    fn bytes_that_are_not_utf_8_swallow_nothing_behind_them() {
        let shown: String = tokens(Escapes::of_keys(), b"a\xE9b\xE2\x94x\xFF\xC3\xA9\r")
            .into_iter()
            .map(|token| match token {
                Token::Text(c) => c,
                Token::Control(b'\r') => '⏎',
                _ => '\u{FFFD}',
            })
            .collect();
        assert_eq!(shown, "a\u{FFFD}b\u{FFFD}x\u{FFFD}é⏎");
    }

    proptest! {
        /// No key and no garbage makes later keys vanish: `x`, the key Enter and `y` come after any prefix, save
        /// the few bytes that may end a sequence.
        #[test]
        fn keys_never_freeze(prefix in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = prefix;
            bytes.extend_from_slice(b"\x1b\x1bzzx\ry");
            let tokens = tokens(Escapes::of_keys(), &bytes);
            let last = &tokens[tokens.len() - 3..];
            prop_assert_eq!(last, &[Token::Text('x'), Token::Control(b'\r'), Token::Text('y')]);
        }

        /// All characters come as they are.
        #[test]
        fn text_comes_whole(text in "\\PC*") {
            for escapes in [Escapes::of_keys(), Escapes::of_screen()] {
                let shown: String = tokens(escapes, text.as_bytes())
                    .into_iter()
                    .map(|token| match token { Token::Text(c) => c, _ => '?' })
                    .collect();
                prop_assert_eq!(&shown, &text);
            }
        }
    }
}
