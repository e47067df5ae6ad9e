//! How a call waits: without the GIL, with a look at the signals, and not beyond the interpreter's end.
//!
//! No lock is held while a call waits here, and none while it takes the GIL back.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// How often the main thread looks for signals while it waits. Only the main thread handles them.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// How long the end of the interpreter waits for the peers of connections that are open.
const FAREWELL: Duration = Duration::from_millis(1500);

/// The interpreter ends. What waits in another thread does not come back.
static OVER: AtomicBool = AtomicBool::new(false);
/// In a forked process another thread is the main thread.
static FORKS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this is the main thread, as of so many forks.
    static IS_MAIN: Cell<Option<(u64, bool)>> = const { Cell::new(None) };
    /// This thread ends the interpreter, and has until then for it.
    static ENDS: Cell<Option<Instant>> = const { Cell::new(None) };
    static UNPARK: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// When a call that may take so many seconds gives up; `None`: never.
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    Ok(match timeout {
        None => None,
        Some(seconds) => Instant::now().checked_add(duration(seconds)?),
    })
}

/// So many seconds. What is too much to count is for ever.
pub(crate) fn duration(seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err("a time is a number of seconds, 0 or more"));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

pub(crate) fn is_main(py: Python<'_>) -> PyResult<bool> {
    let forks = FORKS.load(Relaxed);
    if let Some((known, is_main)) = IS_MAIN.get()
        && known == forks
    {
        return Ok(is_main);
    }
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    let is_main = main.eq(threading.call_method0("get_ident")?)?;
    IS_MAIN.set(Some((forks, is_main)));
    Ok(is_main)
}

/// Calls `attempt` without the GIL until it gives something, the deadline has passed (`None`), or a signal
/// handler raises. `attempt` may wait until the time that it gets.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    mut attempt: impl FnMut(Option<Instant>) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let looks = is_main(py)?;
    let deadline = match (ENDS.get(), deadline) {
        (Some(end), Some(deadline)) => Some(end.min(deadline)),
        (end, deadline) => end.or(deadline),
    };
    py.check_signals()?;
    loop {
        let look = if looks { Instant::now().checked_add(LOOK) } else { None };
        let until = match (look, deadline) {
            (Some(look), Some(deadline)) => Some(look.min(deadline)),
            (one, other) => one.or(other),
        };
        let result = detached(py, || attempt(until));
        if result.is_some() {
            return Ok(result);
        }
        py.check_signals()?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
        }
    }
}

/// Polls without the GIL until there is something, as [`wait`] does.
pub(crate) fn poll<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T> + Send,
) -> PyResult<Option<T>> {
    wait(py, deadline, |until| park(until, &mut poll))
}

/// Polls and sleeps until there is something, or the time has come.
pub(crate) fn park<T>(
    until: Option<Instant>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let waker = UNPARK.with(Waker::clone);
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = poll(&mut context) {
            return Some(value);
        }
        match until {
            None => thread::park(),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                thread::park_timeout(left);
            }
        }
    }
}

/// Runs something that may take long without the GIL.
pub(crate) fn detached<T: Send>(py: Python<'_>, run: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        let result = run();
        // A daemon thread that comes back now would run a program whose modules are being taken apart,
        // and tell of a connection that was closed because the process ends.
        while OVER.load(Relaxed) && ENDS.get().is_none() {
            thread::park();
        }
        result
    })
}

/// Called when the interpreter is about to end. From now on this thread waits for nothing for long, and other
/// threads do not come back from what they wait for.
#[pyfunction]
pub(crate) fn _begin_exit() {
    ENDS.set(Some(Instant::now() + FAREWELL));
    OVER.store(true, Relaxed);
}

/// Called after that, when the streams are flushed: closes all connections behind what was sent.
#[pyfunction]
pub(crate) fn _end_exit(py: Python<'_>) {
    let left = ENDS.get().map_or(FAREWELL, |end| end.saturating_duration_since(Instant::now()));
    // What the flushes have used up must not keep the peers from being told.
    py.detach(|| trunkline::shutdown(left.max(FAREWELL / 10)));
    ENDS.set(Some(Instant::now()));
}

/// Called in the child after a fork.
#[pyfunction]
pub(crate) fn _after_fork() {
    FORKS.fetch_add(1, Relaxed);
}

/// Closes all connections of this process behind what was sent, and waits until their peers have it, no
/// longer than `timeout` seconds. Returns True if all have ended in that time.
///
/// The end of the interpreter does the same and waits for 1.5 s at most. A program that has much to send, or
/// leaves by `os._exit`, calls it first.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>, timeout: f64) -> PyResult<bool> {
    let timeout = duration(timeout)?;
    // The library is told the whole time at once, so the wait for it is a thread's.
    let (tell, told) = mpsc::channel();
    let told = Mutex::new(told);
    thread::Builder::new()
        .name("trunkline-shutdown".to_owned())
        .spawn(move || tell.send(trunkline::shutdown(timeout)))?;
    let ended = wait(py, None, |look| {
        let told = told.lock();
        match look {
            Some(look) => match told.recv_timeout(look.saturating_duration_since(Instant::now())) {
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                ended => Some(ended == Ok(true)),
            },
            None => Some(told.recv() == Ok(true)),
        }
    })?;
    Ok(ended == Some(true))
}
