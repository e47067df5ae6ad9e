//! Every knob, with its default and its reason.

use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::access::Access;
use crate::error::ConfigError;
use crate::io::IoThread;
use crate::key::Key;
use crate::options::Options;
use crate::proto::credit::Credit;

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
    pub(crate) options: Options,
    pub(crate) allow_plaintext: bool,
    pub(crate) io_thread: Option<IoThread>,
}

impl Config {
    /// The default settings with this key. On a listener, a client that has the key may do
    /// everything.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self::with_access(key, Access::full())
    }

    /// The default settings with this key; on a listener, a client that has it may do what `access`
    /// says.
    #[must_use]
    pub fn with_access(key: Key, access: Access) -> Self {
        let options = Options {
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

    /// One more key that a listener accepts, and what its holder may do. A client uses only the
    /// first key.
    #[must_use]
    pub fn with_key(mut self, key: Key, access: Access) -> Self {
        self.keys.push((key, access));
        self
    }

    /// The credit that this side grants on each channel that it receives, in bytes; a message
    /// costs its length + 32. It bounds what waits unread on a channel and what a channel can
    /// carry per round trip. Default 896 KiB: nearly a gigabyte a second at a round trip of a
    /// millisecond, and 112 MiB if the peer fills all 128 channels. 1 KiB to 1 GiB.
    #[must_use]
    pub const fn window(mut self, bytes: u32) -> Self {
        self.options.window = bytes;
        self
    }

    /// The largest message that this side takes, in bytes. Default 16 MiB; at most 1 GiB. It may
    /// be larger than the window.
    #[must_use]
    pub const fn max_message(mut self, bytes: u32) -> Self {
        self.options.max_message = bytes;
        self
    }

    /// How many bytes all messages of a connection that have not arrived whole may hold together.
    /// Default 128 MiB; at least what the windows of the channels that the peer may send on hold, and
    /// one largest message. Where that is used up, messages larger than the window arrive one after
    /// the other.
    #[must_use]
    pub const fn max_assembly(mut self, bytes: usize) -> Self {
        self.options.max_assembly = bytes;
        self
    }

    /// How many bytes the whole messages of a connection that are not read may hold together, above
    /// the windows of their channels. Only messages larger than the window can. Above it no further
    /// such message is let in on any channel, until enough was read. Default 256 MiB.
    #[must_use]
    pub const fn max_unread(mut self, bytes: usize) -> Self {
        self.options.max_unread = bytes;
        self
    }

    /// How many bytes may wait in the connection's send queue before a sender waits. Default
    /// 4 MiB: enough to keep a fast network busy, little enough to go out in a moment. 4 KiB to
    /// 1 GiB.
    #[must_use]
    pub const fn send_queue(mut self, bytes: u32) -> Self {
        self.options.send_queue = bytes;
        self
    }

    /// How long the whole handshake may take. Default 3 s (protocol, section 1). Bytes that
    /// trickle in do not extend it.
    #[must_use]
    pub const fn handshake_timeout(mut self, time: Duration) -> Self {
        self.options.handshake_timeout = time;
        self
    }

    /// How long an attempt to connect may take in all: looking the name up, all of its addresses, and
    /// further rounds if a handshake is cut in the middle. Default 10 s.
    #[must_use]
    pub const fn connect_timeout(mut self, time: Duration) -> Self {
        self.options.connect_timeout = time;
        self
    }

    /// How many peers that have proved nothing a listener deals with at once: so many that have said
    /// nothing, and as many that have named a known key. With one more of a kind, one of them is
    /// dropped by chance, so that silent peers keep no other out. Each takes a file descriptor and some
    /// hundred bytes. Default 1024, and never more than a quarter of the process's limit of file
    /// descriptors; 1 to 65,536.
    #[must_use]
    pub const fn pending_handshakes(mut self, peers: usize) -> Self {
        self.options.pending_handshakes = peers;
        self
    }

    /// How many connections may wait to be accepted; a client that comes when there are as many is
    /// told "too busy". Default 128; 1 to 65,536.
    #[must_use]
    pub const fn backlog(mut self, connections: usize) -> Self {
        self.options.backlog = connections;
        self
    }

    /// How many connections a listener keeps at once; one more is told "too busy". Default 4096.
    #[must_use]
    pub const fn max_connections(mut self, connections: usize) -> Self {
        self.options.max_connections = connections;
        self
    }

    /// After how long a silence the peer is asked whether it lives, and after how long it is
    /// given up. Default 10 s and 30 s. The timeout must be at least twice the interval.
    #[must_use]
    pub const fn heartbeat(mut self, interval: Duration, timeout: Duration) -> Self {
        self.options.heartbeat = Some((interval, timeout));
        self
    }

    /// Never asks and never gives up a silent peer. A peer whose process dies is still noticed
    /// at once, from the socket.
    #[must_use]
    pub const fn no_heartbeat(mut self) -> Self {
        self.options.heartbeat = None;
        self
    }

    /// How long `close`, and dropping the last handle, wait for the peer to have what was sent.
    /// Default 5 s.
    #[must_use]
    pub const fn linger(mut self, time: Duration) -> Self {
        self.options.linger = time;
        self
    }

    /// How long a connection that has lost its socket waits for another before it is over: the
    /// client tries to connect again, the listener keeps the session for it. Default 60 s: a train in
    /// a tunnel, a laptop that changes its network. `Duration::MAX` waits for ever. Zero turns it off:
    /// a lost socket is the end at once, on the other side as soon as it finds that out. See
    /// [sessions](crate::docs::sessions).
    #[must_use]
    pub const fn resume_grace(mut self, time: Duration) -> Self {
        self.options.resume_grace = time;
        self
    }

    /// How long a client whose server is on this machine goes on trying while nothing listens there.
    /// There a refused connection means that the server's process is gone, so it is not worth
    /// [`resume_grace`](Config::resume_grace). Default 1 s. Raise it where the other end of a loopback
    /// port is a tunnel's, which comes back. Elsewhere a refusal says little, and this does not apply.
    #[must_use]
    pub const fn local_grace(mut self, time: Duration) -> Self {
        self.options.local_grace = time;
        self
    }

    /// How many bytes that the peer has not acknowledged are kept, in case its socket is lost;
    /// above that a sender waits, as it does for credit. Default 4 MiB: what a fast network has
    /// under way. 256 KiB to 1 GiB (protocol, section 6). A peer that goes on sending and lets 1 MiB
    /// more go unacknowledged breaks the protocol.
    #[must_use]
    pub const fn replay_limit(mut self, bytes: u32) -> Self {
        self.options.replay_limit = bytes;
        self
    }

    /// How many sessions without a socket a listener keeps, and how many bytes they may hold together,
    /// with everything that is in their account; what is above either limit expires, the one that
    /// has been without for longest first. Default 1024 sessions and 64 MiB.
    #[must_use]
    pub const fn max_suspended(mut self, sessions: usize, bytes: usize) -> Self {
        self.options.max_suspended = sessions;
        self.options.suspended_bytes = bytes;
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
