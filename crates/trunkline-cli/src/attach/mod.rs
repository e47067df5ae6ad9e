//! `trunkline attach`.

mod input;
mod keys;
mod mode;
mod owner;
mod screen;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, bounded, never, select};
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;
use trunkline::{CloseCode, Connection, Event, Events, Priority, Received, TryRecvError, TrySendError};
use trunkline_kernel::layout::{CONTROL, ROSTER, Roster, STATUS, STDERR, STDIN, STDOUT, Status};

use crate::arguments::{self, DetachKey, Reach};
use crate::client::exit_code;
use crate::failure::{Failure, Outcome, READER_GONE, UNAVAILABLE, USAGE};
use crate::output;
use crate::reach::Place;
use input::Input;
use keys::{Keys, Typed};
use mode::{Mode, Raw};
use owner::{Ask, Change, Owner};
use screen::Shown;

const CTRL_C: u8 = 3;
/// How long the host may take to hear that this client leaves.
const LEAVING: Duration = Duration::from_secs(2);

/// What one read of standard input brings at most.
const READ: usize = 16 * 1024;

/// What the person wants.
#[derive(Debug)]
pub struct Options {
    reach: Reach,
    use_: Use,
    detach_key: DetachKey,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    /// Type. `take`: also if another client has the input; `at_eof`: and what the end of standard input means.
    Type {
        take: bool,
        at_eof: AtEof,
    },
    Watch,
}

/// What the end of standard input, which is no terminal, means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct AtEof {
    detach: bool,
    send: bool,
}

impl Options {
    pub fn attaching(arguments: arguments::Attach) -> Self {
        let at_eof = AtEof { detach: arguments.detach_on_eof, send: arguments.send_eof };
        let use_ = Use::Type { take: arguments.take, at_eof };
        Self { reach: arguments.reach, use_, detach_key: arguments.detach_key }
    }

    pub fn watching(reach: Reach) -> Self {
        Self { reach, use_: Use::Watch, detach_key: DetachKey::default() }
    }

    fn take(&self) -> bool {
        matches!(self.use_, Use::Type { take: true, .. })
    }

    fn at_eof(&self) -> AtEof {
        match self.use_ {
            Use::Type { at_eof, .. } => at_eof,
            Use::Watch => AtEof { detach: false, send: false },
        }
    }

    fn watches(&self) -> bool {
        self.use_ == Use::Watch
    }
}

pub fn run(options: &Options) -> Outcome {
    let place = Place::find(&options.reach)?;
    if place.is_around_us() {
        let text = "this is the terminal of the program there; attach from another";
        return Err(place.failure(USAGE, text));
    }
    let connection = place.connect()?;
    let raw = Raw::enter(options.detach_key.0)?;
    let attached = Attached::new(options, &place, &connection, raw)?;
    let result = attached.run();
    // Delivers what was typed. An end that the host knows of already is no error here.
    let _ = connection.close_timeout(CloseCode::NORMAL, "", LEAVING);
    result
}

struct Attached<'a> {
    options: &'a Options,
    place: &'a Place,
    output: trunkline::Receiver,
    roster: Option<trunkline::Receiver>,
    connection: &'a Connection,
    control: Option<trunkline::Sender>,
    events: Events,
    signals: Receiver<i32>,
    typed: Receiver<io::Result<Vec<u8>>>,
    /// Fires when what is printed has no reader any more.
    reader_gone: Receiver<()>,
    /// Fires when the host has everything that standard input has brought.
    delivered: Option<Receiver<()>>,
    /// It has, so this client leaves when it has what the program has shown before, or by then.
    leaves_by: Option<Instant>,
    keys: Keys,
    input: Input<'a>,
    shown: Shown,
    raw: Option<Raw>,
    /// A kernel waits for what is not to be seen.
    secret: bool,
    owner: Owner,
}

/// Why the loop ends.
enum End {
    Detached,
    /// The program has ended; its status.
    Exited(u8),
    Signal(i32),
    Lost(String),
    Failed(Failure),
}

impl<'a> Attached<'a> {
    fn new(
        options: &'a Options,
        place: &'a Place,
        connection: &'a Connection,
        raw: Option<Raw>,
    ) -> Result<Self, Failure> {
        let channel = |error: trunkline::ChannelError| {
            place.failure(UNAVAILABLE, format!("{error}; is a host of `trunkline host` there?"))
        };
        let watches = options.watches();
        let control = if watches { None } else { connection.sender_with(CONTROL, Priority::Urgent).ok() };
        // A watcher's standard input is for its commands, which come from a terminal.
        let typed = if watches && raw.is_none() { never() } else { read_input()? };
        Ok(Self {
            options,
            place,
            output: connection.receiver(STDOUT | STDERR | STATUS).map_err(channel)?,
            roster: connection.receiver(ROSTER).ok(),
            connection,
            control,
            events: connection.events(),
            signals: signals()?,
            typed,
            reader_gone: output::reader_gone()?,
            delivered: None,
            leaves_by: None,
            keys: Keys::new(options.detach_key.0),
            input: Input::new(connection, watches),
            shown: Shown::new(raw.is_some()),
            raw,
            secret: false,
            owner: Owner::default(),
        })
    }

    fn run(mut self) -> Outcome {
        self.resize();
        let end = self.attend();
        if matches!(end, End::Detached) {
            self.release();
        }
        self.shown.leave();
        drop(self.raw.take());
        match end {
            End::Detached => {
                if self.shown.is_terminal() {
                    let begin = if self.shown.follows_terminal() { "" } else { "\n" };
                    output::tell(format!("{begin}[detached]"));
                }
                Ok(0)
            }
            End::Exited(code) => Ok(code),
            End::Signal(number) => Ok(u8::try_from(128 + number).unwrap_or(u8::MAX)),
            End::Lost(cause) => Err(self.place.lost(cause)),
            End::Failed(failure) => Err(failure),
        }
    }

    /// Lets go of the input, so that the next client gets it when this command has ended.
    fn release(&mut self) {
        let deadline = Instant::now() + LEAVING;
        self.input.leave(deadline);
        let Some(roster) = self.roster.as_ref().filter(|_| self.input.release()) else { return };
        while let Ok(message) = roster.recv_deadline(deadline) {
            if Roster::try_from(&message[..]).is_ok_and(|note| note.answer.is_some()) {
                return;
            }
        }
    }

    fn attend(&mut self) -> End {
        loop {
            if let Some(end) = self.step() {
                return end;
            }
            self.settle_mode();
            let (output, events) = (self.output.ready(), self.events.ready());
            let roster = self.roster.as_ref().map_or_else(never, trunkline::Receiver::ready);
            let room = self.input.room();
            // What is typed waits where it is while there is no room.
            let typed = if self.input.is_waiting() { never() } else { self.typed.clone() };
            let timer = [self.keys.due(), self.shown.due(), self.leaves_by]
                .into_iter()
                .flatten()
                .min()
                .map_or_else(never, |due| after(due.saturating_duration_since(Instant::now())));
            let delivered = self.delivered.clone().filter(|_| self.leaves_by.is_none()).unwrap_or_else(never);
            select! {
                recv(delivered) -> _ => self.leaves_by = Some(Instant::now() + LEAVING),
                recv(self.reader_gone) -> _ => return End::Failed(Failure::quiet(READER_GONE)),
                recv(output) -> _ => {}
                recv(events) -> _ => {}
                recv(roster) -> _ => {}
                recv(room) -> _ => {}
                recv(timer) -> _ => {}
                recv(self.signals) -> signal => if let Ok(signal) = signal && let Some(end) = self.signal(signal) {
                    return end;
                },
                recv(typed) -> read => if let Some(end) = self.read(read.unwrap_or(Ok(Vec::new()))) {
                    return end;
                },
            }
        }
    }

    /// A terminal is for keys if the program is on one, and else for lines, as it is for any program.
    fn settle_mode(&mut self) {
        let mode = if self.shown.follows_terminal() {
            Mode::Raw
        } else if self.options.watches() || self.keys.due().is_some() {
            Mode::Quiet
        } else if self.secret {
            Mode::Hidden
        } else {
            Mode::Lines
        };
        if let Some(raw) = &mut self.raw {
            raw.set(mode);
        }
    }

    /// Does everything that needs no wait.
    fn step(&mut self) -> Option<End> {
        if let Some(Typed::Input(bytes)) = self.keys.pass(Instant::now()) {
            self.input.push(bytes);
        }
        if self.shown.take_old_note(Instant::now()) {
            self.input.tell_again();
        }
        if let Some(why) = self.input.send() {
            self.shown.note(&why);
        }
        if self.options.at_eof().detach
            && self.delivered.is_none()
            && let Some(delivery) = self.input.delivery()
        {
            match delivery {
                Ok(delivery) => self.delivered = Some(delivery),
                Err(error) => return Some(End::Failed(error.into())),
            }
        }
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Suspended { .. } => self.shown.note_that_stays("link lost, trying"),
                Event::Resumed { .. } => self.shown.repaint(),
                Event::Stopped { channel: STDIN, code } => {
                    if let Some(why) = self.input.stopped(code) {
                        self.owner.told_refusal(code);
                        self.shown.note(&why);
                    }
                }
                _ => {}
            }
        }
        self.read_roster();
        match self.receive() {
            Ok(all) => {
                let leaves =
                    self.leaves_by.is_some_and(|by| self.owner.is_listed() && all || by <= Instant::now());
                leaves.then_some(End::Detached)
            }
            Err(end) => Some(end),
        }
    }

    /// Shows what has come. Returns `true` if that was all.
    fn receive(&mut self) -> Result<bool, End> {
        // The others have their turn after this.
        for _ in 0..64 {
            match self.output.try_recv_any() {
                Ok(Received::Message(message)) if message.channel() == STATUS => {
                    // A status that is not known here means nothing here.
                    let status = Status::try_from(&message[..]).ok();
                    if let Some(code) = status.as_ref().and_then(exit_code) {
                        return Err(End::Exited(code));
                    }
                    self.secret = matches!(status, Some(Status::Secret(_)));
                }
                Ok(Received::Message(message)) => {
                    if message.channel() == STDOUT && self.shown.finds_terminal(&message) {
                        self.input.goes_on();
                    }
                    // First, so that what a person types who has seen it is echoed, or is not.
                    self.settle_mode();
                    let written = self.shown.output(message.channel() == STDERR, &message);
                    if let Err(error) = written {
                        return Err(End::Failed(output::failure(error)));
                    }
                }
                Ok(Received::Gap { bytes, .. }) => self.shown.gap(bytes),
                Ok(_) => {}
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected(cause)) => return Err(End::Lost(cause.to_string())),
            }
        }
        Ok(false)
    }

    fn read_roster(&mut self) {
        while let Some(Ok(message)) = self.roster.as_ref().map(trunkline::Receiver::try_recv) {
            let Ok(note) = Roster::try_from(&message[..]) else { continue };
            self.input.heard_hub();
            match self.owner.hear(&note) {
                Some(Change::Gained { over }) => {
                    self.input.again();
                    if over {
                        self.shown.take_note();
                    }
                    self.resize();
                }
                Some(Change::Lost { to: Some(name) }) => {
                    self.shown
                        .note(&format!("{name} has taken the input; the detach key and t take it back"));
                }
                Some(Change::Lost { to: None }) | None => {}
            }
            match self.owner.ask(self.raw.is_some(), self.options.take()) {
                Some(Ask::Take) => self.input.take(),
                Some(Ask::TakeFree(passed)) => self.input.take_free(passed),
                None => {}
            }
        }
    }

    fn read(&mut self, read: io::Result<Vec<u8>>) -> Option<End> {
        let bytes = match read {
            Ok(bytes) => bytes,
            // The window was closed.
            Err(_) if self.raw.as_ref().is_some_and(|raw| !raw.is_there()) => return Some(End::Detached),
            Err(error) => {
                return Some(End::Failed(Failure::new(
                    crate::failure::OS_ERROR,
                    format!("standard input: {error}"),
                )));
            }
        };
        if bytes.is_empty() && self.raw.as_ref().is_some_and(Raw::is_there) {
            // Ctrl-D at the beginning of a line. A window that is closed is no end of the program's input.
            self.input.end(true, self.shown.follows_terminal());
            return None;
        }
        if bytes.is_empty() {
            self.typed = never();
            self.input.end(self.options.at_eof().send, self.shown.follows_terminal());
            // A terminal that is gone shows nothing more.
            return self.raw.is_some().then_some(End::Detached);
        }
        if self.raw.is_none() {
            self.input.push(bytes);
            return None;
        }
        // What a watcher types is for no program, so it can leave as it leaves any other.
        if self.options.watches() && bytes.contains(&CTRL_C) {
            return Some(End::Detached);
        }
        for typed in self.keys.typed(&bytes, Instant::now()) {
            match typed {
                Typed::Input(bytes) => self.input.push(bytes),
                Typed::Detach => return Some(End::Detached),
                Typed::Take => self.input.take(),
            }
        }
        None
    }

    fn signal(&mut self, signal: i32) -> Option<End> {
        match signal {
            SIGWINCH => self.resize(),
            SIGCONT => {
                if let Some(raw) = &self.raw {
                    raw.again();
                    self.shown.repaint();
                    self.resize();
                }
            }
            SIGINT if self.raw.as_ref().is_some_and(Raw::is_for_lines) => {
                if let Some(why) = self.input.interrupt() {
                    self.shown.note(&why);
                }
            }
            // Without a terminal of its own, Ctrl-C is for this process.
            signal => return Some(End::Signal(signal)),
        }
        None
    }

    /// Says how large this terminal is. The host knows whose size the program's terminal has.
    fn resize(&mut self) {
        let (Some(control), Some(size), true) = (&self.control, mode::size(), self.raw.is_some()) else {
            return;
        };
        let text = format!("resize {} {}", size.columns(), size.rows());
        // One that is lost is made good by the next; an urgent channel has room for it.
        if let Err(TrySendError::Disconnected { .. }) = control.try_send(&text) {
            // One before it was refused: that has ended a run.
            self.control = self.connection.sender_with(CONTROL, Priority::Urgent).ok();
            if let Some(control) = &self.control {
                let _ = control.try_send(&text);
            }
        }
    }
}

/// Reads standard input in a thread, one piece ahead. An empty piece is its end, or Ctrl-D at a terminal.
fn read_input() -> Result<Receiver<io::Result<Vec<u8>>>, Failure> {
    let (sender, receiver) = bounded(1);
    thread::Builder::new().name("trunkline-input".to_owned()).spawn(move || {
        let mut buffer = vec![0; READ];
        loop {
            // A read that has begun in one mode of the terminal and ends in another does not see Ctrl-D.
            let stdin = rustix::stdio::stdin();
            let _ = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None);
            let read = match rustix::io::read(stdin, &mut buffer) {
                Ok(read) => Ok(buffer[..read].to_vec()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
            let last = read.as_ref().map_or(true, |read| read.is_empty() && !mode::is_there());
            if sender.send(read).is_err() || last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn signals() -> Result<Receiver<i32>, Failure> {
    let (sender, receiver) = bounded(16);
    let mut signals = Signals::new([SIGWINCH, SIGCONT, SIGTERM, SIGHUP, SIGINT])?;
    thread::Builder::new().name("trunkline-signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
