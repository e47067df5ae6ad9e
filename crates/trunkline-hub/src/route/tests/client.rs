//! A client of the hub, as the model has it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use trunkline::Access;

use super::super::*;

/// An input message of a client.
#[derive(Clone, Debug)]
pub(super) struct Line1 {
    pub client: u64,
    pub own: u64,
    pub run: u32,
    /// The number that the client knew when it was typed; `None` if it said that it does not care.
    pub knew: Option<u64>,
    /// It answers the prompt that was open after so many messages.
    pub answers: Option<u32>,
}

/// What a client sends.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    Line(Line1),
    End,
    Roster(String),
    Control(String),
}

/// What a client was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Got {
    Message(Bytes),
    Gap(u64, u64),
    End(End),
}

/// What a hub tells another one.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Note(Bytes),
    /// Its run was stopped with this code.
    Stop(u32),
    /// The program waits, or no longer; the count of the client, and that of the program.
    Prompt(bool, u32, Option<u32>),
}

#[derive(Default)]
pub(super) struct Client {
    pub id: u64,
    pub key: Option<Key>,
    pub access: Option<Arc<Access>>,
    /// Where it began in each channel of the log.
    pub began: Vec<usize>,
    pub ended_at_join: Vec<Option<End>>,
    /// For each slot: room for so many messages, and what it got, with the order among all.
    pub room: Vec<u32>,
    pub got: Vec<Vec<(u64, Got)>>,
    pub order: u64,
    /// A message that was accepted, and the rest of which waits for room.
    pub staged: Vec<Option<Got>>,
    pub stopped: Vec<bool>,
    // Its input.
    pub wire: VecDeque<Sent>,
    pub stops: VecDeque<(u32, u32)>,
    /// What the hub has told it beside the log, in order: for one that is a hub itself.
    pub told: VecDeque<Told>,
    pub run: u32,
    pub run_open: bool,
    pub sent: u64,
    pub lines: Vec<Line1>,
    pub stopped_runs: Vec<u32>,
    pub knows: Option<u64>,
    pub prompt: Option<(u32, u32)>,
    pub losses: Vec<(u64, u64)>,
    // The core of its connection in the hub.
    pub arrived: VecDeque<Sent>,
    pub requests: VecDeque<String>,
    pub open: Option<u32>,
    pub discarding: bool,
    pub dropped: u64,
    pub left: bool,
    pub away: Option<Instant>,
    /// Its connection has ended in order, and its input is still taken.
    pub draining: bool,
    pub closed: bool,
}

impl Client {
    pub fn hears(&mut self, note: &Value) {
        if let Some(number) = note["input"].as_u64()
            && self.knows.is_some()
        {
            self.knows = self.knows.max(Some(number));
        }
        if let Some(loss) = note.get("lost") {
            self.losses.push((loss["last_passed"].as_u64().unwrap(), loss["through"].as_u64().unwrap()));
        }
    }

    pub fn run_was_stopped(&self, line: &Line1) -> bool {
        self.stopped_runs.contains(&line.run)
    }
}
