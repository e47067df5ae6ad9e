//! How a connection comes to its end (protocol, section 7).

use std::io;
use std::time::Duration;

use super::{Attachment, Conn, Step};
use crate::error::{CloseCode, ConnectionError};
use crate::io::env::Env;
use crate::io::leaving::Leaving;
use crate::proto::handshake::{Granted, Terms};
use crate::proto::session::{CloseWish, Farewell};

/// How long a peer that was cut off has to read why.
pub(super) const PARTING: Duration = Duration::from_secs(1);
/// How much of a stream's end a listener remembers; more is not worth it.
const TAIL: usize = 16 * 1024;

/// What a client that comes back is to be told, once its connection is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Past {
    Unknown,
    Expired,
    Closed(Box<LastWords>),
}

/// The end of a stream that was closed, for a client that may not have got it all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LastWords {
    pub(crate) asked: Terms,
    /// With how much of the client's stream was received.
    pub(crate) granted: Granted,
    pub(crate) attempt: u32,
    /// Where the tail begins in the stream to the client.
    pub(crate) at: u64,
    pub(crate) tail: Vec<u8>,
}

impl Conn {
    /// The peer's half of the socket has ended.
    pub(super) fn handle_end_of_half(&mut self) -> io::Result<()> {
        // Behind its CLOSE, or after we have cut it off, that is in order.
        if self.session.close_received() || self.session.ended().is_some() && !self.session.may_resume() {
            self.half_ended = true;
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Looks whether the end has come, and does what is to be done for it.
    pub(super) fn is_over(&mut self, env: &Env) -> bool {
        let Some(cause) = self.session.ended() else { return false };
        self.shared.end(cause);
        if self.session.is_broken() {
            return true;
        }
        if self.session.close_said() && self.ending.is_none() {
            let time = if self.session.may_resume() { self.shared.facts.linger } else { PARTING };
            self.ending = env.now.checked_add(time);
        }
        let Attachment::Attached(link) = &mut self.attachment else { return false };
        let said_all = self.session.is_done_sending() && self.replay.is_written() && link.is_clear();
        if said_all {
            link.finish();
        }
        // With the ACK of our CLOSE or without: nothing more can come.
        said_all && self.half_ended
    }

    /// Returns `true` if the time for the end is over. What was accepted and is not out yet gets no
    /// more time, but the peer is told.
    pub(super) fn is_ending_over(&mut self, env: &mut Env) -> bool {
        if self.ending.is_none_or(|at| at > env.now) {
            return false;
        }
        if self.session.close_said() || matches!(self.attachment, Attachment::Away(_)) {
            return true;
        }
        let code = self.session.ended().and_then(ConnectionError::close_code).unwrap_or(CloseCode::NORMAL);
        let reason = "not all that was sent could be delivered in time".to_owned();
        env.wishes.close = None;
        self.session.hurry(Farewell { code, reason });
        self.ending = Some(env.now + PARTING);
        false
    }

    /// The socket is lost.
    pub(super) fn lose(&mut self, cause: &ConnectionError, env: &mut Env) -> Step {
        let settled = match &self.identity {
            // A server keeps no more of it than the tail of its stream; its client may ask for that.
            super::Identity::Server(_) => self.last_words().is_some(),
            // This side comes back to hear that the peer has everything.
            _ => self.has_exchanged_closes() && self.session.is_confirmed(),
        };
        if self.may_resume() && !settled {
            self.suspend(cause, env.now);
            return self.serve_away(env);
        }
        let cause = self.session.ended().unwrap_or(cause).clone();
        self.shared.end(&cause);
        Step::Over
    }

    /// This side ends the connection by itself: the listener is gone, the key was removed, or the
    /// process ends. `false`: it is over now, since there is no socket to say so.
    pub(crate) fn close(&mut self, wish: CloseWish) -> bool {
        self.shared.send.close(wish);
        matches!(self.attachment, Attachment::Attached(_))
    }

    /// The process ends: so does the connection, and `leaving` with it.
    pub(crate) fn shut_down(&mut self, wish: CloseWish, leaving: Leaving) {
        self.leaving = Some(leaving);
        self.shared.send.close(wish);
    }

    /// Returns `true` if the peer has all that the application sent before it closed.
    pub(super) fn is_delivered(&self) -> bool {
        let nothing_was_sent = self.session.ended().is_some()
            && matches!(self.identity, super::Identity::Lazy(_))
            && self.shared.send.read(|outbound| outbound.is_flushed());
        self.session.is_delivered() || nothing_was_sent
    }

    /// What a client that comes back is to be told, once the connection is over.
    pub(crate) fn past(&self) -> Past {
        match (self.last_words(), self.shared.send.ended()) {
            (Some(words), _) => Past::Closed(Box::new(words)),
            (None, Some(ConnectionError::SessionExpired)) => Past::Expired,
            _ => Past::Unknown,
        }
    }

    fn has_exchanged_closes(&self) -> bool {
        self.session.close_received() && self.session.close_said()
    }

    /// The end of the stream that a client that has closed may ask for, if it is short.
    fn last_words(&self) -> Option<LastWords> {
        let super::Identity::Server(server) = &self.identity else { return None };
        if !self.has_exchanged_closes() {
            return None;
        }
        let (at, tail) = self.replay.tail(TAIL)?;
        let granted = Granted { offset: self.session.inbound().received(), ..server.granted };
        Some(LastWords { asked: server.asked, granted, attempt: server.attempt, at, tail })
    }
}
