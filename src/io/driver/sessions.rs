//! Connections that outlive their socket, in the slots: which of them make room, and how a client's
//! new socket finds its connection.

use std::sync::Arc;

use super::{Driver, Place, Source, Why};
use crate::error::HandshakeError;
use crate::io::conn::{Conn, Next};
use crate::io::establish::our_terms;
use crate::io::pending::{Pending, Resumed};
use crate::proto::handshake::{Status, Terms};

impl Driver {
    /// A session of a listener's is without a socket: those that have been for longest make room.
    pub(super) fn make_room(&mut self, owner: Place, place: Place, held: usize) {
        let Some(Source::Listening(mut listening)) = self.take(owner) else { return };
        listening.sessions.suspended(place, held);
        let (sessions, bytes) = (listening.config.max_suspended, listening.config.suspended_bytes);
        let mut surplus = listening.sessions.surplus(sessions, bytes);
        self.put(owner, Source::Listening(listening));
        while let Some(oldest) = surplus.take() {
            if let Some(Source::Conn(mut conn)) = self.take(oldest) {
                conn.expire();
                self.conn_over(oldest, conn);
            }
            if let Some(Source::Listening(mut listening)) = self.take(owner) {
                listening.sessions.resumed(oldest);
                surplus = listening.sessions.surplus(sessions, bytes);
                self.put(owner, Source::Listening(listening));
            }
        }
    }

    /// A client's connection goes on.
    pub(super) fn resume(&mut self, resumed: Resumed) {
        let Resumed { conn: place, terms, rights, mut new } = resumed;
        let Some(source) = self.take(place) else { return };
        let Source::Conn(mut conn) = source else { return self.put(place, source) };
        if let Err(error) = new.socket.reregister(self.poll.registry(), place.token()) {
            let next = conn.attempt_failed(&error.into(), self.ctx.now);
            return self.after_attempt(place, conn, next);
        }
        if conn.is_lazy() {
            conn.meet(new, &terms, &rights, &mut self.ctx);
            self.serve_conn(place, conn, Why::Called);
        } else if conn.session_id() == Some(terms.session) && conn.resume(new, terms.offset, &mut self.ctx) {
            self.serve_conn(place, conn, Why::Called);
        } else {
            let error = HandshakeError::OffsetOutOfRange.into();
            let next = conn.attempt_failed(&error, self.ctx.now);
            self.after_attempt(place, conn, next);
        }
    }

    /// A client has proved the key and asks for its connection.
    pub(super) fn claim(
        &mut self,
        owner: Place,
        place: Place,
        mut pending: Box<Pending>,
        wanted: Place,
        asked: Terms,
        early: Vec<u8>,
    ) {
        let Some(Source::Listening(mut listening)) = self.take(owner) else { return self.release(place) };
        let config = Arc::clone(&listening.config);
        let (mut conn, admitted) = match self.take(wanted) {
            Some(Source::Conn(mut conn)) => {
                let admitted = conn.admit(asked.offset);
                (Some(conn), admitted)
            }
            other => {
                if let Some(other) = other {
                    self.put(wanted, other);
                }
                (None, Err(Status::SessionUnknown))
            }
        };
        let (status, offset) = match admitted {
            Ok(received) => (Status::Ok, received),
            Err(status) => (status, 0),
        };
        pending.answer(&config, status, &Terms { session: asked.session, offset, ..our_terms(&config) });
        if status == Status::Ok
            && let Some(mut conn) = conn.take()
        {
            listening.sessions.resumed(wanted);
            self.put(owner, Source::Listening(listening));
            self.release(place);
            if let Some(mut new) = pending.new_socket()
                && new.socket.reregister(self.poll.registry(), wanted.token()).is_ok()
            {
                new.early = early;
                conn.resume(new, asked.offset, &mut self.ctx);
            }
            return self.serve_conn(wanted, conn, Why::Called);
        }
        if let Some(conn) = conn {
            self.put(wanted, Source::Conn(conn));
        }
        listening.handshake_begun(place);
        self.put(owner, Source::Listening(listening));
        // It says so, and goes.
        self.serve_pending(place, pending, Why::Called);
    }

    pub(super) fn hear_of_failures(&mut self) {
        while let Ok((place, error)) = self.failed.1.try_recv() {
            match self.take(place) {
                Some(Source::Conn(mut conn)) => {
                    let next = conn.attempt_failed(&error, self.ctx.now);
                    self.after_attempt(place, conn, next);
                }
                Some(other) => self.put(place, other),
                None => {}
            }
        }
    }

    pub(super) fn after_attempt(&mut self, place: Place, conn: Box<Conn>, next: Next) {
        if next == Next::Done {
            self.conn_over(place, conn);
        } else {
            self.serve_conn(place, conn, Why::Called);
        }
    }
}
