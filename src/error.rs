//! What can go wrong, one type per call.
//!
//! Errors of a whole connection are a [`ConnectionError`]; all handles of a connection report the
//! same one. [`ConnectionError::fault`] says who failed.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::id::ChannelId;

/// Why a key could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be opened, read or made.
    #[error("cannot use the key file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Other users could read the file.
    #[error(
        "other users can read or change the key file {path} (mode {mode:03o}); run `chmod 600` on it, and make a new key if somebody may have read it"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The environment variable is not set.
    #[error("the environment variable {0} is not set; it should hold the key as 64 hex digits")]
    NotSet(String),
    /// The text is no key.
    #[error("not a key: a key is 64 hex digits, and nothing else but white space around them")]
    NotHex,
}

/// A setting that cannot work, found at `bind`, `connect` or `pair`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An address that other machines reach, without encryption.
    #[error(
        "{0} can be reached from other machines, and nothing on the way is encrypted: whoever carries the packets can read \
         and change them. Bind to 127.0.0.1 and use a tunnel (ssh -L), or say `allow_plaintext(true)` if the network is trusted"
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
    /// Two keys that are the same.
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
    /// The system refused.
    #[error("cannot listen: {0}")]
    Io(#[from] io::Error),
}

/// Why [`Connection::connect`](crate::Connection::connect) or
/// [`Connection::pair`](crate::Connection::pair) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address could not be resolved, or nobody answers there.
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    /// The peer answered, but the two did not come together.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// Why two peers did not come together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The other side speaks something else.
    #[error("the other side does not speak trunkline; check the address and port")]
    NotTrunkline,
    /// The two speak no common protocol version.
    #[error("the server speaks no protocol version that this side does; update the older of the two")]
    NoCommonVersion,
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
    /// The server cannot go on from where this side stands.
    #[error("the server cannot go on from where this session stands")]
    OffsetOutOfRange,
    /// The server does not let this side use a channel that it has used before the server was
    /// there; only after [`connect_lazily`](crate::Connection::connect_lazily).
    #[error("the server does not let this side {} on channel {channel}, on which it did before the server was there; the server's `Access` for this key decides", if *sending { "send" } else { "receive" })]
    NotPermitted {
        /// The channel.
        channel: ChannelId,
        /// Whether it was to send (else to receive).
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

impl HandshakeError {
    /// Whether another attempt would come to the same.
    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::NotTrunkline | Self::NoCommonVersion | Self::NotAuthorised | Self::BadProof => true,
            Self::NotPermitted { .. } | Self::MessageTooLarge { .. } => true,
            Self::TooBusy | Self::TimedOut | Self::Disconnected => false,
            Self::SessionUnknown | Self::SessionExpired | Self::OffsetOutOfRange => false,
        }
    }

    fn fault(self) -> Fault {
        match self {
            Self::NotTrunkline
            | Self::NoCommonVersion
            | Self::NotAuthorised
            | Self::NotPermitted { .. }
            | Self::MessageTooLarge { .. } => Fault::Caller,
            Self::BadProof => Fault::Peer,
            _ => Fault::Network,
        }
    }
}

/// The peer did not confirm that it has all that was sent before
/// [`Connection::close`](crate::Connection::close): the time to linger was over, or the connection
/// had ended another way.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the peer has not confirmed that it has everything that was sent{}", cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default())]
pub struct CloseError {
    pub(crate) cause: Option<ConnectionError>,
}

impl CloseError {
    /// How the connection ended.
    #[must_use]
    pub fn cause(&self) -> Option<&ConnectionError> {
        self.cause.as_ref()
    }
}

/// Why [`Connection::flush`](crate::Connection::flush) does not know that the peer has everything.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// Not in time. It may still arrive.
    #[error("the peer has not confirmed in time that it has everything that was sent")]
    TimedOut,
    /// The connection is over.
    #[error(transparent)]
    ConnectionLost(#[from] ConnectionError),
}

/// Who caused a connection to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nobody: one of the two closed it in good order.
    None,
    /// The other side broke the protocol.
    Peer,
    /// This side's program asked for what cannot be.
    Caller,
    /// The network, or the machine of the other side.
    Network,
    /// This library, or the system under it.
    Library,
}

/// Why a connection ended; every handle of it reports the same.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// This side called [`Connection::close`](crate::Connection::close).
    #[error("the connection was closed by this side ({code})")]
    Closed {
        /// The code that was given.
        code: CloseCode,
    },
    /// The peer closed the connection.
    #[error("the connection was closed by the peer ({code}){}{reason}", if reason.is_empty() { "" } else { ": " })]
    ClosedByPeer {
        /// The peer's code.
        code: CloseCode,
        /// The peer's words, at most 255 bytes.
        reason: String,
    },
    /// The peer broke the protocol; it was told so.
    #[error("the peer broke the protocol ({code}): {what}")]
    ProtocolViolation {
        /// The code that the peer was told.
        code: CloseCode,
        /// What it did.
        what: String,
    },
    /// Nothing was heard for the heartbeat timeout.
    #[error("nothing was heard from the peer for {0:?}; it or the network is down")]
    HeartbeatLost(Duration),
    /// The socket ended without a CLOSE: the peer's process died or the network failed.
    #[error("the connection was lost ({kind}): the peer's process or the network failed")]
    Lost {
        /// What the system said of it.
        kind: io::ErrorKind,
    },
    /// The session was without a socket for longer than [`resume_grace`](crate::Config::resume_grace),
    /// or the listener had to make room for others.
    #[error("the connection was interrupted for longer than its session is kept")]
    SessionExpired,
    /// The peer answers and does not know the session: its process was restarted.
    #[error("the peer does not know this session any more; it was probably restarted")]
    SessionUnknown,
    /// The socket was lost, and the peer could not be reached again within
    /// [`resume_grace`](crate::Config::resume_grace).
    #[error("the connection was lost, and the peer could not be reached again in time")]
    PeerUnreachable,
    /// The server that [`Connection::connect_lazily`](crate::Connection::connect_lazily) was waiting
    /// for is there, and the two did not come together.
    #[error("the connection could not be made: {0}")]
    Refused(HandshakeError),
    /// The I/O thread is gone; see [`IoThread`](crate::IoThread).
    #[error("the I/O thread of this connection has stopped")]
    IoThreadStopped,
}

impl ConnectionError {
    /// Who caused it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Closed { .. } => Fault::None,
            Self::ClosedByPeer { code, .. } => match *code {
                CloseCode::PROTOCOL_ERROR | CloseCode::FLOW_CONTROL | CloseCode::MESSAGE_TOO_LARGE => {
                    Fault::Library
                }
                CloseCode::NOT_PERMITTED => Fault::Caller,
                CloseCode::HEARTBEAT_LOST => Fault::Network,
                _ => Fault::None,
            },
            Self::ProtocolViolation { .. } => Fault::Peer,
            Self::HeartbeatLost(_)
            | Self::Lost { .. }
            | Self::SessionExpired
            | Self::SessionUnknown
            | Self::PeerUnreachable => Fault::Network,
            Self::Refused(error) => error.fault(),
            Self::IoThreadStopped => Fault::Library,
        }
    }

    /// The code of the CLOSE that was sent or received, if there was one.
    #[must_use]
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::Closed { code }
            | Self::ClosedByPeer { code, .. }
            | Self::ProtocolViolation { code, .. } => Some(*code),
            Self::HeartbeatLost(_) => Some(CloseCode::HEARTBEAT_LOST),
            Self::Lost { .. }
            | Self::SessionExpired
            | Self::SessionUnknown
            | Self::PeerUnreachable
            | Self::Refused(_)
            | Self::IoThreadStopped => None,
        }
    }
}

impl From<ConnectionError> for io::Error {
    fn from(error: ConnectionError) -> Self {
        let kind = match &error {
            ConnectionError::Closed { .. } => io::ErrorKind::NotConnected,
            ConnectionError::ClosedByPeer { .. } => io::ErrorKind::ConnectionAborted,
            ConnectionError::ProtocolViolation { .. } => io::ErrorKind::InvalidData,
            ConnectionError::HeartbeatLost(_)
            | ConnectionError::SessionExpired
            | ConnectionError::PeerUnreachable => io::ErrorKind::TimedOut,
            ConnectionError::SessionUnknown => io::ErrorKind::ConnectionReset,
            ConnectionError::Refused(HandshakeError::NotAuthorised | HandshakeError::NotPermitted { .. }) => {
                io::ErrorKind::PermissionDenied
            }
            ConnectionError::Refused(_) => io::ErrorKind::ConnectionRefused,
            // An end of the socket is no end of the channel: a reader must not take it for one.
            ConnectionError::Lost { kind: io::ErrorKind::UnexpectedEof } => io::ErrorKind::ConnectionReset,
            ConnectionError::Lost { kind } => *kind,
            ConnectionError::IoThreadStopped => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// Why one side closed a connection (protocol, section 2).
///
/// 0 to 6 have a name here; 256 and up are the application's own; the rest is reserved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// Closed in good order.
    pub const NORMAL: Self = Self(0);
    /// The other side broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// The other side sent without credit, or granted too much.
    pub const FLOW_CONTROL: Self = Self(2);
    /// The other side sent a message above the limit.
    pub const MESSAGE_TOO_LARGE: Self = Self(3);
    /// The other side did what its key does not allow.
    pub const NOT_PERMITTED: Self = Self(4);
    /// Nothing was heard for too long.
    pub const HEARTBEAT_LOST: Self = Self(5);
    /// The process is ending.
    pub const SHUTTING_DOWN: Self = Self(6);

    /// The application's own code `number`, sent as 256 + `number`.
    ///
    /// # Panics
    ///
    /// If `number` is above 65,279, so that the code would not fit into 16 bits.
    #[must_use]
    pub const fn application(number: u16) -> Self {
        assert!(number <= u16::MAX - 256, "an application's close code is 0 to 65279");
        Self(256 + number)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> u16 {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NORMAL => "closed normally",
            Self::PROTOCOL_ERROR => "protocol error",
            Self::FLOW_CONTROL => "flow control violated",
            Self::MESSAGE_TOO_LARGE => "message too large",
            Self::NOT_PERMITTED => "not permitted",
            Self::HEARTBEAT_LOST => "heartbeat lost",
            Self::SHUTTING_DOWN => "shutting down",
            Self(code @ 256..) => return write!(f, "application code {}", code - 256),
            Self(code) => return write!(f, "reserved code {code}"),
        };
        f.write_str(name)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({}: {self})", self.0)
    }
}

/// Why [`Connection::sender`](crate::Connection::sender) or
/// [`Connection::receiver`](crate::Connection::receiver) gave no handle.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The server's key settings do not let this side use the channel that way.
    #[error("this connection may not {} on channel {channel}; the server's `Access` for this key decides", if *sending { "send" } else { "receive" })]
    NotPermitted {
        /// The channel.
        channel: ChannelId,
        /// Whether it was to send (else to receive).
        sending: bool,
    },
    /// Another `Receiver` has the channel.
    #[error("channel {0} already has a receiver; drop that one first")]
    InUse(ChannelId),
    /// Other senders of the channel have another priority.
    #[error(
        "channel {0} has senders of another priority; a channel has one, or its messages would overtake each other"
    )]
    PriorityInUse(ChannelId),
    /// The server does not let this side interrupt it.
    #[error("this connection may not interrupt the peer; the server's `Access` for this key decides")]
    InterruptNotPermitted,
    /// A receiver of no channel at all.
    #[error("a receiver needs at least one channel")]
    NoChannel,
    /// The connection is over.
    #[error(transparent)]
    ConnectionLost(#[from] ConnectionError),
}

/// Why nothing more can be sent with this handle.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// The peer dropped its receiver, or called `stop` with this code. A new sender begins a new
    /// run of the channel.
    #[error("the peer stopped receiving on this channel (code {0})")]
    Stopped(u32),
    /// The connection is over.
    #[error(transparent)]
    ConnectionLost(#[from] ConnectionError),
}

macro_rules! gives_message_back {
    ($name:ident { $($variant:ident),* }) => {
        impl<T> $name<T> {
            /// The message that was not sent.
            pub fn into_inner(self) -> T {
                match self { $(Self::$variant { message, .. } => message),* }
            }
        }

        // By hand, so that a message needs no `Debug` and its contents reach no log.
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl<T> std::error::Error for $name<T> {}
    };
}

/// Why a `send` failed; it gives the message back.
#[derive(Clone, PartialEq, Eq)]
pub enum SendError<T> {
    /// The message is larger than the peer takes.
    TooLarge {
        /// The message.
        message: T,
        /// The most that the peer takes, in bytes.
        limit: u32,
    },
    /// Nothing can be sent any more with this handle.
    Disconnected {
        /// The message.
        message: T,
        /// Why.
        cause: Disconnect,
    },
}

gives_message_back!(SendError { TooLarge, Disconnected });

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit, .. } => too_large(f, *limit),
            Self::Disconnected { cause, .. } => cause.fmt(f),
        }
    }
}

impl<T> From<SendError<T>> for io::Error {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::TooLarge { .. } => io::Error::new(io::ErrorKind::InvalidInput, error.to_string()),
            SendError::Disconnected { cause: Disconnect::ConnectionLost(cause), .. } => cause.into(),
            SendError::Disconnected { cause, .. } => io::Error::new(io::ErrorKind::BrokenPipe, cause),
        }
    }
}

/// Why a `try_send` failed; it gives the message back.
#[derive(Clone, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// No room now: the channel has no credit, or the send queue is full.
    Full {
        /// The message.
        message: T,
    },
    /// The message is larger than the peer takes.
    TooLarge {
        /// The message.
        message: T,
        /// The most that the peer takes, in bytes.
        limit: u32,
    },
    /// Nothing can be sent any more with this handle.
    Disconnected {
        /// The message.
        message: T,
        /// Why.
        cause: Disconnect,
    },
}

gives_message_back!(TrySendError { Full, TooLarge, Disconnected });

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { .. } => f.write_str("no room now: the peer has not taken enough of what was sent"),
            Self::TooLarge { limit, .. } => too_large(f, *limit),
            Self::Disconnected { cause, .. } => cause.fmt(f),
        }
    }
}

/// Why a `send_timeout` or `send_deadline` failed; it gives the message back, and nothing of it
/// was sent.
#[derive(Clone, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    /// There was no room in time.
    Timeout {
        /// The message.
        message: T,
    },
    /// The message is larger than the peer takes.
    TooLarge {
        /// The message.
        message: T,
        /// The most that the peer takes, in bytes.
        limit: u32,
    },
    /// Nothing can be sent any more with this handle.
    Disconnected {
        /// The message.
        message: T,
        /// Why.
        cause: Disconnect,
    },
}

gives_message_back!(SendTimeoutError { Timeout, TooLarge, Disconnected });

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { .. } => f.write_str(
                "no room in time: the peer takes nothing of what was sent; nothing of this message was",
            ),
            Self::TooLarge { limit, .. } => too_large(f, *limit),
            Self::Disconnected { cause, .. } => cause.fmt(f),
        }
    }
}

fn too_large(f: &mut fmt::Formatter<'_>, limit: u32) -> fmt::Result {
    write!(
        f,
        "the message is larger than the {limit} bytes that the peer takes; send it in pieces, or raise the peer's `max_message`"
    )
}

/// Why `recv` returned no message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecvError {
    /// The peer has finished: what it sent was read to the end. For a receiver of several
    /// channels: all of them. What comes after belongs to the next run.
    #[error("the peer has finished sending")]
    Finished,
    /// The peer abandoned this run of the channel.
    #[error("the peer abandoned channel {channel} (code {code})")]
    Reset {
        /// The channel.
        channel: ChannelId,
        /// The peer's code.
        code: u32,
    },
    /// The connection is over, and all that had arrived was read.
    #[error(transparent)]
    ConnectionLost(#[from] ConnectionError),
}

/// Why `try_recv` returned no message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing is there now.
    #[error("no message is there now")]
    Empty,
    /// The run or the connection is over.
    #[error(transparent)]
    Disconnected(#[from] RecvError),
}

/// Why `recv_timeout` or `recv_deadline` returned no message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecvTimeoutError {
    /// Nothing came in time.
    #[error("no message came in time")]
    Timeout,
    /// The run or the connection is over.
    #[error(transparent)]
    Disconnected(#[from] RecvError),
}

/// Why a blocked read of a [`Reader`](crate::Reader) returned early: its
/// [`Interrupter`](crate::Interrupter) was used.
///
/// It comes as an [`io::Error`] of the kind `Other` (std's own readers would swallow the kind
/// `Interrupted` and read on); [`is_read_interrupted`] tells it from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the read was interrupted by this program")]
pub struct ReadInterrupted;

/// Whether a read failed because its [`Interrupter`](crate::Interrupter) was used.
#[must_use]
pub fn is_read_interrupted(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<ReadInterrupted>())
}
