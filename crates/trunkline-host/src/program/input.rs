//! What waits to be written to the program.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use bytes::{Buf, Bytes};
use rustix::io::Errno;

/// How much input waits at most, in bytes, except for one message.
pub(super) const ROOM: usize = 64 * 1024;
/// How much of the answers to a program's questions waits at most. One that asks and does not read loses the rest.
const ANSWERS: usize = 4 * 1024;

/// Input in order, and the terminal's answers, which go before it but never into a message.
#[derive(Default)]
pub(super) struct Input {
    messages: VecDeque<Bytes>,
    waiting: usize,
    /// The first message has been written in part.
    begun: bool,
    answers: Vec<u8>,
}

impl Input {
    /// How many bytes there is room for.
    pub(super) fn room(&self) -> usize {
        ROOM.saturating_sub(self.waiting)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.answers.is_empty()
    }

    /// Takes a message, if there is some room: then a large one too.
    pub(super) fn push(&mut self, message: Bytes) -> Result<(), Bytes> {
        if self.room() == 0 {
            return Err(message);
        }
        self.push_always(message);
        Ok(())
    }

    /// Takes a message, whatever waits. For what the caller sends rarely, and is short.
    pub(super) fn push_always(&mut self, message: Bytes) {
        if !message.is_empty() {
            self.waiting += message.len();
            self.messages.push_back(message);
        }
    }

    pub(super) fn answer(&mut self, answers: &[u8]) {
        if self.answers.len() + answers.len() <= ANSWERS {
            self.answers.extend_from_slice(answers);
        }
    }

    /// Drops what a person has typed.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.waiting = 0;
        self.begun = false;
    }

    /// Writes what the program takes. An error means that it takes no more, ever.
    pub(super) fn write(&mut self, to: impl AsFd) -> Result<(), Errno> {
        self.write_by(|bytes| rustix::io::write(&to, bytes))
    }

    fn write_by(&mut self, mut write: impl FnMut(&[u8]) -> Result<usize, Errno>) -> Result<(), Errno> {
        loop {
            let answers = !self.begun && !self.answers.is_empty();
            let bytes: &[u8] = match self.messages.front() {
                _ if answers => &self.answers,
                Some(message) => message,
                None => return Ok(()),
            };
            let written = match write(bytes) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            if answers {
                self.answers.drain(..written);
            } else if let Some(message) = self.messages.front_mut() {
                message.advance(written);
                self.waiting -= written;
                self.begun = !message.is_empty();
                if message.is_empty() {
                    self.messages.pop_front();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Message(usize),
        Answer,
        /// The program takes so many bytes.
        Write(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..100_000_usize).prop_map(Step::Message),
            Just(Step::Answer),
            (0..50_000_usize).prop_map(Step::Write)
        ]
    }

    proptest! {
        /// Messages arrive whole and in order, answers between them, and never more than the room waits.
        #[test]
        fn answers_stand_between_messages_and_what_waits_is_bounded(steps in prop::collection::vec(step(), 0..60)) {
            let mut input = Input::default();
            let (mut got, mut taken, mut next) = (Vec::new(), Vec::new(), b'a');
            let mut write = |input: &mut Input, mut most: usize| {
                input.write_by(|bytes| {
                    let now = bytes.len().min(most);
                    most -= now;
                    got.extend_from_slice(&bytes[..now]);
                    if now == 0 { Err(Errno::AGAIN) } else { Ok(now) }
                })
            };
            for step in steps {
                match step {
                    Step::Message(length) => {
                        let room = input.room();
                        if input.push(vec![next; length].into()).is_ok() {
                            prop_assert!(room > 0);
                            taken.push((next, length));
                            next = if next == b'z' { b'a' } else { next + 1 };
                        } else {
                            prop_assert_eq!(room, 0);
                        }
                    }
                    Step::Answer => input.answer(b"<>"),
                    Step::Write(most) => write(&mut input, most).unwrap(),
                }
                prop_assert!(input.waiting <= ROOM + 100_000 && input.answers.len() <= ANSWERS);
            }
            write(&mut input, usize::MAX).unwrap();
            prop_assert!(input.is_empty());
            let without: Vec<u8> = got.iter().copied().filter(u8::is_ascii_lowercase).collect();
            let expected: Vec<u8> = taken.iter().flat_map(|(letter, length)| vec![*letter; *length]).collect();
            prop_assert!(without == expected);
            // An answer does not stand within a message.
            let text = String::from_utf8(got).unwrap();
            let mut rest = text.as_str();
            for (letter, length) in taken.into_iter().filter(|(_, length)| *length > 0) {
                rest = rest.trim_start_matches("<>");
                prop_assert!(rest[..length].bytes().all(|byte| byte == letter));
                rest = &rest[length..];
            }
            prop_assert_eq!(rest.replace("<>", ""), "");
        }
    }
}
