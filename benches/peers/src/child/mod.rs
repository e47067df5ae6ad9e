//! One of the two processes of a run, and what it tells the harness on its standard output:
//! `listening ADDR,…` (the server), `result {…}` when its work is done, `usage {…}` when its
//! standard input has ended, which it does when both are done.

pub mod congestion;
pub mod usage;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::child::usage::Usage;
use crate::peers;
use crate::plan::Plan;

pub enum Role {
    Server,
    Client(Vec<SocketAddr>),
}

/// Measured values by name; what they mean stands in `report`.
pub type Values = BTreeMap<String, f64>;

/// What the watchdog exits with.
pub const STALLED: i32 = 3;

static PROGRESS: AtomicU64 = AtomicU64::new(0);
static BESIDE: AtomicU64 = AtomicU64::new(0);
static WATCHED: AtomicBool = AtomicBool::new(true);
static STAGE: Mutex<&str> = Mutex::new("setting up");
static START: OnceLock<Usage> = OnceLock::new();

pub fn run(role: Role, plan: Plan) -> Result<()> {
    if let Some(core) = plan.core {
        let mut cores = CpuSet::new();
        cores.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &cores).context("pinning to one core")?;
    }
    // Earlier than the harness's own deadline, which ends us without a word.
    let (patience, deadline) = (plan.patience, plan.deadline - Duration::from_millis(500));
    thread::spawn(move || watch(patience, deadline));
    peers::run(role, &plan)
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

/// What is going on, for the watchdog's last words.
pub fn stage(name: &'static str) {
    *STAGE.lock().unwrap() = name;
    PROGRESS.store(0, Relaxed);
}

/// How far the stage has come. When this stands still the run has stalled.
#[inline]
pub fn progress(to: u64) {
    PROGRESS.store(to, Relaxed);
}

/// Bytes moved by whatever goes on beside the stage and does not count as its progress.
#[inline]
pub fn beside(bytes: u64) {
    BESIDE.store(bytes, Relaxed);
}

/// The work of this side is done; the watchdog rests while the other side finishes.
pub fn result(values: &Values) {
    WATCHED.store(false, Relaxed);
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

fn watch(patience: Duration, deadline: Duration) {
    let start = Instant::now();
    let mut last = (String::new(), u64::MAX);
    let mut since = start;
    while WATCHED.load(Relaxed) {
        thread::sleep(Duration::from_millis(100));
        let now = (STAGE.lock().unwrap().to_string(), PROGRESS.load(Relaxed));
        if now != last {
            last = now;
            since = Instant::now();
        }
        let what = match () {
            () if since.elapsed() > patience => format!("no progress for {patience:?}"),
            () if start.elapsed() > deadline => format!("no end after {deadline:?}"),
            () => continue,
        };
        if WATCHED.load(Relaxed) {
            let beside = BESIDE.load(Relaxed) as f64 / 1e6;
            let beside = if beside > 0.0 { format!(", {beside:.1} MB beside") } else { String::new() };
            eprintln!("{what} while {} ({} so far{beside})", last.0, last.1);
            process::exit(STALLED);
        }
    }
}
