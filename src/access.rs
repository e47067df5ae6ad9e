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
    name: Option<Arc<str>>,
}

impl Access {
    /// Allows all channels both ways, and interrupts.
    #[must_use]
    pub const fn full() -> Self {
        Self { send: ChannelSet::ALL, receive: ChannelSet::ALL, interrupt: true, name: None }
    }

    /// Allows receiving on all channels, and neither sending nor interrupts.
    #[must_use]
    pub const fn read_only() -> Self {
        Self { send: ChannelSet::EMPTY, receive: ChannelSet::ALL, interrupt: false, name: None }
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
}
