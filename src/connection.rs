//! The conversation of two peers.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::config::Config;
use crate::error::{ChannelError, CloseCode, CloseError, ConnectError, ConnectionError, FlushError};
use crate::event::Event;
use crate::handle::Handle;
use crate::id::{ChannelId, ChannelSet};
use crate::io::IoThread;
use crate::io::connect::{Attempt, Goal, no_address};
use crate::io::driver::{Adoption, Command, Lazily};
use crate::io::establish::{our_terms, settings};
use crate::io::shared::Shared;
use crate::io::socket::Socket;
use crate::proto::outbound::Priority;
use crate::proto::session::Settings;
use crate::queue::send::Until;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::stats::Stats;

/// A connection to a peer: up to 128 channels each way.
///
/// Clones are handles of the same connection, and so are its senders and receivers. Dropping the
/// last of them closes it as [`close`](Connection::close) does: what was sent is flushed, and the
/// drop waits for the peer to have it, at most [`Config::linger`]. So a program that sends and
/// returns from `main` loses nothing (one that calls `std::process::exit` does).
///
/// ```
/// use trunkline::{ChannelId, Config, Connection, Key, Listener};
///
/// const GREETING: ChannelId = ChannelId::new(1);
///
/// let key = Key::generate();
/// let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()))?;
/// let client = Connection::connect(listener.local_addr(), Config::new(key))?;
/// let server = listener.accept()?;
///
/// client.sender(GREETING)?.send("hello")?;
/// assert_eq!(&*server.receiver(GREETING)?.recv()?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle>,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Connects to a listener and proves the key to each other.
    ///
    /// A name that stands for several addresses is tried at each in turn. If the link is cut in the
    /// middle of the handshake, it is tried again while [`Config::connect_timeout`] lasts; three times
    /// where the listener has not proved the key yet.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Config`] if a setting cannot work, [`ConnectError::Io`] if nobody answers
    /// within [`Config::connect_timeout`], [`ConnectError::Handshake`] if who answers speaks
    /// something else, has another key, or has no room.
    pub fn connect(address: impl ToSocketAddrs, config: Config) -> Result<Self, ConnectError> {
        config.check()?;
        let thread = io_thread(&config)?;
        let addresses = address.to_socket_addrs()?.collect();
        let (reply, answer) = bounded(1);
        let attempt = Attempt::new(addresses, config, Goal::New(reply));
        thread.core().push(Command::Connect(attempt));
        let shared = answer.recv().map_err(|_| stopped())??;
        Ok(Self::new(shared))
    }

    /// Begins to connect to a listener and returns before it is there.
    ///
    /// What is sent meanwhile waits, and goes when the listener comes; calls that receive wait. The
    /// listener is tried at once and then again and again, with pauses from 50 ms to 5 s, until
    /// [`Config::resume_grace`] is over (with a grace of zero, once). Then, or if the two do not come
    /// together, every handle fails with the cause.
    ///
    /// Until the listener is there:
    ///
    /// - its limits are taken to be this side's own ([`Config::window`], [`Config::max_message`]),
    ///   and every channel to be permitted ([`may_send`](Connection::may_send),
    ///   [`may_receive`](Connection::may_receive)). If it grants a smaller window, what was sent
    ///   follows as it grants more; what it does not take at all ends the connection;
    /// - [`interrupt`](Connection::interrupt) is refused: there is nothing to interrupt;
    /// - [`is_suspended`](Connection::is_suspended) is true, [`local_addr`](Connection::local_addr)
    ///   and [`peer_addr`](Connection::peer_addr) are none. [`Event::Resumed`] tells that it came;
    /// - [`close`](Connection::close), and dropping the last handle, wait for it at most
    ///   [`Config::linger`] if something was sent.
    ///
    /// ```
    /// use trunkline::{ChannelId, Config, Connection, Key, Listener};
    ///
    /// const JOBS: ChannelId = ChannelId::new(1);
    ///
    /// let key = Key::generate();
    /// # let free = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = free.local_addr()?;
    /// # drop(free);
    /// let client = Connection::connect_lazily(address, Config::new(key.clone()))?;
    /// client.sender(JOBS)?.send("the first job")?;
    ///
    /// // Later, perhaps in another process:
    /// let listener = Listener::bind(address, Config::new(key))?;
    /// let server = listener.accept()?;
    /// assert_eq!(&*server.receiver(JOBS)?.recv()?, b"the first job");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConnectError::Config`] if a setting cannot work, [`ConnectError::Io`] if the name stands
    /// for no address. All else comes from the handles:
    /// [`ConnectionError::PeerUnreachable`](crate::ConnectionError::PeerUnreachable) after the grace
    /// period, [`ConnectionError::Refused`](crate::ConnectionError::Refused) as soon as who answers
    /// speaks something else, has another key, or allows less than was used.
    pub fn connect_lazily(address: impl ToSocketAddrs, config: Config) -> Result<Self, ConnectError> {
        config.check()?;
        let thread = io_thread(&config)?;
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        if addresses.is_empty() {
            return Err(no_address().into());
        }
        let (reply, answer) = bounded(1);
        let lazily = Lazily { config, addresses, reply };
        thread.core().push(Command::ConnectLazily(Box::new(lazily)));
        Ok(Self::new(answer.recv().map_err(|_| stopped())?))
    }

    /// Two connected ends in this process, over a socket pair: for tests, examples, and a kernel
    /// in the process of its client. Both may do everything; no key is proved.
    ///
    /// ```
    /// use trunkline::{ChannelId, Config, Connection, Key};
    ///
    /// let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// here.sender(ChannelId::new(5))?.send("over the wall")?;
    /// assert_eq!(&*there.receiver(ChannelId::new(5))?.recv()?, b"over the wall");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConnectError::Config`] if a setting cannot work, [`ConnectError::Io`] if the system gives
    /// no sockets.
    pub fn pair(config: Config) -> Result<(Self, Self), ConnectError> {
        config.check()?;
        let thread = io_thread(&config)?;
        let (a, b) = socket_pair()?;
        let settings = Settings {
            we_may_send: ChannelSet::ALL,
            peer_may_send: ChannelSet::ALL,
            we_may_interrupt: true,
            peer_may_interrupt: true,
            ..settings(&config, &our_terms(&config))
        };
        let adopt = |socket| {
            let (reply, answer) = bounded(1);
            let adoption = Adoption { socket, config: config.clone(), settings: settings.clone(), reply };
            thread.core().push(Command::Adopt(Box::new(adoption)));
            Ok::<_, ConnectError>(Self::new(answer.recv().map_err(|_| stopped())??))
        };
        Ok((adopt(a)?, adopt(b)?))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// A sender for a channel, with the priority that its other senders have, or the normal one.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotPermitted`] if this side may not send on the channel,
    /// [`ChannelError::ConnectionLost`] if the connection is over.
    pub fn sender(&self, channel: ChannelId) -> Result<Sender, ChannelError> {
        self.claim_sender(channel, None)
    }

    /// A sender for a channel with a priority. A channel has one priority at a time, or its
    /// messages would overtake each other.
    ///
    /// # Errors
    ///
    /// As [`sender`](Connection::sender); and [`ChannelError::PriorityInUse`] while the channel
    /// has senders of another priority, or something that they sent still waits.
    pub fn sender_with(&self, channel: ChannelId, priority: Priority) -> Result<Sender, ChannelError> {
        self.claim_sender(channel, Some(priority))
    }

    fn claim_sender(&self, channel: ChannelId, priority: Option<Priority>) -> Result<Sender, ChannelError> {
        let (place, generation) = self.shared().send.claim(channel, priority)?;
        Ok(Sender::new(Arc::clone(&self.handle), channel, place, generation))
    }

    /// A receiver for a channel, or for several merged in arrival order. What the peer has sent
    /// there before is in it.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key};
    /// const STDOUT: ChannelId = ChannelId::new(1);
    /// const STDERR: ChannelId = ChannelId::new(2);
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let (stdout, stderr) = (here.sender(STDOUT)?, here.sender(STDERR)?);
    /// stdout.send("1")?;
    /// stderr.send("2")?;
    /// stdout.send("3")?;
    /// drop((stdout, stderr));
    ///
    /// let output = there.receiver(STDOUT | STDERR)?;
    /// let seen: Vec<_> = output.iter().map(|m| (m.channel(), m.to_vec())).collect();
    /// assert_eq!(seen, [(STDOUT, b"1".to_vec()), (STDERR, b"2".to_vec()), (STDOUT, b"3".to_vec())]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotPermitted`] if the peer may not send on one of them,
    /// [`ChannelError::InUse`] if one has a receiver, [`ChannelError::NoChannel`] for the empty
    /// set. Not if the connection is over: what had arrived can still be read.
    pub fn receiver(&self, channels: impl Into<ChannelSet>) -> Result<Receiver, ChannelError> {
        let channels = channels.into();
        let check = || match (channels - self.may_receive()).iter().next() {
            Some(channel) => Err(ChannelError::NotPermitted { channel, sending: false }),
            None => Ok(()),
        };
        check()?;
        if channels.is_empty() {
            return Err(ChannelError::NoChannel);
        }
        let claim = self.shared().inbox.claim(channels, self.shared().pool()).map_err(ChannelError::InUse)?;
        let receiver = Receiver::new(Arc::clone(&self.handle), claim);
        // A peer that comes at this moment has looked at the claims, or is seen here.
        check()?;
        Ok(receiver)
    }

    /// What happens on the connection outside its channels, from now on. Each call gives a stream
    /// of its own; one that nobody reads loses what comes above 1024 events. It ends when the
    /// connection does.
    ///
    /// ```
    /// use trunkline::{ChannelId, Config, Connection, Event, Key};
    ///
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let events = there.events();
    /// here.sender(ChannelId::new(9))?.send("a task begins")?;
    /// assert_eq!(events.recv()?, Event::Opened(ChannelId::new(9)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> crossbeam_channel::Receiver<Event> {
        self.shared().inbox.listen()
    }

    /// Asks the peer to interrupt what it computes: it gets [`Event::Interrupt`].
    ///
    /// # Errors
    ///
    /// [`ChannelError::InterruptNotPermitted`] if the server does not allow it or was never there,
    /// [`ChannelError::ConnectionLost`] if the connection is over.
    pub fn interrupt(&self) -> Result<(), ChannelError> {
        if !self.shared().agreed().may_interrupt {
            return Err(ChannelError::InterruptNotPermitted);
        }
        Ok(self.shared().send.interrupt()?)
    }

    /// Counts, asked of the I/O thread: exact as of the call. After the end, those at the end.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let (reply, answer) = bounded(1);
        shared.core.push(Command::Stats(shared.place, reply));
        answer.recv().ok().or_else(|| shared.last_stats.lock().clone()).unwrap_or_default()
    }

    /// The last measured round trip; the first is measured in the handshake, later ones by
    /// heartbeats.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.shared().rtt()
    }

    /// The channels that this side may send on. All, before the peer of
    /// [`connect_lazily`](Connection::connect_lazily) is there.
    #[must_use]
    pub fn may_send(&self) -> ChannelSet {
        self.shared().agreed().may_send
    }

    /// The channels that this side may receive. All, before the peer of
    /// [`connect_lazily`](Connection::connect_lazily) is there.
    #[must_use]
    pub fn may_receive(&self) -> ChannelSet {
        self.shared().agreed().may_receive
    }

    /// Whether this side may interrupt the peer.
    #[must_use]
    pub fn may_interrupt(&self) -> bool {
        self.shared().agreed().may_interrupt
    }

    /// Closes the connection: what was sent is flushed, then the peer is told the code and the
    /// reason (at most 255 bytes; more is cut), and the call waits until the peer has it all, at
    /// most [`Config::linger`]. All handles of this side fail from the beginning of the call on;
    /// what had arrived can still be read.
    ///
    /// # Errors
    ///
    /// [`CloseError`] if the peer did not confirm that it has everything: it may not have.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), CloseError> {
        self.handle.close(code, reason);
        self.shared().send.delivered()
    }

    /// Waits until the peer has everything that was sent before the call, as far as its library:
    /// its application may not have read it yet.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use trunkline::{ChannelId, Config, Connection, Key};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// here.sender(ChannelId::new(1))?.send("the results")?;
    /// here.flush(Duration::from_secs(10))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`FlushError::TimedOut`] if the peer does not confirm it in time: during an outage, or
    /// because a channel has no credit. [`FlushError::ConnectionLost`] if the connection is over.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.shared().send.flush(Until::after(timeout))
    }

    /// Whether there is no socket at the moment, and another is waited for, or the first after
    /// [`connect_lazily`](Connection::connect_lazily). Nothing needs to be done about it: calls stay
    /// blocked, and what is sent waits.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.shared().suspended.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Why the connection is over; `None` while it is not.
    #[must_use]
    pub fn close_reason(&self) -> Option<ConnectionError> {
        self.shared().send.ended()
    }

    /// The address of this side's socket, during an outage of the last one: after it, it may be
    /// another. None on a pair, and before the peer of
    /// [`connect_lazily`](Connection::connect_lazily) is there.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.shared().agreed().local_addr
    }

    /// The address of the peer's socket, as [`local_addr`](Connection::local_addr).
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.shared().agreed().peer_addr
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer_addr()).finish_non_exhaustive()
    }
}

pub(crate) fn io_thread(config: &Config) -> io::Result<IoThread> {
    config.io_thread.clone().map_or_else(IoThread::shared, Ok)
}

pub(crate) fn stopped() -> io::Error {
    ConnectionError::IoThreadStopped.into()
}

#[cfg(unix)]
fn socket_pair() -> io::Result<(Socket, Socket)> {
    let (a, b) = mio::net::UnixStream::pair()?;
    Ok((Socket::Unix(a), Socket::Unix(b)))
}

/// Where there is no socket pair: two ends on the loopback.
#[cfg(not(unix))]
fn socket_pair() -> io::Result<(Socket, Socket)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let a = std::net::TcpStream::connect(listener.local_addr()?)?;
    loop {
        let (b, from) = listener.accept()?;
        // Somebody else may have been faster.
        if from == a.local_addr()? {
            a.set_nonblocking(true)?;
            b.set_nonblocking(true)?;
            let socket = |stream| Socket::tcp(mio::net::TcpStream::from_std(stream));
            return Ok((socket(a), socket(b)));
        }
    }
}
