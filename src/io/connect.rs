//! A client's way to a connection.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::driver::Place;
use super::pending::{Pending, Side};
use super::shared::Shared;
use super::socket::Socket;
use crate::config::Config;
use crate::error::ConnectError;
use crate::proto::handshake::Terms;

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
    pub(super) fn fail(&self, error: ConnectError) {
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
