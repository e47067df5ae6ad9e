//! A program on a kernel's channels.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use trunkline::{ChannelError, ChannelId, Connection, ConnectionError, Event, Events, Receiver, RecvError};
use trunkline_kernel::layout::{CONTROL, Control, STATUS, STDERR, STDIN, STDOUT, Status, Target};

use crate::ending::{Ending, Signal};
use crate::outlet::Outlet;
use crate::program::{Bell, Happened, Program, Stream};
use crate::recording::Recording;
use crate::size::Size;

/// The code with which standard input is stopped that the program has closed.
pub const INPUT_CLOSED: u32 = 1;

/// Serves a program to the other side of a connection as a kernel, on the channels of
/// [`trunkline_kernel::layout`]: a hub, or one console.
///
/// | channel | |
/// |---|---|
/// | stdin | is typed, or written to the pipe; the end of a run ends the input; stopped with [`INPUT_CLOSED`] when the program has closed its end |
/// | stdout, stderr | what [`Happened::Output`] says; a terminal has stdout only |
/// | control | `resize`, `signal`, `exit`, and `interrupt`, with a number as if each message ran until the next is taken |
/// | status | `busy 0`, and at last `exited CODE` or `killed SIGNAL`, behind all output |
///
/// Output of which the other side has no room for more holds the program up, and nothing else: signals, input and resizing go
/// on.
///
/// ```
/// use std::process::Command;
/// use trunkline::{Config, Connection, Key};
/// use trunkline_host::{Ending, Host, Setup};
/// use trunkline_kernel::layout::{STATUS, STDOUT};
///
/// let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let mut command = Command::new("echo");
/// command.arg("hello");
/// let program = Setup::pipes(command).start()?;
/// let host = std::thread::spawn(move || Host::new(program).serve(&here));
///
/// let output = there.receiver(STDOUT | STATUS)?;
/// let texts: Vec<_> = output.iter().map(|message| String::from_utf8_lossy(&message).into_owned()).collect();
/// assert_eq!(texts, ["busy 0", "hello\n", "exited 0"]);
/// assert_eq!(host.join().unwrap()?.ending(), Ending::Exited(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Host {
    program: Program,
    stop: Stopper,
    recording: Option<(Recording<File>, Instant)>,
}

/// Asks a program that is served to end, as [`Program::end`] does, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    pub(crate) asked: Arc<AtomicBool>,
    bell: Bell,
}

impl Stopper {
    pub(crate) fn new(program: &Program) -> Self {
        Self { asked: Arc::default(), bell: program.bell() }
    }

    /// Asks the program to end. Asking again changes nothing.
    pub fn stop(&self) {
        self.asked.store(true, Release);
        self.bell.ring();
    }
}

/// A program was served to its end.
///
/// Until it is dropped, the channels of the input are open, and read by none. A hub that hears that the input is refused, before
/// it has passed all output on, lets go of the owner, for whom it may have to wait. So the caller closes the connection first.
#[derive(Debug)]
pub struct Served {
    ending: Ending,
    _input: Option<Receiver>,
    _control: Option<Receiver>,
}

impl Served {
    pub(crate) fn new(ending: Ending, input: Receiver, control: Receiver) -> Self {
        Self { ending, _input: Some(input), _control: Some(control) }
    }

    /// Returns how the program ended.
    #[must_use]
    pub fn ending(&self) -> Ending {
        self.ending
    }
}

/// A program was not served to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The connection lacks a right, or another part of this process has the channel. The program was killed.
    #[error("the program cannot be served on this connection: {0}")]
    Channel(#[from] ChannelError),
    /// The system cannot wait for the program, which was killed.
    #[error("cannot wait for the program: {0}")]
    Wait(#[from] io::Error),
    /// The connection was over before the program. It was asked to end.
    #[error("the connection was over before the program, which was asked to end ({ending}): {cause}")]
    Lost {
        /// What became of the connection.
        cause: ConnectionError,
        /// What became of the program.
        ending: Ending,
    },
}

impl Host {
    /// Makes a host for a program.
    #[must_use]
    pub fn new(program: Program) -> Self {
        let stop = Stopper::new(&program);
        Self { program, stop, recording: None }
    }

    /// Returns what ends the program from another thread, while it is served.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stop.clone()
    }

    /// Records what the program shows from now on. If the file cannot be written, the recording ends and the
    /// other side is told; the program goes on.
    #[must_use]
    pub fn record(mut self, recording: Recording<File>) -> Self {
        self.recording = Some((recording, Instant::now()));
        self
    }

    /// Serves until the program has ended and everything was sent; this thread is the host's meanwhile. The
    /// connection stays open, for the caller to [close](Connection::close), and then to drop what this returns.
    ///
    /// # Errors
    ///
    /// If the connection is over first, or was not one that can carry the channels.
    pub fn serve(self, connection: &Connection) -> Result<Served, ServeError> {
        let bell = self.program.bell().waker();
        let outlet = Outlet::new(connection, &[STDOUT, STDERR, STATUS], bell.clone())?;
        let mut serving = Serving {
            program: self.program,
            stop: self.stop,
            recording: self.recording,
            stdin: Some(connection.receiver(STDIN)?),
            control: Some(connection.receiver(CONTROL)?),
            events: connection.events(),
            outlet,
            untyped: None,
            deaf: false,
            taken: 0,
            awaited: None,
            lost: None,
            bell,
        };
        serving.say(STATUS, Status::Busy(0).to_string().into());
        serving.run()
    }
}

struct Serving {
    program: Program,
    stop: Stopper,
    recording: Option<(Recording<File>, Instant)>,
    stdin: Option<Receiver>,
    control: Option<Receiver>,
    events: Events,
    outlet: Outlet,
    /// A message that the program has no room for.
    untyped: Option<Bytes>,
    /// The program has closed its input.
    deaf: bool,
    /// How many messages the program was given.
    taken: u64,
    /// The message that is to be interrupted when it is taken.
    awaited: Option<u64>,
    lost: Option<ConnectionError>,
    bell: Waker,
}

impl Serving {
    fn run(mut self) -> Result<Served, ServeError> {
        self.look();
        let ending = loop {
            match self.program.next(None)? {
                Happened::Output(stream, bytes) => self.output(stream, bytes),
                Happened::Bell => self.look(),
                Happened::Room => self.take_input(),
                Happened::Deaf => {
                    self.deaf = true;
                    if let Some(stdin) = &self.stdin {
                        stdin.stop(INPUT_CLOSED);
                    }
                    self.take_input();
                }
                Happened::Ended(ending) => break ending,
                Happened::Timeout => {}
            }
        };
        self.say(STATUS, Status::from(ending).to_string().into());
        self.outlet.send_rest();
        match self.lost.or_else(|| self.outlet.lost().cloned()) {
            Some(cause) => Err(ServeError::Lost { cause, ending }),
            None => Ok(Served { ending, _input: self.stdin, _control: self.control }),
        }
    }

    /// Something of the connection has changed.
    fn look(&mut self) {
        if self.stop.asked.load(Acquire) {
            self.program.end();
        }
        self.take_events();
        self.take_control();
        self.take_input();
        self.send();
    }

    fn take_events(&mut self) {
        let bell = self.bell.clone();
        loop {
            match self.events.poll_recv(&mut Context::from_waker(&bell)) {
                Poll::Ready(Ok(Event::Interrupt)) => self.program.interrupt(),
                Poll::Ready(Ok(Event::Closed(cause))) => self.lose(cause),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
        }
    }

    fn take_control(&mut self) {
        let bell = self.bell.clone();
        while let Some(control) = &self.control {
            match control.poll_recv(&mut Context::from_waker(&bell)) {
                Poll::Ready(Ok(message)) => match Control::try_from(&message[..]) {
                    Ok(command) => self.obey(&command),
                    Err(error) => self.complain(&error.to_string()),
                },
                Poll::Ready(Err(RecvError::ConnectionLost(cause))) => {
                    self.control = None;
                    self.lose(cause);
                }
                Poll::Ready(Err(_)) => {}
                Poll::Pending => return,
            }
        }
    }

    fn obey(&mut self, command: &Control) {
        match command {
            Control::Interrupt(Target::Running) => self.program.interrupt(),
            Control::Interrupt(Target::Message(number) | Target::Own(number)) => {
                // Before it is taken it is remembered; after the next it is over.
                if *number == self.taken {
                    self.program.interrupt();
                } else if *number > self.taken {
                    self.awaited = Some(*number);
                }
            }
            Control::Resize { columns, rows } => self.program.resize(Size::new(columns.get(), rows.get())),
            Control::Signal(name) => {
                let sent = Signal::try_from(name)
                    .map_err(io::Error::other)
                    .and_then(|signal| self.program.signal(signal));
                if let Err(error) = sent {
                    self.complain(&format!("signal {name}: {error}"));
                }
            }
            Control::Exit => self.program.end(),
            other => self.complain(&format!("{other}: not for a program under a host")),
        }
    }

    /// Says something to the other side on the program's standard error, where it is shown among the output.
    fn complain(&mut self, text: &str) {
        self.say(STDERR, format!("{text}\r\n").into());
    }

    fn take_input(&mut self) {
        let bell = self.bell.clone();
        loop {
            if let Some(message) = self.untyped.take()
                && let Err(message) = self.program.input(message)
            {
                self.untyped = Some(message);
                return;
            }
            let Some(stdin) = &self.stdin else { return };
            match stdin.poll_recv(&mut Context::from_waker(&bell)) {
                // Another client comes, and is told what the others were told.
                Poll::Ready(Ok(_)) if self.deaf => stdin.stop(INPUT_CLOSED),
                Poll::Ready(Ok(message)) => {
                    self.taken += 1;
                    self.untyped = Some(message.into_bytes());
                    if self.awaited.take_if(|awaited| *awaited == self.taken).is_some() {
                        // It is stopped before it begins. A signal would hit what runs still.
                        self.untyped = None;
                    }
                }
                Poll::Ready(Err(RecvError::Finished)) => self.program.finish_input(),
                Poll::Ready(Err(RecvError::ConnectionLost(cause))) => {
                    self.stdin = None;
                    self.lose(cause);
                }
                // What was left out, or broken off, was not typed; what follows is.
                Poll::Ready(Err(_)) => {}
                Poll::Pending => return,
            }
        }
    }

    fn output(&mut self, stream: Stream, bytes: Bytes) {
        if let Some((recording, start)) = &mut self.recording
            && let Err(error) = recording.output(start.elapsed(), stream, &bytes)
        {
            self.recording = None;
            self.complain(&format!("the recording ends here, its file cannot be written: {error}"));
        }
        self.say(if stream == Stream::Stdout { STDOUT } else { STDERR }, bytes);
    }

    fn say(&mut self, channel: ChannelId, bytes: Bytes) {
        self.outlet.say(channel, bytes);
        self.send();
    }

    /// Sends what there is room for. While something waits, the program's output is not read.
    fn send(&mut self) {
        self.outlet.send();
        if let Some(cause) = self.outlet.lost().filter(|_| self.lost.is_none()).cloned() {
            self.lose(cause);
        }
        let hold = self.outlet.is_pending();
        self.program.hold_up(Stream::Stdout, hold);
        self.program.hold_up(Stream::Stderr, hold);
    }

    /// The connection is over: the program is asked to end, and what it still says is for no other.
    fn lose(&mut self, cause: ConnectionError) {
        self.outlet.lose(cause.clone());
        self.lost.get_or_insert(cause);
        self.untyped = None;
        self.program.end();
    }
}
