//! Handshakes until there is a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Token;

use super::accept::{Listening, Offer};
use super::conn::Conn;
use super::connect::{Attempt, Goal};
use super::driver::{Context, Place};
use super::establish::{Link, client_settings, establish, first, our_terms, resumption, settings};
use super::resume::{Found, Past, Resumption, Side as Role};
use super::shared::Shared;
use super::socket::Socket;
use super::timer::{Alarm, Timers};
use crate::config::Config;
use crate::error::{CloseCode, HandshakeError};
use crate::proto::handshake::{
    ClientHandshake, ClientStep, Rights, ServerHandshake, ServerStep, SessionId, Status, Terms,
};
use crate::proto::session::Settings;

/// What a handshake made of its input.
pub(crate) enum Outcome {
    /// It goes on.
    Wait,
    /// It is over and there is no connection.
    Over,
    /// There is a connection; it takes the handshake's place.
    Connected(Box<Conn>),
    /// The server lets this client's connection go on.
    Resumed(Box<Resumed>),
    /// A client has proved its key and asks for its connection, which is there; behind the
    /// handshake came `early`.
    Claimed { conn: Place, asked: Terms, early: Vec<u8> },
}

/// What a connection goes on with, or begins.
pub(crate) struct Resumed {
    pub(crate) conn: Place,
    pub(crate) terms: Terms,
    pub(crate) rights: Rights,
    pub(crate) new: NewSocket,
}

/// A socket whose handshake is done.
pub(crate) struct NewSocket {
    pub(crate) socket: Socket,
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) rtt: Option<Duration>,
    /// The end of the handshake, if the socket did not take it all.
    pub(crate) unsent: Vec<u8>,
    /// What came behind it.
    pub(crate) early: Vec<u8>,
}

pub(super) enum Side {
    Server { handshake: ServerHandshake, listener: Place },
    Client { handshake: Option<ClientHandshake>, attempt: Box<Attempt> },
}

/// A socket whose peer has proved nothing yet.
pub(crate) struct Pending {
    /// Gone once it is a connection's; a client that waits for its next attempt has none.
    socket: Option<Socket>,
    peer: Option<SocketAddr>,
    side: Side,
    /// What is to be written; handshake messages are small.
    out: Vec<u8>,
    /// When it is over, whatever trickles in.
    deadline: Instant,
    alarm: Alarm,
    /// Nothing more is taken; hang up once `out` is written and the peer has seen it.
    refused: bool,
    /// Hang up at once.
    hopeless: bool,
    /// The number of the key that was proved.
    key: usize,
    /// When the last message went out, for a first round-trip time.
    asked: Instant,
    rtt: Option<Duration>,
}

impl Pending {
    /// Without a socket it only waits for its time.
    pub(super) fn new(
        socket: Option<Socket>,
        peer: Option<SocketAddr>,
        side: Side,
        deadline: Instant,
        now: Instant,
    ) -> Self {
        Self {
            socket,
            peer,
            side,
            out: Vec::new(),
            deadline,
            alarm: Alarm::default(),
            refused: false,
            hopeless: false,
            key: 0,
            asked: now,
            rtt: None,
        }
    }

    pub(super) fn server(
        socket: Socket,
        peer: SocketAddr,
        listener: Place,
        config: &Config,
        now: Instant,
    ) -> io::Result<Self> {
        let handshake = ServerHandshake::new(random()?);
        let side = Side::Server { handshake, listener };
        Ok(Self::new(Some(socket), Some(peer), side, now + config.handshake_timeout, now))
    }

    pub(crate) fn register(&mut self, registry: &mio::Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            Some(socket) => socket.register(registry, token),
            None => Ok(()),
        }
    }

    pub(crate) fn listener(&self) -> Option<Place> {
        match self.side {
            Side::Server { listener, .. } => Some(listener),
            Side::Client { .. } => None,
        }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.deadline <= now
    }

    pub(crate) fn set_alarm(&mut self, place: Place, timers: &mut Timers) {
        self.alarm.set(Some(self.deadline), place, timers);
    }

    /// The socket failed, or the time is up; the attempt that goes on.
    pub(crate) fn failed(self, error: io::Error, now: Instant) -> Option<Box<Attempt>> {
        let Side::Client { handshake, mut attempt } = self.side else { return None };
        match handshake {
            // The pause is over.
            None if self.socket.is_none() => Some(attempt),
            // Nobody there: perhaps at the name's next address.
            None => {
                attempt.unreachable(error);
                Some(attempt)
            }
            Some(handshake) => {
                let error = match error.kind() {
                    io::ErrorKind::TimedOut => HandshakeError::TimedOut,
                    _ => HandshakeError::Disconnected,
                };
                attempt.cut(error, handshake.is_proved(), now)
            }
        }
    }

    /// Goes on as far as the socket allows.
    pub(crate) fn serve(
        &mut self,
        ctx: &mut Context,
        place: Place,
        mut listener: Option<&mut Listening>,
    ) -> io::Result<Outcome> {
        self.alarm.fired(ctx.now);
        if let Side::Client { handshake: handshake @ None, attempt } = &mut self.side {
            match self.socket.as_ref().map(Socket::is_connected) {
                Some(Ok(true)) => {}
                Some(Ok(false)) => return Ok(Outcome::Wait),
                Some(Err(error)) => return Err(error),
                None => return Ok(Outcome::Wait),
            }
            let Some((key, _)) = attempt.config.keys.first() else { return Ok(Outcome::Over) };
            let terms = match &attempt.goal {
                Goal::New(_) => our_terms(&attempt.config),
                Goal::Resume { terms, .. } => *terms,
            };
            let (begun, hello) = ClientHandshake::new(key, random()?, terms);
            *handshake = Some(begun);
            self.out.extend(hello);
            self.asked = ctx.now;
            self.deadline = ctx.now + attempt.config.handshake_timeout;
        }
        self.flush()?;
        let mut buffer = [0; 512];
        while let Some(socket) = &mut self.socket {
            let read = match socket.read(&mut buffer) {
                Ok(0) if self.refused => return Ok(Outcome::Over),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // Hanging up on what is unread would take our answer back.
                Ok(_) if self.refused => continue,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let mut input = &buffer[..read];
            while !input.is_empty() && !self.refused {
                if let Some(outcome) = self.step(&mut input, place, ctx, listener.as_deref_mut()) {
                    let mut outcome = outcome?;
                    match &mut outcome {
                        Outcome::Connected(conn) => conn.handle_early(input, ctx),
                        Outcome::Resumed(resumed) => resumed.new.early = input.to_vec(),
                        Outcome::Claimed { early, .. } => *early = input.to_vec(),
                        Outcome::Wait | Outcome::Over => {}
                    }
                    return Ok(outcome);
                }
            }
            if self.hopeless {
                return Ok(Outcome::Over);
            }
            self.flush()?;
        }
        Ok(Outcome::Wait)
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        while !self.out.is_empty() {
            match socket.write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.refused && self.out.is_empty() {
            socket.finish();
        }
        Ok(())
    }

    fn step(
        &mut self,
        input: &mut &[u8],
        place: Place,
        ctx: &mut Context,
        listener: Option<&mut Listening>,
    ) -> Option<io::Result<Outcome>> {
        match &mut self.side {
            Side::Server { handshake, .. } => {
                let listener = listener?;
                let config = Arc::clone(&listener.config);
                match handshake.handle(input, |number| config.keys.get(number).map(|(key, _)| key)) {
                    ServerStep::More => {}
                    ServerStep::Reply(reply) => {
                        self.out.extend(reply);
                        self.asked = ctx.now;
                    }
                    ServerStep::Refuse(reply) => {
                        // Who does not even speak the protocol gets no answer.
                        self.hopeless = reply.is_none();
                        self.out.extend(reply.into_iter().flatten());
                        self.refused = true;
                    }
                    ServerStep::Unproved(reply) => {
                        self.out.extend(reply);
                        self.refused = true;
                    }
                    ServerStep::Proved { key, terms } => {
                        self.rtt = Some(ctx.now.saturating_duration_since(self.asked));
                        return self.admit(key, terms, place, ctx, listener);
                    }
                }
                None
            }
            Side::Client { handshake, attempt } => {
                let handshake = handshake.as_mut()?;
                let (key, _) = attempt.config.keys.first()?;
                match handshake.handle(input, key) {
                    ClientStep::More => {}
                    ClientStep::Reply(reply) => {
                        self.out.extend(reply);
                        self.rtt = Some(ctx.now.saturating_duration_since(self.asked));
                    }
                    ClientStep::Failed(error) => {
                        attempt.goal.fail(error.into());
                        self.refused = true;
                        self.hopeless = true;
                    }
                    ClientStep::Accepted { terms, rights } => {
                        if let Goal::Resume { conn, .. } = attempt.goal {
                            let new = self.new_socket()?;
                            let resumed = Resumed { conn, terms, rights, new };
                            return Some(Ok(Outcome::Resumed(Box::new(resumed))));
                        }
                        let settings = client_settings(&attempt.config, &terms, &rights);
                        let config = attempt.config.clone();
                        let Goal::New(reply) = &attempt.goal else { return None };
                        let reply = reply.clone();
                        let addresses = first(attempt.all.clone(), self.peer);
                        let role = Role::Client { addresses, config: Box::new(config.clone()) };
                        let resumption = resumption(&config, terms.session, role);
                        let (conn, shared) =
                            self.connect(&config, &settings, resumption, place, ctx, None)?;
                        if reply.send(Ok(Arc::clone(&shared))).is_err() {
                            shared.send.close(CloseCode::NORMAL, "");
                        }
                        return Some(Ok(Outcome::Connected(conn)));
                    }
                }
                None
            }
        }
    }

    /// A client has proved its key: what it asks for is decided here.
    fn admit(
        &mut self,
        number: usize,
        asked: Terms,
        place: Place,
        ctx: &mut Context,
        listener: &mut Listening,
    ) -> Option<io::Result<Outcome>> {
        let Side::Server { listener: owner, .. } = &self.side else { return None };
        let owner = *owner;
        let config = Arc::clone(&listener.config);
        let (_, access) = &config.keys[number];
        let status = if asked.session != SessionId::default() {
            self.key = number;
            return match listener.sessions.find(asked.session, number) {
                Found::At(conn) => Some(Ok(Outcome::Claimed { conn, asked, early: Vec::new() })),
                Found::Past(past) => {
                    self.answer_past(&config, &past, &asked);
                    None
                }
            };
        } else if asked.offset != 0 {
            Status::OffsetOutOfRange
        } else if listener.is_full() {
            Status::TooBusy
        } else {
            Status::Ok
        };
        let mut ours = our_terms(&config);
        // Also where the session ends with its socket: a client that comes back hears that it is unknown.
        if status == Status::Ok {
            match random() {
                Ok(id) => ours.session = SessionId(id),
                Err(error) => return Some(Err(error)),
            }
        }
        self.key = number;
        self.answer(&config, status, &ours);
        if status != Status::Ok {
            return None;
        }
        if let Err(error) = self.flush() {
            return Some(Err(error));
        }
        let settings = Settings {
            we_may_send: access.receive,
            peer_may_send: access.send,
            we_may_interrupt: true,
            peer_may_interrupt: access.interrupt,
            ..settings(&config, &asked)
        };
        let role = Role::Server { unconfirmed: Some(config.handshake_timeout) };
        let resumption = resumption(&config, ours.session, role);
        let resumable = resumption.is_some();
        if resumable {
            listener.sessions.insert(ours.session, place, number);
        }
        let (mut conn, shared) = self.connect(&config, &settings, resumption, place, ctx, Some(owner))?;
        let offer = Offer::new(listener.accepted.clone(), shared, ctx.now);
        if resumable {
            conn.hold_back(offer);
        } else {
            offer.make();
        }
        Some(Ok(Outcome::Connected(conn)))
    }

    /// The Accept for a client that has proved its key; with any status but 0 it is the end.
    pub(crate) fn answer(&mut self, config: &Config, status: Status, ours: &Terms) {
        let Side::Server { handshake, .. } = &self.side else { return };
        let (key, access) = &config.keys[self.key];
        let rights = Rights { interrupt: access.interrupt, send: access.send, receive: access.receive };
        self.out.extend(handshake.accept(key, status, ours, &rights));
        self.refused = status != Status::Ok;
    }

    /// The Accept for a client whose session is over.
    pub(crate) fn answer_past(&mut self, config: &Config, past: &Past, asked: &Terms) {
        let status = match past {
            Past::Closed { received, at, tail } if (*at..at + tail.len() as u64).contains(&asked.offset) => {
                // All that it has missed is the end: it hears that, and nothing after it.
                let ours = Terms { session: asked.session, offset: *received, ..our_terms(config) };
                self.answer(config, Status::Ok, &ours);
                self.out.extend(&tail[(asked.offset - at) as usize..]);
                self.refused = true;
                return;
            }
            Past::Expired => Status::SessionExpired,
            _ => Status::SessionUnknown,
        };
        self.answer(config, status, &our_terms(config));
    }

    /// The socket, for a connection that goes on with it.
    pub(crate) fn new_socket(&mut self) -> Option<NewSocket> {
        Some(NewSocket {
            socket: self.socket.take()?,
            peer_addr: self.peer,
            rtt: self.rtt,
            unsent: std::mem::take(&mut self.out),
            early: Vec::new(),
        })
    }

    fn connect(
        &mut self,
        config: &Config,
        settings: &Settings,
        resumption: Option<Resumption>,
        place: Place,
        ctx: &Context,
        owner: Option<Place>,
    ) -> Option<(Box<Conn>, Arc<Shared>)> {
        let new = self.new_socket()?;
        let link = Link { resumption, is_client: owner.is_none(), owner, new: Some(new) };
        Some(establish(link, config, settings, place, ctx))
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}
