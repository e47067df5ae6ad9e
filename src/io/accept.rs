//! Listeners.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mio::event::Source;
use mio::{Interest, Token};

use super::driver::{Context, Place};
use super::pending::Pending;
use super::resume::Sessions;
use super::shared::Shared;
use super::socket::Socket;
use super::timer::Alarm;
use crate::config::Config;
use crate::error::CloseCode;

/// Connections taken from a listener before others have their turn.
const ROUND: usize = 64;
/// When a listener that could not accept (no file descriptors left) tries again.
const RETRY: Duration = Duration::from_millis(100);
/// How long a new client may say nothing before it is accepted all the same. One of this library
/// says something at once; a link that is cut is mostly known by then.
const SILENT: Duration = Duration::from_millis(200);

/// A connection that nobody has accepted yet. If nobody does, because the listener is gone, the
/// peer is told.
pub(crate) struct Offered(pub(super) Option<Arc<Shared>>);

impl Offered {
    pub(crate) fn accept(mut self) -> Option<Arc<Shared>> {
        self.0.take()
    }
}

/// An [`Offered`] that is held back until it is certain that the client knows of its connection: a
/// handshake that was cut before the client had the Accept must not be accepted.
pub(crate) struct Offer {
    to: Sender<Offered>,
    offered: Offered,
    /// Who says nothing, and is still there by then, is a client that has nothing to say.
    pub(super) at: Instant,
}

impl Offer {
    pub(super) fn new(to: Sender<Offered>, shared: Arc<Shared>, now: Instant) -> Self {
        Self { to, offered: Offered(Some(shared)), at: now + SILENT }
    }

    pub(super) fn make(self) {
        // Should the listener be gone, what comes back is dropped, which closes it.
        let _ = self.to.send(self.offered);
    }

    /// There is nothing left to be accepted.
    pub(super) fn withdraw(self) {
        let _ = self.offered.accept();
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

    pub(super) fn is_full(&self) -> bool {
        self.connections - self.sessions.count_suspended() >= self.config.max_connections
    }
}
