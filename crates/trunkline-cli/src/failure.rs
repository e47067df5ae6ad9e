//! Why the command fails, and its exit status, as in `sysexits.h`.

use std::fmt;

/// Wrong usage.
pub const USAGE: u8 = 2;
/// Cannot connect, or the link or the host is lost.
pub const UNAVAILABLE: u8 = 69;
/// A fault of the system.
pub const OS_ERROR: u8 = 71;
/// A file cannot be made.
pub const CANNOT_CREATE: u8 = 73;
/// Another client has the input.
pub const TEMPORARY: u8 = 75;
/// Not authorised.
pub const NO_PERMISSION: u8 = 77;
/// A key file cannot be used.
pub const CONFIG: u8 = 78;

/// The reader of the output is gone, and wants no more: what a process has that SIGPIPE ends.
pub const READER_GONE: u8 = 141;

/// What is printed, and the exit status.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub text: String,
}

impl Failure {
    pub fn new(code: u8, text: impl fmt::Display) -> Self {
        Self { code, text: text.to_string() }
    }

    /// The person knows already why, or there is none to tell.
    pub fn quiet(code: u8) -> Self {
        Self { code, text: String::new() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(OS_ERROR, error)
    }
}

/// The exit status of the command, or why it fails.
pub type Outcome = Result<u8, Failure>;
