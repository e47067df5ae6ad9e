//! What is measured: the workloads, their sizes, and which rows each of them has.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    Small,
    Large,
    Ping,
    PingOneCore,
    Many,
    Flood,
    Unread,
    Slow,
}

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Full,
    Quick,
}

/// All that the two processes of one run need to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub peer: PeerName,
    pub way: Way,
    pub workload: Workload,
    /// Bytes of a message (of a flooding one, where there are two sizes).
    pub size: usize,
    /// A sender stops at so many messages (on each channel) or after so long, whichever is first.
    pub count: u64,
    pub limit: Duration,
    pub channels: u32,
    pub warm_up: u64,
    /// Flood: how long it runs alone, and then with pings.
    pub alone: Duration,
    pub together: Duration,
    /// No progress for so long is a stall.
    pub patience: Duration,
    /// A run that takes longer than this is ended from outside.
    pub deadline: Duration,
    pub core: Option<usize>,
    pub congestion: Option<String>,
}

pub const PING_SIZE: usize = 16;
pub const MIB: u64 = 1 << 20;

impl Workload {
    pub const ALL: [Self; 8] = [
        Self::Small,
        Self::Large,
        Self::Ping,
        Self::PingOneCore,
        Self::Many,
        Self::Flood,
        Self::Unread,
        Self::Slow,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::Ping => "ping",
            Self::PingOneCore => "ping-one-core",
            Self::Many => "many",
            Self::Flood => "flood",
            Self::Unread => "unread",
            Self::Slow => "slow",
        }
    }

    pub fn what(self, mode: Mode) -> String {
        let full = mode == Mode::Full;
        match self {
            Self::Small => format!(
                "16-byte messages one way, one API call each, for {} s",
                if full { "1" } else { "0.2" }
            ),
            Self::Large => format!("64 KiB messages one way, {}", if full { "2 GiB" } else { "at most 0.2 s" }),
            Self::Ping => format!("16-byte request and reply, {} of them", if full { 50_000 } else { 2_000 }),
            Self::PingOneCore => format!(
                "the same with both processes pinned to one core, {} of them",
                if full { 50_000 } else { 3_000 }
            ),
            Self::Many => format!(
                "128 channels x {}, round robin from one sender",
                if full { "8,000 x 256 B" } else { "256 B, at most 0.2 s" }
            ),
            Self::Flood => "ping on one channel while another carries 64 KiB messages the same way".into(),
            Self::Unread => format!(
                "one channel is filled and never read while another moves {} MiB",
                if full { 256 } else { 64 }
            ),
            Self::Slow => "flood and ping through a proxy of 1 MB/s and 20 ms each way, all rows at once, each with a proxy of its own".into(),
        }
    }

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

    pub fn plan(self, row: Row, mode: Mode, congestion: Option<String>) -> Plan {
        let full = mode == Mode::Full;
        let ms = Duration::from_millis;
        let either = |f, q| if full { f } else { q };
        let mut plan = Plan {
            peer: row.peer,
            way: row.way,
            workload: self,
            size: PING_SIZE,
            count: u64::MAX,
            limit: Duration::from_secs(60),
            channels: 1,
            warm_up: 0,
            alone: Duration::ZERO,
            together: Duration::ZERO,
            patience: ms(either(5_000, 1_500)),
            deadline: ms(either(90_000, 6_000)),
            core: None,
            congestion,
        };
        match self {
            Self::Small => plan.limit = ms(either(1_000, 200)),
            Self::Large => {
                plan.size = 64 << 10;
                plan.count = (2 << 30) / plan.size as u64;
                plan.limit = ms(either(60_000, 200));
            }
            Self::Ping | Self::PingOneCore => {
                plan.warm_up = either(2_000, 200);
                plan.count = either(50_000, 2_000);
                if self == Self::PingOneCore {
                    plan.core = Some(last_core());
                    plan.count = either(50_000, 3_000);
                }
            }
            Self::Many => {
                plan.size = 256;
                plan.channels = 128;
                plan.count = 8_000;
                plan.limit = ms(either(60_000, 200));
            }
            Self::Flood => {
                plan.size = 64 << 10;
                plan.channels = 2;
                plan.warm_up = either(5_000, 500);
                plan.alone = ms(either(1_000, 100));
                plan.together = ms(either(3_000, 250));
            }
            Self::Unread => {
                plan.size = 64 << 10;
                plan.channels = 2;
                plan.count = either(256, 64) * MIB / plan.size as u64;
            }
            Self::Slow => {
                plan.size = 64 << 10;
                plan.channels = 2;
                plan.warm_up = either(20, 5);
                plan.alone = ms(either(1_000, 500));
                plan.together = ms(either(10_000, 2_500));
                plan.patience = ms(either(30_000, 8_000));
                plan.deadline = ms(either(90_000, 16_000));
            }
        }
        plan
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

impl Plan {
    /// Channels that carry a reply to each message; the others are one-way.
    pub fn is_duplex(&self, channel: u32) -> bool {
        match self.workload {
            Workload::Ping | Workload::PingOneCore => true,
            Workload::Flood | Workload::Slow => channel == 0,
            _ => false,
        }
    }

    /// Reading the clock costs more than sending a small message does.
    pub fn clock_due(&self, seq: u64) -> bool {
        self.size > 4096 || seq.is_multiple_of(256)
    }
}

fn last_core() -> usize {
    std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1)
}
