//! A connection to a kernel, with a console that is told everything that passes.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver as Token, Select, never};
use trunkline::{
    ChannelError, ChannelId, CloseCode, Connection, ConnectionError, Disconnect, Event, Events, Message,
    Priority, Received, Receiver, RecvError, SendTimeoutError, Sender, TryRecvError, TrySendError,
};

use super::state::{Activity, Console};
use crate::layout::{
    Answer, CONTROL, Control, DISPLAY, INTROSPECTION, Operation, Picture, ROSTER, Request, Roster, STATUS,
    STDERR, STDIN, STDOUT, Status,
};

/// What a kernel has said, or what has become of its connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Said {
    /// Output: its channel is [`STDOUT`] or [`STDERR`].
    Output(Message),
    /// Output was left out at this place: the statement that wrote it was stopped, or the console was slower
    /// than a hub.
    Cut {
        /// [`STDOUT`], [`STDERR`] or [`DISPLAY`].
        channel: ChannelId,
        /// How many messages.
        messages: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// A picture.
    Picture(Picture),
    /// What the kernel does now. The [`Console`] knows it already. All output from before was returned.
    Status(Status),
    /// The answer to a request.
    Answer(Answer),
    /// A note of a hub. The [`Console`] knows it already.
    Roster(Roster),
    /// A message of the kernel that makes no sense, in words. It changes nothing.
    Nonsense(String),
    /// A reader of the kernel waits for a line, or no longer does. The [`Console`] knows it already.
    Waiting(bool),
    /// The kernel reads no more of the standard input: it ends.
    Deaf,
    /// The link is lost. What is sent meanwhile goes when it is back.
    LinkLost(ConnectionError),
    /// The link is back, after so long.
    LinkBack(Duration),
    /// The kernel has ended its output: it has run everything that it was given, and nothing follows.
    Finished,
    /// The connection is over. All output from before was returned, and nothing follows.
    Over(ConnectionError),
}

/// Why something was not sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unsent {
    /// The kernel has not taken enough of what was sent before. Try again when [`Ready::stdin`] fires.
    #[error("the kernel has not taken enough of the lines before")]
    Full,
    /// The message is larger than the kernel takes.
    #[error("the message is larger than the {limit} bytes that the kernel takes")]
    TooLarge {
        /// The most that it takes, in bytes.
        limit: u32,
    },
    /// The kernel does not answer requests now: it serves another console, or the link is lost.
    #[error("the kernel cannot answer now: it serves another console, or the link is lost")]
    NotNow,
    /// The kernel reads no more on this channel.
    #[error("the kernel reads no more")]
    Stopped,
    /// The connection is over.
    #[error(transparent)]
    Over(#[from] ConnectionError),
}

/// A connection to a kernel, with a [`Console`] that is told everything that passes. It has no thread: the
/// caller asks it for what came, and waits by its [`ready`](Session::ready) channels or with
/// [`next_timeout`](Session::next_timeout).
///
/// When it is dropped, the connection is closed.
#[derive(Debug)]
pub struct Session {
    console: Console,
    connection: Connection,
    /// `None` between two runs, if the connection is over.
    stdin: Option<Sender>,
    control: Sender,
    requests: Sender,
    output: Receiver,
    answers: Receiver,
    roster: Option<Receiver>,
    events: Events,
    /// There are no more lines.
    finishing: bool,
    /// This was said again since the last status.
    insisted: bool,
    /// And everything is over.
    finished: bool,
    over: bool,
    requested: u64,
}

/// The crossbeam channels of a [`Session`] to `select!` on. After any of them fires, call
/// [`Session::try_next`] until it returns `None`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ready {
    /// There may be output, a status or a picture.
    pub output: Token<()>,
    /// There may be an answer to a request.
    pub answers: Token<()>,
    /// There may be a note of a hub.
    pub roster: Token<()>,
    /// Something may have become of the link.
    pub events: Token<()>,
    /// There may be room for a line again, after [`Session::try_send`] returned [`Unsent::Full`]. It is not
    /// for `try_next`.
    pub stdin: Token<()>,
}

impl Session {
    /// Begins to talk to a kernel.
    ///
    /// # Errors
    ///
    /// If the connection's access lacks one of the channels 0 to 6, or another handle has it, or the
    /// connection is over.
    pub fn new(connection: Connection) -> Result<Self, ChannelError> {
        Ok(Self {
            console: Console::new(Instant::now()),
            stdin: Some(connection.sender(STDIN)?),
            control: connection.sender_with(CONTROL, Priority::Urgent)?,
            requests: connection.sender_with(INTROSPECTION, Priority::Urgent)?,
            output: connection.receiver(STDOUT | STDERR | STATUS | DISPLAY)?,
            answers: connection.receiver(INTROSPECTION)?,
            roster: connection
                .may_receive()
                .contains(ROSTER)
                .then(|| connection.receiver(ROSTER))
                .transpose()?,
            events: connection.events(),
            connection,
            finishing: false,
            insisted: false,
            finished: false,
            over: false,
            requested: 0,
        })
    }

    /// Returns what is known of the kernel.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Returns the connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends a message on the standard input if there is room now: a line with its newline, or several lines
    /// that belong together. Returns its number.
    ///
    /// # Errors
    ///
    /// [`Unsent::Full`] if there is no room now; [`Unsent::TooLarge`], [`Unsent::Stopped`] or
    /// [`Unsent::Over`] if there will not be. Nothing was sent then.
    pub fn try_send(&mut self, message: impl Into<Bytes>) -> Result<u64, Unsent> {
        self.stdin()?.try_send_bytes(message.into())?;
        Ok(self.console.handle_sent(Instant::now()))
    }

    /// Takes the input from another client of a hub, after the hub has refused a message ([`Said::Deaf`]) or before the
    /// next is sent. What has become of it, the next [`Said::Roster`] says; without a hub it changes nothing.
    ///
    /// # Errors
    ///
    /// [`Unsent::Stopped`] or [`Unsent::Over`].
    pub fn take_input(&mut self) -> Result<(), Unsent> {
        if self.stdin()?.stopped().is_some() {
            self.begin_input()?;
        }
        if self.connection.may_send().contains(ROSTER) && self.roster.is_some() {
            let roster = self.connection.sender(ROSTER).map_err(no_channel)?;
            // The hub passes on what follows, and not what was sent before.
            let request = format!(r#"{{"take":true,"own":{}}}"#, self.console.sent());
            urgent(&roster, request.as_bytes())?;
        }
        Ok(())
    }

    /// Tells the kernel that there are no more lines in this session. Once everything that it was given is
    /// over, [`Said::Finished`] comes.
    ///
    /// # Errors
    ///
    /// [`Unsent::Stopped`] or [`Unsent::Over`].
    pub fn finish(&mut self) -> Result<(), Unsent> {
        if !std::mem::replace(&mut self.finishing, true) {
            self.end_input()?;
        }
        Ok(())
    }

    /// Tells a program that waits for input that there is none: what Ctrl-D does on a terminal. More lines may
    /// follow.
    ///
    /// It ends a run of [`STDIN`]. If no program waits, the kernel takes it as the end of the session. For a hub
    /// the end of a run is that of this console's turn, so behind one it is an empty message, which is nothing where no
    /// program waits.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Session::try_send); [`Unsent::Full`] only behind a hub.
    pub fn end_of_input(&mut self) -> Result<(), Unsent> {
        if self.console.is_behind_hub() { self.try_send(Bytes::new()).map(drop) } else { self.end_input() }
    }

    /// Ends the run of the input, also one without a line: with a sender of its own.
    fn end_input(&mut self) -> Result<(), Unsent> {
        self.stdin()?.finish()?;
        self.begin_input()
    }

    fn begin_input(&mut self) -> Result<(), Unsent> {
        self.stdin = None;
        self.stdin().map(drop)
    }

    fn stdin(&mut self) -> Result<&Sender, Unsent> {
        let stdin = match self.stdin.take() {
            Some(stdin) => stdin,
            None => self.connection.sender(STDIN).map_err(no_channel)?,
        };
        Ok(self.stdin.insert(stdin))
    }

    /// Stops what the person sees running, as [`Console::interrupt`] says. Returns `false` if there is
    /// nothing to stop.
    ///
    /// # Errors
    ///
    /// As [`command`](Session::command).
    pub fn interrupt(&mut self) -> Result<bool, Unsent> {
        match self.console.interrupt() {
            Some(control) => self.command(&control).map(|()| true),
            None => Ok(false),
        }
    }

    /// Sends a command. It waits for room 100 ms at most: a kernel that obeys takes commands at once.
    ///
    /// # Errors
    ///
    /// [`Unsent::Full`] if the kernel takes no commands; [`Unsent::Stopped`] or [`Unsent::Over`].
    pub fn command(&mut self, control: &Control) -> Result<(), Unsent> {
        let message = control.to_string();
        anew(&self.connection, &mut self.control, |sender| urgent(sender, message.as_bytes()))
    }

    /// Asks the kernel something. Returns the number that the answer will have.
    ///
    /// # Errors
    ///
    /// Each at once, so that a key of a person never waits. [`Unsent::NotNow`] while the kernel serves another
    /// console or the link is lost; [`Unsent::Full`] if it has not taken enough of the requests before;
    /// [`Unsent::TooLarge`] if the request is larger than
    /// [`MAX_REQUEST`](crate::layout::MAX_REQUEST); otherwise as [`command`](Session::command).
    pub fn request(&mut self, operation: Operation) -> Result<u64, Unsent> {
        if !self.console.may_ask() {
            return Err(Unsent::NotNow);
        }
        let request = Request { id: self.requested + 1, operation };
        let message = request.to_message();
        if message.len() > crate::layout::MAX_REQUEST {
            #[expect(clippy::cast_possible_truncation, reason = "it is 1 MiB")]
            return Err(Unsent::TooLarge { limit: crate::layout::MAX_REQUEST as u32 });
        }
        anew(&self.connection, &mut self.requests, |sender| Ok(sender.try_send(&message)?))?;
        self.requested = request.id;
        Ok(request.id)
    }

    /// Returns what the kernel has said next, if it is there. Never waits.
    pub fn try_next(&mut self) -> Option<Said> {
        self.look(&mut Look::Once)
    }

    /// Returns what the kernel has said next, or has the waker woken when something may have come: for a caller
    /// that waits for other things too, by `poll(2)` or in an executor. `Ready(None)` once everything is over.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Said>> {
        match self.look(&mut Look::AndWake(cx)) {
            Some(said) => Poll::Ready(Some(said)),
            None if self.over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Returns `Ready` if [`try_send`](Session::try_send) may find room, or has the waker woken when it may.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stdin.as_ref().map_or(Poll::Ready(()), |stdin| stdin.poll_ready(cx))
    }

    fn look(&mut self, look: &mut Look<'_, '_>) -> Option<Said> {
        if self.over {
            return None;
        }
        // What the link does is told at once; answers are urgent; the rest is in order.
        self.try_event(look)
            .or_else(|| self.try_answer(look))
            .or_else(|| self.try_roster(look))
            .or_else(|| self.try_output(look))
            .or_else(|| self.try_end())
    }

    /// Returns what the kernel has said next, and waits for it no longer than `timeout`. `None` if nothing
    /// came, or everything is over.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Said> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(said) = self.try_next() {
                return Some(said);
            }
            if self.over || !self.wait(deadline) {
                return None;
            }
        }
    }

    /// Waits until something may have come; `false` if the time is over.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let Ready { output, answers, roster, events, .. } = self.ready();
        let tokens = [&output, &answers, &roster, &events];
        let mut select = Select::new();
        for token in tokens {
            select.recv(token);
        }
        let fired = match deadline {
            Some(deadline) => select.select_deadline(deadline),
            None => Ok(select.select()),
        };
        match fired {
            Ok(fired) => {
                let token = tokens[fired.index()];
                // A token, or the end of the connection: which, the next look sees.
                let _ = fired.recv(token);
                true
            }
            Err(_) => false,
        }
    }

    /// Returns the crossbeam channels to `select!` on.
    #[must_use]
    pub fn ready(&self) -> Ready {
        Ready {
            output: self.output.ready(),
            answers: self.answers.ready(),
            roster: self.roster.as_ref().map_or_else(never, Receiver::ready),
            events: self.events.ready(),
            stdin: self.stdin.as_ref().map_or_else(never, Sender::ready),
        }
    }

    /// Closes the connection and waits until the kernel has everything, at most
    /// [`Config::linger`](trunkline::Config::linger). Returns `false` if it may lack something.
    pub fn close(self) -> bool {
        self.connection.close(CloseCode::NORMAL, "").is_ok()
    }

    fn try_event(&mut self, look: &mut Look<'_, '_>) -> Option<Said> {
        loop {
            let event =
                match look.at(|cx| self.events.poll_recv(cx), || self.events.try_recv().ok().map(Ok))? {
                    Ok(event) => event,
                    // Why the connection is over, the output tells behind the rest of it.
                    Err(_) => return None,
                };
            let now = Instant::now();
            return Some(match event {
                Event::Suspended { cause } => {
                    self.console.handle_link_lost(now);
                    Said::LinkLost(cause)
                }
                Event::Resumed { after, .. } => {
                    self.console.handle_link_back();
                    Said::LinkBack(after)
                }
                Event::Waiting { channel: STDIN, waiting, taken } => {
                    self.console.handle_waiting(waiting, taken, now);
                    Said::Waiting(waiting)
                }
                Event::Stopped { channel: STDIN, .. } => Said::Deaf,
                _ => continue,
            });
        }
    }

    fn try_answer(&mut self, look: &mut Look<'_, '_>) -> Option<Said> {
        let message = received(&self.answers, look)?;
        Some(Answer::try_from(&*message).map_or_else(|why| Said::Nonsense(why.to_string()), Said::Answer))
    }

    fn try_roster(&mut self, look: &mut Look<'_, '_>) -> Option<Said> {
        let message = received(self.roster.as_ref()?, look)?;
        Some(match Roster::try_from(&*message) {
            Ok(roster) => {
                self.console.handle_roster(&roster, Instant::now());
                Said::Roster(roster)
            }
            Err(why) => Said::Nonsense(why.to_string()),
        })
    }

    fn try_output(&mut self, look: &mut Look<'_, '_>) -> Option<Said> {
        loop {
            let output = &self.output;
            let received = look.at(
                |cx| output.poll_recv_any(cx),
                || match output.try_recv_any() {
                    Ok(received) => Some(Ok(received)),
                    Err(TryRecvError::Disconnected(end)) => Some(Err(end)),
                    Err(_) => None,
                },
            )?;
            return Some(match received {
                Ok(Received::Message(message)) => self.understand(message),
                Ok(Received::Gap { channel, messages, bytes }) => Said::Cut { channel, messages, bytes },
                Ok(Received::Reset { channel, code: Sender::PANICKED }) => {
                    Said::Nonsense(format!("the kernel panicked while it sent on channel {channel}"))
                }
                Err(RecvError::Finished) if !self.finished => {
                    self.finished = true;
                    Said::Finished
                }
                Err(RecvError::ConnectionLost(cause)) => {
                    self.over = true;
                    self.console.handle_over(Instant::now());
                    Said::Over(cause)
                }
                // The end of one channel of several.
                Ok(_) | Err(_) => continue,
            });
        }
    }

    /// A program may have read the end of the input: then the kernel does not see it, and waits for more, or the
    /// program reads on. As a file does, the input ends for each read that follows. The kernel's own end of the
    /// output comes behind all that it prints.
    ///
    /// A hub keeps its kernel. What that prints behind the last line has no end, and is not waited for; and
    /// another's program is not told that this console's input has ended.
    fn try_end(&mut self) -> Option<Said> {
        if self.over || self.finished || !self.finishing {
            return None;
        }
        let hub = self.console.is_behind_hub();
        let ran = self.console.is_over(self.console.sent());
        if hub && ran && self.console.activity() == Activity::Idle {
            self.finished = true;
            return Some(Said::Finished);
        }
        let reads = self.console.activity() == Activity::Waiting;
        let wants = if hub { reads && !ran } else { self.console.is_settled() };
        // If there is no room, the kernel has not read what was sent. If it reads no more, it has seen an end.
        if wants && !self.insisted {
            self.insisted = self.end_of_input() != Err(Unsent::Full);
        }
        None
    }

    fn understand(&mut self, message: Message) -> Said {
        let understood = match message.channel() {
            STATUS => match Status::try_from(&*message) {
                Ok(status) => match self.console.handle_status(status.clone(), Instant::now()) {
                    Ok(()) => {
                        self.insisted = false;
                        Ok(Said::Status(status))
                    }
                    Err(nonsense) => Err(nonsense.to_string()),
                },
                Err(why) => Err(why.to_string()),
            },
            DISPLAY => {
                Picture::from_message(message.into_bytes()).map(Said::Picture).map_err(|why| why.to_string())
            }
            _ => Ok(Said::Output(message)),
        };
        understood.unwrap_or_else(Said::Nonsense)
    }
}

/// How to look for what came.
enum Look<'a, 'b> {
    /// It is there or it is not.
    Once,
    /// If it is not there, a waker is woken when it may be.
    AndWake(&'a mut Context<'b>),
}

impl Look<'_, '_> {
    fn at<T>(
        &mut self,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
        once: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        match self {
            Self::Once => once(),
            Self::AndWake(cx) => match poll(cx) {
                Poll::Ready(it) => Some(it),
                Poll::Pending => None,
            },
        }
    }
}

/// The next message. The end of a run is of no interest, since another run may follow.
fn received(from: &Receiver, look: &mut Look<'_, '_>) -> Option<Message> {
    loop {
        let once = || match from.try_recv() {
            Ok(message) => Some(Ok(message)),
            Err(TryRecvError::Disconnected(end)) => Some(Err(end)),
            Err(_) => None,
        };
        match look.at(|cx| from.poll_recv(cx), once)? {
            Ok(message) => return Some(message),
            Err(RecvError::ConnectionLost(_)) => return None,
            Err(_) => {}
        }
    }
}

fn no_channel(error: ChannelError) -> Unsent {
    match error {
        ChannelError::ConnectionLost(cause) => Unsent::Over(cause),
        _ => Unsent::Stopped,
    }
}

/// Sends on an urgent channel. What was refused before has ended a run, for instance because a hub had no private
/// channel to lend, and the next run is judged anew.
fn anew(
    connection: &Connection,
    sender: &mut Sender,
    send: impl Fn(&Sender) -> Result<(), Unsent>,
) -> Result<(), Unsent> {
    match send(sender) {
        Err(Unsent::Stopped) => {
            *sender = connection.sender_with(sender.channel(), Priority::Urgent).map_err(no_channel)?;
            send(sender)
        }
        sent => sent,
    }
}

/// Sends on an urgent channel.
fn urgent(sender: &Sender, message: &[u8]) -> Result<(), Unsent> {
    sender.send_timeout(message, PATIENCE).map_err(|error| match error {
        SendTimeoutError::Timeout { .. } | SendTimeoutError::Interrupted { .. } => Unsent::Full,
        SendTimeoutError::TooLarge { limit, .. } => Unsent::TooLarge { limit },
        SendTimeoutError::Disconnected { cause, .. } => cause.into(),
    })
}

impl<T> From<TrySendError<T>> for Unsent {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full { .. } => Self::Full,
            TrySendError::TooLarge { limit, .. } => Self::TooLarge { limit },
            TrySendError::Disconnected { cause, .. } => cause.into(),
        }
    }
}

impl From<Disconnect> for Unsent {
    fn from(cause: Disconnect) -> Self {
        match cause {
            Disconnect::ConnectionLost(cause) => Self::Over(cause),
            Disconnect::Stopped(_) | _ => Self::Stopped,
        }
    }
}

/// How long a command waits for room.
const PATIENCE: Duration = Duration::from_millis(100);
