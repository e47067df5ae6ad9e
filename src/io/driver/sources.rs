//! What becomes of what each kind of source returns: the driver moves what one hands over to the
//! next. Strangers and attempts have files of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Driver, Source};
use crate::error::HandshakeError;
use crate::io::conn::{Conn, Step as ConnStep};
use crate::io::dial::{Dial, Goal};
use crate::io::env::{Env, Reasons};
use crate::io::place::Place;
use crate::io::strangers::Spared;
use crate::io::trace::ListenTrace;

impl Driver {
    /// Serves a source, and does what it wants.
    pub(super) fn serve(&mut self, place: Place, reasons: Reasons) {
        let Some(slot) = self.slots.get_mut(place) else { return };
        match &mut slot.source {
            Source::Conn(conn) => {
                let step = conn.serve(reasons, &mut self.env);
                self.after_conn(place, step);
            }
            Source::Listen(listen) => {
                let arrivals = listen.serve(place, &mut self.env);
                for (socket, peer) in arrivals.sockets {
                    self.stranger_comes(place, socket, peer);
                }
                for error in arrivals.foreign {
                    self.turned_away(place, error, None);
                }
                if arrivals.full.is_some()
                    && let Some(spared) = self.listen(place).and_then(|listen| listen.strangers.spare())
                {
                    match spared {
                        Spared::Stranger(spared) => self.send_away(spared, place),
                        Spared::Refused(spared) => drop(self.remove(spared)),
                    }
                    self.mark(place, Reasons::CALLED);
                }
                if arrivals.more {
                    self.mark(place, Reasons::CALLED);
                }
                if let Some(kind) = arrivals.full
                    && let Some(listen) = self.listen(place)
                {
                    listen.events.accept_failed(kind);
                }
                self.trace_listener(place, ListenTrace::sum_up);
            }
            Source::Server(server) => {
                let step = server.serve(reasons, place, &mut self.env);
                self.after_server(place, step);
            }
            Source::Client(client) => {
                let step = client.serve(reasons, place, &mut self.env);
                self.after_client(place, step);
            }
            Source::Dial(dial) => {
                let step = dial.serve(reasons, place, &mut self.env);
                self.after_dial(place, step);
            }
        }
    }

    /// A source has panicked, or is of no use any more.
    pub(super) fn source_over(&mut self, place: Place) {
        match self.slots.get_mut(place).map(|slot| &slot.source) {
            Some(Source::Conn(_)) => self.conn_over(place),
            Some(Source::Server(_)) => self.stranger_goes(place, HandshakeError::Disconnected),
            Some(Source::Dial(_)) => self.dial_over(place),
            Some(Source::Client(_) | Source::Listen(_)) => drop(self.remove(place)),
            None => {}
        }
    }

    // ---- connections

    pub(super) fn after_conn(&mut self, place: Place, step: ConnStep) {
        match step {
            ConnStep::Wait => {}
            ConnStep::More { pressed } => {
                self.pressed |= pressed;
                self.mark(place, Reasons::CALLED);
            }
            ConnStep::Dial(home) => {
                let dial = Dial::new(*home, Goal::Conn(place), self.env.now);
                let dial = self.insert(|_, _| Source::Dial(Box::new(dial)));
                self.mark(dial, Reasons::CALLED);
            }
            ConnStep::Away { held } => self.make_room(place, held),
            ConnStep::Over => self.conn_over(place),
        }
    }

    /// A session of a listener's is without a socket: those that have been for longest make room.
    fn make_room(&mut self, place: Place, held: usize) {
        let Some(owner) = self.conn(place).and_then(|conn| conn.listener()) else { return };
        let Some(listen) = self.listen(owner) else { return };
        listen.sessions.away(place, held);
        let (sessions, bytes) = (listen.options.max_suspended, listen.options.suspended_bytes);
        while let Some(oldest) =
            self.listen(owner).and_then(|listen| listen.sessions.surplus(sessions, bytes))
        {
            self.expire(oldest);
        }
    }

    /// A session without a socket has to go.
    pub(super) fn expire(&mut self, place: Place) {
        self.guarded(place, |conn, _| conn.expire());
        self.conn_over(place);
    }

    pub(super) fn conn_over(&mut self, place: Place) {
        let Some(slot) = self.remove(place) else { return };
        let Source::Conn(conn) = slot.source else { return };
        if let Some(listen) = conn.listener().and_then(|owner| self.listen(owner)) {
            listen.connections -= 1;
            if let Some(session) = conn.session_id() {
                listen.sessions.remove(session, place, conn.past());
            }
        }
        // With it goes what it had not sent, which may be the user's memory: see `serve_marked`.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(conn)));
    }

    /// Lets something act on a connection while another source is served. A panic ends the connection
    /// and not that source: see `serve_marked`. `None`: there is none, or not any more.
    pub(super) fn guarded<R>(
        &mut self,
        place: Place,
        act: impl FnOnce(&mut Conn, &mut Env) -> R,
    ) -> Option<R> {
        let Self { slots, env, .. } = self;
        let Some(Source::Conn(conn)) = slots.get_mut(place).map(|slot| &mut slot.source) else { return None };
        match catch_unwind(AssertUnwindSafe(|| act(conn, env))) {
            Ok(done) => Some(done),
            Err(_) => {
                self.env.recover();
                self.conn_over(place);
                None
            }
        }
    }
}
