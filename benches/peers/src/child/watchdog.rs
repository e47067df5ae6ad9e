//! Ends a process whose work stands still, and says where it stood.

use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// What the watchdog exits with.
pub const STALLED: i32 = 3;

static PROGRESS: AtomicU64 = AtomicU64::new(0);
static BESIDE: AtomicU64 = AtomicU64::new(0);
static WATCHED: AtomicBool = AtomicBool::new(true);
static STAGE: Mutex<&str> = Mutex::new("setting up");
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

pub fn rest() {
    WATCHED.store(false, Relaxed);
}

pub fn watch(patience: Duration, deadline: Duration) {
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
