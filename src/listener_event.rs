//! What a listener tells its application beside the connections.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::error::HandshakeError;

/// Something that happened at a listener beside the connections that it accepts; see
/// [`Listener::events`](crate::Listener::events).
///
/// `Display` writes a line for a log.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ListenerEvent {
    /// Peers were turned away, all of them for the same reason. Of each reason there is one event that was
    /// not read, and it counts.
    TurnedAway {
        /// The reason: what these peers were told, or would have been told if they had waited.
        /// [`TooBusy`](HandshakeError::TooBusy) also stands for strangers that had to make room for others.
        error: HandshakeError,
        /// How many they are.
        peers: u64,
        /// The address of the last of them, if its socket has one.
        last: Option<SocketAddr>,
    },
    /// The system gave no socket for a client that connects, most often because the process has as many
    /// files open as it may have. The client waits, and the listener tries again. Failures that were not
    /// read are one event, the last.
    AcceptFailed {
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// Another program has removed the file of the Unix socket that it listens on, as those do that clean up
    /// temporary directories. Removals that were not read are one event, the last.
    FileRemoved {
        /// `true` if the file was made again, so that clients find it; `false` if that failed, and is tried
        /// again.
        again: bool,
    },
    /// The listener is closed. Nothing follows.
    Closed,
}

impl fmt::Display for ListenerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TurnedAway { error, peers, last } => {
                let noun = if *peers == 1 { "peer" } else { "peers" };
                write!(f, "turned away {peers} {noun}")?;
                if let Some(last) = last {
                    write!(f, " (the last from {last})")?;
                }
                write!(f, ": {error}")
            }
            Self::AcceptFailed { kind } => {
                write!(f, "could not accept: {kind}; the process may have too many files open (`ulimit -n`)")
            }
            Self::FileRemoved { again: true } => {
                f.write_str("another program removed the socket's file; it was made again")
            }
            Self::FileRemoved { again: false } => f.write_str(
                "another program removed the socket's file, and it cannot be made again, so clients find nothing; \
                 is its directory still there?",
            ),
            Self::Closed => f.write_str("the listener is closed"),
        }
    }
}
