//! The conversation of two peers.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::access::Access;
use crate::closing::Closing;
use crate::config::Config;
use crate::error::{ChannelError, CloseCode, CloseError, ConnectError, ConnectionError, FlushError};
use crate::events::{Events, Interrupts};
use crate::flushing::{Flushing, unflushed};
use crate::handle::Handle;
use crate::id::{ChannelId, ChannelSet};
use crate::io::IoThread;
use crate::io::command::{Adopt, Command};
use crate::io::establish::pair_settings;
use crate::io::shared::Shared;
use crate::io::socket::Socket;
use crate::peer_process::PeerProcess;
use crate::proto::outbound::Priority;
use crate::queue::events::Wants;
use crate::queue::until::Until;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::stats::Stats;

/// A connection to a peer: up to 128 channels each way.
///
/// Clones are handles of the same connection, and so are its senders and receivers. Dropping the last of
/// them closes it as [`close`](Connection::close) does: what was sent is flushed, and the drop waits for
/// the peer to confirm it, at most [`Config::linger`]. So a program that sends and returns from `main`
/// loses nothing. A program that calls [`std::process::exit`] calls [`shutdown`](crate::shutdown) first. If
/// the last handle is dropped while its thread panics, the peer hears [`CloseCode::PANICKED`] instead of an
/// orderly end.
///
/// In a process that was forked from the one that made the connection, every call fails at once with
/// [`ConnectionError::Forked`].
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

    /// Creates two connected ends in this process, over a socket pair: for tests, examples, and a kernel in
    /// the process of its client. Both ends may do everything. No key is proved, and there is no session: a
    /// lost socket is the end.
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
    /// [`ConnectError::Config`] if a setting cannot work, [`ConnectError::Io`] if the system gives no
    /// sockets.
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

    /// Returns a sender for a channel, with the priority that its other senders have, or the normal one.
    ///
    /// A channel may have any number of senders, from this call or by `clone`. All of them belong to the
    /// same run.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotPermitted`] if this side may not send on the channel,
    /// [`ChannelError::ConnectionLost`] if the connection is over.
    pub fn sender(&self, channel: ChannelId) -> Result<Sender, ChannelError> {
        self.claim_sender(channel, None)
    }

    /// Returns a sender for a channel with a priority. A channel has one priority at a time, or its
    /// messages would overtake each other.
    ///
    /// # Errors
    ///
    /// As [`sender`](Connection::sender); and [`ChannelError::PriorityInUse`] while the channel has senders
    /// of another priority, or while something that they sent still waits.
    pub fn sender_with(&self, channel: ChannelId, priority: Priority) -> Result<Sender, ChannelError> {
        self.claim_sender(channel, Some(priority))
    }

    fn claim_sender(&self, channel: ChannelId, priority: Option<Priority>) -> Result<Sender, ChannelError> {
        self.check_fork()?;
        let (place, generation) = self.shared().send.claim(channel, priority)?;
        Ok(Sender::new(Arc::clone(&self.handle), channel, place, generation))
    }

    /// Returns a receiver for a channel, or for several merged in arrival order. It begins with what the peer
    /// has sent there already. A channel has one receiver at a time.
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
    /// [`ChannelError::NotPermitted`] if the peer may not send on one of them, [`ChannelError::InUse`] if
    /// one of them has a receiver, [`ChannelError::NoChannel`] for the empty set. A connection that is over
    /// is no error here: what had arrived can still be read.
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

    /// Returns what happens on the connection outside its channels, from now on, and what is true now:
    /// channels that the peer has opened and that have no receiver, and an interrupt that nothing has
    /// taken.
    ///
    /// Each call returns a stream of its own. It ends when the connection does.
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

    /// Returns the peer's interrupts alone; see [`Event::Interrupt`](crate::Event::Interrupt).
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

    /// Asks the peer to interrupt what it computes. The peer gets
    /// [`Event::Interrupt`](crate::Event::Interrupt), ahead of all that waits to be sent.
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

    /// Returns counts of the connection, exact as of the call: it asks the I/O thread. Once the connection
    /// is over, they are those at its end.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        if shared.is_forked() {
            return Stats::default();
        }
        let stats = shared.io.stats().or_else(|| shared.last_stats.lock().clone()).unwrap_or_default();
        Stats { wakes: shared.io.wakes(), ..stats }
    }

    /// Returns what the listener's settings say of the key that the peer has proved: its name, and what the
    /// client may do. `None` on the side that connected, and on a pair.
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

    /// Returns the round trip that was measured last: the first in the handshake, later ones by heartbeats
    /// and flushes. `None` before the first.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.shared().rtt()
    }

    /// Returns the channels that this side may send on. Before the peer of
    /// [`connect_lazily`](Connection::connect_lazily) is there, that is all of them.
    #[must_use]
    pub fn may_send(&self) -> ChannelSet {
        self.shared().agreed().may_send
    }

    /// Returns the channels that this side may receive. Before the peer of
    /// [`connect_lazily`](Connection::connect_lazily) is there, that is all of them.
    #[must_use]
    pub fn may_receive(&self) -> ChannelSet {
        self.shared().agreed().may_receive
    }

    /// Returns `true` if this side may interrupt the peer.
    #[must_use]
    pub fn may_interrupt(&self) -> bool {
        self.shared().agreed().may_interrupt
    }

    /// Closes the connection, and waits until the peer has confirmed that it has everything, at most
    /// [`Config::linger`].
    ///
    /// What was sent is flushed first. Then the peer is told the code and the reason (at most 255 bytes;
    /// the rest is cut). All handles of this side fail from the beginning of the call on, but what had
    /// arrived can still be read.
    ///
    /// ```
    /// use trunkline::{ChannelId, CloseCode, Config, Connection, ConnectionError, Key};
    ///
    /// let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// here.sender(ChannelId::new(1))?.send("the results")?;
    /// here.close(CloseCode::NORMAL, "done")?; // Ok: the peer has them
    /// let expected = ConnectionError::ClosedByPeer { code: CloseCode::NORMAL, reason: "done".into() };
    /// assert_eq!(there.close_reason(), Some(expected));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CloseError`] if the peer did not confirm that it has everything: it may not have it.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), CloseError> {
        self.close_timeout(code, reason, self.shared().facts.linger)
    }

    /// Closes the connection as [`close`](Connection::close) does, and waits no longer than `timeout`
    /// instead of [`Config::linger`].
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

    /// Begins to [`close`](Connection::close) the connection, and returns a future of the end, for an
    /// executor. All handles of this side fail from the call on. The peer has [`Config::linger`] to confirm
    /// that it has everything. Dropping the future cancels nothing.
    ///
    /// ```
    /// use std::pin::pin;
    /// use std::task::{Context, Poll, Waker};
    /// use trunkline::{CloseCode, Config, Connection, Key};
    ///
    /// let (here, _there) = Connection::pair(Config::new(Key::generate()))?;
    /// let mut closing = pin!(here.closing(CloseCode::NORMAL, "done"));
    /// let mut context = Context::from_waker(Waker::noop()); // in an async fn: .await
    /// loop {
    ///     if let Poll::Ready(closed) = closing.as_mut().poll(&mut context) { break closed? }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn closing(&self, code: CloseCode, reason: &str) -> Closing {
        self.closing_within(code, reason, self.shared().facts.linger)
    }

    /// Begins to close the connection as [`closing`](Connection::closing) does; the peer has `timeout`
    /// instead of [`Config::linger`].
    pub fn closing_within(&self, code: CloseCode, reason: &str, timeout: Duration) -> Closing {
        if self.check_fork().is_ok() {
            self.handle.begin_close(code, reason, timeout);
        }
        Closing::new(&self.handle)
    }

    /// Lets go of the connection at once. What is not sent yet is dropped. The peer is told
    /// [`CloseCode::SHUTTING_DOWN`] if there is a socket. Neither this call nor the drop of other handles
    /// waits.
    ///
    /// ```
    /// use trunkline::{ChannelId, Config, Connection, Key, RecvError};
    ///
    /// let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let receiver = there.receiver(ChannelId::new(1))?;
    /// here.abandon();
    /// assert!(matches!(receiver.recv(), Err(RecvError::ConnectionLost(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn abandon(self) {
        if !self.shared().is_forked() {
            self.handle.abandon();
            self.handle.leave();
        }
    }

    /// Lets go of the connection without waiting. The I/O thread sends what was accepted, closes, and waits
    /// for the peer at most [`Config::linger`], while the program does something else.
    ///
    /// The caller does not learn whether the peer got everything. A program that may end before that calls
    /// [`shutdown`](crate::shutdown).
    ///
    /// ```
    /// use trunkline::{ChannelId, Config, Connection, Key};
    ///
    /// let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// here.sender(ChannelId::new(1))?.send("the results")?;
    /// here.detach(); // returns at once
    /// assert_eq!(&*there.receiver(ChannelId::new(1))?.recv()?, b"the results");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detach(self) {
        self.detach_with(CloseCode::NORMAL, "");
    }

    /// Lets go of the connection as [`detach`](Connection::detach) does, and tells the peer a code and a
    /// reason (at most 255 bytes; the rest is cut). No other handle waits when it is dropped.
    pub fn detach_with(self, code: CloseCode, reason: &str) {
        if !self.shared().is_forked() {
            self.handle.begin_close(code, reason, self.shared().facts.linger);
            self.handle.leave();
        }
    }

    /// Waits until the peer's library has everything that senders have sent before the call: messages, ends
    /// of runs and gaps. Its application may not have read it yet. Interrupts and stopped runs are not
    /// waited for.
    ///
    /// While there is a socket it waits as long as it takes. A channel without credit can make that for ever,
    /// so a caller that is not sure of the peer calls [`flush_timeout`](Connection::flush_timeout).
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
    /// [`FlushError::Suspended`] if the socket is lost and does not come back within one to two times
    /// [`Config::linger`]. [`FlushError::ConnectionLost`] if the connection is over.
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

    /// Waits as [`flush`](Connection::flush) does, no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`FlushError::Suspended`] if there is no socket when the time is over, and otherwise
    /// [`FlushError::TimedOut`]: the peer is slow, or a channel has no credit. In both cases what was sent
    /// may still arrive. [`FlushError::ConnectionLost`] if the connection is over.
    pub fn flush_timeout(&self, timeout: Duration) -> Result<(), FlushError> {
        self.check_fork()?;
        self.shared().send.flush(Until::after(timeout)).map_err(|why| unflushed(self.shared(), why))
    }

    /// Begins a [`flush`](Connection::flush) and returns a future of its end, for an executor. It waits as
    /// long as it takes, through outages too. Dropping it cancels the wait.
    pub fn flushing(&self) -> Flushing {
        Flushing::new(self.shared())
    }

    /// Returns `true` if there is no socket at the moment and the connection waits for another, or for its
    /// first after [`connect_lazily`](Connection::connect_lazily). The program need not do anything: calls
    /// stay blocked, and what is sent waits, within the limits of the send queue.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        !self.shared().is_forked() && self.shared().agreed().suspended
    }

    /// Returns `Ready` once the connection is over and the I/O thread has let go of it: the peer has
    /// confirmed the end, or the time to wait for that is over. Otherwise the task is woken then.
    pub fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.shared().is_forked() || self.shared().send.poll_gone(context.waker()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Returns why the connection is over; `None` while it is not.
    #[must_use]
    pub fn close_reason(&self) -> Option<ConnectionError> {
        self.shared().ended()
    }

    /// Returns the address of this side's socket; during an outage, that of the last one. `None` on a pair,
    /// and before the peer of [`connect_lazily`](Connection::connect_lazily) is there.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.shared().agreed().local_addr
    }

    /// Returns the address of the peer's socket, as [`local_addr`](Connection::local_addr) does for this
    /// side's.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.shared().agreed().peer_addr
    }

    /// Returns `true` if the connection is sealed: nothing between the two processes can read or change what
    /// is sent. During an outage, that of the last socket; the next one is of the same kind.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.shared().agreed().sealed
    }

    /// Returns the process at the other end of a Unix socket, if the system tells it: Linux does so from 6.5
    /// on, unless that process is invisible from this one's namespace. `None` over TCP, on a pair, and over
    /// a socket of the caller's own.
    ///
    /// The end of that process ends the socket at once, even if a child of it has inherited its end of the
    /// socket.
    #[must_use]
    pub fn peer_process(&self) -> Option<PeerProcess> {
        self.shared().agreed().peer_process
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer_addr()).finish_non_exhaustive()
    }
}

pub(crate) fn io_thread(config: &Config) -> io::Result<IoThread> {
    match &config.io_thread {
        // It runs in the parent, and would never answer.
        Some(thread) if thread.core().is_forked() => Err(ConnectionError::Forked.into()),
        Some(thread) => Ok(thread.clone()),
        None => IoThread::shared(),
    }
}

pub(crate) fn stopped() -> io::Error {
    ConnectionError::IoThreadStopped.into()
}

/// The key of a client: the first.
pub(crate) fn client_key(config: &Config) -> io::Result<crate::key::Key> {
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
        // Another process may have been faster.
        if from == a.local_addr()? {
            a.set_nonblocking(true)?;
            b.set_nonblocking(true)?;
            let socket = |stream| Socket::tcp(mio::net::TcpStream::from_std(stream));
            return Ok((socket(a), socket(b)));
        }
    }
}
