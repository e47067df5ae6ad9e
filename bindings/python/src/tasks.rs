//! Waiting as a task of asyncio.
//!
//! The I/O thread never takes the GIL: a waker writes a byte to a socket that the event loop watches. So there
//! is no thread for a call, nothing comes late to a loop that was closed, and a program that holds the GIL for
//! a minute holds up nothing but itself.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::python::Module;

/// What an event loop watches: which of its tasks are to look again.
#[pyclass(frozen, module = "trunkline._trunkline", name = "_Alarm")]
pub(crate) struct Alarm(Arc<Wire>);

struct Wire {
    /// Written to by any thread.
    rings: UnixStream,
    /// Watched by the loop.
    heard: UnixStream,
    due: Mutex<Vec<u64>>,
    /// There is a byte on its way, or there are numbers that were not taken.
    rung: AtomicBool,
    tickets: AtomicU64,
}

impl Wire {
    fn ring(&self, number: u64) {
        self.due.lock().push(number);
        if !self.rung.swap(true, SeqCst) {
            // Full: then the loop has enough to wake it. Closed: then there is none.
            let _ = (&self.rings).write(&[0]);
        }
    }
}

#[pymethods]
impl Alarm {
    #[new]
    fn new() -> PyResult<Self> {
        let (rings, heard) = UnixStream::pair()?;
        rings.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        let wire = Wire {
            rings,
            heard,
            due: Mutex::default(),
            rung: AtomicBool::new(false),
            tickets: AtomicU64::new(0),
        };
        Ok(Self(Arc::new(wire)))
    }

    fn fileno(&self) -> i32 {
        self.0.heard.as_raw_fd()
    }

    /// The numbers of the tickets that are due.
    fn take(&self) -> Vec<u64> {
        while matches!((&self.0.heard).read(&mut [0; 64]), Ok(64)) {}
        // Before the numbers are taken, so that one that comes now rings again.
        self.0.rung.store(false, SeqCst);
        std::mem::take(&mut *self.0.due.lock())
    }

    fn ticket(&self) -> Ticket {
        let number = self.0.tickets.fetch_add(1, SeqCst);
        let waker = Waker::from(Arc::new(Due { wire: Arc::clone(&self.0), number }));
        Ticket { number, waker }
    }
}

/// A task's waker.
struct Due {
    wire: Arc<Wire>,
    number: u64,
}

impl Wake for Due {
    fn wake(self: Arc<Self>) {
        self.wire.ring(self.number);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wire.ring(self.number);
    }
}

#[pyclass(frozen, module = "trunkline._trunkline", name = "_Ticket")]
pub(crate) struct Ticket {
    #[pyo3(get)]
    number: u64,
    waker: Waker,
}

/// What comes of an operation, made with the GIL.
pub(crate) type Outcome = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// Says what has come of it, or wakes the task when there is something.
type Polled = Box<dyn FnMut(&mut Context<'_>) -> Poll<Outcome> + Send>;

/// Something that a task waits for.
#[pyclass(frozen, module = "trunkline._trunkline", name = "_Operation")]
pub(crate) struct Operation(Mutex<Option<Polled>>);

#[pymethods]
impl Operation {
    /// Returns `(result,)`, or None: then the ticket is due when there is something.
    fn poll<'py>(&self, py: Python<'py>, ticket: &Ticket) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
        let mut operation = self.0.lock();
        let Some(poll) = operation.as_mut() else { return Ok(None) };
        match poll(&mut Context::from_waker(&ticket.waker)) {
            Poll::Pending => Ok(None),
            Poll::Ready(outcome) => {
                let done = operation.take();
                drop(operation);
                drop(done);
                Ok(Some((outcome(py)?.into_bound(py),)))
            }
        }
    }

    /// Gives up. What was not done is not done.
    fn cancel(&self) {
        let given_up = self.0.lock().take();
        drop(given_up);
    }
}

/// A coroutine that waits for what `poll` gives.
pub(crate) fn coroutine<'py>(
    py: Python<'py>,
    poll: impl FnMut(&mut Context<'_>) -> Poll<Outcome> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>> {
    let operation = Operation(Mutex::new(Some(Box::new(poll))));
    Module::Tasks.get(py, "wait")?.call1((operation,))
}
