//! Why a program has no line, or could not write.

use std::io;

/// Why a program has no line, or could not write.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StdioError {
    /// The statement was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The console has no more lines for now: the end of the input, which is told once.
    #[error("there is no more input")]
    Finished,
    /// The console is gone.
    #[error("the console is gone")]
    Gone,
    /// The line is not UTF-8. It was taken, and is here.
    #[error("a line of the input is not UTF-8 at byte {}", .0.utf8_error().valid_up_to() + 1)]
    NotUtf8(std::string::FromUtf8Error),
    /// The line has more than 16 MiB. It was dropped.
    #[error("a line of the input has more than 16 MiB")]
    TooLong,
    /// Some of the input was left out or abandoned.
    #[error("{0}")]
    Broken(&'static str),
    /// The picture is larger than the console takes.
    #[error("the picture is larger than the {limit} bytes that the console takes")]
    TooLarge {
        /// The most that it takes, in bytes.
        limit: u32,
    },
}

impl From<StdioError> for io::Error {
    fn from(error: StdioError) -> Self {
        let kind = match error {
            // Not `ErrorKind::Interrupted`: that is tried again by much code.
            StdioError::Interrupted => io::ErrorKind::Other,
            StdioError::Finished => io::ErrorKind::UnexpectedEof,
            StdioError::Gone => io::ErrorKind::NotConnected,
            StdioError::NotUtf8(_) | StdioError::TooLong | StdioError::Broken(_) => {
                io::ErrorKind::InvalidData
            }
            StdioError::TooLarge { .. } => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}
