//! The console's numbers of its messages, and the kernel's.

use crate::layout::Line;

/// How many stretches are remembered. A stretch that is forgotten is over long ago.
const STRETCHES: usize = 64;

/// How the console's own count of messages relates to the kernel's.
#[derive(Clone, Debug)]
pub(super) enum Numbers {
    /// The console is alone with the kernel: they are the same.
    Same,
    /// A hub passes on the messages of several consoles.
    Hub(Vec<Stretch>),
}

/// Messages of the console that the hub has passed on one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    begin: Line,
    /// The last of them, once the console has lost the input.
    last: Option<u64>,
}

impl Numbers {
    pub(super) fn learn(&mut self, line: Line) {
        let stretches = match self {
            Self::Same => {
                *self = Self::Hub(Vec::new());
                return self.learn(line);
            }
            Self::Hub(stretches) => stretches,
        };
        // Both grow, or the hub is out of its mind.
        if stretches
            .last()
            .is_some_and(|Stretch { begin, .. }| line.own <= begin.own || line.input <= begin.input)
        {
            return;
        }
        if stretches.len() == STRETCHES {
            stretches.remove(0);
        }
        stretches.push(Stretch { begin: line, last: None });
    }

    /// The console has lost the input, after its message `last`.
    pub(super) fn lose(&mut self, last: u64) {
        if let Self::Hub(stretches) = self
            && let Some(stretch) = stretches.last_mut()
        {
            stretch.last.get_or_insert(last);
        }
    }

    /// How many of the console's messages the kernel has read when it has read so many, and the console had sent
    /// `sent` when it heard of that.
    pub(super) fn own(&self, read: u64, sent: u64) -> u64 {
        match self {
            Self::Same => read.min(sent),
            Self::Hub(stretches) => {
                stretches.iter().rposition(|stretch| stretch.begin.input <= read).map_or(0, |at| {
                    let begin = stretches[at].begin;
                    begin.own.saturating_add(read - begin.input).min(last(stretches, at, sent))
                })
            }
        }
    }

    /// The console's number of the kernel's message, if it is one of the console's own; with `sent` as above.
    pub(super) fn own_of(&self, input: u64, sent: u64) -> Option<u64> {
        match self {
            Self::Same => (1..=sent).contains(&input).then_some(input),
            Self::Hub(stretches) => {
                let at = stretches.iter().rposition(|stretch| stretch.begin.input <= input)?;
                let begin = stretches[at].begin;
                let own = begin.own.saturating_add(input - begin.input);
                (own <= last(stretches, at, sent)).then_some(own)
            }
        }
    }
}

/// The last message of a stretch: the console has lost the input after it, or another stretch begins behind it.
fn last(stretches: &[Stretch], at: usize, sent: u64) -> u64 {
    let next = stretches.get(at + 1).map_or(sent, |next| next.begin.own.saturating_sub(1));
    stretches[at].last.map_or(next, |last| last.min(next)).min(sent)
}
