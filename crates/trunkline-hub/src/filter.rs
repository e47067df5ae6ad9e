//! What a filter is asked, and what it says.

use std::fmt;

use bytes::Bytes;
use trunkline::Access;

/// The client that a message comes from, as a filter sees it.
#[derive(Debug)]
pub struct Origin<'a> {
    pub(crate) client: u64,
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
    /// Returns the number of the client, as the roster gives it. No other client of this hub has it, now or later.
    #[must_use]
    pub fn client(&self) -> u64 {
        self.client
    }

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

/// Judges what clients send on a shared channel, and remembers: for [`Hub::judged_by`](crate::Hub::judged_by).
///
/// The hub's thread calls it, so it must not block. A message over which it panics is refused with
/// [`FAULT`](crate::code::FAULT), and it is asked on.
pub trait Judge: Send + 'static {
    /// Judges a message of a client.
    fn judge(&mut self, origin: &Origin<'_>, message: &[u8]) -> Verdict;

    /// Hears of a client. By default it does not matter.
    fn hear(&mut self, news: &News<'_>) {
        let _ = news;
    }

    /// Returns a message for upstream that follows from what was judged and heard; `None`, the default, if there is none.
    ///
    /// It is asked once there is room upstream, and once for all that was judged and heard meanwhile. So it says how
    /// things stand, and what was overtaken is not said.
    fn say(&mut self) -> Option<Bytes> {
        None
    }
}

/// What a [`Judge`] hears.
///
/// Of each client it hears [`Joined`](News::Joined) first and [`Left`](News::Left) last, once each. In between
/// [`Lost`](News::Lost) and [`Back`](News::Back) alternate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum News<'a> {
    /// A client has joined.
    #[non_exhaustive]
    Joined {
        /// Its number, as the roster gives it.
        client: u64,
        /// What it may do.
        access: &'a Access,
    },
    /// A client's socket is lost, for [`owner_grace`](crate::Hub::owner_grace) already. It keeps its session for the grace
    /// of its connection, which may be much longer. A shorter outage is no news.
    Lost {
        /// Its number.
        client: u64,
    },
    /// A client that was told as lost has a socket again.
    Back {
        /// Its number.
        client: u64,
    },
    /// A client has left, or the grace of its connection is over.
    Left {
        /// Its number.
        client: u64,
    },
    /// The input has another owner, or none. A client that has left in order may own it for a moment, until its last
    /// messages are passed on.
    Owner {
        /// Its number.
        client: Option<u64>,
    },
}

/// A judge that remembers nothing.
pub(crate) struct Plain<F>(pub(crate) F);

impl<F: Fn(&Origin<'_>, &[u8]) -> Verdict + Send + 'static> Judge for Plain<F> {
    fn judge(&mut self, origin: &Origin<'_>, message: &[u8]) -> Verdict {
        self.0(origin, message)
    }
}
