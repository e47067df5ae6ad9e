//! The receiving end of one channel or several.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Instant;

use parking_lot::Mutex;
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyFrozenSet, PyList};
use trunkline::{ChannelSet, Received, RecvError};

use crate::arguments::{Channel, at_least_one, frozen};
use crate::bell::{Bell, Place};
use crate::errors::{Raised, handle_not_pickled, recv_timed_out};
use crate::interrupter::Interrupter;
use crate::link::Link;
use crate::message::Message;
use crate::python::{Module, record};
use crate::reader::Reader;
use crate::take::{Any, Latest, Looked, Many, One, Take};
use crate::tasks::{Outcome, coroutine};
use crate::wait;

/// The receiving end of one channel or several, from Connection.receiver().
///
/// Iteration gives the messages of a run and ends with it; every other end raises. The next loop gets the next
/// run. `async for` does the same. Several threads and tasks may receive with one receiver: each message
/// goes to one of them.
#[pyclass(frozen, module = "trunkline", name = "Receiver", weakref)]
pub(crate) struct Receiver {
    shared: Arc<Shared>,
    link: Arc<Link>,
}

struct Shared {
    /// Held for a look, or by one thread that waits with it: for a short time, without the GIL, and
    /// `asleep` tells.
    receiver: Mutex<Option<trunkline::Receiver>>,
    asleep: AtomicBool,
    closed: AtomicBool,
    bell: Arc<Bell>,
    channels: ChannelSet,
    interrupter: trunkline::Interrupter,
}

/// Why nothing was received.
enum Nothing {
    Closed,
    Ended(RecvError),
}

impl From<RecvError> for Nothing {
    fn from(why: RecvError) -> Self {
        Self::Ended(why)
    }
}

impl Raised for Nothing {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Closed => PyValueError::new_err(
                "this receiver is closed, or is a reader now; get another from the connection",
            ),
            Self::Ended(why) => why.raised(py),
        }
    }
}

impl Shared {
    /// Looks without waiting; with the GIL or without.
    fn look<T>(&self, look: impl FnOnce(&trunkline::Receiver) -> Looked<T>) -> Poll<Result<T, Nothing>> {
        loop {
            if let Some(receiver) = self.receiver.try_lock() {
                let Some(receiver) = &*receiver else { return Poll::Ready(Err(Nothing::Closed)) };
                return look(receiver).map(|result| result.map_err(Nothing::Ended));
            }
            // Another thread waits for what comes next, so there is nothing. It rings when it goes on.
            if self.asleep.load(SeqCst) {
                return Poll::Pending;
            }
            std::thread::yield_now();
        }
    }

    fn poll<T>(
        &self,
        place: &Place,
        context: &mut Context<'_>,
        look: impl FnOnce(&trunkline::Receiver, &mut Context<'_>) -> Looked<T>,
    ) -> Poll<Result<T, Nothing>> {
        place.poll(context, |context| self.look(|receiver| look(receiver, context)))
    }

    /// Waits with the receiver itself: so the thread runs the I/O loop meanwhile, which makes a round trip
    /// shorter. Not for long: others may want to look.
    fn nap<T: Take>(&self, take: &T, until: Option<Instant>) -> Option<Result<T::Item, Nothing>> {
        let receiver = self.receiver.try_lock()?;
        let held = receiver.as_ref()?;
        let nap = Instant::now() + wait::LOOK;
        self.asleep.store(true, SeqCst);
        let result = take.wait(held, until.map_or(nap, |until| until.min(nap)));
        self.asleep.store(false, SeqCst);
        drop(receiver);
        self.bell.ring();
        match result {
            Poll::Ready(result) => Some(result.map_err(Nothing::Ended)),
            Poll::Pending => None,
        }
    }

    /// An interrupt that was meant to close the receiver is that.
    fn say(&self, why: Nothing) -> Nothing {
        if self.closed.load(SeqCst) && matches!(why, Nothing::Ended(RecvError::Interrupted)) {
            Nothing::Closed
        } else {
            why
        }
    }
}

/// A message, or a record of what else a channel tells.
fn received(py: Python<'_>, received: Received) -> PyResult<Bound<'_, PyAny>> {
    match received {
        Received::Message(message) => Ok(Bound::new(py, Message::new(message))?.into_any()),
        Received::Finished(channel) => {
            record(py, "Received.Finished", |fields| fields.set_item("channel", channel.get()))
        }
        Received::Reset { channel, code } => record(py, "Received.Reset", |fields| {
            fields.set_item("channel", channel.get())?;
            fields.set_item("code", code)
        }),
        Received::Gap { channel, messages, bytes } => record(py, "Received.Gap", |fields| {
            fields.set_item("channel", channel.get())?;
            fields.set_item("messages", messages)?;
            fields.set_item("bytes", bytes)
        }),
        other => Err(PyValueError::new_err(format!("this package does not know of {other:?}"))),
    }
}

fn list<'py>(py: Python<'py>, messages: Vec<trunkline::Message>) -> PyResult<Bound<'py, PyList>> {
    let messages: PyResult<Vec<_>> =
        messages.into_iter().map(|message| Bound::new(py, Message::new(message))).collect();
    PyList::new(py, messages?)
}

impl Receiver {
    pub(crate) fn new(receiver: trunkline::Receiver, link: Arc<Link>) -> Self {
        let shared = Shared {
            channels: receiver.channels(),
            interrupter: receiver.interrupter(),
            receiver: Mutex::new(Some(receiver)),
            asleep: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            bell: Arc::default(),
        };
        Self { shared: Arc::new(shared), link }
    }

    /// Returns what there is, and waits for it; `None`: it did not come in time.
    fn wait<T: Take>(&self, py: Python<'_>, timeout: Option<f64>, take: &T) -> PyResult<Option<T::Item>> {
        self.link.check(py)?;
        // Before anything is taken: a loop in C, such as `list(receiver)`, looks for signals nowhere else.
        py.check_signals()?;
        let shared = &*self.shared;
        if let Poll::Ready(result) = shared.look(|receiver| take.now(receiver)) {
            return result.map(Some).map_err(|why| why.raised(py));
        }
        let deadline = wait::deadline(timeout)?;
        let place = shared.bell.place();
        let mut rested = false;
        let result = wait::wait(py, deadline, |until| {
            if !std::mem::replace(&mut rested, true)
                && let Some(result) = shared.nap(take, until)
            {
                return Some(result);
            }
            wait::park(until, |context| {
                shared.poll(&place, context, |receiver, context| take.poll(receiver, context))
            })
        })?;
        result.transpose().map_err(|why| shared.say(why).raised(py))
    }

    /// Does something that never waits, as soon as no other thread has the receiver.
    fn act<T: Send>(&self, py: Python<'_>, act: impl Fn(&trunkline::Receiver) -> T + Sync) -> PyResult<T> {
        self.link.check(py)?;
        let shared = &*self.shared;
        let place = shared.bell.place();
        let done = wait::poll(py, None, |context| {
            shared.poll(&place, context, |receiver, _| Poll::Ready(Ok(act(receiver))))
        })?;
        match done {
            Some(done) => done.map_err(|why| why.raised(py)),
            None => Err(PyValueError::new_err("the interpreter ends")),
        }
    }

    fn now<T: Take>(&self, py: Python<'_>, take: &T) -> PyResult<Option<T::Item>> {
        self.link.check(py)?;
        match self.shared.look(|receiver| take.now(receiver)) {
            Poll::Ready(result) => result.map(Some).map_err(|why| why.raised(py)),
            Poll::Pending => Ok(None),
        }
    }

    /// A coroutine that waits for what there is.
    fn coroutine<'py, T: Take + Send + 'static>(
        &self,
        py: Python<'py>,
        take: T,
        give: impl Fn(Python<'_>, Result<T::Item, PyErr>) -> PyResult<Py<PyAny>> + Send + Clone + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.link.check(py)?;
        let shared = Arc::clone(&self.shared);
        let link = Arc::clone(&self.link);
        let place = shared.bell.place();
        coroutine(py, move |context| {
            // The task may be what keeps the connection.
            let _ = &link;
            let polled = shared.poll(&place, context, |receiver, context| take.poll(receiver, context));
            let result = std::task::ready!(polled).map_err(|why| shared.say(why));
            let give = give.clone();
            let outcome: Outcome = Box::new(move |py| give(py, result.map_err(|why| why.raised(py))));
            Poll::Ready(outcome)
        })
    }
}

fn message(py: Python<'_>, message: trunkline::Message) -> PyResult<Py<PyAny>> {
    Ok(Py::new(py, Message::new(message))?.into_any())
}

#[pymethods]
impl Receiver {
    /// The numbers of the channels that it receives.
    #[getter]
    fn channels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        frozen(py, self.shared.channels)
    }

    /// Returns the next message, and waits for it, no longer than `timeout` seconds.
    ///
    /// Raises Finished and Reset once for each run that ends, Gap where the peer left something out,
    /// RecvTimedOut (a TimeoutError), Interrupted, and ConnectionLost once everything that had arrived is
    /// read.
    #[pyo3(signature = (timeout = None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Message> {
        match self.wait(py, timeout, &One)? {
            Some(message) => Ok(Message::new(message)),
            None => Err(recv_timed_out(py)),
        }
    }

    /// Returns the next message, or None if none is there now.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        Ok(self.now(py, &One)?.map(Message::new))
    }

    /// Returns the newest message that is there and drops the older ones: for a caller that wants the state, and not
    /// its history. Waits for one as `recv` does. It stops before whatever is no message; the next call raises that.
    #[pyo3(signature = (timeout = None))]
    fn recv_latest(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Message> {
        match self.wait(py, timeout, &Latest)? {
            Some(message) => Ok(Message::new(message)),
            None => Err(recv_timed_out(py)),
        }
    }

    /// Returns all messages that are there, at least one and at most `limit`, and waits for the first as
    /// `recv` does. The list ends before whatever is no message; the next call raises that.
    #[pyo3(signature = (limit = None, timeout = None))]
    fn recv_many<'py>(
        &self,
        py: Python<'py>,
        limit: Option<usize>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let limit = at_least_one("limit", limit)?;
        match self.wait(py, timeout, &Many(limit))? {
            Some(messages) => list(py, messages),
            None => Err(recv_timed_out(py)),
        }
    }

    /// Returns the next message, gap or end in the order in which they came: a Message, or one of the records
    /// below Received. Raises Finished after the runs of all channels have ended.
    #[pyo3(signature = (timeout = None))]
    fn recv_any<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        match self.wait(py, timeout, &Any)? {
            Some(any) => received(py, any),
            None => Err(recv_timed_out(py)),
        }
    }

    /// Returns what recv_any() returns, or None if nothing is there now.
    fn try_recv_any<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.now(py, &Any)?.map(|any| received(py, any)).transpose()
    }

    /// Returns the next message, as a task of asyncio. A task that is cancelled, also by
    /// asyncio.wait_for(), has taken none.
    fn recv_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine(py, One, |py, result| message(py, result?))
    }

    /// As recv_latest(), for asyncio.
    fn recv_latest_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine(py, Latest, |py, result| message(py, result?))
    }

    /// Returns what recv_many() returns, as a task of asyncio.
    #[pyo3(signature = (limit = None))]
    fn recv_many_async<'py>(&self, py: Python<'py>, limit: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
        let limit = at_least_one("limit", limit)?;
        self.coroutine(py, Many(limit), |py, result| Ok(list(py, result?)?.into_any().unbind()))
    }

    /// Returns what recv_any() returns, as a task of asyncio.
    fn recv_any_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine(py, Any, |py, result| received(py, result?).map(Bound::unbind))
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Message> {
        match self.recv(py, None) {
            Err(error) if is_finish(py, &error) => Err(PyStopIteration::new_err(())),
            other => other,
        }
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine(py, One, |py, result| match result {
            Err(error) if is_finish(py, &error) => Err(PyStopAsyncIteration::new_err(())),
            other => message(py, other?),
        })
    }

    /// How many messages wait to be taken.
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.link.check(py)?;
        match self.shared.look(|receiver| Poll::Ready(Ok(receiver.len()))) {
            Poll::Ready(Ok(length)) => Ok(length),
            Poll::Ready(Err(why)) => Err(why.raised(py)),
            Poll::Pending => Ok(0),
        }
    }

    /// A receiver is no collection: it is there, however many messages wait.
    fn __bool__(&self) -> bool {
        true
    }

    /// Refuses the rest of the peer's current runs, or of one channel's: what has arrived is dropped, and the
    /// peer's send fails with this code.
    #[pyo3(signature = (code = 0, *, channel = None))]
    fn stop(&self, py: Python<'_>, code: u32, channel: Option<Channel>) -> PyResult<()> {
        self.act(py, move |receiver| match &channel {
            Some(channel) => receiver.stop_channel(channel.0, code),
            None => receiver.stop(code),
        })
    }

    /// Drops the rest of the run that is read now on a channel, and refuses what has not arrived of it; the next run
    /// stays.
    #[pyo3(signature = (channel, code = 0))]
    fn skip_run(&self, py: Python<'_>, channel: Channel, code: u32) -> PyResult<()> {
        self.act(py, move |receiver| receiver.skip_run(channel.0, code))
    }

    /// How many messages of a channel were dropped here unread, by `stop` and the like.
    fn discarded(&self, py: Python<'_>, channel: Channel) -> PyResult<u64> {
        self.act(py, move |receiver| receiver.discarded(channel.0))
    }

    /// Returns an object that ends a call of this receiver that waits in another thread.
    fn interrupter(&self, py: Python<'_>) -> PyResult<Interrupter> {
        self.link.check(py)?;
        Ok(Interrupter(self.shared.interrupter.clone()))
    }

    /// Forgets an interrupt that no call has raised yet.
    fn clear_interrupt(&self, py: Python<'_>) -> PyResult<()> {
        self.link.check(py)?;
        let cleared = self.shared.look(|receiver| {
            receiver.clear_interrupt();
            Poll::Ready(Ok(()))
        });
        match cleared {
            Poll::Ready(Err(why)) => Err(why.raised(py)),
            // A thread that waits would have raised it.
            _ => Ok(()),
        }
    }

    /// Turns the receiver into a raw stream to read from.
    ///
    /// A read waits for a whole line and gives at most one, as a terminal does, so that a TextIOWrapper around
    /// it never reads ahead: sys.stdin = io.TextIOWrapper(receiver.reader()). `by_line=False` gives what there
    /// is, for data that has no lines. `announce=True` tells the peer while a read waits with nothing to read.
    #[pyo3(signature = (*, by_line = true, announce = false))]
    fn reader<'py>(&self, py: Python<'py>, by_line: bool, announce: bool) -> PyResult<Bound<'py, PyAny>> {
        let receiver = self.take(py)?.ok_or_else(|| Nothing::Closed.raised(py))?;
        let mut reader = receiver.into_reader();
        reader.announce_waiting(announce);
        Module::Streams.get(py, "Reader")?.call1((Reader::new(reader, by_line, Arc::clone(&self.link)),))
    }

    /// Lets go of the channels: the peer's send fails, and a call that waits here raises ValueError.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.link.check(py).is_ok() {
            let receiver = self.take(py)?;
            drop(receiver);
        }
        Ok(())
    }

    /// True after close(), and after reader().
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        self.link.check(py).is_err() || self.shared.closed.load(SeqCst)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _class: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<trunkline.Receiver of channels {}>", self.shared.channels)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(handle_not_pickled("Receiver"))
    }
}

impl Receiver {
    /// Takes the library's receiver out, and wakes what waits with it.
    fn take(&self, py: Python<'_>) -> PyResult<Option<trunkline::Receiver>> {
        self.link.check(py)?;
        let shared = &*self.shared;
        if shared.closed.swap(true, SeqCst) {
            return Ok(None);
        }
        let receiver = wait::detached(py, || {
            let mut receiver = match shared.receiver.try_lock() {
                Some(receiver) => receiver,
                None => {
                    // A thread naps with it, or looks.
                    shared.interrupter.interrupt();
                    shared.receiver.lock()
                }
            };
            let taken = receiver.take();
            drop(receiver);
            shared.bell.ring();
            taken
        });
        // The interrupt was meant for what waited here, not for a reader.
        if let Some(receiver) = &receiver {
            receiver.clear_interrupt();
        }
        Ok(receiver)
    }
}

fn is_finish(py: Python<'_>, error: &PyErr) -> bool {
    Module::Errors.get(py, "Finished").is_ok_and(|class| error.is_instance(py, &class))
}
