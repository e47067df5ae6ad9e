//! The router between a program and its clients, with wires that are slow, credit that runs out, and a driver that does
//! what the real one does. It records what each side has seen; the checks are in `checks`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use trunkline::{Access, ChannelSet, CloseCode};

use super::super::*;
use super::client::{Client, Got, Line1, Sent, Told};
use super::plan::*;

pub(super) struct World {
    pub router: Router,
    pub now: Instant,
    pub clients: BTreeMap<u64, Client>,
    /// What came from upstream, for each slot, with its place.
    pub log: Vec<Vec<(u64, Got)>>,
    places: u64,
    messages: u64,
    /// What was passed on.
    pub passed: Vec<Line1>,
    /// Interrupts that were passed on: the client, its own number, and the program's.
    pub interrupts: Vec<(u64, u64, u64)>,
    upstream_room: u32,
    /// What goes to a hub upstream, in order; and the count at which the program waits, if there is one.
    pub outbox: VecDeque<Sent>,
    pub program_waits: Option<u32>,
    /// A client that is a hub, of which another model takes care.
    pub link: Option<u64>,
    /// Upstream has room for what a judge has to say.
    control_room: bool,
    heard: Arc<Mutex<Heard>>,
    /// What the judge has said last.
    said: String,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(set: impl FnOnce(&mut Settings)) -> Self {
        let now = Instant::now();
        let (mut plan, log, benches, heard) = plan();
        set(&mut plan.settings);
        Self {
            router: Router::new(plan, log, benches, now),
            now,
            clients: BTreeMap::new(),
            log: vec![Vec::new(); DOWN.len()],
            places: 0,
            messages: 0,
            passed: Vec::new(),
            interrupts: Vec::new(),
            upstream_room: 1,
            outbox: VecDeque::new(),
            program_waits: None,
            link: None,
            control_room: true,
            heard,
            said: String::new(),
        }
    }

    // ---- what happens

    pub fn join(&mut self, access: Access, room: u32) -> u64 {
        let access = Arc::new(access);
        let joining = Joining {
            access: Arc::clone(&access),
            receives: ChannelSet::ALL,
            sends: access.may_send(),
            largest: LARGEST,
            now: self.now,
        };
        let key = self.router.handle_join(joining);
        let id = self.router.id(key);
        let ends = self.log.iter().map(|log| {
            let newest = log.iter().rev().find(|(_, entry)| !matches!(entry, Got::Gap(..)));
            match newest {
                Some((_, Got::End(end))) => Some(*end),
                _ => None,
            }
        });
        let client = Client {
            id,
            key: Some(key),
            access: Some(access),
            began: self.log.iter().map(Vec::len).collect(),
            ended_at_join: ends.collect(),
            room: vec![room; DOWN.len()],
            got: vec![Vec::new(); DOWN.len()],
            staged: vec![None; DOWN.len()],
            stopped: vec![false; DOWN.len()],
            knows: Some(self.router.number()),
            ..Client::default()
        };
        self.clients.insert(id, client);
        self.run();
        id
    }

    pub fn append(&mut self, slot: usize, what: Got) {
        let what = match what {
            Got::Message(bytes) => {
                self.messages += 1;
                let mut bytes = bytes.to_vec();
                if matches!(DOWN[slot], STATUS | SCREEN) {
                    bytes.resize(if DOWN[slot] == STATUS { 8 } else { bytes.len().max(8) }, 0);
                }
                let number = self.messages.to_be_bytes();
                let len = bytes.len().min(8);
                bytes[..len].copy_from_slice(&number[8 - len..]);
                Got::Message(bytes.into())
            }
            other => other,
        };
        let channel = DOWN[slot];
        match &what {
            Got::Message(bytes) => self.router.handle_message(channel, bytes.clone()),
            Got::Gap(messages, bytes) => self.router.handle_gap(channel, *messages, *bytes),
            Got::End(end) => self.router.handle_end(channel, *end),
        }
        self.log[slot].push((self.places, what));
        self.places += 1;
        self.run();
    }

    pub fn credit(&mut self, id: u64, slot: usize, more: u32) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.room[slot] += more;
        if let Some(staged) = client.staged[slot].take() {
            client.order += 1;
            client.got[slot].push((client.order, staged));
        }
        if let Some(key) = client.key.filter(|_| !client.left) {
            self.router.handle_room(key, Way::Log(slot));
        }
        self.run();
    }

    pub fn stop(&mut self, id: u64, slot: usize) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.left) else { return };
        client.stopped[slot] = true;
        if let Some(key) = client.key {
            self.router.handle_stopped(key, Way::Log(slot));
        }
        self.run();
    }

    pub fn away(&mut self, id: u64, back: bool) {
        let Some(key) = self.live(id) else { return };
        let client = self.clients.get_mut(&id).unwrap();
        client.away = if back { None } else { client.away.or(Some(self.now)) };
        if back {
            self.router.handle_back(key);
        } else {
            self.router.handle_away(key, self.now);
        }
        self.run();
    }

    pub fn leave(&mut self, id: u64, how: Leaving) {
        let Some(key) = self.live(id) else { return };
        if how == Leaving::InOrder {
            // What was sent has arrived by then.
            while self.clients[&id].wire.front().is_some() {
                self.arrive(id);
            }
        }
        let client = self.clients.get_mut(&id).unwrap();
        client.left = true;
        client.draining = self.router.handle_leave(key, how);
        if !client.draining {
            client.key = None;
        }
        self.run();
    }

    pub fn send(&mut self, id: u64, answers: bool) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.left) else { return };
        if !client.access.as_ref().is_some_and(|access| access.may_send().contains(INPUT)) {
            return;
        }
        // A prompt is for a client all of whose messages have been received.
        #[expect(clippy::cast_possible_truncation)]
        let prompt = client.prompt.filter(|(count, _)| *count == client.sent as u32);
        if answers && prompt.is_none() {
            return;
        }
        client.sent += 1;
        client.run_open = true;
        let line = Line1 {
            client: id,
            own: client.sent,
            run: client.run,
            knew: client.knows,
            answers: prompt.filter(|_| answers).map(|(_, waiting)| waiting),
        };
        client.lines.push(line.clone());
        client.wire.push_back(Sent::Line(line));
    }

    pub fn finish(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.left) else { return };
        if std::mem::take(&mut client.run_open) {
            client.run += 1;
            client.wire.push_back(Sent::End);
        }
    }

    pub fn say(&mut self, id: u64, text: &str) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.left) else { return };
        let text = match (text, client.knows) {
            ("take what I know", Some(number)) => format!(r#"{{"take":true,"input":{number}}}"#),
            ("take", _) | ("take what I know", None) => {
                client.knows = None;
                r#"{"take":true}"#.to_owned()
            }
            (other, _) => other.to_owned(),
        };
        client.wire.push_back(Sent::Roster(text));
    }

    pub fn interrupt_own(&mut self, id: u64, ahead: u64) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.left) else { return };
        let own = (client.sent + ahead).saturating_sub(1);
        client.wire.push_back(Sent::Control(format!("{id} {own}")));
    }

    /// One thing of a client's arrives at the hub.
    pub fn arrive(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.left) else { return };
        match client.wire.pop_front() {
            Some(Sent::Line(line)) => {
                if client.discarding {
                    client.dropped += 1;
                } else {
                    client.open = Some(line.run);
                    client.arrived.push_back(Sent::Line(line));
                }
            }
            Some(Sent::End) => {
                client.open = None;
                if std::mem::take(&mut client.discarding) {
                    // The end of a refused run wakes the driver.
                    let (key, dropped) = (client.key.unwrap(), client.dropped);
                    self.router.handle_dropped(key, dropped);
                } else {
                    client.arrived.push_back(Sent::End);
                }
            }
            Some(Sent::Roster(text)) => {
                client.requests.push_back(text);
                self.take_request(id);
            }
            Some(Sent::Control(text)) => {
                let key = client.key.unwrap();
                self.router.handle_shared(key, CONTROL, text.into());
            }
            None => return,
        }
        self.run();
    }

    /// A STOP arrives at a client.
    pub fn stop_arrives(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some((run, _)) = client.stops.pop_front() else { return };
        if run == client.run {
            client.stopped_runs.push(run);
            client.wire.push_back(Sent::End);
            client.run += 1;
            client.run_open = false;
        }
    }

    /// The program reads a message, and there is room for another.
    pub fn read_upstream(&mut self) {
        self.upstream_room += 1;
        self.router.handle_input_room();
        self.run();
    }

    /// Upstream has room for control, or none.
    pub fn control_room(&mut self, room: bool) {
        self.control_room = room;
        if room {
            self.router.handle_shared_room(CONTROL);
        }
        self.run();
    }

    /// A reader of the program waits; it has seen so many messages fewer than were passed on.
    pub fn waits(&mut self, waiting: bool, behind: u32) {
        let count = (self.passed.len() as u32).saturating_sub(behind);
        self.router.handle_waiting(waiting, count);
        self.run();
    }

    pub fn tick(&mut self, time: Duration) {
        self.now += time;
        self.router.handle_timeout(self.now);
        self.run();
    }

    pub fn over(&mut self) {
        self.router.handle_over(CloseCode::NORMAL, "done", Duration::from_secs(5), self.now);
        self.run();
    }

    /// Everything that is on a wire arrives, and everybody reads.
    pub fn settle(&mut self) {
        let link = self.link;
        let ids: Vec<_> = self.clients.keys().copied().filter(|id| Some(*id) != link).collect();
        for round in 0..4 {
            for &id in &ids {
                while self.clients[&id].wire.front().is_some() && !self.clients[&id].left {
                    self.arrive(id);
                }
                while self.clients[&id].stops.front().is_some() {
                    self.stop_arrives(id);
                }
                for slot in 0..DOWN.len() {
                    self.credit(id, slot, 1_000_000);
                }
            }
            self.upstream_room = 1_000_000;
            self.router.handle_input_room();
            self.control_room(true);
            self.tick(Duration::from_secs(if round == 0 { 0 } else { 1 }));
        }
    }

    fn live(&self, id: u64) -> Option<Key> {
        self.clients.get(&id).filter(|client| !client.left).and_then(|client| client.key)
    }

    /// Something comes from a hub upstream.
    pub fn relayed(&mut self, slot: usize, what: &Got) {
        match what {
            Got::Message(bytes) => self.router.handle_message(DOWN[slot], bytes.clone()),
            Got::Gap(messages, bytes) => self.router.handle_gap(DOWN[slot], *messages, *bytes),
            Got::End(end) => self.router.handle_end(DOWN[slot], *end),
        }
        self.run();
    }

    /// Something that is not of the log comes from a hub upstream.
    pub fn told(&mut self, told: Told) {
        match told {
            Told::Note(note) => self.router.handle_upstream_roster(&note),
            Told::Stop(code) => self.router.handle_input_stopped(code),
            Told::Prompt(waiting, count, program) => {
                self.program_waits = program;
                self.router.handle_waiting(waiting, count);
            }
        }
        self.run();
    }

    // ---- the driver

    pub fn run(&mut self) {
        let ids: Vec<_> = self.clients.keys().copied().collect();
        for id in ids {
            self.take_input(id);
        }
        while self.act() || self.turn() {}
        self.check_news();
    }

    /// The judge has heard how things stand, and says so as soon as there is room.
    fn check_news(&self) {
        let lost = |client: &Client| {
            client.away.is_some_and(|since| self.now - since >= self.router.plan().settings.owner_grace)
        };
        let (left, here): (Vec<_>, Vec<_>) = self.clients.values().partition(|client| client.left);
        let so = Heard {
            here: here.into_iter().map(|client| (client.id, lost(client))).collect(),
            left: left.into_iter().map(|client| client.id).collect(),
            owner: self.router.owner().map(|owner| self.router.id(owner)),
        };
        assert_eq!(*self.heard.lock().unwrap(), so);
        if self.control_room && !self.clients.is_empty() {
            assert_eq!(self.said, so.text());
        }
    }

    fn id_of(&self, key: Key) -> Option<u64> {
        self.clients.values().find(|client| client.key == Some(key)).map(|client| client.id)
    }

    fn act(&mut self) -> bool {
        let Some(action) = self.router.next_action() else { return false };
        match action {
            Action::Pass { channel, message } if channel == CONTROL => {
                let text = String::from_utf8(message.to_vec()).unwrap();
                if text.starts_with("there") {
                    assert!(self.control_room, "it was said without room");
                    self.said = text;
                    return true;
                }
                let words: Vec<_> = text.split(' ').collect();
                let number = |at: usize| words[at].parse().unwrap();
                self.interrupts.push((number(0), number(1), number(3)));
            }
            Action::Say { channel } if channel == CONTROL && self.control_room => {
                self.router.handle_say_room(channel);
            }
            Action::Pass { channel, message } if channel == ROSTER => {
                self.outbox.push_back(Sent::Roster(String::from_utf8(message.to_vec()).unwrap()));
            }
            Action::Refuse { key, channel, code } if channel == INPUT => {
                let Some(id) = self.id_of(key) else { return true };
                let client = self.clients.get_mut(&id).unwrap();
                let lines = client.arrived.drain(..).filter(|up| matches!(up, Sent::Line(_)));
                client.dropped += lines.count() as u64;
                if let Some(run) = client.open
                    && !std::mem::replace(&mut client.discarding, true)
                {
                    client.stops.push_back((run, code));
                    client.told.push_back(Told::Stop(code));
                }
                let dropped = client.dropped;
                self.router.handle_refused(key, dropped);
            }
            Action::Prompt { key, waiting, count } => {
                let waits = self.program_waits.or(self.router.input.waiting);
                if let Some(id) = self.id_of(key) {
                    let client = self.clients.get_mut(&id).unwrap();
                    client.prompt = waiting.then(|| (count, waits.unwrap()));
                    client.told.push_back(Told::Prompt(waiting, count, waits));
                }
            }
            Action::Look { key, channel } if channel == INPUT => {
                if let Some(id) = self.id_of(key) {
                    self.take_input(id);
                }
            }
            Action::Look { key, channel } if channel == ROSTER => {
                if let Some(id) = self.id_of(key) {
                    self.take_request(id);
                }
            }
            Action::Close { key, .. } => {
                if let Some(id) = self.id_of(key) {
                    let client = self.clients.get_mut(&id).unwrap();
                    client.closed = true;
                    client.left = true;
                    client.key = None;
                    self.router.handle_leave(key, Leaving::InOrder);
                }
            }
            _ => {}
        }
        true
    }

    /// What a client has sent as input before is judged before.
    fn take_request(&mut self, id: u64) {
        self.take_input(id);
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.left) else { return };
        let Some(key) = client.key else { return };
        if self.router.roster_wish(key)
            && let Some(text) = client.requests.pop_front()
        {
            self.router.handle_roster(key, text.as_bytes(), self.now);
        }
    }

    fn take_input(&mut self, id: u64) {
        loop {
            // An action may change what is next.
            while self.act() {}
            let Some(client) = self.clients.get_mut(&id) else { return };
            let Some(key) = client.key else { return };
            if client.arrived.is_empty() {
                if client.draining {
                    client.draining = false;
                    client.key = None;
                    self.router.handle_drained(key);
                }
                return;
            }
            if self.upstream_room == 0 {
                self.router.handle_input_full();
            }
            if self.router.wish(key, self.now) == Wish::Wait {
                return;
            }
            let client = self.clients.get_mut(&id).unwrap();
            match client.arrived.pop_front() {
                Some(Sent::Line(line)) => {
                    let dropped = client.dropped;
                    if self.router.handle_input(key, dropped, self.now) == Judged::Pass {
                        assert!(self.upstream_room > 0, "it was taken without room");
                        self.upstream_room -= 1;
                        self.passed.push(line.clone());
                        self.outbox.push_back(Sent::Line(line));
                        self.router.input_passed(key);
                        assert_eq!(self.router.owner(), Some(key), "only the owner's lines are passed on");
                    }
                }
                Some(Sent::End) => self.router.handle_input_end(key, End::Finish),
                _ => {}
            }
        }
    }

    fn turn(&mut self) -> bool {
        let Some(key) = self.router.next_ready() else { return false };
        let id = self.id_of(key);
        let mut more = 3;
        while more > 0 {
            let Some((way, gives)) = self.router.next(key) else { break };
            more -= 1;
            let client = self.clients.get_mut(&id.unwrap()).unwrap();
            assert!(!client.left, "something is sent to a client that left");
            let got = match gives {
                Gives::Message(bytes) => Got::Message(bytes.clone()),
                Gives::Owned(bytes) => Got::Message(bytes),
                Gives::Gap { messages, bytes } => Got::Gap(messages, bytes),
                Gives::End(end) => Got::End(end),
            };
            match way {
                Way::Roster => {
                    let Got::Message(bytes) = got else { panic!("the roster has messages only") };
                    client.hears(&serde_json::from_slice(&bytes).unwrap());
                    client.told.push_back(Told::Note(bytes));
                }
                Way::Private => {}
                Way::Log(slot) => {
                    let mut news = false;
                    for other in 0..DOWN.len() {
                        if self.router.is_latest(slot) && client.staged[other].is_some() {
                            news |= self.router.handle_staged(key, other);
                        }
                    }
                    if news {
                        continue;
                    }
                    let needs_room = !matches!(got, Got::End(_)) || client.staged[slot].is_some();
                    if needs_room && (client.room[slot] == 0 || client.staged[slot].is_some()) {
                        self.router.handle_no_room(key, way);
                        continue;
                    }
                    client.room[slot] -= u32::from(matches!(got, Got::Message(_)));
                    match got {
                        Got::Message(bytes) if bytes.len() >= 300 => {
                            client.staged[slot] = Some(Got::Message(bytes));
                        }
                        got => {
                            client.order += 1;
                            client.got[slot].push((client.order, got));
                        }
                    }
                }
            }
            self.router.sent(key, way);
        }
        self.router.end_turn(key, more == 0);
        true
    }
}
