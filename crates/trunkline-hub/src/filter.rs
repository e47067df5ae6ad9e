//! What a filter is asked, and what it says.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use trunkline::Access;

/// The client that a message comes from, as a filter sees it.
#[derive(Debug)]
pub struct Origin<'a> {
    pub(crate) access: &'a Access,
    pub(crate) owns_input: bool,
    pub(crate) passed: u64,
    pub(crate) lines: &'a dyn Lines,
}

/// Where a client's own input messages are.
pub(crate) trait Lines: fmt::Debug {
    fn line(&self, own: u64) -> Line;
}

/// What has become of an input message of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// It was passed on, and is the program's message of this number.
    Passed(u64),
    /// It was refused, or is so old that the hub has forgotten it.
    Gone,
    /// It has not been passed on yet.
    Coming,
}

impl Origin<'_> {
    /// Returns what the client may do.
    #[must_use]
    pub fn access(&self) -> &Access {
        self.access
    }

    /// Returns `true` if the client owns the input.
    #[must_use]
    pub fn owns_input(&self) -> bool {
        self.owns_input
    }

    /// Returns how many input messages were passed on, of all clients.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Returns what has become of the client's own input message of a number; its first is number 1.
    #[must_use]
    pub fn line(&self, own: u64) -> Line {
        self.lines.line(own)
    }
}

/// What becomes of a message on a [shared](crate::Hub::shared_with) channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is passed on as it is.
    Pass,
    /// This is passed on in its place.
    Rewrite(Bytes),
    /// It is kept until the client's own input message of this number is passed on, and then judged again. It is
    /// dropped if that message is refused. A hub keeps 16 for each client; one more is refused with
    /// [`UNREAD`](crate::code::UNREAD).
    Hold(u64),
    /// It is dropped, and no client is told: it means nothing any more.
    Drop,
    /// It is dropped, and its sender is told: its run is stopped with this code.
    Refuse(u32),
}

/// A filter of a shared channel.
pub(crate) type Filter = Arc<dyn Fn(&Origin<'_>, &[u8]) -> Verdict + Send + Sync>;
