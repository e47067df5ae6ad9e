//! What an exchange gets and gives.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::life::Farewell;
use crate::error::{CloseCode, ConnectionError};
use crate::id::ChannelId;
use crate::proto::inbound::{Stop, Taken};
use crate::proto::outbound::{Mark, Outbound};
use crate::proto::segment::Segment;

/// A call that waits for the peer to have what was accepted before it.
#[derive(Debug)]
pub(crate) struct Flush {
    pub(crate) ticket: u64,
    pub(crate) mark: Mark,
    /// Where that ends in the stream, once it is all in there.
    pub(crate) offset: Option<u64>,
}

/// How the application ends a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CloseWish {
    /// CLOSE goes behind what was accepted, and the peer has so long to confirm it all.
    Behind { farewell: Farewell, linger: Duration },
    /// CLOSE goes now; what waits is dropped.
    Now(Farewell),
}

impl CloseWish {
    pub(crate) fn code(&self) -> CloseCode {
        match self {
            Self::Behind { farewell, .. } | Self::Now(farewell) => farewell.code,
        }
    }
}

/// What the application asked for since the last exchange.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) close: Option<CloseWish>,
    pub(crate) interrupt: bool,
    pub(crate) taken: Vec<Taken>,
    pub(crate) stops: Vec<Stop>,
    pub(crate) reads: Vec<Reads>,
}

/// A reader of this side waits on a channel, or no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reads {
    pub(crate) channel: ChannelId,
    pub(crate) waiting: bool,
    /// After so many messages, where it is not for this side to count: a relay passes a count on.
    pub(crate) count: Option<u32>,
}

/// How much may be taken for the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// Nothing: the socket is full, or there is none.
    None,
    /// Control frames and what is urgent, and about so many bytes of the rest.
    Bytes(usize),
}

/// What an exchange works with.
pub(crate) struct Exchange<'a, S> {
    pub(crate) now: Instant,
    pub(crate) outbound: &'a mut Outbound,
    /// Those that are done are taken out.
    pub(crate) flushes: &'a mut Vec<Flush>,
    pub(crate) room: Room,
    pub(crate) spare: &'a mut S,
    /// What is to be sent is appended.
    pub(crate) segments: &'a mut VecDeque<Segment>,
    pub(crate) output: &'a mut Output,
}

/// What comes out of an exchange besides what is to be sent.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// The places of the channels that have room again, and of those whose run was stopped.
    pub(crate) room: Vec<usize>,
    pub(crate) stopped: Vec<usize>,
    /// From which cost on the application is to report what it takes of a channel.
    pub(crate) reports: Vec<(ChannelId, u32)>,
    /// Data waits for the peer's ACK.
    pub(crate) held: bool,
    /// The session has ended: nothing more is to be accepted.
    pub(crate) ended: Option<ConnectionError>,
}
