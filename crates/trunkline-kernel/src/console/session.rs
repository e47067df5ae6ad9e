//! A connection to a kernel, with a console that is told everything that passes.

mod ends;

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver as Token, Select, never};
use trunkline::{
    ChannelError, ChannelId, CloseCode, Connection, ConnectionError, Event, Events, Message, Priority,
    Received, Receiver, RecvError, SendTimeoutError, Sender, TryRecvError,
};

use self::ends::Ends;
use super::state::Console;
use super::unsent::{Unsent, no_channel};
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
    ends: Ends,
    /// Everything is over.
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
    /// There may be room for a line again, after [`Session::try_send`] returned [`Unsent::Full`]. For `try_next` it is
    /// only after [`Session::finish`]. It belongs to a run: take it anew after an end of the input.
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
            ends: Ends::default(),
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
        let message = message.into();
        let ends = message.last().map(|last| *last == b'\n');
        self.stdin()?.try_send_bytes(message)?;
        self.ends.sent(ends);
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
        anew(&self.connection, &mut self.control, |sender| urgent(sender, message.as_bytes()))?;
        if *control == Control::Exit {
            self.ends.asked_to_exit();
        }
        Ok(())
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
            .or_else(|| self.try_end(look))
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
        let Ready { output, answers, roster, events, stdin } = self.ready();
        let stdin = if self.ends.wait_for_room() { stdin } else { never() };
        let tokens = [&output, &answers, &roster, &events, &stdin];
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
                self.hear_roster(&roster);
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

    fn understand(&mut self, message: Message) -> Said {
        let understood = match message.channel() {
            STATUS => match Status::try_from(&*message) {
                Ok(status) => match self.console.handle_status(status.clone(), Instant::now()) {
                    Ok(()) => {
                        self.ends.hear_status(&status);
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

/// How long a command waits for room.
const PATIENCE: Duration = Duration::from_millis(100);
