//! Output cut at the borders of characters and escape sequences.

use memchr::memchr;

/// The most that is kept of a sequence whose end has not come. A longer one passes in pieces.
pub(super) const KEPT: usize = 16 * 1024;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// What a sequence is, by how it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `ESC`, perhaps intermediates, and a last byte.
    Escape,
    /// `ESC [`.
    Csi,
    /// `ESC ]`.
    Osc,
    /// `ESC P`.
    Dcs,
    /// `ESC X`, `ESC ^` and `ESC _`.
    Other,
}

/// A piece of a program's output. The pieces together are the output, byte for byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece<'a> {
    /// Text and control characters. A character that is cut here is none.
    Plain(&'a [u8]),
    /// A whole sequence, from its `ESC` to its last byte.
    Whole(Kind, &'a [u8]),
    /// A sequence that another one or a control character broke off. It means nothing.
    Broken(&'a [u8]),
    /// A piece of a sequence that is too long to be kept.
    Long(Kind, &'a [u8]),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Plain,
    /// In the middle of a character.
    Character,
    /// Behind `ESC`; `true` behind an intermediate.
    Escape(bool),
    Csi,
    /// In a string; `true` behind an `ESC` in it.
    String(Kind, bool),
}

/// Cuts output, whatever the pieces in which it comes.
pub(super) struct Splitter {
    state: State,
    pending: Vec<u8>,
    /// The sequence has passed [`KEPT`]: its beginning is gone.
    long: bool,
}

impl Splitter {
    pub(super) fn new() -> Self {
        Self { state: State::Plain, pending: Vec::new(), long: false }
    }

    /// What has come of a character or a sequence whose end has not.
    pub(super) fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// In which sequence the output is, if that is one whose beginning has passed already.
    pub(super) fn inside(&self) -> Option<Kind> {
        let kind = match self.state {
            State::Plain | State::Character => return None,
            State::Escape(_) => Kind::Escape,
            State::Csi => Kind::Csi,
            State::String(kind, _) => kind,
        };
        self.long.then_some(kind)
    }

    /// Takes in output, and gives every piece whose end has come.
    pub(super) fn feed(&mut self, output: &[u8], mut give: impl FnMut(Piece<'_>)) {
        // `start` is where the piece at hand begins in `output`; what came of it before is pending.
        let (mut start, mut at) = (0, 0);
        while at < output.len() {
            match self.state {
                State::Plain => {
                    at = memchr(ESC, &output[at..]).map_or(output.len(), |escape| at + escape);
                    let cut = if at == output.len() { self.incomplete(&output[start..]) } else { 0 };
                    if at - cut > start {
                        give(Piece::Plain(&output[start..at - cut]));
                    }
                    start = at - cut;
                    if at < output.len() {
                        self.state = State::Escape(false);
                        at += 1;
                    }
                }
                State::Character => {
                    self.pending.push(output[at]);
                    match std::str::from_utf8(&self.pending).map_err(|error| error.error_len()) {
                        Err(None) => at += 1,
                        Ok(_) => {
                            at += 1;
                            self.give_character(&mut give);
                        }
                        // The byte does not belong to it, and may begin a sequence.
                        Err(Some(_)) => {
                            self.pending.pop();
                            self.give_character(&mut give);
                        }
                    }
                    start = at;
                }
                _ => {
                    let (end, step) = self.step(output[at]);
                    at += usize::from(step);
                    match end {
                        End::Not => {}
                        End::Whole(kind) => self.give(Some(kind), &output[start..at], &mut give),
                        End::Broken => self.give(None, &output[start..at], &mut give),
                        End::BrokenBefore => {
                            // The `ESC` before this byte begins another sequence. It is pending, or in `output`.
                            let escape = at > start;
                            if !escape {
                                self.pending.pop();
                            }
                            let to = if escape { at - 1 } else { at };
                            self.give(None, &output[start..to], &mut give);
                            self.state = State::Escape(false);
                            if escape {
                                start = to;
                                continue;
                            }
                            self.pending.push(ESC);
                        }
                    }
                    if end != End::Not {
                        start = at;
                    }
                }
            }
        }
        self.keep(&output[start..], &mut give);
    }

    /// The output is over: what is pending is given as it is.
    pub(super) fn finish(&mut self, mut give: impl FnMut(Piece<'_>)) {
        if !self.pending.is_empty() {
            give(Piece::Broken(&self.pending));
        }
        *self = Self::new();
    }

    /// What a byte is within a sequence, and `true` if it is used up.
    fn step(&mut self, byte: u8) -> (End, bool) {
        const CAN: u8 = 0x18;
        const SUB: u8 = 0x1a;
        let (end, next) = match (self.state, byte) {
            (State::String(kind, true), b'\\') => (End::Whole(kind), State::Plain),
            (State::String(..), CAN | SUB) => (End::Broken, State::Plain),
            (State::String(_, true), _) => return (End::BrokenBefore, false),
            (State::String(Kind::Osc, false), BEL) => (End::Whole(Kind::Osc), State::Plain),
            (State::String(kind, false), ESC) => (End::Not, State::String(kind, true)),
            (State::String(..), _) => (End::Not, self.state),
            (_, CAN | SUB) => (End::Broken, State::Plain),
            (State::Escape(_) | State::Csi, ESC) => {
                // The byte is looked at again, as the first of the next sequence.
                self.state = State::Plain;
                return (End::Broken, false);
            }
            (State::Escape(false), b'[') => (End::Not, State::Csi),
            (State::Escape(false), b']') => (End::Not, State::String(Kind::Osc, false)),
            (State::Escape(false), b'P') => (End::Not, State::String(Kind::Dcs, false)),
            (State::Escape(false), b'X' | b'^' | b'_') => (End::Not, State::String(Kind::Other, false)),
            (State::Escape(_), 0x20..=0x2f) => (End::Not, State::Escape(true)),
            (State::Escape(_), 0x30..=0x7e) => (End::Whole(Kind::Escape), State::Plain),
            (State::Csi, 0x40..=0x7e) => (End::Whole(Kind::Csi), State::Plain),
            (state, _) => (End::Not, state),
        };
        self.state = next;
        (end, true)
    }

    /// Gives what is pending and `rest` as one piece.
    fn give(&mut self, whole: Option<Kind>, rest: &[u8], give: &mut impl FnMut(Piece<'_>)) {
        let long = std::mem::take(&mut self.long);
        let joined = !self.pending.is_empty();
        if joined {
            self.pending.extend_from_slice(rest);
        }
        let bytes = if joined { &self.pending } else { rest };
        match whole {
            Some(kind) if long => give(Piece::Long(kind, bytes)),
            Some(kind) => give(Piece::Whole(kind, bytes)),
            None if bytes.is_empty() => {}
            None => give(Piece::Broken(bytes)),
        }
        self.pending.clear();
    }

    fn give_character(&mut self, give: &mut impl FnMut(Piece<'_>)) {
        give(Piece::Plain(&self.pending));
        self.pending.clear();
        self.state = State::Plain;
    }

    /// How many bytes at the end of a text are the beginning of a character.
    fn incomplete(&mut self, text: &[u8]) -> usize {
        let tail = &text[text.len().saturating_sub(3)..];
        let Some(lead) = tail.iter().rposition(|byte| *byte >= 0xc0) else { return 0 };
        match std::str::from_utf8(&tail[lead..]) {
            Err(error) if error.error_len().is_none() => {
                self.state = State::Character;
                tail.len() - lead
            }
            _ => 0,
        }
    }

    fn keep(&mut self, rest: &[u8], give: &mut impl FnMut(Piece<'_>)) {
        self.pending.extend_from_slice(rest);
        if self.pending.len() <= KEPT && !self.long {
            return;
        }
        self.long = true;
        let kind = self.inside();
        // An `ESC` that may be the beginning of the end stays, so that the end is one piece.
        let keeps = usize::from(matches!(self.state, State::String(_, true)));
        let passes = self.pending.len().saturating_sub(keeps);
        if let Some(kind) = kind
            && passes > 0
        {
            give(Piece::Long(kind, &self.pending[..passes]));
            self.pending.drain(..passes);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Not,
    Whole(Kind),
    /// With this byte, if it was used up.
    Broken,
    /// Before the `ESC` that came before this byte.
    BrokenBefore,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(chunks: &[&[u8]]) -> Vec<(&'static str, Option<Kind>, Vec<u8>)> {
        let mut splitter = Splitter::new();
        let mut got = Vec::new();
        let mut give = |piece: Piece<'_>| match piece {
            Piece::Plain(bytes) => got.push(("plain", None, bytes.to_vec())),
            Piece::Whole(kind, bytes) => got.push(("whole", Some(kind), bytes.to_vec())),
            Piece::Broken(bytes) => got.push(("broken", None, bytes.to_vec())),
            Piece::Long(kind, bytes) => got.push(("long", Some(kind), bytes.to_vec())),
        };
        for chunk in chunks {
            splitter.feed(chunk, &mut give);
        }
        splitter.finish(&mut give);
        // How text and long sequences are cut is not promised.
        let mut joined: Vec<(&'static str, Option<Kind>, Vec<u8>)> = Vec::new();
        for piece in got {
            match joined.last_mut() {
                Some(last) if last.0 == piece.0 && last.1 == piece.1 && piece.0 != "whole" => {
                    last.2.extend(piece.2)
                }
                _ => joined.push(piece),
            }
        }
        joined
    }

    #[test]
    fn sequences_are_told_apart() {
        let got = pieces(&[b"a\x1b[6nb\x1b]0;t\x07c\x1b]11;?\x1b\\d\x1bPq\x1b\\\x1b(0\x1b7\x1b_G\x1b\\"]);
        let kinds: Vec<_> = got.iter().map(|piece| (piece.1, piece.2.as_slice())).collect();
        let expected: [(Option<Kind>, &[u8]); 11] = [
            (None, b"a"),
            (Some(Kind::Csi), b"\x1b[6n"),
            (None, b"b"),
            (Some(Kind::Osc), b"\x1b]0;t\x07"),
            (None, b"c"),
            (Some(Kind::Osc), b"\x1b]11;?\x1b\\"),
            (None, b"d"),
            (Some(Kind::Dcs), b"\x1bPq\x1b\\"),
            (Some(Kind::Escape), b"\x1b(0"),
            (Some(Kind::Escape), b"\x1b7"),
            (Some(Kind::Other), b"\x1b_G\x1b\\"),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn a_string_without_end_takes_no_memory() {
        for start in [*b"\x1b]0;", *b"\x1bPq ", *b"\x1b_G ", *b"\x1b[  "] {
            let mut splitter = Splitter::new();
            let mut passed = 0;
            let mut give = |piece: Piece<'_>| match piece {
                Piece::Long(_, bytes) => passed += bytes.len(),
                other => panic!("{other:?}"),
            };
            splitter.feed(&start, &mut give);
            for _ in 0..1000 {
                splitter.feed(&[b'0'; 4096], &mut give);
                assert!(splitter.pending.capacity() <= 4 * KEPT);
            }
            assert_eq!(passed + splitter.pending().len(), 4 + 4096 * 1000);
            assert!(splitter.inside().is_some());
        }
    }

    fn output() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            4 => prop::sample::select(b"\x1b\x1b\x1b[]PX_^\\\x07\x18;?0m(".to_vec()),
            2 => any::<u8>(),
            1 => prop::sample::select("a─界é".as_bytes().to_vec()),
        ];
        prop::collection::vec(byte, 0..80)
    }

    proptest! {
        #[test]
        fn pieces_are_the_output_however_it_is_cut(output in output(), cuts in prop::collection::vec(0..80_usize, 0..8)) {
            let whole = pieces(&[&output]);
            let joined: Vec<u8> = whole.iter().flat_map(|piece| piece.2.clone()).collect();
            prop_assert_eq!(&joined, &output);

            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(output.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&output[from..cut]);
                from = cut;
            }
            chunks.push(&output[from..]);
            prop_assert_eq!(pieces(&chunks), whole);
        }
    }
}
