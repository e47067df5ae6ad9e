//! Private conversations against a plain model: each question of a client has one run of answers, which are its own.
//!
//! The driver of this model takes what a client has sent only when it arrives or when it is told to look, as the real
//! one does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;
use trunkline::{Access, ChannelId, ChannelSet};

use super::plan::*;
use crate::route::*;

/// A message of a question, or the answer to it: the client, the question, the place in it.
type Tag = [u64; 3];

fn bytes(tag: Tag) -> Bytes {
    tag.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>().into()
}

fn tag(bytes: &[u8]) -> Tag {
    let number = |at: usize| u64::from_be_bytes(bytes[at * 8..][..8].try_into().unwrap());
    [number(0), number(1), number(2)]
}

#[derive(Clone, Debug)]
enum Said {
    Message(Tag),
    End(End),
    /// The client stops the answers to this question.
    Stop(u64),
}

#[derive(Clone, Debug)]
enum Heard {
    Message(Tag),
    End(End),
}

#[derive(Default)]
struct Client {
    key: Option<Key>,
    /// The question at hand, and how many messages it has.
    question: u64,
    said: u64,
    /// Questions that the hub has stopped, as far as the client knows, and that are on their way to it.
    stopped: BTreeSet<u64>,
    stops: VecDeque<u64>,
    wire: VecDeque<Said>,
    /// How many messages each question had when it ended.
    ended: BTreeMap<u64, (u64, End)>,
    // The core of its connection in the hub.
    arrived: VecDeque<Said>,
    arriving: u64,
    discards: bool,
    /// The run of answers that the hub sends, and the one that the client reads.
    sends: u64,
    reads: u64,
    refused: BTreeSet<u64>,
    down: VecDeque<(u64, Heard)>,
    heard: BTreeMap<u64, Vec<Heard>>,
    room: bool,
    /// The hub is to be told when there is room.
    waits: bool,
}

#[derive(Default)]
struct Pipe {
    blocked: bool,
    wire: VecDeque<Said>,
    /// What the program has read of each run, and whether it has read the end.
    runs: Vec<Vec<Tag>>,
    read_end: bool,
    stopped: bool,
    /// It has ended its own run before it has read the end of the other.
    early: bool,
}

struct World {
    router: Router,
    clients: BTreeMap<u64, Client>,
    pipes: BTreeMap<ChannelId, Pipe>,
    now: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Join,
    Leave(u64),
    Ask(u64),
    End(u64, bool),
    Stop(u64),
    Arrive(u64),
    StopArrives(u64),
    Read(u64),
    Room(u64, bool),
    Program(u8),
    ProgramEnds(u8, bool),
    ProgramStops(u8),
    Blocks(u8, bool),
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let (plan, log, benches, _) = plan();
        let pipes = plan.pool.iter().map(|channel| (channel, Pipe::default())).collect();
        let router = Router::new(plan, log, benches, now);
        Self { router, clients: BTreeMap::new(), pipes, now }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Join => self.join(),
            Op::Leave(id) => self.leave(id),
            Op::Ask(id) => {
                let Some(client) = self.live(id) else { return };
                let tag = [id, client.question, client.said];
                client.said += 1;
                client.wire.push_back(Said::Message(tag));
            }
            Op::End(id, resets) => self.end(id, if resets { End::Reset(7) } else { End::Finish }),
            Op::Stop(id) => {
                let Some(client) = self.live(id) else { return };
                // Answers that were asked for, and are not over.
                if client.reads > client.question || (client.reads == client.question && client.said == 0) {
                    return;
                }
                let run = client.reads;
                client.refused.insert(run);
                client.reads += 1;
                client.wire.push_back(Said::Stop(run));
            }
            Op::Arrive(id) => self.arrive(id),
            Op::StopArrives(id) => self.stop_arrives(id),
            Op::Read(id) => self.read(id),
            Op::Room(id, room) => {
                let Some(client) = self.live(id) else { return };
                client.room = room;
                let key = client.key.unwrap();
                if room && std::mem::take(&mut client.waits) {
                    self.router.handle_room(key, Way::Private);
                }
            }
            Op::Program(at) => self.program(channel(at)),
            Op::ProgramEnds(at, early) => self.program_ends(channel(at), early),
            Op::ProgramStops(at) => self.program_stops(channel(at)),
            Op::Blocks(at, blocked) => {
                self.pipes.get_mut(&channel(at)).unwrap().blocked = blocked;
                if !blocked {
                    self.router.handle_shared_room(channel(at));
                }
            }
        }
        self.run();
    }

    fn live(&mut self, id: u64) -> Option<&mut Client> {
        self.clients.get_mut(&id).filter(|client| client.key.is_some())
    }

    fn join(&mut self) {
        let access = Arc::new(Access::full());
        let (receives, sends) = (ChannelSet::from(TALK), ChannelSet::from(TALK));
        let key =
            self.router.handle_join(Joining { access, receives, sends, largest: LARGEST, now: self.now });
        let id = self.router.id(key);
        self.clients.insert(id, Client { key: Some(key), ..Client::default() });
    }

    fn leave(&mut self, id: u64) {
        let Some(client) = self.live(id) else { return };
        let key = client.key.take().unwrap();
        self.router.handle_leave(key, Leaving::Lost);
    }

    fn end(&mut self, id: u64, end: End) {
        let Some(client) = self.live(id) else { return };
        if client.said == 0 {
            return;
        }
        client.ended.insert(client.question, (client.said, end));
        client.question += 1;
        client.said = 0;
        client.wire.push_back(Said::End(end));
    }

    /// One thing that a client has said arrives at the hub.
    fn arrive(&mut self, id: u64) {
        let Some(client) = self.live(id) else { return };
        let key = client.key.unwrap();
        match client.wire.pop_front() {
            Some(Said::Stop(run)) => {
                // The stop of a run that is over stops nothing.
                if run == client.sends {
                    client.sends += 1;
                    // There is a sender for the next run, which has room.
                    client.waits = false;
                    self.router.handle_stopped(key, Way::Private);
                }
            }
            Some(Said::End(end)) => {
                client.arriving += 1;
                if !std::mem::take(&mut client.discards) {
                    client.arrived.push_back(Said::End(end));
                }
            }
            Some(said) if !client.discards => client.arrived.push_back(said),
            Some(_) | None => {}
        }
        self.take(id);
    }

    /// A client hears that its question was stopped, and ends it, if it has not.
    fn stop_arrives(&mut self, id: u64) {
        let Some(client) = self.live(id) else { return };
        let Some(question) = client.stops.pop_front() else { return };
        client.stopped.insert(question);
        if client.question == question && client.said > 0 {
            self.end(id, End::Finish);
        }
    }

    /// One thing arrives at a client.
    fn read(&mut self, id: u64) {
        let Some(client) = self.live(id) else { return };
        let Some((run, heard)) = client.down.pop_front() else { return };
        if client.refused.contains(&run) {
            return;
        }
        assert_eq!(run, client.reads, "the runs of answers are read in order");
        client.reads += u64::from(matches!(heard, Heard::End(_)));
        client.heard.entry(run).or_default().push(heard);
    }

    // ---- the program

    fn program(&mut self, channel: ChannelId) {
        let pipe = self.pipes.get_mut(&channel).unwrap();
        if pipe.read_end && !pipe.early {
            // It ends its run before it reads the next one.
            return;
        }
        match pipe.wire.pop_front() {
            Some(Said::Message(tag)) => {
                if pipe.stopped || pipe.early {
                    return;
                }
                if pipe.runs.is_empty() {
                    pipe.runs.push(Vec::new());
                }
                pipe.runs.last_mut().unwrap().push(tag);
                self.router.handle_answer(channel, bytes(tag));
            }
            Some(Said::End(_)) => {
                pipe.stopped = false;
                if std::mem::take(&mut pipe.early) {
                    pipe.read_end = false;
                    pipe.runs.push(Vec::new());
                } else {
                    pipe.read_end = true;
                }
            }
            Some(Said::Stop(_)) | None => {}
        }
    }

    fn program_ends(&mut self, channel: ChannelId, early: bool) {
        let pipe = self.pipes.get_mut(&channel).unwrap();
        if std::mem::take(&mut pipe.read_end) {
            pipe.runs.push(Vec::new());
        } else if early && !pipe.early && !pipe.stopped && pipe.runs.last().is_some_and(|run| !run.is_empty())
        {
            pipe.early = true;
        } else {
            return;
        }
        self.router.handle_answer_end(channel, End::Finish);
    }

    /// The program wants no more of what it reads: the core of the hub ends that run for it.
    fn program_stops(&mut self, channel: ChannelId) {
        let pipe = self.pipes.get_mut(&channel).unwrap();
        let over = pipe.wire.iter().any(|said| matches!(said, Said::End(_)));
        let begun = pipe.runs.last().is_some_and(|run| !run.is_empty());
        if begun && !over && !pipe.read_end && !pipe.stopped && !pipe.early {
            pipe.stopped = true;
            pipe.wire.push_back(Said::End(End::Finish));
            self.router.handle_private_stopped(channel, 9);
        }
    }

    // ---- the driver

    fn run(&mut self) {
        while self.act() || self.turn() {}
    }

    fn act(&mut self) -> bool {
        let Some(action) = self.router.next_action() else { return false };
        let id_of = |world: &Self, key: Key| {
            world.clients.iter().find(|(_, client)| client.key == Some(key)).map(|(id, _)| *id)
        };
        match action {
            Action::Pass { channel, message } => {
                self.pipes.get_mut(&channel).unwrap().wire.push_back(Said::Message(tag(&message)));
            }
            Action::EndUpstream { channel, end } => {
                self.pipes.get_mut(&channel).unwrap().wire.push_back(Said::End(end));
            }
            Action::Skip { key, .. } => {
                let Some(id) = id_of(self, key) else { return true };
                let client = self.clients.get_mut(&id).unwrap();
                let end = client.arrived.iter().position(|said| matches!(said, Said::End(_)));
                match end {
                    Some(at) => drop(client.arrived.drain(..=at)),
                    None => {
                        client.arrived.clear();
                        if !std::mem::replace(&mut client.discards, true) {
                            client.stops.push_back(client.arriving);
                        }
                    }
                }
            }
            Action::Look { key, .. } => {
                if let Some(id) = id_of(self, key) {
                    self.take(id);
                }
            }
            _ => {}
        }
        true
    }

    fn take(&mut self, id: u64) {
        loop {
            while self.act() {}
            let Some(key) = self.clients.get(&id).and_then(|client| client.key) else { return };
            let Some(lent) = self.router.private_wish(key) else { return };
            if let Some(channel) = lent.filter(|channel| self.pipes[channel].blocked) {
                return self.router.park(key, channel);
            }
            match self.clients.get_mut(&id).unwrap().arrived.pop_front() {
                Some(Said::Message(tag)) => self.router.handle_private(key, bytes(tag)),
                Some(Said::End(end)) => self.router.handle_private_end(key, end),
                Some(Said::Stop(_)) | None => return,
            }
        }
    }

    fn turn(&mut self) -> bool {
        let Some(key) = self.router.next_ready() else { return false };
        let Some(client) = self.clients.values_mut().find(|client| client.key == Some(key)) else {
            panic!("a client that left has a turn")
        };
        while let Some((way, gives)) = self.router.next(key) {
            let heard = match (way, gives) {
                (Way::Private, Gives::Message(_)) if !client.room => {
                    client.waits = true;
                    self.router.handle_no_room(key, way);
                    continue;
                }
                (Way::Private, Gives::Message(bytes)) => Heard::Message(tag(bytes)),
                (Way::Private, Gives::End(end)) => Heard::End(end),
                (way, gives) => panic!("{way:?} {gives:?}"),
            };
            let run = client.sends;
            client.sends += u64::from(matches!(heard, Heard::End(_)));
            client.down.push_back((run, heard));
            self.router.sent(key, way);
        }
        self.router.end_turn(key, false);
        true
    }

    // ---- the end

    /// All that was begun comes to its end.
    fn settle(&mut self) {
        let ids: Vec<_> = self.clients.keys().copied().collect();
        for _ in 0..200 {
            for at in 0..2 {
                self.apply(Op::Blocks(at, false));
                for _ in 0..200 {
                    self.apply(Op::Program(at));
                }
                self.apply(Op::ProgramEnds(at, false));
            }
            for &id in &ids {
                self.apply(Op::End(id, false));
                self.apply(Op::Room(id, true));
                while self.live(id).is_some_and(|client| !client.wire.is_empty()) {
                    self.apply(Op::Arrive(id));
                }
                while self.live(id).is_some_and(|client| !client.down.is_empty()) {
                    self.apply(Op::Read(id));
                }
                while self.live(id).is_some_and(|client| !client.stops.is_empty()) {
                    self.apply(Op::StopArrives(id));
                }
            }
        }
        self.router.handle_timeout(self.now);
        self.run();
    }

    fn check(&self) {
        let mut asked: BTreeMap<(u64, u64), Vec<u64>> = BTreeMap::new();
        for run in self.pipes.values().flat_map(|pipe| &pipe.runs) {
            let Some(first) = run.first() else { continue };
            for (n, tag) in run.iter().enumerate() {
                assert_eq!(tag[..2], first[..2], "a conversation is with one client about one question");
                assert_eq!(tag[2], n as u64, "from its beginning, in order");
            }
            let before = asked.insert((first[0], first[1]), run.iter().map(|tag| tag[2]).collect());
            assert_eq!(before, None, "a question is asked once");
        }
        for (id, client) in &self.clients {
            for (run, heard) in &client.heard {
                let ends = heard.iter().position(|heard| matches!(heard, Heard::End(_)));
                for (n, heard) in heard.iter().enumerate() {
                    if let Heard::Message(tag) = heard {
                        assert_eq!(*tag, [*id, *run, n as u64], "an answer to this question, in order");
                    }
                }
                assert!(ends.is_none_or(|at| at == heard.len() - 1));
            }
            if client.key.is_none() {
                continue;
            }
            assert!(client.arrived.is_empty(), "{id} has sent what was never taken: {:?}", client.arrived);
            for (question, (said, end)) in &client.ended {
                if client.refused.contains(question) {
                    continue;
                }
                let none = Vec::new();
                let heard = client.heard.get(question).unwrap_or(&none);
                let Some(Heard::End(last)) = heard.last() else {
                    panic!("question {question} of {id} was never answered: {heard:?}")
                };
                let passed = asked.get(&(*id, *question)).map_or(0, Vec::len) as u64;
                let answers = heard.len() as u64 - 1;
                match (last, end) {
                    // Every message was answered, or the rest of the question was refused.
                    (End::Finish, _) => {
                        assert_eq!(answers, passed);
                        assert!(passed == *said || self.was_cut_short(client, *question));
                    }
                    (End::Reset(code), End::Reset(own)) if code == own => {}
                    (End::Reset(code), _) => {
                        let codes = [crate::code::NO_PRIVATE_CHANNEL, crate::code::UNREAD];
                        assert!(codes.contains(code), "{code}");
                    }
                }
            }
        }
    }

    /// The program has ended its answer early, or stopped the question. A client that had ended it already does
    /// not hear of that.
    fn was_cut_short(&self, client: &Client, question: u64) -> bool {
        let told = client.stopped.contains(&question);
        told || self.pipes.values().any(|pipe| pipe.runs.len() > 1) && client.ended.contains_key(&question)
    }
}

/// Each end costs the hub something, and each question makes one, whatever becomes of it.
#[test]
fn a_client_that_takes_no_answers_is_asked_nothing_more() {
    const QUESTIONS: u64 = 1000;
    let mut world = World::new();
    world.apply(Op::Join);
    world.apply(Op::Room(1, false));
    for question in 0..QUESTIONS {
        for op in [Op::Ask(1), Op::End(1, question % 3 == 1), Op::Arrive(1), Op::Arrive(1)] {
            world.apply(op);
        }
        for at in 0..2 {
            for op in [Op::Program(at), Op::Program(at), Op::ProgramEnds(at, false)] {
                world.apply(op);
            }
        }
        let ends = world.router.ends_of_answers(world.clients[&1].key.unwrap());
        assert!(ends <= 64, "{ends} ends wait for the client after {question} questions");
    }
    let client = &world.clients[&1];
    assert_eq!(client.heard.len() + client.down.len(), 0, "it has taken nothing");
    // The rest lies unread where it was sent from, and none of it is lost.
    let unread = client.arrived.iter().filter(|said| matches!(said, Said::End(_))).count();
    assert!(unread > 900, "{unread}");
    for _ in 0..10 {
        world.settle();
    }
    world.check();
    let answered =
        world.clients[&1].heard.values().filter(|heard| matches!(heard.last(), Some(Heard::End(_))));
    assert_eq!(answered.count() as u64, QUESTIONS);
}

fn channel(at: u8) -> ChannelId {
    ChannelId::new(64 + at)
}

fn op() -> impl Strategy<Value = Op> {
    let id = 1..4u64;
    let at = 0..2u8;
    prop_oneof![
        2 => Just(Op::Join),
        1 => id.clone().prop_map(Op::Leave),
        10 => id.clone().prop_map(Op::Ask),
        6 => (id.clone(), prop::bool::weighted(0.2)).prop_map(|(id, resets)| Op::End(id, resets)),
        3 => id.clone().prop_map(Op::Stop),
        16 => id.clone().prop_map(Op::Arrive),
        4 => id.clone().prop_map(Op::StopArrives),
        10 => id.clone().prop_map(Op::Read),
        4 => (id, any::<bool>()).prop_map(|(id, room)| Op::Room(id, room)),
        14 => at.clone().prop_map(Op::Program),
        6 => (at.clone(), prop::bool::weighted(0.1)).prop_map(|(at, early)| Op::ProgramEnds(at, early)),
        1 => at.clone().prop_map(Op::ProgramStops),
        2 => (at, any::<bool>()).prop_map(|(at, blocked)| Op::Blocks(at, blocked)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_question_has_its_own_answers_and_every_channel_comes_back(
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let mut world = World::new();
        world.apply(Op::Join);
        world.apply(Op::Join);
        for op in ops {
            world.apply(op);
        }
        world.settle();
        world.check();
        assert_eq!(world.router.private_channels(), (2, 0), "free and lent");
    }
}
