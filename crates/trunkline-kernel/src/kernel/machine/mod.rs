//! The kernel's loop without threads, sockets or a clock: what happened goes in, what is to be done comes
//! out.
//!
//! The driver calls a `handle_*` function or one of the interpreter's, then takes every
//! [`Action`] that [`poll_action`](Machine::poll_action) returns, and calls
//! [`handle_timeout`](Machine::handle_timeout) at [`poll_timeout`](Machine::poll_timeout).

mod readers;
mod statements;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::input::{Break, Input, Span};
use crate::layout::{Control, Status, Target};

/// How many interrupts are remembered for messages that have not been read.
pub(in crate::kernel) const MOST_REMEMBERED: usize = 1024;

/// How long the interpreter may take to react to an interrupt before the second step.
const INSIST: Duration = Duration::from_secs(1);
/// And before it counts as hung. It is told again after twice the time, and so on.
const HUNG: Duration = Duration::from_secs(2);

/// What the driver has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::kernel) enum Action {
    /// Send a status.
    Status(Status),
    /// Send a text on standard error.
    Say(String),
    /// Stop what runs: cut its output, and tell the interpreter.
    Stop,
    /// Tell the interpreter once more, by other means.
    Insist,
    /// Nothing is to be stopped any more.
    Released,
    /// Tell the console's library that a reader waits, or no longer does, after so many messages.
    Waiting(bool, u64),
    /// Wake the loop and the readers: there may be something for them.
    Wake,
    /// A command for the application.
    Command(Control),
    /// Nothing runs for anybody, and does not end: end the process.
    End,
}

/// What the loop gets.
#[derive(PartialEq, Eq, Debug)]
pub(in crate::kernel) enum Taken {
    Line(Vec<u8>),
    Drop,
    Arrived,
    Gone,
    Exit,
    Finished,
}

/// Why a reader has no line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::kernel) enum NoLine {
    Interrupted,
    Finished,
    Gone,
    TooLong,
    Broken(&'static str),
}

/// A thread that reads standard input.
#[derive(Debug)]
struct Reader {
    id: u64,
    /// It belongs to the statement, and ends with it.
    main: bool,
    /// What it reads is not to be seen.
    secret: bool,
    /// It gets no line, and why.
    fate: Option<NoLine>,
}

/// Where the interpreter stands.
#[derive(Debug)]
enum Stage {
    /// There is no console.
    Alone,
    /// It waits for a statement.
    Idle,
    /// It has the beginning of a statement.
    Incomplete(Span),
    /// It has a statement.
    Running(Running),
}

#[derive(Debug)]
struct Running {
    span: Span,
    /// It has begun: the status says so.
    begun: bool,
    stop: Option<Stop>,
}

/// A statement that shall end.
#[derive(Debug)]
struct Stop {
    since: Instant,
    /// The interpreter has begun to stop it.
    delivered: bool,
    insisted: bool,
    /// The seconds that were told last.
    hung: u64,
    /// Some of its output was left out, or a call has told it.
    cut: bool,
}

/// What becomes of the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Console {
    None,
    /// The loop does not know of it yet.
    Arrived,
    Served,
    /// The loop does not know it yet.
    Gone(Instant),
}

#[derive(Debug)]
pub(in crate::kernel) struct Machine {
    input: Input,
    stage: Stage,
    console: Console,
    /// Messages that are to be stopped as soon as they begin.
    remembered: BTreeSet<u64>,
    readers: VecDeque<Reader>,
    next_reader: u64,
    /// The beginning of a statement is to be dropped; whether that was asked for.
    drop: Option<Dropped>,
    exit: bool,
    /// The console has no more lines, and the loop has been told.
    finished: bool,
    reported: Option<Status>,
    announced: (bool, u64),
    orphan_grace: Option<Duration>,
    /// The lines of a message belong together.
    blocks: bool,
    ended: bool,
    actions: VecDeque<Action>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dropped {
    Interrupted,
    /// A line of it was no line.
    Spoiled,
}

impl Machine {
    /// Without an orphan's grace, what runs when its console is gone has all the time in the world.
    pub(in crate::kernel) fn new(orphan_grace: Option<Duration>, blocks: bool) -> Self {
        Self {
            input: Input::default(),
            stage: Stage::Alone,
            console: Console::None,
            remembered: BTreeSet::new(),
            readers: VecDeque::new(),
            next_reader: 0,
            drop: None,
            exit: false,
            finished: false,
            reported: None,
            announced: (false, 0),
            orphan_grace,
            blocks,
            ended: false,
            actions: VecDeque::new(),
        }
    }

    #[cfg(test)]
    pub(in crate::kernel) fn read(&self) -> u64 {
        self.input.read()
    }

    pub(in crate::kernel) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    // -- The console -------------------------------------------------------------------------------------

    /// Another console may be handed over.
    pub(in crate::kernel) fn is_free(&self) -> bool {
        self.console == Console::None
    }

    /// A console is there. The machine must be free.
    pub(in crate::kernel) fn handle_arrival(&mut self) {
        debug_assert!(self.is_free(), "one console after the other");
        self.input = Input::default();
        self.remembered.clear();
        self.reported = None;
        self.announced = (false, 0);
        self.drop = None;
        self.finished = false;
        self.exit = false;
        self.console = Console::Arrived;
        self.actions.push_back(Action::Wake);
    }

    /// The console is gone: what runs has no one to run for.
    pub(in crate::kernel) fn handle_gone(&mut self, now: Instant) {
        if matches!(self.console, Console::None | Console::Gone(_)) {
            return;
        }
        self.console = Console::Gone(now);
        self.remembered.clear();
        for reader in &mut self.readers {
            reader.fate.get_or_insert(NoLine::Gone);
        }
        if matches!(self.stage, Stage::Running(_)) {
            self.stop(now);
        }
        self.actions.push_back(Action::Wake);
    }

    /// More of the standard input can be taken in.
    pub(in crate::kernel) fn takes_input(&self) -> bool {
        matches!(self.console, Console::Arrived | Console::Served) && self.input.has_room()
    }

    /// All of the standard input that was taken in is used up.
    pub(in crate::kernel) fn wants_input(&self) -> bool {
        self.takes_input() && self.input.is_used_up()
    }

    /// The console is gone, and the loop does not know it yet.
    pub(in crate::kernel) fn is_gone(&self) -> bool {
        matches!(self.console, Console::Gone(_))
    }

    /// Something outside has changed that the loop or a reader may wait for.
    pub(in crate::kernel) fn wake(&mut self) {
        self.actions.push_back(Action::Wake);
    }

    pub(in crate::kernel) fn handle_message(&mut self, message: Bytes) {
        self.input.push(message);
        self.actions.push_back(Action::Wake);
    }

    pub(in crate::kernel) fn handle_break(&mut self, found: Break) {
        self.input.push_break(found);
        self.actions.push_back(Action::Wake);
    }

    pub(in crate::kernel) fn handle_control(&mut self, control: Control, now: Instant) {
        match control {
            Control::Interrupt(target) => self.handle_interrupt(target, now),
            Control::Exit => {
                self.exit = true;
                if matches!(self.stage, Stage::Running(_)) {
                    self.stop(now);
                }
                self.actions.push_back(Action::Wake);
            }
            other => self.actions.push_back(Action::Command(other)),
        }
    }

    pub(in crate::kernel) fn handle_interrupt(&mut self, target: Target, now: Instant) {
        let number = match target {
            Target::Running => return self.interrupt_running(now),
            // Without a hub the console's own count is the kernel's.
            Target::Message(number) | Target::Own(number) => number,
        };
        let span = match &self.stage {
            Stage::Running(running) => Some(running.span),
            Stage::Incomplete(span) => Some(*span),
            Stage::Idle | Stage::Alone => None,
        };
        let begun = self.input.part().filter(|_| span.is_none() && self.readers.is_empty());
        if span.or(begun).is_some_and(|span| span.contains(number)) {
            self.interrupt_running(now);
        } else if number > self.input.read() {
            self.remember(number);
        } else if self.input.begun() == Some(number) {
            // One line of it is over and the next has not begun.
            self.input.drop_rest_of(number);
            self.say_interrupted();
            self.report();
        } else if number == self.input.read() && span.is_none() {
            self.interrupt_reader();
        }
    }

    fn remember(&mut self, number: u64) {
        if self.remembered.len() >= MOST_REMEMBERED && !self.remembered.contains(&number) {
            self.say(format!(
                "`interrupt {number}` was dropped: {MOST_REMEMBERED} interrupts wait for lines that have not come"
            ));
        } else {
            self.remembered.insert(number);
        }
    }

    /// Forgets the interrupts for these messages, and those before them. Returns the last of these for which there
    /// was one.
    fn recall(&mut self, span: Span) -> Option<u64> {
        let later = match span.last.checked_add(1) {
            Some(next) => self.remembered.split_off(&next),
            None => BTreeSet::new(),
        };
        let now = std::mem::replace(&mut self.remembered, later);
        now.range(span.first..).next_back().copied()
    }

    /// Stops what runs, or drops what has begun, or wakes a thread that reads.
    fn interrupt_running(&mut self, now: Instant) {
        match &self.stage {
            Stage::Running(_) => self.stop(now),
            Stage::Incomplete(_) => {
                self.drop.get_or_insert(Dropped::Interrupted);
                self.actions.push_back(Action::Wake);
            }
            Stage::Idle if self.readers.is_empty() => {
                if self.input.part().is_some() {
                    self.input.drop_part();
                    self.say_interrupted();
                    self.report();
                }
            }
            Stage::Idle => self.interrupt_reader(),
            Stage::Alone => {}
        }
    }

    fn interrupt_reader(&mut self) {
        if let Some(reader) = self.readers.front_mut() {
            reader.fate = Some(NoLine::Interrupted);
            self.actions.push_back(Action::Wake);
        }
    }

    fn stop(&mut self, now: Instant) {
        let Stage::Running(running) = &mut self.stage else { return };
        let cut = running.stop.as_ref().is_some_and(|stop| stop.cut);
        match &mut running.stop {
            // It is on its way already.
            Some(stop) if !stop.delivered => {}
            stop => *stop = Some(Stop { since: now, delivered: false, insisted: false, hung: 0, cut }),
        }
        for reader in self.readers.iter_mut().filter(|reader| reader.main) {
            reader.fate.get_or_insert(NoLine::Interrupted);
        }
        self.actions.extend([Action::Stop, Action::Wake]);
        self.report();
    }

    /// The interpreter has begun to stop the statement, and that came to nothing: the statement runs on. It is to be
    /// stopped once more.
    pub(in crate::kernel) fn stop_again(&mut self, now: Instant) {
        if matches!(&self.stage, Stage::Running(Running { stop: Some(stop), .. }) if stop.delivered) {
            self.stop(now);
        }
    }

    // -- Time --------------------------------------------------------------------------------------------

    pub(in crate::kernel) fn poll_timeout(&self) -> Option<Instant> {
        let Stage::Running(running) = &self.stage else { return None };
        let step = running.stop.as_ref().filter(|stop| !stop.delivered).map(|stop| {
            let step = if stop.insisted { next_hung(stop.hung) } else { INSIST };
            stop.since.checked_add(step)
        });
        let end = match (self.console, self.orphan_grace) {
            (Console::Gone(since), Some(grace)) if !self.ended => since.checked_add(grace),
            _ => None,
        };
        [step.flatten(), end].into_iter().flatten().min()
    }

    pub(in crate::kernel) fn handle_timeout(&mut self, now: Instant) {
        let gone = match self.console {
            Console::Gone(since) => Some(since),
            _ => None,
        };
        let Stage::Running(running) = &mut self.stage else { return };
        if let (Some(since), Some(grace)) = (gone, self.orphan_grace)
            && !self.ended
            && now.saturating_duration_since(since) >= grace
        {
            self.ended = true;
            self.actions.push_back(Action::End);
        }
        let Some(stop) = running.stop.as_mut().filter(|stop| !stop.delivered) else { return };
        let silent = now.saturating_duration_since(stop.since);
        if silent >= INSIST && !std::mem::replace(&mut stop.insisted, true) {
            self.actions.push_back(Action::Insist);
        }
        if silent >= next_hung(stop.hung) {
            stop.hung = silent.as_secs();
            self.report();
        }
    }

    // -- What is told ------------------------------------------------------------------------------------

    /// Tells something on standard error.
    pub(in crate::kernel) fn say(&mut self, text: String) {
        self.actions.push_back(Action::Say(text + "\n"));
    }

    fn say_interrupted(&mut self) {
        self.say("interrupted".to_owned());
    }

    /// Tells what the kernel does, if that has changed.
    fn report(&mut self) {
        if self.console != Console::Served {
            return;
        }
        let read = self.input.read();
        // The first gets the next line.
        let waits = self.readers.iter().find(|reader| reader.fate.is_none());
        let (waits, secret) = (waits.is_some(), waits.is_some_and(|reader| reader.secret));
        let status = match &self.stage {
            Stage::Alone => return,
            Stage::Running(Running {
                stop: Some(Stop { hung: seconds @ 1.., delivered: false, .. }),
                ..
            }) => Status::Hung(*seconds),
            // A program that was stopped and reads again, as a debugger does, waits.
            Stage::Running(Running { stop: Some(stop), .. }) if !stop.delivered || !waits => {
                Status::Interrupting(read)
            }
            _ if waits && secret => Status::Secret(read),
            _ if waits => Status::Waiting(read),
            // The loop may find that it is only a part of a statement.
            Stage::Running(Running { begun: false, .. }) => return,
            Stage::Running(_) => Status::Busy(read),
            Stage::Incomplete(_) => Status::Incomplete(read),
            Stage::Idle if self.input.part().is_some() => Status::Incomplete(read),
            Stage::Idle => Status::Idle(read),
        };
        let announced = (matches!(status, Status::Waiting(_) | Status::Secret(_)), read);
        let last = std::mem::replace(&mut self.announced, announced);
        if last != announced && (last.0 || announced.0) {
            self.actions.push_back(Action::Waiting(announced.0, announced.1));
        }
        if self.reported.as_ref() != Some(&status) {
            self.reported = Some(status.clone());
            self.actions.push_back(Action::Status(status));
        }
    }
}

/// After how long a statement that does not react is told to hang, or still to hang.
fn next_hung(told: u64) -> Duration {
    if told == 0 { HUNG } else { Duration::from_secs(told.saturating_mul(2)) }
}
