//! Which rows a workload has: the peers, and the ways in which each is used.

use serde::{Deserialize, Serialize};

use crate::plan::workload::Workload;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerName {
    Raw,
    Tls,
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
    /// Trunkline only: with `Config::bulk`; beside a flood, the pings are in its class.
    Bulk,
    /// Trunkline only: with `Config::interactive`; beside a flood, the pings are in its class.
    Interactive,
    /// Trunkline only: over a sealed connection; the other rows are plain, as all other peers are.
    Sealed,
    /// Trunkline only: sessions that outlive their socket, on both sides, or none, whatever the
    /// default is.
    ResumeOn,
    ResumeOff,
}

/// One line of a workload's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub peer: PeerName,
    pub way: Way,
    /// What the table calls the way.
    pub variant: &'static str,
}

impl Row {
    pub fn all(workload: Workload) -> Vec<Self> {
        PeerName::ALL.into_iter().flat_map(|peer| Self::of(peer, workload)).collect()
    }

    pub fn of(peer: PeerName, workload: Workload) -> impl Iterator<Item = Self> {
        peer.ways(workload).iter().map(move |&(way, variant)| Self { peer, way, variant })
    }

    /// What `ratio_to_raw` is the ratio to: the fastest way of using the socket alone.
    pub fn reference(workload: Workload) -> Self {
        let fastest = match workload {
            Workload::Small | Workload::Many => Way::Buffered,
            Workload::Large => Way::Vectored,
            _ => Way::Natural,
        };
        Self::of(PeerName::Raw, workload).find(|row| row.way == fastest).expect("one of the rows of raw")
    }

    pub fn label(self) -> String {
        format!("{} ({})", self.peer.name(), self.variant)
    }
}

impl PeerName {
    pub const ALL: [Self; 8] = [
        Self::Raw,
        Self::Tls,
        Self::Zmq,
        Self::Yamux,
        Self::H2,
        Self::Chmux,
        Self::AsyncSmux,
        Self::Trunkline,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Tls => "tls",
            Self::Zmq => "zmq",
            Self::Yamux => "yamux",
            Self::H2 => "h2",
            Self::Chmux => "chmux",
            Self::AsyncSmux => "async_smux",
            Self::Trunkline => "trunkline",
        }
    }

    /// The natural way first, then those that change what a reader would conclude.
    fn ways(self, workload: Workload) -> &'static [(Way, &'static str)] {
        match self {
            Self::Raw => raw(workload),
            Self::Tls => tls(workload),
            Self::Zmq => zmq(workload),
            Self::Chmux => chmux(workload),
            Self::Yamux | Self::H2 | Self::AsyncSmux => streams(workload),
            Self::Trunkline => trunkline(workload),
        }
    }
}

const TOKIO_DEFAULT: (Way, &str) = (Way::Natural, "tokio default");
const ONE_THREAD: (Way, &str) = (Way::OneThread, "one runtime thread");
const BUFFERED: (Way, &str) = (Way::Buffered, "64 KiB buffer");

fn raw(workload: Workload) -> &'static [(Way, &'static str)] {
    match workload {
        Workload::Small | Workload::Many => &[(Way::Natural, "one write each"), BUFFERED],
        Workload::Large => &[(Way::Natural, "one write each"), (Way::Vectored, "eight to a writev")],
        Workload::Ping | Workload::PingOneCore => &[(Way::Natural, "one write each")],
        Workload::Flood | Workload::Unread | Workload::Slow => &[(Way::Natural, "a socket per channel")],
    }
}

/// One stream over one socket, without channels.
fn tls(workload: Workload) -> &'static [(Way, &'static str)] {
    match workload {
        Workload::Small => &[BUFFERED],
        Workload::Large | Workload::Ping | Workload::PingOneCore => &[(Way::Natural, "one write each")],
        Workload::Many | Workload::Flood | Workload::Unread | Workload::Slow => &[],
    }
}

fn zmq(workload: Workload) -> &'static [(Way, &'static str)] {
    match workload {
        Workload::Small | Workload::Large => &[(Way::Natural, "PUSH/PULL")],
        Workload::Ping | Workload::PingOneCore => &[(Way::Natural, "REQ/REP")],
        Workload::Many => &[(Way::Natural, "one socket, envelopes")],
        Workload::Flood | Workload::Unread | Workload::Slow => &[(Way::Natural, "a socket per channel")],
    }
}

/// A second runtime thread changes nothing for its small messages.
fn chmux(workload: Workload) -> &'static [(Way, &'static str)] {
    match workload {
        Workload::Large | Workload::Ping | Workload::Flood => &[TOKIO_DEFAULT, ONE_THREAD],
        _ => &[TOKIO_DEFAULT],
    }
}

/// The peers on tokio whose channels are streams. A second runtime thread changes nothing on one
/// core or on a slow link.
fn streams(workload: Workload) -> &'static [(Way, &'static str)] {
    match workload {
        Workload::Small | Workload::Many => &[TOKIO_DEFAULT, ONE_THREAD, BUFFERED],
        Workload::Large | Workload::Ping | Workload::Flood => &[TOKIO_DEFAULT, ONE_THREAD],
        Workload::PingOneCore | Workload::Unread | Workload::Slow => &[TOKIO_DEFAULT],
    }
}

fn trunkline(workload: Workload) -> &'static [(Way, &'static str)] {
    match workload {
        Workload::Small => &[
            (Way::Natural, "send"),
            (Way::Interactive, "send, interactive"),
            (Way::Bulk, "send, bulk"),
            (Way::ResumeOn, "send, resume on"),
            (Way::ResumeOff, "send, resume off"),
            (Way::Sealed, "send, sealed"),
        ],
        Workload::Large => &[
            (Way::Natural, "send_bytes"),
            (Way::Copied, "send"),
            (Way::Interactive, "send_bytes, interactive"),
            (Way::Bulk, "send_bytes, bulk"),
            (Way::ResumeOn, "send_bytes, resume on"),
            (Way::ResumeOff, "send_bytes, resume off"),
            (Way::Sealed, "send_bytes, sealed"),
        ],
        Workload::Many => &[(Way::Natural, "one receiver for all")],
        Workload::Flood | Workload::Slow => &[
            (Way::Natural, "urgent"),
            (Way::SameClass, "same class"),
            (Way::Interactive, "same class, interactive"),
            (Way::Bulk, "same class, bulk"),
            (Way::Sealed, "urgent, sealed"),
        ],
        Workload::Ping | Workload::PingOneCore => &[(Way::Natural, "send"), (Way::Sealed, "send, sealed")],
        Workload::Unread => &[(Way::Natural, "send")],
    }
}
