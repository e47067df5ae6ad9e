//! Why something was not sent.

use trunkline::{ChannelError, ConnectionError, Disconnect, TrySendError};

/// Why something was not sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unsent {
    /// The kernel has not taken enough of what was sent before. Try again when [`Ready::stdin`](super::Ready::stdin) fires.
    #[error("the kernel has not taken enough of the lines before")]
    Full,
    /// The message is larger than the kernel takes.
    #[error("the message is larger than the {limit} bytes that the kernel takes")]
    TooLarge {
        /// The most that it takes, in bytes.
        limit: u32,
    },
    /// The kernel does not answer requests now: it serves another console, or the link is lost.
    #[error("the kernel cannot answer now: it serves another console, or the link is lost")]
    NotNow,
    /// The kernel reads no more on this channel.
    #[error("the kernel reads no more")]
    Stopped,
    /// The connection is over.
    #[error(transparent)]
    Over(#[from] ConnectionError),
}

pub(super) fn no_channel(error: ChannelError) -> Unsent {
    match error {
        ChannelError::ConnectionLost(cause) => Unsent::Over(cause),
        _ => Unsent::Stopped,
    }
}

impl<T> From<TrySendError<T>> for Unsent {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full { .. } => Self::Full,
            TrySendError::TooLarge { limit, .. } => Self::TooLarge { limit },
            TrySendError::Disconnected { cause, .. } => cause.into(),
        }
    }
}

impl From<Disconnect> for Unsent {
    fn from(cause: Disconnect) -> Self {
        match cause {
            Disconnect::ConnectionLost(cause) => Self::Over(cause),
            Disconnect::Stopped(_) | _ => Self::Stopped,
        }
    }
}
