//! Why there is no connection: settings, addresses, handshakes.

use std::io;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

use super::Fault;
use crate::id::ChannelId;

/// A setting that cannot work, found at `bind`, `connect`, `connect_lazily` or `pair`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A listener that takes plain connections on an address that other machines reach, without
    /// [`allow_plaintext`](crate::Config::allow_plaintext).
    #[error(
        "{0} can be reached from other machines, and plain connections are not encrypted: a network that carries the packets can read \
         and change them. Leave `sealing` at `Sealing::Auto`, in a build with the feature `sealed`; or bind to 127.0.0.1; or say \
         `allow_plaintext(true)` if the network is trusted"
    )]
    Plaintext(std::net::SocketAddr),
    /// A number outside its limits.
    #[error("`{knob}` is {value}; it must be {min} to {max}")]
    OutOfRange {
        /// The setting's name.
        knob: &'static str,
        /// Its value.
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// The heartbeat timeout leaves no room for a heartbeat.
    #[error(
        "the heartbeat timeout ({timeout:?}) must be at least twice the interval ({interval:?}): a peer needs time to answer"
    )]
    Heartbeat {
        /// The interval.
        interval: Duration,
        /// The timeout.
        timeout: Duration,
    },
    /// [`Sealing::Always`](crate::Sealing::Always) in a build without the feature `sealed`.
    #[error("this build of trunkline cannot seal connections; enable its feature `sealed`")]
    CannotSeal,
    /// The same key was given twice.
    #[error("the same key is given twice; each key stands for one set of rights")]
    DuplicateKey,
}

/// Why [`Listener::bind`](crate::Listener::bind) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file of a Unix socket cannot be made, or not safely.
    #[cfg(unix)]
    #[error(transparent)]
    SocketFile(#[from] SocketFileError),
    /// The system refused the address or the socket.
    #[error("cannot listen: {0}")]
    Io(#[from] io::Error),
}

/// Why [`Listener::bind_unix`](crate::Listener::bind_unix) cannot listen at a path.
#[cfg(unix)]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketFileError {
    /// Other users can write the directory of the socket, or move a directory above it.
    #[error(
        "other users can write {} (mode {mode:o}), so one of them could put a socket of its own where clients look for this one; \
         choose a directory that only its owner can write, such as $XDG_RUNTIME_DIR or one made by `mkdir -m 700`",
        directory.display()
    )]
    Exposed {
        /// The directory.
        directory: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A directory of the path belongs to another user, who is not root.
    #[error(
        "{} belongs to user {user}, so that user could put a socket of its own where clients look for this one; \
         choose a directory of this process's own user, such as $XDG_RUNTIME_DIR",
        directory.display()
    )]
    ForeignDirectory {
        /// The directory.
        directory: PathBuf,
        /// The user id of its owner.
        user: u32,
    },
    /// Another process listens there.
    #[error("another process listens at {}; end it, or choose another path", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// There is a file that is no socket.
    #[error("{} exists and is no socket; remove it, or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused a file or a directory.
    #[error("cannot listen at {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

#[cfg(unix)]
impl From<SocketFileError> for io::Error {
    fn from(error: SocketFileError) -> Self {
        let kind = match &error {
            SocketFileError::Io { source, .. } => source.kind(),
            SocketFileError::InUse { .. } => io::ErrorKind::AddrInUse,
            SocketFileError::NotASocket { .. } => io::ErrorKind::AlreadyExists,
            SocketFileError::Exposed { .. } | SocketFileError::ForeignDirectory { .. } => {
                io::ErrorKind::PermissionDenied
            }
        };
        Self::new(kind, error)
    }
}

/// Why [`Listener::accept`](crate::Listener::accept) returned no connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// No client waits, or none came in time.
    #[error("no client waits to be accepted")]
    Empty,
    /// The listener was closed, or its I/O thread has ended.
    #[error("the listener is closed")]
    Closed,
}

impl From<AcceptError> for io::Error {
    fn from(error: AcceptError) -> Self {
        let kind = match error {
            AcceptError::Empty => io::ErrorKind::WouldBlock,
            AcceptError::Closed => io::ErrorKind::NotConnected,
        };
        io::Error::new(kind, error)
    }
}

/// Why [`Connection::connect`](crate::Connection::connect),
/// [`Connection::connect_lazily`](crate::Connection::connect_lazily) or
/// [`Connection::pair`](crate::Connection::pair) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address could not be resolved, or nothing answers there.
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    /// The other side answered, and the handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// Why a handshake failed (protocol, section 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The other side does not speak trunkline.
    #[error("the other side does not speak trunkline; check the address and port")]
    NotTrunkline,
    /// The two speak no common protocol version, or the server does not know what this side asks for.
    #[error("{}", no_common_version(*client, *server))]
    NoCommonVersion {
        /// The version that the client speaks; 0 at a listener, which turns clients of any other version away.
        client: u8,
        /// The version that the server's answer names; 0 if it names none. The answer does not prove who has sent it.
        server: u8,
    },
    /// The server does not know the key.
    #[error("the server does not accept this key; check that both sides use the same one")]
    NotAuthorised,
    /// The server did not prove that it has the key: an impostor, or a stream changed on the way.
    #[error("the server could not prove that it has the key; do not trust what answers there")]
    BadProof,
    /// The server has all the connections that it takes.
    #[error("the server has as many connections as it takes; try again later")]
    TooBusy,
    /// The server does not know the session.
    #[error("the server does not know this session; it was probably restarted")]
    SessionUnknown,
    /// The session was away for too long.
    #[error("the session was away for longer than the server keeps it")]
    SessionExpired,
    /// The server cannot go on from where this side stands, or with the terms that it names.
    #[error("the server cannot go on from where this session stands, or on the terms of this side")]
    TermsChanged,
    /// The server takes only sealed connections.
    #[error(
        "the server takes only sealed (encrypted) connections; set this side's `sealing` to `Sealing::Auto` or `Sealing::Always`, \
         in a build with the feature `sealed`"
    )]
    SealedOnly,
    /// The server takes only plain connections.
    #[error(
        "the server takes only plain (unencrypted) connections; set this side's `sealing` to `Sealing::Never` if nothing on the way \
         can read or change what is sent, or build the server with the feature `sealed`"
    )]
    PlainOnly,
    /// The process at the other end of a Unix socket belongs to another user, who is not root. Nothing was
    /// sent to it.
    #[error(
        "the process at the other end of the socket belongs to {}, and not to the user of this process or to root; do not trust what listens there",
        match user { Some(user) => format!("user {user}"), None => "a user whom the system does not tell".to_owned() }
    )]
    ForeignUser {
        /// The id of that user; `None` if the system does not tell it.
        user: Option<u32>,
    },
    /// The other side sent a handshake message that the protocol does not allow.
    #[error(
        "the other side broke the protocol in the handshake; the stream may have been changed on the way"
    )]
    Malformed,
    /// The server does not let this side use a channel that it has used before the server was
    /// there; only after [`connect_lazily`](crate::Connection::connect_lazily).
    #[error("the server does not let this side {} on channel {channel}, on which it did before the server was there; the server's `Access` for this key decides", if *sending { "send" } else { "receive" })]
    NotPermitted {
        /// The channel.
        channel: ChannelId,
        /// `true` if it was to send, `false` if it was to receive.
        sending: bool,
    },
    /// The server does not take a message that was sent before it was there; only after
    /// [`connect_lazily`](crate::Connection::connect_lazily).
    #[error(
        "a message that was sent before the server was there is larger than the {limit} bytes that it takes; send it in pieces, or raise the server's `max_message`"
    )]
    MessageTooLarge {
        /// The most that the server takes, in bytes.
        limit: u32,
    },
    /// The handshake took too long.
    #[error("the handshake was not done in time; the other side may be no trunkline server, or too busy")]
    TimedOut,
    /// The other side hung up in the middle of the handshake.
    #[error("the other side hung up during the handshake")]
    Disconnected,
}

fn no_common_version(client: u8, server: u8) -> String {
    match (client, server) {
        (0, _) => format!(
            "the client does not speak protocol version {server}, as this listener does; update the older of the two"
        ),
        (_, 0) => format!(
            "the server does not speak protocol version {client}, as this side does; update the older of the two"
        ),
        _ if client == server => format!(
            "the server speaks protocol version {server}, as this side does, but does not know what this side asks for; update the server"
        ),
        _ => {
            let older = if client < server { "this side" } else { "the server" };
            format!(
                "the server speaks protocol version {server}, and this side version {client}; update {older}"
            )
        }
    }
}

impl HandshakeError {
    /// Returns `true` if another attempt would end the same way.
    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::NotTrunkline | Self::NoCommonVersion { .. } | Self::NotAuthorised | Self::BadProof => true,
            Self::NotPermitted { .. } | Self::MessageTooLarge { .. } => true,
            Self::SealedOnly | Self::PlainOnly | Self::ForeignUser { .. } => true,
            Self::TooBusy | Self::TimedOut | Self::Disconnected | Self::Malformed => false,
            Self::SessionUnknown | Self::SessionExpired | Self::TermsChanged => false,
        }
    }

    pub(super) fn fault(self) -> Fault {
        match self {
            Self::NotTrunkline
            | Self::NoCommonVersion { .. }
            | Self::NotAuthorised
            | Self::NotPermitted { .. }
            | Self::MessageTooLarge { .. }
            | Self::SealedOnly
            | Self::PlainOnly => Fault::Caller,
            Self::BadProof | Self::ForeignUser { .. } => Fault::Peer,
            _ => Fault::Network,
        }
    }
}
