//! The conversation of two peers.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::access::Access;
use crate::address::Address;
use crate::config::Config;
use crate::error::{ChannelError, CloseCode, CloseError, ConnectError, ConnectionError, FlushError};
use crate::events::{Events, Interrupts};
use crate::flushing::{Flushing, unflushed};
use crate::handle::Handle;
use crate::id::{ChannelId, ChannelSet};
use crate::io::IoThread;
use crate::io::command::{Adopt, Command, Connect, ConnectLazily};
use crate::io::establish::pair_settings;
use crate::io::shared::Shared;
use crate::io::socket::Socket;
use crate::proto::outbound::Priority;
use crate::queue::events::Wants;
use crate::queue::until::Until;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::stats::Stats;

/// A connection to a peer: up to 128 channels each way.
///
/// Clones are handles of the same connection, and so are its senders and receivers. Dropping the
/// last of them closes it as [`close`](Connection::close) does: what was sent is flushed, and the
/// drop waits for the peer to have it, at most [`Config::linger`]. So a program that sends and
/// returns from `main` loses nothing; one that calls [`std::process::exit`] calls
/// [`shutdown`](crate::shutdown) first. If the last handle is dropped while its thread panics, the
/// peer hears [`CloseCode::PANICKED`] instead of an orderly end.
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
        Self { handle: Arc::new(Handle::new(shared)) }
    }

    /// Connects to a listener and proves the key to each other.
    ///
    /// A name that stands for several addresses is tried at all of them, the families in turns, each a
    /// quarter of a second after the one before or as soon as that has failed. If the link is cut in
    /// the middle of the handshake, it is tried again. All of that takes
    /// [`Config::connect_timeout`] at most.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Config`] if a setting cannot work, [`ConnectError::Io`] if nothing answers
    /// within [`Config::connect_timeout`], [`ConnectError::Handshake`] if what answers speaks
    /// something else, has another key, or has no room.
    pub fn connect(address: impl Into<Address>, config: Config) -> Result<Self, ConnectError> {
        config.check()?;
        let thread = io_thread(&config)?;
        let key = client_key(&config)?;
        let (reply, answer) = bounded(1);
        let connect = Connect { address: address.into(), key, options: config.options, reply };
        thread.core().push(Command::Connect(Box::new(connect)));
        thread.core().schedule.call();
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
    ///   and [`peer_addr`](Connection::peer_addr) are none. [`Event::Resumed`](crate::Event::Resumed) tells that it came;
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
    /// [`ConnectError::Config`] if a setting cannot work, [`ConnectError::Io`] if the address cannot be
    /// one or the system gives no thread. All else comes from the handles:
    /// [`ConnectionError::PeerUnreachable`](crate::ConnectionError::PeerUnreachable) after the grace
    /// period, [`ConnectionError::Refused`](crate::ConnectionError::Refused) as soon as who answers
    /// speaks something else, has another key, or allows less than was used.
    pub fn connect_lazily(address: impl Into<Address>, config: Config) -> Result<Self, ConnectError> {
        config.check()?;
        let thread = io_thread(&config)?;
        let key = client_key(&config)?;
        let address = address.into();
        address.check()?;
        let (reply, answer) = bounded(1);
        let connect = ConnectLazily { address, key, options: config.options, reply };
        thread.core().push(Command::ConnectLazily(Box::new(connect)));
        thread.core().schedule.call();
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
        let adopt = |socket| {
            let (reply, answer) = bounded(1);
            let options = config.options.clone();
            let adopt = Adopt { socket, settings: pair_settings(&options), options, reply };
            thread.core().push(Command::Adopt(Box::new(adopt)));
            thread.core().schedule.call();
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
        self.check_fork()?;
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
        self.check_fork()?;
        let channels = channels.into();
        let check = || match (channels - self.may_receive()).iter().next() {
            Some(channel) => Err(ChannelError::NotPermitted { channel, sending: false }),
            None => Ok(()),
        };
        check()?;
        if channels.is_empty() {
            return Err(ChannelError::NoChannel);
        }
        let claim =
            self.shared().receive.claim(channels, &self.shared().pool).map_err(ChannelError::InUse)?;
        self.shared().events.claimed(channels);
        let receiver = Receiver::new(Arc::clone(&self.handle), claim);
        // A peer that comes at this moment has looked at the claims, or is seen here.
        check()?;
        Ok(receiver)
    }

    /// What happens on the connection outside its channels, from now on, and what is true now: channels
    /// that the peer has opened, and an interrupt that nothing has taken. Each call gives a stream of
    /// its own. It ends when the connection does.
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
    pub fn events(&self) -> Events {
        Events::new(&self.handle, Wants::All)
    }

    /// The peer's interrupts alone; see [`Event::Interrupt`](crate::Event::Interrupt).
    ///
    /// ```
    /// use trunkline::{Config, Connection, Key};
    ///
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// here.interrupt()?;
    /// // Nothing listened yet: it was kept.
    /// assert!(there.interrupts().wait());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn interrupts(&self) -> Interrupts {
        Interrupts::new(&self.handle)
    }

    /// Asks the peer to interrupt what it computes: it gets
    /// [`Event::Interrupt`](crate::Event::Interrupt).
    ///
    /// # Errors
    ///
    /// [`ChannelError::InterruptNotPermitted`] if the server does not allow it or was never there,
    /// [`ChannelError::ConnectionLost`] if the connection is over.
    pub fn interrupt(&self) -> Result<(), ChannelError> {
        self.check_fork()?;
        if !self.shared().agreed().may_interrupt {
            return Err(ChannelError::InterruptNotPermitted);
        }
        Ok(self.shared().send.interrupt()?)
    }

    fn check_fork(&self) -> Result<(), ConnectionError> {
        if self.shared().is_forked() { Err(ConnectionError::Forked) } else { Ok(()) }
    }

    /// Counts, asked of the I/O thread: exact as of the call. After the end, those at the end.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        if shared.is_forked() {
            return Stats::default();
        }
        let stats = shared.io.stats().or_else(|| shared.last_stats.lock().clone()).unwrap_or_default();
        Stats { wakes: shared.io.wakes(), ..stats }
    }

    /// What the listener says of the key that the peer has proved: which client it is, and what it may
    /// do. `None` on the side that connected, and on a pair.
    ///
    /// ```
    /// use trunkline::{Access, Config, Connection, Key, Listener};
    ///
    /// let (desk, wall) = (Key::generate(), Key::generate());
    /// let config = Config::with_access(desk, Access::full().named("desk"))
    ///     .with_key(wall.clone(), Access::read_only().named("wall"));
    /// let listener = Listener::bind("127.0.0.1:0", config)?;
    /// let _client = Connection::connect(listener.local_addr(), Config::new(wall))?;
    /// let server = listener.accept()?;
    /// assert_eq!(server.access().and_then(|access| access.name()), Some("wall"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn access(&self) -> Option<&Access> {
        self.shared().facts.access.as_ref()
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
        self.close_timeout(code, reason, self.shared().facts.linger)
    }

    /// Closes the connection as [`close`](Connection::close) does, and waits at most so long.
    ///
    /// # Errors
    ///
    /// As [`close`](Connection::close).
    pub fn close_timeout(&self, code: CloseCode, reason: &str, timeout: Duration) -> Result<(), CloseError> {
        if let Err(cause) = self.check_fork() {
            return Err(CloseError { cause: Some(cause) });
        }
        self.handle.begin_close(code, reason, timeout);
        self.handle.wait_gone(timeout);
        self.shared().send.delivered()
    }

    /// Lets go of the connection at once. The peer is told, with [`CloseCode::SHUTTING_DOWN`], if there
    /// is a socket; what is not sent yet is dropped. Nothing is waited for, now or when the handles
    /// are dropped.
    pub fn abandon(self) {
        if !self.shared().is_forked() {
            self.handle.abandon();
            self.handle.leave();
        }
    }

    /// Lets go of the connection without waiting: the I/O thread sends what was sent, closes, and waits
    /// for the peer, at most [`Config::linger`], while the program does something else. Nothing tells
    /// whether the peer got everything. A program that may end before that calls
    /// [`shutdown`](crate::shutdown).
    pub fn detach(self) {
        if !self.shared().is_forked() {
            self.handle.begin_close(CloseCode::NORMAL, "", self.shared().facts.linger);
            self.handle.leave();
        }
    }

    /// Waits until the peer has everything that was sent before the call, as far as its library:
    /// its application may not have read it yet.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// here.sender(ChannelId::new(1))?.send("the results")?;
    /// here.flush()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`FlushError::Suspended`] if the socket is lost and does not come back within
    /// [`Config::linger`]. [`FlushError::ConnectionLost`] if the connection is over. It waits as long
    /// as it takes while there is a socket: a channel without credit can make that for ever, so a
    /// caller that cannot be sure of the peer calls [`flush_timeout`](Connection::flush_timeout).
    pub fn flush(&self) -> Result<(), FlushError> {
        let round = self.shared().facts.linger.max(Duration::from_millis(100));
        let mut was_away = false;
        loop {
            match self.flush_timeout(round) {
                Err(FlushError::TimedOut) => was_away = false,
                // It may have been lost at the end of this round.
                Err(FlushError::Suspended) if !was_away => was_away = true,
                other => return other,
            }
        }
    }

    /// Waits as [`flush`](Connection::flush) does, at most so long.
    ///
    /// # Errors
    ///
    /// [`FlushError::Suspended`] if there is no socket when the time is over, else
    /// [`FlushError::TimedOut`]: the peer is slow, or a channel has no credit. In both cases what was
    /// sent may still arrive. [`FlushError::ConnectionLost`] if the connection is over.
    pub fn flush_timeout(&self, timeout: Duration) -> Result<(), FlushError> {
        self.check_fork()?;
        self.shared().send.flush(Until::after(timeout)).map_err(|why| unflushed(self.shared(), why))
    }

    /// Begins a [`flush`](Connection::flush) and returns a future of its end, for an executor. It waits
    /// as long as it takes, outages included; dropping it forgets it.
    pub fn flushing(&self) -> Flushing {
        Flushing::new(self.shared())
    }

    /// Returns `true` if there is no socket at the moment, and another is waited for, or the first after
    /// [`connect_lazily`](Connection::connect_lazily). Nothing needs to be done about it: calls stay
    /// blocked, and what is sent waits, within the limits of the send queue.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        !self.shared().is_forked() && self.shared().agreed().suspended
    }

    /// Returns `Ready` once the connection is over and its peer has confirmed the end, or is waited for
    /// no longer; for an executor.
    pub fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.shared().is_forked() || self.shared().send.poll_gone(context.waker()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
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

/// The key of a client: the first.
fn client_key(config: &Config) -> io::Result<crate::key::Key> {
    let first = config.keys.first().map(|(key, _)| key.clone());
    first.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a client needs a key"))
}

#[cfg(unix)]
fn socket_pair() -> io::Result<(Socket, Socket)> {
    let (a, b) = mio::net::UnixStream::pair()?;
    Ok((Socket::unix(a), Socket::unix(b)))
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
