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
    Hub(Vec<Line>),
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
        if stretches.last().is_some_and(|last| line.own <= last.own || line.input <= last.input) {
            return;
        }
        if stretches.len() == STRETCHES {
            stretches.remove(0);
        }
        stretches.push(line);
    }

    /// How many of the console's messages the kernel has read when it has read so many, of `sent` messages.
    pub(super) fn own(&self, read: u64, sent: u64) -> u64 {
        match self {
            Self::Same => read.min(sent),
            Self::Hub(stretches) => {
                let Some(at) = stretches.iter().rposition(|line| line.input <= read) else { return 0 };
                let line = stretches[at];
                let passed = line.own.saturating_add(read - line.input);
                // A stretch ends where the next begins.
                let end = stretches.get(at + 1).map_or(sent, |next| next.own.saturating_sub(1));
                passed.min(end).min(sent)
            }
        }
    }

    /// The console's number of the kernel's message, if it is one of the console's own.
    pub(super) fn own_of(&self, input: u64, sent: u64) -> Option<u64> {
        let own = match self {
            Self::Same => input,
            Self::Hub(stretches) => {
                let at = stretches.iter().rposition(|line| line.input <= input)?;
                let line = stretches[at];
                let own = line.own.saturating_add(input - line.input);
                if stretches.get(at + 1).is_some_and(|next| own >= next.own) {
                    return None;
                }
                own
            }
        };
        (1..=sent).contains(&own).then_some(own)
    }
}
