//! A hub before a hub: what the one upstream says in its roster.

use serde::Deserialize;
use trunkline::ChannelId;

use super::lines::Stretches;
use super::{Action, Key, Router};
use crate::code;

/// What is known of a hub upstream; nothing, if upstream is a program.
#[derive(Default, Debug)]
pub(super) struct Relayed {
    is_hub: bool,
    /// How many messages it has passed on.
    input: Option<u64>,
    /// This hub's messages, in the program's count.
    lines: Stretches,
    /// The client for which it was asked for the input.
    taking: Option<Key>,
    /// It has stopped the input, and will say what it has passed on.
    losing: Option<u32>,
}

/// A message of its roster.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Note {
    you: Option<u64>,
    input: Option<u64>,
    line: Option<LineNote>,
    lost: Option<LostNote>,
    answer: Option<AnswerNote>,
}

#[derive(Deserialize)]
struct LineNote {
    own: u64,
    input: u64,
}

#[derive(Deserialize)]
struct LostNote {
    last_passed: u64,
}

#[derive(Deserialize)]
struct AnswerNote {
    #[serde(default)]
    take: bool,
    done: bool,
    #[serde(default)]
    why: String,
}

impl Relayed {
    pub(super) fn is_behind_hub(&self) -> bool {
        self.is_hub
    }

    pub(super) fn input(&self) -> Option<u64> {
        self.input
    }

    pub(super) fn is_taking(&self) -> bool {
        self.taking.is_some()
    }

    /// The hub upstream was asked for the input, for this client.
    pub(super) fn takes_for(&self, key: Key) -> bool {
        self.taking == Some(key)
    }

    pub(super) fn is_losing(&self) -> bool {
        self.losing.is_some()
    }

    /// The program's number of this hub's message of a number, as soon as it is known.
    pub(super) fn translate(&self, passed: u64) -> Option<u64> {
        if self.is_hub { self.lines.number(passed) } else { Some(passed) }
    }

    pub(super) fn forget(&mut self, key: Key) {
        if self.taking == Some(key) {
            self.taking = None;
        }
    }
}

impl Router {
    /// A message from upstream on the roster's channel.
    pub(crate) fn handle_upstream_roster(&mut self, message: &[u8]) {
        let Ok(note) = serde_json::from_slice::<Note>(message) else { return };
        if note.you.is_some() {
            self.relayed.is_hub = true;
        }
        if !self.relayed.is_hub {
            return;
        }
        if let Some(input) = note.input {
            // It never goes back.
            let known = self.relayed.input.get_or_insert(input);
            *known = (*known).max(input);
            let (owner, number) = (self.owner(), self.number());
            if let Some(owner) = owner
                && let Some(client) = self.clients.get_mut(owner)
            {
                // While it owns the input, what was passed on is its own.
                client.inlet.set_knows(number);
            }
        }
        if let Some(LineNote { own, input }) = note.line {
            self.relayed.lines.learn(own, input);
            self.wake_all();
            self.judge_all_held();
        }
        if let Some(LostNote { last_passed }) = note.lost {
            self.relayed.lines.cut(last_passed);
            let code = self.relayed.losing.take().unwrap_or(code::TAKEN);
            self.lose_to(last_passed, code);
            self.look_at_parked();
        }
        if let Some(AnswerNote { take: true, done, why }) = note.answer
            && let Some(key) = self.relayed.taking.take()
        {
            if done {
                self.grant(key);
            }
            self.answer_take(key, if done { Ok(()) } else { Err(why) });
            self.look_at_parked();
        }
    }

    /// The hub upstream has stopped the input; what it has passed on of it comes in its roster.
    pub(super) fn lose_upstream(&mut self, code: u32) {
        self.relayed.losing = Some(code);
    }

    /// Asks the hub upstream for the input, on behalf of a client. `false`: another's question is not answered yet.
    pub(super) fn take_upstream(&mut self, key: Key, number: Option<u64>, roster: ChannelId) -> bool {
        if self.relayed.taking.is_some() {
            return false;
        }
        self.relayed.taking = Some(key);
        let message = match number {
            Some(number) => format!(r#"{{"take":true,"input":{number}}}"#),
            None => r#"{"take":true}"#.to_owned(),
        };
        self.actions.push_back(Action::Pass { channel: roster, message: message.into() });
        true
    }
}
