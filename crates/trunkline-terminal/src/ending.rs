//! How a console ends, and with which exit status.

use std::process::ExitCode;

use trunkline::ConnectionError;

/// How a console has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ending {
    /// The kernel has run everything that it was given, and all output was shown.
    Finished,
    /// As [`Finished`](Ending::Finished), but a statement has failed, and the caller has asked to be told with
    /// [`Options::report_failures`](crate::Options::report_failures).
    StatementFailed,
    /// The standard input cannot be read, or the output cannot be written, in words.
    Unusable(String),
    /// The kernel or the link to it is gone, in words.
    Lost(String),
    /// The reader of the standard output or error is gone, as with `| head`.
    ReaderGone,
    /// This signal has ended the console. The terminal is as it was before.
    Signal(i32),
}

impl Ending {
    /// Returns the exit status of the process.
    ///
    /// | status | meaning |
    /// |---|---|
    /// | 0 | all was run and shown |
    /// | 1 | a statement has failed, and the caller has asked to be told |
    /// | 2 | the console was used wrongly: its arguments, or standard streams that cannot be read or written |
    /// | 3 | the kernel or the link to it is gone |
    /// | 128 + N | signal N has ended the console; 141, SIGPIPE, if the reader of its output is gone |
    ///
    /// ```
    /// use trunkline_terminal::Ending;
    ///
    /// assert_eq!(Ending::Finished.status(), 0);
    /// assert_eq!(Ending::Lost("the kernel is gone".to_owned()).status(), 3);
    /// assert_eq!(Ending::Signal(15).status(), 143);
    /// ```
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::StatementFailed => 1,
            Self::Unusable(_) => 2,
            Self::Lost(_) => 3,
            Self::ReaderGone => 128 + 13,
            Self::Signal(signal) => {
                u8::try_from(*signal).map_or(u8::MAX, |signal| signal.saturating_add(128))
            }
        }
    }

    /// Returns what is to be said about it on standard error; `None` if the status says it all.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Unusable(why) | Self::Lost(why) => Some(why),
            Self::Finished | Self::StatementFailed | Self::ReaderGone | Self::Signal(_) => None,
        }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        ending.status().into()
    }
}

/// What is said when the connection is over and the console has not ended it.
pub(crate) fn lost(cause: &ConnectionError) -> Ending {
    Ending::Lost(match cause {
        ConnectionError::ClosedByPeer { reason, .. } if !reason.is_empty() => {
            format!("the kernel has ended this session: {reason}")
        }
        ConnectionError::ClosedByPeer { .. } => "the kernel is gone: it has closed the connection".to_owned(),
        ConnectionError::SessionUnknown => {
            "the link was lost, and the kernel does not know this session any more: it was started again, or \
             another console came meanwhile, or it keeps no session without a link (its --grace)"
                .to_owned()
        }
        ConnectionError::SessionExpired => {
            "the link was lost for longer than the kernel keeps a session (its --grace)".to_owned()
        }
        ConnectionError::PeerUnreachable => {
            "the kernel is gone: the link was lost, and it was not reached again in time (--grace)".to_owned()
        }
        cause => format!("the kernel is gone: {cause}"),
    })
}
