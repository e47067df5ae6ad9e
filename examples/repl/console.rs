//! What every console has in its hands, whether a person or a script uses it.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender as Outbox;
use crossbeam_channel::{Receiver as Inbox, never, select, unbounded};
use trunkline::{
    ChannelId, CloseCode, Config, Connection, ConnectionError, Event, EventError, Events, Key, Priority,
    Receiver, RecvError, RecvTimeoutError, SendError, Sender, TryRecvError, TrySendError,
};

use crate::Failure;
use crate::layout::{Activity, CONTROL, Control, INTROSPECTION, STATUS, STDERR, STDIN, STDOUT, State};

/// How long the introspection thread may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long somebody who leaves waits for a link that is lost.
const LINGER: Duration = Duration::from_secs(1);

/// What the thread that follows the kernel tells the one that feeds it.
pub enum Report {
    /// Everything that the kernel wrote before has been shown.
    State(State),
    Over(Ending),
}

/// How the kernel's output ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// The kernel has run everything that it was given, and all output was shown.
    Finished,
    /// The kernel is gone.
    Lost(String),
    /// Nobody takes what the kernel writes.
    NotShown(String),
    /// A line of the script is longer than the kernel takes: so many bytes.
    TooLong(u32),
    /// The person has left while the link was lost.
    Left,
}

/// Why the kernel was not given a line.
pub enum Unsent {
    /// It is longer than the kernel takes: so many bytes.
    TooLong(u32),
    Over(Ending),
}

impl From<Ending> for Unsent {
    fn from(ending: Ending) -> Self {
        Self::Over(ending)
    }
}

pub struct Console {
    pub introspection: Rc<Introspection>,
    connection: Connection,
    stdin: Sender,
    control: Sender,
    reports: Inbox<Report>,
    /// How many lines the kernel was given.
    sent: u64,
    /// What it last reported; nothing while it serves another console.
    state: Option<State>,
}

/// What the kernel says, one piece at a time.
pub enum Said<'a> {
    Text(ChannelId, &'a [u8]),
    State(State),
    /// Nobody says anything for now: the link is lost, or it is back.
    Link(Link),
    Over(&'a Ending),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    Lost,
    Back,
}

impl Console {
    /// Connects to a kernel; what it says goes to `show`, on a thread of its own, in the order in
    /// which the kernel said it. A link that is lost has the time of grace to come back.
    pub fn connect(
        address: &str,
        key: Key,
        grace: Duration,
        show: impl FnMut(Said<'_>) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Failure> {
        let config = Config::new(key).resume_grace(grace).linger(LINGER);
        let connection = Connection::connect(address, config)?;
        let output = connection.receiver(STDOUT | STDERR | STATUS)?;
        let events = connection.events();
        let (reporter, reports) = unbounded();
        thread::spawn(move || follow(&output, events, &reporter, show));
        Ok(Self {
            introspection: Rc::new(Introspection {
                connection: connection.clone(),
                requests: connection.sender_with(INTROSPECTION, Priority::Urgent)?,
                answers: connection.receiver(INTROSPECTION)?,
                unanswered: Cell::new(0),
            }),
            stdin: connection.sender(STDIN)?,
            control: connection.sender_with(CONTROL, Priority::Urgent)?,
            connection,
            reports,
            sent: 0,
            state: None,
        })
    }

    /// Gives the kernel a line, if it takes it now; whether it did.
    pub fn try_send(&mut self, line: &str) -> Result<bool, Unsent> {
        match self.stdin.try_send(format!("{line}\n")) {
            Ok(()) => {
                self.sent += 1;
                Ok(true)
            }
            Err(TrySendError::Full { .. }) => Ok(false),
            Err(TrySendError::TooLarge { limit, .. }) => Err(Unsent::TooLong(limit)),
            Err(_) => Err(Unsent::Over(self.ending())),
        }
    }

    /// Gives the kernel a line, and waits until it takes it.
    pub fn send(&mut self, line: &str) -> Result<(), Unsent> {
        match self.stdin.send(format!("{line}\n")) {
            Ok(()) => {
                self.sent += 1;
                Ok(())
            }
            Err(SendError::TooLarge { limit, .. }) => Err(Unsent::TooLong(limit)),
            Err(_) => Err(Unsent::Over(self.ending())),
        }
    }

    /// Whether the link is lost at the moment. What is sent meanwhile goes when it is back.
    pub fn link_is_lost(&self) -> bool {
        self.connection.is_suspended()
    }

    /// Stops what the kernel runs; with a number, only if that many lines have been read.
    pub fn interrupt(&mut self, line: Option<u64>) -> Result<(), Ending> {
        match self.control.send(Control::Interrupt(line).to_string()) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ending()),
        }
    }

    /// There are no more lines.
    pub fn finish(&mut self) -> Result<(), Ending> {
        self.stdin.finish().map_err(|_| self.ending())
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// What the kernel does, as far as it has been told.
    pub fn state(&self) -> State {
        self.state.unwrap_or(State { activity: Activity::Busy, lines: 0 })
    }

    /// Waits at most so long for the kernel to serve this console; whether it does.
    pub fn greet(&mut self, time: Duration) -> Result<bool, Ending> {
        self.wait(Some(time), |_| true)
    }

    /// To select on; what comes goes to [`note`](Console::note).
    pub fn reports(&self) -> Inbox<Report> {
        self.reports.clone()
    }

    pub fn note(&mut self, report: Report) -> Result<(), Ending> {
        match report {
            Report::State(state) => {
                self.state = Some(state);
                Ok(())
            }
            Report::Over(ending) => Err(ending),
        }
    }

    /// Takes in what has been reported.
    pub fn catch_up(&mut self) -> Result<(), Ending> {
        while let Ok(report) = self.reports.try_recv() {
            self.note(report)?;
        }
        Ok(())
    }

    /// Waits for the kernel to come to a state, as long as it takes or at most so long; whether it
    /// did.
    pub fn wait(&mut self, time: Option<Duration>, wanted: impl Fn(State) -> bool) -> Result<bool, Ending> {
        let deadline = time.map(|time| Instant::now() + time);
        while !self.state.is_some_and(&wanted) {
            let report = match deadline {
                None => self.reports.recv().ok(),
                Some(deadline) => match self.reports.recv_deadline(deadline) {
                    Ok(report) => Some(report),
                    Err(error) if error.is_timeout() => return Ok(false),
                    Err(_) => None,
                },
            };
            match report {
                Some(report) => self.note(report)?,
                None => return Err(Ending::Lost("the thread that follows the kernel has ended".to_owned())),
            }
        }
        Ok(true)
    }

    /// Waits for the end.
    pub fn ending(&mut self) -> Ending {
        loop {
            if let Err(ending) = self.wait(None, |_| false) {
                return ending;
            }
        }
    }
}

impl Drop for Console {
    /// The thread that shows what the kernel says may hold the last handle, and a process that ends does
    /// not wait for it: so this closes the connection, and the kernel is free for the next console.
    fn drop(&mut self) {
        // Whether it is confirmed makes no difference to a console that is leaving.
        drop(self.connection.close(CloseCode::NORMAL, ""));
    }
}

pub fn too_long(limit: u32) -> String {
    format!("line too long: at most {} MiB", limit >> 20)
}

/// Asks the kernel's introspection thread, which answers while the interpreter is busy.
pub struct Introspection {
    connection: Connection,
    requests: Sender,
    answers: Receiver,
    /// Requests that nobody waits for any more; their answers may still come.
    unanswered: Cell<u64>,
}

impl Introspection {
    /// An answer that does not come in time is none; while the link is lost, no time counts.
    pub fn ask(&self, request: &str) -> Result<String, String> {
        self.requests.send(request).map_err(|error| error.to_string())?;
        self.unanswered.set(self.unanswered.get() + 1);
        loop {
            match self.answers.recv_timeout(PATIENCE) {
                Ok(answer) => {
                    self.unanswered.set(self.unanswered.get() - 1);
                    if self.unanswered.get() == 0 {
                        return Ok(String::from_utf8_lossy(&answer).into_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.connection.is_suspended() => {}
                Err(RecvTimeoutError::Timeout) => return Err("the kernel does not answer".to_owned()),
                Err(RecvTimeoutError::Disconnected(end)) => return Err(end.to_string()),
            }
        }
    }

    /// For Tab, which cannot wait: nothing while the link is lost.
    pub fn complete(&self, prefix: &str) -> Result<Vec<String>, String> {
        if self.connection.is_suspended() {
            return Ok(Vec::new());
        }
        Ok(self.ask(&format!("complete {prefix}"))?.lines().map(str::to_owned).collect())
    }
}

/// Shows what the kernel says until it has said everything.
fn follow(
    output: &Receiver,
    events: Events,
    reporter: &Outbox<Report>,
    mut show: impl FnMut(Said<'_>) -> io::Result<()>,
) {
    let (ready, mut happened) = (output.ready(), events.ready());
    // Messages of one channel that are there together are shown together.
    let mut text = Vec::new();
    let mut channel = STDOUT;
    let ending = loop {
        let shown = match output.try_recv() {
            Err(TryRecvError::Empty) => flush(&mut text, channel, &mut show).and_then(|()| {
                select! {
                    recv(ready) -> _ => Ok(()),
                    recv(happened) -> _ => match events.try_recv() {
                        Ok(Event::Suspended { .. }) => show(Said::Link(Link::Lost)),
                        Ok(Event::Resumed { .. }) => show(Said::Link(Link::Back)),
                        Ok(_) | Err(EventError::Empty) => Ok(()),
                        // The connection is over; why, the output tells behind the rest of it.
                        Err(_) => {
                            happened = never();
                            Ok(())
                        }
                    },
                }
            }),
            Ok(message) if message.channel() == channel && text.len() < 64 * 1024 => {
                text.extend_from_slice(&message);
                Ok(())
            }
            Ok(message) => flush(&mut text, channel, &mut show).and_then(|()| {
                if message.channel() != STATUS {
                    channel = message.channel();
                    text.extend_from_slice(&message);
                    return Ok(());
                }
                // A kernel of a later version may have a state that is unknown here.
                let Ok(state) = String::from_utf8_lossy(&message).parse() else { return Ok(()) };
                show(Said::State(state))?;
                // Nobody listens any more when the console ends.
                drop(reporter.send(Report::State(state)));
                Ok(())
            }),
            Err(TryRecvError::Disconnected(end)) => match flush(&mut text, channel, &mut show) {
                Ok(()) => break ending(&end),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = shown {
            break Ending::NotShown(error.to_string());
        }
    };
    drop(show(Said::Over(&ending)));
    drop(reporter.send(Report::Over(ending)));
}

fn flush(
    text: &mut Vec<u8>,
    channel: ChannelId,
    show: &mut impl FnMut(Said<'_>) -> io::Result<()>,
) -> io::Result<()> {
    if !text.is_empty() {
        show(Said::Text(channel, text))?;
        text.clear();
    }
    Ok(())
}

fn ending(end: &RecvError) -> Ending {
    let cause = match end {
        RecvError::ConnectionLost(cause) => cause,
        RecvError::Finished => return Ending::Finished,
        end => return Ending::Lost(format!("the kernel is gone: {end}")),
    };
    Ending::Lost(match cause {
        ConnectionError::ClosedByPeer { reason, .. } if !reason.is_empty() => {
            format!("the kernel has ended this session: {reason}")
        }
        ConnectionError::ClosedByPeer { .. } => "the kernel is gone: it has closed the connection".to_owned(),
        ConnectionError::SessionUnknown => {
            "the link was lost, and the kernel does not know this session any more: it was started again, or \
             another console came meanwhile, or it keeps no session without a link (its --grace)"
                .to_owned()
        }
        ConnectionError::SessionExpired => {
            "the link was lost for longer than the kernel keeps a session (its --grace)".to_owned()
        }
        ConnectionError::PeerUnreachable => {
            "the kernel is gone: the link was lost, and it was not reached again in time (--grace)".to_owned()
        }
        cause => format!("the kernel is gone: {cause}"),
    })
}
