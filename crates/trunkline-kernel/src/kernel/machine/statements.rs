//! The loop of the interpreter: lines become statements, and statements end.

use super::{Action, Console, Dropped, Machine, Running, Stage, Taken};
use crate::kernel::input::{Break, LONGEST_LINE, Next, Span};
use crate::layout::Status;

impl Machine {
    /// The next thing for the loop. What ran is over when it asks.
    pub(in crate::kernel) fn poll_next(&mut self) -> Option<Taken> {
        self.end_statement();
        match self.console {
            Console::None => return None,
            Console::Arrived => {
                self.console = Console::Served;
                self.stage = Stage::Idle;
                self.report();
                return Some(Taken::Arrived);
            }
            Console::Gone(_) => {
                self.console = Console::None;
                self.stage = Stage::Alone;
                self.reported = None;
                self.actions.push_back(Action::Wake);
                return Some(Taken::Gone);
            }
            // It has dropped what it was to drop, if that was the last thing.
            Console::Served if self.drop.is_none() => self.report(),
            Console::Served => {}
        }
        if std::mem::take(&mut self.exit) {
            return Some(Taken::Exit);
        }
        loop {
            if let Some(dropped) = self.drop.take() {
                if let Stage::Incomplete(span) = self.stage {
                    self.input.drop_rest_of(span.last);
                    self.input.drop_part();
                }
                self.stage = Stage::Idle;
                if dropped == Dropped::Interrupted {
                    self.say_interrupted();
                }
                return Some(Taken::Drop);
            }
            // A thread that reads goes before the loop.
            if !self.readers.is_empty() || self.finished {
                self.report();
                return None;
            }
            match self.input.next() {
                Next::Nothing => {
                    if self.forget_part() {
                        continue;
                    }
                    self.claim_read();
                    self.report();
                    return None;
                }
                Next::Line(span, mut line) => {
                    if self.blocks {
                        self.input.take_lines_of(span.last, &mut line);
                    }
                    if let Some(named) = self.recall(span) {
                        self.refuse(named, Dropped::Interrupted);
                        continue;
                    }
                    if let Err(error) = std::str::from_utf8(&line) {
                        self.say(format!(
                            "message {} is not UTF-8 at byte {} of its line, which was not run",
                            span.last,
                            error.valid_up_to() + 1
                        ));
                        self.refuse(span.last, Dropped::Spoiled);
                        continue;
                    }
                    let first = match self.stage {
                        Stage::Incomplete(begun) => begun.first,
                        _ => span.first,
                    };
                    let span = Span { first, last: span.last };
                    self.stage = Stage::Running(Running { span, begun: false, stop: None });
                    return Some(Taken::Line(line));
                }
                Next::EndOfInput(span) => {
                    let named = self.recall(span);
                    match (self.is_incomplete(), named) {
                        // It was for a program that reads no longer.
                        (false, _) => {}
                        (true, Some(named)) => self.refuse(named, Dropped::Interrupted),
                        (true, None) => {
                            self.say("the input has ended within a statement, which was not run".to_owned());
                            self.refuse(span.last, Dropped::Spoiled);
                        }
                    }
                }
                Next::TooLong(span) => {
                    let _ = self.recall(span);
                    self.say(format!(
                        "message {} has a line of more than {} MiB, which was not run",
                        span.last,
                        LONGEST_LINE >> 20
                    ));
                    self.refuse(span.last, Dropped::Spoiled);
                }
                Next::Break(Break::Finished) => {
                    self.finished = true;
                    return Some(Taken::Finished);
                }
                Next::Break(Break::Reset) => {
                    self.say("the console has abandoned its input; what it had begun was dropped".to_owned());
                    self.spoil(Dropped::Spoiled);
                }
                Next::Break(Break::Gap { messages }) => {
                    self.say(format!(
                        "{messages} messages of the input were left out; what had begun was dropped"
                    ));
                    self.spoil(Dropped::Spoiled);
                }
            }
        }
    }

    /// Drops the beginning of a line if one of its messages is to be stopped. Returns `true` if it was.
    fn forget_part(&mut self) -> bool {
        let Some(named) = self.input.part().and_then(|span| self.recall(span)) else { return false };
        self.input.drop_part();
        self.refuse(named, Dropped::Interrupted);
        true
    }

    /// A line is not run, nor what is left of the message that is to be stopped, nor what it would continue.
    fn refuse(&mut self, message: u64, why: Dropped) {
        if why == Dropped::Interrupted {
            self.input.drop_rest_of(message);
            if !self.is_incomplete() {
                self.say_interrupted();
            }
        }
        self.spoil(why);
        self.report();
    }

    fn is_incomplete(&self) -> bool {
        matches!(self.stage, Stage::Incomplete(_))
    }

    fn spoil(&mut self, why: Dropped) {
        if why == Dropped::Spoiled {
            self.fail();
        }
        if self.is_incomplete() {
            self.drop = Some(why);
        }
    }

    /// Everything that was read since its first message belongs to a statement: so it is interrupted by what the console
    /// sees as read.
    pub(super) fn claim_read(&mut self) {
        let read = self.input.read();
        if let Stage::Running(Running { span, .. }) | Stage::Incomplete(span) = &mut self.stage {
            span.last = span.last.max(read);
        }
    }

    /// The statement that the loop has goes on in the next line.
    pub(in crate::kernel) fn incomplete(&mut self) {
        let Stage::Running(running) = &self.stage else { return };
        let (span, stopped) = (running.span, running.stop.is_some());
        self.stage = Stage::Incomplete(span);
        if stopped {
            self.drop = Some(Dropped::Interrupted);
            self.actions.push_back(Action::Released);
        } else {
            self.report();
        }
    }

    /// The statement that the loop has begins. Returns `false` if it is to be stopped already.
    pub(in crate::kernel) fn begin(&mut self) -> bool {
        let Stage::Running(running) = &mut self.stage else { return true };
        running.begun = true;
        let stopped = running.stop.as_mut().map(|stop| stop.delivered = true).is_some();
        self.report();
        !stopped
    }

    /// The interpreter has begun to stop the statement. Returns `true` if it was to.
    pub(in crate::kernel) fn deliver(&mut self) -> bool {
        let Stage::Running(Running { stop: Some(stop), .. }) = &mut self.stage else { return false };
        let first = !std::mem::replace(&mut stop.delivered, true);
        if first {
            self.actions.push_back(Action::Released);
        }
        first
    }

    /// The kernel ends.
    pub(in crate::kernel) fn exited(&mut self, code: i32) {
        self.end_statement();
        if self.console == Console::Served {
            self.actions.push_back(Action::Status(Status::Exited(code)));
        }
    }

    /// The statement that the loop has, or has just had, has failed.
    pub(in crate::kernel) fn fail(&mut self) {
        if self.console == Console::Served {
            self.actions.push_back(Action::Status(Status::Failed(self.input.read())));
        }
    }

    /// Some output of the statement was left out, or a call of it has ended, because it is to stop.
    pub(in crate::kernel) fn note_cut(&mut self) {
        if let Stage::Running(Running { stop: Some(stop), .. }) = &mut self.stage {
            stop.cut = true;
        }
    }

    /// What the loop had is over.
    fn end_statement(&mut self) {
        if !matches!(self.stage, Stage::Running(_)) {
            return;
        }
        let Stage::Running(running) = std::mem::replace(&mut self.stage, Stage::Idle) else { return };
        let Some(stop) = running.stop else { return self.report() };
        self.actions.push_back(Action::Released);
        let rest = self.input.drop_rest_of(running.span.last);
        // Of an answer; a thread that goes on reading keeps its own.
        if stop.delivered && self.input.part().is_some_and(|part| running.span.contains(part.last)) {
            self.input.drop_part();
        }
        if matches!(self.console, Console::Gone(_)) {
            return;
        }
        if stop.delivered || stop.cut || rest {
            self.say_interrupted();
        } else {
            self.say("the statement had ended before the interrupt reached it".to_owned());
        }
        // Also if the next line is there: so its console knows that each is over.
        self.report();
    }
}
