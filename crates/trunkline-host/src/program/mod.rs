//! A program that runs: its output, its input, its end.

mod bell;
mod child;
mod drain;
mod environment;
mod input;
mod setup;
mod waiting;
mod wires;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::kill_process_group;

pub use bell::Bell;
use bell::Ear;
use drain::Drain;
use input::Input;
pub use setup::{Setup, StartError};
use waiting::Waiting;
use wires::{Ends, Read};

use crate::ending::{Ending, Signal};
use crate::screen::Screen;
use crate::size::{Pace, Size};

/// The largest piece of output, in bytes. A smaller one is all that there was when it was read.
pub const MAX_OUTPUT: usize = 64 * 1024;
/// How long a program may take to end that was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// How long after it has closed its input a program that ends may take until it has.
const ENDING: Duration = Duration::from_millis(200);

/// Where a program writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stream {
    /// Standard output; on a terminal everything.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Both, in the order in which they are looked at.
const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// What [`Program::next`] has waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Happened {
    /// The program has written. From a terminal it is what viewers get: whole characters and sequences without
    /// the questions that the host has answered, and the marks of the size.
    Output(Stream, Bytes),
    /// There is room for input again, after [`Program::input`] had none.
    Room,
    /// The program takes no more input: it has closed its end of the pipe. Said once, whether input waits or not.
    Deaf,
    /// The [bell](Program::bell) has rung.
    Bell,
    /// The time that was given to [`Program::next`] has come.
    Timeout,
    /// The program has ended, and all its output was returned. Said again by every later call.
    Ended(Ending),
}

/// A program on a terminal or on pipes. It has no thread: the caller's thread runs it by [`Program::next`].
///
/// ```
/// use std::process::Command;
/// use trunkline_host::{Ending, Happened, Setup, Size};
///
/// let mut command = Command::new("sh");
/// command.args(["-c", "read name; echo hello, $name; exit 3"]);
/// let mut program = Setup::terminal(command, Size::new(80, 24)).start()?;
/// program.input("Ada\n".into()).unwrap();
/// let ending = loop {
///     match program.next(None)? {
///         Happened::Output(_, bytes) => print!("{}", String::from_utf8_lossy(&bytes)),
///         Happened::Ended(ending) => break ending,
///         _ => {}
///     }
/// };
/// assert_eq!(ending, Ending::Exited(3));
/// assert_eq!(program.screen().unwrap().text(), "Ada\nhello, Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// When it is dropped, the program is killed if it has not ended.
pub struct Program {
    waiting: Waiting,
    ends: Ends,
    input: Input,
    /// [`Program::input`] was refused since there was room.
    wants_room: bool,
    /// The end of the input goes behind what waits.
    finishing: bool,
    deaf: bool,
    tell_deaf: Option<Instant>,
    terminal: Option<Terminal>,
    held_up: [bool; 2],
    happened: VecDeque<Happened>,
    ear: Ear,
    linger: Duration,
    ending: Option<Ending>,
    drain: Option<Drain>,
    kill_at: Option<Instant>,
    over: bool,
    buffer: Vec<u8>,
}

/// What a program on a terminal has besides.
struct Terminal {
    screen: Screen,
    pace: Pace,
}

impl Program {
    fn new(wires: setup::Wires, waiting: Waiting, linger: Duration) -> io::Result<Self> {
        let mut happened = VecDeque::new();
        let terminal = match &wires {
            setup::Wires::Terminal { size, .. } => {
                let mut screen = Screen::new(*size);
                happened.push_back(Happened::Output(Stream::Stdout, screen.resize(*size)));
                Some(Terminal { screen, pace: Pace::new(*size) })
            }
            setup::Wires::Pipes { .. } => None,
        };
        Ok(Self {
            waiting,
            ends: Ends::new(wires),
            input: Input::default(),
            wants_room: false,
            finishing: false,
            deaf: false,
            tell_deaf: None,
            terminal,
            held_up: [false; 2],
            happened,
            ear: Ear::new()?,
            linger,
            ending: None,
            drain: None,
            kill_at: None,
            over: false,
            buffer: vec![0; MAX_OUTPUT],
        })
    }

    /// Waits until something happens, at most until a time.
    ///
    /// # Errors
    ///
    /// If the system cannot wait: it is out of memory.
    pub fn next(&mut self, until: Option<Instant>) -> io::Result<Happened> {
        loop {
            if let Some(happened) = self.happened.pop_front() {
                return Ok(happened);
            }
            if let (true, Some(ending)) = (self.over, self.ending) {
                return Ok(Happened::Ended(ending));
            }
            let now = Instant::now();
            self.pass(now);
            if !self.happened.is_empty() || self.over {
                continue;
            }
            if until.is_some_and(|until| until <= now) {
                return Ok(Happened::Timeout);
            }
            self.wait(until, now)?;
        }
    }

    /// Returns the bell that ends a wait.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.ear.bell()
    }

    /// Returns the process id; `None` once the process is gone, and the number may be another's.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.waiting.pid().and_then(|pid| pid.as_raw_nonzero().get().try_into().ok())
    }

    /// Returns the screen of a program on a terminal.
    #[must_use]
    pub fn screen(&self) -> Option<&Screen> {
        self.terminal.as_ref().map(|terminal| &terminal.screen)
    }

    /// Returns how the program has ended, although output may still come.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Sets whether a stream is left unread, because what was read of it has found no room. The program waits
    /// when it goes on writing. Input, signals and resizing work meanwhile.
    pub fn hold_up(&mut self, stream: Stream, hold: bool) {
        self.held_up[stream as usize] = hold;
        let any = self.held_up.iter().any(|held| *held);
        if let Some(drain) = &mut self.drain {
            drain.hold_up(any, Instant::now());
        }
    }

    /// Types a message, or writes it to the pipe, after those that were accepted before. It is written as the
    /// program takes it; 64 KiB wait here, besides what the system holds. A program that has ended, or takes no
    /// more, takes everything and reads nothing.
    ///
    /// # Errors
    ///
    /// Gives the message back if there is no room. [`Happened::Room`] follows when there is.
    pub fn input(&mut self, message: Bytes) -> Result<(), Bytes> {
        if self.deaf || self.finishing || self.ending.is_some() {
            return Ok(());
        }
        let pushed = self.input.push(message);
        self.wants_room |= pushed.is_err();
        self.write();
        pushed
    }

    /// Ends the input behind what was accepted: closes a pipe, types the end-of-file character on a terminal.
    /// A program that reads the terminal goes on reading afterwards.
    pub fn finish_input(&mut self) {
        if let Some(end) = self.ends.end_of_file() {
            // It does not wait for room, since nothing is lost if it waits in the queue.
            self.input.push_always(vec![end].into());
        } else {
            self.finishing = true;
        }
        self.write();
    }

    /// Gives the terminal another size. Changes that follow each other within 40 ms become one. Without a
    /// terminal it does nothing.
    pub fn resize(&mut self, size: Size) {
        if let Some(terminal) = &mut self.terminal {
            terminal.pace.want(size);
        }
    }

    /// Stops what runs, as Ctrl-C does: types the interrupt character if the terminal makes a signal of it,
    /// else sends `SIGINT` to the terminal's foreground group, or to the program's group if it has pipes.
    ///
    /// Input that waits is dropped, as a terminal drops it, and does not hold the interrupt up.
    pub fn interrupt(&mut self) {
        if self.ending.is_some() {
            return;
        }
        match self.ends.interrupt_character() {
            Some(_) if self.ends.hung_up() => {}
            Some(character) => {
                if !self.input.is_empty() {
                    self.input.clear();
                    self.ends.flush_input();
                    self.made_room();
                }
                if self.ends.type_now(character) {
                    return;
                }
            }
            None => {}
        }
        let group = self.ends.foreground().or(self.waiting.pid());
        if let Some(group) = group {
            let _ = kill_process_group(group, rustix::process::Signal::INT);
        }
    }

    /// Sends a signal to the program's process group, which every process is in that it started and did not
    /// put elsewhere.
    ///
    /// # Errors
    ///
    /// If the program has ended, or the system refuses it.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let group = self.waiting.pid().ok_or(io::ErrorKind::NotFound)?;
        let signal = signal.raw().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(kill_process_group(group, signal)?)
    }

    /// Asks the program to end: `SIGHUP` on a terminal, as if that were closed, else `SIGTERM`. After 5 s its
    /// group is killed.
    pub fn end(&mut self) {
        if self.ending.is_some() || self.kill_at.is_some() {
            return;
        }
        let signal = if self.terminal.is_some() { Signal::HUP } else { Signal::TERM };
        drop(self.signal(signal));
        // A shell that was stopped, and its foreground job, are to hear it too.
        if let (Some(group), Some(raw)) = (self.ends.foreground(), signal.raw()) {
            let _ = kill_process_group(group, raw);
            let _ = kill_process_group(group, rustix::process::Signal::CONT);
        }
        drop(self.signal(Signal::CONT));
        self.kill_at = Some(Instant::now() + GRACE);
    }

    /// Does what the time brings.
    fn pass(&mut self, now: Instant) {
        if self.tell_deaf.take_if(|then| *then <= now).is_some() {
            self.happened.push_back(Happened::Deaf);
        }
        if self.kill_at.is_some_and(|then| then <= now) {
            self.kill_at = None;
            drop(self.signal(Signal::KILL));
        }
        self.resize_now(now);
        self.ends.retry(now);
        if self.drain.as_ref().and_then(Drain::due).is_some_and(|due| due <= now) {
            // What came since the last look is output.
            self.read_all();
            if self.drain.as_mut().is_some_and(|drain| drain.is_over(Instant::now())) {
                self.finish();
            }
        }
    }

    fn resize_now(&mut self, now: Instant) {
        let due = self.terminal.as_ref().and_then(|terminal| terminal.pace.due(now));
        if self.ending.is_some() || due.is_none_or(|due| due > now) {
            return;
        }
        // What is there was written for the old size.
        self.read_all();
        if let Some(terminal) = &mut self.terminal
            && let Some(size) = terminal.pace.take(now)
        {
            self.ends.resize(size);
            self.happened.push_back(Happened::Output(Stream::Stdout, terminal.screen.resize(size)));
        }
    }

    fn wait(&mut self, until: Option<Instant>, now: Instant) -> io::Result<()> {
        let pace = self
            .terminal
            .as_ref()
            .filter(|_| self.ending.is_none())
            .and_then(|terminal| terminal.pace.due(now));
        let due = self.drain.as_ref().and_then(Drain::due);
        let times = [until, pace, due, self.kill_at, self.tell_deaf, self.ends.retry_at()];
        let patience = times.into_iter().flatten().min().map(|time| {
            // Not a moment too early, or it is looked at twice.
            let time = time.saturating_duration_since(now);
            Timespec {
                tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: time.subsec_nanos().into(),
            }
        });
        let wanted = self.wanted();
        let mut descriptors: Vec<_> = wanted
            .iter()
            .map(|(_, descriptor, flags)| PollFd::from_borrowed_fd(*descriptor, *flags))
            .collect();
        match poll(&mut descriptors, patience.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<_> = wanted
            .iter()
            .zip(&descriptors)
            .filter(|(_, descriptor)| !descriptor.revents().is_empty())
            .map(|((what, ..), descriptor)| (*what, descriptor.revents().contains(PollFlags::ERR)))
            .collect();
        for (what, broken) in ready {
            match what {
                What::Bell => {
                    self.ear.clear();
                    self.happened.push_back(Happened::Bell);
                }
                What::Process => {
                    if let Some(ending) = self.waiting.check() {
                        self.ended(ending);
                    }
                }
                What::Input if broken && self.terminal.is_none() => self.deafen(),
                What::Input => self.write(),
                What::Output(stream) => self.read(stream),
            }
        }
        Ok(())
    }

    /// What is waited for. A descriptor of which nothing is wanted is not among them: its hang-up would end
    /// every wait.
    fn wanted(&self) -> Vec<(What, BorrowedFd<'_>, PollFlags)> {
        let mut wanted = vec![(What::Bell, self.ear.descriptor(), PollFlags::IN)];
        for descriptor in self.waiting.descriptors().into_iter().flatten() {
            wanted.push((What::Process, descriptor, PollFlags::IN));
        }
        for stream in STREAMS {
            if !self.held_up[stream as usize]
                && let Some(descriptor) = self.ends.output(stream)
            {
                wanted.push((What::Output(stream), descriptor, PollFlags::IN));
            }
        }
        // A pipe that the program has closed is told of without a write. A terminal is one with its output.
        let writes = !self.input.is_empty();
        if (writes || self.terminal.is_none())
            && let Some(descriptor) = self.ends.input()
        {
            wanted.push((What::Input, descriptor, if writes { PollFlags::OUT } else { PollFlags::empty() }));
        }
        wanted
    }

    fn write(&mut self) {
        if let Some(descriptor) = self.ends.input() {
            let written = self.input.write(descriptor);
            if written.is_err() && self.terminal.is_none() {
                self.deafen();
            }
        }
        if self.finishing && self.input.is_empty() {
            self.ends.close_input();
        }
        self.made_room();
    }

    /// The program takes no more input. It is told of a moment later: a program that ends has closed its input too.
    fn deafen(&mut self) {
        self.ends.close_input();
        self.input = Input::default();
        if !self.finishing && self.ending.is_none() && !std::mem::replace(&mut self.deaf, true) {
            self.tell_deaf = Some(Instant::now() + ENDING);
        }
        self.made_room();
    }

    fn made_room(&mut self) {
        if self.wants_room && self.input.room() > 0 {
            self.wants_room = false;
            self.happened.push_back(Happened::Room);
        }
    }

    fn read_all(&mut self) {
        for stream in STREAMS {
            if !self.held_up[stream as usize] {
                self.read(stream);
            }
        }
    }

    fn read(&mut self, stream: Stream) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let (read, then) = self.ends.read(stream, &mut buffer, self.ending.is_some());
        if read > 0 {
            self.output(stream, &buffer[..read]);
        }
        self.buffer = buffer;
        if then == Read::Over && self.ending.is_some() && self.ends.all_over() {
            self.finish();
        }
    }

    fn output(&mut self, stream: Stream, output: &[u8]) {
        if let Some(drain) = &mut self.drain {
            drain.output(Instant::now());
        }
        let shown = match &mut self.terminal {
            None => Bytes::copy_from_slice(output),
            Some(terminal) => {
                let mut answers = Vec::new();
                let shown = terminal.screen.take_output(output, &mut answers);
                if !answers.is_empty() {
                    self.input.answer(&answers);
                    self.write();
                }
                shown
            }
        };
        if !shown.is_empty() {
            self.happened.push_back(Happened::Output(stream, shown));
        }
    }

    fn ended(&mut self, ending: Ending) {
        self.ending = Some(ending);
        (self.kill_at, self.tell_deaf) = (None, None);
        self.input = Input::default();
        self.ends.close_input();
        self.made_room();
        let mut drain = Drain::new(self.linger, Instant::now());
        drain.hold_up(self.held_up.iter().any(|held| *held), Instant::now());
        self.drain = Some(drain);
        self.ends.retry_now();
        self.read_all();
        if self.ends.all_over() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.drain = None;
        self.ends.close();
        if let Some(terminal) = &mut self.terminal {
            let rest = terminal.screen.finish_output();
            if !rest.is_empty() {
                self.happened.push_back(Happened::Output(Stream::Stdout, rest));
            }
        }
    }
}

#[derive(Clone, Copy)]
enum What {
    Bell,
    Process,
    Input,
    Output(Stream),
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.ending.is_some() {
            return;
        }
        drop(self.signal(Signal::KILL));
        self.ends.close();
        // So that no zombie stays. A process that not even this ends is left to its system.
        let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
        let until = Instant::now() + Duration::from_secs(1);
        while self.waiting.check().is_none() && Instant::now() < until {
            let Some(process) = self.waiting.descriptors()[0] else { return };
            let _ = poll(&mut [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)], Some(&patience));
        }
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("pid", &self.pid())
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}
