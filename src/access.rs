//! What a client with a certain key may do.

use std::sync::Arc;

use crate::id::ChannelSet;

/// What a client that has a certain key may do.
///
/// The server decides, and tells the client in the handshake (protocol, section 1). So the client refuses
/// at once what the server would refuse.
///
/// ```
/// use trunkline::{Access, ChannelId, Config, Key};
///
/// const STDIN: ChannelId = ChannelId::new(0);
/// // A monitor sees everything and changes nothing.
/// let monitor = Key::generate();
/// let config = Config::new(Key::generate()).with_key(monitor, Access::read_only().named("monitor"));
/// // An assistant may also type, and not interrupt.
/// let config = config.with_key(Key::generate(), Access::read_only().send(STDIN));
/// # let _ = config;
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    pub(crate) send: ChannelSet,
    pub(crate) receive: ChannelSet,
    pub(crate) interrupt: bool,
    pub(crate) quotas: Quotas,
    take_input: bool,
    name: Option<Arc<str>>,
}

/// What the holders of a key may use up; `None`: as much as the listener's settings allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Quotas {
    pub(crate) connections: Option<usize>,
    pub(crate) assembly: Option<usize>,
    pub(crate) unread: Option<usize>,
}

impl Quotas {
    const NONE: Self = Self { connections: None, assembly: None, unread: None };
}

impl Access {
    /// Allows all channels both ways, interrupts, and taking the input.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            send: ChannelSet::ALL,
            receive: ChannelSet::ALL,
            interrupt: true,
            take_input: true,
            quotas: Quotas::NONE,
            name: None,
        }
    }

    /// Allows receiving on all channels, and nothing else.
    #[must_use]
    pub const fn read_only() -> Self {
        Self {
            send: ChannelSet::EMPTY,
            receive: ChannelSet::ALL,
            interrupt: false,
            take_input: false,
            quotas: Quotas::NONE,
            name: None,
        }
    }

    /// Sets the channels that the client may send on.
    #[must_use]
    pub fn send(mut self, channels: impl Into<ChannelSet>) -> Self {
        self.send = channels.into();
        self
    }

    /// Sets the channels that the client may receive.
    #[must_use]
    pub fn receive(mut self, channels: impl Into<ChannelSet>) -> Self {
        self.receive = channels.into();
        self
    }

    /// Sets whether the client may interrupt what the server computes (the protocol's INTERRUPT).
    #[must_use]
    pub const fn interrupt(mut self, may: bool) -> Self {
        self.interrupt = may;
        self
    }

    /// Sets how many connections the holders of the key may have at a listener at once, with or without a
    /// socket; 0 counts as 1. By default only the listener's limits count. A client above it takes the place
    /// of the key's session that has been without a socket for longest; if all have one, the client is told
    /// [`TooBusy`](crate::HandshakeError::TooBusy).
    ///
    /// ```
    /// use std::time::Duration;
    /// use trunkline::{Access, Config, Connection, Key, Listener};
    ///
    /// let key = Key::generate();
    /// let config = Config::with_access(key.clone(), Access::full().max_connections(1));
    /// let listener = Listener::bind("127.0.0.1:0", config)?;
    /// // A client that is told `TooBusy` tries again, for so long.
    /// let client = Config::new(key).connect_timeout(Duration::from_millis(100));
    /// let connect = || Connection::connect(listener.local_addr(), client.clone());
    /// let _first = connect()?;
    /// assert!(connect().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.quotas.connections = Some(connections.max(1));
        self
    }

    /// Sets how many bytes the unfinished messages of a connection of this key may hold together, if the
    /// listener's [`Config::max_assembly`](crate::Config::max_assembly) does not say less.
    #[must_use]
    pub const fn max_assembly(mut self, bytes: usize) -> Self {
        self.quotas.assembly = Some(bytes);
        self
    }

    /// Sets how many bytes the unread messages of a connection of this key may hold above the windows, if
    /// the listener's [`Config::max_unread`](crate::Config::max_unread) does not say less.
    #[must_use]
    pub const fn max_unread(mut self, bytes: usize) -> Self {
        self.quotas.unread = Some(bytes);
        self
    }

    /// Sets whether the client may take the input of a shared program from another client. The core does not
    /// use it: a program that serves several clients asks [`may_take_input`](Access::may_take_input).
    #[must_use]
    pub const fn take_input(mut self, may: bool) -> Self {
        self.take_input = may;
        self
    }

    /// Gives the key a name, by which the server's program knows which client it talks to: see
    /// [`Connection::access`](crate::Connection::access). The name is never on the wire.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Returns the name that was given to the key.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the channels that the client may send on.
    #[must_use]
    pub const fn may_send(&self) -> ChannelSet {
        self.send
    }

    /// Returns the channels that the client may receive.
    #[must_use]
    pub const fn may_receive(&self) -> ChannelSet {
        self.receive
    }

    /// Returns `true` if the client may interrupt what the server computes.
    #[must_use]
    pub const fn may_interrupt(&self) -> bool {
        self.interrupt
    }
    /// Returns `true` if the client may take the input of a shared program from another client.
    #[must_use]
    pub const fn may_take_input(&self) -> bool {
        self.take_input
    }
}
