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
use crate::io::establish::{client_settings, first, resumption};
use crate::io::pace::Pace;
use crate::io::pending::NewSocket;
use crate::io::resume::{Outage, Past, Resumption, Side, TAIL};
use crate::proto::handshake::{Rights, SessionId, Status, Terms};
use crate::proto::outbound::Conflict;
use crate::proto::session::Settings;

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
        let lazy = self.is_lazy();
        let Some(outage) = self.outage.as_mut() else { return Next::Wait };
        if !self.session.may_resume() {
            // The peer broke the protocol with its last words, and cannot be told.
            if let Some(cause) = self.session.ended() {
                self.shared.end(cause);
            }
            return Next::Done;
        }
        let idle = || self.shared.send.read(|outbound| outbound.is_flushed());
        if self.session.ended().is_some() && lazy && idle() {
            // Closed before the peer was there, and nothing to tell it.
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
        // One that has said CLOSE itself does not come back for ours.
        if self.session.close_sent()
            && !self.session.close_received()
            && let Some((at, tail)) = self.outbox.replay().tail(TAIL)
        {
            return Past::Closed { received: self.session.inbound().received(), at, tail };
        }
        match self.shared.send.ended() {
            Some(ConnectionError::SessionExpired) => Past::Expired,
            _ => Past::Unknown,
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
        let lazy = self.is_lazy();
        let Some(outage) = &mut self.outage else { return Next::Wait };
        let cause = match error {
            // Nothing has been promised to a peer that was never there, so there is nothing to be
            // stubborn for.
            ConnectError::Handshake(refusal) if lazy && refusal.is_final() => {
                ConnectionError::Refused(*refusal)
            }
            ConnectError::Handshake(HandshakeError::SessionExpired) => ConnectionError::SessionExpired,
            ConnectError::Handshake(HandshakeError::SessionUnknown | HandshakeError::OffsetOutOfRange) => {
                ConnectionError::SessionUnknown
            }
            _ if outage.attempt_failed(now) => return Next::Wait,
            _ => ConnectionError::PeerUnreachable,
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

    /// Goes on with a new socket, at the offset that the peer named. `false`: that offset is out of
    /// range.
    pub(crate) fn resume(&mut self, new: NewSocket, offset: u64, ctx: &mut Context) -> bool {
        if !self.may_resume() || !self.outbox.replay().reaches(offset) {
            return false;
        }
        if self.outage.is_none() {
            // The client noticed before we did.
            self.suspend(ctx.now);
        }
        // It knows the session's name from the Accept.
        if let Some(Resumption { side: Side::Server { unconfirmed }, .. }) = &mut self.resumption {
            *unconfirmed = None;
        }
        if let Some(offer) = self.offer.take() {
            offer.make();
        }
        self.outbox.resume(offset, &mut &*ctx.core.pool);
        self.attach(new, offset, ctx);
        true
    }

    fn attach(&mut self, new: NewSocket, peer_has: u64, ctx: &mut Context) {
        let NewSocket { socket, peer_addr, rtt, unsent, early } = new;
        self.detach();
        self.outbox.put_ahead(unsent);
        if let Some(rtt) = rtt {
            self.session.set_rtt(rtt);
        }
        self.pace = Pace::new(self.session.rtt());
        self.unsent = self.pace.unsent();
        socket.limit_unsent(self.unsent);
        {
            let mut agreed = self.shared.agreed.lock();
            (agreed.local_addr, agreed.peer_addr) = (socket.local_addr(), peer_addr);
        }
        self.socket = Some(socket);
        (self.readable, self.writable) = (true, true);
        self.session.handle_resumed(ctx.now, peer_has);
        self.shared.suspended.store(false, Relaxed);
        if let Some(Outage { since, attempts, .. }) = self.outage.take() {
            let after = ctx.now.saturating_duration_since(since);
            self.shared.inbox.tell(&Event::Resumed { after, attempts: attempts.max(1) });
        }
        self.handle_early(&early, ctx);
    }

    // ---- before the peer is there

    /// The peer is waited for like a socket that was lost.
    pub(crate) fn wait_for_peer(&mut self, now: Instant) {
        let Some(resumption) = &self.resumption else { return };
        self.outage = Some(Outage::new(now, resumption.grace, true, 0));
        self.detach();
        self.session.handle_suspended();
    }

    /// Whether the peer has never been there.
    pub(crate) fn is_lazy(&self) -> bool {
        self.session_id() == Some(SessionId::default())
    }

    /// The peer is there for the first time.
    pub(crate) fn meet(&mut self, new: NewSocket, terms: &Terms, rights: &Rights, ctx: &mut Context) {
        let Some(Resumption { side: Side::Client { addresses, config }, .. }) = self.resumption.take() else {
            return;
        };
        let role = Side::Client { addresses: first(addresses, new.peer_addr), config: config.clone() };
        self.resumption = resumption(&config, terms.session, role);
        self.outbox.keep(self.resumption.is_some());
        let settings =
            Settings { resumable: self.resumption.is_some(), ..client_settings(&config, terms, rights) };
        {
            // Before the claims are looked at: who claims later sees it.
            let mut agreed = self.shared.agreed.lock();
            agreed.may_send = rights.send;
            agreed.may_receive = rights.receive;
            agreed.may_interrupt = rights.interrupt;
        }
        let Self { session, shared, .. } = self;
        let mut refusal = Ok(());
        shared.send.exchange(|outbound, wishes, _| {
            match session.meet(ctx.now, &settings, outbound, &mut &*ctx.core.pool) {
                Ok(waiting) => wishes.flushes.iter_mut().for_each(|flush| flush.mark.add(&waiting)),
                Err(Conflict::NotPermitted(channel)) => {
                    refusal = Err(HandshakeError::NotPermitted { channel, sending: true });
                }
                Err(Conflict::TooLarge(limit)) => refusal = Err(HandshakeError::MessageTooLarge { limit }),
            }
            // It is served next.
            true
        });
        if let Some(channel) = (shared.inbox.claimed() - rights.receive).iter().next() {
            refusal = refusal.and(Err(HandshakeError::NotPermitted { channel, sending: false }));
        }
        if let Err(error) = refusal {
            self.session.refuse(ConnectionError::Refused(error), "this side asked for more than you allow");
        }
        self.attach(new, 0, ctx);
    }
}
