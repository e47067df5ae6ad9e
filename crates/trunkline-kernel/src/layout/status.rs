//! What the kernel says of itself on the status channel.

use std::fmt;
use std::str::FromStr;

use super::word::{MAX_WORD, SignalName, excerpt, number};

/// What the kernel does: one message on [`STATUS`](super::STATUS), on every change.
///
/// N is the number of messages of the standard input that the kernel has read in this session. Before a hub
/// it is the number of those that the hub has passed on.
///
/// ```
/// use trunkline_kernel::layout::Status;
///
/// assert_eq!("idle 7".parse(), Ok(Status::Idle(7)));
/// assert_eq!(Status::Hung(2).to_string(), "hung 2");
/// assert!("idle".parse::<Status>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Status {
    /// `idle N`: it waits for a statement.
    Idle(u64),
    /// `incomplete N`: a statement has begun, and its rest is missing.
    Incomplete(u64),
    /// `busy N`: it runs a statement.
    Busy(u64),
    /// `waiting N`: a thread of the program reads the standard input.
    Waiting(u64),
    /// `waiting N secret`: it waits as well, for what is not to be seen: a console hides what is typed, and keeps it
    /// nowhere.
    Secret(u64),
    /// `interrupting N`: it was asked to stop the statement that runs, which has not reacted yet.
    Interrupting(u64),
    /// `hung SECONDS`: the statement did not react to an interrupt for so long.
    Hung(u64),
    /// `failed N`: the statement that has just ended has failed. It is no state: what the kernel does, the next
    /// status says. For a console whose caller asks whether a statement has failed.
    Failed(u64),
    /// `exited CODE`: the kernel's process has ended. The last status.
    Exited(i32),
    /// `killed SIGNAL`: a signal has ended the kernel's process. The last status.
    Killed(SignalName),
}

/// A message on the status channel is not a status.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0} is not a status; there are `idle N`, `incomplete N`, `busy N`, `waiting N`, `waiting N secret`, `interrupting N`, `hung SECONDS`, `failed N`, `exited CODE` and `killed SIGNAL`"
)]
pub struct StatusError(String);

impl Status {
    /// Returns how many messages of the standard input the kernel has read, if this status says so.
    #[must_use]
    pub fn read(&self) -> Option<u64> {
        match self {
            Self::Idle(read)
            | Self::Incomplete(read)
            | Self::Busy(read)
            | Self::Waiting(read)
            | Self::Secret(read)
            | Self::Interrupting(read)
            | Self::Failed(read) => Some(*read),
            Self::Hung(_) | Self::Exited(_) | Self::Killed(_) => None,
        }
    }

    /// Returns `true` if the kernel has ended: no other status follows.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Exited(_) | Self::Killed(_))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle(read) => write!(f, "idle {read}"),
            Self::Incomplete(read) => write!(f, "incomplete {read}"),
            Self::Busy(read) => write!(f, "busy {read}"),
            Self::Waiting(read) => write!(f, "waiting {read}"),
            Self::Secret(read) => write!(f, "waiting {read} secret"),
            Self::Interrupting(read) => write!(f, "interrupting {read}"),
            Self::Hung(seconds) => write!(f, "hung {seconds}"),
            Self::Failed(read) => write!(f, "failed {read}"),
            Self::Exited(code) => write!(f, "exited {code}"),
            Self::Killed(signal) => write!(f, "killed {signal}"),
        }
    }
}

impl TryFrom<&[u8]> for Status {
    type Error = StatusError;

    fn try_from(message: &[u8]) -> Result<Self, StatusError> {
        let text = std::str::from_utf8(message).ok().filter(|text| text.len() <= MAX_WORD);
        text.and_then(parse).ok_or_else(|| StatusError(excerpt(message)))
    }
}

impl FromStr for Status {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        Self::try_from(text.as_bytes())
    }
}

fn parse(text: &str) -> Option<Status> {
    let (word, rest) = text.split_once(' ')?;
    Some(match word {
        "idle" => Status::Idle(number(rest)?),
        "incomplete" => Status::Incomplete(number(rest)?),
        "busy" => Status::Busy(number(rest)?),
        "waiting" => match rest.strip_suffix(" secret") {
            Some(rest) => Status::Secret(number(rest)?),
            None => Status::Waiting(number(rest)?),
        },
        "interrupting" => Status::Interrupting(number(rest)?),
        "hung" => Status::Hung(number(rest)?),
        "failed" => Status::Failed(number(rest)?),
        "exited" => Status::Exited(code(rest)?),
        "killed" => Status::Killed(rest.parse().ok()?),
        _ => return None,
    })
}

/// An exit code: a number that may be negative, as on Windows.
fn code(text: &str) -> Option<i32> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let value = sign * i64::try_from(number(digits)?).ok()?;
    // "-0" is not how a code is written.
    (text != "-0").then(|| value.try_into().ok())?
}
