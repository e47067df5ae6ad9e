//! A client's side of a handshake, over one socket.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::env::{Env, Reasons, random};
use super::link::NewSocket;
use super::place::Place;
use super::socket::Socket;
use crate::address::Target;
use crate::error::HandshakeError;
use crate::key::Key;
use crate::proto::handshake::client::Step as Handshake;
use crate::proto::handshake::talk::ClientTalk;
use crate::proto::handshake::{Asked, Granted};

/// What a handshake wants after a pass.
pub(crate) enum Step {
    Wait,
    /// The server has proved its key; if it is the one that is wanted, [`ClientSide::prove`] goes on.
    ServerProved,
    Accepted(Granted),
    Failed(Failure),
}

/// Why there is no connection over this socket.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing took the connection at this address.
    Unreachable(io::Error),
    /// The handshake came to nothing. What was `verified` was said by the server and nothing else.
    Handshake { error: HandshakeError, verified: bool },
}

pub(crate) struct ClientSide {
    socket: Socket,
    /// The address of a TCP socket.
    address: Option<SocketAddr>,
    /// The attempt that it is a part of.
    pub(crate) dial: Place,
    key: Key,
    sealed: bool,
    /// What is said; nothing while the socket connects.
    talk: Option<ClientTalk>,
    out: Vec<u8>,
    /// How long the handshake may take once there is a connection.
    timeout: Duration,
    deadline: Instant,
    asked: Instant,
    rtt: Option<Duration>,
    early: Vec<u8>,
}

impl ClientSide {
    /// Begins to connect; not waited for beyond `deadline`.
    pub(crate) fn connect(
        target: &Target,
        dial: Place,
        key: Key,
        sealed: bool,
        timeout: Duration,
        deadline: Instant,
        now: Instant,
    ) -> io::Result<Self> {
        let socket = Socket::connect(target)?;
        let address = match target {
            Target::Tcp(address) => Some(*address),
            #[cfg(unix)]
            Target::Unix(_) => None,
        };
        Ok(Self {
            socket,
            address,
            dial,
            key,
            sealed,
            talk: None,
            out: Vec::new(),
            timeout,
            deadline,
            asked: now,
            rtt: None,
            early: Vec::new(),
        })
    }

    pub(crate) fn register(&mut self, env: &mut Env, place: Place) -> io::Result<()> {
        env.timers.set(place, Some(self.deadline));
        self.socket.register(&env.registry, place.token())
    }

    /// Goes on as far as the socket allows.
    pub(crate) fn serve(&mut self, reasons: Reasons, place: Place, env: &mut Env) -> Step {
        if reasons.due && self.deadline <= env.now {
            return Step::Failed(match self.talk {
                None => Failure::Unreachable(io::ErrorKind::TimedOut.into()),
                Some(_) => broken(HandshakeError::TimedOut),
            });
        }
        let step = self.go_on(env);
        env.timers.set(place, Some(self.deadline));
        step.unwrap_or_else(|error| {
            Step::Failed(match self.talk {
                None => not_reached(error),
                Some(_) => broken(HandshakeError::Disconnected),
            })
        })
    }

    fn go_on(&mut self, env: &mut Env) -> io::Result<Step> {
        if self.talk.is_none() {
            if !self.socket.is_connected()? {
                return Ok(Step::Wait);
            }
            if self.socket.is_its_own_peer() {
                // It leaves no trace at the port, on which a listener may want to listen.
                self.socket.reset();
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            if let Err(error) = self.socket.check_user() {
                return Ok(Step::Failed(broken(error)));
            }
            let (handshake, hello) = if self.sealed {
                ClientTalk::sealed(&self.key).ok_or_else(|| io::Error::other("no random numbers"))?
            } else {
                ClientTalk::plain(&self.key, random()?)
            };
            self.talk = Some(handshake);
            self.out.extend(hello);
            self.asked = env.now;
            self.deadline = self.deadline.min(env.now + self.timeout);
        }
        self.socket.write_from(&mut self.out)?;
        let mut buffer = [0; 512];
        loop {
            let read = match self.socket.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Wait),
                Err(error) => return Err(error),
            };
            let mut input = &buffer[..read];
            while !input.is_empty() {
                let Some(handshake) = &mut self.talk else { return Ok(Step::Wait) };
                match handshake.handle(&mut input, &self.key) {
                    Handshake::More => {}
                    Handshake::ServerProved => {
                        self.rtt = Some(env.now.saturating_duration_since(self.asked));
                        return Ok(if input.is_empty() {
                            Step::ServerProved
                        } else {
                            // A server says nothing before it was answered.
                            Step::Failed(broken(HandshakeError::Malformed))
                        });
                    }
                    Handshake::Accepted(granted) => {
                        self.early = input.to_vec();
                        return Ok(Step::Accepted(granted));
                    }
                    Handshake::Failed { error, verified } => {
                        return Ok(Step::Failed(Failure::Handshake { error, verified }));
                    }
                }
            }
        }
    }

    /// Proves this side's key, and asks for a session.
    pub(crate) fn prove(&mut self, asked: &Asked) -> io::Result<()> {
        if let Some(handshake) = &mut self.talk
            && let Some(proof) = handshake.prove(&self.key, asked)
        {
            self.out.extend(proof);
        }
        self.socket.write_from(&mut self.out)
    }

    /// The socket, for a connection that goes on with it.
    pub(crate) fn into_socket(self) -> NewSocket {
        let Self { socket, address, talk, rtt, out, early, .. } = self;
        let seal = talk.and_then(ClientTalk::into_seal);
        let process = socket.peer_process();
        NewSocket { socket, peer_addr: address, rtt, ahead: out, early, process, seal }
    }
}

/// What an error of a connect means. A refused one is told by another error: a reset comes from a peer that had
/// accepted, and hung up before this side looked.
fn not_reached(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            broken(HandshakeError::Disconnected)
        }
        _ => Failure::Unreachable(error),
    }
}

fn broken(error: HandshakeError) -> Failure {
    Failure::Handshake { error, verified: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such a peer is tried again, as one that hangs up a moment later is.
    #[test]
    fn a_reset_before_the_first_byte_is_a_hang_up() {
        use io::ErrorKind::*;
        for kind in [ConnectionReset, ConnectionAborted, BrokenPipe] {
            let failure = not_reached(kind.into());
            assert!(
                matches!(
                    failure,
                    Failure::Handshake { error: HandshakeError::Disconnected, verified: false }
                ),
                "{kind}"
            );
        }
        for kind in [ConnectionRefused, HostUnreachable, TimedOut, NotFound, PermissionDenied] {
            assert!(matches!(not_reached(kind.into()), Failure::Unreachable(_)), "{kind}");
        }
    }
}
