//! Where clients connect to.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use crossbeam_channel::{bounded, unbounded};

use crate::config::Config;
use crate::connection::{Connection, io_thread, stopped};
use crate::error::{BindError, ConfigError, ConnectionError};
use crate::io::accept::Offered;
use crate::io::driver::{Command, Listen, Place};
use crate::io::shared::Core;

/// A socket that clients connect to.
///
/// Handshakes are made in the background, several at a time: a client that connects and says
/// nothing keeps nobody waiting. Dropping the listener stops listening; accepted connections go
/// on, and those that nobody has accepted are closed. A client whose socket is lost comes back to
/// its listener: without it, a lost socket is the end of a connection, and sessions that wait for
/// their clients expire at once.
///
/// ```
/// use trunkline::{Config, Key, Listener};
///
/// let listener = Listener::bind("127.0.0.1:0", Config::new(Key::generate()))?;
/// println!("listening on {}", listener.local_addr());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Listener {
    accepted: crossbeam_channel::Receiver<Offered>,
    local_addr: SocketAddr,
    core: Arc<Core>,
    place: Place,
    /// Keeps an I/O thread of the caller's own alive.
    _thread: crate::io::IoThread,
}

impl Listener {
    /// Listens on an address; port 0 lets the system choose one.
    ///
    /// # Errors
    ///
    /// [`BindError::Config`] if a setting cannot work; among them an address that is not loopback
    /// without [`Config::allow_plaintext`]. [`BindError::Io`] if the system refuses the address.
    pub fn bind(address: impl ToSocketAddrs, config: Config) -> Result<Self, BindError> {
        config.check()?;
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        if !config.allow_plaintext
            && let Some(exposed) = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback())
        {
            return Err(ConfigError::Plaintext(*exposed).into());
        }
        let thread = io_thread(&config)?;
        let socket = std::net::TcpListener::bind(&addresses[..])?;
        socket.set_nonblocking(true)?;
        let socket = mio::net::TcpListener::from_std(socket);
        // It holds no more than the connections that `max_connections` allows.
        let (accepting, accepted) = unbounded();
        let (reply, answer) = bounded(1);
        let core = Arc::clone(thread.core());
        let listen = Listen { socket, config: Arc::new(config), accepted: accepting, reply };
        core.push(Command::Listen(Box::new(listen)));
        let (local_addr, place) = answer.recv().map_err(|_| stopped())??;
        Ok(Self { accepted, local_addr, core, place, _thread: thread })
    }

    /// The next client that has proved its key; waits for one.
    ///
    /// # Errors
    ///
    /// [`ConnectionError::IoThreadStopped`] if the I/O thread is gone; nothing that a client does
    /// makes this fail.
    pub fn accept(&self) -> Result<Connection, ConnectionError> {
        loop {
            let offered = self.accepted.recv().map_err(|_| ConnectionError::IoThreadStopped)?;
            let shared = offered.accept().ok_or(ConnectionError::IoThreadStopped)?;
            // A client that never said a word and is gone may not even know that it was accepted.
            if !shared.ghost.load(std::sync::atomic::Ordering::Relaxed) {
                return Ok(Connection::new(shared));
            }
        }
    }

    /// The clients, one after the other: what [`accept`](Listener::accept) returns.
    pub fn incoming(&self) -> impl Iterator<Item = Result<Connection, ConnectionError>> {
        std::iter::repeat_with(|| self.accept())
    }

    /// The address that it listens on, with the port that the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.core.push(Command::Unlisten(self.place));
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}
