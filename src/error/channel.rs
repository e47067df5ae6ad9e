//! Errors of channels: claiming, sending, receiving.

use std::fmt;
use std::io;

use super::{ConnectionError, Interrupted};
use crate::id::ChannelId;

/// Why [`Connection::sender`](crate::Connection::sender) or
/// [`Connection::receiver`](crate::Connection::receiver) returned no handle, or
/// [`Connection::interrupt`](crate::Connection::interrupt) failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The server's key settings do not let this side use the channel that way.
    #[error("this connection may not {} on channel {channel}; the server's `Access` for this key decides", if *sending { "send" } else { "receive" })]
    NotPermitted {
        /// The channel.
        channel: ChannelId,
        /// `true` if it was to send, `false` if it was to receive.
        sending: bool,
    },
    /// Another [`Receiver`](crate::Receiver) has the channel.
    #[error("channel {0} already has a receiver; drop that one first")]
    InUse(ChannelId),
    /// Other senders of the channel have another priority, or what they sent still waits.
    #[error(
        "channel {0} has senders of another priority; a channel has one, or its messages would overtake each other"
    )]
    PriorityInUse(ChannelId),
    /// The server does not let this side interrupt it.
    #[error("this connection may not interrupt the peer; the server's `Access` for this key decides")]
    InterruptNotPermitted,
    /// The set of channels is empty.
    #[error("a receiver needs at least one channel")]
    NoChannel,
    /// The connection is over.
    #[error(transparent)]
    ConnectionLost(#[from] ConnectionError),
}

/// Why nothing more can be sent with a handle.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// The peer dropped its receiver (code 0), or called [`stop`](crate::Receiver::stop) with this code. A
    /// new sender begins a new run of the channel.
    #[error("the peer stopped receiving on this channel (code {0})")]
    Stopped(u32),
    /// The connection is over.
    #[error(transparent)]
    ConnectionLost(#[from] ConnectionError),
}

macro_rules! may_give_message_back {
    ($name:ident { $($variant:ident),* }) => {
        impl<T> $name<T> {
            /// Returns the message that was not sent.
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

/// Why a [`send`](crate::Sender::send) failed. Nothing of the message was sent. A `send` borrows its
/// message, so the caller still has it; [`send_bytes`](crate::Sender::send_bytes) gives it back. Neither
/// `Debug` nor `Display` shows the message.
#[derive(Clone, PartialEq, Eq)]
pub enum SendError<T = ()> {
    /// An [`Interrupter`](crate::Interrupter) ended the wait for room.
    Interrupted {
        /// The message, if the call took it.
        message: T,
    },
    /// The message is larger than the peer takes.
    TooLarge {
        /// The message, if the call took it.
        message: T,
        /// The most that the peer takes, in bytes.
        limit: u32,
    },
    /// Nothing more can be sent with this handle.
    Disconnected {
        /// The message, if the call took it.
        message: T,
        /// The reason.
        cause: Disconnect,
    },
}

may_give_message_back!(SendError { Interrupted, TooLarge, Disconnected });

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted { .. } => Interrupted.fmt(f),
            Self::TooLarge { limit, .. } => too_large(f, *limit),
            Self::Disconnected { cause, .. } => cause.fmt(f),
        }
    }
}

impl<T> From<SendError<T>> for io::Error {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Interrupted { .. } => io::Error::other(Interrupted),
            SendError::TooLarge { .. } => io::Error::new(io::ErrorKind::InvalidInput, error.to_string()),
            SendError::Disconnected { cause, .. } => cause.into(),
        }
    }
}

impl From<Disconnect> for io::Error {
    fn from(cause: Disconnect) -> Self {
        match cause {
            Disconnect::ConnectionLost(cause) => cause.into(),
            Disconnect::Stopped(_) => io::Error::new(io::ErrorKind::BrokenPipe, cause),
        }
    }
}

/// Why a [`try_send`](crate::Sender::try_send) failed. Nothing of the message was sent.
#[derive(Clone, PartialEq, Eq)]
pub enum TrySendError<T = ()> {
    /// There is no room now: the channel has no credit, the send queue is full, or other senders wait.
    Full {
        /// The message, if the call took it.
        message: T,
    },
    /// The message is larger than the peer takes.
    TooLarge {
        /// The message, if the call took it.
        message: T,
        /// The most that the peer takes, in bytes.
        limit: u32,
    },
    /// Nothing more can be sent with this handle.
    Disconnected {
        /// The message, if the call took it.
        message: T,
        /// The reason.
        cause: Disconnect,
    },
}

may_give_message_back!(TrySendError { Full, TooLarge, Disconnected });

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { .. } => f.write_str("no room now: the peer has not taken enough of what was sent"),
            Self::TooLarge { limit, .. } => too_large(f, *limit),
            Self::Disconnected { cause, .. } => cause.fmt(f),
        }
    }
}

/// Why a [`send_timeout`](crate::Sender::send_timeout) or [`send_deadline`](crate::Sender::send_deadline)
/// failed. Nothing of the message was sent.
#[derive(Clone, PartialEq, Eq)]
pub enum SendTimeoutError<T = ()> {
    /// An [`Interrupter`](crate::Interrupter) ended the wait for room.
    Interrupted {
        /// The message, if the call took it.
        message: T,
    },
    /// There was no room in time.
    Timeout {
        /// The message, if the call took it.
        message: T,
    },
    /// The message is larger than the peer takes.
    TooLarge {
        /// The message, if the call took it.
        message: T,
        /// The most that the peer takes, in bytes.
        limit: u32,
    },
    /// Nothing more can be sent with this handle.
    Disconnected {
        /// The message, if the call took it.
        message: T,
        /// The reason.
        cause: Disconnect,
    },
}

may_give_message_back!(SendTimeoutError { Interrupted, Timeout, TooLarge, Disconnected });

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted { .. } => Interrupted.fmt(f),
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

/// Why [`recv`](crate::Receiver::recv) returned no message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecvError {
    /// The peer has finished: what it sent was read to the end. On a receiver of several channels, the runs
    /// of all of them have ended. What comes after belongs to the next run.
    #[error("the peer has finished sending")]
    Finished,
    /// The peer abandoned this run of the channel, or its program panicked
    /// ([`Sender::PANICKED`](crate::Sender::PANICKED)).
    #[error("the peer abandoned channel {channel} (code {code})")]
    Reset {
        /// The channel.
        channel: ChannelId,
        /// The peer's code.
        code: u32,
    },
    /// The peer left out so much of a channel at this place. What follows can still be received.
    #[error("the peer left out {messages} messages of channel {channel} here ({bytes} bytes)")]
    Gap {
        /// The channel.
        channel: ChannelId,
        /// How many messages.
        messages: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// An [`Interrupter`](crate::Interrupter) ended the wait. What comes can still be received.
    #[error("the call was interrupted by this program")]
    Interrupted,
    /// The connection is over, and all that had arrived was read.
    #[error(transparent)]
    ConnectionLost(#[from] ConnectionError),
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Finished => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            RecvError::Reset { .. } => io::Error::new(io::ErrorKind::ConnectionReset, error),
            RecvError::Gap { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
            RecvError::Interrupted => io::Error::other(Interrupted),
            RecvError::ConnectionLost(cause) => cause.into(),
        }
    }
}

/// Why [`try_recv`](crate::Receiver::try_recv) returned no message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing is there now.
    #[error("no message is there now")]
    Empty,
    /// The run or the connection is over, or the peer left something out at this place.
    #[error(transparent)]
    Disconnected(#[from] RecvError),
}

/// Why [`recv_timeout`](crate::Receiver::recv_timeout) or [`recv_deadline`](crate::Receiver::recv_deadline)
/// returned no message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecvTimeoutError {
    /// Nothing came in time.
    #[error("no message came in time")]
    Timeout,
    /// The run or the connection is over, or the peer left something out at this place.
    #[error(transparent)]
    Disconnected(#[from] RecvError),
}
