//! A listening socket, and the verdict on each client that has proved its key.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

use parking_lot::RwLock;

use super::accepted::Accepted;
use super::conn::{LastWords, terms};
use super::env::{Env, random};
use super::keyring::{Credential, Keyring};
use super::place::Place;
use super::sessions::{Found, Owner, Sessions};
use super::socket::{Acceptor, Socket};
use super::strangers::Strangers;
use super::trace::ListenTrace;
use crate::access::Access;
use crate::address::Address;
use crate::error::HandshakeError;
use crate::key::Key;
#[cfg(unix)]
use crate::listener_event::ListenerEvent;
use crate::options::Options;
use crate::proto::handshake::server::Proved;
use crate::proto::handshake::{Grace, Granted, Rights, SessionId, Status, Takes};
use crate::queue::accept::{AcceptQueue, Seat};
use crate::queue::listener_events::ListenerEvents;

/// Connections taken from a listener before others have their turn.
const ROUND: usize = 64;
/// When a listener that could not accept (no file descriptors left) tries again.
const RETRY: Duration = Duration::from_millis(100);

pub(crate) struct Listen {
    socket: Acceptor,
    /// Where clients find it.
    pub(crate) address: Address,
    /// When to look whether the file of a Unix socket is still there.
    #[cfg(unix)]
    look: Option<Instant>,
    pub(crate) takes: Takes,
    pub(crate) options: Options,
    pub(crate) accepted: Arc<AcceptQueue<Accepted>>,
    /// Read by the handshakes; no other lock is taken while it is held.
    pub(crate) keys: Arc<RwLock<Keyring>>,
    pub(crate) strangers: Strangers,
    pub(crate) sessions: Sessions,
    /// Connections that came by this listener and are not over.
    pub(crate) connections: usize,
    pub(crate) events: Arc<ListenerEvents>,
    pub(crate) trace: ListenTrace,
}

/// How often it is looked whether the file of a Unix socket is still there: programs that clean up temporary
/// directories remove it.
#[cfg(unix)]
const LOOK: Duration = Duration::from_secs(3);

/// What a pass over a listener came to.
pub(crate) struct Arrivals {
    pub(crate) sockets: Vec<(Socket, Option<SocketAddr>)>,
    /// Why processes that came to a Unix socket were hung up on.
    pub(crate) foreign: Vec<HandshakeError>,
    /// There may be more.
    pub(crate) more: bool,
    /// The system has no room for another, for this reason: a stranger has to leave.
    pub(crate) full: Option<io::ErrorKind>,
}

/// What becomes of a client that has proved its key.
pub(crate) enum Verdict {
    /// A new connection.
    New {
        granted: Granted,
        seat: Seat<Accepted>,
        /// The session without a socket that makes room for it.
        replaces: Option<Place>,
    },
    /// It asks for the session that is there.
    Resume(Place),
    /// Its session is closed, and it may not have got the end.
    LastWords(Box<LastWords>),
    Refuse(Status),
}

impl Listen {
    pub(crate) fn new(
        socket: Acceptor,
        address: Address,
        takes: Takes,
        keys: Vec<(Key, Access)>,
        options: Options,
        accepted: Arc<AcceptQueue<Accepted>>,
        events: Arc<ListenerEvents>,
    ) -> Self {
        Self {
            socket,
            address,
            #[cfg(unix)]
            look: None,
            takes,
            strangers: Strangers::new(options.pending_handshakes.min(room_for_strangers())),
            options,
            accepted,
            keys: Arc::new(RwLock::new(Keyring::new(keys))),
            sessions: Sessions::default(),
            connections: 0,
            events,
            trace: ListenTrace::new(),
        }
    }

    pub(crate) fn register(&mut self, env: &Env, place: Place) -> io::Result<()> {
        self.socket.register(&env.registry, place.token())
    }

    /// Takes what has come.
    pub(crate) fn serve(&mut self, place: Place, env: &mut Env) -> Arrivals {
        let arrivals = self.accept(place, env);
        #[cfg(unix)]
        if !arrivals.more && matches!(self.socket, Acceptor::Unix { .. }) {
            self.keep_file(place, env);
        }
        arrivals
    }

    /// Looks now and then whether the file of a Unix socket is still there, and makes it again. To be called
    /// when all that came to the old one was taken.
    #[cfg(unix)]
    fn keep_file(&mut self, place: Place, env: &mut Env) {
        if self.look.is_some_and(|at| at <= env.now)
            && let Acceptor::Unix { socket, file } = &mut self.socket
            && let Some(again) = file.keep()
        {
            let again = again.map_err(io::Error::from).and_then(|listener| {
                *socket = mio::net::UnixListener::from_std(listener);
                mio::event::Source::register(socket, &env.registry, place.token(), mio::Interest::READABLE)
            });
            self.trace.file_gone(again.is_ok());
            self.events.tell(&ListenerEvent::FileRemoved { again: again.is_ok() });
        }
        let look = self.look.filter(|at| *at > env.now).unwrap_or(env.now + LOOK);
        self.look = Some(look);
        env.timers.set_earlier(place, look);
    }

    fn accept(&mut self, place: Place, env: &mut Env) -> Arrivals {
        let mut arrivals = Arrivals { sockets: Vec::new(), foreign: Vec::new(), more: false, full: None };
        for _ in 0..ROUND {
            match self.socket.accept() {
                Ok((socket, peer)) => match socket.check_user() {
                    Ok(()) => arrivals.sockets.push((socket, peer)),
                    Err(error) => arrivals.foreign.push(error),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return arrivals,
                // One that hung up before it was taken says nothing about the next.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    arrivals.full = Some(error.kind());
                    env.timers.set(place, Some(env.now + RETRY));
                    return arrivals;
                }
            }
        }
        arrivals.more = true;
        arrivals
    }

    /// Decides what becomes of a client.
    pub(crate) fn judge(&mut self, proved: &Proved<Credential>) -> Verdict {
        let sealed = proved.is_sealed();
        let Proved { credential, asked, .. } = proved;
        if !self.keys.read().contains(credential) {
            // It was removed while the client proved it.
            return Verdict::Refuse(Status::NotAuthorised);
        }
        if asked.session.is_none() {
            return self.judge_new(credential, asked.terms.grace);
        }
        let owner = Owner { credential: credential.clone(), sealed };
        match self.sessions.find(asked.session, &owner) {
            Found::At(place) => Verdict::Resume(place),
            Found::Closed(mut words) => {
                let end = words.at + words.tail.len() as u64;
                let late = asked.attempt <= words.attempt;
                if late || asked.terms != words.asked || !(words.at..=end).contains(&asked.offset) {
                    return Verdict::Refuse(Status::BadTerms);
                }
                self.sessions.told(asked.session, asked.attempt);
                words.tail.drain(..(asked.offset - words.at) as usize);
                Verdict::LastWords(words)
            }
            Found::Expired => Verdict::Refuse(Status::SessionExpired),
            Found::Unknown => Verdict::Refuse(Status::SessionUnknown),
        }
    }

    fn judge_new(&mut self, credential: &Credential, grace: Grace) -> Verdict {
        let attached = self.connections - self.sessions.count_away();
        if attached >= self.options.max_connections {
            return Verdict::Refuse(Status::TooBusy);
        }
        let replaces = credential.is_used_up().then(|| self.sessions.oldest_away(credential));
        if replaces == Some(None) {
            return Verdict::Refuse(Status::TooBusy);
        }
        let Some(seat) = self.accepted.seat() else { return Verdict::Refuse(Status::TooBusy) };
        let mut terms = terms(&self.options);
        terms.grace = terms.grace.min(grace);
        let session = if terms.grace.is_none() { Ok(SessionId::NONE) } else { random().map(SessionId) };
        let Ok(session) = session else { return Verdict::Refuse(Status::TooBusy) };
        let access = credential.access();
        let rights = Rights { interrupt: access.interrupt, send: access.send, receive: access.receive };
        let granted = Granted { session, offset: 0, terms, rights };
        Verdict::New { granted, seat, replaces: replaces.flatten() }
    }
}

/// However a listener ends, no thread waits for it after.
impl Drop for Listen {
    fn drop(&mut self) {
        drop(self.accepted.close());
        self.events.close();
    }
}

/// A stranger holds a file descriptor, and there must be some left for those that are none.
fn room_for_strangers() -> usize {
    #[cfg(unix)]
    {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        limit.map_or(usize::MAX, |limit| (limit / 4).max(16).try_into().unwrap_or(usize::MAX))
    }
    #[cfg(not(unix))]
    {
        usize::MAX
    }
}
