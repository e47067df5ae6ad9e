//! The roster: who is here, who has the input, and what a client has to know of its own lines.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::presence::Presence;
use super::{Key, Router, Upstream};

/// The list of clients is sent at most so often.
const LIST_PAUSE: Duration = Duration::from_millis(250);
/// And so is the number of input messages.
const NUMBER_PAUSE: Duration = Duration::from_millis(50);
/// So many clients are told at once, and the next ones a little later, so that output for the others gets between.
const WAVE: usize = 64;
const WAVE_PAUSE: Duration = Duration::from_millis(5);
/// The list names so many clients.
const LISTED: usize = 64;
/// A client's message has at most so many bytes.
pub(crate) const LONGEST_REQUEST: usize = 1024;
/// So many notes of a kind wait for a client that does not read them.
const MOST: usize = 32;

/// What all clients are told.
pub(super) struct Board {
    began: Instant,
    /// The list is not what was published last.
    changed: bool,
    listed: Instant,
    list: Bytes,
    version: u64,
    /// The number of input messages that was published last.
    number: u64,
    numbered: Instant,
    wave: Option<Wave>,
}

/// Clients are being told of what was published.
#[derive(Clone, Copy)]
struct Wave {
    /// The place of the next one, and when.
    from: usize,
    due: Instant,
    /// Something newer was published meanwhile, so another wave follows.
    again: bool,
}

/// What one client is told.
pub(super) struct Notes {
    may: bool,
    pub(super) blocked: bool,
    greeted: bool,
    answers: VecDeque<Bytes>,
    /// What it does not know of its own messages, in order.
    fates: VecDeque<Fate>,
    /// Of a client that had the input before.
    dropped: Option<(u64, u64)>,
    number: Option<u64>,
    version: u64,
    /// What was given out last.
    given: Option<Given>,
}

/// What has become of messages of a client, in its own count.
#[derive(Clone, Copy)]
enum Fate {
    /// A stretch begins: its own number, and that of this hub.
    Line { own: u64, passed: u64 },
    /// Those behind `last_passed`, up to `through`, were refused.
    Lost { last_passed: u64, through: u64 },
}

#[derive(Clone, Copy)]
enum Given {
    You,
    Answer,
    Fate,
    Dropped,
    Number(u64),
    List(u64),
}

/// What a client may say.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Request {
    take: bool,
    input: Option<u64>,
    release: bool,
    /// How many messages of input the client has sent before.
    own: Option<u64>,
}

fn request(message: &[u8]) -> Option<Request> {
    if message.len() <= LONGEST_REQUEST { serde_json::from_slice(message).ok() } else { None }
}

#[derive(Serialize)]
struct Listed<'a> {
    id: u64,
    name: &'a str,
    owner: bool,
    read_only: bool,
    suspended: bool,
    behind_bytes: u64,
    /// How long it is here already, in seconds.
    here_s: u64,
}

#[derive(Serialize)]
struct List<'a> {
    clients: Vec<Listed<'a>>,
    /// How many there are; the list is cut.
    count: usize,
    upstream: &'a str,
    /// How long the hub runs already, in seconds.
    up_s: u64,
}

impl Board {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            changed: false,
            listed: now,
            list: Bytes::new(),
            version: 0,
            number: 0,
            numbered: now,
            wave: None,
        }
    }

    pub(super) fn changed(&mut self) {
        self.changed = true;
    }

    /// When something is to be published.
    pub(super) fn due(&self, number: u64) -> Option<Instant> {
        let list = self.changed.then(|| self.listed + LIST_PAUSE);
        let number = (number != self.number).then(|| self.numbered + NUMBER_PAUSE);
        let wave = self.wave.as_ref().map(|wave| wave.due);
        [list, number, wave].into_iter().flatten().min()
    }
}

impl Notes {
    pub(super) fn new(may: bool) -> Self {
        Self {
            may,
            blocked: false,
            greeted: false,
            answers: VecDeque::new(),
            fates: VecDeque::new(),
            dropped: None,
            number: None,
            version: 0,
            given: None,
        }
    }

    /// A stretch of the client's input begins.
    pub(super) fn line(&mut self, own: u64, passed: u64) {
        push(&mut self.fates, Fate::Line { own, passed }, self.may);
    }

    /// Its messages behind `last_passed`, up to `through`, were refused.
    pub(super) fn lost(&mut self, last_passed: u64, through: u64) {
        if let Some(Fate::Lost { last_passed: last, through: to }) = self.fates.back_mut()
            && *last == last_passed
        {
            *to = through;
            return;
        }
        push(&mut self.fates, Fate::Lost { last_passed, through }, self.may);
    }

    fn dropped(&mut self, client: u64, messages: u64) {
        self.dropped = Some((client, messages));
    }

    fn answer(&mut self, answer: &serde_json::Value) {
        push(&mut self.answers, answer.to_string().into(), self.may);
    }

    pub(super) fn sent(&mut self) {
        match self.given.take() {
            Some(Given::You) => self.greeted = true,
            Some(Given::Answer) => drop(self.answers.pop_front()),
            Some(Given::Fate) => drop(self.fates.pop_front()),
            Some(Given::Dropped) => self.dropped = None,
            Some(Given::Number(number)) => self.number = Some(number),
            Some(Given::List(version)) => self.version = version,
            None => {}
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, may: bool) {
    if may {
        if queue.len() == MOST {
            queue.pop_front();
        }
        queue.push_back(item);
    }
}

impl Router {
    /// What a client is to be told next.
    pub(super) fn next_note(&mut self, key: Key) -> Option<Bytes> {
        let now = self.number();
        let client = &mut self.clients[key];
        let notes = &mut client.notes;
        if !notes.may || notes.blocked {
            return None;
        }
        // One that joins is told the number as it is, others when it is published.
        let number = if notes.number.is_none() { now } else { self.board.number };
        // That a message was under way to a hub upstream which has refused it is told as its loss.
        while let Some(Fate::Line { passed, .. }) = notes.fates.front()
            && self.relayed.is_refused(*passed)
        {
            notes.fates.pop_front();
        }
        let fate = notes.fates.front().and_then(|fate| match *fate {
            Fate::Line { own, passed } => {
                let input = self.relayed.translate(passed)?;
                Some(json!({ "line": { "own": own, "input": input } }))
            }
            Fate::Lost { last_passed, through } => {
                Some(json!({ "lost": { "last_passed": last_passed, "through": through } }))
            }
        });
        let (given, note) = if !notes.greeted {
            (Given::You, json!({ "you": client.id }).to_string().into())
        } else if let Some(answer) = notes.answers.front() {
            (Given::Answer, answer.clone())
        } else if let Some(note) = fate {
            (Given::Fate, note.to_string().into())
        } else if let Some((client, messages)) = notes.dropped {
            let note = json!({ "dropped": { "client": client, "messages": messages } });
            (Given::Dropped, note.to_string().into())
        } else if notes.number < Some(number) {
            (Given::Number(number), json!({ "input": number }).to_string().into())
        } else if notes.version != self.board.version {
            (Given::List(self.board.version), self.board.list.clone())
        } else {
            return None;
        };
        notes.given = Some(given);
        Some(note)
    }

    /// Publishes what has changed and is due.
    pub(super) fn publish(&mut self, now: Instant) {
        let mut some = false;
        let number = self.number();
        if number != self.board.number && now >= self.board.numbered + NUMBER_PAUSE {
            self.board.number = number;
            self.board.numbered = now;
            some = true;
        }
        if self.board.changed && now >= self.board.listed + LIST_PAUSE {
            self.board.changed = false;
            self.board.listed = now;
            self.board.version += 1;
            self.board.list = self.list(now);
            some = true;
        }
        match &mut self.board.wave {
            Some(wave) => wave.again |= some,
            none if some => *none = Some(Wave { from: 0, due: now, again: false }),
            _ => {}
        }
        self.roll(now);
    }

    /// The next clients are told.
    fn roll(&mut self, now: Instant) {
        let Some(Wave { from, due, again }) = self.board.wave else { return };
        if now < due {
            return;
        }
        let keys = self.clients.iter().map(|(key, _)| key).filter(|key| *key >= from);
        let keys: Vec<_> = keys.take(WAVE).collect();
        let due = now + WAVE_PAUSE;
        self.board.wave = match keys.last() {
            Some(last) if keys.len() == WAVE => Some(Wave { from: last + 1, due, again }),
            _ if again => Some(Wave { from: 0, due, again: false }),
            _ => None,
        };
        for key in keys {
            self.wake(key);
        }
    }

    fn list(&self, now: Instant) -> Bytes {
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
        let clients = self.clients.iter().take(LISTED).map(|(key, client)| {
            let cursors = client.cursors.iter().enumerate();
            let behind = cursors.map(|(slot, cursor)| cursor.behind(self.log.channel(slot)));
            Listed {
                id: client.id,
                name: client.access.name().unwrap_or_default(),
                owner: self.owner() == Some(key),
                read_only: client.sends.is_empty(),
                suspended: matches!(client.presence, Presence::Away(_)),
                behind_bytes: behind.fold(0, u64::saturating_add),
                here_s: seconds(client.joined),
            }
        });
        let upstream = match self.upstream {
            Upstream::Live => "live",
            Upstream::Suspended => "suspended",
            Upstream::Over { .. } => "over",
        };
        let up_s = seconds(self.board.began);
        let list = List { clients: clients.collect(), count: self.clients.len(), upstream, up_s };
        serde_json::to_vec(&list).unwrap_or_default().into()
    }

    // ---- what clients say

    /// Whether a client's next message on the roster may be taken: each is answered before the next.
    pub(crate) fn roster_wish(&self, key: Key) -> bool {
        self.clients.get(key).is_none_or(|client| {
            client.notes.answers.is_empty() && !self.relayed.takes_for(key) && !self.is_uncertain()
        })
    }

    /// Whether a message on the roster says that it was sent before the client's next message of input.
    pub(crate) fn request_is_due(&self, key: Key, message: &[u8]) -> bool {
        let own = request(message).and_then(|request| request.own);
        own.zip(self.clients.get(key)).is_some_and(|(own, client)| own <= client.inlet.received())
    }

    /// A message from a client on the roster.
    pub(crate) fn handle_roster(&mut self, key: Key, message: &[u8], now: Instant) {
        if !self.clients.contains(key) {
            return;
        }
        match request(message) {
            Some(Request { take: true, input, release: false, .. }) => {
                let taken = self.take(key, input, now);
                if taken.is_ok() && self.relayed.is_behind_hub() {
                    let asked = self.plan.roster.is_some_and(|roster| self.take_upstream(key, input, roster));
                    if !asked {
                        self.answer_take(
                            key,
                            Err("another client takes the input at this moment".to_owned()),
                        );
                    }
                    return;
                }
                if taken.is_ok() {
                    self.grant(key);
                }
                self.answer_take(key, taken);
            }
            Some(Request { release: true, take: false, .. }) => {
                let released = self.release(key);
                self.answer_roster(key, "release", released);
            }
            _ => {
                let why = r#"it is not one of {"take":true}, {"take":true,"input":N}, {"release":true}"#;
                self.answer_roster(key, "unknown", Err(why.to_owned()));
            }
        }
    }

    pub(super) fn answer_take(&mut self, key: Key, result: Result<(), String>) {
        self.answer_roster(key, "take", result);
    }

    fn answer_roster(&mut self, key: Key, what: &str, result: Result<(), String>) {
        let number = self.number();
        let Some(client) = self.clients.get_mut(key) else { return };
        let answer = match result {
            Ok(()) => json!({ "answer": { what: true, "done": true }, "input": number }),
            Err(why) => json!({ "answer": { what: true, "done": false, "why": why }, "input": number }),
        };
        client.notes.answer(&answer);
        self.wake(key);
    }

    /// A client that had the input and is gone had sent so many messages more.
    pub(super) fn tell_dropped(&mut self, client: u64, messages: u64) {
        if let Some(owner) = self.owner() {
            self.clients[owner].notes.dropped(client, messages);
            self.wake(owner);
        }
    }
}
