//! The names of keys, and what a terminal sends for them.

use std::str::FromStr;

/// A key: what a terminal sends for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypedKey(Vec<u8>);

const NAMED: [(&str, &str); 30] = [
    ("Enter", "\r"),
    ("Newline", "\n"),
    ("Tab", "\t"),
    ("Escape", "\x1b"),
    ("Space", " "),
    ("Backspace", "\x7f"),
    ("Up", "\x1b[A"),
    ("Down", "\x1b[B"),
    ("Right", "\x1b[C"),
    ("Left", "\x1b[D"),
    ("Home", "\x1b[H"),
    ("End", "\x1b[F"),
    ("Insert", "\x1b[2~"),
    ("Delete", "\x1b[3~"),
    ("PageUp", "\x1b[5~"),
    ("PageDown", "\x1b[6~"),
    ("F1", "\x1bOP"),
    ("F2", "\x1bOQ"),
    ("F3", "\x1bOR"),
    ("F4", "\x1bOS"),
    ("F5", "\x1b[15~"),
    ("F6", "\x1b[17~"),
    ("F7", "\x1b[18~"),
    ("F8", "\x1b[19~"),
    ("F9", "\x1b[20~"),
    ("F10", "\x1b[21~"),
    ("F11", "\x1b[23~"),
    ("F12", "\x1b[24~"),
    ("BackTab", "\x1b[Z"),
    ("C-Space", "\0"),
];

impl TypedKey {
    pub fn bytes(&self) -> impl Iterator<Item = u8> {
        self.0.iter().copied()
    }
}

impl FromStr for TypedKey {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if let Some((_, bytes)) = NAMED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Ok(Self(bytes.as_bytes().to_vec()));
        }
        if let Some(key) = name.strip_prefix("M-").filter(|key| !key.is_empty()) {
            let Self(mut bytes) = key.parse()?;
            bytes.insert(0, 0x1b);
            return Ok(Self(bytes));
        }
        if let Some([key]) = name.strip_prefix("C-").map(str::as_bytes)
            && matches!(key.to_ascii_uppercase(), b'@'..=b'_')
        {
            return Ok(Self(vec![key.to_ascii_uppercase() & 0x1f]));
        }
        let mut characters = name.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) if !character.is_control() => Ok(Self(name.into())),
            _ => Err("write a name as Enter, Escape, Up or F5; C-c for Ctrl; M-x for Alt; or one character"
                .to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_a_terminal_sends() {
        for (name, bytes) in [
            ("enter", "\r"),
            ("C-c", "\x03"),
            ("C-C", "\x03"),
            ("C-[", "\x1b"),
            ("C-@", "\0"),
            ("M-x", "\x1bx"),
            ("M-Left", "\x1b\x1b[D"),
            ("M-C-a", "\x1b\x01"),
            ("ä", "ä"),
            ("-", "-"),
        ] {
            assert_eq!(name.parse(), Ok(TypedKey(bytes.into())), "{name}");
        }
        for wrong in ["", "Entre", "C-", "M-", "C-1", "\x1b", "ab"] {
            assert!(wrong.parse::<TypedKey>().is_err(), "{wrong:?}");
        }
    }
}
