//! What is typed: input for the program, and commands for this one. A value without terminal and clock.

use std::time::{Duration, Instant};

/// How long the prefix waits for its command. Then it was meant for the program.
const PATIENCE: Duration = Duration::from_millis(500);

const PASTE_BEGINS: &[u8] = b"\x1b[200~";
const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// What a key means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Typed {
    /// For the program.
    Input(Vec<u8>),
    /// Leave.
    Detach,
    /// Take the input from another client.
    Take,
}

/// Tells commands from input.
///
/// A command is the prefix and then `d` or `t`, each typed by itself: in what comes in one piece with other text the prefix
/// is text, so that a paste does nothing but paste. The prefix comes as its control character, or as the sequences that
/// terminals send in its place.
#[derive(Debug)]
pub struct Keys {
    prefix: u8,
    /// The prefix as it came, and when.
    held: Option<(Vec<u8>, Instant)>,
    in_paste: bool,
    /// The last bytes, as far as the end of a paste could begin in them.
    tail: Vec<u8>,
}

impl Keys {
    pub fn new(prefix: u8) -> Self {
        Self { prefix, held: None, in_paste: false, tail: Vec::new() }
    }

    /// Takes in what one read has brought.
    pub fn typed(&mut self, bytes: &[u8], now: Instant) -> Vec<Typed> {
        let held = self.held.take();
        if self.in_paste {
            self.follow(bytes);
            return vec![Typed::Input(bytes.to_vec())];
        }
        if let Some((prefix, _)) = held {
            return match self.plain(bytes) {
                Some(b'd') => vec![Typed::Detach],
                Some(b't') => vec![Typed::Take],
                // Twice is once for the program.
                Some(key) if key == self.prefix => vec![Typed::Input(bytes.to_vec())],
                _ => {
                    let mut typed = vec![Typed::Input(prefix)];
                    typed.extend(self.typed(bytes, now));
                    typed
                }
            };
        }
        if self.plain(bytes) == Some(self.prefix) {
            self.held = Some((bytes.to_vec(), now));
            return Vec::new();
        }
        // A slow link can bring both keys at once.
        if let [first, last] = bytes
            && *first == self.prefix
        {
            match last {
                b'd' => return vec![Typed::Detach],
                b't' => return vec![Typed::Take],
                _ => {}
            }
        }
        self.follow(bytes);
        vec![Typed::Input(bytes.to_vec())]
    }

    /// When [`Keys::pass`] has something.
    pub fn due(&self) -> Option<Instant> {
        self.held.as_ref().map(|(_, since)| *since + PATIENCE)
    }

    /// The prefix, if it has waited long enough for a command.
    pub fn pass(&mut self, now: Instant) -> Option<Typed> {
        let (prefix, _) = self.held.take_if(|(_, since)| *since + PATIENCE <= now)?;
        Some(Typed::Input(prefix))
    }

    /// The key that the bytes are, if they are one key with or without Ctrl.
    fn plain(&self, bytes: &[u8]) -> Option<u8> {
        if let [key] = bytes {
            return Some(*key);
        }
        let (code, modifiers) = sequence(bytes)?;
        let key = u8::try_from(code).ok()?;
        // Caps lock and num lock are no part of a key.
        match (modifiers.checked_sub(1)?) & !(64 | 128) {
            0 => Some(key),
            4 if key.is_ascii_lowercase() || matches!(key, b'\\'..=b'_') => Some(key & 0x1f),
            _ => None,
        }
    }

    /// Whether the text goes on inside a paste.
    fn follow(&mut self, bytes: &[u8]) {
        let mut text = std::mem::take(&mut self.tail);
        text.extend_from_slice(bytes);
        let last = |mark: &[u8]| text.windows(mark.len()).rposition(|window| window == mark);
        self.in_paste = match (last(PASTE_BEGINS), last(PASTE_ENDS)) {
            (Some(begins), Some(ends)) => begins > ends,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => self.in_paste,
        };
        let keep = text.len().min(PASTE_ENDS.len() - 1);
        self.tail = text.split_off(text.len() - keep);
    }
}

/// Code and modifiers of `CSI code ; modifiers u` and `CSI 27 ; modifiers ; code ~`; the press of a key, not its release.
fn sequence(bytes: &[u8]) -> Option<(u32, u32)> {
    let text = std::str::from_utf8(bytes).ok()?.strip_prefix("\x1b[")?;
    if let Some(fields) = text.strip_suffix('u') {
        let mut fields = fields.split(';');
        let code = fields.next()?.split(':').next()?.parse().ok()?;
        let mut modifiers = fields.next().unwrap_or("1").split(':');
        let number = modifiers.next()?.parse().ok()?;
        return matches!(modifiers.next(), None | Some("1")).then_some((code, number));
    }
    let (modifiers, code) = text.strip_suffix('~')?.strip_prefix("27;")?.split_once(';')?;
    Some((code.parse().ok()?, modifiers.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFIX: u8 = 0x1d;

    fn type_all(reads: &[&str]) -> Vec<Typed> {
        let mut keys = Keys::new(PREFIX);
        let now = Instant::now();
        reads.iter().flat_map(|read| keys.typed(read.as_bytes(), now)).collect()
    }

    #[test]
    fn the_prefix_is_known_in_every_form_and_with_num_lock() {
        for prefix in [
            "\x1d",
            "\x1b[93;5u",
            "\x1b[93;133u",
            "\x1b[93;69u",
            "\x1b[93;5:1u",
            "\x1b[27;5;93~",
            "\x1b[27;133;93~",
        ] {
            for d in ["d", "\x1b[100u", "\x1b[100;129u"] {
                assert_eq!(type_all(&[prefix, d]), [Typed::Detach], "{prefix:?} {d:?}");
            }
            assert_eq!(type_all(&[prefix, "t"]), [Typed::Take]);
            assert_eq!(type_all(&[prefix, prefix]), [Typed::Input(prefix.into())]);
        }
        assert_eq!(type_all(&["\x1dd"]), [Typed::Detach]);
        // Releases, other keys, other modifiers.
        for other in ["\x1b[93;5:3u", "\x1b[93;6u", "\x1b[93u", "\x1b[91;5u", "]"] {
            assert_eq!(
                type_all(&[other, "d"]),
                [Typed::Input(other.into()), Typed::Input("d".into())],
                "{other:?}"
            );
        }
    }

    #[test]
    fn a_lone_prefix_reaches_the_program_in_time() {
        let mut keys = Keys::new(PREFIX);
        let start = Instant::now();
        assert_eq!(keys.typed(b"\x1d", start), []);
        let due = keys.due().unwrap();
        assert!(due <= start + Duration::from_millis(500));
        assert_eq!(keys.pass(due - Duration::from_millis(1)), None);
        assert_eq!(keys.pass(due), Some(Typed::Input(vec![PREFIX])));
        assert_eq!((keys.due(), keys.pass(due)), (None, None));
        assert_eq!(type_all(&["\x1d", "x"]), [Typed::Input(vec![PREFIX]), Typed::Input("x".into())]);
    }

    #[test]
    fn a_paste_does_not_detach() {
        for paste in ["some\x1ddtext", "\x1ddd", "x\x1dd", "\x1b[200~\x1dd\x1b[201~"] {
            assert_eq!(type_all(&[paste]), [Typed::Input(paste.into())]);
        }
        // However it is cut.
        let paste = "\x1b[200~a\x1dd\x1dt\x1b[201~";
        for first in 6..paste.len() {
            for second in first..paste.len() {
                let (head, tail) = paste.split_at(second);
                let typed = type_all(&[&head[..first], &head[first..], tail, "\x1d", "d"]);
                let (last, input) = typed.split_last().unwrap();
                assert_eq!(last, &Typed::Detach);
                let text: Vec<u8> = input
                    .iter()
                    .flat_map(|typed| match typed {
                        Typed::Input(bytes) => bytes.clone(),
                        other => panic!("{other:?} at {first} and {second}"),
                    })
                    .collect();
                assert_eq!(text, paste.as_bytes());
            }
        }
    }

    proptest! {
        /// What is not a command arrives, whole and in order.
        #[test]
        fn nothing_is_lost(reads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6), 0..12)) {
            let mut keys = Keys::new(PREFIX);
            let now = Instant::now();
            let mut typed: Vec<_> = reads.iter().flat_map(|read| keys.typed(read, now)).collect();
            typed.extend(keys.pass(now + PATIENCE));
            let commands = typed.iter().any(|typed| !matches!(typed, Typed::Input(_)));
            let twice = reads.windows(2).any(|pair| pair[0] == [PREFIX] && pair[1] == [PREFIX]);
            if !commands && !twice {
                let text: Vec<u8> = typed.into_iter().flat_map(|typed| match typed {
                    Typed::Input(bytes) => bytes,
                    _ => Vec::new(),
                }).collect();
                prop_assert_eq!(text, reads.concat());
            }
        }
    }
}
