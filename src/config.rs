//! Every knob, with its default and its reason.

use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::error::ConfigError;
use crate::id::ChannelSet;
use crate::io::IoThread;
use crate::key::Key;
use crate::proto::credit::Credit;

/// What a client that holds a certain key may do. The server decides and tells the client, which
/// refuses at once what the server would.
///
/// ```
/// use trunkline::{Access, ChannelId, Config, Key};
///
/// const STDIN: ChannelId = ChannelId::new(0);
/// // A monitor sees everything and changes nothing.
/// let monitor = Key::generate();
/// let config = Config::new(Key::generate()).with_key(monitor, Access::read_only());
/// # let _ = config;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    pub(crate) send: ChannelSet,
    pub(crate) receive: ChannelSet,
    pub(crate) interrupt: bool,
}

impl Access {
    /// All channels both ways, and interrupts.
    #[must_use]
    pub const fn full() -> Self {
        Self { send: ChannelSet::ALL, receive: ChannelSet::ALL, interrupt: true }
    }

    /// Receives on all channels and sends on none.
    #[must_use]
    pub const fn read_only() -> Self {
        Self { send: ChannelSet::EMPTY, receive: ChannelSet::ALL, interrupt: false }
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
}

/// The settings of a listener or a connection. They are checked once, at `bind`, `connect` or
/// `pair`.
///
/// ```
/// use std::time::Duration;
/// use trunkline::{Config, Key};
///
/// let config = Config::new(Key::generate())
///     .window(256 * 1024)
///     .heartbeat(Duration::from_secs(5), Duration::from_secs(20))
///     .linger(Duration::from_secs(1));
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) keys: Vec<(Key, Access)>,
    pub(crate) window: u32,
    pub(crate) max_message: u32,
    pub(crate) send_queue: u32,
    pub(crate) handshake_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) pending_handshakes: usize,
    pub(crate) max_connections: usize,
    pub(crate) heartbeat: Option<(Duration, Duration)>,
    pub(crate) linger: Duration,
    pub(crate) resume_grace: Duration,
    pub(crate) replay_limit: u32,
    pub(crate) max_suspended: usize,
    pub(crate) suspended_bytes: usize,
    pub(crate) allow_plaintext: bool,
    pub(crate) io_thread: Option<IoThread>,
}

impl Config {
    /// The default settings with this key. On a listener, who has the key may do everything.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self::with_access(key, Access::full())
    }

    /// The default settings with this key; on a listener, who has it may do what `access` says.
    #[must_use]
    pub fn with_access(key: Key, access: Access) -> Self {
        Self {
            keys: vec![(key, access)],
            window: 1 << 20,
            max_message: 16 << 20,
            send_queue: 4 << 20,
            handshake_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(10),
            pending_handshakes: 64,
            max_connections: 4096,
            heartbeat: Some((Duration::from_secs(10), Duration::from_secs(30))),
            linger: Duration::from_secs(5),
            resume_grace: Duration::from_secs(60),
            replay_limit: 4 << 20,
            max_suspended: 1024,
            suspended_bytes: 64 << 20,
            allow_plaintext: false,
            io_thread: None,
        }
    }

    /// One more key that a listener accepts, and what its holder may do. A client uses only the
    /// first key.
    #[must_use]
    pub fn with_key(mut self, key: Key, access: Access) -> Self {
        self.keys.push((key, access));
        self
    }

    /// The credit that this side grants on each channel that it receives, in bytes; a message
    /// costs its length + 32. It bounds what waits unread on a channel and what a channel can
    /// carry per round trip. Default 1 MiB: a gigabyte a second at a round trip of a millisecond.
    /// 1 KiB to 1 GiB.
    #[must_use]
    pub const fn window(mut self, bytes: u32) -> Self {
        self.window = bytes;
        self
    }

    /// The largest message that this side takes, in bytes. Default 16 MiB; at most 1 GiB. It may
    /// be larger than the window.
    #[must_use]
    pub const fn max_message(mut self, bytes: u32) -> Self {
        self.max_message = bytes;
        self
    }

    /// How many bytes may wait in the connection's send queue before a sender waits. Default
    /// 4 MiB: enough to keep a fast network busy, little enough to go out in a moment. 4 KiB to
    /// 1 GiB.
    #[must_use]
    pub const fn send_queue(mut self, bytes: u32) -> Self {
        self.send_queue = bytes;
        self
    }

    /// How long the whole handshake may take. Default 3 s (protocol, section 1). Bytes that
    /// trickle in do not extend it.
    #[must_use]
    pub const fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// How long a client waits for the server to take the TCP connection; and how long after its
    /// first attempt it begins another if the link is cut in the middle of the handshake. Default
    /// 10 s.
    #[must_use]
    pub const fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How many unproved peers a listener deals with at once. With one more, the oldest of them
    /// is dropped, so that silent peers keep nobody out. Default 64; 1 to 65,536.
    #[must_use]
    pub const fn pending_handshakes(mut self, peers: usize) -> Self {
        self.pending_handshakes = peers;
        self
    }

    /// How many connections a listener keeps at once; one more is told "too busy". Default 4096.
    #[must_use]
    pub const fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// After how long a silence the peer is asked whether it lives, and after how long it is
    /// given up. Default 10 s and 30 s. The timeout must be at least twice the interval.
    #[must_use]
    pub const fn heartbeat(mut self, interval: Duration, timeout: Duration) -> Self {
        self.heartbeat = Some((interval, timeout));
        self
    }

    /// Never asks and never gives up a silent peer. A peer whose process dies is still noticed
    /// at once, from the socket.
    #[must_use]
    pub const fn no_heartbeat(mut self) -> Self {
        self.heartbeat = None;
        self
    }

    /// How long `close`, and dropping the last handle, wait for the peer to have what was sent.
    /// Default 5 s.
    #[must_use]
    pub const fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// How long a connection that has lost its socket waits for another before it is over: the
    /// client tries to connect again, the listener keeps the session for it. Default 60 s: a train in
    /// a tunnel, a laptop that changes its network. `Duration::MAX` waits for ever. Zero turns it off:
    /// a lost socket is the end at once, on the other side as soon as it finds that out. See
    /// [sessions](crate::docs::sessions).
    #[must_use]
    pub const fn resume_grace(mut self, time: Duration) -> Self {
        self.resume_grace = time;
        self
    }

    /// How many bytes that the peer has not acknowledged are kept, in case its socket is lost;
    /// above that a sender waits, as it does for credit. Default 4 MiB: what a fast network has
    /// under way. 4 KiB to 1 GiB; a peer acknowledges every 128 KiB, so less than that is slow.
    #[must_use]
    pub const fn replay_limit(mut self, bytes: u32) -> Self {
        self.replay_limit = bytes;
        self
    }

    /// How many sessions without a socket a listener keeps, and how many bytes they may hold for
    /// replay and in their send queues together; what is above either limit expires, the one that
    /// has been without for longest first. Default 1024 sessions and 64 MiB.
    #[must_use]
    pub const fn max_suspended(mut self, sessions: usize, bytes: usize) -> Self {
        self.max_suspended = sessions;
        self.suspended_bytes = bytes;
        self
    }

    /// Allows a listener on an address that other machines reach. The peers prove their key, but
    /// nothing is encrypted: who carries the packets can read and change them.
    #[must_use]
    pub const fn allow_plaintext(mut self, allow: bool) -> Self {
        self.allow_plaintext = allow;
        self
    }

    /// The I/O thread to use instead of the one that the process shares.
    #[must_use]
    pub fn io_thread(mut self, thread: &IoThread) -> Self {
        self.io_thread = Some(thread.clone());
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let range = |knob, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError::OutOfRange { knob, value, min, max })
            }
        };
        const GIB: u64 = 1 << 30;
        const _: () = assert!(GIB <= Credit::MAX as u64);
        range("window", self.window.into(), 1024, GIB)?;
        range("max_message", self.max_message.into(), 1, GIB)?;
        range("send_queue", self.send_queue.into(), 4096, GIB)?;
        range("replay_limit", self.replay_limit.into(), 4096, GIB)?;
        range("pending_handshakes", self.pending_handshakes as u64, 1, 65_536)?;
        range("max_connections", self.max_connections as u64, 1, 1 << 20)?;
        for (knob, time) in [
            ("handshake_timeout, in ms", self.handshake_timeout),
            ("connect_timeout, in ms", self.connect_timeout),
        ] {
            range(knob, time.as_millis().try_into().unwrap_or(u64::MAX), 1, 3_600_000)?;
        }
        if let Some((interval, timeout)) = self.heartbeat {
            range(
                "heartbeat interval, in ms",
                interval.as_millis().try_into().unwrap_or(u64::MAX),
                1,
                86_400_000,
            )?;
            if timeout < interval * 2 {
                return Err(ConfigError::Heartbeat { interval, timeout });
            }
            range(
                "heartbeat timeout, in ms",
                timeout.as_millis().try_into().unwrap_or(u64::MAX),
                1,
                864_000_000,
            )?;
        }
        for (at, (key, _)) in self.keys.iter().enumerate() {
            if self.keys[..at].iter().any(|(other, _)| bool::from(key.bytes().ct_eq(other.bytes()))) {
                return Err(ConfigError::DuplicateKey);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let config = || Config::new(Key::from([1; 32]));
        assert_eq!(config().check(), Ok(()));
        let error = config().window(10).check().unwrap_err();
        assert_eq!(error.to_string(), "`window` is 10; it must be 1024 to 1073741824");
        assert!(config().max_message(0).check().is_err());
        assert!(config().handshake_timeout(Duration::ZERO).check().is_err());
        assert!(config().heartbeat(Duration::from_secs(2), Duration::from_secs(3)).check().is_err());
        assert_eq!(
            config().with_key(Key::from([1; 32]), Access::read_only()).check(),
            Err(ConfigError::DuplicateKey)
        );
    }
}
