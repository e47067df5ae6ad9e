//! What becomes of what each kind of source returns: the driver moves what one hands over to the
//! next.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::{Driver, Source};
use crate::address::Target;
use crate::error::{CloseCode, ConnectError, HandshakeError};
use crate::io::client_handshake::{ClientSide, Failure, Step as ClientStep};
use crate::io::command::Command;
use crate::io::conn::{Conn, Origin, Refusal, Step as ConnStep, terms};
use crate::io::dial::{Dial, Goal, Step as DialStep};
use crate::io::env::{Env, Reasons};
use crate::io::establish::{self, Guest};
use crate::io::keyring::Credential;
use crate::io::listen::Verdict;
use crate::io::place::Place;
use crate::io::server_handshake::{ServerSide, Step as ServerStep};
use crate::io::sessions::Owner;
use crate::io::strangers::Spared;
use crate::io::trace::ListenTrace;
use crate::proto::handshake::server::Proved;
use crate::proto::handshake::{Asked, Granted, Status};
use crate::proto::session::{CloseWish, Farewell};

/// Strangers of all listeners that are answered in a pass, if that takes work, about 60 µs each: so many in
/// any case, and more for as long as it takes less time than all else in the pass, but never more than that.
const ANSWERS: usize = 4;
const MOST_ANSWERS: usize = 32;

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
    fn expire(&mut self, place: Place) {
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

    // ---- strangers

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
    fn send_away(&mut self, stranger: Place, owner: Place) {
        if let Some(slot) = self.remove(stranger)
            && let Source::Server(server) = slot.source
        {
            self.turned_away(owner, HandshakeError::TooBusy, server.peer);
        }
    }

    /// A stranger is gone, or had to go.
    fn turned_away(&mut self, owner: Place, error: HandshakeError, peer: Option<SocketAddr>) {
        if let Some(listen) = self.listen(owner) {
            listen.events.turned_away(error, peer);
        }
        self.trace_listener(owner, ListenTrace::stranger_went);
    }

    /// Tells something of a listener, now or when it returns.
    fn trace_listener(
        &mut self,
        owner: Place,
        trace: impl FnOnce(&mut ListenTrace, Instant) -> Option<Instant>,
    ) {
        let now = self.env.now;
        if let Some(at) = self.listen(owner).and_then(|listen| trace(&mut listen.trace, now)) {
            self.env.timers.set_earlier(owner, at);
        }
    }

    fn stranger_goes(&mut self, place: Place, error: HandshakeError) {
        if let Some(slot) = self.remove(place)
            && let Source::Server(server) = slot.source
            && let Some(listen) = self.listen(server.listener)
            && listen.strangers.remove(place)
        {
            self.turned_away(server.listener, error, server.peer);
        }
    }

    fn after_server(&mut self, place: Place, step: ServerStep) {
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

    // ---- clients

    fn after_client(&mut self, place: Place, step: ClientStep) {
        match step {
            ClientStep::Wait => {}
            ClientStep::ServerProved => self.server_proved(place),
            ClientStep::Accepted(granted) => self.accepted(place, &granted),
            ClientStep::Failed(failure) => self.client_failed(place, failure),
        }
    }

    fn client_failed(&mut self, place: Place, failure: Failure) {
        let Some(slot) = self.remove(place) else { return };
        let Source::Client(client) = slot.source else { return };
        let dial = client.dial;
        drop(client);
        let now = self.env.now;
        let over = self.dial(dial).and_then(|dial| dial.handle_failed(Some(place), failure, now));
        match over {
            Some(refusal) => self.dial_failed(dial, refusal),
            None => self.mark(dial, Reasons::CALLED),
        }
    }

    /// A server has proved its key: the first that does is asked for a connection.
    fn server_proved(&mut self, place: Place) {
        let Some(dial_place) = self.client(place).map(|client| client.dial) else { return };
        let Some(others) = self.dial(dial_place).and_then(|dial| dial.handle_proved(place)) else {
            self.remove(place);
            return;
        };
        for other in others {
            self.remove(other);
        }
        let Some(dial) = self.dial(dial_place) else { return };
        let conn = match dial.goal {
            Goal::New(_) => None,
            Goal::Conn(conn) => Some(conn),
        };
        let asked = match conn {
            None => Some(Asked { terms: terms(&dial.home.options), ..Asked::default() }),
            Some(conn) => self.conn(conn).and_then(|conn| conn.ask()),
        };
        let Some(asked) = asked else {
            // There is nothing left to ask for.
            if let Some(conn) = conn {
                if let Some(conn) = self.conn(conn) {
                    conn.expire();
                }
                self.conn_over(conn);
            }
            return self.dial_over(dial_place);
        };
        if let Some(client) = self.client(place)
            && client.prove(&asked).is_err()
        {
            let error = HandshakeError::Disconnected;
            self.client_failed(place, Failure::Handshake { error, verified: false });
        }
    }

    fn client(&mut self, place: Place) -> Option<&mut ClientSide> {
        match self.slots.get_mut(place).map(|slot| &mut slot.source) {
            Some(Source::Client(client)) => Some(client),
            _ => None,
        }
    }

    /// The server has accepted.
    fn accepted(&mut self, place: Place, granted: &Granted) {
        let Some(slot) = self.remove(place) else { return };
        let Source::Client(client) = slot.source else { return };
        let Some(slot) = self.remove(client.dial) else { return };
        let Source::Dial(dial) = slot.source else { return };
        let mut new = client.into_socket();
        let Dial { goal, home, .. } = *dial;
        match goal {
            Goal::New(reply) => {
                let mut made = None;
                let mut registered = Ok(());
                let conn = self.insert(|place, env| {
                    registered = new.reregister(&env.registry, place);
                    let conn = establish::client(new, home, granted, place, env);
                    made = Some(conn.shared());
                    Source::Conn(Box::new(conn))
                });
                if let Err(error) = registered {
                    let _ = reply.send(Err(error.into()));
                    return self.conn_over(conn);
                }
                if let Some(shared) = made
                    && reply.send(Ok(Arc::clone(&shared))).is_err()
                {
                    let farewell = Farewell { code: CloseCode::NORMAL, reason: String::new() };
                    shared.send.close(CloseWish::Behind { farewell, linger: shared.facts.linger });
                }
                self.mark(conn, Reasons::CALLED);
            }
            Goal::Conn(place) => {
                let registered = new.reregister(&self.env.registry, place);
                let env = &mut self.env;
                let Some(Source::Conn(conn)) = self.slots.get_mut(place).map(|slot| &mut slot.source) else {
                    return;
                };
                if let Err(error) = registered {
                    let refusal = Refusal { error: error.into(), verified: false, nothing_listens: false };
                    if !conn.attempt_failed(&refusal, env) {
                        self.conn_over(place);
                    }
                    return;
                }
                let accept = |conn: &mut Conn, env: &mut Env| {
                    conn.accepted(new, granted, establish::client_settings, env)
                };
                match self.guarded(place, accept) {
                    Some(Ok(())) => self.mark(place, Reasons::CALLED),
                    Some(Err(())) => self.conn_over(place),
                    None => {}
                }
            }
        }
    }

    // ---- attempts

    fn after_dial(&mut self, place: Place, step: DialStep) {
        match step {
            DialStep::Wait => {}
            DialStep::LookUp(address) => {
                let core = Arc::clone(&self.env.core);
                // Looking a name up may block for as long as the system likes.
                let thread = std::thread::Builder::new().name("trunkline-names".into());
                let spawned = thread.spawn(move || core.push(Command::Resolved(place, address.look_up())));
                if let Err(error) = spawned {
                    self.obey(Command::Resolved(place, Err(error)));
                }
            }
            DialStep::Try { target, deadline } => self.try_target(place, &target, deadline),
            DialStep::Failed(refusal) => self.dial_failed(place, refusal),
        }
    }

    fn try_target(&mut self, dial_place: Place, target: &Target, deadline: Instant) {
        let now = self.env.now;
        let Some(dial) = self.dial(dial_place) else { return };
        let (key, timeout) = (dial.home.key.clone(), dial.home.options.handshake_timeout);
        let sealed = dial.home.options.seals(matches!(target, Target::Tcp(_)));
        let begun = ClientSide::connect(target, dial_place, key, sealed, timeout, deadline, now);
        let begun = begun.and_then(|client| {
            let mut registered = Ok(());
            let place = self.insert(|place, env| {
                let mut client = Box::new(client);
                registered = client.register(env, place);
                Source::Client(client)
            });
            if registered.is_err() {
                self.remove(place);
            }
            registered.map(|()| place)
        });
        let Some(dial) = self.dial(dial_place) else { return };
        match begun {
            Ok(place) => dial.handle_begun(place),
            Err(error) => {
                dial.handle_failed(None, Failure::Unreachable(error), now);
                self.mark(dial_place, Reasons::CALLED);
            }
        }
    }

    /// An attempt came to nothing: the one that it was for hears of it.
    fn dial_failed(&mut self, place: Place, refusal: Refusal) {
        let Some(slot) = self.remove(place) else { return };
        let Source::Dial(dial) = slot.source else { return };
        let goal = self.end_dial(*dial);
        match goal {
            Goal::New(reply) => drop(reply.send(Err(refusal.error))),
            Goal::Conn(conn) => {
                let env = &mut self.env;
                let goes_on = match self.slots.get_mut(conn).map(|slot| &mut slot.source) {
                    Some(Source::Conn(conn)) => conn.attempt_failed(&refusal, env),
                    _ => return,
                };
                if !goes_on {
                    self.conn_over(conn);
                }
            }
        }
    }

    /// An attempt is given up.
    fn dial_over(&mut self, place: Place) {
        if let Some(slot) = self.remove(place)
            && let Source::Dial(dial) = slot.source
        {
            let goal = self.end_dial(*dial);
            if let Goal::New(reply) = goal {
                let _ = reply.send(Err(ConnectError::Io(std::io::ErrorKind::Interrupted.into())));
            }
        }
    }

    /// Drops the handshakes of an attempt.
    fn end_dial(&mut self, mut dial: Dial) -> Goal {
        for racing in dial.take_racing() {
            self.remove(racing);
        }
        dial.goal
    }
}
