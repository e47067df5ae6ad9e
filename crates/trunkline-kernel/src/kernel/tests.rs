//! Both sides against each other in memory: a [`Console`], a [`Machine`], an interpreter that is a list of
//! steps, and a link between them that delays, stops and loses. Nothing sleeps, and every run can be repeated.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::machine::{Action, Machine, NoLine, Taken};
use crate::console::{Activity, Console};
use crate::layout::{Control, Status, Target};

/// What happens next in a run.
#[derive(Clone, Debug)]
enum Op {
    /// The console sends lines, each with what its statement does, in one message.
    Send(Vec<Kind>),
    /// The console sends a piece of a line, without a newline.
    Piece,
    /// The console sends a message of no bytes: the end of input, if it stands between lines.
    End,
    /// The console interrupts what it sees running.
    Interrupt,
    /// The console interrupts its newest message.
    InterruptNewest,
    /// The next messages, commands or statuses arrive.
    Stdin(u8),
    Control,
    Status(u8),
    /// The interpreter goes on.
    Step(u8),
    Time(u16),
    Outage(bool),
    /// The console dies, and another comes.
    Die,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Quick,
    /// It runs until it is stopped.
    Endless,
    /// It reads a line.
    Read,
    /// It starts a thread that reads a line, and ends.
    Thread,
    /// It does not react to an interrupt, and ends by itself.
    Deaf,
    /// It needs the lines up to an [`Kind::End`].
    Begin,
    End,
    NotUtf8,
}

impl Kind {
    const ALL: [(Kind, &str); 8] = [
        (Kind::Quick, "quick"),
        (Kind::Endless, "endless"),
        (Kind::Read, "read"),
        (Kind::Thread, "thread"),
        (Kind::Deaf, "deaf"),
        (Kind::Begin, "begin"),
        (Kind::End, "end"),
        (Kind::NotUtf8, "\u{e9}"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).unwrap().1
    }

    fn of(word: &str) -> Self {
        Self::ALL.iter().find(|(_, known)| word == *known).unwrap().0
    }
}

/// A line names its kind and the messages that it is made of: `quick:5:6`.
fn parse(line: &[u8]) -> (Kind, BTreeSet<u64>) {
    let text = std::str::from_utf8(line).unwrap();
    let mut words = text.trim_end().split(':');
    let kind = Kind::of(words.next().unwrap());
    (kind, words.filter(|word| !word.is_empty()).map(|word| word.parse().unwrap()).collect())
}

/// What became of a statement, or of the beginning of one.
#[derive(Clone, Debug)]
struct Ended {
    /// With what it has read, and the line whose interrupt has dropped it: all that was read so far and does
    /// not belong to one before.
    messages: BTreeSet<u64>,
    stopped: bool,
}

#[derive(Debug)]
enum Doing {
    Nothing,
    Statement { kind: Kind, messages: BTreeSet<u64>, steps: u32, reader: Option<u64> },
}

struct World {
    start: Instant,
    now: Instant,
    console: Console,
    machine: Machine,
    outage: bool,
    stdin: VecDeque<Bytes>,
    control: VecDeque<Control>,
    status: VecDeque<Status>,
    /// A piece of a line was sent, and its end was not.
    open: bool,
    /// Messages that the console has named in an interrupt.
    named: BTreeSet<u64>,
    /// The messages of all lines that the console has sent, in order.
    lines: Vec<BTreeSet<u64>>,
    doing: Doing,
    block: BTreeSet<u64>,
    /// Threads of the program that read, and the messages of what they have read.
    threads: Vec<u64>,
    read: BTreeSet<u64>,
    ended: Vec<Ended>,
    said: Vec<String>,
    /// The interpreter was told to stop, and has not done it.
    stop: bool,
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        let mut world = Self {
            start,
            now: start,
            console: Console::new(start),
            machine: Machine::new(None, false),
            outage: false,
            stdin: VecDeque::new(),
            control: VecDeque::new(),
            status: VecDeque::new(),
            open: false,
            named: BTreeSet::new(),
            lines: Vec::new(),
            doing: Doing::Nothing,
            block: BTreeSet::new(),
            threads: Vec::new(),
            read: BTreeSet::new(),
            ended: Vec::new(),
            said: Vec::new(),
            stop: false,
        };
        world.machine.handle_arrival();
        world.act();
        world
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Status(status) => self.status.push_back(status),
                Action::Say(text) => self.said.push(text),
                Action::Stop => self.stop = true,
                Action::Released => self.stop = false,
                Action::Waiting(..) | Action::Wake | Action::Insist => {}
                Action::Command(command) => panic!("{command:?} was not given"),
                Action::End => panic!("no grace was set"),
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Send(kinds) => self.send(kinds, true),
            Op::Piece => self.send(&[Kind::Quick], false),
            Op::End => self.send_end(),
            Op::Interrupt => {
                let control = self.console.interrupt();
                self.interrupt(control);
            }
            Op::InterruptNewest => {
                let newest = self.console.sent();
                if newest > 0 {
                    let control = self.console.interrupt_message(newest);
                    self.interrupt(Some(control));
                }
            }
            Op::Stdin(count) => (0..*count).for_each(|_| _ = self.deliver_stdin()),
            Op::Control => _ = self.deliver_control(),
            Op::Status(count) => (0..*count).for_each(|_| _ = self.deliver_status()),
            Op::Step(count) => (0..*count).for_each(|_| _ = self.step()),
            Op::Time(ms) => {
                self.now += Duration::from_millis(u64::from(*ms));
                self.machine.handle_timeout(self.now);
                self.act();
            }
            Op::Outage(lost) => {
                self.outage = *lost;
                if *lost {
                    self.console.handle_link_lost(self.now);
                } else {
                    self.console.handle_link_back();
                }
            }
            Op::Die => self.die(),
        }
        self.check();
    }

    fn send(&mut self, kinds: &[Kind], whole: bool) {
        let number = self.console.handle_sent(self.now);
        let mut message = Vec::new();
        for (at, kind) in kinds.iter().enumerate() {
            if at == 0 && self.open {
                // The end of the line that has begun.
                message.extend_from_slice(format!(":{number}").as_bytes());
                self.lines.last_mut().unwrap().insert(number);
            } else {
                if *kind == Kind::NotUtf8 && whole {
                    message.extend_from_slice(b"\xff");
                }
                message.extend_from_slice(format!("{}:{number}", kind.word()).as_bytes());
                self.lines.push(BTreeSet::from([number]));
            }
            if whole {
                message.push(b'\n');
            }
        }
        self.open = !whole;
        self.stdin.push_back(message.into());
    }

    fn send_end(&mut self) {
        let number = self.console.handle_sent(self.now);
        if self.open {
            self.lines.last_mut().unwrap().insert(number);
        }
        self.stdin.push_back(Bytes::new());
    }

    fn interrupt(&mut self, control: Option<Control>) {
        let Some(control) = control else { return };
        let Control::Interrupt(Target::Message(number)) = control else { panic!("it names no message") };
        self.named.insert(number);
        self.control.push_back(control);
    }

    fn deliver_stdin(&mut self) -> bool {
        if self.outage || !self.machine.takes_input() {
            return false;
        }
        let Some(message) = self.stdin.pop_front() else { return false };
        self.machine.handle_message(message);
        self.act();
        true
    }

    fn deliver_control(&mut self) -> bool {
        if self.outage {
            return false;
        }
        let Some(control) = self.control.pop_front() else { return false };
        self.machine.handle_control(control, self.now);
        self.act();
        true
    }

    fn deliver_status(&mut self) -> bool {
        if self.outage {
            return false;
        }
        let Some(status) = self.status.pop_front() else { return false };
        self.console.handle_status(status, self.now).unwrap();
        true
    }

    /// The interpreter does one thing. Returns `false` if it can do nothing.
    fn step(&mut self) -> bool {
        let threads = self.step_threads();
        self.act();
        let moved = threads
            | match std::mem::replace(&mut self.doing, Doing::Nothing) {
                Doing::Nothing => self.next(),
                Doing::Statement { kind, messages, steps, reader } => {
                    self.go_on(kind, messages, steps, reader)
                }
            };
        self.act();
        moved
    }

    fn step_threads(&mut self) -> bool {
        let before = self.threads.len();
        for id in std::mem::take(&mut self.threads) {
            let read = self.machine.read();
            match self.machine.poll_read(id, self.now) {
                Some(Ok(line)) => {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    self.read
                        .extend(line.trim_end().split(':').skip(1).map(|word| word.parse::<u64>().unwrap()));
                }
                Some(Err(NoLine::Interrupted)) => {
                    // It was meant for a message of what the thread has read, or for what was read when it waited.
                    let meant = self.named.range(read..=self.machine.read()).next().is_some();
                    assert!(meant, "{:?} were named", self.named);
                    // The line belongs to what reads it, and so does what is left of its last message.
                    self.read.extend(read + 1..=self.machine.read());
                }
                Some(Err(NoLine::Gone | NoLine::Finished)) => {}
                Some(Err(why)) => panic!("{why:?}"),
                None => self.threads.push(id),
            }
        }
        self.threads.len() < before
    }

    fn next(&mut self) -> bool {
        match self.machine.poll_next() {
            None => return false,
            Some(Taken::Arrived | Taken::Gone) => self.block.clear(),
            Some(Taken::Drop) => {
                let messages = std::mem::take(&mut self.block);
                self.act();
                let unfinished = self.said.last().is_some_and(|text| text.contains("has ended within"));
                self.end(messages, !unfinished);
            }
            Some(Taken::Line(line)) => {
                let (kind, messages) = parse(&line);
                let continues = !self.block.is_empty();
                self.block.extend(messages);
                if kind == Kind::Begin || (continues && kind != Kind::End) {
                    self.machine.incomplete();
                    return true;
                }
                let messages = std::mem::take(&mut self.block);
                if self.machine.begin() {
                    self.doing = Doing::Statement { kind, messages, steps: 0, reader: None };
                } else {
                    self.end(messages, true);
                }
            }
            Some(taken @ (Taken::Finished | Taken::Exit)) => panic!("{taken:?} was not asked for"),
        }
        true
    }

    fn go_on(&mut self, kind: Kind, mut messages: BTreeSet<u64>, steps: u32, reader: Option<u64>) -> bool {
        let stopped = match kind {
            Kind::Quick | Kind::End => Some(false),
            Kind::Thread => {
                self.threads.push(self.machine.begin_read(false, false));
                Some(false)
            }
            Kind::Deaf => (steps > 2).then_some(false),
            Kind::Read => {
                let id = reader.unwrap_or_else(|| self.machine.begin_read(true, false));
                match self.machine.poll_read(id, self.now) {
                    Some(Ok(line)) => {
                        let line = String::from_utf8_lossy(&line).into_owned();
                        let numbers = line.trim_end().split(':').skip(1);
                        messages.extend(numbers.map(|word| word.parse::<u64>().unwrap()));
                        Some(false)
                    }
                    Some(Err(NoLine::Finished)) => {
                        messages.insert(self.machine.read());
                        Some(false)
                    }
                    Some(Err(NoLine::Interrupted | NoLine::Gone)) => Some(true),
                    Some(Err(why)) => panic!("{why:?}"),
                    None => {
                        self.doing = Doing::Statement { kind, messages, steps, reader: Some(id) };
                        return false;
                    }
                }
            }
            Kind::Endless => self.machine.deliver().then_some(true),
            Kind::Begin | Kind::NotUtf8 => panic!("{kind:?} does not run"),
        };
        match stopped {
            Some(stopped) => {
                self.end(messages, stopped);
                true
            }
            None => {
                let waits = kind == Kind::Endless;
                self.doing = Doing::Statement { kind, messages, steps: steps + 1, reader };
                !waits
            }
        }
    }

    fn end(&mut self, mut messages: BTreeSet<u64>, stopped: bool) {
        if stopped && let Some(first) = messages.first().copied() {
            messages.extend(first..=self.machine.read());
        }
        self.ended.push(Ended { messages, stopped });
    }

    /// Everything arrives, until nothing moves.
    fn settle(&mut self) {
        self.apply(&Op::Outage(false));
        loop {
            let mut moved = false;
            while self.deliver_control() || self.deliver_stdin() || self.step() || self.deliver_status() {
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn die(&mut self) {
        self.machine.handle_gone(self.now);
        self.act();
        // What the interpreter does ends: each kind does when its console is gone.
        while !self.machine.is_free() {
            assert!(self.step(), "{:?} goes on without a console", self.doing);
        }
        let fresh = Self::new();
        let machine = std::mem::replace(&mut self.machine, Machine::new(None, false));
        *self = Self { machine, ..fresh };
        self.machine.handle_arrival();
        self.act();
    }

    /// What holds at any time.
    fn check(&self) {
        for ended in &self.ended {
            // No other line is hit than the one that it was meant for. A line that is no text spoils its
            // statement.
            let meant = !ended.messages.is_disjoint(&self.named)
                || self.said.iter().any(|text| text.contains("UTF-8"));
            assert!(!ended.stopped || meant, "{ended:?}, and {:?} were named", self.named);
        }
        assert!(self.console.read() <= self.console.sent());
        assert!(self.console.since() >= self.start && self.console.since() <= self.now);
    }

    /// What holds when everything has arrived.
    fn check_settled(&self) {
        let running = match &self.doing {
            Doing::Nothing => None,
            Doing::Statement { messages, .. } => Some(messages),
        };
        if let Some(messages) = running {
            // No interrupt is lost.
            assert!(
                messages.is_disjoint(&self.named),
                "{messages:?} still runs, {:?} were named",
                self.named
            );
        }
        // Each line ran in its order, or there is a reason.
        let ran: Vec<&BTreeSet<u64>> =
            self.ended.iter().filter(|ended| !ended.stopped).map(|ended| &ended.messages).collect();
        let firsts: Vec<u64> = ran.iter().filter_map(|messages| messages.first().copied()).collect();
        assert!(firsts.is_sorted(), "{firsts:?}");
        let seen: BTreeSet<u64> = self.ended.iter().flat_map(|ended| ended.messages.clone()).collect();
        let spoiled = self.said.iter().any(|text| text.contains("UTF-8"));
        let stopped: BTreeSet<u64> = self
            .ended
            .iter()
            .filter(|ended| ended.stopped)
            .flat_map(|ended| ended.messages.clone())
            .collect();
        let waits_behind = self.console.sent() - self.console.unread();
        for line in &self.lines {
            let unread = line.iter().all(|number| *number > waits_behind);
            let excused = unread
                || spoiled
                || !line.is_disjoint(&seen)
                || !line.is_disjoint(&self.named)
                || !line.is_disjoint(&stopped)
                || !line.is_disjoint(&self.block)
                || !line.is_disjoint(&self.read)
                || running.is_some_and(|messages| !line.is_disjoint(messages))
                || (self.open && Some(line) == self.lines.last());
            assert!(excused, "{line:?} was lost; {:?}", self.ended);
        }
        match &self.doing {
            Doing::Nothing if !self.threads.is_empty() => {
                assert_eq!((self.console.activity(), self.console.unread()), (Activity::Waiting, 0));
            }
            Doing::Nothing => {
                assert_eq!(self.console.unread(), 0);
                assert!(
                    self.console.is_settled() && self.console.may_send(0),
                    "{:?}",
                    self.console.activity()
                );
            }
            Doing::Statement { kind: Kind::Read, .. } => {
                assert_eq!((self.console.activity(), self.console.unread()), (Activity::Waiting, 0));
            }
            Doing::Statement { .. } if !self.threads.is_empty() => {
                assert_eq!(self.console.activity(), Activity::Waiting);
            }
            Doing::Statement { .. } => assert_eq!(self.console.activity(), Activity::Busy),
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => Just(Kind::Quick),
        4 => Just(Kind::Endless),
        3 => Just(Kind::Read),
        1 => Just(Kind::Thread),
        1 => Just(Kind::Deaf),
        2 => Just(Kind::Begin),
        2 => Just(Kind::End),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => kind().prop_map(|kind| Op::Send(vec![kind])),
        2 => prop::collection::vec(kind(), 1..4).prop_map(Op::Send),
        1 => Just(Op::Send(vec![Kind::NotUtf8])),
        1 => Just(Op::Piece),
        4 => Just(Op::Interrupt),
        1 => Just(Op::End),
        2 => Just(Op::InterruptNewest),
        5 => (1..4_u8).prop_map(Op::Stdin),
        4 => Just(Op::Control),
        5 => (1..6_u8).prop_map(Op::Status),
        8 => (1..6_u8).prop_map(Op::Step),
        1 => (1..3_000_u16).prop_map(Op::Time),
        1 => any::<bool>().prop_map(Op::Outage),
    ]
}

/// `TRUNKLINE_FUZZ_INPUTS` sets how many runs are tried.
fn config() -> ProptestConfig {
    let cases =
        std::env::var("TRUNKLINE_FUZZ_INPUTS").ok().and_then(|cases| cases.parse().ok()).unwrap_or(600);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// No interrupt is lost, none hits another line, no line is lost, and in the end the console knows what
    /// the kernel does.
    #[test]
    fn an_interrupt_hits_its_line_and_no_other(ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
        }
        world.settle();
        world.check_settled();
        // A person who keeps pressing Ctrl-C gets the kernel back, with one for each statement.
        for _ in 0..=2 * world.lines.len() {
            if world.console.activity() == Activity::Idle {
                break;
            }
            let control = world.console.interrupt();
            prop_assert!(control.is_some(), "{:?} cannot be stopped", world.doing);
            world.interrupt(control);
            world.settle();
            world.check_settled();
        }
        prop_assert!(matches!(world.doing, Doing::Nothing) && world.threads.is_empty(), "{:?} goes on", world.doing);
        prop_assert_eq!(world.console.activity(), Activity::Idle);
    }

    /// What one console leaves behind does not touch the next.
    #[test]
    fn a_console_that_dies_leaves_a_kernel_like_new(
        before in prop::collection::vec(op(), 1..40),
        after in prop::collection::vec(op(), 1..40),
    ) {
        let mut world = World::new();
        for op in before.iter().chain([&Op::Die]).chain(&after) {
            world.apply(op);
        }
        world.settle();
        world.check_settled();
    }
}
