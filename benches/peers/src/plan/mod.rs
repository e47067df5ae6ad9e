//! What is measured: the workloads, which rows each of them has, and their sizes.

pub mod rows;
pub mod workload;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use rows::{PeerName, Row, Way};
use workload::{Mode, Workload};

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
const SMALL_MESSAGES: u64 = 40_000_000;
pub const MIB: u64 = 1 << 20;

impl Plan {
    pub fn new(workload: Workload, row: Row, mode: Mode, congestion: Option<String>) -> Self {
        let full = mode == Mode::Full;
        let ms = Duration::from_millis;
        let either = |f, q| if full { f } else { q };
        let mut plan = Self {
            peer: row.peer,
            way: row.way,
            workload,
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
        match workload {
            Workload::Small => {
                plan.count = small_count(row) / either(1, 5);
                plan.limit = ms(either(60_000, 4_000));
            }
            Workload::Large => {
                plan.size = 64 << 10;
                plan.count = (2 << 30) / plan.size as u64;
                plan.limit = ms(either(60_000, 200));
            }
            Workload::Ping | Workload::PingOneCore => {
                plan.warm_up = either(2_000, 200);
                plan.count = either(50_000, 2_000);
                if workload == Workload::PingOneCore {
                    plan.core = Some(last_core());
                    plan.count = either(50_000, 3_000);
                }
            }
            Workload::Many => {
                plan.size = 256;
                plan.channels = 128;
                plan.count = 8_000;
                plan.limit = ms(either(60_000, 200));
            }
            Workload::Flood => {
                plan.size = 64 << 10;
                plan.channels = 2;
                plan.warm_up = either(5_000, 500);
                plan.alone = ms(either(1_000, 100));
                plan.together = ms(either(3_000, 250));
            }
            Workload::Unread => {
                plan.size = 64 << 10;
                plan.channels = 2;
                plan.count = either(256, 64) * MIB / plan.size as u64;
            }
            Workload::Slow => {
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

    /// Channels that carry a reply to each message; the others are one-way.
    pub fn is_duplex(&self, channel: u32) -> bool {
        match self.workload {
            Workload::Ping | Workload::PingOneCore => true,
            Workload::Flood | Workload::Slow => channel == 0,
            _ => false,
        }
    }
}

/// What trunkline sends in about a second, and for rows that send far fewer a second so much less
/// that a round of theirs takes no more than a few.
fn small_count(row: Row) -> u64 {
    SMALL_MESSAGES
        / match (row.peer, row.way) {
            (PeerName::Trunkline, _) | (_, Way::Buffered) => 1,
            (PeerName::Zmq | PeerName::H2 | PeerName::AsyncSmux, _) => 10,
            (PeerName::Raw | PeerName::Tls | PeerName::Yamux | PeerName::Chmux, _) => 100,
        }
}

fn last_core() -> usize {
    std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1)
}
