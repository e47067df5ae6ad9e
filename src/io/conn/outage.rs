//! A connection without a socket: how it waits for another, and goes on with it.

use std::io;
use std::time::{Duration, Instant};

use super::identity::terms;
use super::{Attachment, ClientId, Conn, Home, Identity, Presence, Step, UNCONFIRMED};
use crate::error::{ConnectError, ConnectionError, HandshakeError};
use crate::event::Event;
use crate::io::backoff::Backoff;
use crate::io::env::Env;
use crate::io::link::{Link, NewSocket};
use crate::io::trace::{ConnTrace, Side};
use crate::options::Options;
use crate::proto::handshake::{Asked, Granted, SessionId, Status};
use crate::proto::outbound::Conflict;
use crate::proto::replay::Replay;
use crate::proto::session::{Session, Settings};

/// Why an attempt to come back has failed.
pub(crate) struct Refusal {
    pub(crate) error: ConnectError,
    /// The server said so, and nothing else on the way.
    pub(crate) verified: bool,
    /// Every address is on this machine, and nothing listens there.
    pub(crate) nothing_listens: bool,
}

/// What happens next in an outage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The peer is being dialled.
    Dialing,
    /// The peer is dialled again then.
    PausingUntil(Instant),
    /// The peer has to come by itself.
    AwaitingClient,
}

/// The time without a socket.
pub(super) struct Outage {
    since: Instant,
    /// When the grace is over; `None` if there is no end to it.
    until: Option<Instant>,
    phase: Phase,
    attempts: u32,
    backoff: Backoff,
    /// Since when nothing listens where the peer was, on this machine.
    nothing_listens: Option<Instant>,
    /// Without a grace there is one attempt, however long that takes.
    once: bool,
}

impl Outage {
    fn new(now: Instant, grace: Option<Duration>, phase: Phase) -> Self {
        Self {
            since: now,
            until: grace.filter(|grace| !grace.is_zero()).and_then(|grace| now.checked_add(grace)),
            phase,
            attempts: 0,
            backoff: Backoff::default(),
            nothing_listens: None,
            once: grace.is_some_and(|grace| grace.is_zero()),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let next = match self.phase {
            Phase::PausingUntil(at) => Some(at),
            Phase::Dialing | Phase::AwaitingClient => None,
        };
        [next, self.until].into_iter().flatten().min()
    }
}

impl Conn {
    /// A client's connection whose peer is not there yet: it is waited for like a socket that was
    /// lost.
    pub(crate) fn lazy(
        shared: std::sync::Arc<crate::io::shared::Shared>,
        session: Session,
        home: Home,
        place: crate::io::place::Place,
        now: Instant,
    ) -> Self {
        let grace = grace_of(&home.options);
        let outage = Outage::new(now, grace, Phase::PausingUntil(now));
        let identity = Identity::Lazy(Box::new(home));
        let trace = ConnTrace::new(Side::Client, None);
        Self::with(shared, session, Replay::new(true), Attachment::Away(outage), identity, place, trace)
    }

    pub(super) fn may_resume(&self) -> bool {
        self.identity.is_resumable() && self.session.may_resume()
    }

    pub(crate) fn is_away(&self) -> bool {
        matches!(self.attachment, Attachment::Away(_))
    }

    /// Lets go of the socket and waits for another.
    pub(super) fn suspend(&mut self, cause: &ConnectionError, now: Instant) {
        let (grace, phase) = match &self.identity {
            Identity::Plain => return,
            // The first attempt is at once.
            Identity::Lazy(home) => (grace_of(&home.options), Phase::PausingUntil(now)),
            Identity::Client(client) => (client.granted.terms.grace.time(), Phase::PausingUntil(now)),
            Identity::Server(server) => {
                let grace = server.granted.terms.grace.time();
                let grace = match server.presence {
                    Presence::Known => grace,
                    Presence::Unconfirmed(_) => Some(grace.map_or(UNCONFIRMED, |time| time.min(UNCONFIRMED))),
                };
                (grace, Phase::AwaitingClient)
            }
        };
        self.attachment = Attachment::Away(Outage::new(now, grace, phase));
        self.set_stuck(true);
        self.half_ended = false;
        if self.session.ended().is_none() {
            self.shared.agreed.lock().suspended = true;
            self.shared.events.tell(&Event::Suspended { cause: cause.clone() });
            self.trace.suspended(cause);
        }
    }

    pub(super) fn serve_away(&mut self, env: &mut Env) -> Step {
        self.exchange(env);
        self.tell_news();
        if let Some(cause) = self.session.ended() {
            self.shared.end(cause);
        }
        let lazy = matches!(self.identity, Identity::Lazy(_));
        let nothing_to_tell = lazy && self.shared.send.read(|outbound| outbound.is_flushed());
        // Closed before the peer was there, with nothing to tell it; or the peer broke the protocol
        // with its last words, and cannot be told.
        if self.session.ended().is_some() && nothing_to_tell || !self.session.may_resume() {
            return Step::Over;
        }
        if self.is_ending_over(env) {
            return Step::Over;
        }
        let Attachment::Away(outage) = &mut self.attachment else { return Step::Wait };
        if outage.until.is_some_and(|until| until <= env.now) {
            self.expire();
            return Step::Over;
        }
        match outage.phase {
            Phase::PausingUntil(at) if at <= env.now => {
                outage.phase = Phase::Dialing;
                outage.attempts += 1;
                match &self.identity {
                    Identity::Lazy(home) => Step::Dial(home.clone()),
                    Identity::Client(client) => Step::Dial(Box::new(client.home.clone())),
                    Identity::Plain | Identity::Server(_) => Step::Wait,
                }
            }
            Phase::AwaitingClient => Step::Away { held: self.held() },
            Phase::PausingUntil(_) | Phase::Dialing => Step::Wait,
        }
    }

    /// The peer did not come back in time, or there is no room to wait for it.
    pub(crate) fn expire(&mut self) {
        let cause = match &self.identity {
            Identity::Lazy(_) | Identity::Client(_) => ConnectionError::PeerUnreachable,
            Identity::Server(server) if matches!(server.presence, Presence::Known) => {
                ConnectionError::SessionExpired
            }
            Identity::Server(_) | Identity::Plain => {
                ConnectionError::Lost { kind: io::ErrorKind::UnexpectedEof }
            }
        };
        self.shared.end(&cause);
    }

    /// The listener is gone, so no client can come back. `false`: the connection is over; else it
    /// goes on with the socket that it has.
    pub(crate) fn orphan(&mut self) -> bool {
        if self.is_away() {
            self.expire();
            return false;
        }
        // One that cannot be accepted any more is closed: it has no handle that could do it.
        self.identity.confirm(&self.shared);
        self.identity = Identity::Plain;
        self.session.set_mortal();
        true
    }

    // ---- a client's attempts

    /// What an attempt asks for, at the moment at which the client has to prove its key. `None`: no
    /// more can be asked for.
    pub(crate) fn ask(&mut self) -> Option<Asked> {
        let received = self.session.inbound().received();
        match &mut self.identity {
            Identity::Lazy(home) => {
                Some(Asked { session: SessionId::NONE, offset: 0, terms: terms(&home.options), attempt: 0 })
            }
            Identity::Client(client) => client.ask(received),
            Identity::Plain | Identity::Server(_) => None,
        }
    }

    /// An attempt came to nothing. `false`: that is the end. What the server did not sign may come
    /// from anything on the way, and is no reason to give up.
    pub(crate) fn attempt_failed(&mut self, refusal: &Refusal, env: &mut Env) -> bool {
        let Attachment::Away(outage) = &mut self.attachment else { return true };
        let now = env.now;
        outage.phase = Phase::PausingUntil(now + outage.backoff.pause());
        let lazy = matches!(self.identity, Identity::Lazy(_));
        let cause = match &refusal.error {
            // Nothing has been promised to a peer that was never there, so there is nothing to be
            // stubborn for.
            ConnectError::Handshake(error) if lazy && error.is_final() => {
                Some(ConnectionError::Refused(*error))
            }
            ConnectError::Handshake(error) if refusal.verified => session_end(*error),
            _ if outage.once => Some(ConnectionError::PeerUnreachable),
            _ => None,
        };
        let cause = cause.or_else(|| {
            // Where a refused connection means that the listener is gone, there is less to hope for.
            let grace = match &self.identity {
                Identity::Client(client) => client.home.options.local_grace,
                _ => return None,
            };
            if !refusal.nothing_listens {
                outage.nothing_listens = None;
                return None;
            }
            let since = *outage.nothing_listens.get_or_insert(now);
            let gone = now.saturating_duration_since(since) >= grace;
            if !gone && let Phase::PausingUntil(at) = &mut outage.phase {
                *at = (*at).min(since + grace);
            }
            gone.then_some(ConnectionError::PeerGone)
        });
        match cause {
            Some(cause) => {
                self.shared.end(&cause);
                false
            }
            None => {
                self.set_deadline(env);
                true
            }
        }
    }

    /// The server has accepted an attempt, and this side goes on. `Err`: it cannot, and is over.
    pub(crate) fn accepted(
        &mut self,
        new: NewSocket,
        granted: &Granted,
        settings: impl FnOnce(&Options, &Granted) -> Settings,
        env: &mut Env,
    ) -> Result<(), ()> {
        match &mut self.identity {
            Identity::Lazy(home) => {
                let home = Home::clone(home);
                let settings = settings(&home.options, granted);
                self.meet(new, home, granted, &settings, env);
                Ok(())
            }
            Identity::Client(client) => {
                let same = Granted { offset: client.granted.offset, ..*granted };
                if same != client.granted || !self.replay.reaches(granted.offset) {
                    self.shared.end(&ConnectionError::SessionUnknown);
                    return Err(());
                }
                self.replay.rewind(granted.offset, &mut &*env.core.pool);
                self.attach(new, granted.offset, env);
                self.session.announce(env.now);
                Ok(())
            }
            Identity::Plain | Identity::Server(_) => Err(()),
        }
    }

    /// The peer is there for the first time.
    fn meet(&mut self, new: NewSocket, home: Home, granted: &Granted, settings: &Settings, env: &mut Env) {
        self.identity = if settings.resumable {
            Identity::Client(Box::new(ClientId { home, granted: *granted, attempt: 0 }))
        } else {
            Identity::Plain
        };
        self.replay = Replay::new(settings.resumable);
        {
            // Before the claims are looked at: a claim that comes later sees it.
            let mut agreed = self.shared.agreed.lock();
            agreed.may_send = granted.rights.send;
            agreed.may_receive = granted.rights.receive;
            agreed.may_interrupt = granted.rights.interrupt;
        }
        let mut refusal = None;
        let session = &mut self.session;
        self.shared.send.meet(|outbound| {
            refusal = match session.meet(settings, outbound, &mut &*env.core.pool) {
                Ok(()) => None,
                Err(Conflict::NotPermitted(channel)) => {
                    Some(HandshakeError::NotPermitted { channel, sending: true })
                }
                Err(Conflict::TooLarge(limit)) => Some(HandshakeError::MessageTooLarge { limit }),
            };
        });
        if let Some(channel) = (self.shared.receive.claimed() - granted.rights.receive).iter().next() {
            refusal.get_or_insert(HandshakeError::NotPermitted { channel, sending: false });
        }
        if let Some(error) = refusal {
            self.session.refuse(ConnectionError::Refused(error), "this side asked for more than you allow");
        }
        self.attach(new, 0, env);
        self.session.announce(env.now);
    }

    // ---- a server's client comes back

    /// A client that has proved the session's key asks to go on. From now on nothing more is read
    /// from the old socket: how much was received is final, and is granted.
    pub(crate) fn admit(&mut self, asked: &Asked) -> Result<Granted, Status> {
        if !self.may_resume() {
            return Err(Status::SessionUnknown);
        }
        let received = self.session.inbound().received();
        let Identity::Server(server) = &mut self.identity else { return Err(Status::SessionUnknown) };
        let late = asked.attempt <= server.attempt;
        if late || asked.terms != server.asked || !self.replay.reaches(asked.offset) {
            return Err(Status::BadTerms);
        }
        server.attempt = asked.attempt;
        Ok(Granted { offset: received, ..server.granted })
    }

    /// Goes on with the new socket of a client that was [admitted](Conn::admit), at the offset that
    /// it named.
    pub(crate) fn resume(&mut self, new: NewSocket, offset: u64, env: &mut Env) {
        if !self.is_away() {
            // The client noticed before this side did.
            self.suspend(&ConnectionError::Lost { kind: io::ErrorKind::UnexpectedEof }, env.now);
        }
        if let Attachment::Away(outage) = &mut self.attachment {
            outage.attempts += 1;
        }
        // It knows the session's name from the Accept.
        self.identity.confirm(&self.shared);
        self.replay.rewind(offset, &mut &*env.core.pool);
        self.attach(new, offset, env);
    }

    fn attach(&mut self, new: NewSocket, peer_has: u64, env: &mut Env) {
        if let Some(rtt) = new.rtt {
            self.session.set_rtt(rtt);
        }
        let peer_addr = new.peer_addr;
        self.shared.agreed.lock().attach(&new);
        self.half_ended = false;
        let before = std::mem::replace(&mut self.attachment, Attachment::Attached(Link::new(new)));
        self.watch_peer(&env.registry);
        self.session.handle_resumed(env.now, peer_has);
        if let Attachment::Away(Outage { since, attempts, .. }) = before
            && self.session.ended().is_none()
        {
            let after = env.now.saturating_duration_since(since);
            let attempts = attempts.max(1);
            self.shared.events.tell(&Event::Resumed { after, attempts });
            self.trace.attached(peer_addr, after, attempts);
        }
    }
}

/// The grace of a client; `None` for ever.
fn grace_of(options: &Options) -> Option<Duration> {
    Some(options.resume_grace).filter(|grace| *grace != Duration::MAX)
}

/// How a session ends that its server has refused.
fn session_end(error: HandshakeError) -> Option<ConnectionError> {
    match error {
        HandshakeError::SessionExpired => Some(ConnectionError::SessionExpired),
        HandshakeError::SessionUnknown | HandshakeError::TermsChanged => {
            Some(ConnectionError::SessionUnknown)
        }
        _ => None,
    }
}
