//! How a connection ends, and what its peer has at that time.

use std::fmt;
use std::io;
use std::time::Duration;

use super::HandshakeError;

/// The peer did not confirm that it has everything that was sent before
/// [`Connection::close`](crate::Connection::close): the time to linger was over, or the connection had
/// ended in another way. It may have everything all the same.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the peer has not confirmed that it has everything that was sent{}", cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default())]
pub struct CloseError {
    pub(crate) cause: Option<ConnectionError>,
}

impl CloseError {
    /// Returns how the connection ended.
    #[must_use]
    pub fn cause(&self) -> Option<&ConnectionError> {
        self.cause.as_ref()
    }
}

/// Why [`Connection::flush`](crate::Connection::flush) cannot say that the peer has everything.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The peer did not confirm in time. What was sent may still arrive.
    #[error("the peer has not confirmed in time that it has everything that was sent")]
    TimedOut,
    /// The socket is lost, and no other came in time. What was sent waits, and may still arrive.
    #[error(
        "the connection has no socket at the moment, so the peer cannot confirm that it has everything; it is kept until the connection comes back or ends"
    )]
    Suspended,
    /// The connection is over.
    #[error(transparent)]
    ConnectionLost(#[from] ConnectionError),
}

/// Which side or part caused a connection to end; see [`ConnectionError::fault`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// None: one of the two sides closed it in good order.
    None,
    /// The peer broke the protocol, or a thread of its program panicked.
    Peer,
    /// This side's program asked for something that is not possible or not permitted.
    Caller,
    /// The network, or the peer's process or machine.
    Network,
    /// This library, or this system.
    Library,
}

/// Why a connection ended. Every handle of it reports the same cause.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// This side closed the connection: by [`close`](crate::Connection::close), by one of the other calls
    /// that do, or by dropping the last handle.
    #[error("the connection was closed by this side ({code})")]
    Closed {
        /// The code that the peer was told.
        code: CloseCode,
    },
    /// The peer closed the connection.
    #[error("the connection was closed by the peer ({code}){}{reason}", if reason.is_empty() { "" } else { ": " })]
    ClosedByPeer {
        /// The peer's code.
        code: CloseCode,
        /// The peer's reason, at most 255 bytes.
        reason: String,
    },
    /// The peer broke the protocol. It was told so.
    #[error("the peer broke the protocol ({code}): {what}")]
    ProtocolViolation {
        /// The code that the peer was told.
        code: CloseCode,
        /// What the peer did.
        what: String,
    },
    /// Nothing was heard from the peer for the [heartbeat](crate::Config::heartbeat) timeout.
    #[error("nothing was heard from the peer for {0:?}; it or the network is down")]
    HeartbeatLost(Duration),
    /// The socket ended without a CLOSE: the peer's process died or the network failed.
    #[error("the connection was lost ({kind}): the peer's process or the network failed")]
    Lost {
        /// What the system reported.
        kind: io::ErrorKind,
    },
    /// A sealed socket carried bytes that do not open: something on the way has changed them. What came
    /// before is whole and was sent by the peer. It is a lost socket like others, and a session goes on over
    /// the next one.
    #[error("a sealed record was changed on the way, so its socket was given up")]
    Tampered,
    /// The session was without a socket for longer than its grace period
    /// ([`resume_grace`](crate::Config::resume_grace)), or the listener had to make room for others
    /// ([`max_suspended`](crate::Config::max_suspended)).
    #[error("the connection was interrupted for longer than its session is kept")]
    SessionExpired,
    /// The peer answers and does not know the session: its process was restarted. Or the two do not agree
    /// on the session's terms or offsets any more.
    #[error("the peer does not know this session any more; it was probably restarted")]
    SessionUnknown,
    /// The socket was lost, or there was none yet, and the peer could not be reached within the grace period
    /// ([`resume_grace`](crate::Config::resume_grace)).
    #[error("the connection was lost, and the peer could not be reached again in time")]
    PeerUnreachable,
    /// The socket was lost, and nothing listens any more at the peer's address on this machine: its process
    /// is gone. See [`local_grace`](crate::Config::local_grace).
    #[error("the peer's process is gone: nothing listens at its address any more")]
    PeerGone,
    /// The server that [`Connection::connect_lazily`](crate::Connection::connect_lazily) was waiting for is
    /// there, and the handshake failed.
    #[error("the connection could not be made: {0}")]
    Refused(HandshakeError),
    /// This process was forked from the one that made the connection, which still has it. The child needs a
    /// connection of its own.
    #[error(
        "the connection belongs to the process that this one was forked from; make a new connection after the fork"
    )]
    Forked,
    /// The I/O thread has ended; see [`IoThread`](crate::IoThread).
    #[error("the I/O thread of this connection has stopped")]
    IoThreadStopped,
}

impl ConnectionError {
    /// Returns which side or part caused it.
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
                CloseCode::PANICKED => Fault::Peer,
                _ => Fault::None,
            },
            Self::ProtocolViolation { .. } => Fault::Peer,
            Self::HeartbeatLost(_)
            | Self::Lost { .. }
            | Self::Tampered
            | Self::SessionExpired
            | Self::SessionUnknown
            | Self::PeerUnreachable
            | Self::PeerGone => Fault::Network,
            Self::Refused(error) => error.fault(),
            Self::Forked => Fault::Caller,
            Self::IoThreadStopped => Fault::Library,
        }
    }

    /// Returns the code of the CLOSE that was sent or received, if there was one.
    #[must_use]
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::Closed { code }
            | Self::ClosedByPeer { code, .. }
            | Self::ProtocolViolation { code, .. } => Some(*code),
            Self::HeartbeatLost(_) => Some(CloseCode::HEARTBEAT_LOST),
            Self::Lost { .. }
            | Self::Tampered
            | Self::SessionExpired
            | Self::SessionUnknown
            | Self::PeerUnreachable
            | Self::PeerGone
            | Self::Refused(_)
            | Self::Forked
            | Self::IoThreadStopped => None,
        }
    }
}

impl From<ConnectionError> for io::Error {
    fn from(error: ConnectionError) -> Self {
        let kind = match &error {
            ConnectionError::Closed { .. } => io::ErrorKind::NotConnected,
            ConnectionError::ClosedByPeer { .. } => io::ErrorKind::ConnectionAborted,
            ConnectionError::ProtocolViolation { .. } | ConnectionError::Tampered => {
                io::ErrorKind::InvalidData
            }
            ConnectionError::HeartbeatLost(_)
            | ConnectionError::SessionExpired
            | ConnectionError::PeerUnreachable => io::ErrorKind::TimedOut,
            ConnectionError::SessionUnknown | ConnectionError::PeerGone => io::ErrorKind::ConnectionReset,
            ConnectionError::Refused(HandshakeError::NotAuthorised | HandshakeError::NotPermitted { .. }) => {
                io::ErrorKind::PermissionDenied
            }
            ConnectionError::Refused(_) => io::ErrorKind::ConnectionRefused,
            // An end of the socket is no end of the channel, and no pipe of the program's: callers must not
            // take it for one.
            ConnectionError::Lost { kind: io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe } => {
                io::ErrorKind::ConnectionReset
            }
            ConnectionError::Lost { kind } => *kind,
            ConnectionError::Forked | ConnectionError::IoThreadStopped => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// Why one side closed a connection (protocol, section 2).
///
/// 0 to 6 are the protocol's. 256 and up are the application's own. The rest is reserved, and reaches the
/// application as it came.
///
/// ```
/// use trunkline::CloseCode;
///
/// let code = CloseCode::application(3);
/// assert_eq!(u16::from(code), 259);
/// assert_eq!(code.to_string(), "application code 3");
/// assert_eq!(CloseCode::from(0), CloseCode::NORMAL);
/// ```
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
    /// A thread of the other side's program panicked and dropped the connection: what it sent may not be
    /// all that it meant to send. It is the last of the application's codes.
    pub const PANICKED: Self = Self(u16::MAX);

    /// Creates the application's own code `number`, which is sent as 256 + `number`.
    ///
    /// # Panics
    ///
    /// If `number` is above 65,278: the code has 16 bits, and the last one is
    /// [`PANICKED`](CloseCode::PANICKED).
    #[must_use]
    pub const fn application(number: u16) -> Self {
        assert!(number < u16::MAX - 256, "an application's close code is 0 to 65278");
        Self(256 + number)
    }
}

impl std::str::FromStr for CloseCode {
    type Err = std::num::ParseIntError;

    /// Reads the number of a code as it is on the wire: `0` is [`NORMAL`](CloseCode::NORMAL), `256` is the
    /// application's code 0.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim().parse().map(Self)
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
            Self::PANICKED => "a thread panicked",
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
