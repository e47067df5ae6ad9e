//! By what the two sides of a connection know it again, when its socket was lost.

use std::sync::Arc;

use crate::address::Address;
use crate::io::accepted::Accepted;
use crate::io::shared::Shared;
use crate::key::Key;
use crate::options::Options;
use crate::proto::handshake::{Asked, Grace, Granted, SessionId, Terms};
use crate::queue::accept::Seat;

pub(crate) enum Identity {
    /// It ends with its socket.
    Plain,
    /// A client whose server was never there.
    Lazy(Box<Home>),
    Client(Box<ClientId>),
    Server(Box<ServerId>),
}

/// Where a client finds its server.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) address: Address,
    pub(crate) key: Key,
    pub(crate) options: Options,
}

/// A client's session.
pub(crate) struct ClientId {
    pub(crate) home: Home,
    /// What the server granted at the beginning.
    pub(crate) granted: Granted,
    /// The number of the last attempt to come back.
    pub(crate) attempt: u32,
}

/// A session of a listener.
pub(crate) struct ServerId {
    /// What the client asked for, and what it was granted, at the beginning.
    pub(crate) asked: Terms,
    pub(crate) granted: Granted,
    /// The highest attempt that was accepted.
    pub(crate) attempt: u32,
    pub(crate) presence: Presence,
}

/// Whether the client is known to know of its session.
pub(crate) enum Presence {
    /// Nothing has come from it since it was granted the session: the Accept may have been lost, so
    /// the connection cannot be accepted yet.
    Unconfirmed(Seat<Accepted>),
    Known,
}

impl Identity {
    /// Returns `true` if the connection can go on with another socket.
    pub(crate) fn is_resumable(&self) -> bool {
        !matches!(self, Self::Plain)
    }

    /// The session's name, on a listener's side.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match self {
            Self::Server(server) => Some(server.granted.session),
            _ => None,
        }
    }

    /// Something has come from the client: the connection can be accepted.
    pub(crate) fn confirm(&mut self, shared: &Arc<Shared>) {
        if let Self::Server(server) = self
            && let Presence::Unconfirmed(seat) = std::mem::replace(&mut server.presence, Presence::Known)
        {
            // If the listener is gone, what comes back is dropped, which closes it.
            let _ = seat.offer(Accepted::new(Arc::clone(shared)));
        }
    }
}

impl ClientId {
    /// What the next attempt asks for; `None` when the numbers are used up.
    pub(crate) fn ask(&mut self, received: u64) -> Option<Asked> {
        self.attempt = self.attempt.checked_add(1)?;
        let terms = terms(&self.home.options);
        Some(Asked { session: self.granted.session, offset: received, terms, attempt: self.attempt })
    }
}

/// What this side grants.
pub(crate) fn terms(options: &Options) -> Terms {
    Terms {
        window: options.window,
        max_message: options.max_message,
        grace: Grace::new(options.resume_grace),
    }
}
