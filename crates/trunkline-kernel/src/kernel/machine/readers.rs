//! Threads of the program that read standard input.

use std::time::Instant;

use super::{Action, Console, Machine, NoLine, Reader, Running, Stage};
use crate::kernel::input::{Break, Next, Span};

impl Machine {
    /// A thread reads standard input. `main`: it runs the statement. `secret`: what it reads is not to be seen.
    pub(in crate::kernel) fn begin_read(&mut self, main: bool, secret: bool) -> u64 {
        self.next_reader += 1;
        let stopping =
            matches!(&self.stage, Stage::Running(Running { stop: Some(stop), .. }) if !stop.delivered);
        self.readers.push_back(Reader {
            id: self.next_reader,
            main,
            secret,
            fate: (main && stopping).then_some(NoLine::Interrupted),
        });
        self.next_reader
    }

    /// The reader's line, if it is there. After that, or after an error, it reads no more.
    pub(in crate::kernel) fn poll_read(&mut self, id: u64, now: Instant) -> Option<Result<Vec<u8>, NoLine>> {
        let at = self.readers.iter().position(|reader| reader.id == id)?;
        let result = self.try_read(at, now);
        if result.is_some() {
            self.readers.remove(at);
            self.actions.push_back(Action::Wake);
        }
        self.report();
        result
    }

    /// The reader waits no longer.
    pub(in crate::kernel) fn end_read(&mut self, id: u64) {
        if let Some(at) = self.readers.iter().position(|reader| reader.id == id) {
            self.readers.remove(at);
            self.actions.push_back(Action::Wake);
            self.report();
        }
    }

    fn try_read(&mut self, at: usize, now: Instant) -> Option<Result<Vec<u8>, NoLine>> {
        let Reader { main, ref fate, .. } = self.readers[at];
        if let Some(fate) = fate.clone() {
            if main {
                self.deliver();
            }
            return Some(Err(fate));
        }
        if matches!(self.console, Console::Gone(_)) {
            return Some(Err(NoLine::Gone));
        }
        if at > 0 || self.console != Console::Served {
            return None;
        }
        let next = self.input.next();
        self.claim_read();
        match next {
            Next::Nothing => {
                let span = self.input.part()?;
                let named = self.recall(span)?;
                self.input.drop_part();
                Some(Err(self.interrupt_read(main, named, now)))
            }
            Next::Line(span, line) => Some(self.read_message(main, span, now).map(|()| line)),
            Next::EndOfInput(span) => Some(self.read_message(main, span, now).and(Err(NoLine::Finished))),
            Next::TooLong(span) => Some(self.read_message(main, span, now).and(Err(NoLine::TooLong))),
            Next::Break(Break::Finished) => Some(Err(NoLine::Finished)),
            Next::Break(Break::Reset) => Some(Err(NoLine::Broken("the console has abandoned its input"))),
            Next::Break(Break::Gap { .. }) => Some(Err(NoLine::Broken("some of the input was left out"))),
        }
    }

    /// What a reader has taken may be what an interrupt was for.
    fn read_message(&mut self, main: bool, span: Span, now: Instant) -> Result<(), NoLine> {
        self.recall(span).map_or(Ok(()), |named| Err(self.interrupt_read(main, named, now)))
    }

    /// A message that was to be stopped was for this reader: `named`, of those of its line.
    fn interrupt_read(&mut self, main: bool, named: u64, now: Instant) -> NoLine {
        self.input.drop_rest_of(named);
        if matches!(self.stage, Stage::Running(_)) {
            self.stop(now);
            if main {
                self.deliver();
            }
        }
        NoLine::Interrupted
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::kernel::input::LONGEST_LINE;
    use crate::kernel::machine::Taken;
    use crate::layout::Target;

    /// What a statement has read belongs to it, also if it was no line.
    #[test]
    fn an_interrupt_of_a_line_that_is_too_long_is_for_the_statement_that_has_read_it() {
        for before in [true, false] {
            let now = Instant::now();
            let mut machine = Machine::new(None, false);
            machine.handle_arrival();
            assert_eq!(machine.poll_next(), Some(Taken::Arrived));
            machine.handle_message(Bytes::from_static(b"x\n"));
            assert!(matches!(machine.poll_next(), Some(Taken::Line(_))) && machine.begin());
            let reader = machine.begin_read(true, false);
            if before {
                machine.handle_interrupt(Target::Message(2), now);
            }
            let mut line = vec![b'x'; LONGEST_LINE + 2];
            line.push(b'\n');
            machine.handle_message(line.into());
            let why = if before { NoLine::Interrupted } else { NoLine::TooLong };
            assert_eq!(machine.poll_read(reader, now), Some(Err(why)));
            if !before {
                machine.handle_interrupt(Target::Message(2), now);
                assert!(machine.deliver());
            }
        }
    }
}
