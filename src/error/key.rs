//! Errors of keys.

use std::io;
use std::path::PathBuf;

/// Why a key could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be opened, read or written, or exists already.
    #[error("cannot use the key file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Other users can read or change the file.
    #[error(
        "other users can read or change the key file {path} (mode {mode:03o}); run `chmod 600` on it, and make a new key if another user may have read it"
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
    /// The text is not 64 hex digits.
    #[error("not a key: a key is 64 hex digits, and nothing else but white space around them")]
    NotHex,
}
