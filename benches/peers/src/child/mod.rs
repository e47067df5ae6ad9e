//! One of the two processes of a run, and what it tells the harness on its standard output:
//! `listening ADDR,…` (the server), `result {…}` when its work is done, `usage {…}` when its
//! standard input has ended, which it does when both are done.

pub mod congestion;
pub mod usage;
pub mod watchdog;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::child::usage::Usage;
use crate::plan::Plan;

pub enum Role {
    Server,
    Client(Vec<SocketAddr>),
}

/// Measured values by name; what they mean stands in `report`.
pub type Values = BTreeMap<String, f64>;

static START: OnceLock<Usage> = OnceLock::new();

/// Comes before the peer is set up.
pub fn begin(plan: &Plan) -> Result<()> {
    if let Some(core) = plan.core {
        let mut cores = CpuSet::new();
        cores.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &cores).context("pinning to one core")?;
    }
    // Earlier than the harness's own deadline, which ends us without a word.
    let (patience, deadline) = (plan.patience, plan.deadline - Duration::from_millis(500));
    thread::spawn(move || watchdog::watch(patience, deadline));
    Ok(())
}

/// The server's addresses, for the harness to hand to the client or to a proxy.
pub fn announce(addresses: &[SocketAddr]) {
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    say("listening", &addresses.join(","));
}

/// Everything is connected: from here on the run is measured.
pub fn connected(plan: &Plan) -> Result<()> {
    if let Some(name) = &plan.congestion {
        congestion::apply(name)?;
    }
    START.set(Usage::now()).ok();
    Ok(())
}

/// The work of this side is done; the watchdog rests while the other side finishes.
pub fn result(values: &Values) {
    watchdog::rest();
    say("result", &serde_json::to_string(values).unwrap());
}

/// Blocks until both sides are done, then ends the process without tearing anything down: how a
/// peer closes is not measured, and must not be what a measured run fails by.
pub fn finish() -> ! {
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
    let usage = Usage::now().since(START.get().copied().unwrap_or_default());
    say("usage", &serde_json::to_string(&usage).unwrap());
    process::exit(0)
}

fn say(what: &str, text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what} {text}").and_then(|()| out.flush()).ok();
}
