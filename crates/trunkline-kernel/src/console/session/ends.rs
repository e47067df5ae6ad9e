//! The end of the input, and what ends with it.
//!
//! A program may read the end of the input, and read on: the input ends for each read that follows, as a file does. For a
//! kernel an end is that of a run. For a hub this is the end of the console's turn, so behind one an end is a message
//! of no bytes.

use bytes::Bytes;
use trunkline::Sender;

use super::{Look, Said, Session};
use crate::console::state::Activity;
use crate::console::unsent::{Unsent, no_channel};
use crate::layout::{ROSTER, Roster, Status};

/// What was said of the end of the input.
#[derive(Default, Debug)]
pub(super) struct Ends {
    /// There are no more lines.
    finishing: bool,
    /// The kernel was asked to end.
    exits: bool,
    /// What was sent last is a part of a line.
    open: bool,
    /// An end was sent since the last status.
    said: bool,
    /// It has no room yet.
    cramped: bool,
    /// The statement that has begun was sent the end of a line.
    broken: bool,
    /// There is a hub.
    hub: bool,
    /// It has said that so many messages were passed on.
    passed: Option<u64>,
    /// And was asked for the input since it last said something of it.
    asked: bool,
}

impl Ends {
    /// A message was sent; whether it ends a line, if it has any bytes.
    pub(super) fn sent(&mut self, ends: Option<bool>) {
        self.open = !ends.unwrap_or(!self.open);
    }

    /// The kernel was asked to end.
    pub(super) fn asked_to_exit(&mut self) {
        self.exits = true;
    }

    pub(super) fn hear_status(&mut self, status: &Status) {
        self.said = false;
        self.broken &= matches!(status, Status::Incomplete(_) | Status::Busy(_));
    }

    /// An end waits for room on the standard input.
    pub(super) fn wait_for_room(&self) -> bool {
        self.cramped
    }
}

impl Session {
    /// Tells the kernel that there are no more lines in this session. Once everything that it was given is
    /// over, [`Said::Finished`] comes. A program that reads on is told that there is no more, each time; a statement
    /// whose rest is missing is not run.
    ///
    /// A second call does nothing.
    ///
    /// # Errors
    ///
    /// [`Unsent::Stopped`] or [`Unsent::Over`].
    pub fn finish(&mut self) -> Result<(), Unsent> {
        if !std::mem::replace(&mut self.ends.finishing, true) {
            self.end_run()?;
        }
        Ok(())
    }

    /// Tells a program that waits for input that there is none: what Ctrl-D does on a terminal. More lines may
    /// follow.
    ///
    /// It ends a run of [`STDIN`](crate::layout::STDIN). If no program waits, the kernel takes it as the end of the
    /// session. For a hub the end of a run is that of this console's turn, so behind one it is an empty message, which is
    /// nothing where no program waits and no statement waits for its rest. A line that has begun ends with it.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Session::try_send); [`Unsent::Full`] only behind a hub.
    pub fn end_of_input(&mut self) -> Result<(), Unsent> {
        if !self.console.is_behind_hub() {
            return self.end_run();
        }
        let end = if self.ends.open { Bytes::from_static(b"\n") } else { Bytes::new() };
        self.try_send(end).map(drop)
    }

    /// Ends the run of the input, also one without a line: with a sender of its own.
    fn end_run(&mut self) -> Result<(), Unsent> {
        self.stdin()?.finish()?;
        self.begin_input()
    }

    pub(super) fn begin_input(&mut self) -> Result<(), Unsent> {
        self.stdin = None;
        self.stdin().map(drop)
    }

    pub(super) fn stdin(&mut self) -> Result<&Sender, Unsent> {
        let stdin = match self.stdin.take() {
            Some(stdin) => stdin,
            None => self.connection.sender(crate::layout::STDIN).map_err(no_channel)?,
        };
        Ok(self.stdin.insert(stdin))
    }

    /// A kernel's own end of the output comes behind all that it prints.
    ///
    /// A hub keeps its kernel. What that prints behind the last line has no end, and is not waited for; and
    /// another's program is not told that this console's input has ended.
    pub(super) fn try_end(&mut self, look: &mut Look<'_, '_>) -> Option<Said> {
        if self.over || !self.ends.finishing {
            return None;
        }
        let activity = self.console.activity();
        let wants = if self.finished {
            // A kernel that ends waits for the threads of its program, which may read.
            self.ends.exits && self.console.is_behind_hub() && activity == Activity::Waiting
        } else if self.console.is_behind_hub() {
            let ran = self.console.is_all_over();
            if ran && self.console.is_served() {
                self.finished = true;
                return Some(Said::Finished);
            }
            !ran && matches!(activity, Activity::Waiting | Activity::Incomplete)
        } else {
            self.console.is_settled()
        };
        if wants && self.ask_again() && !self.ends.said {
            self.say_end(activity, look);
        }
        None
    }

    fn say_end(&mut self, activity: Activity, look: &mut Look<'_, '_>) {
        // The end of a line ends some statements, as it does when a person types it.
        let breaks = activity == Activity::Incomplete && self.console.is_behind_hub() && !self.ends.broken;
        let sent = if breaks { self.try_send("\n").map(drop) } else { self.end_of_input() };
        // If it is refused otherwise, the kernel reads no more and has seen an end, or a hub says more.
        self.ends.cramped = sent == Err(Unsent::Full);
        self.ends.said = !self.ends.cramped;
        self.ends.broken |= breaks && self.ends.said;
        if let (true, Look::AndWake(cx)) = (self.ends.cramped, look)
            && self.poll_ready(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
    }

    /// Returns `true` if the input is not another's, as far as is known. Where a hub has refused an end, since another has
    /// typed meanwhile, it is asked for the input once this is free.
    fn ask_again(&mut self) -> bool {
        let refused = self.stdin.as_ref().is_some_and(|stdin| stdin.stopped().is_some());
        if !refused || !self.console.is_behind_hub() {
            return true;
        }
        if let Some(passed) = self.ends.passed
            && !std::mem::replace(&mut self.ends.asked, true)
            && let Ok(roster) = self.connection.sender(ROSTER)
        {
            // If there is no room, the next note is one more occasion.
            let _ = roster.try_send(format!(r#"{{"take":true,"input":{passed}}}"#));
        }
        false
    }

    pub(super) fn hear_roster(&mut self, roster: &Roster) {
        self.ends.passed = roster.input.or(self.ends.passed);
        if !std::mem::replace(&mut self.ends.hub, true) {
            // What was said before it was known to be there was only the end of a turn.
            self.ends.said = false;
        }
        // An answer has the number, too, and is no reason to ask again.
        if roster.answer.is_none() && (roster.input.is_some() || roster.clients.is_some()) {
            self.ends.asked = false;
        }
        let granted = roster.answer.as_ref().is_some_and(|answer| answer.done);
        let refused = self.stdin.as_ref().is_some_and(|stdin| stdin.stopped().is_some());
        if self.ends.finishing && granted && refused {
            // If the connection is over, its end says so.
            let _ = self.begin_input();
            self.ends.said = false;
        }
    }
}
