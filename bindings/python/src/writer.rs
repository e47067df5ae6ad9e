//! A channel as a stream to write to. `trunkline/_streams.py` makes a raw stream of Python's of it.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arguments::Payload;
use crate::bell::{Bell, Place};
use crate::errors::{Raised, io_error};
use crate::interrupter::Interrupter;
use crate::link::Link;
use crate::tasks::{Outcome, coroutine};
use crate::wait;

#[pyclass(frozen, module = "trunkline._trunkline", name = "_Writer")]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    name: String,
    link: Arc<Link>,
}

struct Shared {
    state: Mutex<State>,
    bell: Arc<Bell>,
    interrupter: trunkline::Interrupter,
}

struct State {
    /// None once it is closed.
    writer: Option<trunkline::Writer>,
    /// A write is half done. What another thread writes must not come in between.
    busy: bool,
}

/// Why something was not written.
enum Unwritten {
    Closed,
    Failed(io::Error),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Raised for Unwritten {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Closed => PyValueError::new_err("write to a closed stream"),
            Self::Failed(error) => io_error(py, error),
        }
    }
}

/// A write, or a flush, that is under way.
struct Work {
    shared: Arc<Shared>,
    place: Place,
    bytes: Bytes,
    /// How much of them is written.
    done: usize,
    flush: bool,
    /// It has made the writer busy.
    busy: bool,
}

impl Work {
    fn new(shared: &Arc<Shared>, bytes: Bytes, flush: bool) -> Self {
        Self { shared: Arc::clone(shared), place: shared.bell.place(), bytes, done: 0, flush, busy: false }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unwritten>> {
        let Self { shared, place, bytes, done, flush, busy } = self;
        place.poll(context, |context| {
            let state = &mut *shared.state.lock();
            if state.busy && !*busy {
                return Poll::Pending;
            }
            let Some(writer) = &mut state.writer else {
                return Poll::Ready(Err(Unwritten::Closed));
            };
            while *done < bytes.len() {
                match writer.poll_write(context, &bytes[*done..]) {
                    Poll::Ready(written) => *done += written?,
                    Poll::Pending => {
                        *busy = true;
                        state.busy = true;
                        return Poll::Pending;
                    }
                }
            }
            if *flush {
                ready!(writer.poll_flush(context))?;
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.busy {
            self.shared.state.lock().busy = false;
            self.shared.bell.ring();
        }
    }
}

impl Writer {
    pub(crate) fn new(writer: trunkline::Writer, link: Arc<Link>) -> Self {
        let interrupter = writer.sender().interrupter();
        let name = format!("<trunkline channel {}>", writer.sender().channel());
        let state = State { writer: Some(writer), busy: false };
        Self {
            shared: Arc::new(Shared { state: Mutex::new(state), bell: Arc::default(), interrupter }),
            name,
            link,
        }
    }

    fn work(&self, py: Python<'_>, mut work: Work) -> PyResult<()> {
        match wait::poll(py, None, |context| work.poll(context))? {
            Some(Err(error)) => Err(error.raised(py)),
            _ => Ok(()),
        }
    }

    fn coroutine<'py>(&self, py: Python<'py>, mut work: Work) -> PyResult<Bound<'py, PyAny>> {
        let link = Arc::clone(&self.link);
        coroutine(py, move |context| {
            let _ = &link;
            let done = ready!(work.poll(context));
            let length = work.bytes.len();
            let outcome: Outcome = Box::new(move |py| match done {
                Ok(()) => Ok(length.into_pyobject(py)?.into_any().unbind()),
                Err(error) => Err(error.raised(py)),
            });
            Poll::Ready(outcome)
        })
    }
}

#[pymethods]
impl Writer {
    /// Writes everything, and waits for room. Returns how many bytes that was.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.link.check(py)?;
        let bytes = Payload::of(data)?.into_bytes();
        let length = bytes.len();
        self.work(py, Work::new(&self.shared, bytes, false))?;
        Ok(length)
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        if self.link.check(py).is_err() {
            // In the child of a fork: what is gathered is the parent's, and a write here has failed. The child
            // flushes its standard output when it ends.
            return Ok(());
        }
        self.work(py, Work::new(&self.shared, Bytes::new(), true))
    }

    fn write_async<'py>(&self, py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.link.check(py)?;
        self.coroutine(py, Work::new(&self.shared, Payload::of(data)?.into_bytes(), true))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    fn interrupter(&self, py: Python<'_>) -> PyResult<Interrupter> {
        self.link.check(py)?;
        Ok(Interrupter(self.shared.interrupter.clone()))
    }

    /// Lets go of the channel, and waits for nothing: the garbage collector calls this too.
    fn close(&self, py: Python<'_>) {
        if self.link.check(py).is_err() {
            return;
        }
        let Some(mut writer) = self.shared.state.lock().writer.take() else { return };
        self.shared.bell.ring();
        let mut context = Context::from_waker(std::task::Waker::noop());
        if writer.poll_flush(&mut context).is_pending() {
            // The beginning of a line was not flushed, and has no room now. Dropping it waits for that, no
            // longer than the connection lingers.
            let link = Arc::clone(&self.link);
            let wait = move || drop((writer, link));
            // Without a thread it is dropped here, by the call that fails.
            let _ = std::thread::Builder::new().name("trunkline-drop".to_owned()).spawn(wait);
        }
    }
}
