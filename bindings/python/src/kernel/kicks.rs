//! How a statement is interrupted from outside: signals to the main thread, until it has heard one.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use trunkline_kernel::kernel::{Hooks, Stdio};
use trunkline_kernel::layout::SignalName;

/// How long after a signal the next is sent, at first; then twice as long each time.
const FIRST: Duration = Duration::from_millis(1);
/// And at most.
const MOST: Duration = Duration::from_millis(200);
/// From how many signals on a child is told, for which the main thread waits without hearing any.
const DEAF: u32 = 4;

/// The main thread of this process, as the one that has made it says.
#[derive(Clone, Copy)]
pub(crate) struct MainThread(libc::pthread_t);

impl MainThread {
    /// This thread.
    #[allow(unsafe_code)]
    pub(crate) fn this() -> Self {
        // SAFETY: it has no conditions.
        Self(unsafe { libc::pthread_self() })
    }

    #[allow(unsafe_code)]
    pub(crate) fn signal(self, signal: i32) {
        // SAFETY: the main thread of a process lives as long as the process, so the value names a thread.
        unsafe { libc::pthread_kill(self.0, signal) };
    }
}

/// What the kernel calls to stop a statement.
pub(crate) struct Kicks {
    main: MainThread,
    /// The main thread's SIGINT is from here, and is for the statement that was to be stopped.
    pub(crate) insisted: AtomicBool,
    /// While the kernel lives, which has this as its hooks.
    stdio: Mutex<Option<Stdio>>,
    call: Sender<()>,
    /// Columns and rows of the console's terminal.
    pub(crate) size: Mutex<Option<(u16, u16)>>,
}

impl Kicks {
    pub(crate) fn new(main: MainThread) -> std::io::Result<Arc<Self>> {
        let (call, called) = bounded(1);
        let kicks = Arc::new(Self {
            main,
            insisted: AtomicBool::new(false),
            stdio: Mutex::new(None),
            call,
            size: Mutex::new(None),
        });
        let kicker = Arc::downgrade(&kicks);
        thread::Builder::new().name("trunkline-kicks".to_owned()).spawn(move || {
            while called.recv().is_ok() {
                let Some(kicks) = kicker.upgrade() else { return };
                kicks.kick(&called);
            }
        })?;
        Ok(kicks)
    }

    /// From here on it works.
    pub(crate) fn begin(&self, stdio: Stdio) {
        *self.stdio.lock() = Some(stdio);
    }

    /// The kernel is gone.
    pub(crate) fn end(&self) {
        drop(self.stdio.lock().take());
    }

    fn stopping(&self) -> bool {
        self.stdio.lock().as_ref().is_some_and(Stdio::is_stopping)
    }

    fn kick(&self, called: &Receiver<()>) {
        let mut pause = FIRST;
        for count in 0.. {
            if !self.stopping() {
                return;
            }
            self.main.signal(libc::SIGURG);
            if count >= DEAF
                && let Some(child) = awaited_child()
            {
                tell_with_descendants(child);
            }
            match called.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(MOST),
                Ok(()) => pause = FIRST,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Called by the main thread's handler of SIGINT: whether this one comes from here.
    pub(crate) fn is_own(&self) -> bool {
        self.insisted.swap(false, SeqCst)
    }
}

/// The hooks of a kernel.
pub(crate) struct Ladder(pub(crate) Arc<Kicks>);

impl Hooks for Ladder {
    fn interrupt(&self) {
        // One that waits is as good.
        let _ = self.0.call.try_send(());
    }

    fn insist(&self) {
        self.0.insisted.store(true, SeqCst);
        self.0.main.signal(libc::SIGINT);
    }

    fn resize(&self, columns: NonZeroU16, rows: NonZeroU16) {
        // A program on pipes has no terminal; the loop puts it where programs look before they ask one.
        *self.0.size.lock() = Some((columns.get(), rows.get()));
    }

    fn signal(&self, signal: &SignalName) -> Result<(), String> {
        Err(format!("this kernel runs without a host, which would pass SIG{signal} on; use its process id"))
    }
}

/// The child for which the main thread waits in `system()`, which lets no signal through.
#[cfg(target_os = "linux")]
fn awaited_child() -> Option<Pid> {
    let pid = std::process::id();
    let call = std::fs::read_to_string(format!("/proc/self/task/{pid}/syscall")).ok()?;
    let mut words = call.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    if number != libc::SYS_wait4 {
        return None;
    }
    let child = i32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    Pid::from_raw(child).filter(|_| child > 1)
}

/// Where the system does not tell: such a call ends when its child does.
#[cfg(not(target_os = "linux"))]
fn awaited_child() -> Option<Pid> {
    None
}

/// A shell does not pass on what it gets.
fn tell_with_descendants(child: Pid) {
    let mut all = vec![child];
    let mut next = 0;
    while let Some(process) = all.get(next).copied() {
        next += 1;
        let id = process.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        all.extend(children.split_ascii_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)));
        if all.len() > 1000 {
            break;
        }
    }
    for process in all {
        // It may have ended.
        let _ = kill_process(process, Signal::INT);
    }
}
