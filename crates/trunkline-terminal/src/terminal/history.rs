//! The lines that were given before.

use std::collections::VecDeque;

const MOST: usize = 1000;

/// Commands, the newest last. Answers to a program that asked for a line are none of them, which is known only
/// when the kernel has read the line.
#[derive(Default, Debug)]
pub(super) struct History {
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    line: String,
    /// The number of the message, while it is not known what it is.
    number: Option<u64>,
}

impl History {
    pub(super) fn add(&mut self, line: &str, number: Option<u64>) {
        if line.trim().is_empty() {
            return;
        }
        if self.entries.len() == MOST {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { line: line.to_owned(), number });
    }

    /// The kernel has read these messages as answers of a program that runs, or as commands.
    pub(super) fn settle(&mut self, numbers: std::ops::RangeInclusive<u64>, answers: bool) {
        self.entries.retain_mut(|entry| match entry.number {
            Some(number) if numbers.contains(&number) => {
                entry.number = None;
                !answers
            }
            _ => true,
        });
        // Once is enough; which of two is an answer had to be known first.
        let mut last = None;
        self.entries.retain(|entry| {
            let again = entry.number.is_none() && last.as_ref() == Some(&entry.line);
            last = Some(entry.line.clone());
            !again
        });
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&str> {
        self.entries.get(at).map(|entry| entry.line.as_str())
    }

    /// Returns the newest entry before `end` that contains this, and where in it.
    pub(super) fn search(&self, text: &str, end: usize) -> Option<(usize, usize)> {
        let end = end.min(self.entries.len());
        (0..end).rev().find_map(|at| self.entries[at].line.find(text).map(|place| (at, place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_and_repeated_commands_stand_once() {
        let mut history = History::default();
        for (number, line) in [(1, "a"), (2, "secret"), (3, "b"), (4, "b"), (5, " ")] {
            history.add(line, Some(number));
        }
        assert_eq!(history.len(), 4);
        history.settle(1..=1, false);
        history.settle(2..=2, true);
        history.settle(3..=5, false);
        let lines: Vec<&str> = (0..history.len()).filter_map(|at| history.get(at)).collect();
        assert_eq!(lines, ["a", "b"]);
        assert_eq!(history.search("b", 2), Some((1, 0)));
        assert_eq!(history.search("secret", 2), None);
    }
}
