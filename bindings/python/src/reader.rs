//! A channel as a stream to read from. `trunkline/_streams.py` makes a raw stream of Python's of it.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::io::{self, BufRead};
use trunkline::{ConnectionError, Disconnect, Interrupted, RecvError};

use crate::bell::{Bell, Place};
use crate::errors::{inner, io_error};
use crate::interrupter::Interrupter;
use crate::link::Link;
use crate::tasks::{Outcome, coroutine};
use crate::wait;

#[pyclass(frozen, module = "trunkline._trunkline", name = "_Reader")]
pub(crate) struct Reader {
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
    reader: Option<trunkline::Reader>,
    by_line: bool,
    /// What is left of a line that was longer than the buffer of the call that got it.
    line: Vec<u8>,
    given: usize,
    /// What was given last was no whole line.
    open: bool,
    /// The end of the run is to be told once more.
    again: bool,
}

/// A line of more than 16 MiB, which the library gives in pieces only.
fn is_endless(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
        && inner::<RecvError>(error).is_none()
        && inner::<ConnectionError>(error).is_none()
        && inner::<Disconnect>(error).is_none()
        && inner::<Interrupted>(error).is_none()
}

impl State {
    /// Up to so many bytes: a line or a piece of one, or what there is. No bytes are the end of a run, or
    /// that the stream was closed.
    ///
    /// After a last line that has no `\n`, the end is told twice: what reads lines takes the first for the
    /// end of that line.
    fn poll(&mut self, most: usize, context: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        if std::mem::take(&mut self.again) {
            return Poll::Ready(Ok(Vec::new()));
        }
        let bytes = ready!(self.poll_bytes(most, context))?;
        self.again = bytes.is_empty() && self.by_line && self.open;
        self.open = bytes.last().is_some_and(|last| *last != b'\n');
        Poll::Ready(Ok(bytes))
    }

    fn poll_bytes(&mut self, most: usize, context: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let Some(reader) = &mut self.reader else { return Poll::Ready(Ok(Vec::new())) };
        if self.given < self.line.len() {
            return Poll::Ready(Ok(self.give(most)));
        }
        if self.by_line {
            self.line.clear();
            self.given = 0;
            match ready!(reader.poll_read_until(context, b'\n', &mut self.line)) {
                Ok(read) if read <= most => return Poll::Ready(Ok(std::mem::take(&mut self.line))),
                Ok(_) => return Poll::Ready(Ok(self.give(most))),
                Err(error) if is_endless(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let bytes = match ready!(reader.poll_fill_buf(context)) {
            Ok(bytes) => bytes[..bytes.len().min(most)].to_vec(),
            Err(error) => return Poll::Ready(Err(error)),
        };
        reader.consume(bytes.len());
        Poll::Ready(Ok(bytes))
    }

    /// All to the end of the run. If something else comes first, what has come stays.
    fn poll_all(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        if std::mem::take(&mut self.again) {
            return Poll::Ready(Ok(Vec::new()));
        }
        let Some(reader) = &mut self.reader else { return Poll::Ready(Ok(Vec::new())) };
        loop {
            let bytes = ready!(reader.poll_fill_buf(context))?;
            if bytes.is_empty() {
                break;
            }
            self.line.extend_from_slice(bytes);
            let taken = bytes.len();
            reader.consume(taken);
        }
        self.open = false;
        let given = std::mem::take(&mut self.given);
        let mut all = std::mem::take(&mut self.line);
        all.drain(..given);
        Poll::Ready(Ok(all))
    }

    fn give(&mut self, most: usize) -> Vec<u8> {
        let piece = &self.line[self.given..];
        let piece = piece[..piece.len().min(most)].to_vec();
        self.given += piece.len();
        if self.given == self.line.len() {
            self.line = Vec::new();
            self.given = 0;
        }
        piece
    }
}

impl Shared {
    /// Up to so many bytes, or all of the run.
    fn poll(
        &self,
        place: &Place,
        most: Option<usize>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Vec<u8>>> {
        place.poll(context, |context| {
            let mut state = self.state.lock();
            match most {
                Some(most) => state.poll(most, context),
                None => state.poll_all(context),
            }
        })
    }
}

impl Reader {
    pub(crate) fn new(reader: trunkline::Reader, by_line: bool, link: Arc<Link>) -> Self {
        let interrupter = reader.interrupter();
        let name = format!("<trunkline channel {}>", reader.receiver().channels());
        let state =
            State { reader: Some(reader), by_line, line: Vec::new(), given: 0, open: false, again: false };
        Self {
            shared: Arc::new(Shared { state: Mutex::new(state), bell: Arc::default(), interrupter }),
            name,
            link,
        }
    }
}

#[pymethods]
impl Reader {
    /// Waits for up to so many bytes, or for all of the run.
    #[pyo3(signature = (most = None))]
    fn take<'py>(&self, py: Python<'py>, most: Option<usize>) -> PyResult<Bound<'py, PyBytes>> {
        self.link.check(py)?;
        let place = self.shared.bell.place();
        let read = wait::poll(py, None, |context| self.shared.poll(&place, most, context))?;
        match read {
            Some(Ok(bytes)) => Ok(PyBytes::new(py, &bytes)),
            Some(Err(error)) => Err(io_error(py, &error)),
            None => Ok(PyBytes::new(py, b"")),
        }
    }

    /// Takes a line or a piece of one if it is there now, or else returns None.
    fn take_now<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.link.check(py)?;
        // With the bell: the poll may have taken the place of another's.
        let place = self.shared.bell.place();
        let mut context = Context::from_waker(std::task::Waker::noop());
        match self.shared.poll(&place, Some(most), &mut context) {
            Poll::Ready(Ok(bytes)) => Ok(Some(PyBytes::new(py, &bytes))),
            Poll::Ready(Err(error)) => Err(io_error(py, &error)),
            Poll::Pending => Ok(None),
        }
    }

    #[pyo3(signature = (most = None))]
    fn take_async<'py>(&self, py: Python<'py>, most: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
        self.link.check(py)?;
        let (shared, link) = (Arc::clone(&self.shared), Arc::clone(&self.link));
        let place = shared.bell.place();
        coroutine(py, move |context| {
            let _ = &link;
            let read = ready!(shared.poll(&place, most, context));
            let outcome: Outcome = Box::new(move |py| match read {
                Ok(bytes) => Ok(PyBytes::new(py, &bytes).into_any().unbind()),
                Err(error) => Err(io_error(py, &error)),
            });
            Poll::Ready(outcome)
        })
    }

    /// A line that had no end was taken for what it is: the end of the run is told once.
    fn end_line(&self, py: Python<'_>) -> PyResult<()> {
        self.link.check(py)?;
        self.shared.state.lock().open = false;
        Ok(())
    }

    #[getter]
    fn by_line(&self, py: Python<'_>) -> PyResult<bool> {
        self.link.check(py)?;
        Ok(self.shared.state.lock().by_line)
    }

    /// True if a read would not wait.
    fn pending(&self, py: Python<'_>) -> PyResult<bool> {
        self.link.check(py)?;
        let state = self.shared.state.lock();
        Ok(state.again
            || state.given < state.line.len()
            || state.reader.as_ref().is_none_or(trunkline::Reader::pending))
    }

    fn announce_waiting(&self, py: Python<'_>, announce: bool) -> PyResult<()> {
        self.link.check(py)?;
        if let Some(reader) = &mut self.shared.state.lock().reader {
            reader.announce_waiting(announce);
        }
        Ok(())
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    fn interrupter(&self, py: Python<'_>) -> PyResult<Interrupter> {
        self.link.check(py)?;
        Ok(Interrupter(self.shared.interrupter.clone()))
    }

    fn clear_interrupt(&self, py: Python<'_>) -> PyResult<()> {
        self.link.check(py)?;
        if let Some(reader) = &mut self.shared.state.lock().reader {
            reader.clear_interrupt();
        }
        Ok(())
    }

    fn close(&self, py: Python<'_>) {
        if self.link.check(py).is_ok() {
            let reader = self.shared.state.lock().reader.take();
            drop(reader);
            self.shared.bell.ring();
        }
    }
}
