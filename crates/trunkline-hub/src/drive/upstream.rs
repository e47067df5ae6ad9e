//! The handles of upstream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use trunkline::{
    ChannelError, ChannelId, ChannelSet, CloseCode, Connection, ConnectionError, Disconnect, Event,
    EventError, Events, Received, Receiver, RecvError, Sender, TrySendError,
};

use super::link::sender;
use super::queue::{Queue, Token, Upstream as Part};
use super::{Driver, TURN_BYTES, TURN_MESSAGES};
use crate::route::{End, Plan};

/// Something that goes upstream.
pub(super) enum Out {
    Message(Bytes),
    End(End),
    Gap(u64, u64),
}

/// A channel that this side sends on.
struct Way {
    channel: ChannelId,
    /// `None` if the connection is over.
    sender: Option<Sender>,
    /// What has no room yet. Clients' messages are taken only when this is empty.
    out: VecDeque<Out>,
    bell: Waker,
}

pub(super) struct Upstream {
    connection: Connection,
    events: Events,
    log: Option<Receiver>,
    answers: Option<Receiver>,
    roster: Option<Receiver>,
    ways: Vec<Way>,
    urgent: ChannelSet,
    queue: Arc<Queue>,
    bells: Bells,
    /// The log may have something.
    readable: bool,
    /// What the hub itself said when it ended.
    closed: bool,
}

struct Bells {
    log: Waker,
    answers: Waker,
    roster: Waker,
    events: Waker,
}

/// What has become of something that was sent upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Went {
    Up,
    /// It waits for room, ahead of all that comes.
    Waits,
    /// Upstream wants no more of the run, or takes no message of that size.
    Refused(u32),
}

impl Upstream {
    pub(super) fn new(
        connection: Connection,
        plan: &Plan,
        slots: &[ChannelId],
        urgent: ChannelSet,
        queue: &Arc<Queue>,
    ) -> Result<Self, ChannelError> {
        let receiver = |channels: ChannelSet| {
            let channels = channels & connection.may_receive();
            if channels.is_empty() { Ok(None) } else { connection.receiver(channels).map(Some) }
        };
        let bell = |part| queue.bell(Token::Upstream(part));
        Ok(Self {
            events: connection.events(),
            log: receiver(slots.iter().copied().collect())?,
            answers: receiver(plan.pool)?,
            roster: receiver(plan.roster.into_iter().collect())?,
            ways: Vec::new(),
            urgent,
            queue: Arc::clone(queue),
            bells: Bells {
                log: bell(Part::Log),
                answers: bell(Part::Answers),
                roster: bell(Part::Roster),
                events: bell(Part::Events),
            },
            readable: true,
            closed: false,
            connection,
        })
    }

    /// What is to be looked at first.
    pub(super) fn tokens() -> impl Iterator<Item = Part> {
        [Part::Log, Part::Answers, Part::Roster, Part::Events].into_iter()
    }

    pub(super) fn log_is_readable(&self) -> bool {
        self.readable && self.log.is_some()
    }

    pub(super) fn cause(&self) -> Option<ConnectionError> {
        self.connection.close_reason()
    }

    pub(super) fn close(&mut self, code: CloseCode, reason: &str) {
        if !std::mem::replace(&mut self.closed, true) {
            self.connection.clone().detach_with(code, reason);
        }
    }

    pub(super) fn interrupt(&self) {
        // If it is over, its events tell.
        let _ = self.connection.interrupt();
    }

    /// The way of a channel; `None` if this side may not send there, or the connection is over.
    fn way(&mut self, channel: ChannelId) -> Option<&mut Way> {
        let at = match self.ways.iter().position(|way| way.channel == channel) {
            Some(at) => at,
            None => {
                let sender = Some(sender(&self.connection, channel, self.urgent)?);
                let bell = self.queue.bell(Token::Upstream(Part::Room(channel.get())));
                self.ways.push(Way { channel, sender, out: VecDeque::new(), bell });
                self.ways.len() - 1
            }
        };
        self.ways.get_mut(at)
    }

    /// Returns `true` if a message of any size would go up now; else a bell rings when that may be so.
    pub(super) fn has_room(&mut self, channel: ChannelId) -> bool {
        self.way(channel).is_none_or(Way::has_room)
    }

    pub(super) fn send(&mut self, channel: ChannelId, out: Out) -> Went {
        let connection = self.connection.clone();
        let urgent = self.urgent;
        let Some(way) = self.way(channel) else { return Went::Refused(crate::code::NOT_SENT_HERE) };
        way.out.push_back(out);
        way.flush(&connection, urgent)
    }

    /// Sends what waits for room on a channel.
    pub(super) fn flush(&mut self, channel: ChannelId) -> Went {
        let connection = self.connection.clone();
        let urgent = self.urgent;
        self.way(channel).map_or(Went::Up, |way| way.flush(&connection, urgent))
    }

    /// Returns the code with which upstream has stopped a channel, if it has and nothing has noticed.
    fn stopped(&mut self, channel: ChannelId) -> Option<u32> {
        let connection = self.connection.clone();
        let urgent = self.urgent;
        let way = self.ways.iter_mut().find(|way| way.channel == channel)?;
        let code = way.sender.as_ref()?.stopped()?;
        way.renew(&connection, urgent);
        Some(code)
    }
}

impl Way {
    fn has_room(&mut self) -> bool {
        let mut context = Context::from_waker(&self.bell);
        let ready = |sender: &Sender| sender.poll_ready(&mut context).is_ready();
        self.sender.as_ref().is_none_or(ready) && self.out.is_empty()
    }

    /// Begins with a sender of its own, so that each run is told of, also one without a message.
    fn begin(&mut self, connection: &Connection, urgent: ChannelSet) {
        self.sender = None;
        self.sender = sender(connection, self.channel, urgent);
    }

    fn renew(&mut self, connection: &Connection, urgent: ChannelSet) {
        self.out.clear();
        self.begin(connection, urgent);
    }

    fn flush(&mut self, connection: &Connection, urgent: ChannelSet) -> Went {
        while let Some(out) = self.out.pop_front() {
            let Some(sender) = &self.sender else {
                self.out.clear();
                return Went::Refused(crate::code::NOT_SENT_HERE);
            };
            let ends = matches!(out, Out::End(_));
            let result = match out {
                Out::Message(bytes) => match sender.try_send_bytes(bytes) {
                    Ok(()) => Ok(()),
                    Err(TrySendError::Full { message }) => {
                        self.out.push_front(Out::Message(message));
                        let mut context = Context::from_waker(&self.bell);
                        if sender.poll_ready(&mut context).is_ready() {
                            continue;
                        }
                        return Went::Waits;
                    }
                    Err(TrySendError::TooLarge { .. }) => return Went::Refused(crate::code::NOT_SENT_HERE),
                    Err(TrySendError::Disconnected { cause, .. }) => Err(cause),
                },
                Out::End(End::Finish) => sender.finish(),
                Out::End(End::Reset(code)) => sender.reset(code),
                Out::Gap(messages, bytes) => sender.gap(messages, bytes),
            };
            match result {
                Ok(()) if ends => self.begin(connection, urgent),
                Ok(()) => {}
                Err(Disconnect::Stopped(code)) => {
                    self.renew(connection, urgent);
                    return Went::Refused(code);
                }
                Err(_) => {
                    self.out.clear();
                    return Went::Refused(crate::code::NOT_SENT_HERE);
                }
            }
        }
        Went::Up
    }
}

impl Driver {
    pub(super) fn serve_upstream(&mut self, part: Part) {
        match part {
            Part::Log => self.upstream.readable = true,
            Part::Answers => self.read_answers(),
            Part::Roster => self.read_roster(),
            Part::Events => self.read_events(),
            Part::Room(channel) => self.has_room_upstream(ChannelId::new(channel)),
        }
    }

    /// A turn of the log.
    pub(super) fn read_log(&mut self) {
        if !self.upstream_can_be_read() {
            return;
        }
        let mut bytes = 0;
        for _ in 0..TURN_MESSAGES {
            if bytes >= TURN_BYTES {
                return;
            }
            let Some(log) = &self.upstream.log else { return };
            match log.poll_recv_any(&mut Context::from_waker(&self.upstream.bells.log)) {
                Poll::Pending => {
                    self.upstream.readable = false;
                    return;
                }
                Poll::Ready(Ok(Received::Message(message))) => {
                    bytes += message.len();
                    self.router.handle_message(message.channel(), message.into_bytes());
                }
                Poll::Ready(Ok(Received::Gap { channel, messages, bytes })) => {
                    self.router.handle_gap(channel, messages, bytes);
                }
                Poll::Ready(Ok(received)) => {
                    if let Some((channel, end)) = ended(&received) {
                        self.router.handle_end(channel, end);
                    }
                }
                Poll::Ready(Err(RecvError::ConnectionLost(cause))) => {
                    self.upstream.readable = false;
                    self.upstream.log = None;
                    return self.upstream_is_over(&cause);
                }
                // All runs have ended, which was told for each.
                Poll::Ready(Err(_)) => {}
            }
        }
    }

    /// Everything that upstream had sent to the log was read.
    fn upstream_is_over(&mut self, cause: &ConnectionError) {
        // What was said besides the log comes first, as far as it is there.
        self.read_answers();
        match cause {
            ConnectionError::ClosedByPeer { code, reason } => self.over(*code, reason),
            // The hub has ended it itself, and said why.
            ConnectionError::Closed { .. } => {}
            other => self.over(CloseCode::SHUTTING_DOWN, &format!("the program is lost: {other}")),
        }
    }

    fn read_answers(&mut self) {
        for _ in 0..TURN_MESSAGES {
            let Some(answers) = &self.upstream.answers else { return };
            match answers.poll_recv_any(&mut Context::from_waker(&self.upstream.bells.answers)) {
                Poll::Pending => return,
                Poll::Ready(Ok(Received::Message(message))) => {
                    self.router.handle_answer(message.channel(), message.into_bytes());
                }
                Poll::Ready(Ok(Received::Gap { channel, messages, bytes })) => {
                    self.router.handle_answer_gap(channel, messages, bytes);
                }
                Poll::Ready(Ok(received)) => {
                    if let Some((channel, end)) = ended(&received) {
                        self.router.handle_answer_end(channel, end);
                    }
                }
                Poll::Ready(Err(RecvError::ConnectionLost(_))) => {
                    self.upstream.answers = None;
                    return;
                }
                Poll::Ready(Err(_)) => {}
            }
            self.act();
        }
        self.back.push_back(Token::Upstream(Part::Answers));
    }

    fn read_roster(&mut self) {
        for _ in 0..TURN_MESSAGES {
            let Some(roster) = &self.upstream.roster else { return };
            match roster.poll_recv_any(&mut Context::from_waker(&self.upstream.bells.roster)) {
                Poll::Pending => return,
                Poll::Ready(Ok(Received::Message(message))) => {
                    // What the hub there has stopped before it said this is known first.
                    self.read_events();
                    self.router.handle_upstream_roster(&message);
                }
                Poll::Ready(Err(RecvError::ConnectionLost(_))) => {
                    self.upstream.roster = None;
                    return;
                }
                Poll::Ready(_) => {}
            }
            self.act();
        }
        self.back.push_back(Token::Upstream(Part::Roster));
    }

    fn read_events(&mut self) {
        loop {
            let events = &self.upstream.events;
            match events.poll_recv(&mut Context::from_waker(&self.upstream.bells.events)) {
                Poll::Pending | Poll::Ready(Err(EventError::Over)) => return,
                Poll::Ready(Ok(Event::Suspended { .. })) => self.router.handle_suspended(),
                Poll::Ready(Ok(Event::Resumed { .. })) => self.router.handle_resumed(),
                Poll::Ready(Ok(Event::Waiting { channel, waiting, taken })) => {
                    if self.router.plan().input == Some(channel) {
                        self.router.handle_waiting(waiting, taken);
                    }
                }
                Poll::Ready(Ok(Event::Stopped { channel, .. })) => {
                    if let Some(code) = self.upstream.stopped(channel) {
                        self.upstream_stopped(channel, code);
                    }
                }
                Poll::Ready(Ok(Event::Closed(cause))) => {
                    if self.upstream.log.is_none() {
                        self.upstream_is_over(&cause);
                    }
                    self.upstream.readable = true;
                }
                Poll::Ready(_) => {}
            }
            self.act();
        }
    }

    /// Upstream wants no more of a run.
    pub(super) fn upstream_stopped(&mut self, channel: ChannelId, code: u32) {
        let plan = self.router.plan();
        if plan.input == Some(channel) {
            self.router.handle_input_stopped(code);
        } else if plan.pool.contains(channel) {
            self.router.handle_private_stopped(channel, code);
        } else {
            self.router.handle_shared_stopped(channel, code);
        }
    }
}

fn ended(received: &Received) -> Option<(ChannelId, End)> {
    match received {
        Received::Finished(channel) => Some((*channel, End::Finish)),
        Received::Reset { channel, code } => Some((*channel, End::Reset(*code))),
        _ => None,
    }
}
