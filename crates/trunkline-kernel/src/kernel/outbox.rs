//! What the kernel itself has to say, in order, while the console does not take it.

use std::collections::VecDeque;

use crate::layout::Status;

/// How many texts wait. A console that takes nothing can ask for many.
const MOST_TEXTS: usize = 256;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Note {
    Status(Status),
    Say(String),
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    notes: VecDeque<Note>,
    texts: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, note: Note) {
        match (&note, self.notes.back_mut()) {
            // Only the newest state matters to a console that has not seen the one before.
            (Note::Status(status), Some(Note::Status(last))) => *last = status.clone(),
            (Note::Say(_), _) if self.texts >= MOST_TEXTS => {}
            (note, _) => {
                self.texts += usize::from(matches!(note, Note::Say(_)));
                self.notes.push_back(note.clone());
            }
        }
    }

    pub(super) fn front(&self) -> Option<&Note> {
        self.notes.front()
    }

    pub(super) fn pop(&mut self) {
        if let Some(Note::Say(_)) = self.notes.pop_front() {
            self.texts -= 1;
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
            outbox.push(Note::Status(Status::Busy(number)));
            outbox.push(Note::Status(Status::Idle(number)));
        }
        assert!(outbox.notes.len() <= 2 * MOST_TEXTS);
        // The newest state is there, and it is the last.
        assert_eq!(outbox.notes.back(), Some(&Note::Status(Status::Idle(9_999))));
        while outbox.front().is_some() {
            outbox.pop();
        }
        assert_eq!((outbox.texts, outbox.is_empty()), (0, true));
    }
}
