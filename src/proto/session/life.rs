//! How far a session is on its way to its end (protocol, section 7).

use crate::error::CloseCode;

/// The words of a CLOSE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Farewell {
    pub(crate) code: CloseCode,
    pub(crate) reason: String,
}

/// This side's half of the end. What cannot be together cannot be written: a side that has said
/// CLOSE has nothing left to say, and one that parts at once sends nothing before it.
#[derive(Debug)]
pub(super) enum Life {
    Running,
    /// The application has closed: CLOSE goes behind what was accepted.
    Draining(Farewell),
    /// The peer has closed: the answer goes now, and what is not in the stream is dropped.
    Answering(Farewell),
    /// The session cannot go on: CLOSE goes now, and no socket after this one is of use.
    Parting(Farewell),
    Said(Said),
    /// Nothing more is said or heard.
    Broken,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// Where in our stream the CLOSE ends.
    pub(super) end: u64,
    /// All that was accepted went out before it.
    pub(super) complete: bool,
    /// The session can go on with another socket until the CLOSE is confirmed.
    pub(super) resumable: bool,
}

impl Life {
    /// The application closes, behind what was accepted.
    pub(super) fn close(&mut self, farewell: Farewell) {
        if matches!(self, Self::Running) {
            *self = Self::Draining(farewell);
        }
    }

    /// The peer has closed. An application that was closing keeps its own words.
    pub(super) fn answer(&mut self) {
        let none = Farewell { code: CloseCode::NORMAL, reason: String::new() };
        match std::mem::replace(self, Self::Broken) {
            Self::Running => *self = Self::Answering(none),
            Self::Draining(farewell) => *self = Self::Answering(farewell),
            other => *self = other,
        }
    }

    /// The session cannot go on; the peer hears why unless it was told something else before.
    pub(super) fn part(&mut self, farewell: Farewell) {
        match self {
            Self::Running | Self::Draining(_) | Self::Answering(_) => *self = Self::Parting(farewell),
            Self::Said(_) => *self = Self::Broken,
            Self::Parting(_) | Self::Broken => {}
        }
    }

    /// The application wants no more of it: what waits is dropped, and CLOSE goes now.
    pub(super) fn hurry(&mut self, farewell: Farewell) {
        match std::mem::replace(self, Self::Broken) {
            Self::Running | Self::Draining(_) => *self = Self::Parting(farewell),
            other => *self = other,
        }
    }

    /// Returns `true` while the application's messages may go out.
    pub(super) fn sends(&self) -> bool {
        matches!(self, Self::Running | Self::Draining(_))
    }

    /// Returns `true` while frames of the peer's mean something.
    pub(super) fn listens(&self) -> bool {
        !matches!(self, Self::Parting(_) | Self::Broken | Self::Said(Said { resumable: false, .. }))
    }

    /// Returns `true` if another socket could be of use.
    pub(super) fn may_resume(&self) -> bool {
        match self {
            Self::Running | Self::Draining(_) | Self::Answering(_) => true,
            Self::Said(said) => said.resumable,
            Self::Parting(_) | Self::Broken => false,
        }
    }

    pub(super) fn said(&self) -> Option<&Said> {
        match self {
            Self::Said(said) => Some(said),
            _ => None,
        }
    }
}
