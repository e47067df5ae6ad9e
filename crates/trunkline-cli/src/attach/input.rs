//! What goes to the program, and who owns its input.

use std::collections::VecDeque;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded, never};
use trunkline::{Connection, Disconnect, Sender, TrySendError};
use trunkline_hub::code;
use trunkline_kernel::layout::{ROSTER, STDIN};

/// The end-of-file character of terminals.
const CTRL_D: &[u8] = &[4];
/// How much of a message is sent at once.
const PIECE: usize = 16 * 1024;

/// The way to the program.
pub struct Input<'a> {
    connection: &'a Connection,
    /// `None` after the hub has refused what was sent, until this client asks again.
    sender: Option<Sender>,
    roster: Option<Sender>,
    waiting: VecDeque<Bytes>,
    /// Nothing more is typed; and how the program is told.
    ended: Option<EndOf>,
    refused: bool,
    /// It types nothing, by its own wish.
    watches: bool,
    /// The run that would be ended has begun.
    begun: bool,
    /// A hub stands before the program. For one of a kernel the end of a run is that of this client's turn.
    behind_hub: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum EndOf {
    /// Nothing is told.
    Mine,
    /// The program's pipe is to be closed.
    Program,
    /// It has been told.
    Told,
}

impl<'a> Input<'a> {
    /// The way for a client that types, or for one that only watches.
    pub fn new(connection: &'a Connection, watches: bool) -> Self {
        let sender = |channel| if watches { None } else { connection.sender(channel).ok() };
        Self {
            connection,
            sender: sender(STDIN),
            roster: sender(ROSTER),
            watches,
            waiting: VecDeque::new(),
            ended: None,
            refused: false,
            begun: false,
            behind_hub: false,
        }
    }

    /// A hub has said something.
    pub fn heard_hub(&mut self) {
        self.behind_hub = true;
    }

    pub fn push(&mut self, bytes: Vec<u8>) {
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            self.waiting.push_back(bytes.split_to(bytes.len().min(PIECE)));
        }
    }

    /// Something has found no room.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Fires when there may be room.
    pub fn room(&self) -> Receiver<()> {
        match &self.sender {
            Some(sender) if self.is_waiting() => sender.ready(),
            _ => never(),
        }
    }

    /// Standard input has ended.
    pub fn end(&mut self, tell: bool, terminal: bool) {
        if tell && terminal {
            self.push(CTRL_D.to_vec());
        }
        self.ended = Some(if tell && !terminal { EndOf::Program } else { EndOf::Mine });
    }

    /// Returns what fires when the host has everything; `None` while standard input has not ended, or something waits.
    pub fn delivery(&self) -> Option<io::Result<Receiver<()>>> {
        (self.ended.is_some() && self.waiting.is_empty()).then(|| {
            let connection = self.connection.clone();
            let (sender, receiver) = bounded(1);
            // It can take as long as an outage, and signals are heard meanwhile.
            let flush = move || {
                if connection.flush().is_ok() {
                    let _ = sender.send(());
                }
                // Without the result the end of the connection says why; nothing is fired twice.
                std::mem::forget(sender);
            };
            thread::Builder::new().name("trunkline-delivery".to_owned()).spawn(flush)?;
            Ok(receiver)
        })
    }

    /// Sends what there is room for. Returns what the person is told if it was refused.
    pub fn send(&mut self) -> Option<String> {
        let Some(sender) = &self.sender else {
            // A read-only key, or another client has the input: what is typed goes nowhere, and that is said once.
            let dropped = !self.waiting.is_empty();
            self.waiting.clear();
            return (dropped && !std::mem::replace(&mut self.refused, true)).then(|| {
                let why = if self.watches { "Ctrl-C leaves" } else { "this key cannot type" };
                format!("you are watching: {why}")
            });
        };
        while let Some(bytes) = self.waiting.pop_front() {
            match sender.try_send_bytes(bytes) {
                Ok(()) => self.begun = true,
                Err(TrySendError::Full { message }) => {
                    self.waiting.push_front(message);
                    return None;
                }
                Err(TrySendError::Disconnected { cause: Disconnect::Stopped(why), .. }) => {
                    return self.stopped(why);
                }
                // The end of the connection is told by its output.
                Err(_) => self.waiting.clear(),
            }
        }
        if self.ended == Some(EndOf::Program) {
            // An end needs a beginning, also if nothing was typed. And for a kernel's program that reads, a message
            // of no bytes is the end; a program on pipes gets nothing by it.
            if (!self.begun || self.behind_hub) && sender.try_send([]).is_err() {
                return None;
            }
            self.ended = Some(EndOf::Told);
            let _ = sender.finish();
        }
        None
    }

    /// The end of standard input was passed on, and the program is on a terminal after all: there is no end.
    pub fn goes_on(&mut self) {
        if self.ended.take() == Some(EndOf::Told) {
            self.sender = None;
            self.sender = self.connection.sender(STDIN).ok();
        }
    }

    /// Stops what the program runs. Returns what the person is told if this client may not.
    pub fn interrupt(&self) -> Option<String> {
        let error = self.connection.interrupt().err()?;
        Some(format!("{error}; the detach key and d leave"))
    }

    /// What the person was told is no longer to be seen.
    pub fn tell_again(&mut self) {
        self.refused = false;
    }

    /// The hub or the program has stopped what was sent. Returns what the person is told, once for each run.
    pub fn stopped(&mut self, why: u32) -> Option<String> {
        if !std::mem::take(&mut self.begun)
            && self.sender.as_ref().is_some_and(|sender| sender.stopped().is_none())
        {
            return None;
        }
        self.waiting.clear();
        // The next that is typed begins a new run, which the hub judges anew.
        self.sender = None;
        self.sender = self.connection.sender(STDIN).ok();
        // Without a code the program is over, and its status says that.
        (why != 0).then(|| match why {
            code::NOT_OWNER => "another client has the input; the detach key and t take it".to_owned(),
            code::TAKEN => {
                "what you typed last was not passed on: another client has taken the input".to_owned()
            }
            trunkline_host::INPUT_CLOSED => "the program has closed its input".to_owned(),
            other => format!("the host refuses input (code {other})"),
        })
    }

    /// Asks the hub for the input, even if another client has it.
    pub fn take(&self) {
        self.ask(r#"{"take":true}"#);
    }

    /// Asks the hub for the input if it is free, and no other message than these was passed on.
    pub fn take_free(&self, passed: u64) {
        self.ask(&format!(r#"{{"take":true,"input":{passed}}}"#));
    }

    fn ask(&self, request: &str) {
        if let Some(roster) = &self.roster {
            // A hub takes one at a time from each client; the person can press the key again.
            let _ = roster.try_send(request);
        }
    }

    /// This client has the input: a run that was stopped before is over.
    pub fn again(&mut self) {
        if self.sender.as_ref().is_some_and(|sender| sender.stopped().is_some()) {
            self.sender = None;
            self.sender = self.connection.sender(STDIN).ok();
        }
    }

    /// Leaving is not the end of the program's input: the run is broken off, not finished, once it is delivered.
    pub fn leave(&mut self, deadline: Instant) {
        if let Some(sender) = self.sender.take()
            && self.ended != Some(EndOf::Told)
        {
            let _ = self.connection.flush_timeout(deadline.saturating_duration_since(Instant::now()));
            let _ = sender.reset(0);
        }
    }

    /// Asks the hub to let go of the input. Returns `true` if there will be an answer.
    pub fn release(&self) -> bool {
        self.roster.as_ref().is_some_and(|roster| roster.try_send(r#"{"release":true}"#).is_ok())
    }
}

impl Drop for Input<'_> {
    fn drop(&mut self) {
        self.leave(Instant::now() + LEAVING);
    }
}

/// How long what was typed may take to the host at the end.
const LEAVING: Duration = Duration::from_secs(2);
