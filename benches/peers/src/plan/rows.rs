//! Which rows a workload has: the peers, and the ways in which each is used.

use serde::{Deserialize, Serialize};

use crate::plan::workload::Workload;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerName {
    Raw,
    Zmq,
    Yamux,
    H2,
    Chmux,
    AsyncSmux,
    Trunkline,
}

/// How a peer is used in one row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// As its documentation shows, blocking or on tokio's default runtime.
    Natural,
    /// The same on tokio's current-thread runtime.
    OneThread,
    /// Through an application-side buffer.
    Buffered,
    /// Raw only: eight messages to a `writev`.
    Vectored,
    /// Trunkline only: `send` where the natural call is `send_bytes`.
    Copied,
    /// Trunkline only: the pings in the same class as the flood.
    SameClass,
    /// Trunkline only: sessions that outlive their socket, on both sides, or none, whatever the
    /// default is.
    ResumeOn,
    ResumeOff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub peer: PeerName,
    pub way: Way,
}

impl Workload {
    /// What `ratio_to_raw` is the ratio to: the fastest way of using the socket alone.
    pub fn reference(self) -> Row {
        let way = match self {
            Self::Small | Self::Many => Way::Buffered,
            Self::Large => Way::Vectored,
            _ => Way::Natural,
        };
        Row { peer: PeerName::Raw, way }
    }

    /// The natural way first, then those that change what a reader would conclude. (A second
    /// runtime thread changes nothing on one core, on a slow link, or for chmux's small messages.)
    fn ways(self, peer: PeerName) -> &'static [Way] {
        use PeerName::*;
        use Way::*;
        match (self, peer) {
            (Self::Small | Self::Many, Raw) => &[Natural, Buffered],
            (Self::Small | Self::Many, Yamux | H2 | AsyncSmux) => &[Natural, OneThread, Buffered],
            (Self::Large, Raw) => &[Natural, Vectored],
            (Self::Small, Trunkline) => &[Natural, ResumeOn, ResumeOff],
            (Self::Large, Trunkline) => &[Natural, Copied, ResumeOn, ResumeOff],
            (Self::Flood | Self::Slow, Trunkline) => &[Natural, SameClass],
            (Self::Large | Self::Ping | Self::Flood, Yamux | H2 | Chmux | AsyncSmux) => &[Natural, OneThread],
            _ => &[Natural],
        }
    }

    pub fn rows(self) -> Vec<Row> {
        let of = |peer| self.ways(peer).iter().map(move |&way| Row { peer, way });
        PeerName::ALL.into_iter().flat_map(of).collect()
    }
}

impl PeerName {
    pub const ALL: [Self; 7] =
        [Self::Raw, Self::Zmq, Self::Yamux, Self::H2, Self::Chmux, Self::AsyncSmux, Self::Trunkline];

    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zmq => "zmq",
            Self::Yamux => "yamux",
            Self::H2 => "h2",
            Self::Chmux => "chmux",
            Self::AsyncSmux => "async_smux",
            Self::Trunkline => "trunkline",
        }
    }
}

impl Row {
    /// The row's `variant`.
    pub fn variant(self, workload: Workload) -> &'static str {
        use PeerName::*;
        match (self.way, self.peer) {
            (Way::OneThread, _) => "one runtime thread",
            (Way::Buffered, _) => "64 KiB buffer",
            (Way::Vectored, _) => "eight to a writev",
            (Way::Copied, _) => "send",
            (Way::SameClass, _) => "same class",
            (Way::ResumeOn, _) if workload == Workload::Large => "send_bytes, resume on",
            (Way::ResumeOff, _) if workload == Workload::Large => "send_bytes, resume off",
            (Way::ResumeOn, _) => "send, resume on",
            (Way::ResumeOff, _) => "send, resume off",
            (Way::Natural, Raw) => match workload {
                Workload::Flood | Workload::Unread | Workload::Slow => "a socket per channel",
                _ => "one write each",
            },
            (Way::Natural, Zmq) => match workload {
                Workload::Flood | Workload::Unread | Workload::Slow => "a socket per channel",
                Workload::Many => "one socket, envelopes",
                Workload::Ping | Workload::PingOneCore => "REQ/REP",
                _ => "PUSH/PULL",
            },
            (Way::Natural, Trunkline) => match workload {
                Workload::Large => "send_bytes",
                Workload::Flood | Workload::Slow => "urgent",
                Workload::Many => "one receiver for all",
                _ => "send",
            },
            (Way::Natural, _) => "tokio default",
        }
    }

    pub fn label(self, workload: Workload) -> String {
        format!("{} ({})", self.peer.name(), self.variant(workload))
    }
}
