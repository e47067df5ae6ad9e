//! How clients come and go, and what they get.

use std::sync::Arc;
use std::task::{Context, Poll};

use trunkline::{
    AcceptError, Access, ChannelId, CloseCode, Connection, ConnectionError, Event, EventError, Fault,
};

use super::link::{Link, Sent};
use super::queue::{Part, Token};
use super::{Driver, TURN_BYTES, TURN_MESSAGES};
use crate::guarded::guarded;
use crate::route::{Gives, Joining, Leaving, Way};

impl Driver {
    pub(super) fn accept(&mut self) {
        for _ in 0..TURN_MESSAGES {
            if !self.accepting {
                return;
            }
            match self.listener.poll_accept(&mut Context::from_waker(&self.accept)) {
                Poll::Pending => return,
                Poll::Ready(Ok(connection)) => self.join(connection),
                Poll::Ready(Err(AcceptError::Closed)) => self.accepting = false,
                Poll::Ready(Err(_)) => {}
            }
        }
        self.back.push_back(Token::Accept);
    }

    fn join(&mut self, connection: Connection) {
        let access = connection.access().cloned().unwrap_or_else(Access::full);
        let receives = connection.may_send();
        // All channels have the same largest message.
        let probe = receives.iter().next().and_then(|channel| connection.sender(channel).ok());
        let joining = Joining {
            access: Arc::new(access),
            receives,
            sends: connection.may_receive(),
            largest: probe.map_or(0, |sender| sender.max_message() as usize),
            now: self.now,
        };
        if let Some(aside) = &self.aside {
            let _ = guarded(|| aside(connection.clone()));
        }
        let key = self.router.handle_join(joining);
        self.ids += 1;
        let queue = &self.control.queue;
        let link = Link::new(connection, key, self.ids, queue, self.router.plan(), &self.slots, self.urgent);
        let id = link.id;
        self.links.insert(key, link);
        // Nothing has rung yet.
        for part in [Part::Events, Part::Input, Part::Roster, Part::Private, Part::Others] {
            self.serve_client(key, part);
            self.act();
            if self.links.get(key).is_none_or(|link| link.id != id) {
                return;
            }
        }
    }

    pub(super) fn serve_client(&mut self, key: usize, part: Part) {
        match part {
            Part::Events => self.client_events(key),
            Part::Room => self.client_has_room(key),
            Part::Input => self.take_input(key),
            Part::Roster => self.take_request(key),
            Part::Private => self.take_private(key),
            Part::Others => self.take_others(key),
        }
    }

    fn client_events(&mut self, key: usize) {
        loop {
            let Some(link) = self.links.get_mut(key) else { return };
            match link.events.poll_recv(&mut Context::from_waker(&link.bells.events)) {
                Poll::Pending | Poll::Ready(Err(EventError::Over)) => return,
                Poll::Ready(Ok(Event::Suspended { .. })) => self.router.handle_away(key, self.now),
                Poll::Ready(Ok(Event::Resumed { .. })) => self.router.handle_back(key),
                Poll::Ready(Ok(Event::Interrupt)) => self.router.handle_interrupt(key),
                Poll::Ready(Ok(Event::Stopped { channel, .. })) => {
                    if let Some(way) = link.way(channel) {
                        self.client_stopped(key, way);
                    }
                }
                Poll::Ready(Ok(Event::Closed(cause))) => return self.client_is_over(key, &cause),
                Poll::Ready(_) => {}
            }
            self.act();
        }
    }

    fn client_stopped(&mut self, key: usize, way: Way) {
        let Some(link) = self.links.get_mut(key) else { return };
        if link.renew(way, self.urgent) {
            link.waits.retain(|other| *other != way);
            self.links.look_hurried(key);
            self.router.handle_stopped(key, way);
        }
    }

    fn client_is_over(&mut self, key: usize, cause: &ConnectionError) {
        let in_order = matches!(cause, ConnectionError::ClosedByPeer { .. }) && cause.fault() == Fault::None;
        let how = if in_order { Leaving::InOrder } else { Leaving::Lost };
        if self.router.handle_leave(key, how) {
            if let Some(link) = self.links.get_mut(key) {
                link.drain();
            }
            self.links.look_hurried(key);
            self.take_input(key);
        } else {
            self.let_go(key);
        }
    }

    /// Drops a client's handles. Its connection is over, or being closed, and nothing waits for that.
    pub(super) fn let_go(&mut self, key: usize) {
        if let Some(link) = self.links.remove(key) {
            link.connection.clone().detach();
        }
    }

    pub(super) fn close(&mut self, key: usize, code: CloseCode, reason: &str) {
        if let Some(link) = self.links.remove(key) {
            link.connection.clone().detach_with(code, reason);
        }
        self.router.handle_leave(key, Leaving::Lost);
    }

    fn client_has_room(&mut self, key: usize) {
        let Some(link) = self.links.get_mut(key) else { return };
        let mut waits = std::mem::take(&mut link.waits);
        waits.retain(|way| {
            let room = link.has_room(*way);
            if room {
                self.router.handle_room(key, *way);
            }
            !room
        });
        link.waits = waits;
        self.links.look_hurried(key);
    }

    /// There is no room on a way; or there is again by now.
    fn wait_for_room(&mut self, key: usize, way: Way) {
        let Some(link) = self.links.get_mut(key) else { return };
        if link.has_room(way) {
            self.router.handle_room(key, way);
        } else {
            if !link.waits.contains(&way) {
                link.waits.push(way);
            }
            self.links.look_hurried(key);
        }
    }

    /// A client gets what it has room for, within its turn.
    pub(super) fn turn(&mut self, key: usize) {
        let mut messages = TURN_MESSAGES;
        let mut bytes = TURN_BYTES;
        // A latest message goes after the rest of what was sent before it.
        let mut checked = false;
        while messages > 0 && bytes > 0 {
            let Some((way, gives)) = self.router.next(key) else { break };
            let Some(link) = self.links.get_mut(key) else { break };
            let len = match &gives {
                Gives::Message(message) => message.len(),
                Gives::Owned(message) => message.len(),
                Gives::Gap { .. } | Gives::End(_) => 0,
            };
            if let Way::Log(slot) = way
                && self.latest[slot]
                && !checked
            {
                checked = true;
                let staged: Vec<_> = link.staged().collect();
                if !staged.is_empty() {
                    for slot in staged {
                        self.router.handle_staged(key, slot);
                        self.wait_for_room(key, Way::Log(slot));
                    }
                    continue;
                }
            }
            match link.send(way, gives, self.urgent) {
                Sent::Done => {
                    checked = false;
                    self.router.sent(key, way);
                    // One message of the roster is a turn's worth.
                    messages -= if way == Way::Roster { messages } else { 1 };
                    bytes = bytes.saturating_sub(len);
                }
                Sent::NoRoom => {
                    self.router.handle_no_room(key, way);
                    self.wait_for_room(key, way);
                }
                Sent::Stopped => self.client_stopped(key, way),
                Sent::Over => return,
            }
        }
        self.router.end_turn(key, messages == 0 || bytes == 0);
    }

    /// What a client has sent as input and was not taken is refused, and its run stopped if one is open.
    pub(super) fn refuse(&mut self, key: usize, channel: ChannelId, code: u32) {
        let Some(input) = self.links.get(key).and_then(|link| link.input.as_ref()) else { return };
        input.refuse_channel(channel, code);
        let dropped = input.discarded(channel);
        self.router.handle_refused(key, dropped);
        self.drained_if_gone(key);
    }

    /// What is left of the run that is being taken from a client is refused, and nothing behind it.
    pub(super) fn skip(&mut self, key: usize, channel: ChannelId, code: u32) {
        let Some(link) = self.links.get(key) else { return };
        let shared = link.shared.iter().map(|(_, receiver)| receiver);
        for receiver in link.talk.iter().chain(shared) {
            // Those of other channels do nothing.
            receiver.skip_run(channel, code);
        }
    }

    /// A client that had left was forgotten by the router.
    fn drained_if_gone(&mut self, key: usize) {
        if self.links.get(key).is_some_and(|link| link.draining) && !self.router.has(key) {
            self.let_go(key);
        }
    }
}
