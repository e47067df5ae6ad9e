//! What a control sequence says.

/// How many parameters are read; `vt100` reads 32 too.
const PARAMETERS: usize = 32;

/// `ESC [`, perhaps one of `< = > ?`, numbers, perhaps an intermediate, and a letter.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Csi {
    pub(super) private: Option<u8>,
    /// A missing one is 0. Of one with subparameters (`4:3`) only the first is here.
    parameters: Vec<u16>,
    pub(super) intermediate: Option<u8>,
    pub(super) last: u8,
}

impl Csi {
    /// Reads a whole sequence. `None` if it is one that no terminal knows.
    pub(super) fn read(sequence: &[u8]) -> Option<Self> {
        let mut csi = Self { private: None, parameters: Vec::new(), intermediate: None, last: 0 };
        let mut number: Option<u16> = None;
        let mut sub = false;
        let (last, body) = sequence.get(2..)?.split_last()?;
        let mut first = true;
        for byte in body {
            match byte {
                b'0'..=b'9' if csi.intermediate.is_none() => {
                    if !sub {
                        let digit = u16::from(byte - b'0');
                        number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
                    }
                }
                b':' => sub = true,
                b';' => {
                    csi.parameters.push(number.take().unwrap_or(0));
                    sub = false;
                }
                b'<'..=b'?' if first => csi.private = Some(*byte),
                0x20..=0x2f if csi.intermediate.is_none() => csi.intermediate = Some(*byte),
                // Control characters within a sequence are no part of it.
                0..=0x1f | 0x7f..=0xff => continue,
                _ => return None,
            }
            first = false;
        }
        if let Some(number) = number {
            csi.parameters.push(number);
        }
        csi.last = *last;
        csi.parameters.truncate(PARAMETERS);
        Some(csi)
    }

    /// The parameter at a place, 0 if it is missing.
    pub(super) fn parameter(&self, place: usize) -> u16 {
        self.parameters.get(place).copied().unwrap_or(0)
    }

    /// The first parameter as a count: 1 if it is missing or 0.
    pub(super) fn count(&self) -> u16 {
        self.parameter(0).max(1)
    }

    pub(super) fn parameters(&self) -> &[u16] {
        &self.parameters
    }
}

/// The inside of a string: what stands between its beginning (two bytes) and its end.
pub(super) fn inside(string: &[u8]) -> &[u8] {
    let inside = string.get(2..).unwrap_or_default();
    inside.strip_suffix(b"\x1b\\").or_else(|| inside.strip_suffix(b"\x07")).unwrap_or(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_read() {
        let csi = Csi::read(b"\x1b[?1049;2004h").unwrap();
        assert_eq!((csi.private, csi.parameters(), csi.last), (Some(b'?'), &[1049, 2004][..], b'h'));
        let csi = Csi::read(b"\x1b[?2026$p").unwrap();
        assert_eq!((csi.private, csi.intermediate, csi.last), (Some(b'?'), Some(b'$'), b'p'));
        let csi = Csi::read(b"\x1b[;99999\n9999m").unwrap();
        assert_eq!(csi.parameters(), [0, u16::MAX]);
        assert_eq!(Csi::read(b"\x1b[4:3;1m").unwrap().parameters(), [4, 1]);
        assert_eq!(Csi::read(b"\x1b[c").unwrap().parameter(0), 0);
        assert_eq!(Csi::read(b"\x1b[1?c"), None);
        assert_eq!(inside(b"\x1b]0;t\x07"), b"0;t");
        assert_eq!(inside(b"\x1bP+q\x1b\\"), b"+q");
    }
}
