//! Requests that wait for their answers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use trunkline_kernel::layout::Reply;

/// How long an answer is waited for. A kernel answers within 2 s.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST: usize = 16;

/// What is to be done with an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Tab, at this place of this line.
    #[cfg(unix)]
    Tab { text: String, cursor: usize },
    /// A command of the person or script.
    Command,
}

#[derive(Default, Debug)]
pub(crate) struct Questions {
    asked: VecDeque<(u64, Purpose, Instant)>,
}

impl Questions {
    pub(crate) fn ask(&mut self, id: u64, purpose: Purpose) {
        if self.asked.len() == MOST {
            self.asked.pop_front();
        }
        self.asked.push_back((id, purpose, Instant::now()));
    }

    /// Returns what an answer is for; `None` if nothing waits for it any more.
    pub(crate) fn answered(&mut self, id: Option<u64>) -> Option<Purpose> {
        let at = match id {
            Some(id) => self.asked.iter().position(|(asked, ..)| *asked == id)?,
            // The kernel could not read the number.
            None => 0,
        };
        self.asked.remove(at).map(|(_, purpose, _)| purpose)
    }

    /// Returns `true` if a command of the person or script waits.
    pub(crate) fn has_command(&self) -> bool {
        self.asked.iter().any(|(_, purpose, _)| *purpose == Purpose::Command)
    }

    /// Forgets what was asked too long ago; returns how many commands were among that.
    pub(crate) fn expire(&mut self, now: Instant) -> usize {
        let mut commands = 0;
        self.asked.retain(|(_, purpose, asked)| {
            let is_late = now.saturating_duration_since(*asked) >= PATIENCE;
            commands += usize::from(is_late && *purpose == Purpose::Command);
            !is_late
        });
        commands
    }

    /// Returns when something is to be forgotten.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.asked.front().map(|(.., asked)| *asked + PATIENCE)
    }
}

/// Said if no answer comes.
pub(crate) const NO_ANSWER: &str = "the kernel does not answer";

/// Returns an answer in words: for standard output, or why there is none.
pub(crate) fn words(reply: Reply) -> Result<String, String> {
    let lines = |text: String| if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" };
    match reply {
        Reply::Complete { matches, .. } => Ok(matches.into_iter().map(lines).collect()),
        Reply::Inspect { text } => Ok(lines(text)),
        Reply::Error { error } => Err(error),
        _ => Err("the kernel has answered something else".to_owned()),
    }
}
