//! Attempts of clients: what was dialed, the handshake, and the connection that comes of it.

use std::sync::Arc;
use std::time::Instant;

use super::{Driver, Source};
use crate::address::Target;
use crate::error::{CloseCode, ConnectError, HandshakeError};
use crate::io::client_handshake::{ClientSide, Failure, Step as ClientStep};
use crate::io::command::Command;
use crate::io::conn::{Conn, Refusal, terms};
use crate::io::dial::{Dial, Goal, Step as DialStep};
use crate::io::env::{Env, Reasons};
use crate::io::establish::{self};
use crate::io::place::Place;
use crate::proto::handshake::{Asked, Granted};
use crate::proto::session::{CloseWish, Farewell};

impl Driver {
    pub(super) fn after_client(&mut self, place: Place, step: ClientStep) {
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

    pub(super) fn after_dial(&mut self, place: Place, step: DialStep) {
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
    pub(super) fn dial_over(&mut self, place: Place) {
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
