//! What the kernel itself has to say, in order, while the console does not take it.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::layout::Status;

/// How many texts wait, and how many failures. A console that takes nothing can ask for many; of failures it needs
/// to know of one.
const MOST: usize = 256;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Note {
    Status(Status),
    /// What is left of a text.
    Say(Bytes),
}

impl Note {
    /// It says what is, not what has happened.
    fn is_state(&self) -> bool {
        matches!(self, Self::Status(status) if !matches!(status, Status::Failed(_)))
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    notes: VecDeque<Note>,
    texts: usize,
    failures: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, note: Note) {
        match self.notes.back_mut() {
            // Only the newest state matters to a console that has not seen the one before.
            Some(last) if last.is_state() && note.is_state() => *last = note,
            _ if note.is_state() => self.notes.push_back(note),
            _ => {
                let count = self.count(&note);
                if *count < MOST {
                    *count += 1;
                    self.notes.push_back(note);
                }
            }
        }
    }

    fn count(&mut self, event: &Note) -> &mut usize {
        match event {
            Note::Status(_) => &mut self.failures,
            Note::Say(_) => &mut self.texts,
        }
    }

    pub(super) fn front(&self) -> Option<&Note> {
        self.notes.front()
    }

    /// So many bytes of the first note are sent.
    pub(super) fn advance(&mut self, sent: usize) {
        match self.notes.front_mut() {
            Some(Note::Say(text)) if text.len() > sent => text.advance(sent),
            _ => self.pop(),
        }
    }

    /// The first note is sent, or not wanted.
    pub(super) fn pop(&mut self) {
        if let Some(event) = self.notes.pop_front().filter(|note| !note.is_state()) {
            *self.count(&event) -= 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_that_takes_nothing_makes_it_grow_to_a_bound() {
        let mut outbox = Outbox::default();
        for number in 0..10_000 {
            outbox.push(Note::Say("what?".into()));
            outbox.push(Note::Status(Status::Busy(number)));
            outbox.push(Note::Status(Status::Idle(number)));
        }
        assert!(outbox.notes.len() <= 2 * MOST);
        // A failure is not lost among them.
        for number in 0..10_000 {
            outbox.push(Note::Status(Status::Failed(number)));
            outbox.push(Note::Status(Status::Idle(number)));
        }
        assert!(outbox.notes.contains(&Note::Status(Status::Failed(0))));
        assert!(outbox.notes.len() <= 4 * MOST);
        // The newest state is there, and it is the last.
        assert_eq!(outbox.notes.back(), Some(&Note::Status(Status::Idle(9_999))));
        while outbox.front().is_some() {
            outbox.pop();
        }
        assert_eq!((outbox.texts, outbox.failures, outbox.is_empty()), (0, 0, true));
    }

    #[test]
    fn a_text_goes_in_pieces_before_what_follows() {
        let mut outbox = Outbox::default();
        outbox.push(Note::Say("a text".into()));
        outbox.push(Note::Status(Status::Idle(1)));
        outbox.advance(2);
        assert_eq!(outbox.front(), Some(&Note::Say("text".into())));
        outbox.advance(4);
        assert_eq!(outbox.front(), Some(&Note::Status(Status::Idle(1))));
        outbox.advance(6);
        assert!(outbox.is_empty());
    }
}
