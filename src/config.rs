//! Every setting, with its default and its reason.

use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::access::Access;
use crate::error::ConfigError;
use crate::io::IoThread;
use crate::key::Key;
use crate::options::Options;
use crate::proto::credit::Credit;
use crate::proto::seal;
use crate::sealing::Sealing;

/// The settings of a listener or a connection.
///
/// Every setting has a default. They are checked once, at [`bind`](crate::Listener::bind),
/// [`connect`](crate::Connection::connect), [`connect_lazily`](crate::Connection::connect_lazily) or
/// [`pair`](crate::Connection::pair), which return a [`ConfigError`] that names the setting. Sizes are in
/// bytes, and a message counts as its length + 32 wherever it waits. [The
/// design](crate::docs::design#what-is-bounded-and-by-what) has the formula of what a connection may hold.
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
    pub(crate) options: Options,
    pub(crate) allow_plaintext: bool,
    pub(crate) io_thread: Option<IoThread>,
}

impl Config {
    /// Creates the default settings with this key. On a listener, a client that has the key may do
    /// everything.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self::with_access(key, Access::full())
    }

    /// Creates the default settings with this key. On a listener, a client that has the key may do what
    /// `access` says.
    #[must_use]
    pub fn with_access(key: Key, access: Access) -> Self {
        let options = Options {
            sealing: Sealing::Auto,
            window: 896 << 10,
            max_message: 16 << 20,
            max_assembly: 128 << 20,
            max_unread: 256 << 20,
            send_queue: 4 << 20,
            handshake_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(10),
            pending_handshakes: 1024,
            backlog: 128,
            max_connections: 4096,
            heartbeat: Some((Duration::from_secs(10), Duration::from_secs(30))),
            linger: Duration::from_secs(5),
            resume_grace: Duration::from_secs(60),
            local_grace: Duration::from_secs(1),
            replay_limit: 4 << 20,
            max_suspended: 1024,
            suspended_bytes: 64 << 20,
        };
        Self { keys: vec![(key, access)], options, allow_plaintext: false, io_thread: None }
    }

    /// Adds a key that a listener accepts, and what its holder may do. A client uses only the first key.
    ///
    /// The same key given twice is [`ConfigError::DuplicateKey`].
    ///
    /// ```
    /// use trunkline::{Access, ChannelId, Config, Key};
    ///
    /// const STDOUT: ChannelId = ChannelId::new(1);
    /// let (owner, watcher) = (Key::generate(), Key::generate());
    /// let config = Config::new(owner).with_key(watcher, Access::read_only().receive(STDOUT));
    /// # let _ = config;
    /// ```
    #[must_use]
    pub fn with_key(mut self, key: Key, access: Access) -> Self {
        self.keys.push((key, access));
        self
    }

    /// Sets the credit that this side grants on each channel that it receives (protocol, section 3).
    ///
    /// It bounds what waits unread on a channel, and what a channel can carry in a round trip. Default 896
    /// KiB: nearly a gigabyte a second at a round trip of a millisecond, and 112 MiB if the peer fills all
    /// 128 channels. 1 KiB to 1 GiB.
    #[must_use]
    pub const fn window(mut self, bytes: u32) -> Self {
        self.options.window = bytes;
        self
    }

    /// Sets the size of the largest message that this side takes, without the 32. Default 16 MiB; 1 byte to
    /// 1 GiB.
    ///
    /// It may be larger than the window. A peer that sends a larger one breaks the protocol; a sender of
    /// this library gets [`SendError::TooLarge`](crate::SendError::TooLarge).
    #[must_use]
    pub const fn max_message(mut self, bytes: u32) -> Self {
        self.options.max_message = bytes;
        self
    }

    /// Sets how many bytes all unfinished messages of a connection may hold together. Default 128 MiB.
    ///
    /// What the windows of the channels that the peer may send on hold, and one largest message above them,
    /// is always allowed, so a smaller number counts as that. Where the limit is used up, messages larger
    /// than the window arrive one after the other.
    #[must_use]
    pub const fn max_assembly(mut self, bytes: usize) -> Self {
        self.options.max_assembly = bytes;
        self
    }

    /// Sets how many bytes the whole unread messages of a connection may hold together above the windows of
    /// their channels. Default 256 MiB.
    ///
    /// Messages that come in several frames can do that, because what has come of an unfinished message
    /// does not count against the window (protocol, section 3). Above the limit no channel gets such
    /// credit, until the application has read enough.
    #[must_use]
    pub const fn max_unread(mut self, bytes: usize) -> Self {
        self.options.max_unread = bytes;
        self
    }

    /// Sets how many bytes may wait in the connection's send queue before a sender waits, for each
    /// [`Priority`](crate::Priority). Default 4 MiB: enough to keep a fast network busy, little enough to
    /// go out in a moment. 4 KiB to 1 GiB.
    #[must_use]
    pub const fn send_queue(mut self, bytes: u32) -> Self {
        self.options.send_queue = bytes;
        self
    }

    /// Sets what suits a person at a prompt, beside output that never ends: the window to 256 KiB, the send
    /// queue and the replay limit to 1 MiB. Messages of one [`Priority`](crate::Priority) wait for less of
    /// what was sent before them, and a channel that is not read holds less than a third. The limits for large
    /// messages stay as they are.
    ///
    /// A window is what its own side receives, so both sides set this. See [the guide] for measurements.
    ///
    /// ```
    /// use trunkline::{ChannelId, Config, Connection, Key};
    ///
    /// let (here, _there) = Connection::pair(Config::new(Key::generate()).interactive())?;
    /// assert_eq!(here.sender(ChannelId::new(1))?.credit(), 256 << 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [the guide]: crate#back-pressure-and-limits
    #[must_use]
    pub const fn interactive(self) -> Self {
        self.window(256 << 10).send_queue(1 << 20).replay_limit(1 << 20)
    }

    /// Sets what suits large amounts of data on a fast link: the window to 4 MiB, the send queue and the
    /// replay limit to 16 MiB. The two sides wake each other less often. A peer can fill up to 4 MiB on each
    /// channel that it may send on, which is 512 MiB with all of them, and what is sent on a slow link waits for longer.
    ///
    /// A window is what its own side receives, so both sides set this. See [the guide] for measurements.
    ///
    /// [the guide]: crate#back-pressure-and-limits
    #[must_use]
    pub const fn bulk(self) -> Self {
        self.window(4 << 20).send_queue(16 << 20).replay_limit(16 << 20)
    }

    /// Sets how long the whole handshake may take (protocol, section 1). Bytes that trickle in do not
    /// extend it. Default 3 s; 1 ms to 1 h.
    #[must_use]
    pub const fn handshake_timeout(mut self, time: Duration) -> Self {
        self.options.handshake_timeout = time;
        self
    }

    /// Sets how long an attempt to connect may take in all: looking the name up, all of its addresses, and
    /// further rounds if a handshake is cut or the server is busy. Default 10 s; 1 ms to 1 h.
    #[must_use]
    pub const fn connect_timeout(mut self, time: Duration) -> Self {
        self.options.connect_timeout = time;
        self
    }

    /// Sets how many strangers a listener deals with at once: so many peers that have said nothing, and as
    /// many that have named a known key and not proved it. Default 1024; 1 to 65,536.
    ///
    /// With one more of a kind, one of that kind is dropped at random, so silent peers keep no other out.
    /// Each takes a file descriptor and a few hundred bytes. A listener never uses more than a quarter of
    /// the process's limit of file descriptors for a kind.
    #[must_use]
    pub const fn pending_handshakes(mut self, peers: usize) -> Self {
        self.options.pending_handshakes = peers;
        self
    }

    /// Sets how many connections may wait to be accepted. A client that comes when there are as many is
    /// told [`TooBusy`](crate::HandshakeError::TooBusy). Default 128; 1 to 65,536.
    #[must_use]
    pub const fn backlog(mut self, connections: usize) -> Self {
        self.options.backlog = connections;
        self
    }

    /// Sets how many connections with a socket a listener keeps. A client above that is told
    /// [`TooBusy`](crate::HandshakeError::TooBusy). Default 4096; 1 to 1,048,576.
    ///
    /// Sessions without a socket do not count here, but for [`max_suspended`](Config::max_suspended).
    #[must_use]
    pub const fn max_connections(mut self, connections: usize) -> Self {
        self.options.max_connections = connections;
        self
    }

    /// Sets after how long a silence the peer is asked for a sign of life, and after how long it is given
    /// up (protocol, section 5). Default 10 s and 30 s.
    ///
    /// The timeout must be at least twice the interval, and at most ten days; the interval is 1 ms to one
    /// day. Each connection shortens its interval by up to a quarter, at random.
    #[must_use]
    pub const fn heartbeat(mut self, interval: Duration, timeout: Duration) -> Self {
        self.options.heartbeat = Some((interval, timeout));
        self
    }

    /// Turns heartbeats off: a silent peer is neither asked nor given up. A peer whose process dies is
    /// still noticed at once, from the socket.
    #[must_use]
    pub const fn no_heartbeat(mut self) -> Self {
        self.options.heartbeat = None;
        self
    }

    /// Sets how long [`close`](crate::Connection::close), and dropping the last handle, wait for the peer
    /// to have what was sent and to confirm it (protocol, section 7). Default 5 s.
    #[must_use]
    pub const fn linger(mut self, time: Duration) -> Self {
        self.options.linger = time;
        self
    }

    /// Sets how long a connection that has lost its socket waits for another (protocol, section 6). Default
    /// 60 s: a train in a tunnel, a laptop that changes its network.
    ///
    /// The client tries to connect again; the listener keeps the session. The smaller grace of the two
    /// sides counts. `Duration::MAX` waits for ever. Zero turns it off: a lost socket is the end, on the
    /// other side as soon as it finds that out. See [sessions](crate::docs::sessions).
    #[must_use]
    pub const fn resume_grace(mut self, time: Duration) -> Self {
        self.options.resume_grace = time;
        self
    }

    /// Sets how long a client goes on trying while nothing listens at its server's address on this machine.
    /// Default 1 s.
    ///
    /// On loopback a refused connection means that the server's process is gone, so it is not worth
    /// [`resume_grace`](Config::resume_grace): the connection ends with
    /// [`PeerGone`](crate::ConnectionError::PeerGone). Raise it where the other end of a loopback port
    /// belongs to a tunnel, which comes back. Elsewhere a refusal says little, and this does not apply.
    #[must_use]
    pub const fn local_grace(mut self, time: Duration) -> Self {
        self.options.local_grace = time;
        self
    }

    /// Sets how many bytes that the peer has not acknowledged are kept, in case the socket is lost
    /// (protocol, section 6). Above that a sender waits, as it does for credit. Default 4 MiB: what a fast
    /// network has under way. 256 KiB to 1 GiB.
    ///
    /// A peer that goes on sending while 1 MiB more is unacknowledged breaks the protocol.
    #[must_use]
    pub const fn replay_limit(mut self, bytes: u32) -> Self {
        self.options.replay_limit = bytes;
        self
    }

    /// Sets how many sessions without a socket a listener keeps, and how many bytes they may hold together,
    /// with everything in their accounts ([`Stats::held`](crate::Stats::held)). Default 1024 sessions and
    /// 64 MiB.
    ///
    /// Above either limit the session that has been without a socket for longest expires.
    #[must_use]
    pub const fn max_suspended(mut self, sessions: usize, bytes: usize) -> Self {
        self.options.max_suspended = sessions;
        self.options.suspended_bytes = bytes;
        self
    }

    /// Sets which connections are sealed (encrypted). [`Sealing::Auto`] by default: everything that leaves this
    /// process over TCP, and everything that comes from other machines.
    ///
    /// ```
    /// use trunkline::{Config, Connection, HandshakeError, Key, Listener, Sealing};
    ///
    /// let key = Key::generate();
    /// let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone()).sealing(Sealing::Always))?;
    /// let client = Connection::connect(listener.local_addr(), Config::new(key.clone()))?;
    /// assert!(client.is_sealed());
    /// // Never negotiated: a client that does not seal is told so.
    /// let plain = Connection::connect(listener.local_addr(), Config::new(key).sealing(Sealing::Never));
    /// assert_eq!(plain.unwrap_err().to_string(), HandshakeError::SealedOnly.to_string());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn sealing(mut self, sealing: Sealing) -> Self {
        self.options.sealing = sealing;
        self
    }

    /// Allows a listener that takes plain connections on an address that other machines reach, besides
    /// [`Sealing::Never`]. The peers prove their key, but nothing is encrypted: a network on the way can read
    /// and change the packets. Off by default.
    #[must_use]
    pub const fn allow_plaintext(mut self, allow: bool) -> Self {
        self.allow_plaintext = allow;
        self
    }

    /// Sets the I/O thread to use instead of the one that the process shares.
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
        range("window", self.options.window.into(), 1024, GIB)?;
        range("max_message", self.options.max_message.into(), 1, GIB)?;
        range("send_queue", self.options.send_queue.into(), 4096, GIB)?;
        range("replay_limit", self.options.replay_limit.into(), 256 << 10, GIB)?;
        range("backlog", self.options.backlog as u64, 1, 65_536)?;
        range("pending_handshakes", self.options.pending_handshakes as u64, 1, 65_536)?;
        range("max_connections", self.options.max_connections as u64, 1, 1 << 20)?;
        for (knob, time) in [
            ("handshake_timeout, in ms", self.options.handshake_timeout),
            ("connect_timeout, in ms", self.options.connect_timeout),
        ] {
            range(knob, time.as_millis().try_into().unwrap_or(u64::MAX), 1, 3_600_000)?;
        }
        if let Some((interval, timeout)) = self.options.heartbeat {
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
        if self.options.sealing == Sealing::Always && !seal::IS_BUILT {
            return Err(ConfigError::CannotSeal);
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
