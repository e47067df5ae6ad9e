//! What clients send.

use std::task::{Context, Poll};

use trunkline::{ChannelId, Received, RecvError};

use super::queue::{Part, Token};
use super::upstream::{Out, Went};
use super::{Driver, TURN_BYTES, TURN_MESSAGES};
use crate::code;
use crate::route::{End, Judged, Wish};

impl Driver {
    /// A message on its way up from no client in particular, or one that was judged before.
    pub(super) fn pass(&mut self, channel: ChannelId, out: Out) {
        if let Went::Refused(code) = self.upstream.send(channel, out) {
            self.upstream_stopped(channel, code);
        }
    }

    pub(super) fn has_room_upstream(&mut self, channel: ChannelId) {
        match self.upstream.flush(channel) {
            Went::Refused(code) => self.upstream_stopped(channel, code),
            Went::Waits => return,
            Went::Up => {}
        }
        if !self.upstream.has_room(channel) {
            return;
        }
        if self.router.plan().input == Some(channel) {
            self.router.handle_input_room();
        } else {
            self.router.handle_shared_room(channel);
        }
    }

    /// Looks again at what a client has sent on a channel.
    pub(super) fn look(&mut self, key: usize, channel: ChannelId) {
        let Some(link) = self.links.get(key) else { return };
        let plan = self.router.plan();
        let part = if plan.input == Some(channel) {
            Part::Input
        } else if plan.private == Some(channel) {
            Part::Private
        } else if plan.roster == Some(channel) {
            Part::Roster
        } else {
            Part::Others
        };
        self.back.push_back(Token::Client(key, link.id, part));
    }

    fn again(&mut self, key: usize, part: Part) {
        if let Some(link) = self.links.get(key) {
            self.back.push_back(Token::Client(key, link.id, part));
        }
    }

    /// Takes a client's input, as far as upstream has room for it.
    pub(super) fn take_input(&mut self, key: usize) {
        let Some(channel) = self.router.plan().input else { return };
        let mut bytes = 0;
        for _ in 0..TURN_MESSAGES {
            if bytes >= TURN_BYTES {
                break;
            }
            if !self.upstream.has_room(channel) {
                self.router.handle_input_full();
            }
            self.take_due_request(key);
            let Some(link) = self.links.get(key) else { return };
            let Some(input) = &link.input else { return };
            self.router.handle_dropped(key, input.discarded(channel));
            if self.router.wish(key, self.now) == Wish::Wait {
                return;
            }
            match input.poll_recv_any(&mut Context::from_waker(&link.bells.input)) {
                Poll::Pending => return,
                Poll::Ready(Ok(Received::Message(message))) => {
                    bytes += message.len();
                    let dropped = input.discarded(channel);
                    if self.router.handle_input(key, dropped, self.now) == Judged::Pass {
                        match self.upstream.send(channel, Out::Message(message.into_bytes())) {
                            Went::Up | Went::Waits => self.router.input_passed(key),
                            Went::Refused(code) => {
                                self.router.input_not_passed(key, code);
                                self.act();
                                if code != code::NOT_SENT_HERE {
                                    self.upstream_stopped(channel, code);
                                }
                            }
                        }
                    }
                }
                Poll::Ready(Ok(Received::Gap { messages, bytes, .. })) => {
                    self.router.handle_input_gap(key, messages, bytes);
                }
                Poll::Ready(Ok(Received::Finished(_))) => self.router.handle_input_end(key, End::Finish),
                Poll::Ready(Ok(Received::Reset { code, .. })) => {
                    self.router.handle_input_end(key, End::Reset(code));
                }
                Poll::Ready(Err(RecvError::ConnectionLost(_))) => {
                    if link.draining {
                        self.router.handle_drained(key);
                        self.let_go(key);
                    }
                    return;
                }
                Poll::Ready(_) => {}
            }
            self.act();
        }
        self.again(key, Part::Input);
    }

    /// Takes one message of a client's on the roster. What it has sent as input before is judged before.
    pub(super) fn take_request(&mut self, key: usize) {
        self.take_input(key);
        self.act();
        if !self.router.roster_wish(key) {
            return;
        }
        let Some(link) = self.links.get_mut(key) else { return };
        if link.look_at_request().is_none() {
            return;
        }
        if let Some(request) = link.asked.take() {
            self.router.handle_roster(key, &request, self.now);
        }
        self.again(key, Part::Roster);
    }

    /// Takes the request that was made before the message that is judged next, where it says so: they come on two
    /// channels. The owner has no use for that.
    fn take_due_request(&mut self, key: usize) {
        if self.router.owns_input(key) || !self.router.roster_wish(key) {
            return;
        }
        let Some(link) = self.links.get_mut(key) else { return };
        let due = link.look_at_request().is_some_and(|request| self.router.request_is_due(key, request));
        if due && let Some(request) = link.asked.take() {
            self.router.handle_roster(key, &request, self.now);
            self.act();
            self.again(key, Part::Roster);
        }
    }

    pub(super) fn take_private(&mut self, key: usize) {
        for _ in 0..TURN_MESSAGES {
            let Some(lent) = self.router.private_wish(key) else { return };
            if let Some(channel) = lent
                && !self.upstream.has_room(channel)
            {
                return self.router.park(key, channel);
            }
            let Some(link) = self.links.get(key) else { return };
            let Some(talk) = &link.talk else { return };
            match talk.poll_recv_any(&mut Context::from_waker(&link.bells.private)) {
                Poll::Pending | Poll::Ready(Err(RecvError::ConnectionLost(_))) => return,
                Poll::Ready(Ok(Received::Message(message))) => {
                    self.router.handle_private(key, message.into_bytes());
                }
                Poll::Ready(Ok(Received::Finished(_))) => self.router.handle_private_end(key, End::Finish),
                Poll::Ready(Ok(Received::Reset { code, .. })) => {
                    self.router.handle_private_end(key, End::Reset(code));
                }
                Poll::Ready(_) => {}
            }
            self.act();
        }
        self.again(key, Part::Private);
    }

    /// Takes one message of each shared channel, and refuses what is sent where clients do not send.
    pub(super) fn take_others(&mut self, key: usize) {
        let Some(link) = self.links.get(key) else { return };
        let channels: Vec<_> = link.shared.iter().map(|(channel, _)| *channel).collect();
        let mut more = false;
        for channel in channels {
            if !self.upstream.has_room(channel) {
                self.router.park(key, channel);
                continue;
            }
            let Some(link) = self.links.get(key) else { return };
            let Some((_, shared)) = link.shared.iter().find(|(id, _)| *id == channel) else { continue };
            match shared.poll_recv_any(&mut Context::from_waker(&link.bells.others)) {
                Poll::Pending | Poll::Ready(Err(RecvError::ConnectionLost(_))) => continue,
                Poll::Ready(Ok(Received::Message(message))) => {
                    self.router.handle_shared(key, channel, message.into_bytes());
                }
                Poll::Ready(_) => {}
            }
            more = true;
            self.act();
        }
        let Some(link) = self.links.get(key) else { return };
        if let Some(refused) = &link.refused {
            match refused.poll_recv_any(&mut Context::from_waker(&link.bells.others)) {
                Poll::Pending | Poll::Ready(Err(RecvError::ConnectionLost(_))) => {}
                Poll::Ready(Ok(Received::Message(message))) => {
                    refused.refuse_channel(message.channel(), code::NOT_SENT_HERE);
                    more = true;
                }
                Poll::Ready(_) => more = true,
            }
        }
        if more {
            self.again(key, Part::Others);
        }
    }
}
