//! What the kernel itself has to say, in order, while the console does not take it.

use std::collections::VecDeque;

use crate::layout::Status;

/// How many texts and other events wait. A console that takes nothing can ask for many.
const MOST_EVENTS: usize = 256;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Note {
    Status(Status),
    Say(String),
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
    events: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, note: Note) {
        match self.notes.back_mut() {
            // Only the newest state matters to a console that has not seen the one before.
            Some(last) if last.is_state() && note.is_state() => *last = note,
            _ if note.is_state() => self.notes.push_back(note),
            _ if self.events >= MOST_EVENTS => {}
            _ => {
                self.events += 1;
                self.notes.push_back(note);
            }
        }
    }

    pub(super) fn front(&self) -> Option<&Note> {
        self.notes.front()
    }

    pub(super) fn pop(&mut self) {
        if self.notes.pop_front().is_some_and(|note| !note.is_state()) {
            self.events -= 1;
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
            outbox.push(Note::Say("what?".to_owned()));
            outbox.push(Note::Status(Status::Failed(number)));
            outbox.push(Note::Status(Status::Busy(number)));
            outbox.push(Note::Status(Status::Idle(number)));
        }
        assert!(outbox.notes.len() <= 2 * MOST_EVENTS);
        // The newest state is there, and it is the last.
        assert_eq!(outbox.notes.back(), Some(&Note::Status(Status::Idle(9_999))));
        while outbox.front().is_some() {
            outbox.pop();
        }
        assert_eq!((outbox.events, outbox.is_empty()), (0, true));
    }
}
