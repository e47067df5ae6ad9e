//! What a run cost this process.

use std::fs;

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub peak_rss_mib: f64,
    pub voluntary_switches: f64,
}

impl Usage {
    /// Since the process started. Context switches are `getrusage`'s, since those in
    /// `/proc/self/status` are the main thread's only; the peak is `/proc`'s, since
    /// `ru_maxrss` survives an exec.
    pub fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage of oneself");
        let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
        Self {
            cpu_seconds: seconds(usage.user_time()) + seconds(usage.system_time()),
            peak_rss_mib: status_mib("VmHWM:"),
            voluntary_switches: usage.voluntary_context_switches() as f64,
        }
    }

    pub fn since(self, start: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - start.cpu_seconds,
            voluntary_switches: self.voluntary_switches - start.voluntary_switches,
            ..self
        }
    }
}

pub fn rss_mib() -> f64 {
    status_mib("VmRSS:")
}

pub fn peak_mib() -> f64 {
    status_mib("VmHWM:")
}

fn status_mib(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
