//! A hub before a hub: what the one upstream says in its roster.

use serde::Deserialize;
use trunkline::ChannelId;

use super::lines::Stretches;
use super::{Action, Key, Router};
use crate::code;
use crate::filter::Line;

/// What is known of a hub upstream; nothing, if upstream is a program.
#[derive(Default, Debug)]
pub(super) struct Relayed {
    is_hub: bool,
    /// How many messages it has passed on.
    input: u64,
    /// This hub's messages, in the program's count.
    lines: Stretches,
    /// It was asked for the input, and has not answered: for this client, or for one that has left.
    taking: Option<Option<Key>>,
    /// It has stopped the input, with this code, and will say what it has passed on. So many messages of this hub's were under
    /// way or had arrived.
    losing: Option<(u32, u64)>,
    /// The fate of so many of this hub's messages is known: a run that was stopped is over.
    settled: u64,
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
    through: Option<u64>,
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

    /// How many messages the hub upstream has passed on, as far as it has said.
    pub(super) fn input(&self) -> Option<u64> {
        self.is_hub.then_some(self.input)
    }

    pub(super) fn is_taking(&self) -> bool {
        self.taking.is_some()
    }

    /// The hub upstream was asked for the input, for this client.
    pub(super) fn takes_for(&self, key: Key) -> bool {
        self.taking == Some(Some(key))
    }

    pub(super) fn is_losing(&self) -> bool {
        self.losing.is_some()
    }

    /// How many messages will have been passed on when all of this hub's have arrived, of which there are `passed`.
    pub(super) fn expected(&self, passed: u64) -> u64 {
        let Some(input) = self.input() else { return passed };
        self.translate(passed).map_or(input, |number| number.max(input))
    }

    /// Of `passed` messages of this hub's it is not known what is before the last ones.
    pub(super) fn is_uncertain(&self, passed: u64) -> bool {
        self.is_hub && passed > self.settled && self.lines.number(passed).is_none()
    }

    /// This hub's message of a number was refused there.
    pub(super) fn is_refused(&self, passed: u64) -> bool {
        self.is_hub && passed <= self.settled && self.lines.number(passed).is_none()
    }

    /// The program's number of this hub's message of a number, as soon as it is known.
    pub(super) fn translate(&self, passed: u64) -> Option<u64> {
        if self.is_hub { self.lines.number(passed) } else { Some(passed) }
    }

    /// What has become of this hub's message of a number. What is under way may be refused still, and its number be that
    /// of another's message.
    pub(super) fn line(&self, passed: u64) -> Line {
        match self.translate(passed) {
            Some(number) if self.is_hub && number > self.input => Line::Coming,
            Some(number) => Line::Passed(number),
            None if self.is_refused(passed) => Line::Gone,
            None => Line::Coming,
        }
    }

    pub(super) fn forget(&mut self, key: Key) {
        if self.takes_for(key) {
            self.taking = Some(None);
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
            self.relayed.input = self.relayed.input.max(input);
            self.judge_all_held();
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
            self.look_again();
        }
        if let Some(LostNote { last_passed, through }) = note.lost {
            let (code, through) =
                self.relayed.losing.take().unwrap_or((code::TAKEN, through.unwrap_or(u64::MAX)));
            // Of a run that was stopped more may be told when its rest arrives, and that is known.
            if through > self.relayed.settled {
                self.relayed.settled = through.min(self.input.passed);
                self.relayed.lines.cut(last_passed);
                // What was passed on last counts, though it was not published yet.
                let number = self.relayed.lines.number(last_passed).unwrap_or(0);
                self.relayed.input = self.relayed.input.max(number);
                self.lose_to(last_passed, code);
                self.judge_all_held();
            }
            self.look_again();
        }
        if let Some(AnswerNote { take: true, done, why }) = note.answer
            && let Some(key) = self.relayed.taking.take()
        {
            if let Some(key) = key {
                if done {
                    self.grant(key);
                }
                self.answer_take(key, if done { Ok(()) } else { Err(why) });
            }
            self.look_at_parked();
        }
    }

    /// The hub upstream has stopped the input; what it has passed on of it comes in its roster.
    pub(super) fn lose_upstream(&mut self, code: u32) {
        self.relayed.losing = Some((code, self.input.passed));
    }

    /// What waits to be judged, since not enough was known, can be.
    fn look_again(&mut self) {
        self.look_at_parked();
        if let Some(channel) = self.plan.roster {
            self.actions.extend(self.clients.iter().map(|(key, _)| Action::Look { key, channel }));
        }
    }

    /// Asks the hub upstream for the input, on behalf of a client. `false`: another's question is not answered yet.
    pub(super) fn take_upstream(&mut self, key: Key, number: Option<u64>, roster: ChannelId) -> bool {
        if self.relayed.taking.is_some() {
            return false;
        }
        self.relayed.taking = Some(Some(key));
        let message = match number {
            Some(number) => format!(r#"{{"take":true,"input":{number}}}"#),
            None => r#"{"take":true}"#.to_owned(),
        };
        self.actions.push_back(Action::Pass { channel: roster, message: message.into() });
        true
    }
}
