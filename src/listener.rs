//! The socket that clients connect to.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::access::Access;
use crate::address::Address;
use crate::config::Config;
use crate::connection::{Connection, io_thread, stopped};
use crate::error::{AcceptError, BindError, ConfigError};
use crate::io::IoThread;
use crate::io::accepted::Accepted;
use crate::io::command::{Command, Listen};
use crate::io::place::Place;
use crate::io::socket::{Acceptor, Socket};
#[cfg(unix)]
use crate::io::socket_file::{SharedFile, SocketFile};
use crate::key::Key;
use crate::listener_events::ListenerEvents;
use crate::proto::handshake::Takes;
use crate::queue::accept::{AcceptQueue, NotAccepted};
use crate::queue::listener_events::{self as queue, Door};
use crate::queue::until::{Until, runs_loop};
use crate::queue::waiters::{Owner, always};
use crate::session_info::SessionInfo;

/// A socket that clients connect to.
///
/// Handshakes are made in the background, many at a time: a client that connects and says nothing keeps no
/// other waiting. A client whose socket is lost comes back to its listener. So dropping the listener ends
/// more than listening: sessions that wait for their clients expire at once, and from then on a lost socket
/// is the end of a connection. Accepted connections that have a socket go on. Those that were not accepted
/// are closed.
///
/// ```
/// use trunkline::{ChannelId, Config, Connection, Key, Listener};
///
/// const JOBS: ChannelId = ChannelId::new(1);
///
/// let key = Key::generate();
/// let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()))?;
/// let address = listener.local_addr();
/// let client = std::thread::spawn(move || {
///     let connection = Connection::connect(address, Config::new(key)).unwrap();
///     connection.sender(JOBS).unwrap().send("a job").unwrap();
/// });
/// for connection in listener.incoming().take(1) {
///     assert_eq!(&*connection?.receiver(JOBS)?.recv()?, b"a job");
/// }
/// # client.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Listener {
    accepted: Arc<AcceptQueue<Accepted>>,
    events: Arc<queue::ListenerEvents>,
    address: Address,
    local_addr: SocketAddr,
    place: Place,
    #[cfg(unix)]
    file: Option<SharedFile>,
    /// Keeps an I/O thread of the caller's own alive.
    thread: IoThread,
}

impl Listener {
    /// Listens on an address. Port 0 lets the system choose a port.
    ///
    /// # Errors
    ///
    /// [`BindError::Config`] if a setting cannot work; among them is an address that is not loopback
    /// with [`Sealing::Never`](crate::Sealing::Never) and without [`Config::allow_plaintext`]. [`BindError::Io`] if the system refuses the address.
    pub fn bind(address: impl ToSocketAddrs, config: Config) -> Result<Self, BindError> {
        config.check()?;
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        let exposed = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
        let takes = config.options.takes(exposed.is_none());
        if let Some(exposed) = exposed
            && takes.plain
            && !config.allow_plaintext
        {
            return Err(ConfigError::Plaintext(*exposed).into());
        }
        let thread = io_thread(&config)?;
        let socket = std::net::TcpListener::bind(&addresses[..])?;
        // A herd of clients that comes at once must not wait for the system to ask again. Without it,
        // they only come later.
        let _ = socket2::SockRef::from(&socket).listen(4096);
        socket.set_nonblocking(true)?;
        let local_addr = socket.local_addr()?;
        let socket = Acceptor::Tcp(mio::net::TcpListener::from_std(socket));
        Self::with(socket, local_addr.into(), local_addr, takes, config, thread)
    }

    /// Listens on a Unix socket at a path, for clients of this user (and root) on this machine.
    ///
    /// The file has mode 0600 from the moment it exists. Beside it is a lock file, `PATH.lock`, which tells a
    /// listener that lives from a file that a dead one has left behind; only the latter is taken over. Both
    /// files are removed when the listener is. If another program removes the socket's file, it is made again
    /// within a few seconds. Processes of other users are hung up on before a byte is read.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use trunkline::{ChannelId, Config, Connection, Key, Listener};
    ///
    /// # let folder = std::env::temp_dir().join(format!("trunkline-unix-{}", std::process::id()));
    /// # std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&folder)?;
    /// let path = folder.join("kernel.sock");
    /// let key = Key::generate();
    /// let listener = Listener::bind_unix(&path, Config::new(key.clone()))?;
    /// let client = Connection::connect_unix(&path, Config::new(key))?;
    /// client.sender(ChannelId::new(1))?.send("hello")?;
    /// assert_eq!(&*listener.accept()?.receiver(ChannelId::new(1))?.recv()?, b"hello");
    /// # drop((client, listener));
    /// # std::fs::remove_dir(&folder)?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BindError::SocketFile`] if another user could come between the clients and this listener, if another
    /// process listens there, or if the system refuses the files; its text says what to do.
    /// [`BindError::Config`] if a setting cannot work.
    #[cfg(unix)]
    pub fn bind_unix(path: impl AsRef<std::path::Path>, config: Config) -> Result<Self, BindError> {
        config.check()?;
        let thread = io_thread(&config)?;
        let (socket, file) = SocketFile::bind(path.as_ref())?;
        let address = Address::unix(file.path());
        let file = SharedFile::new(file);
        let socket = mio::net::UnixListener::from_std(socket);
        let acceptor = Acceptor::Unix { socket, file: file.clone() };
        let takes = config.options.takes(true);
        let mut listener =
            Self::with(acceptor, address, SocketAddr::from(([0; 4], 0)), takes, config, thread)?;
        listener.file = Some(file);
        Ok(listener)
    }

    fn with(
        socket: Acceptor,
        address: Address,
        local_addr: SocketAddr,
        takes: Takes,
        config: Config,
        thread: IoThread,
    ) -> Result<Self, BindError> {
        let accepted = AcceptQueue::new(config.options.backlog);
        let events = Arc::new(queue::ListenerEvents::new(Door));
        let (reply, answer) = bounded(1);
        let Config { keys, options, .. } = config;
        let listen = Listen {
            socket,
            address: address.clone(),
            takes,
            keys,
            options,
            accepted: Arc::clone(&accepted),
            events: Arc::clone(&events),
            reply,
        };
        thread.core().push(Command::Listen(Box::new(listen)));
        thread.core().schedule.call();
        let place = answer.recv().map_err(|_| stopped())??;
        Ok(Self {
            accepted,
            events,
            address,
            local_addr,
            place,
            #[cfg(unix)]
            file: None,
            thread,
        })
    }

    pub(crate) fn adopt_socket(
        &self,
        socket: Socket,
        peer_addr: Option<SocketAddr>,
    ) -> Result<(), AcceptError> {
        if self.thread.core().is_forked() || self.accepted.is_closed() {
            return Err(AcceptError::Closed);
        }
        self.thread.core().push(Command::Come(self.place, Box::new((socket, peer_addr))));
        self.thread.core().schedule.call();
        Ok(())
    }

    fn next(&self, until: Until) -> Result<Connection, AcceptError> {
        if self.thread.core().is_forked() {
            return Err(AcceptError::Closed);
        }
        self.thread.core().schedule.call();
        connection(self.accepted.accept(until))
    }

    /// Returns the next client that has proved its key, and waits for one.
    ///
    /// A client that has a session to come back to counts once something has come from it behind the
    /// handshake. So a client that was lost before it knew of its session is not returned.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Closed`] once the listener was closed, by [`close`](Listener::close) or because its
    /// I/O thread has ended. Nothing that a client does makes this fail.
    pub fn accept(&self) -> Result<Connection, AcceptError> {
        self.next(Until::Forever)
    }

    /// Returns the next client if one waits now.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Empty`] if none does; otherwise as [`accept`](Listener::accept).
    pub fn try_accept(&self) -> Result<Connection, AcceptError> {
        self.next(Until::Now)
    }

    /// Returns the next client, and waits for it no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Empty`] if none came in time; otherwise as [`accept`](Listener::accept).
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Connection, AcceptError> {
        self.next(Until::after(timeout))
    }

    /// Returns the next client, and waits for it until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`accept_timeout`](Listener::accept_timeout).
    pub fn accept_deadline(&self, deadline: Instant) -> Result<Connection, AcceptError> {
        self.next(Until::At(deadline))
    }

    /// Returns the next client; if none waits, the task is woken when one does.
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<Result<Connection, AcceptError>> {
        self.poll_as(Owner::Shared, context)
    }

    pub(crate) fn poll_as(
        &self,
        owner: Owner,
        context: &mut Context<'_>,
    ) -> Poll<Result<Connection, AcceptError>> {
        if self.thread.core().is_forked() {
            return Poll::Ready(Err(AcceptError::Closed));
        }
        self.thread.core().schedule.call();
        match self.accepted.poll_accept(owner, context.waker()) {
            Some(result) => Poll::Ready(connection(result)),
            None => Poll::Pending,
        }
    }

    /// Returns a crossbeam channel to `select!` on. It has a token while a client waits, and is disconnected
    /// once the listener is closed. After it fires, call [`try_accept`](Listener::try_accept).
    #[must_use]
    pub fn ready(&self) -> crossbeam_channel::Receiver<()> {
        if self.thread.core().is_forked() { always() } else { self.accepted.ready() }
    }

    /// Returns an iterator over the clients, as [`accept`](Listener::accept) returns them, until the
    /// listener is closed.
    pub fn incoming(&self) -> impl Iterator<Item = Result<Connection, AcceptError>> {
        std::iter::from_fn(|| match self.accept() {
            Err(AcceptError::Closed) => None,
            accepted => Some(accepted),
        })
    }

    /// Returns a stream of what happens here beside the connections: which peers were turned away and why,
    /// and that the system gives no sockets any more. Each stream has all events from the call on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use trunkline::{Config, Connection, HandshakeError, Key, Listener, ListenerEvent};
    ///
    /// let listener = Listener::bind("127.0.0.1:0", Config::new(Key::generate()))?;
    /// let events = listener.events();
    /// let stranger = Config::new(Key::generate());
    /// assert!(Connection::connect(listener.local_addr(), stranger).is_err());
    /// let event = events.recv_timeout(Duration::from_secs(10))?;
    /// assert!(matches!(
    ///     event,
    ///     ListenerEvent::TurnedAway { error: HandshakeError::NotAuthorised, peers: 1, .. }
    /// ));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn events(&self) -> ListenerEvents {
        ListenerEvents::new(&self.events, self.thread.core())
    }

    /// Returns where clients find it: a socket address, with the port that the system chose, or the path of
    /// a Unix socket. [`Connection::connect`] takes it.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the address that it listens on, with the port that the system chose. A Unix socket has none:
    /// then it is `0.0.0.0:0`, and [`address`](Listener::address) returns the path.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops listening: a call that waits in [`accept`](Listener::accept) returns. It does what dropping
    /// the listener does, for a thread that has only a reference to it.
    ///
    /// ```
    /// use trunkline::{AcceptError, Config, Key, Listener};
    ///
    /// let listener = Listener::bind("127.0.0.1:0", Config::new(Key::generate()))?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| listener.close());
    ///     assert!(matches!(listener.accept(), Err(AcceptError::Closed)));
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        if !self.thread.core().is_forked() {
            #[cfg(unix)]
            if let Some(file) = &self.file {
                file.remove();
            }
            drop(self.accepted.close());
            self.events.close();
            self.thread.core().push(Command::Unlisten(self.place));
        }
    }

    /// Returns the clients that the listener has now, accepted or not: which keys they have proved, since when
    /// they are here, and whether they have a socket. Their order says nothing.
    ///
    /// ```
    /// use trunkline::{Access, Config, Connection, Key, Listener};
    ///
    /// let key = Key::generate();
    /// let config = Config::with_access(key.clone(), Access::full().named("desk"));
    /// let listener = Listener::bind("127.0.0.1:0", config)?;
    /// let _client = Connection::connect(listener.local_addr(), Config::new(key))?;
    /// let sessions = listener.sessions();
    /// assert_eq!(sessions[0].access.name(), Some("desk"));
    /// assert!(!sessions[0].suspended);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        // A thread that runs the loop would wait for itself.
        if self.thread.core().is_forked() || runs_loop() {
            return Vec::new();
        }
        let (reply, answer) = bounded(1);
        self.thread.core().push(Command::Sessions(self.place, reply));
        self.thread.core().schedule.call();
        answer.recv().unwrap_or_default()
    }

    /// Accepts one more key from now on, and sets what its holder may do. If the key was accepted already,
    /// it gets the new access, and the connections that it has end, as with
    /// [`remove_key`](Listener::remove_key).
    pub fn add_key(&self, key: Key, access: Access) {
        if !self.thread.core().is_forked() {
            self.thread.core().push(Command::AddKey(self.place, key, access));
        }
    }

    /// Accepts a key no longer. The connections of clients that have proved it end with
    /// [`CloseCode::NOT_PERMITTED`](crate::CloseCode::NOT_PERMITTED); those without a socket end at once.
    pub fn remove_key(&self, key: &Key) {
        if !self.thread.core().is_forked() {
            self.thread.core().push(Command::RemoveKey(self.place, key.clone()));
        }
    }
}

fn connection(accepted: Result<Accepted, NotAccepted>) -> Result<Connection, AcceptError> {
    match accepted {
        Ok(accepted) => accepted.accept().map(Connection::new).ok_or(AcceptError::Closed),
        Err(NotAccepted::Yet) => Err(AcceptError::Empty),
        Err(NotAccepted::Ever) => Err(AcceptError::Closed),
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}
