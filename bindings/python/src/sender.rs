//! The sending end of a channel.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_sink::Sink;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use trunkline::{SendError, SenderSink, TrySendError};

use crate::arguments::Payload;
use crate::errors::{Raised, handle_not_pickled, send_timed_out};
use crate::interrupter::Interrupter;
use crate::link::Link;
use crate::python::Module;
use crate::tasks::{Outcome, coroutine};
use crate::wait;
use crate::writer::Writer;

/// The sending end of a channel, from Connection.sender().
///
/// What several threads send goes in the order of their calls. When the last sender of a channel is gone,
/// the peer reads what was sent and then the end of the run: so `with` it, or keep it as long as you send. A
/// `with` block that raises abandons the run instead: the peer reads an error (code Sender.PANICKED).
#[pyclass(frozen, module = "trunkline", name = "Sender", weakref)]
pub(crate) struct Sender {
    /// Locked for a look, with the GIL: no thread that waits has it.
    sender: Mutex<Option<Arc<trunkline::Sender>>>,
    channel: u8,
    link: Arc<Link>,
}

fn closed() -> PyErr {
    PyValueError::new_err("this sender is closed; get another from the connection")
}

impl Sender {
    pub(crate) fn new(sender: trunkline::Sender, link: Arc<Link>) -> Self {
        let channel = sender.channel().get();
        Self { sender: Mutex::new(Some(Arc::new(sender))), channel, link }
    }

    fn get(&self, py: Python<'_>) -> PyResult<Arc<trunkline::Sender>> {
        self.link.check(py)?;
        self.sender.lock().clone().ok_or_else(closed)
    }

    /// Sends what has room now. `Err(None)`: nothing has.
    fn send_now(&self, py: Python<'_>, payload: Payload<'_, '_>) -> PyResult<Option<SenderSink>> {
        self.link.check(py)?;
        let sender = self.sender.lock();
        let sender = sender.as_ref().ok_or_else(closed)?;
        let refused = match payload {
            Payload::Slice(slice) => match sender.try_send(slice) {
                Ok(()) => return Ok(None),
                Err(TrySendError::Full { .. }) => Payload::Slice(slice).into_bytes(),
                Err(error) => return Err(error.raised(py)),
            },
            other => match sender.try_send_bytes(other.into_bytes()) {
                Ok(()) => return Ok(None),
                Err(TrySendError::Full { message }) => message,
                Err(error) => return Err(error.raised(py)),
            },
        };
        let mut sink = sender.sink();
        match Pin::new(&mut sink).start_send(refused) {
            Ok(()) => Ok(Some(sink)),
            Err(error) => Err(error.raised(py)),
        }
    }
}

fn push(sink: &mut SenderSink, context: &mut Context<'_>) -> Poll<Result<(), SendError<bytes::Bytes>>> {
    Pin::new(sink).poll_flush(context)
}

#[pymethods]
impl Sender {
    /// The code of the reset that the peer reads when a program failed while it sent.
    #[classattr]
    const PANICKED: u32 = trunkline::Sender::PANICKED;

    /// The number of the channel.
    #[getter]
    fn channel(&self) -> u8 {
        self.channel
    }

    /// Sends a message: bytes, a str (as UTF-8), or another object with the buffer protocol.
    ///
    /// Returns when the message is in the send queue. Waits while the peer has not taken enough of what was
    /// sent, no longer than `timeout` seconds. If it fails, nothing of the message was sent. A large bytes
    /// object and a received message are not copied.
    #[pyo3(signature = (data, /, timeout = None))]
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        py.check_signals()?;
        let Some(mut sink) = self.send_now(py, Payload::of(data)?)? else { return Ok(()) };
        let deadline = wait::deadline(timeout)?;
        match wait::poll(py, deadline, |context| push(&mut sink, context))? {
            Some(sent) => sent.map_err(|error| error.raised(py)),
            None => Err(send_timed_out(py)),
        }
    }

    /// Sends a message if there is room now, and raises Full if not.
    #[pyo3(signature = (data, /))]
    fn try_send(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.send_now(py, Payload::of(data)?)? {
            None => Ok(()),
            Some(_) => Err(TrySendError::Full { message: () }.raised(py)),
        }
    }

    /// Sends a message as `send` does, as a task of asyncio. If the task is cancelled while it waits,
    /// nothing of the message was sent.
    #[pyo3(signature = (data, /))]
    fn send_async<'py>(&self, py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let sender = self.get(py)?;
        let link = Arc::clone(&self.link);
        let mut unsent = Some(Payload::of(data)?.into_bytes());
        let mut sink = None;
        coroutine(py, move |context| {
            let _ = &link;
            let sent = match unsent.take().map(|message| sender.try_send_bytes(message)) {
                None => match &mut sink {
                    None => Ok(()),
                    Some(sink) => std::task::ready!(push(sink, context)),
                },
                Some(Ok(())) => Ok(()),
                Some(Err(TrySendError::Full { message })) => {
                    let sink = sink.insert(sender.sink());
                    match Pin::new(&mut *sink).start_send(message) {
                        Ok(()) => std::task::ready!(push(sink, context)),
                        Err(error) => Err(error),
                    }
                }
                Some(Err(TrySendError::TooLarge { message, limit })) => {
                    Err(SendError::TooLarge { message, limit })
                }
                Some(Err(TrySendError::Disconnected { message, cause })) => {
                    Err(SendError::Disconnected { message, cause })
                }
            };
            let outcome: Outcome = Box::new(|py| sent.map(|()| py.None()).map_err(|error| error.raised(py)));
            Poll::Ready(outcome)
        })
    }

    /// Ends this run of the channel: the peer reads what was sent, and then the end. What is sent after it
    /// begins the next run.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.get(py)?.finish().map_err(|error| error.raised(py))
    }

    /// Abandons this run: the peer reads the messages that are on their way, and then Reset with this code.
    fn reset(&self, py: Python<'_>, code: u32) -> PyResult<()> {
        self.get(py)?.reset(code).map_err(|error| error.raised(py))
    }

    /// Tells the peer, at this place among the messages, that so many messages and bytes were left out.
    fn gap(&self, py: Python<'_>, messages: u64, bytes: u64) -> PyResult<()> {
        self.get(py)?.gap(messages, bytes).map_err(|error| error.raised(py))
    }

    /// Takes back what was sent in this run and is not on its way, and returns how many messages that was.
    /// The peer gets a gap in their place.
    fn discard_queued(&self, py: Python<'_>) -> PyResult<u64> {
        self.get(py)?.discard_queued().map_err(|error| error.raised(py))
    }

    /// Takes back the newest messages of this run that are not on their way, `most` of them at most; returns how many.
    /// The peer gets a gap in their place.
    fn discard_newest(&self, py: Python<'_>, most: u64) -> PyResult<u64> {
        self.get(py)?.discard_newest(most).map_err(|error| error.raised(py))
    }

    /// True if a message of up to 4 KiB would wait for the peer now.
    #[getter]
    fn waits_for_peer(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.get(py)?.waits_for_peer())
    }

    /// How many bytes wait for the peer's room: the rest of a message that is larger than that.
    #[getter]
    fn staged(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.get(py)?.staged())
    }

    /// How many bytes the peer takes on this channel now. A message costs its length and 32 of them.
    #[getter]
    fn credit(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.get(py)?.credit())
    }

    /// The size of the largest message that the peer takes, in bytes.
    #[getter]
    fn max_message(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.get(py)?.max_message())
    }

    /// The code with which the peer has stopped this run, or None.
    #[getter]
    fn stopped(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        Ok(self.get(py)?.stopped())
    }

    /// True if a reader of the peer's waits for what this side sends next.
    #[getter]
    fn peer_is_waiting(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.get(py)?.peer_is_waiting())
    }

    /// Returns an object that ends a send of this channel that waits in another thread.
    fn interrupter(&self, py: Python<'_>) -> PyResult<Interrupter> {
        Ok(Interrupter(self.get(py)?.interrupter()))
    }

    /// Forgets an interrupt that no send has raised yet.
    fn clear_interrupt(&self, py: Python<'_>) -> PyResult<()> {
        self.get(py)?.clear_interrupt();
        Ok(())
    }

    /// Returns a raw stream that writes to this channel, beside this sender.
    ///
    /// Whole lines go at once, the rest with flush(), or when 16 KiB have gathered. `buffered=False` makes
    /// each write a message of its own. For text, put an io.TextIOWrapper around it.
    #[pyo3(signature = (*, buffered = true))]
    fn writer<'py>(&self, py: Python<'py>, buffered: bool) -> PyResult<Bound<'py, PyAny>> {
        let writer = self.get(py)?.writer();
        let writer = if buffered { writer } else { writer.unbuffered() };
        Module::Streams.get(py, "Writer")?.call1((Writer::new(writer, Arc::clone(&self.link)),))
    }

    /// Lets go of the channel. With its last sender the run ends.
    fn close(&self, py: Python<'_>) {
        if self.link.check(py).is_ok() {
            let sender = self.sender.lock().take();
            drop(sender);
        }
    }

    /// True after close().
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        self.link.check(py).is_err() || self.sender.lock().is_none()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        class: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if !class.is_none()
            && let Ok(sender) = self.get(py)
        {
            // The peer must not take what there is for all. If it cannot be told, the error that is on
            // its way says more.
            let _ = sender.reset(Self::PANICKED);
        }
        self.close(py);
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<trunkline.Sender of channel {}>", self.channel)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(handle_not_pickled("Sender"))
    }
}
