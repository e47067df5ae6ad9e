//! What a console knows of its kernel.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Instant;

use super::numbers::Numbers;
use crate::layout::{Control, Roster, Status, Target};

/// What the kernel does, as far as the console can know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Activity {
    /// It has said nothing yet: it serves another console, or is just starting. It answers no requests.
    Unserved,
    /// It waits for a statement.
    Idle,
    /// A statement has begun, and its rest is missing.
    Incomplete,
    /// A message is on its way: the kernel has not read it yet.
    Sent,
    /// It runs a statement.
    Busy,
    /// A program waits for a line of input.
    Waiting,
    /// It was asked to stop a statement, which has not reacted yet.
    Interrupting,
    /// A statement does not react to an interrupt.
    Hung,
    /// It has ended, or its connection has.
    Over,
}

impl Activity {
    /// Returns the activity in words, for people to read.
    ///
    /// ```
    /// use trunkline_kernel::console::Activity;
    ///
    /// assert_eq!(Activity::Waiting.describe(), "waiting for input");
    /// ```
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Unserved => "serving another console",
            Self::Idle => "idle",
            Self::Incomplete => "waiting for the rest of a statement",
            Self::Sent => "about to read a line",
            Self::Busy => "busy",
            Self::Waiting => "waiting for input",
            Self::Interrupting => "interrupting",
            Self::Hung => "not reacting to an interrupt",
            Self::Over => "over",
        }
    }
}

/// A status that makes no sense at its place, as a count that goes back.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the kernel says `{status}`, which cannot be: {why}")]
#[non_exhaustive]
pub struct Nonsense {
    /// What it says.
    pub status: Status,
    /// What is wrong with it.
    pub why: &'static str,
}

/// How many stretches of refused messages are remembered.
const MOST_REFUSED: usize = 64;

/// What a console knows of its kernel: a value without threads, sockets or a clock.
///
/// It is told what was sent to the kernel and what came from it, with the time. In between it answers
/// questions. The console numbers its messages on the standard input from 1 in each session; a message is a
/// line, or several lines that belong together.
///
/// ```
/// use std::time::Instant;
/// use trunkline_kernel::console::{Activity, Console};
/// use trunkline_kernel::layout::{Control, Status, Target};
///
/// let now = Instant::now();
/// let mut console = Console::new(now);
/// console.handle_status(Status::Idle(0), now)?;
/// assert!(console.may_send(0));
///
/// assert_eq!(console.handle_sent(now), 1); // the first message
/// assert_eq!(console.activity(), Activity::Sent);
/// // An interrupt names the message, whether or not the kernel has read it.
/// assert_eq!(console.interrupt(), Some(Control::Interrupt(Target::Message(1))));
///
/// console.handle_status(Status::Busy(1), now)?;
/// console.handle_status(Status::Idle(1), now)?;
/// assert!(console.is_over(1));
/// assert_eq!(console.interrupt(), None); // there is nothing to stop
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Console {
    numbers: Numbers,
    /// How many messages were given to the connection in this session.
    sent: u64,
    /// Messages up to this one are over, if they were not refused.
    over: u64,
    /// Messages that a hub has refused, in order.
    refused: VecDeque<RangeInclusive<u64>>,
    kernel: Kernel,
    /// The number of messages read, as the kernel said last.
    read: u64,
    /// How many messages were sent when it first said so: later ones are not among them.
    sent_then: u64,
    /// Since when [`Console::activity`] is what it is.
    since: Instant,
    /// Since when the link is lost.
    lost: Option<Instant>,
    /// A reader of the kernel's waits and has taken everything, says the library (WAITING).
    reads: bool,
    /// What the kernel waits for is not to be seen.
    secret: bool,
}

/// What the kernel said last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kernel {
    Unserved,
    Idle,
    Incomplete,
    Busy,
    Waiting,
    Interrupting,
    Hung,
    Over,
}

impl Console {
    /// Makes a console that has sent nothing, to a kernel that has said nothing.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            numbers: Numbers::Same,
            sent: 0,
            over: 0,
            refused: VecDeque::new(),
            kernel: Kernel::Unserved,
            read: 0,
            sent_then: 0,
            since: now,
            lost: None,
            reads: false,
            secret: false,
        }
    }

    // -- What happens ------------------------------------------------------------------------------------

    /// Tells that a message was given to the connection on the standard input. Returns its number.
    pub fn handle_sent(&mut self, now: Instant) -> u64 {
        self.change(now, |console| {
            console.sent += 1;
            console.sent
        })
    }

    /// Tells what the kernel has said of itself.
    ///
    /// # Errors
    ///
    /// If the kernel counts backwards, has read more than was sent (not before a hub, where others send too),
    /// or speaks after its end. Nothing changes then.
    pub fn handle_status(&mut self, status: Status, now: Instant) -> Result<(), Nonsense> {
        if let Err(why) = self.check(&status) {
            return Err(Nonsense { status, why });
        }
        self.change(now, |console| {
            if let Some(read) = status.read().filter(|read| *read > console.read) {
                (console.read, console.sent_then) = (read, console.sent);
            }
            console.secret =
                matches!(status, Status::Secret(_)) || console.secret && matches!(status, Status::Failed(_));
            console.kernel = match status {
                // No state, and all that it says is how many were read.
                Status::Failed(_) => console.kernel,
                Status::Idle(_) => Kernel::Idle,
                Status::Incomplete(_) => Kernel::Incomplete,
                Status::Busy(_) => Kernel::Busy,
                Status::Waiting(_) | Status::Secret(_) => Kernel::Waiting,
                Status::Interrupting(_) => Kernel::Interrupting,
                Status::Hung(_) => Kernel::Hung,
                Status::Exited(_) | Status::Killed(_) => Kernel::Over,
            };
            if matches!(status, Status::Idle(_)) {
                console.over = console.over.max(console.read());
            }
        });
        Ok(())
    }

    fn check(&self, status: &Status) -> Result<(), &'static str> {
        if self.kernel == Kernel::Over {
            return Err("it has ended");
        }
        let Some(read) = status.read() else { return Ok(()) };
        if read < self.read {
            return Err("it had read more before");
        }
        if read > self.sent && matches!(self.numbers, Numbers::Same) {
            return Err("it has read more messages than were sent");
        }
        Ok(())
    }

    /// Tells of an [`Event::Waiting`](trunkline::Event::Waiting) of the standard input: a reader of the
    /// kernel's waits, after `taken` messages. A kernel says it in its status too; a program that has no
    /// status is known to wait by this alone.
    pub fn handle_waiting(&mut self, waiting: bool, taken: u32, now: Instant) {
        self.change(now, |console| {
            #[expect(clippy::cast_possible_truncation, reason = "the count is modulo 2³²")]
            let all = console.sent as u32 == taken;
            console.reads = waiting && all;
        });
    }

    /// Tells what a hub before the kernel has said. From then on interrupts name the console's own number.
    pub fn handle_roster(&mut self, roster: &Roster, now: Instant) {
        self.change(now, |console| {
            if matches!(console.numbers, Numbers::Same) {
                console.numbers = Numbers::Hub(Vec::new());
            }
            if let Some(line) = roster.line {
                console.numbers.learn(line);
            }
            if let Some(lost) = roster.lost {
                console.numbers.lose(lost.last_passed);
                // What was passed on runs; the rest was refused.
                let first = console
                    .refused
                    .back()
                    .map_or(1, |last| last.end() + 1)
                    .max(lost.last_passed.saturating_add(1));
                if first <= console.sent {
                    if console.refused.len() == MOST_REFUSED {
                        console.refused.pop_front();
                    }
                    console.refused.push_back(first..=console.sent);
                }
            }
            // Which of the console's messages a status was about may be known only now.
            if console.kernel == Kernel::Idle {
                console.over = console.over.max(console.read());
            }
        });
    }

    /// Tells that the link is lost. What is sent meanwhile goes when it is back.
    pub fn handle_link_lost(&mut self, now: Instant) {
        self.lost.get_or_insert(now);
    }

    /// Tells that the link is back; the session goes on.
    pub fn handle_link_back(&mut self) {
        self.lost = None;
    }

    /// Tells that the connection is over.
    pub fn handle_over(&mut self, now: Instant) {
        self.change(now, |console| console.kernel = Kernel::Over);
    }

    /// Tells that there is a new session: the kernel was started again, or the console has connected again.
    /// Counts begin at 0. Returns how many of the messages that were sent before are not known to be over.
    pub fn handle_new_session(&mut self, now: Instant) -> u64 {
        let refused = self
            .refused
            .iter()
            .map(|range| (range.end() + 1).saturating_sub((*range.start()).max(self.over + 1)));
        let unfinished = self.sent - self.over - refused.sum::<u64>();
        *self = Self::new(now);
        unfinished
    }

    // -- What is known -----------------------------------------------------------------------------------

    /// Returns `true` if a hub stands before the kernel, as far as is known: other consoles may be there, and the input
    /// has one owner.
    #[must_use]
    pub fn is_behind_hub(&self) -> bool {
        matches!(self.numbers, Numbers::Hub(_))
    }

    /// Returns what the kernel does.
    #[must_use]
    pub fn activity(&self) -> Activity {
        match self.kernel {
            Kernel::Over => Activity::Over,
            Kernel::Unserved if self.reads => Activity::Waiting,
            Kernel::Unserved => Activity::Unserved,
            Kernel::Busy => Activity::Busy,
            Kernel::Interrupting => Activity::Interrupting,
            Kernel::Hung => Activity::Hung,
            Kernel::Idle | Kernel::Incomplete | Kernel::Waiting if self.unread() > 0 => Activity::Sent,
            Kernel::Idle => Activity::Idle,
            Kernel::Incomplete => Activity::Incomplete,
            Kernel::Waiting => Activity::Waiting,
        }
    }

    /// Returns `true` if the kernel waits for a line that is not to be seen, as a password: the console does not show
    /// what is typed, and keeps it nowhere.
    ///
    /// ```
    /// use std::time::Instant;
    /// use trunkline_kernel::console::{Activity, Console};
    ///
    /// let mut console = Console::new(Instant::now());
    /// console.handle_status("waiting 0 secret".parse()?, Instant::now())?;
    /// assert!(console.is_secret() && console.activity() == Activity::Waiting);
    /// console.handle_status("waiting 0".parse()?, Instant::now())?;
    /// assert!(!console.is_secret());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.secret && self.activity() == Activity::Waiting
    }

    /// Returns since when the kernel does this.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Returns since when the link is lost; `None` while there is one.
    #[must_use]
    pub fn link_lost_since(&self) -> Option<Instant> {
        self.lost
    }

    /// Returns `true` once the kernel has said something in this session. Before that it serves another
    /// console, and a request would wait.
    #[must_use]
    pub fn is_served(&self) -> bool {
        !matches!(self.kernel, Kernel::Unserved | Kernel::Over)
    }

    /// Returns `true` if the kernel would answer a request on the introspection channel now: it serves this
    /// console, and there is a link.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        self.is_served() && self.lost.is_none()
    }

    /// Returns the number of the last message that was sent; 0 before the first.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns how many of the console's messages the kernel has read, as it said last.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.numbers.own(self.read, self.sent_then)
    }

    /// Returns how many messages were sent that the kernel has not read yet, as far as the console knows.
    #[must_use]
    pub fn unread(&self) -> u64 {
        let read = self.read();
        let refused =
            |range: &RangeInclusive<u64>| (range.end() + 1).saturating_sub((*range.start()).max(read + 1));
        self.sent - read - self.refused.iter().map(refused).sum::<u64>()
    }

    /// The first message that the kernel has not read and still may.
    fn first_unread(&self) -> u64 {
        let next = self.read() + 1;
        self.refused
            .iter()
            .fold(next, |next, range| if range.contains(&next) { range.end() + 1 } else { next })
    }

    /// Returns `true` if message `number` is over: its statement has ended, or it was refused.
    #[must_use]
    pub fn is_over(&self, number: u64) -> bool {
        number <= self.over || self.refused.iter().any(|range| range.contains(&number))
    }

    /// Returns `true` if every message that was sent is over.
    pub(super) fn is_all_over(&self) -> bool {
        self.unread() == 0 && self.over >= self.read()
    }

    /// Returns `true` if the kernel has read everything, and waits for more: for a statement, the rest of one,
    /// or input.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self.activity(), Activity::Idle | Activity::Incomplete | Activity::Waiting)
    }

    /// Returns `true` if the next line of a script may go: at most `ahead` messages are before the kernel.
    ///
    /// With 0 the kernel has to ask for each line, so each costs a round trip. More keeps the kernel busy, and
    /// an interrupt still names the message that it is meant for.
    #[must_use]
    pub fn may_send(&self, ahead: u64) -> bool {
        match self.activity() {
            Activity::Over | Activity::Unserved => false,
            Activity::Idle | Activity::Incomplete | Activity::Waiting => true,
            Activity::Sent => self.unread() <= ahead,
            Activity::Busy | Activity::Interrupting | Activity::Hung => self.unread() < ahead,
        }
    }

    // -- What is to be said ------------------------------------------------------------------------------

    /// Returns the command that stops what the person sees running: the statement that runs, or else the
    /// first message that the kernel has not read yet. `None` if there is nothing to stop.
    ///
    /// It is the same command until the kernel says something new, so a second one asks for the same again.
    #[must_use]
    pub fn interrupt(&self) -> Option<Control> {
        match self.kernel {
            Kernel::Over => None,
            // An answer that is on its way belongs to what runs.
            Kernel::Busy | Kernel::Incomplete | Kernel::Waiting | Kernel::Interrupting | Kernel::Hung => {
                Some(self.naming(self.read))
            }
            Kernel::Idle | Kernel::Unserved if self.unread() > 0 => {
                Some(self.interrupt_message(self.first_unread()))
            }
            Kernel::Unserved if self.reads => Some(Control::Interrupt(Target::Running)),
            Kernel::Idle | Kernel::Unserved => None,
        }
    }

    /// Returns the command that stops message `number` of this console, and no other.
    #[must_use]
    pub fn interrupt_message(&self, number: u64) -> Control {
        Control::Interrupt(match self.numbers {
            Numbers::Same => Target::Message(number),
            Numbers::Hub(_) => Target::Own(number),
        })
    }

    /// Names the kernel's message.
    fn naming(&self, input: u64) -> Control {
        match self.numbers.own_of(input, self.sent_then) {
            Some(own) => self.interrupt_message(own),
            None => Control::Interrupt(Target::Message(input)),
        }
    }

    /// Makes a change, and notes when the activity became another.
    fn change<R>(&mut self, now: Instant, change: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.activity();
        let result = change(self);
        if self.activity() != before {
            self.since = now;
        }
        result
    }
}
