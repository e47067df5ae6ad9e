//! What other threads ask for, besides attention for a connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::{Driver, Source};
use crate::error::CloseCode;
use crate::io::command::{Adopt, Command, Connect, ConnectLazily, Join, Listen as ListenRequest};
use crate::io::conn::{Conn, Home};
use crate::io::dial::{Dial, Goal};
use crate::io::env::{Env, Reasons};
use crate::io::establish;
use crate::io::keyring::Credential;
use crate::io::leaving::Leave;
use crate::io::link::NewSocket;
use crate::io::listen::Listen;
use crate::io::place::Place;
use crate::io::shared::Shared;
use crate::proto::session::{CloseWish, Farewell};

impl Driver {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Attend(place) => self.mark(place, Reasons::CALLED),
            Command::Connect(connect) => {
                let Connect { address, key, options, reply } = *connect;
                let home = Home { address, key, options };
                let dial = Dial::new(home, Goal::New(reply), self.env.now);
                let place = self.insert(|_, _| Source::Dial(Box::new(dial)));
                self.mark(place, Reasons::CALLED);
            }
            Command::ConnectLazily(connect) => {
                let ConnectLazily { address, key, options, reply } = *connect;
                let mut made = None;
                let place = self.insert(|place, env| {
                    let (conn, shared) = establish::lazy(Home { address, key, options }, place, env);
                    made = Some(shared);
                    Source::Conn(Box::new(conn))
                });
                if let Some(shared) = made {
                    let _ = reply.send(shared);
                }
                self.mark(place, Reasons::CALLED);
            }
            Command::Adopt(adopt) => self.adopt(*adopt),
            Command::Join(join) => self.join(*join),
            Command::Come(listener, socket) => {
                let (socket, peer) = *socket;
                self.stranger_comes(listener, socket, peer);
            }
            Command::Listen(listen) => self.begin_listening(*listen),
            Command::Unlisten(place) => self.unlisten(place),
            Command::AddKey(place, key, access) => {
                let replaced = self.listen(place).and_then(|listen| listen.keys.write().add(key, access));
                if let Some(replaced) = replaced {
                    self.end_sessions_of(place, &replaced);
                }
            }
            Command::RemoveKey(place, key) => {
                let removed = self.listen(place).and_then(|listen| listen.keys.write().remove(&key));
                if let Some(removed) = removed {
                    self.end_sessions_of(place, &removed);
                }
            }
            Command::Resolved(place, found) => {
                let now = self.env.now;
                if let Some(dial) = self.dial(place) {
                    dial.handle_resolved(found, now);
                    self.mark(place, Reasons::CALLED);
                }
            }
            Command::Stats(place, reply) => {
                if let Some(conn) = self.conn(place) {
                    let _ = reply.send(conn.stats());
                }
            }
            Command::Sessions(place, reply) => {
                let places: Vec<Place> = self.slots.places().collect();
                let sessions = places.into_iter().filter_map(|at| self.conn(at)?.info(place)).collect();
                let _ = reply.send(sessions);
            }
            Command::Shutdown(leave) => self.shut_down(&leave),
            Command::Stop => self.stopping = true,
        }
    }

    fn adopt(&mut self, adopt: Adopt) {
        let Adopt { socket, options, settings, reply } = adopt;
        let new = NewSocket {
            socket,
            peer_addr: None,
            rtt: None,
            ahead: Vec::new(),
            early: Vec::new(),
            process: None,
            seal: None,
        };
        self.begin_with(new, reply, |new, place, env| {
            establish::pair_end(new, &options, settings, place, env)
        });
    }

    fn join(&mut self, join: Join) {
        let Join { socket, granted, options, reply } = join;
        self.begin_with(socket, reply, |new, place, env| {
            establish::joined(new, &options, &granted, place, env)
        });
    }

    /// A connection over a socket that needs no handshake any more.
    fn begin_with(
        &mut self,
        mut new: NewSocket,
        reply: Sender<io::Result<Arc<Shared>>>,
        make: impl FnOnce(NewSocket, Place, &Env) -> (Conn, Arc<Shared>),
    ) {
        let mut made = None;
        let mut registered = Ok(());
        let place = self.insert(|place, env| {
            registered = new.register(&env.registry, place);
            let (conn, shared) = make(new, place, env);
            made = Some(shared);
            Source::Conn(Box::new(conn))
        });
        if let Err(error) = registered {
            self.conn_over(place);
            let _ = reply.send(Err(error));
        } else if let Some(shared) = made {
            let _ = reply.send(Ok(shared));
            self.mark(place, Reasons::CALLED);
        }
    }

    fn begin_listening(&mut self, request: ListenRequest) {
        let ListenRequest { socket, address, takes, keys, options, accepted, events, reply } = request;
        let mut listen = Box::new(Listen::new(socket, address, takes, keys, options, accepted, events));
        let mut registered = Ok(());
        let place = self.insert(|place, env| {
            registered = listen.register(env, place);
            if registered.is_ok() {
                listen.trace.bound(&listen.address);
            }
            Source::Listen(listen)
        });
        match &registered {
            Ok(()) => self.mark(place, Reasons::CALLED),
            Err(_) => drop(self.remove(place)),
        }
        let _ = reply.send(registered.map(|()| place));
    }

    /// No client can come back to a listener that is gone: its sessions end with their sockets.
    fn unlisten(&mut self, place: Place) {
        let Some(slot) = self.remove(place) else { return };
        let Source::Listen(listen) = slot.source else { return };
        drop(listen.accepted.close());
        for session in listen.sessions.places() {
            if self.guarded(session, |conn, _| !conn.orphan()) == Some(true) {
                self.conn_over(session);
            }
        }
        let strangers: Vec<Place> = self.slots.places().collect();
        for stranger in strangers {
            if self.server_of(stranger) == Some(place) {
                self.remove(stranger);
            }
        }
    }

    fn server_of(&mut self, place: Place) -> Option<Place> {
        match self.slots.get_mut(place).map(|slot| &slot.source) {
            Some(Source::Server(server)) => Some(server.listener),
            _ => None,
        }
    }

    /// A key is not accepted any more: its connections end.
    fn end_sessions_of(&mut self, place: Place, credential: &Credential) {
        let Some(listen) = self.listen(place) else { return };
        listen.sessions.forget(credential);
        let reason = "the key of this connection was removed".to_owned();
        let wish = CloseWish::Now(Farewell { code: CloseCode::NOT_PERMITTED, reason });
        let conns: Vec<Place> = self.slots.places().collect();
        for at in conns {
            let ends =
                |conn: &mut crate::io::conn::Conn| conn.is_of(place, credential) && !conn.close(wish.clone());
            if self.guarded(at, |conn, _| ends(conn)) == Some(true) {
                self.conn_over(at);
            }
        }
    }

    /// Every connection ends behind what was sent.
    fn shut_down(&mut self, leave: &Leave) {
        let linger = leave.until.map_or(Duration::MAX, |until| until.saturating_duration_since(self.env.now));
        let places: Vec<Place> = self.slots.places().collect();
        for place in places {
            let farewell = Farewell { code: CloseCode::SHUTTING_DOWN, reason: String::new() };
            let wish = CloseWish::Behind { farewell, linger };
            if self.guarded(place, |conn, _| conn.shut_down(wish, leave.one())).is_some() {
                self.mark(place, Reasons::CALLED);
            }
        }
    }
}
