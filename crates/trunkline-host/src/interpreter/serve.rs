//! The host of an interpreter at work.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering::Acquire;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use trunkline::{
    ChannelId, ChannelSet, Connection, ConnectionError, Event, Events, Listener, Priority, Receiver,
    RecvError,
};
use trunkline_kernel::layout::{
    CONTROL, Control, DISPLAY, INTROSPECTION, STATUS, STDERR, STDIN, STDOUT, Status, Target,
};

use super::link::{Over, Passage};
use super::memory::Kills;
use super::words::LastWords;
use super::{Interpreter, TURNS, Turn};
use crate::ending::{Ending, Signal};
use crate::host::{ServeError, Served, Stopper};
use crate::marks::{Merge, Merged};
use crate::outlet::Outlet;
use crate::program::{Happened, MAX_OUTPUT, Program, Stream};

/// How long the process may go on that has closed its connection to the host: it is ending.
const LEAVING: Duration = Duration::from_secs(30);
/// How long the last frames of a process that has ended may take through the system.
const LAST_FRAMES: Duration = Duration::from_millis(500);
/// So many bytes of frames belong together at most.
const MOST_TOGETHER: usize = 32 << 20;
/// So many groups of frames wait for their marks at most, before no more are taken.
const MOST_GROUPS: usize = 64;
/// So many frames are taken before something else has a turn.
const TURN: usize = 256;

/// A message of the kernel, which keeps its place among the output.
type Frame = (ChannelId, Bytes);

/// The two sides, once the interpreter has come.
struct Link {
    connection: Connection,
    output: Receiver,
    stdin: Passage,
    control: Passage,
    questions: Passage,
    answers: Passage,
    events: Events,
}

struct Serving<'a> {
    upstream: &'a Connection,
    program: Program,
    stop: Stopper,
    listener: Option<Listener>,
    link: Option<Link>,
    merge: Merge<Vec<Frame>>,
    /// The frames of the turn that has begun, and their bytes.
    turn: Option<(Vec<Frame>, usize)>,
    /// Groups that wait for their marks: as many as were given to the merge and did not come back.
    groups: usize,
    last_number: u64,
    outlet: Outlet,
    /// The pipes were not read when it was looked at last.
    held_up: bool,
    events: Events,
    /// When an interpreter without a connection is asked to end.
    end_at: Option<Instant>,
    lost: Option<ConnectionError>,
    bell: Waker,
    /// What the host itself has to say, among the frames.
    notes: VecDeque<String>,
}

pub(super) fn serve(interpreter: Interpreter, upstream: &Connection) -> Result<Served, ServeError> {
    let Interpreter { program, stop, listener, token, kills, words } = interpreter;
    let bell = program.bell().waker();
    let mut serving = Serving {
        outlet: Outlet::new(upstream, &[STDOUT, STDERR, STATUS, DISPLAY], bell.clone())?,
        events: upstream.events(),
        upstream,
        program,
        stop,
        listener: Some(listener),
        link: None,
        merge: Merge::new(token),
        turn: None,
        groups: 0,
        last_number: 0,
        held_up: false,
        end_at: None,
        lost: None,
        bell,
        notes: VecDeque::new(),
    };
    let ending = serving.run()?;
    serving.finish(ending, &kills, &words)
}

impl Serving<'_> {
    fn run(&mut self) -> Result<Ending, ServeError> {
        self.look();
        loop {
            // What waits for room has nothing to wait for in the pipes.
            let due = self.merge.due().filter(|_| !self.outlet.is_pending());
            let until = [due, self.end_at].into_iter().flatten().min();
            match self.program.next(until)? {
                Happened::Output(stream, bytes) => {
                    let all = bytes.len() < MAX_OUTPUT;
                    self.merge.read(stream, &bytes, all, Instant::now());
                }
                Happened::Bell => self.look(),
                Happened::Ended(ending) => return Ok(ending),
                Happened::Timeout if self.end_at.is_some_and(|at| at <= Instant::now()) => {
                    self.end_at = None;
                    self.program.end();
                }
                Happened::Timeout | Happened::Room | Happened::Deaf => {}
            }
            self.take_frames();
            self.put_together();
            self.hold_up();
        }
    }

    /// Something of a connection has changed.
    fn look(&mut self) {
        if self.stop.asked.load(Acquire) {
            self.program.end();
        }
        self.accept();
        self.take_events();
        self.pass();
        self.outlet.send();
    }

    // -- The two connections -----------------------------------------------------------------------------------

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        match listener.poll_accept(&mut Context::from_waker(&self.bell)) {
            Poll::Pending => return,
            Poll::Ready(Ok(connection)) => match self.link(connection) {
                Ok(link) => self.link = Some(link),
                Err(error) => self.notes.push_back(format!("the host cannot serve the interpreter: {error}")),
            },
            Poll::Ready(Err(error)) => {
                self.notes.push_back(format!("the interpreter cannot connect: {error}"))
            }
        }
        // There is one.
        self.listener = None;
        if self.link.is_none() {
            self.program.end();
        }
    }

    fn link(&self, connection: Connection) -> Result<Link, trunkline::ChannelError> {
        let up = self.upstream;
        let conversations: ChannelSet =
            std::iter::once(INTROSPECTION).chain((64..=126).map(ChannelId::new)).collect();
        let (asked, answered) = (conversations & up.may_receive(), conversations & up.may_send());
        Ok(Link {
            output: connection.receiver(STDOUT | STDERR | STATUS | DISPLAY | TURNS)?,
            stdin: Passage::new(up, &connection, STDIN, Priority::Normal)?,
            control: Passage::new(up, &connection, CONTROL, Priority::Urgent)?,
            questions: Passage::new(up, &connection, asked, Priority::Urgent)?,
            answers: Passage::new(&connection, up, answered, Priority::Urgent)?,
            events: connection.events(),
            connection,
        })
    }

    fn take_events(&mut self) {
        let mut context = Context::from_waker(&self.bell);
        while let Poll::Ready(Ok(event)) = self.events.poll_recv(&mut context) {
            match event {
                Event::Interrupt => {
                    if let Some(link) = &mut self.link {
                        link.interrupt();
                    }
                }
                Event::Closed(cause) => return self.lose(cause),
                _ => {}
            }
        }
        let Some(link) = &mut self.link else { return };
        while let Poll::Ready(Ok(event)) = link.events.poll_recv(&mut context) {
            match event {
                // The two count alike, since each message is passed on.
                Event::Waiting { channel: STDIN, waiting, taken } => {
                    link.stdin.from().set_waiting(waiting, taken);
                }
                Event::Stopped { channel: STDIN, code } => link.stdin.from().stop_channel(STDIN, code),
                Event::Closed(_) => {
                    self.end_at.get_or_insert(Instant::now() + LEAVING);
                }
                _ => {}
            }
        }
    }

    /// Passes on what goes as it is.
    fn pass(&mut self) {
        let Some(link) = &mut self.link else { return };
        let (program, notes) = (&self.program, &mut self.notes);
        let bell = &self.bell;
        let passed = [
            link.control.pass(bell, |_, message| !is_for_host(program, notes, message)),
            link.stdin.pass(bell, |_, _| true),
            link.questions.pass(bell, |_, _| true),
            link.answers.pass(bell, |_, _| true),
        ];
        // The first three take from upstream.
        for (at, result) in passed.into_iter().enumerate() {
            let cause = match (at < 3, result) {
                (true, Err(Over::From(cause))) | (false, Err(Over::To(cause))) => cause,
                // Of the interpreter's connection its process tells.
                _ => continue,
            };
            return self.lose(cause);
        }
    }

    /// The other side is gone for good, and the interpreter has nothing to run for.
    fn lose(&mut self, cause: ConnectionError) {
        self.outlet.lose(cause.clone());
        self.lost.get_or_insert(cause);
        self.program.end();
    }

    // -- Output ------------------------------------------------------------------------------------------------

    /// Takes what the kernel has sent, as long as there is room for it.
    fn take_frames(&mut self) -> bool {
        while let Some(note) = self.notes.pop_front() {
            self.place((STDERR, format!("{note}\n").into()));
        }
        for _ in 0..TURN {
            let Some(link) = &self.link else { return false };
            if self.outlet.is_pending() || self.groups >= MOST_GROUPS {
                return true;
            }
            match link.output.poll_recv(&mut Context::from_waker(&self.bell)) {
                Poll::Pending => return true,
                Poll::Ready(Ok(message)) if message.channel() == TURNS => {
                    match Turn::from_message(&message) {
                        // Two threads may have begun one: then it ends with the first.
                        Some(Turn::Begin) => drop(self.turn.get_or_insert_default()),
                        Some(Turn::End(number)) => self.end_turn(number),
                        None => {}
                    }
                }
                Poll::Ready(Ok(message)) => {
                    let frame = (message.channel(), message.into_bytes());
                    // The end is what the host sees of it.
                    if frame.0 != STATUS
                        || !Status::try_from(&frame.1[..]).is_ok_and(|status| status.is_end())
                    {
                        self.place(frame);
                    }
                }
                Poll::Ready(Err(RecvError::ConnectionLost(_))) => return false,
                Poll::Ready(Err(_)) => {}
            }
        }
        self.bell.wake_by_ref();
        true
    }

    /// A frame takes its place: in the turn that has begun, or behind the last that waits, or here.
    fn place(&mut self, frame: Frame) {
        match &mut self.turn {
            Some((frames, bytes)) => {
                *bytes += frame.1.len();
                frames.push(frame);
                if *bytes > MOST_TOGETHER {
                    self.end_turn(self.last_number);
                }
            }
            None if self.groups > 0 => self.wait_for_mark(self.last_number, vec![frame]),
            None => self.outlet.say(frame.0, frame.1),
        }
    }

    fn end_turn(&mut self, number: u64) {
        self.last_number = number;
        let (frames, _) = self.turn.take().unwrap_or_default();
        self.wait_for_mark(number, frames);
    }

    fn wait_for_mark(&mut self, number: u64, frames: Vec<Frame>) {
        self.groups += 1;
        self.merge.frame(number, frames, Instant::now());
    }

    /// Says what is in order.
    fn put_together(&mut self) {
        if std::mem::replace(&mut self.held_up, self.outlet.is_pending()) && !self.held_up {
            self.merge.resume(Instant::now());
        }
        while !self.outlet.is_pending()
            && let Some(merged) = self.merge.next(Instant::now())
        {
            self.say(merged);
        }
    }

    fn say(&mut self, merged: Merged<Vec<Frame>>) {
        match merged {
            Merged::Output(stream, bytes) => self.outlet.say(channel_of(stream), bytes),
            Merged::Frame(frames) => {
                self.groups -= 1;
                for (channel, bytes) in frames {
                    self.outlet.say(channel, bytes);
                }
            }
        }
    }

    fn hold_up(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let hold = self.outlet.is_pending() || !self.merge.has_room(stream);
            self.program.hold_up(stream, hold);
        }
        if let Some(cause) = self.outlet.lost().filter(|_| self.lost.is_none()).cloned() {
            self.lose(cause);
        }
    }

    // -- The end -----------------------------------------------------------------------------------------------

    fn finish(mut self, ending: Ending, kills: &Kills, words: &LastWords) -> Result<Served, ServeError> {
        let until = Instant::now() + LAST_FRAMES;
        // What the process has sent lies in the socket.
        while self.take_frames() && Instant::now() < until {
            self.put_together();
            if self.outlet.is_pending() {
                self.outlet.send_rest();
            } else {
                // The process is over, so that there is nothing else to wait for here.
                self.wait_for_frame(until);
            }
        }
        self.end_turn(self.last_number);
        self.merge.end(Stream::Stdout);
        self.merge.end(Stream::Stderr);
        while let Some(merged) = self.merge.next(Instant::now()) {
            self.say(merged);
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(text) = words.take(stream) {
                self.outlet.say(channel_of(stream), text);
            }
        }
        if ending == Ending::Killed(Signal::KILL)
            && let Some(file) = kills.since()
        {
            let file = file.display();
            let why =
                format!("the system has killed a process for want of memory, it seems this one ({file})\n");
            self.outlet.say(STDERR, why.into());
        }
        self.outlet.say(STATUS, Status::from(ending).to_string().into());
        self.outlet.send_rest();
        if let Some(cause) = self.lost.or_else(|| self.outlet.lost().cloned()) {
            return Err(ServeError::Lost { cause, ending });
        }
        // Until the caller lets go of it, nothing tells the other side that its input is refused.
        let (input, control) = match self.link {
            Some(link) => (link.stdin.into_receiver(), link.control.into_receiver()),
            None => (self.upstream.receiver(STDIN)?, self.upstream.receiver(CONTROL)?),
        };
        Ok(Served::new(ending, input, control))
    }

    fn wait_for_frame(&self, until: Instant) {
        if let Some(link) = &self.link {
            // A token, or the end of the time: the next look sees.
            let _ = link.output.ready().recv_deadline(until);
        }
    }
}

impl Link {
    /// Stops what runs.
    fn interrupt(&mut self) {
        let command = Control::Interrupt(Target::Running).to_string();
        if let Ok(control) = self.connection.sender_with(CONTROL, Priority::Urgent) {
            // A kernel takes commands at once, or does not live.
            let _ = control.try_send(command.as_bytes());
        }
    }
}

/// Obeys a command that is for the host. Returns `false` if it is for the kernel.
fn is_for_host(program: &Program, notes: &mut VecDeque<String>, message: &[u8]) -> bool {
    let Ok(Control::Signal(name)) = Control::try_from(message) else { return false };
    let sent = Signal::try_from(&name).map_err(io::Error::other).and_then(|signal| program.signal(signal));
    if let Err(error) = sent {
        notes.push_back(format!("signal {name}: {error}"));
    }
    true
}

fn channel_of(stream: Stream) -> ChannelId {
    match stream {
        Stream::Stdout => STDOUT,
        Stream::Stderr => STDERR,
    }
}
