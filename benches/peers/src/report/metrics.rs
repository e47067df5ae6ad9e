//! The quantities that each workload is about, and those that every run costs.

use crate::harness::pair::Run;
use crate::plan::workload::Workload;

/// A measured quantity: where its value is found in a run, and what it is called.
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    pub more_is_better: bool,
    pub value: fn(&Run) -> Option<f64>,
}

macro_rules! metric {
    ($name:literal, $key:literal, $unit:literal, $per:expr, $more:literal) => {
        Metric {
            name: $name,
            unit: $unit,
            more_is_better: $more,
            value: |run| run.values.get($key).map(|value| value / $per),
        }
    };
}

macro_rules! cost {
    ($name:literal, $side:ident . $field:ident, $unit:literal) => {
        Metric { name: $name, unit: $unit, more_is_better: false, value: |run| Some(run.$side.$field) }
    };
}

const MICRO: f64 = 1e-6;
const MILLI: f64 = 1e-3;
const MEBI: f64 = (1 << 20) as f64;

/// The first is what the workload is about: its ratio to raw is printed, and its chart drawn.
pub fn metrics(workload: Workload) -> Vec<Metric> {
    match workload {
        Workload::Small | Workload::Many => vec![
            metric!("rate", "rate", "M msg/s", 1e6, true),
            metric!("messages", "messages", "M", 1e6, true),
        ],
        Workload::Large => vec![metric!("throughput", "throughput", "GB/s", 1e9, true)],
        Workload::Ping | Workload::PingOneCore => vec![
            metric!("p50", "p50", "µs", MICRO, false),
            metric!("p99", "p99", "µs", MICRO, false),
            metric!("p99.9", "p999", "µs", MICRO, false),
        ],
        Workload::Flood => vec![
            metric!("p99", "p99", "µs", MICRO, false),
            metric!("p50", "p50", "µs", MICRO, false),
            metric!("p99.9", "p999", "µs", MICRO, false),
            metric!("idle p99", "idle_p99", "µs", MICRO, false),
            metric!("flood", "flood", "GB/s", 1e9, true),
            metric!("flood kept", "kept", "of alone", 1.0, true),
        ],
        Workload::Unread => vec![
            metric!("throughput", "throughput", "GB/s", 1e9, true),
            metric!("kept", "kept", "of alone", 1.0, true),
            metric!("receiver grew", "growth", "MiB", 1.0, false),
            metric!("sender filled", "filled", "MiB", MEBI, false),
        ],
        Workload::Slow => vec![
            metric!("p99", "p99", "ms", MILLI, false),
            metric!("p50", "p50", "ms", MILLI, false),
            metric!("idle p50", "idle_p50", "ms", MILLI, false),
            metric!("flood", "flood", "MB/s", 1e6, true),
            metric!("pings", "pings", "", 1.0, true),
        ],
    }
}

pub fn costs() -> Vec<Metric> {
    vec![
        cost!("client cpu", client.cpu_seconds, "s"),
        cost!("server cpu", server.cpu_seconds, "s"),
        cost!("client peak rss", client.peak_rss_mib, "MiB"),
        cost!("server peak rss", server.peak_rss_mib, "MiB"),
        cost!("client switches", client.voluntary_switches, "switches"),
        cost!("server switches", server.voluntary_switches, "switches"),
    ]
}
