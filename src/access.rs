//! What the holder of a key may do.

use std::sync::Arc;

use crate::id::ChannelSet;

/// What a client that holds a certain key may do. The server decides and tells the client, which
/// refuses at once what the server would.
///
/// ```
/// use trunkline::{Access, ChannelId, Config, Key};
///
/// const STDIN: ChannelId = ChannelId::new(0);
/// // A monitor sees everything and changes nothing.
/// let monitor = Key::generate();
/// let config = Config::new(Key::generate()).with_key(monitor, Access::read_only().named("monitor"));
/// # let _ = config;
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    pub(crate) send: ChannelSet,
    pub(crate) receive: ChannelSet,
    pub(crate) interrupt: bool,
    name: Option<Arc<str>>,
}

impl Access {
    /// All channels both ways, and interrupts.
    #[must_use]
    pub const fn full() -> Self {
        Self { send: ChannelSet::ALL, receive: ChannelSet::ALL, interrupt: true, name: None }
    }

    /// Receives on all channels and sends on none.
    #[must_use]
    pub const fn read_only() -> Self {
        Self { send: ChannelSet::EMPTY, receive: ChannelSet::ALL, interrupt: false, name: None }
    }

    /// The channels that the client may send on.
    #[must_use]
    pub fn send(mut self, channels: impl Into<ChannelSet>) -> Self {
        self.send = channels.into();
        self
    }

    /// The channels that the client may receive.
    #[must_use]
    pub fn receive(mut self, channels: impl Into<ChannelSet>) -> Self {
        self.receive = channels.into();
        self
    }

    /// Whether the client may interrupt what the server computes (the protocol's INTERRUPT).
    #[must_use]
    pub const fn interrupt(mut self, may: bool) -> Self {
        self.interrupt = may;
        self
    }

    /// Gives the key a name, by which the server's program knows which client it talks to: see
    /// [`Connection::access`](crate::Connection::access). Nothing of it is on the wire.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The name that was given to the key.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The channels that the client may send on.
    #[must_use]
    pub const fn may_send(&self) -> ChannelSet {
        self.send
    }

    /// The channels that the client may receive.
    #[must_use]
    pub const fn may_receive(&self) -> ChannelSet {
        self.receive
    }

    /// Returns `true` if the client may interrupt what the server computes.
    #[must_use]
    pub const fn may_interrupt(&self) -> bool {
        self.interrupt
    }
}
