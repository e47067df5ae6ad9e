//! The workloads, and what they are called.

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Full,
    Quick,
}

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
                "16-byte messages one way, one API call each, {}",
                if full { "40 million (slow rows 4 or 0.4)" } else { "8 million (slow rows 0.8 or 0.08)" }
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
}
