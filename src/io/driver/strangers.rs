//! Strangers at the listeners, from the accepted socket to the connection that they get, or the refusal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Driver, Source};
use crate::error::HandshakeError;
use crate::io::conn::Origin;
use crate::io::env::Reasons;
use crate::io::establish::Guest;
use crate::io::keyring::Credential;
use crate::io::listen::Verdict;
use crate::io::place::Place;
use crate::io::server_handshake::{ServerSide, Step as ServerStep};
use crate::io::sessions::Owner;
use crate::io::trace::ListenTrace;
use crate::proto::handshake::Status;
use crate::proto::handshake::server::Proved;

/// Strangers of all listeners that are answered in a pass, if that takes work, about 60 µs each: so many in
/// any case, and more for as long as it takes less time than all else in the pass, but never more than that.
const ANSWERS: usize = 4;
const MOST_ANSWERS: usize = 32;

impl Driver {
    pub(super) fn stranger_comes(
        &mut self,
        owner: Place,
        socket: crate::io::socket::Socket,
        peer: Option<SocketAddr>,
    ) {
        let Some(listen) = self.listen(owner) else { return };
        let (keys, takes, timeout) =
            (Arc::clone(&listen.keys), listen.takes, listen.options.handshake_timeout);
        let server = ServerSide::new(socket, peer, owner, keys, takes, timeout, self.env.now);
        let Ok(server) = server else { return };
        let mut registered = Ok(());
        let place = self.insert(|place, env| {
            let mut server = Box::new(server);
            registered = server.register(env, place);
            Source::Server(server)
        });
        if registered.is_err() {
            self.remove(place);
            return;
        }
        let leaves = self.listen(owner).and_then(|listen| listen.strangers.come(place));
        if let Some(leaves) = leaves {
            self.send_away(leaves, owner);
        }
    }

    /// A stranger has to make room.
    pub(super) fn send_away(&mut self, stranger: Place, owner: Place) {
        if let Some(slot) = self.remove(stranger)
            && let Source::Server(server) = slot.source
        {
            self.turned_away(owner, HandshakeError::TooBusy, server.peer);
        }
    }

    /// A stranger is gone, or had to go.
    pub(super) fn turned_away(&mut self, owner: Place, error: HandshakeError, peer: Option<SocketAddr>) {
        if let Some(listen) = self.listen(owner) {
            listen.events.turned_away(error, peer);
        }
        self.trace_listener(owner, ListenTrace::stranger_went);
    }

    /// Tells something of a listener, now or when it returns.
    pub(super) fn trace_listener(
        &mut self,
        owner: Place,
        trace: impl FnOnce(&mut ListenTrace, Instant) -> Option<Instant>,
    ) {
        let now = self.env.now;
        if let Some(at) = self.listen(owner).and_then(|listen| trace(&mut listen.trace, now)) {
            self.env.timers.set_earlier(owner, at);
        }
    }

    pub(super) fn stranger_goes(&mut self, place: Place, error: HandshakeError) {
        if let Some(slot) = self.remove(place)
            && let Source::Server(server) = slot.source
            && let Some(listen) = self.listen(server.listener)
            && listen.strangers.remove(place)
        {
            self.turned_away(server.listener, error, server.peer);
        }
    }

    pub(super) fn after_server(&mut self, place: Place, step: ServerStep) {
        match step {
            ServerStep::Wait => {}
            ServerStep::More => self.mark(place, Reasons::CALLED),
            ServerStep::Gone(error) => self.stranger_goes(place, error),
            ServerStep::Named => {
                let Some(owner) = self.server(place).map(|server| server.listener) else { return };
                let leaves = self.listen(owner).and_then(|listen| listen.strangers.named(place));
                if let Some(leaves) = leaves {
                    self.send_away(leaves, owner);
                }
            }
            ServerStep::Owed(number) => {
                let Some(owner) = self.server(place).map(|server| server.listener) else { return };
                let leaves = self.listen(owner).and_then(|listen| listen.strangers.owed(place, number));
                if let Some(leaves) = leaves {
                    self.send_away(leaves, owner);
                }
                if !self.owing.contains(&owner) {
                    self.owing.push_back(owner);
                }
            }
            ServerStep::Refused(error) => {
                if let Some((owner, peer)) = self.server(place).map(|server| (server.listener, server.peer)) {
                    self.turned_away(owner, error, peer);
                    self.refused(place, owner);
                }
            }
            ServerStep::Proved(proved) => self.judge(place, *proved),
        }
    }

    /// Answers some of the strangers whose answers take work, behind all that has proved its key. What is
    /// left is for the next pass.
    pub(super) fn answer_strangers(&mut self) {
        let begun = Instant::now();
        let pass = begun.saturating_duration_since(self.env.now);
        for count in 0..MOST_ANSWERS {
            if count >= ANSWERS && begun.elapsed() >= pass {
                return;
            }
            let Some(owner) = self.owing.pop_front() else { return };
            let Some(listen) = self.listen(owner) else { continue };
            let Some((place, leaves)) = listen.strangers.answer() else { continue };
            if listen.strangers.owes() {
                self.owing.push_back(owner);
            }
            if let Some(leaves) = leaves {
                self.send_away(leaves, owner);
            }
            let now = self.env.now;
            if self.server(place).is_some_and(|server| !server.answer(now)) {
                self.stranger_goes(place, HandshakeError::Malformed);
            }
        }
    }

    fn server(&mut self, place: Place) -> Option<&mut ServerSide> {
        match self.slots.get_mut(place).map(|slot| &mut slot.source) {
            Some(Source::Server(server)) => Some(server),
            _ => None,
        }
    }

    /// A client has proved its key.
    fn judge(&mut self, place: Place, mut proved: Proved<Credential>) {
        let Some(owner) = self.server(place).map(|server| server.listener) else { return };
        let Some(listen) = self.listen(owner) else {
            return self.stranger_goes(place, HandshakeError::Disconnected);
        };
        match listen.judge(&proved) {
            Verdict::New { granted, seat, replaces } => {
                let options = listen.options.clone();
                if let Some(oldest) = replaces {
                    self.expire(oldest);
                }
                let Some(server) = self.proved(place) else { return };
                let accept = proved.accept(Ok(&granted));
                let (asked, credential) = (proved.asked.terms, proved.credential.clone());
                let origin = Origin { listener: owner, tenant: credential.admit(), since: self.env.now };
                let session_owner = Owner { credential, sealed: proved.is_sealed() };
                let mut new = server.accept(&accept, proved.into_seal());
                let mut registered = Ok(());
                let conn = self.insert(|place, env| {
                    registered = new.reregister(&env.registry, place);
                    let guest = Guest { origin, asked, granted, seat };
                    let conn = guest.conn(new, &options, place, env);
                    Source::Conn(Box::new(conn))
                });
                if let Some(listen) = self.listen(owner) {
                    listen.connections += 1;
                    if !granted.session.is_none() {
                        listen.sessions.insert(granted.session, conn, session_owner);
                    }
                }
                if registered.is_err() {
                    return self.conn_over(conn);
                }
                self.mark(conn, Reasons::CALLED);
            }
            Verdict::Resume(conn) => self.resume(place, owner, conn, proved),
            Verdict::LastWords(words) => {
                let bytes = proved.accept_and_say(&words.granted, &words.tail);
                let now = self.env.now;
                if let Some(server) = self.server(place) {
                    server.say_last(&bytes, now);
                }
                self.refused(place, owner);
            }
            Verdict::Refuse(status) => self.refuse(place, owner, &mut proved, status),
        }
    }

    /// A client that has proved its key is a stranger no more.
    fn proved(&mut self, place: Place) -> Option<Box<ServerSide>> {
        let Source::Server(server) = self.remove(place)?.source else { return None };
        if let Some(listen) = self.listen(server.listener) {
            listen.strangers.remove(place);
        }
        Some(server)
    }

    fn refuse(&mut self, place: Place, owner: Place, proved: &mut Proved<Credential>, status: Status) {
        let bytes = proved.accept(Err(status));
        let now = self.env.now;
        let mut peer = None;
        if let Some(server) = self.server(place) {
            server.say_last(&bytes, now);
            peer = server.peer;
        }
        if let Some(error) = status.error()
            && let Some(listen) = self.listen(owner)
        {
            listen.events.turned_away(error, peer);
        }
        self.trace_listener(owner, ListenTrace::client_refused);
        self.refused(place, owner);
    }

    /// It reads its answer, and goes.
    fn refused(&mut self, place: Place, owner: Place) {
        let leaves = self.listen(owner).and_then(|listen| listen.strangers.refused(place));
        if let Some(leaves) = leaves {
            self.remove(leaves);
        }
        self.mark(place, Reasons::CALLED);
    }

    /// A client that has proved the key asks for its connection.
    fn resume(&mut self, place: Place, owner: Place, conn: Place, mut proved: Proved<Credential>) {
        let admitted = match self.conn(conn) {
            Some(conn) => conn.admit(&proved.asked),
            None => Err(Status::SessionUnknown),
        };
        let granted = match admitted {
            Ok(granted) => granted,
            Err(status) => return self.refuse(place, owner, &mut proved, status),
        };
        let Some(server) = self.proved(place) else { return };
        let accept = proved.accept(Ok(&granted));
        let offset = proved.asked.offset;
        let mut new = server.accept(&accept, proved.into_seal());
        if let Some(listen) = self.listen(owner) {
            listen.sessions.back(conn);
        }
        // One that cannot be registered is lost at once, and the client comes again.
        let registered = new.reregister(&self.env.registry, conn).is_ok();
        if registered {
            self.guarded(conn, |conn, env| conn.resume(new, offset, env));
        }
        self.mark(conn, Reasons::CALLED);
    }
}
