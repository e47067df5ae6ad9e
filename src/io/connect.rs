//! A client's way to a connection.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::driver::Place;
use super::pending::{Pending, Side};
use super::resume::Backoff;
use super::shared::Shared;
use super::socket::Socket;
use crate::config::Config;
use crate::error::{ConnectError, HandshakeError};
use crate::proto::handshake::Terms;

/// How often a new connection is tried where the server hangs up before it has proved the key:
/// the link may have been cut, and it may be no trunkline server at all.
const UNPROVED: u32 = 3;

/// A client that wants to connect.
pub(crate) struct Attempt {
    /// Those that are still to be tried.
    addresses: VecDeque<SocketAddr>,
    pub(super) config: Config,
    /// All of the peer's addresses, for later attempts.
    pub(super) all: Vec<SocketAddr>,
    pub(super) goal: Goal,
    error: Option<ConnectError>,
    again: Again,
}

/// What an attempt is for.
pub(crate) enum Goal {
    /// A new connection.
    New(Sender<Result<Arc<Shared>, ConnectError>>),
    /// A connection that goes on; it hears of a failure by the driver.
    Resume { conn: Place, terms: Terms, failed: Sender<(Place, ConnectError)> },
}

impl Goal {
    pub(super) fn fail(&self, error: ConnectError) {
        match self {
            Self::New(reply) => drop(reply.send(Err(error))),
            Self::Resume { conn, failed, .. } => drop(failed.send((*conn, error))),
        }
    }
}

/// How a new connection is tried again when its handshake is cut. (One that goes on has its
/// outage for that.)
#[derive(Default)]
struct Again {
    backoff: Backoff,
    /// Not before this.
    at: Option<Instant>,
    /// Not after this; none before the first handshake is cut.
    until: Option<Instant>,
    begun: Option<Instant>,
    unproved: u32,
}

impl Attempt {
    pub(crate) fn new(all: Vec<SocketAddr>, config: Config, goal: Goal) -> Box<Self> {
        let addresses = all.iter().copied().collect();
        Box::new(Self { addresses, config, all, goal, error: None, again: Again::default() })
    }

    /// The next address that a connect could be begun to, or the wait for the next attempt.
    pub(crate) fn begin(mut self: Box<Self>, now: Instant) -> Option<Pending> {
        self.again.begun.get_or_insert(now);
        loop {
            if let Some(at) = self.again.at.filter(|at| *at > now) {
                let side = Side::Client { handshake: None, attempt: self };
                return Some(Pending::new(None, None, side, at, now));
            }
            while let Some(address) = self.addresses.pop_front() {
                match mio::net::TcpStream::connect(address) {
                    Ok(stream) => {
                        let deadline = now + self.config.connect_timeout;
                        let deadline = self.again.until.map_or(deadline, |until| deadline.min(until));
                        let side = Side::Client { handshake: None, attempt: self };
                        return Some(Pending::new(
                            Some(Socket::tcp(stream)),
                            Some(address),
                            side,
                            deadline,
                            now,
                        ));
                    }
                    Err(error) => self.error = Some(error.into()),
                }
            }
            // Nobody is there. Where somebody was before, it may be the link.
            if self.again.until.is_none() {
                self.fail();
                return None;
            }
            self = self.retry(false, now)?;
        }
    }

    /// The connect failed, at the address that was tried last.
    pub(super) fn unreachable(&mut self, error: io::Error) {
        self.error = Some(error.into());
    }

    /// The socket was lost in the middle of the handshake, after the server had `proved` the key or
    /// before; the attempt, if it goes on.
    pub(super) fn cut(
        mut self: Box<Self>,
        error: HandshakeError,
        proved: bool,
        now: Instant,
    ) -> Option<Box<Self>> {
        self.error = Some(error.into());
        let begun = *self.again.begun.get_or_insert(now);
        let goes_on = match (&self.goal, error) {
            (Goal::Resume { .. }, _) => false,
            // Who says nothing for the whole time will not be asked again, unless it is known.
            (Goal::New(_), HandshakeError::TimedOut) => proved,
            (Goal::New(_), _) => true,
        };
        if !goes_on {
            self.fail();
            return None;
        }
        self.again.until = begun.checked_add(self.config.connect_timeout);
        self.retry(proved, now)
    }

    fn retry(mut self: Box<Self>, proved: bool, now: Instant) -> Option<Box<Self>> {
        self.again.unproved = if proved { 0 } else { self.again.unproved + 1 };
        // The first time at once.
        let at = if self.again.at.is_none() { now } else { now + self.again.backoff.pause() };
        if self.again.unproved >= UNPROVED || self.again.until.is_none_or(|until| until <= at) {
            self.fail();
            return None;
        }
        self.again.at = Some(at);
        self.addresses = self.all.iter().copied().collect();
        Some(self)
    }

    fn fail(mut self: Box<Self>) {
        let error = self.error.take().unwrap_or_else(|| no_address().into());
        self.goal.fail(error);
    }
}

pub(crate) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the name stands for no address")
}
