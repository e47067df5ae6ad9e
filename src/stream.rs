//! Connections over a socket that the caller has connected.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::config::Config;
use crate::connection::{Connection, client_key, io_thread, stopped};
use crate::error::{ConnectError, HandshakeError};
use crate::io::command::{Command, Join};
use crate::io::env::random;
use crate::io::link::NewSocket;
use crate::io::socket::Socket;
use crate::listener::Listener;
use crate::proto::handshake::client::Step;
use crate::proto::handshake::talk::ClientTalk;
use crate::proto::handshake::{Asked, Granted, Terms};
use crate::proto::seal::Seal;

/// A connected socket of the caller's, for [`Connection::from_stream`] and [`Listener::adopt`]: a
/// [`TcpStream`] or, on Unix, a `UnixStream`.
#[derive(Debug)]
pub struct Stream(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(Kind::Tcp(stream))
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixStream> for Stream {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Self(Kind::Unix(stream))
    }
}

/// Calls a method on the stream that it is.
macro_rules! on {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Kind::Tcp($inner) => $call,
            #[cfg(unix)]
            Kind::Unix($inner) => $call,
        }
    };
}

impl Stream {
    fn peer_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(stream) => stream.peer_addr().ok(),
            #[cfg(unix)]
            Kind::Unix(_) => None,
        }
    }

    /// See [`Socket::check_user`].
    fn check_user(&self) -> Result<(), HandshakeError> {
        match &self.0 {
            Kind::Tcp(_) => Ok(()),
            #[cfg(unix)]
            Kind::Unix(stream) => crate::io::peer::check_user(stream),
        }
    }

    fn into_socket(self) -> io::Result<Socket> {
        on!(&self.0, stream => {
            stream.set_read_timeout(None)?;
            stream.set_write_timeout(None)?;
            stream.set_nonblocking(true)?;
        });
        Ok(match self.0 {
            Kind::Tcp(stream) => Socket::tcp(mio::net::TcpStream::from_std(stream)),
            #[cfg(unix)]
            Kind::Unix(stream) => Socket::unix(mio::net::UnixStream::from_std(stream)),
        })
    }

    /// Proves the key of `config` to the server at the other end, in this thread, and gets its answer.
    fn shake_hands(&mut self, config: &Config, terms: Terms) -> Result<Welcome, ConnectError> {
        let key = client_key(config)?;
        let (mut handshake, hello) = if config.options.seals(matches!(self.0, Kind::Tcp(_))) {
            ClientTalk::sealed(&key).ok_or_else(|| io::Error::other("the system gives no random numbers"))?
        } else {
            ClientTalk::plain(&key, random()?)
        };
        let deadline = Instant::now() + config.options.handshake_timeout;
        on!(&self.0, stream => stream.set_nonblocking(false)?);
        self.write(&hello, deadline)?;
        let asked = Instant::now();
        let mut rtt = None;
        let mut buffer = [0; 512];
        loop {
            let read = self.read(&mut buffer, deadline)?;
            let mut input = &buffer[..read];
            while !input.is_empty() {
                match handshake.handle(&mut input, &key) {
                    Step::More => {}
                    Step::ServerProved if !input.is_empty() => return Err(HandshakeError::Malformed.into()),
                    Step::ServerProved => {
                        rtt = Some(asked.elapsed());
                        if let Some(proof) = handshake.prove(&key, &Asked { terms, ..Asked::default() }) {
                            self.write(&proof, deadline)?;
                        }
                    }
                    Step::Accepted(granted) => {
                        let (early, seal) = (input.to_vec(), handshake.into_seal());
                        return Ok(Welcome { granted, rtt, early, seal });
                    }
                    Step::Failed { error, .. } => return Err(error.into()),
                }
            }
        }
    }

    fn write(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), ConnectError> {
        let time = left(deadline)?;
        on!(&mut self.0, stream => {
            stream.set_write_timeout(Some(time))?;
            stream.write_all(bytes).map_err(broken)
        })
    }

    fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<usize, ConnectError> {
        loop {
            let time = left(deadline)?;
            let read = on!(&mut self.0, stream => {
                stream.set_read_timeout(Some(time))?;
                stream.read(buffer)
            });
            match read {
                Ok(0) => return Err(HandshakeError::Disconnected.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(broken),
            }
        }
    }
}

/// A server's answer.
struct Welcome {
    granted: Granted,
    rtt: Option<Duration>,
    /// What came behind it.
    early: Vec<u8>,
    seal: Option<Box<Seal>>,
}

/// What is left until the deadline of a handshake.
fn left(deadline: Instant) -> Result<Duration, ConnectError> {
    let time = deadline.saturating_duration_since(Instant::now());
    if time.is_zero() { Err(HandshakeError::TimedOut.into()) } else { Ok(time) }
}

fn broken(error: io::Error) -> ConnectError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HandshakeError::TimedOut.into(),
        _ => HandshakeError::Disconnected.into(),
    }
}

impl Connection {
    /// Connects over a socket that the caller has connected to a listener: through a tunnel or a proxy, or
    /// inherited from another process. The other end is accepted by a [`Listener`], by itself or through
    /// [`Listener::adopt`].
    ///
    /// There is no way back to the listener, so a lost socket is the end of the connection, whatever
    /// [`Config::resume_grace`] says. The handshake takes at most [`Config::handshake_timeout`].
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use trunkline::{ChannelId, Config, Connection, Key, Listener};
    ///
    /// let key = Key::generate();
    /// let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()))?;
    /// let socket = TcpStream::connect(listener.local_addr())?;
    /// let client = Connection::from_stream(socket, Config::new(key))?;
    /// client.sender(ChannelId::new(1))?.send("hello")?;
    /// assert_eq!(&*listener.accept()?.receiver(ChannelId::new(1))?.recv()?, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConnectError::Config`] if a setting cannot work, [`ConnectError::Handshake`] if the handshake comes
    /// to nothing, [`ConnectError::Io`] if the system gives no thread or the socket is not usable.
    pub fn from_stream(stream: impl Into<Stream>, config: Config) -> Result<Self, ConnectError> {
        let config = config.resume_grace(Duration::ZERO);
        config.check()?;
        let thread = io_thread(&config)?;
        let mut stream = stream.into();
        stream.check_user()?;
        let peer_addr = stream.peer_addr();
        let terms = crate::io::conn::terms(&config.options);
        let Welcome { granted, rtt, early, seal } = stream.shake_hands(&config, terms)?;
        if !granted.terms.grace.is_none() {
            // It would wait for a client that cannot come back.
            return Err(HandshakeError::Malformed.into());
        }
        let socket = NewSocket {
            socket: stream.into_socket()?,
            peer_addr,
            rtt,
            ahead: Vec::new(),
            early,
            process: None,
            seal,
        };
        let (reply, answer) = bounded(1);
        let join = Join { socket, granted, options: config.options, reply };
        thread.core().push(Command::Join(Box::new(join)));
        thread.core().schedule.call();
        Ok(Self::new(answer.recv().map_err(|_| stopped())??))
    }
}

impl Listener {
    /// Takes a socket that the caller has accepted or inherited as if it had come to the listener's own
    /// port: the client at its other end has to prove a key, and comes out of
    /// [`accept`](Listener::accept).
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use std::os::unix::net::UnixStream;
    /// use trunkline::{ChannelId, Config, Connection, Key, Listener};
    ///
    /// let key = Key::generate();
    /// let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()))?;
    /// let (one, two) = UnixStream::pair()?;
    /// listener.adopt(one)?;
    /// let client = Connection::from_stream(two, Config::new(key))?;
    /// client.sender(ChannelId::new(1))?.send("hello")?;
    /// assert_eq!(&*listener.accept()?.receiver(ChannelId::new(1))?.recv()?, b"hello");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`AcceptError::Closed`](crate::AcceptError::Closed) if the listener is closed, and an error of the system's if the socket is not
    /// usable.
    pub fn adopt(&self, stream: impl Into<Stream>) -> io::Result<()> {
        let stream = stream.into();
        stream.check_user().map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))?;
        let peer_addr = stream.peer_addr();
        let socket = stream.into_socket()?;
        self.adopt_socket(socket, peer_addr).map_err(Into::into)
    }
}
