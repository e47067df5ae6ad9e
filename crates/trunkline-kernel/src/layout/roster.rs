//! What a hub tells its consoles.

use serde::Deserialize;

/// The longest note of a hub that is read: its list of clients has at most 64.
const MAX_ROSTER: usize = 64 * 1024;

/// A note of a hub: one message on [`ROSTER`](super::ROSTER). Each has one of the fields, or some.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[non_exhaustive]
pub struct Roster {
    /// The number of this client.
    #[serde(default)]
    pub you: Option<u64>,
    /// All clients.
    #[serde(default)]
    pub clients: Option<Vec<Client>>,
    /// The state of the program's connection, as `live`.
    #[serde(default)]
    pub upstream: Option<String>,
    /// How many clients there are; the list is cut.
    #[serde(default)]
    pub count: Option<u64>,
    /// How long the hub runs already, in seconds.
    #[serde(default)]
    pub up_s: Option<u64>,
    /// What has become of something that this client has asked for.
    #[serde(default)]
    pub answer: Option<Answer>,
    /// How many messages of the standard input were passed on to the kernel in all.
    #[serde(default)]
    pub input: Option<u64>,
    /// Which number a message of this client has in the kernel's count.
    #[serde(default)]
    pub line: Option<Line>,
    /// This client has lost the input.
    #[serde(default)]
    pub lost: Option<Lost>,
}

/// The client's own message `own` is the kernel's message `input`. The client's next messages follow it one by
/// one until the hub says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct Line {
    /// The client's number.
    pub own: u64,
    /// The kernel's number.
    pub input: u64,
}

/// The client's messages after `last_passed` were refused: the kernel does not get them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct Lost {
    /// The client's number of its last message that was passed on.
    pub last_passed: u64,
}

/// What has become of a request, such as to take the input.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct Answer {
    /// `true` if it was done.
    pub done: bool,
    /// Why not.
    #[serde(default)]
    pub why: Option<String>,
}

/// A client of a hub.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct Client {
    /// Its number.
    pub id: u64,
    /// The name of its key's access.
    #[serde(default)]
    pub name: String,
    /// `true` if its input goes to the kernel.
    #[serde(default)]
    pub owner: bool,
    /// `true` if it only watches.
    #[serde(default)]
    pub read_only: bool,
    /// `true` while its link is lost.
    #[serde(default)]
    pub suspended: bool,
    /// How many bytes of output wait for it.
    #[serde(default)]
    pub behind_bytes: u64,
    /// How long it is here already, in seconds.
    #[serde(default)]
    pub here_s: u64,
}

/// A message on the roster channel is not a note of a hub.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a note of the hub cannot be read: {0}")]
pub struct RosterError(String);

impl TryFrom<&[u8]> for Roster {
    type Error = RosterError;

    /// Reads a message. Fields that are not known here are ignored.
    fn try_from(message: &[u8]) -> Result<Self, RosterError> {
        if message.len() > MAX_ROSTER {
            return Err(RosterError(format!("it has {} bytes, more than {MAX_ROSTER}", message.len())));
        }
        serde_json::from_slice(message).map_err(|error| RosterError(error.to_string()))
    }
}
