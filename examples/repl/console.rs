//! What every console has in its hands, whether a person or a script uses it.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender as Outbox;
use crossbeam_channel::{Receiver as Inbox, unbounded};
use trunkline::{
    ChannelId, Config, Connection, ConnectionError, Key, Priority, Receiver, RecvError, SendError, Sender,
    TryRecvError,
};

use crate::Failure;
use crate::layout::{Activity, CONTROL, Control, INTROSPECTION, STATUS, STDERR, STDIN, STDOUT, State};

/// How long the introspection thread may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// A line is longer than the kernel takes: so many bytes.
    TooLong(u32),
}

pub struct Console {
    pub introspection: Rc<Introspection>,
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
    Over(&'a Ending),
}

impl Console {
    /// Connects to a kernel; what it says goes to `show`, on a thread of its own, in the order in
    /// which the kernel said it.
    pub fn connect(
        address: SocketAddr,
        key: Key,
        show: impl FnMut(Said<'_>) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, Failure> {
        // The kernel keeps no session either.
        let config = Config::new(key).resume_grace(Duration::ZERO);
        let connection =
            Connection::connect(address, config).map_err(|error| format!("{address}: {error}"))?;
        let output = connection.receiver(STDOUT | STDERR | STATUS)?;
        let (reporter, reports) = unbounded();
        thread::spawn(move || follow(&output, &reporter, show));
        Ok(Self {
            introspection: Rc::new(Introspection {
                requests: connection.sender_with(INTROSPECTION, Priority::Urgent)?,
                answers: connection.receiver(INTROSPECTION)?,
            }),
            stdin: connection.sender(STDIN)?,
            control: connection.sender_with(CONTROL, Priority::Urgent)?,
            reports,
            sent: 0,
            state: None,
        })
    }

    /// Gives the kernel a line.
    pub fn send(&mut self, line: &str) -> Result<(), Ending> {
        match self.stdin.send(format!("{line}\n")) {
            Ok(()) => {
                self.sent += 1;
                Ok(())
            }
            Err(SendError::TooLarge { limit, .. }) => Err(Ending::TooLong(limit)),
            Err(_) => Err(self.ending()),
        }
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

/// Asks the kernel's introspection thread, which answers while the interpreter is busy.
pub struct Introspection {
    requests: Sender,
    answers: Receiver,
}

impl Introspection {
    pub fn ask(&self, request: &str) -> Result<String, String> {
        self.requests.send(request).map_err(|error| error.to_string())?;
        let answer = self.answers.recv_timeout(PATIENCE).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    pub fn complete(&self, prefix: &str) -> Result<Vec<String>, String> {
        Ok(self.ask(&format!("complete {prefix}"))?.lines().map(str::to_owned).collect())
    }
}

/// Shows what the kernel says until it has said everything.
fn follow(output: &Receiver, reporter: &Outbox<Report>, mut show: impl FnMut(Said<'_>) -> io::Result<()>) {
    // Messages of one channel that are there together are shown together.
    let mut text = Vec::new();
    let mut channel = STDOUT;
    let ending = loop {
        let next = match output.try_recv() {
            Err(TryRecvError::Empty) => {
                if let Err(error) = flush(&mut text, channel, &mut show) {
                    break Ending::NotShown(error.to_string());
                }
                output.recv()
            }
            Err(TryRecvError::Disconnected(end)) => Err(end),
            Ok(message) => Ok(message),
        };
        let shown = match next {
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
            Err(end) => match flush(&mut text, channel, &mut show) {
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
    match end {
        RecvError::Finished => Ending::Finished,
        RecvError::ConnectionLost(ConnectionError::ClosedByPeer { .. }) => {
            Ending::Lost("it has closed the connection".to_owned())
        }
        end => Ending::Lost(end.to_string()),
    }
}
