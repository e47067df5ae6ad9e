//! A listener's side of a handshake: a peer that has proved nothing yet.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::env::{Env, Reasons, random};
use super::keyring::{Credential, Keyring};
use super::link::NewSocket;
use super::place::Place;
use super::socket::Socket;
use crate::error::HandshakeError;
use crate::proto::handshake::Takes;
use crate::proto::handshake::server::{Proved, Refusal, ServerHandshake, Step as Handshake};
use crate::proto::seal::Seal;

/// How long a peer that was refused has to read why.
const PARTING: Duration = Duration::from_secs(1);
/// What is read of a peer that was refused, at a time, in a pass, and in all: hanging up on what is
/// unread would take the answer back, but one that goes on writing has no claim on more.
const LEFTOVER: usize = 4 * 1024;
const LEFTOVER_READS: usize = 4;
const LEFTOVERS: usize = 64 * 1024;

/// What a handshake wants after a pass.
pub(crate) enum Step {
    Wait,
    /// The peer has named a key that is known.
    Named,
    /// The peer has shown that the key that it names is used, and is [answered](ServerSide::answer) when its
    /// turn comes. The number is its message's own.
    Owed(u64),
    /// The peer has proved its key; it is to be [accepted](Handshaking::accept) or
    /// [refused](Handshaking::refuse).
    Proved(Box<Proved<Credential>>),
    /// To be served again, after the others.
    More,
    /// It was refused for this reason, and is to be served again, after the others.
    Refused(HandshakeError),
    /// It is over for this reason, and there is no connection.
    Gone(HandshakeError),
}

enum State {
    Talking,
    /// Nothing is listened to any more; so much more is read all the same.
    Refused {
        left: usize,
    },
}

pub(crate) struct ServerSide {
    socket: Socket,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) listener: Place,
    keys: Arc<RwLock<Keyring>>,
    handshake: ServerHandshake<Credential>,
    state: State,
    /// What is to be written; handshake messages are small.
    out: Vec<u8>,
    /// When it is over, whatever trickles in.
    deadline: Instant,
    /// When the last message went out, for a first round-trip time.
    asked: Instant,
    rtt: Option<Duration>,
    /// What came behind the handshake.
    early: Vec<u8>,
}

impl ServerSide {
    pub(crate) fn new(
        socket: Socket,
        peer: Option<SocketAddr>,
        listener: Place,
        keys: Arc<RwLock<Keyring>>,
        takes: Takes,
        timeout: Duration,
        now: Instant,
    ) -> io::Result<Self> {
        Ok(Self {
            socket,
            peer,
            listener,
            keys,
            handshake: ServerHandshake::new(random()?, takes),
            state: State::Talking,
            out: Vec::new(),
            deadline: now + timeout,
            asked: now,
            rtt: None,
            early: Vec::new(),
        })
    }

    pub(crate) fn register(&mut self, env: &mut Env, place: Place) -> io::Result<()> {
        env.timers.set(place, Some(self.deadline));
        self.socket.register(&env.registry, place.token())
    }

    /// Goes on as far as the socket and this pass's share allow.
    pub(crate) fn serve(&mut self, reasons: Reasons, place: Place, env: &mut Env) -> Step {
        if reasons.due && self.deadline <= env.now {
            return Step::Gone(HandshakeError::TimedOut);
        }
        let step = match self.state {
            State::Talking => self.talk(env),
            State::Refused { .. } => self.let_go(),
        };
        // Written at once: a reply that waits for the next pass would cost a round trip.
        let step = step.and_then(|step| self.flush().map(|()| step));
        env.timers.set(place, Some(self.deadline));
        step.unwrap_or(Step::Gone(HandshakeError::Disconnected))
    }

    fn talk(&mut self, env: &Env) -> io::Result<Step> {
        let mut buffer = [0; 512];
        let mut named = false;
        // To the end of what is there, since the socket tells only of what comes. A handshake is short,
        // so there is no need for a share.
        loop {
            let read = match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(Step::Gone(HandshakeError::Disconnected)),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(if named { Step::Named } else { Step::Wait });
                }
                Err(error) => return Err(error),
            };
            let mut input = &buffer[..read];
            while !input.is_empty() {
                let step = self.handshake.handle(&mut input, |id| self.keys.read().find(id));
                match step {
                    Handshake::More => {}
                    Handshake::Reply(reply) => {
                        self.out.extend(reply);
                        self.asked = env.now;
                        named = true;
                    }
                    Handshake::Owed(_) if !input.is_empty() => {
                        return Ok(Step::Gone(HandshakeError::Malformed));
                    }
                    Handshake::Owed(number) => return Ok(Step::Owed(number)),
                    Handshake::HangUp(error) => return Ok(Step::Gone(error)),
                    Handshake::Refuse(refusal) => {
                        self.refuse(&refusal, env.now);
                        return Ok(Step::Refused(refusal.error()));
                    }
                    Handshake::Proved(proved) => {
                        self.rtt = Some(env.now.saturating_duration_since(self.asked));
                        self.early = input.to_vec();
                        return Ok(Step::Proved(Box::new(proved)));
                    }
                }
            }
        }
    }

    /// Answers the peer. `false`: it is of no use any more.
    pub(crate) fn answer(&mut self, now: Instant) -> bool {
        let Some(reply) = self.handshake.answer() else { return false };
        self.out.extend(reply);
        self.asked = now;
        self.flush().is_ok()
    }

    /// Reads what a refused peer still says, so that it can read the answer.
    fn let_go(&mut self) -> io::Result<Step> {
        let State::Refused { left } = &mut self.state else { return Ok(Step::Wait) };
        let mut buffer = [0; LEFTOVER];
        for _ in 0..LEFTOVER_READS {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(Step::Gone(HandshakeError::Disconnected)),
                Ok(read) if read >= *left => return Ok(Step::Gone(HandshakeError::Disconnected)),
                Ok(read) => *left -= read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Wait),
                Err(error) => return Err(error),
            }
        }
        Ok(Step::More)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.write_from(&mut self.out)?;
        if self.out.is_empty() && matches!(self.state, State::Refused { .. }) {
            self.socket.finish();
        }
        Ok(())
    }

    /// Says why not, and lets the peer go when it has read that.
    pub(crate) fn refuse(&mut self, refusal: &Refusal, now: Instant) {
        self.say_last(refusal.bytes(), now);
    }

    /// The last thing that is said to this peer.
    pub(crate) fn say_last(&mut self, bytes: &[u8], now: Instant) {
        self.out.extend(bytes);
        self.state = State::Refused { left: LEFTOVERS };
        self.deadline = now + PARTING;
    }

    /// The socket, for a connection that goes on with it, behind `accept`.
    pub(crate) fn accept(self, accept: &[u8], seal: Option<Box<Seal>>) -> NewSocket {
        let Self { socket, peer, rtt, mut out, early, .. } = self;
        out.extend(accept);
        let process = socket.peer_process();
        NewSocket { socket, peer_addr: peer, rtt, ahead: out, early, process, seal }
    }
}
