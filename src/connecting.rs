//! How a client comes to its connection.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crossbeam_channel::bounded;

use crate::address::Address;
use crate::config::Config;
use crate::connection::{Connection, client_key, io_thread, stopped};
use crate::error::{ConnectError, ConnectionError};
use crate::io::IoThread;
use crate::io::command::{Command, Connect, ConnectLazily};
use crate::io::reply::{Awaiting, reply};

impl Connection {
    /// Connects to a listener. Both sides prove that they have the key.
    ///
    /// A name that stands for several addresses is tried at all of them, IPv6 and IPv4 in turns, each a
    /// quarter of a second after the one before or as soon as that has failed. The first server that proves
    /// the key is used. If the handshake is cut in the middle, or the server is busy, it is tried again.
    /// All of that takes [`Config::connect_timeout`] at most.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Config`] if a setting cannot work. [`ConnectError::Io`] if the address cannot be
    /// resolved or nothing answers there in time. [`ConnectError::Handshake`] if the other side speaks
    /// something else, has another key, or has no room.
    pub fn connect(address: impl Into<Address>, config: Config) -> Result<Self, ConnectError> {
        let connecting = Self::connecting(address, config)?;
        connecting.awaiting.wait().map(Self::new)
    }

    /// Begins to connect as [`connect`](Connection::connect) does, and returns a future of the connection,
    /// for an executor. Dropping it gives the attempt up.
    ///
    /// ```
    /// use std::pin::pin;
    /// use std::task::{Context, Waker};
    /// use trunkline::{Config, Connection, Key, Listener};
    ///
    /// let key = Key::generate();
    /// let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()))?;
    /// let mut connecting = pin!(Connection::connecting(listener.local_addr(), Config::new(key))?);
    /// let mut context = Context::from_waker(Waker::noop()); // in an async fn: .await
    /// let client = loop {
    ///     if let std::task::Poll::Ready(client) = connecting.as_mut().poll(&mut context) { break client? }
    /// };
    /// assert_eq!(client.peer_addr(), Some(listener.local_addr()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConnectError::Config`] if a setting cannot work, [`ConnectError::Io`] if the system gives no thread.
    /// The future has the other errors of [`connect`](Connection::connect).
    pub fn connecting(address: impl Into<Address>, config: Config) -> Result<Connecting, ConnectError> {
        config.check()?;
        let thread = io_thread(&config)?;
        let key = client_key(&config)?;
        let (reply, awaiting) = reply();
        let connect = Connect { address: address.into(), key, options: config.options, reply };
        thread.core().push(Command::Connect(Box::new(connect)));
        thread.core().schedule.call();
        Ok(Connecting { awaiting, thread })
    }

    /// Connects to a listener's Unix socket, as [`connect`](Connection::connect) does with
    /// [`Address::unix`]. The process that listens must be this user's or root's, or nothing is sent to it.
    ///
    /// # Errors
    ///
    /// As [`connect`](Connection::connect), and
    /// [`HandshakeError::ForeignUser`](crate::HandshakeError::ForeignUser) if another user's process listens
    /// there.
    #[cfg(unix)]
    pub fn connect_unix(path: impl AsRef<std::path::Path>, config: Config) -> Result<Self, ConnectError> {
        Self::connect(Address::unix(path.as_ref()), config)
    }

    /// Begins to connect to a listener, and returns before the listener is there.
    ///
    /// What is sent meanwhile waits, and goes when the listener comes; calls that receive wait. The
    /// listener is tried at once and then again and again, with pauses from 50 ms to 5 s, until
    /// [`Config::resume_grace`] is over; with a grace of zero, once. Then, or if the listener refuses for
    /// good, every handle fails with the cause.
    ///
    /// Until the listener is there:
    ///
    /// - Its limits are taken to be this side's own ([`Config::window`], [`Config::max_message`]), and
    ///   every channel to be permitted ([`may_send`](Connection::may_send),
    ///   [`may_receive`](Connection::may_receive)). If it grants a smaller window, what was sent follows as
    ///   it grants more. What it does not take at all ends the connection.
    /// - [`interrupt`](Connection::interrupt) is refused: there is nothing to interrupt.
    /// - [`is_suspended`](Connection::is_suspended) returns `true`, and
    ///   [`local_addr`](Connection::local_addr) and [`peer_addr`](Connection::peer_addr) return `None`.
    ///   [`Event::Resumed`](crate::Event::Resumed) tells when it came.
    /// - [`close`](Connection::close), and dropping the last handle, wait for it at most [`Config::linger`]
    ///   if something was sent.
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
    /// [`ConnectError::Config`] if a setting cannot work, [`ConnectError::Io`] if the text is no address or
    /// the system gives no thread. All other errors come from the handles:
    /// [`ConnectionError::PeerUnreachable`](crate::ConnectionError::PeerUnreachable) after the grace
    /// period, [`ConnectionError::Refused`](crate::ConnectionError::Refused) as soon as the other side
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
}

/// A future of a connection; see [`Connection::connecting`].
///
/// Dropping it gives the attempt up: a connection that comes all the same is closed.
#[must_use = "dropping it gives the attempt up"]
pub struct Connecting {
    awaiting: Awaiting,
    /// Keeps an I/O thread of the caller's own alive.
    thread: IoThread,
}

impl Future for Connecting {
    type Output = Result<Connection, ConnectError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.thread.core().is_forked() {
            return Poll::Ready(Err(std::io::Error::from(ConnectionError::Forked).into()));
        }
        self.awaiting.poll(context.waker()).map(|answer| answer.map(Connection::new))
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if !self.thread.core().is_forked()
            && let Some(shared) = self.awaiting.cancel()
        {
            Connection::new(shared).detach();
        }
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connecting")
    }
}
