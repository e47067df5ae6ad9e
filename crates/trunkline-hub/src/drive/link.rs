//! The handles of one client.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use trunkline::{
    ChannelId, ChannelSet, Connection, Disconnect, Events, Priority, Received, Receiver, RecvError, Sender,
    TrySendError,
};

use super::TURN_MESSAGES;
use super::queue::{Part, Queue, Token};
use crate::route::{End, Gives, LONGEST_REQUEST, Plan, Up, Way};
use std::sync::Arc;

/// A message up to this size is copied into the send queue; sending it by reference would cost more.
const COPY: usize = 4096;

/// A client's connection and what is done with it.
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) connection: Connection,
    pub(super) events: Events,
    /// One for each slot of the log, where the client may receive it.
    log: Vec<Option<Sender>>,
    private: Option<Sender>,
    roster: Option<Sender>,
    pub(super) input: Option<Receiver>,
    pub(super) requests: Option<Receiver>,
    /// The request that comes next, if it was looked at.
    pub(super) asked: Option<Bytes>,
    pub(super) talk: Option<Receiver>,
    /// Shared channels, each by itself, because each waits for room upstream by itself.
    pub(super) shared: Vec<(ChannelId, Receiver)>,
    /// Channels on which clients do not send.
    pub(super) refused: Option<Receiver>,
    /// Where it waits for room.
    pub(super) waits: Vec<Way>,
    /// On one of those it waits only until the I/O thread comes to it: that is no fault of the client's.
    pub(super) hurries: bool,
    /// Its connection has ended in order, and its input is still taken.
    pub(super) draining: bool,
    pub(super) bells: Bells,
}

pub(super) struct Bells {
    pub(super) events: Waker,
    pub(super) room: Waker,
    pub(super) input: Waker,
    pub(super) roster: Waker,
    pub(super) private: Waker,
    pub(super) others: Waker,
}

/// The links, by the places that the router has given to the clients.
#[derive(Default)]
pub(super) struct Links {
    list: Vec<Option<Link>>,
    len: usize,
    hurried: usize,
}

impl Links {
    pub(super) fn insert(&mut self, key: usize, link: Link) {
        if self.list.len() <= key {
            self.list.resize_with(key + 1, || None);
        }
        self.len += usize::from(self.list[key].replace(link).is_none());
    }

    pub(super) fn get(&self, key: usize) -> Option<&Link> {
        self.list.get(key)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Link> {
        self.list.get_mut(key)?.as_mut()
    }

    pub(super) fn remove(&mut self, key: usize) -> Option<Link> {
        let link = self.list.get_mut(key)?.take()?;
        self.len -= 1;
        self.hurried -= usize::from(link.hurries);
        Some(link)
    }

    /// Looks again whether a client waits only for the I/O thread.
    pub(super) fn look_hurried(&mut self, key: usize) {
        if let Some(link) = self.list.get_mut(key).and_then(Option::as_mut) {
            let before = std::mem::replace(&mut link.hurries, false);
            link.hurries = !link.draining && link.looks_hurried();
            self.hurried = self.hurried + usize::from(link.hurries) - usize::from(before);
        }
    }

    /// Returns `true` if some client waits only for the I/O thread.
    pub(super) fn hurries(&self) -> bool {
        self.hurried > 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// What has become of something that was to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    Done,
    NoRoom,
    /// The client wants no more of the run.
    Stopped,
    /// The connection is over; its events tell.
    Over,
}

impl Bells {
    fn new(queue: &Arc<Queue>, key: usize, id: u64) -> Self {
        let bell = |part| queue.bell(Token::Client(key, id, part));
        Self {
            events: bell(Part::Events),
            room: bell(Part::Room),
            input: bell(Part::Input),
            roster: bell(Part::Roster),
            private: bell(Part::Private),
            others: bell(Part::Others),
        }
    }
}

impl Link {
    pub(super) fn new(
        connection: Connection,
        key: usize,
        id: u64,
        queue: &Arc<Queue>,
        plan: &Plan,
        slots: &[ChannelId],
        urgent: ChannelSet,
    ) -> Self {
        let sends = connection.may_receive();
        let sender = |channel: ChannelId| sender(&connection, channel, urgent);
        // Nothing else has claimed a channel of a connection that was just accepted.
        let receiver = |channels: ChannelSet| connection.receiver(channels & sends).ok();
        let all = (0..ChannelId::COUNT).filter_map(|number| ChannelId::try_from(number).ok());
        let mut refused = ChannelSet::EMPTY;
        let mut shared = Vec::new();
        for channel in all {
            match plan.up(channel) {
                Up::Refused => drop(refused.insert(channel)),
                Up::Shared(_) => shared.extend(receiver(channel.into()).map(|receiver| (channel, receiver))),
                Up::Input | Up::Private | Up::Roster | Up::Aside => {}
            }
        }
        Self {
            id,
            events: connection.events(),
            log: slots.iter().map(|channel| sender(*channel)).collect(),
            private: plan.private.and_then(sender),
            roster: plan.roster.and_then(sender),
            input: plan.input.and_then(|channel| receiver(channel.into())),
            requests: plan.roster.and_then(|channel| receiver(channel.into())),
            asked: None,
            talk: plan.private.and_then(|channel| receiver(channel.into())),
            shared,
            refused: receiver(refused),
            waits: Vec::new(),
            hurries: false,
            draining: false,
            bells: Bells::new(queue, key, id),
            connection,
        }
    }

    fn handle(&mut self, way: Way) -> &mut Option<Sender> {
        match way {
            Way::Log(slot) => &mut self.log[slot],
            Way::Private => &mut self.private,
            Way::Roster => &mut self.roster,
        }
    }

    /// The way of a channel that the client has stopped.
    pub(super) fn way(&self, channel: ChannelId) -> Option<Way> {
        let of = |sender: &Option<Sender>| sender.as_ref().is_some_and(|sender| sender.channel() == channel);
        if of(&self.private) {
            return Some(Way::Private);
        }
        if of(&self.roster) {
            return Some(Way::Roster);
        }
        self.log.iter().position(of).map(Way::Log)
    }

    /// Sends something, if there is room.
    pub(super) fn send(&mut self, way: Way, gives: Gives<'_>, urgent: ChannelSet) -> Sent {
        let mut context = Context::from_waker(&self.bells.room);
        let sender = match way {
            Way::Log(slot) => &self.log[slot],
            Way::Private => &self.private,
            Way::Roster => &self.roster,
        };
        // The router gives nothing that the client may not receive, so its connection is over.
        let Some(sender) = sender else { return Sent::Over };
        match gives {
            Gives::Message(bytes) if bytes.len() <= COPY => after(sender.try_send(bytes)),
            Gives::Message(bytes) => after(sender.try_send_bytes(Bytes::clone(bytes))),
            Gives::Owned(bytes) => after(sender.try_send_bytes(bytes)),
            // What it tells of stands before the next message, so that goes with it.
            Gives::Gap { messages, bytes } => {
                if sender.poll_ready(&mut context).is_pending() {
                    return Sent::NoRoom;
                }
                noted(sender.gap(messages, bytes))
            }
            Gives::End(end) => {
                let sent = noted(match end {
                    End::Finish => sender.finish(),
                    End::Reset(code) => sender.reset(code),
                });
                if matches!(sent, Sent::Done) {
                    // Each run is told of, also one without a message: with a sender of its own.
                    let channel = sender.channel();
                    *self.handle(way) = None;
                    *self.handle(way) = self::sender(&self.connection, channel, urgent);
                }
                sent
            }
        }
    }

    /// The slots of the log on which the rest of a message waits for room.
    pub(super) fn staged(&self) -> impl Iterator<Item = usize> {
        let staged = |sender: &Option<Sender>| sender.as_ref().is_some_and(|sender| sender.staged() > 0);
        self.log.iter().enumerate().filter(move |(_, sender)| staged(sender)).map(|(slot, _)| slot)
    }

    /// Returns `true` if there is room; else the bell of room rings when there is.
    pub(super) fn has_room(&mut self, way: Way) -> bool {
        let bell = self.bells.room.clone();
        let mut context = Context::from_waker(&bell);
        self.handle(way).as_ref().is_none_or(|sender| sender.poll_ready(&mut context).is_ready())
    }

    /// Returns `true` if on one of its ways it does not wait for the client.
    pub(super) fn looks_hurried(&mut self) -> bool {
        let waits = std::mem::take(&mut self.waits);
        let hurries =
            waits.iter().any(|way| self.handle(*way).as_ref().is_some_and(|sender| !sender.waits_for_peer()));
        self.waits = waits;
        hurries
    }

    /// Returns `true` if the client has stopped the run of a channel. There is a sender for the next one then.
    pub(super) fn renew(&mut self, way: Way, urgent: ChannelSet) -> bool {
        let Some(sender) = self.handle(way) else { return false };
        if sender.stopped().is_none() {
            return false;
        }
        let channel = sender.channel();
        let next = self::sender(&self.connection, channel, urgent);
        *self.handle(way) = next;
        true
    }

    /// Looks at the request that comes next.
    pub(super) fn look_at_request(&mut self) -> Option<&Bytes> {
        if self.asked.is_none()
            && let Some(requests) = &self.requests
        {
            let mut context = Context::from_waker(&self.bells.roster);
            for _ in 0..TURN_MESSAGES {
                match requests.poll_recv_any(&mut context) {
                    Poll::Ready(Ok(Received::Message(message))) => {
                        // A longer one is none.
                        let words = if message.len() <= LONGEST_REQUEST { &message[..] } else { &[] };
                        self.asked = Some(Bytes::copy_from_slice(words));
                        return self.asked.as_ref();
                    }
                    Poll::Pending | Poll::Ready(Err(RecvError::ConnectionLost(_))) => return None,
                    Poll::Ready(_) => {}
                }
            }
            // Others have their turn.
            self.bells.roster.wake_by_ref();
        }
        self.asked.as_ref()
    }

    /// Lets go of all but what is needed to take the rest of the client's input.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.log.clear();
        self.waits.clear();
        (self.private, self.roster, self.requests, self.talk, self.refused) = (None, None, None, None, None);
        self.shared.clear();
    }
}

/// A sender with the priority of its channel; none where the peer does not receive it.
pub(super) fn sender(connection: &Connection, channel: ChannelId, urgent: ChannelSet) -> Option<Sender> {
    let priority = if urgent.contains(channel) { Priority::Urgent } else { Priority::Normal };
    connection.sender_with(channel, priority).ok()
}

fn after<T>(result: Result<(), TrySendError<T>>) -> Sent {
    match result {
        Ok(()) => Sent::Done,
        Err(TrySendError::Full { .. }) => Sent::NoRoom,
        Err(TrySendError::Disconnected { cause: Disconnect::Stopped(_), .. }) => Sent::Stopped,
        // The log knows the largest message that the client takes.
        Err(TrySendError::TooLarge { .. }) => Sent::Done,
        Err(TrySendError::Disconnected { .. }) => Sent::Over,
    }
}

fn noted(result: Result<(), Disconnect>) -> Sent {
    match result {
        Ok(()) => Sent::Done,
        Err(Disconnect::Stopped(_)) => Sent::Stopped,
        Err(_) => Sent::Over,
    }
}
