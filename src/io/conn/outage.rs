//! A connection without a socket: how it waits for another, and goes on with it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::{Conn, Next};
use crate::config::Config;
use crate::error::{ConnectError, ConnectionError, HandshakeError};
use crate::event::Event;
use crate::io::driver::Context;
use crate::io::pace::Pace;
use crate::io::resume::{Outage, Past, Resumption, Side};
use crate::io::socket::Socket;
use crate::proto::handshake::{SessionId, Status, Terms};

impl Conn {
    pub(super) fn may_resume(&self) -> bool {
        self.resumption.is_some() && self.session.may_resume()
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.outage.is_some()
    }

    pub(crate) fn session_id(&self) -> Option<SessionId> {
        self.resumption.as_ref().map(|resumption| resumption.session)
    }

    /// What a suspended connection holds, in bytes: for replay, and in its send queue.
    pub(crate) fn held(&self) -> usize {
        let kept = self.outage.as_ref().map_or(0, |outage| outage.kept);
        kept + self.shared.send.read(|outbound| outbound.queued())
    }

    /// Lets go of the socket and waits for another.
    pub(super) fn suspend(&mut self, now: Instant) {
        let Some(resumption) = &self.resumption else { return };
        let (grace, retries) = match &resumption.side {
            Side::Client { .. } => (resumption.grace, true),
            Side::Server { unconfirmed } => {
                (unconfirmed.map_or(resumption.grace, |time| time.min(resumption.grace)), false)
            }
        };
        let kept = self.outbox.replay().memory();
        self.outage = Some(Outage::new(now, grace, retries, kept));
        self.detach();
        self.session.handle_suspended();
        self.shared.suspended.store(true, Relaxed);
        self.shared.inbox.tell(&Event::Suspended);
    }

    fn detach(&mut self) {
        self.socket = None;
        self.outbox.suspend();
        (self.readable, self.hung_up, self.writable, self.more) = (false, false, false, false);
        (self.finished, self.peer_finished) = (false, false);
    }

    pub(super) fn wait_for_socket(&mut self, ctx: &mut Context) -> Next {
        self.exchange(ctx);
        self.tell_notices();
        let Some(outage) = self.outage.as_mut() else { return Next::Wait };
        if !self.session.may_resume() {
            // The peer broke the protocol with its last words, and cannot be told.
            if let Some(cause) = self.session.ended() {
                self.shared.end(cause);
            }
            return Next::Done;
        }
        if outage.is_over(ctx.now) {
            self.expire();
            return Next::Done;
        }
        let next = if outage.begin_attempt(ctx.now) { Next::Reconnect } else { Next::Wait };
        let deadline = [outage.deadline(), self.deadline].into_iter().flatten().min();
        self.alarm.set(deadline, self.place, &mut ctx.timers);
        next
    }

    /// Nobody came back in time, or there is no room to wait for it.
    pub(crate) fn expire(&mut self) {
        let cause = match self.resumption.as_ref().map(|resumption| &resumption.side) {
            Some(Side::Client { .. }) => ConnectionError::PeerUnreachable,
            Some(Side::Server { unconfirmed: Some(_) }) => {
                self.shared.ghost.store(true, Relaxed);
                ConnectionError::Lost { kind: io::ErrorKind::UnexpectedEof }
            }
            _ => ConnectionError::SessionExpired,
        };
        self.shared.end(&cause);
    }

    /// The listener is gone, so nobody can come back. Whether the connection goes on: it does with
    /// the socket that it has.
    pub(crate) fn orphan(&mut self) -> Next {
        if self.is_suspended() {
            self.expire();
            return Next::Done;
        }
        self.resumption = None;
        self.session.set_resumable(false);
        Next::Wait
    }

    /// What a client that comes back is to be told, once the connection is over.
    pub(crate) fn past(&self) -> Past {
        match self.session.last_words() {
            Some((at, words)) => {
                let received = self.session.inbound().received();
                Past::Closed { received, at: *at, words: words.clone() }
            }
            None if self.shared.send.ended() == Some(ConnectionError::SessionExpired) => Past::Expired,
            None => Past::Unknown,
        }
    }

    /// What a client needs for an attempt to connect again.
    pub(crate) fn attempt(&self) -> Option<(Config, Vec<SocketAddr>, Terms)> {
        let Resumption { session, side, .. } = self.resumption.as_ref()?;
        let Side::Client { addresses, config } = side else { return None };
        let terms = Terms {
            session: *session,
            offset: self.session.inbound().received(),
            window: config.window,
            max_message: config.max_message,
        };
        Some((Config::clone(config), addresses.clone(), terms))
    }

    /// An attempt came to nothing; whether that is the end. What the server did not sign may come
    /// from anybody, and is no reason to give up.
    pub(crate) fn attempt_failed(&mut self, error: &ConnectError, now: Instant) -> Next {
        let Some(outage) = &mut self.outage else { return Next::Wait };
        let cause = match error {
            ConnectError::Handshake(HandshakeError::SessionExpired) => ConnectionError::SessionExpired,
            ConnectError::Handshake(HandshakeError::SessionUnknown | HandshakeError::OffsetOutOfRange) => {
                ConnectionError::SessionUnknown
            }
            _ => {
                outage.attempt_failed(now);
                return Next::Wait;
            }
        };
        self.shared.end(&cause);
        Next::Done
    }

    /// A client that has proved the key asks to go on at `offset`. From now on nothing more is
    /// read from the old socket: how much was received is final, and is returned.
    pub(crate) fn admit(&mut self, offset: u64) -> Result<u64, Status> {
        if let Some(outage) = &mut self.outage {
            outage.attempts += 1;
        }
        if !self.may_resume() {
            return Err(Status::SessionUnknown);
        }
        if !self.outbox.replay().reaches(offset) {
            return Err(Status::OffsetOutOfRange);
        }
        Ok(self.session.inbound().received())
    }

    /// Goes on with a new socket, at the offset that the peer named. `ahead` is the end of the
    /// handshake, `early` what came behind it. `false`: that offset is out of range.
    pub(crate) fn resume(
        &mut self,
        socket: Socket,
        offset: u64,
        ahead: Vec<u8>,
        early: &[u8],
        ctx: &mut Context,
    ) -> bool {
        if !self.may_resume() || !self.outbox.replay().reaches(offset) {
            return false;
        }
        if self.outage.is_none() {
            // The client noticed before we did.
            self.suspend(ctx.now);
        }
        self.detach();
        self.outbox.resume(offset, ahead, &mut &*ctx.core.pool);
        self.pace = Pace::new(self.session.rtt());
        self.unsent = self.pace.unsent();
        socket.limit_unsent(self.unsent);
        self.socket = Some(socket);
        (self.readable, self.writable) = (true, true);
        self.session.handle_resumed(ctx.now, offset);
        // It knows the session's name from the Accept.
        if let Some(Resumption { side: Side::Server { unconfirmed }, .. }) = &mut self.resumption {
            *unconfirmed = None;
        }
        if let Some(offer) = self.offer.take() {
            offer.make();
        }
        self.shared.suspended.store(false, Relaxed);
        if let Some(Outage { since, attempts, .. }) = self.outage.take() {
            let after = ctx.now.saturating_duration_since(since);
            self.shared.inbox.tell(&Event::Resumed { after, attempts: attempts.max(1) });
        }
        self.handle_early(early, ctx);
        true
    }
}
