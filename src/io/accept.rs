//! Listeners, and handshakes until there is a connection.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mio::event::Source;
use mio::{Interest, Token};

use super::conn::Conn;
use super::driver::{Context, Place};
use super::resume::{Found, Resumption, Sessions, Side as Role, jittered};
use super::shared::{Attention, Facts, Shared};
use super::socket::Socket;
use super::timer::{Alarm, Timers};
use crate::config::Config;
use crate::error::{CloseCode, ConnectError, HandshakeError};
use crate::id::ChannelSet;
use crate::proto::handshake::{
    ClientHandshake, ClientStep, Rights, ServerHandshake, ServerStep, SessionId, Status, Terms,
};
use crate::proto::session::{Session, Settings};
use crate::queue::recv::Inbox;
use crate::queue::send::SendQueue;

/// Connections taken from a listener before others have their turn.
const ROUND: usize = 64;
/// When a listener that could not accept (no file descriptors left) tries again.
const RETRY: Duration = Duration::from_millis(100);

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

/// What a connection goes on with.
pub(crate) struct Resumed {
    pub(crate) conn: Place,
    pub(crate) socket: Socket,
    pub(crate) terms: Terms,
    /// What came behind the handshake.
    pub(crate) early: Vec<u8>,
}

/// A connection that nobody has accepted yet. If nobody does, because the listener is gone, the
/// peer is told.
pub(crate) struct Offered(Option<Arc<Shared>>);

impl Offered {
    pub(crate) fn accept(mut self) -> Option<Arc<Shared>> {
        self.0.take()
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.send.close(CloseCode::SHUTTING_DOWN, "nobody accepts connections here any more");
        }
    }
}

/// A listening socket.
pub(crate) struct Listening {
    socket: mio::net::TcpListener,
    pub(crate) config: Arc<Config>,
    pub(crate) accepted: Sender<Offered>,
    alarm: Alarm,
    /// Handshakes in the order in which they began.
    pending: VecDeque<Place>,
    pub(crate) connections: usize,
    pub(crate) sessions: Sessions,
}

impl Listening {
    pub(crate) fn new(socket: mio::net::TcpListener, config: Arc<Config>, accepted: Sender<Offered>) -> Self {
        Self {
            socket,
            config,
            accepted,
            alarm: Alarm::default(),
            pending: VecDeque::new(),
            connections: 0,
            sessions: Sessions::default(),
        }
    }

    pub(crate) fn register(&mut self, registry: &mio::Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token, Interest::READABLE)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes what has come; and whether there may be more.
    pub(crate) fn accept(&mut self, place: Place, ctx: &mut Context) -> (Vec<Pending>, bool) {
        self.alarm.fired(ctx.now);
        let mut arrived = Vec::new();
        while arrived.len() < ROUND {
            match self.socket.accept() {
                Ok((stream, peer)) => {
                    arrived.extend(
                        Pending::server(Socket::tcp(stream), peer, place, &self.config, ctx.now).ok(),
                    );
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (arrived, false),
                // One that hung up before it was taken says nothing about the next.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(_) => {
                    self.alarm.set(Some(ctx.now + RETRY), place, &mut ctx.timers);
                    return (arrived, false);
                }
            }
        }
        (arrived, true)
    }

    pub(crate) fn handshake_begun(&mut self, place: Place) {
        self.pending.push_back(place);
    }

    pub(crate) fn handshake_over(&mut self, place: Place) {
        if let Some(at) = self.pending.iter().position(|pending| *pending == place) {
            self.pending.remove(at);
        }
    }

    /// The oldest handshake, if there are more than may be: silent peers must not keep others out
    /// (trap 14).
    pub(crate) fn surplus(&mut self) -> Option<Place> {
        if self.pending.len() > self.config.pending_handshakes { self.pending.pop_front() } else { None }
    }

    fn is_full(&self) -> bool {
        self.connections - self.sessions.count_suspended() >= self.config.max_connections
    }
}

enum Side {
    Server { handshake: ServerHandshake, listener: Place },
    Client { handshake: Option<ClientHandshake>, attempt: Box<Attempt> },
}

/// A client that wants to connect.
pub(crate) struct Attempt {
    pub(crate) addresses: VecDeque<SocketAddr>,
    pub(crate) config: Config,
    /// All of the peer's addresses, for later attempts.
    pub(crate) all: Vec<SocketAddr>,
    pub(crate) goal: Goal,
    pub(crate) error: Option<io::Error>,
}

/// What an attempt is for.
pub(crate) enum Goal {
    /// A new connection.
    New(Sender<Result<Arc<Shared>, ConnectError>>),
    /// A connection that goes on; it hears of a failure by the driver.
    Resume { conn: Place, terms: Terms, failed: Sender<(Place, ConnectError)> },
}

impl Goal {
    fn fail(&self, error: ConnectError) {
        match self {
            Self::New(reply) => drop(reply.send(Err(error))),
            Self::Resume { conn, failed, .. } => drop(failed.send((*conn, error))),
        }
    }
}

impl Attempt {
    pub(crate) fn fail(self, error: impl Into<ConnectError>) {
        self.goal.fail(error.into());
    }

    /// The next address that a connect could be begun to.
    pub(crate) fn begin(mut self: Box<Self>, now: Instant) -> Option<Pending> {
        while let Some(address) = self.addresses.pop_front() {
            match mio::net::TcpStream::connect(address) {
                Ok(stream) => {
                    let deadline = now + self.config.connect_timeout;
                    let side = Side::Client { handshake: None, attempt: self };
                    return Some(Pending::new(Socket::tcp(stream), Some(address), side, deadline, now));
                }
                Err(error) => self.error = Some(error),
            }
        }
        let error = self
            .error
            .take()
            .unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the name stands for no address"));
        self.fail(error);
        None
    }
}

/// A socket whose peer has proved nothing yet.
pub(crate) struct Pending {
    /// Gone once it is a connection's.
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
    fn new(socket: Socket, peer: Option<SocketAddr>, side: Side, deadline: Instant, now: Instant) -> Self {
        Self {
            socket: Some(socket),
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

    fn server(
        socket: Socket,
        peer: SocketAddr,
        listener: Place,
        config: &Config,
        now: Instant,
    ) -> io::Result<Self> {
        let handshake = ServerHandshake::new(random()?);
        let side = Side::Server { handshake, listener };
        Ok(Self::new(socket, Some(peer), side, now + config.handshake_timeout, now))
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

    /// The socket failed, or the time is up.
    pub(crate) fn failed(self, error: io::Error) -> Option<Box<Attempt>> {
        match self.side {
            Side::Server { .. } => None,
            // Nobody there: perhaps at the name's next address.
            Side::Client { handshake: None, mut attempt } => {
                attempt.error = Some(error);
                Some(attempt)
            }
            Side::Client { attempt, .. } => {
                attempt.fail(match error.kind() {
                    io::ErrorKind::TimedOut => HandshakeError::TimedOut,
                    _ => HandshakeError::Disconnected,
                });
                None
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
                None => return Ok(Outcome::Over),
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
                        Outcome::Resumed(resumed) => resumed.early = input.to_vec(),
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
                            let socket = self.socket.take()?;
                            return Some(Ok(Outcome::Resumed(Box::new(Resumed {
                                conn,
                                socket,
                                terms,
                                early: Vec::new(),
                            }))));
                        }
                        let settings = Settings {
                            we_may_send: rights.send,
                            peer_may_send: rights.receive,
                            we_may_interrupt: rights.interrupt,
                            peer_may_interrupt: true,
                            ..settings(&attempt.config, &terms)
                        };
                        let config = attempt.config.clone();
                        let Goal::New(reply) = &attempt.goal else { return None };
                        let reply = reply.clone();
                        // The address that answered first, then the others.
                        let mut addresses = attempt.all.clone();
                        let peer = self.peer;
                        addresses.sort_by_key(|address| Some(*address) != peer);
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
            match listener.sessions.find(asked.session, number) {
                Found::At(conn) => {
                    self.key = number;
                    return Some(Ok(Outcome::Claimed { conn, asked, early: Vec::new() }));
                }
                Found::Expired => Status::SessionExpired,
                Found::Unknown => Status::SessionUnknown,
            }
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
        let role = Role::Server { unconfirmed: config.handshake_timeout };
        let resumption = resumption(&config, ours.session, role);
        if resumption.is_some() {
            listener.sessions.insert(ours.session, place, number);
        }
        let (conn, shared) = self.connect(&config, &settings, resumption, place, ctx, Some(owner))?;
        // Gone in the meantime: then what comes back is dropped, which closes it.
        let _ = listener.accepted.send(Offered(Some(shared)));
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

    /// The socket, for a connection that goes on with it, and what it has not taken of the
    /// handshake's end.
    pub(crate) fn into_socket(mut self) -> Option<(Socket, Vec<u8>)> {
        Some((self.socket.take()?, self.out))
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
        let socket = self.socket.take()?;
        let link = Link {
            local_addr: socket.local_addr(),
            peer_addr: self.peer,
            rtt: self.rtt,
            unsent: std::mem::take(&mut self.out),
            resumption,
            owner,
        };
        Some(establish(link, socket, config, settings, place, ctx))
    }
}

/// What is known of a socket that becomes a connection's.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) local_addr: Option<SocketAddr>,
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) rtt: Option<Duration>,
    /// The end of the handshake, if the socket did not take it all.
    pub(crate) unsent: Vec<u8>,
    pub(crate) resumption: Option<Resumption>,
    pub(crate) owner: Option<Place>,
}

/// The session of a new connection, what its handles get, and what runs it.
pub(crate) fn establish(
    link: Link,
    socket: Socket,
    config: &Config,
    settings: &Settings,
    place: Place,
    ctx: &Context,
) -> (Box<Conn>, Arc<Shared>) {
    let settings = &Settings { resumable: link.resumption.is_some(), ..settings.clone() };
    let (mut session, outbound) = Session::new(ctx.now, settings);
    if let Some(Resumption { side: Role::Client { .. }, .. }) = &link.resumption {
        session.announce(ctx.now);
    }
    if let Some(rtt) = link.rtt {
        session.set_rtt(rtt);
    }
    let attention = Arc::new(Attention { core: Arc::clone(&ctx.core), place });
    let shared = Arc::new(Shared {
        core: Arc::clone(&ctx.core),
        place,
        facts: Facts {
            local_addr: link.local_addr,
            peer_addr: link.peer_addr,
            may_send: settings.we_may_send,
            may_receive: settings.peer_may_send,
            may_interrupt: settings.we_may_interrupt,
            window: settings.our_window,
            linger: config.linger,
        },
        send: SendQueue::new(outbound, attention.clone()),
        inbox: Inbox::new(attention),
        rtt: AtomicU64::new(0),
        suspended: AtomicBool::new(false),
        ghost: AtomicBool::new(false),
        last_stats: parking_lot::Mutex::new(None),
    });
    let conn = Conn::new(
        socket,
        session,
        Arc::clone(&shared),
        link.resumption,
        config.replay_limit,
        link.owner,
        link.unsent,
    );
    (Box::new(conn), shared)
}

/// How a connection goes on when its socket is lost, if both sides want that.
fn resumption(config: &Config, session: SessionId, side: Role) -> Option<Resumption> {
    let wanted = !config.resume_grace.is_zero() && session != SessionId::default();
    wanted.then_some(Resumption { session, grace: config.resume_grace, side })
}

/// Our grants, and what the peer granted in its terms; the rights are the caller's to fill in.
pub(crate) fn settings(config: &Config, peer: &Terms) -> Settings {
    Settings {
        our_window: config.window,
        our_max_message: config.max_message,
        peer_window: peer.window,
        peer_max_message: peer.max_message,
        we_may_send: ChannelSet::EMPTY,
        peer_may_send: ChannelSet::EMPTY,
        we_may_interrupt: false,
        peer_may_interrupt: false,
        send_queue: config.send_queue as usize,
        heartbeat: config.heartbeat.map(|(interval, timeout)| (jittered(interval), timeout)),
        resumable: false,
    }
}

/// What this side tells of itself when it begins a session.
pub(crate) fn our_terms(config: &Config) -> Terms {
    Terms { session: SessionId::default(), offset: 0, window: config.window, max_message: config.max_message }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}
