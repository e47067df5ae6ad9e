//! A hub before a hub: together they keep the promises of one.

use proptest::prelude::*;
use trunkline::Access;

use super::client::{Client, Line1, Sent, Told};
use super::plan::*;
use super::world::*;
use super::*;

/// Each of these is of the clients of one hub.
#[derive(Clone, Debug)]
enum Step {
    /// At the hub before the program.
    Far(Op),
    /// At the hub before that one.
    Near(Op),
    /// Something of the near hub's arrives at the far one.
    Up,
    /// Something of the far one's, that is not of the log, arrives at the near one.
    Told,
    /// A stop does, ahead of what was told before it.
    Stop,
    /// Something of the log does.
    Down,
    Credit {
        slot: usize,
        more: u32,
    },
    /// The link between them is lost, or there again.
    Link {
        up: bool,
    },
}

struct Chain {
    far: World,
    near: World,
    /// The near hub, as a client of the far one.
    link: u64,
    /// Its messages, in its own count.
    lines: Vec<Line1>,
    /// How many things of the log have arrived at the near hub.
    taken: usize,
    lost: bool,
}

impl Chain {
    fn new() -> Self {
        let mut far = World::new();
        let link = far.join(Access::full().named("hub"), 1);
        far.link = Some(link);
        let mut near = World::new();
        // No two clients have the same number.
        near.router.ids = 100;
        let mut chain = Self { far, near, link, lines: Vec::new(), taken: 0, lost: false };
        // What a hub upstream says first is that it is one.
        chain.told();
        chain
    }

    fn link(&mut self) -> &mut Client {
        self.far.clients.get_mut(&self.link).unwrap()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Far(op) => apply(&mut self.far, op),
            Step::Near(op) => apply(&mut self.near, op),
            Step::Link { up } => {
                self.lost = !up;
                self.far.away(self.link, *up);
                if *up {
                    self.near.router.handle_resumed();
                } else {
                    self.near.router.handle_suspended();
                }
                self.near.run();
            }
            _ if self.lost => {}
            Step::Up => self.far.arrive(self.link),
            Step::Told => drop(self.told()),
            Step::Stop => self.stop(),
            Step::Down => drop(self.down()),
            Step::Credit { slot, more } => self.far.credit(self.link, *slot, *more),
        }
        self.pass();
    }

    /// What the near hub sends is on its way.
    fn pass(&mut self) {
        while let Some(up) = self.near.outbox.pop_front() {
            let id = self.link;
            let link = self.far.clients.get_mut(&id).unwrap();
            let up = match up {
                Sent::Line(line) => {
                    self.lines.push(line);
                    link.sent += 1;
                    link.run_open = true;
                    let line = Line1 { client: id, own: link.sent, run: link.run, knew: None, answers: None };
                    link.lines.push(line.clone());
                    Sent::Line(line)
                }
                other => other,
            };
            link.wire.push_back(up);
        }
        self.far.outbox.clear();
    }

    /// One thing that the far hub has told arrives.
    fn told(&mut self) -> bool {
        let Some(told) = self.link().told.pop_front() else { return false };
        if let Told::Stop(_) = told {
            self.far.stop_arrives(self.link);
        }
        self.near.told(told);
        true
    }

    fn stop(&mut self) {
        let told = &mut self.link().told;
        if let Some(at) = told.iter().position(|told| matches!(told, Told::Stop(_)))
            && let Some(stop) = told.remove(at)
        {
            self.far.stop_arrives(self.link);
            self.near.told(stop);
        }
    }

    fn down(&mut self) -> bool {
        let link = &self.far.clients[&self.link];
        let next = self.taken as u64 + 1;
        let found = link.got.iter().enumerate().find_map(|(slot, got)| {
            let (_, what) = got.iter().find(|(order, _)| *order == next)?;
            Some((slot, what.clone()))
        });
        let Some((slot, what)) = found else { return false };
        self.taken += 1;
        self.near.relayed(slot, &what);
        true
    }

    fn settle(&mut self) {
        self.step(&Step::Link { up: true });
        for _ in 0..4 {
            for _ in 0..2 {
                while self.told() || self.down() || !self.link().wire.is_empty() {
                    self.far.arrive(self.link);
                    self.pass();
                }
                for slot in 0..DOWN.len() {
                    self.far.credit(self.link, slot, 1_000_000);
                }
            }
            self.far.settle();
            self.near.settle();
            self.pass();
        }
    }

    fn check(&self) {
        // The hubs, each for itself; what its own upstream is told is no promise of the near one's.
        checks::input(&self.far.passed, self.far.clients.values(), &self.far.interrupts);
        // Both together.
        let of_program = |line: &Line1| {
            let mut line = if line.client == self.link {
                self.lines[line.own as usize - 1].clone()
            } else {
                line.clone()
            };
            // Here a prompt is on its way when it is answered by another. A client that then takes the input, whatever was
            // passed on, sends what it has typed as the next line.
            line.answers = line.answers.filter(|_| line.knew.is_some());
            line
        };
        let all: Vec<_> = self.far.passed.iter().map(of_program).collect();
        let direct = || self.far.clients.values().filter(|client| client.id != self.link);
        let clients = || direct().chain(self.near.clients.values());
        let interrupts = [&self.far.interrupts[..], &self.near.interrupts].concat();
        checks::log(&self.far.log, clients());
        checks::input(&all, clients(), &interrupts);
        for client in clients().filter(|client| !client.left) {
            let number = all.len() as u64;
            assert!(
                client.knows.is_none_or(|knows| knows == number),
                "client {} knows {:?} of {number}",
                client.id,
                client.knows
            );
        }
    }
}

fn check(steps: &[Step]) {
    let mut chain = Chain::new();
    for step in steps {
        chain.step(step);
    }
    chain.settle();
    chain.check();
}

/// What happens at one hub. `ids`: of its clients.
fn of_clients(ids: std::ops::Range<u64>) -> impl Strategy<Value = Op> {
    let client = ids;
    let slot = 0..3usize;
    let what =
        prop_oneof![Just("take"), Just("take what I know"), Just(r#"{"release":true}"#), Just("nonsense")];
    prop_oneof![
        3 => (0..4u8, 0..4u32).prop_map(|(access, room)| Op::Join { access, room }),
        1 => (client.clone(), any::<bool>()).prop_map(|(client, in_order)| Op::Leave { client, in_order }),
        1 => (client.clone(), any::<bool>()).prop_map(|(client, back)| Op::Away { client, back }),
        5 => (client.clone(), slot.clone(), 1..4u32).prop_map(|(client, slot, more)| Op::Credit { client, slot, more }),
        1 => (client.clone(), slot).prop_map(|(client, slot)| Op::Stop { client, slot }),
        8 => (client.clone(), any::<bool>()).prop_map(|(client, answers)| Op::Send { client, answers }),
        2 => client.clone().prop_map(|client| Op::Finish { client }),
        4 => (client.clone(), what).prop_map(|(client, what)| Op::Say { client, what }),
        1 => (client.clone(), 1..3u64).prop_map(|(client, ahead)| Op::Interrupt { client, ahead }),
        12 => client.clone().prop_map(|client| Op::Arrive { client }),
        3 => client.prop_map(|client| Op::StopArrives { client }),
        4 => Just(Op::ReadUpstream),
        2 => prop_oneof![Just(60), Just(300), Just(11_000)].prop_map(|millis| Op::Tick { millis }),
    ]
}

fn of_program() -> impl Strategy<Value = Op> {
    let len = prop_oneof![8 => 8..60usize, 1 => 300..700usize];
    prop_oneof![
        8 => (0..3usize, len).prop_map(|(slot, len)| Op::Append { slot, len }),
        1 => (0..2usize, any::<bool>()).prop_map(|(slot, reset)| Op::End { slot, reset }),
        1 => (0..2usize, 1..5u64).prop_map(|(slot, messages)| Op::Gap { slot, messages }),
        4 => (any::<bool>(), 0..2u32).prop_map(|(waiting, behind)| Op::Waits { waiting, behind }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => of_program().prop_map(Step::Far),
        4 => of_clients(2..4).prop_map(Step::Far),
        8 => of_clients(101..104).prop_map(Step::Near),
        6 => Just(Step::Up),
        6 => Just(Step::Told),
        2 => Just(Step::Stop),
        4 => Just(Step::Down),
        3 => (0..3usize, 1..4u32).prop_map(|(slot, more)| Step::Credit { slot, more }),
        1 => any::<bool>().prop_map(|up| Step::Link { up }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn two_hubs_in_a_row_keep_the_promises_of_one(steps in prop::collection::vec(step(), 1..150)) {
        let joined = [Op::Join { access: 0, room: 3 }, Op::Join { access: 1, room: 3 }].map(Step::Near);
        let steps: Vec<_> = joined.into_iter().chain([Step::Far(Op::Join { access: 0, room: 3 })]).chain(steps).collect();
        check(&steps);
    }
}

/// A client of each hub, of which the near one's has sent lines that are under way.
fn under_way(lines: usize) -> Chain {
    let mut chain = Chain::new();
    chain.step(&Step::Near(Op::Join { access: 0, room: 9 }));
    chain.step(&Step::Far(Op::Join { access: 0, room: 9 }));
    for _ in 0..5 {
        chain.step(&Step::Near(Op::ReadUpstream));
        chain.step(&Step::Far(Op::ReadUpstream));
    }
    for _ in 0..lines {
        chain.step(&Step::Near(Op::Send { client: 101, answers: false }));
        chain.step(&Step::Near(Op::Arrive { client: 101 }));
    }
    chain
}

const FAR_TAKES: [Step; 2] =
    [Step::Far(Op::Say { client: 2, what: "take" }), Step::Far(Op::Arrive { client: 2 })];

/// The rest of a run that was stopped is told of when it arrives, and by then there may be another run.
#[test]
fn what_is_told_again_of_a_run_that_was_stopped_is_not_of_the_next_one() {
    let mut chain = under_way(3);
    FAR_TAKES.iter().for_each(|step| chain.step(step));
    chain.step(&Step::Up);
    while chain.told() {}
    chain.step(&Step::Far(Op::Say { client: 2, what: r#"{"release":true}"# }));
    chain.step(&Step::Far(Op::Arrive { client: 2 }));
    chain.step(&Step::Near(Op::StopArrives { client: 101 }));
    chain.step(&Step::Near(Op::Send { client: 101, answers: false }));
    for _ in 0..2 {
        chain.step(&Step::Near(Op::ReadUpstream));
        chain.step(&Step::Near(Op::Arrive { client: 101 }));
    }
    assert_eq!(chain.lines.len(), 4, "the next run is under way");
    while chain.link().wire.len() > 1 {
        chain.step(&Step::Up);
    }
    assert!(matches!(chain.link().told.front(), Some(Told::Note(note)) if note.starts_with(br#"{"lost""#)));
    while chain.told() {}
    chain.settle();
    chain.check();
    assert_eq!((chain.far.passed.len(), &chain.near.clients[&101].losses[..]), (1, &[(0, 3)][..]));
}

/// What a client knows does not count lines of its own that were refused.
#[test]
fn a_line_that_was_refused_far_away_does_not_stand_for_one_that_was_not_seen() {
    let mut chain = under_way(1);
    chain.step(&Step::Up);
    chain.step(&Step::Far(Op::Tick { millis: 60 }));
    while chain.told() {}
    chain.step(&Step::Near(Op::Tick { millis: 60 }));
    chain.step(&Step::Near(Op::ReadUpstream));
    chain.step(&Step::Near(Op::Send { client: 101, answers: false }));
    chain.step(&Step::Near(Op::Arrive { client: 101 }));
    FAR_TAKES.iter().for_each(|step| chain.step(step));
    while chain.told() {}
    // Another's line has the number that the refused one would have had.
    chain.step(&Step::Far(Op::Send { client: 2, answers: false }));
    chain.step(&Step::Far(Op::Finish { client: 2 }));
    for _ in 0..2 {
        chain.step(&Step::Far(Op::Arrive { client: 2 }));
    }
    assert_eq!(chain.far.passed.len(), 2);
    chain.step(&Step::Far(Op::Tick { millis: 60 }));
    while chain.told() {}
    // The near hub has the input again, and none of its clients does.
    chain.step(&Step::Near(Op::Join { access: 1, room: 9 }));
    chain.step(&Step::Near(Op::Say { client: 102, what: "take" }));
    chain.step(&Step::Near(Op::Say { client: 102, what: r#"{"release":true}"# }));
    chain.step(&Step::Near(Op::Arrive { client: 102 }));
    while !chain.link().wire.is_empty() {
        chain.step(&Step::Up);
    }
    while chain.told() {}
    chain.step(&Step::Near(Op::Arrive { client: 102 }));
    chain.step(&Step::Near(Op::StopArrives { client: 101 }));
    chain.step(&Step::Near(Op::Send { client: 101, answers: false }));
    assert_eq!(chain.near.clients[&101].lines[2].knew, Some(1));
    for _ in 0..2 {
        chain.step(&Step::Near(Op::Arrive { client: 101 }));
    }
    chain.settle();
    chain.check();
}

/// The far hub has given the input to its own client meanwhile, so the owner's next line would run after that one's if the
/// take of another client of the near hub gave it the right.
#[test]
fn the_owner_sends_nothing_behind_the_take_of_another() {
    let mut chain = under_way(0);
    chain.step(&Step::Near(Op::Join { access: 1, room: 9 }));
    chain.step(&Step::Near(Op::Say { client: 102, what: "take what I know" }));
    chain.step(&Step::Near(Op::Arrive { client: 102 }));
    chain.step(&Step::Up);
    while chain.told() {}
    FAR_TAKES.iter().for_each(|step| chain.step(step));
    chain.step(&Step::Far(Op::Send { client: 2, answers: false }));
    chain.step(&Step::Far(Op::Arrive { client: 2 }));
    chain.step(&Step::Near(Op::Say { client: 101, what: "take" }));
    chain.step(&Step::Near(Op::Arrive { client: 101 }));
    chain.step(&Step::Near(Op::Send { client: 102, answers: false }));
    chain.step(&Step::Near(Op::Arrive { client: 102 }));
    assert_eq!(chain.near.clients[&102].lines[0].knew, Some(0));
    chain.settle();
    chain.check();
    assert_eq!(chain.far.passed.len(), 1);
}
