//! The conversation of two peers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use pyo3::exceptions::{PyConnectionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PyTuple};
use trunkline::{CloseCode, CloseError, FlushError, Priority};

use crate::arguments::{Channel, Channels, Where, frozen, host_and_port};
use crate::config::Settings;
use crate::errors::{Raised, handle_not_pickled};
use crate::events::Events;
use crate::key::Access;
use crate::link::Link;
use crate::python::record;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::socket;
use crate::tasks::{Outcome, coroutine};
use crate::wait;

/// A connection to a peer: up to 128 channels each way.
///
/// As a context manager it is closed at the end, which waits until the peer has everything. A block that
/// raises closes it with the code CloseCode.PANICKED. A connection whose last handle (it, its senders, its
/// receivers) is dropped is closed in the background; the end of the interpreter waits for that, 1.5 s at
/// most.
///
/// In a process that was forked, everything fails with Forked: make a new connection there.
#[pyclass(frozen, module = "trunkline", name = "Connection", weakref)]
pub(crate) struct Connection(Arc<Link>);

impl Connection {
    pub(crate) fn new(connection: trunkline::Connection) -> Self {
        Self(Link::new(connection))
    }

    fn begin_close(
        &self,
        py: Python<'_>,
        code: u16,
        reason: &str,
        timeout: Option<f64>,
    ) -> PyResult<trunkline::Closing> {
        let connection = self.0.get(py)?;
        let code = CloseCode::from(code);
        Ok(match timeout {
            None => connection.closing(code, reason),
            Some(timeout) => connection.closing_within(code, reason, wait::duration(timeout)?),
        })
    }
}

fn closed(py: Python<'_>, end: Option<Result<(), CloseError>>) -> PyResult<()> {
    end.unwrap_or(Ok(())).map_err(|error| error.raised(py))
}

#[pymethods]
impl Connection {
    /// Connects to a listener, at "host:port", (host, port) or the pathlib.Path of a Unix socket. Both sides prove that they have the key.
    ///
    /// Raises ConnectError (a ConnectionError), or one of the classes below HandshakeError if the other side
    /// speaks something else, has another key, or has no room. Takes `connect_timeout` at most.
    #[staticmethod]
    fn connect(py: Python<'_>, address: Where, config: Settings) -> PyResult<Self> {
        let connecting = wait::detached(py, || trunkline::Connection::connecting(address, config.0));
        let mut connecting = connecting.map_err(|error| error.raised(py))?;
        let made = wait::poll(py, None, |context| Pin::new(&mut connecting).poll(context))?;
        match made {
            Some(made) => made.map(Self::new).map_err(|error| error.raised(py)),
            None => Err(trunkline::ConnectionError::IoThreadStopped.raised(py)),
        }
    }

    /// Connects as connect() does, as a task of asyncio. A task that is cancelled gives the attempt up.
    #[staticmethod]
    fn connect_async(py: Python<'_>, address: Where, config: Settings) -> PyResult<Bound<'_, PyAny>> {
        let connecting = wait::detached(py, || trunkline::Connection::connecting(address, config.0));
        let mut connecting = connecting.map_err(|error| error.raised(py))?;
        coroutine(py, move |context| {
            let made = ready!(Pin::new(&mut connecting).poll(context));
            let outcome: Outcome = Box::new(move |py| match made {
                Ok(connection) => Ok(Py::new(py, Self::new(connection))?.into_any()),
                Err(error) => Err(error.raised(py)),
            });
            Poll::Ready(outcome)
        })
    }

    /// Begins to connect to a listener, and returns before the listener is there. What is sent meanwhile
    /// waits, and goes when it comes.
    #[staticmethod]
    fn connect_lazily(py: Python<'_>, address: Where, config: Settings) -> PyResult<Self> {
        let made = wait::detached(py, || trunkline::Connection::connect_lazily(address, config.0));
        made.map(Self::new).map_err(|error| error.raised(py))
    }

    /// Makes a connection over a socket that is connected already, as one of `socket.socketpair()`, whose other end a
    /// Listener adopts. The socket is detached: it is the connection's from here on. A lost one is not replaced, for
    /// nothing here knows how.
    #[staticmethod]
    fn from_socket(py: Python<'_>, socket: &Bound<'_, PyAny>, config: Settings) -> PyResult<Self> {
        let stream = socket::take(py, socket)?;
        // A thread waits for the peer's proof, so that Ctrl-C ends this call.
        let (tell, told) = std::sync::mpsc::channel();
        let told = parking_lot::Mutex::new(told);
        std::thread::Builder::new().name("trunkline-connect".to_owned()).spawn(move || {
            let _ = tell.send(trunkline::Connection::from_stream(stream, config.0));
        })?;
        let made = wait::wait(py, None, |look| {
            let told = told.lock();
            match look {
                Some(look) => {
                    told.recv_timeout(look.saturating_duration_since(std::time::Instant::now())).ok()
                }
                None => told.recv().ok(),
            }
        })?;
        match made {
            Some(made) => made.map(Self::new).map_err(|error| error.raised(py)),
            None => Err(PyConnectionError::new_err("the interpreter ends")),
        }
    }

    /// Creates two connected ends in this process, for tests, and for a kernel in the process of its client.
    #[staticmethod]
    fn pair(py: Python<'_>, config: Settings) -> PyResult<(Self, Self)> {
        let (here, there) =
            wait::detached(py, || trunkline::Connection::pair(config.0)).map_err(|error| error.raised(py))?;
        Ok((Self::new(here), Self::new(there)))
    }

    /// Returns a sender for a channel. A channel may have any number; all belong to the same run.
    ///
    /// `urgent=True` makes its messages overtake normal ones that still wait; a channel has one priority at
    /// a time. None: that of its other senders, or the normal one.
    #[pyo3(signature = (channel, *, urgent = None))]
    fn sender(&self, py: Python<'_>, channel: Channel, urgent: Option<bool>) -> PyResult<Sender> {
        let connection = self.0.get(py)?;
        let sender = match urgent {
            None => connection.sender(channel.0),
            Some(true) => connection.sender_with(channel.0, Priority::Urgent),
            Some(false) => connection.sender_with(channel.0, Priority::Normal),
        };
        let sender = sender.map_err(|error| error.raised(py))?;
        Ok(Sender::new(sender, Arc::clone(&self.0)))
    }

    /// Returns a receiver for a channel, or for several merged in the order of arrival. It begins with what
    /// the peer has sent there already. A channel has one receiver at a time.
    #[pyo3(signature = (*channels))]
    fn receiver(&self, py: Python<'_>, channels: &Bound<'_, PyTuple>) -> PyResult<Receiver> {
        let channels = match channels.len() {
            1 => channels.get_item(0)?.extract::<Channels>()?,
            _ => channels.extract::<Channels>()?,
        };
        let receiver = self.0.get(py)?.receiver(channels.0).map_err(|error| error.raised(py))?;
        Ok(Receiver::new(receiver, Arc::clone(&self.0)))
    }

    /// Returns what happens on the connection outside its channels, from now on, and what is true now.
    fn events(&self, py: Python<'_>) -> PyResult<Events> {
        Ok(Events::new(self.0.get(py)?.events()))
    }

    /// Asks the peer to interrupt what it computes, ahead of all that waits to be sent.
    fn interrupt(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get(py)?.interrupt().map_err(|error| error.raised(py))
    }

    /// Waits until the peer's library has everything that was sent before the call, no longer than `timeout`
    /// seconds. Raises FlushTimedOut, and Suspended if there is no socket when the time is over; both are
    /// TimeoutErrors, and what was sent may still arrive.
    #[pyo3(signature = (timeout = None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let connection = self.0.get(py)?;
        let deadline = wait::deadline(timeout)?;
        let mut flushing = connection.flushing();
        match wait::poll(py, deadline, |context| Pin::new(&mut flushing).poll(context))? {
            Some(flushed) => flushed.map_err(|error| error.raised(py)),
            None if connection.is_suspended() => Err(FlushError::Suspended.raised(py)),
            None => Err(FlushError::TimedOut.raised(py)),
        }
    }

    /// Waits until the peer's library has everything, as a task of asyncio; through outages too.
    fn flush_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut flushing = self.0.get(py)?.flushing();
        coroutine(py, move |context| {
            let flushed = ready!(Pin::new(&mut flushing).poll(context));
            let outcome: Outcome =
                Box::new(move |py| flushed.map(|()| py.None()).map_err(|error| error.raised(py)));
            Poll::Ready(outcome)
        })
    }

    /// Closes the connection, and waits until the peer has confirmed that it has everything, `timeout` seconds
    /// at most (Config.linger by default). Raises CloseError if it has not.
    ///
    /// The peer is told the code and the reason (at most 255 bytes). All handles of this side fail from the
    /// beginning of the call on; what had arrived can still be read.
    #[pyo3(signature = (code = 0, reason = "", *, timeout = None))]
    fn close(&self, py: Python<'_>, code: u16, reason: &str, timeout: Option<f64>) -> PyResult<()> {
        let mut closing = self.begin_close(py, code, reason, timeout)?;
        closed(py, wait::poll(py, None, |context| Pin::new(&mut closing).poll(context))?)
    }

    /// Closes the connection as close() does, as a task of asyncio. It closes all the same if the task is
    /// cancelled.
    #[pyo3(signature = (code = 0, reason = "", *, timeout = None))]
    fn close_async<'py>(
        &self,
        py: Python<'py>,
        code: u16,
        reason: &str,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut closing = self.begin_close(py, code, reason, timeout)?;
        let place = self.0.bell.place();
        coroutine(py, move |context| {
            let end = ready!(place.poll(context, |context| Pin::new(&mut closing).poll(context)));
            let outcome: Outcome = Box::new(move |py| closed(py, Some(end)).map(|()| py.None()));
            Poll::Ready(outcome)
        })
    }

    /// Lets go of the connection without waiting. What was sent still goes, in the background.
    fn detach(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get(py)?.clone().detach();
        Ok(())
    }

    /// Lets go of the connection at once. What is not sent yet is dropped.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get(py)?.clone().abandon();
        Ok(())
    }

    /// Why the connection is over, as the exception that its handles raise; None while it is not.
    #[getter]
    fn close_reason<'py>(&self, py: Python<'py>) -> PyResult<Option<Py<PyAny>>> {
        // The library knows of a fork without a lock.
        let reason = self.0.even_if_forked(py)?.close_reason();
        Ok(reason.map(|cause| cause.raised(py).into_value(py).into_any()))
    }

    /// True if there is no socket at the moment and the connection waits for another. Calls stay blocked and
    /// what is sent waits.
    #[getter]
    fn is_suspended(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.get(py)?.is_suspended())
    }

    /// True if the bytes of the connection are sealed: nothing on the way can read or change them.
    #[getter]
    fn is_sealed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.get(py)?.is_sealed())
    }

    /// What the listener's settings say of the key that the peer has proved; None on the side that connected.
    #[getter]
    fn access(&self, py: Python<'_>) -> PyResult<Option<Access>> {
        Ok(self.0.get(py)?.access().map(|access| Access(access.clone())))
    }

    /// The channels that this side may send on.
    #[getter]
    fn may_send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        frozen(py, self.0.get(py)?.may_send())
    }

    /// The channels that this side may receive.
    #[getter]
    fn may_receive<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        frozen(py, self.0.get(py)?.may_receive())
    }

    /// True if this side may interrupt the peer.
    #[getter]
    fn may_interrupt(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.get(py)?.may_interrupt())
    }

    /// (host, port) of this side's socket; None on a pair, and before there is a socket.
    #[getter]
    fn local_addr(&self, py: Python<'_>) -> PyResult<Option<(String, u16)>> {
        Ok(self.0.get(py)?.local_addr().map(host_and_port))
    }

    /// (host, port) of the peer's socket; None on a pair, and before there is a socket.
    #[getter]
    fn peer_addr(&self, py: Python<'_>) -> PyResult<Option<(String, u16)>> {
        Ok(self.0.get(py)?.peer_addr().map(host_and_port))
    }

    /// The process at the other end of a Unix socket, if the system tells (Linux from 6.5 on); None over TCP.
    #[getter]
    fn peer_pid(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        Ok(self.0.get(py)?.peer_process().map(|process| process.id()))
    }

    /// The round trip that was measured last, in seconds.
    #[getter]
    fn rtt(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        Ok(self.0.get(py)?.rtt().map(|time| time.as_secs_f64()))
    }

    /// Returns counts of the connection, exact as of the call.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let connection = self.0.get(py)?;
        let stats = wait::detached(py, || connection.stats());
        let channels = PyList::empty(py);
        for channel in &stats.channels {
            channels.append(record(py, "ChannelStats", |fields| {
                fields.set_item("channel", channel.channel.get())?;
                fields.set_item("messages_sent", channel.messages_sent)?;
                fields.set_item("bytes_sent", channel.bytes_sent)?;
                fields.set_item("staged", channel.staged)?;
                fields.set_item("send_credit", channel.send_credit)?;
                fields.set_item("messages_received", channel.messages_received)?;
                fields.set_item("bytes_received", channel.bytes_received)?;
                fields.set_item("unread", channel.unread)?;
                fields.set_item("unread_bytes", channel.unread_bytes)?;
                fields.set_item("receive_credit", channel.receive_credit)
            })?)?;
        }
        record(py, "Stats", |fields: &Bound<'_, PyDict>| {
            fields.set_item("channels", channels)?;
            fields.set_item("messages_sent", stats.messages_sent)?;
            fields.set_item("messages_received", stats.messages_received)?;
            fields.set_item("bytes_written", stats.bytes_written)?;
            fields.set_item("bytes_read", stats.bytes_read)?;
            fields.set_item("queued", stats.queued)?;
            fields.set_item("held", stats.held.total())?;
            fields.set_item("rtt", stats.rtt.map(|time| time.as_secs_f64()))?;
            fields.set_item("wakes", stats.wakes)?;
            fields.set_item("reads", stats.reads)?;
            fields.set_item("writes", stats.writes)
        })
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
        let Some(reason) = failure(class)? else {
            return match self.0.get(py)?.close_reason() {
                // Closed in the block, or by the peer: what was sent has had its answer.
                Some(_) => Ok(()),
                None => self.close(py, 0, "", None),
            };
        };
        // The error that is on its way says more than this one could.
        match self.close(py, CloseCode::PANICKED.into(), &reason, None) {
            Err(error) if !error.is_instance_of::<pyo3::exceptions::PyException>(py) => Err(error),
            _ => Ok(()),
        }
    }

    fn __aenter__<'py>(slf: Bound<'py, Self>, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let slf = slf.into_any().unbind();
        let mut slf = Some(slf);
        coroutine(py, move |_| {
            let slf = slf.take();
            let outcome: Outcome =
                Box::new(move |_| slf.ok_or_else(|| PyValueError::new_err("this was awaited before")));
            Poll::Ready(outcome)
        })
    }

    fn __aexit__<'py>(
        &self,
        py: Python<'py>,
        class: &Bound<'py, PyAny>,
        _error: &Bound<'py, PyAny>,
        _traceback: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let failure = failure(class)?;
        let failed = failure.is_some();
        let code = if failed { CloseCode::PANICKED } else { CloseCode::NORMAL };
        let over = self.0.get(py)?.close_reason().is_some();
        let mut closing = self.begin_close(py, code.into(), failure.as_deref().unwrap_or(""), None)?;
        let place = self.0.bell.place();
        coroutine(py, move |context| {
            let end = match over {
                true => Ok(()),
                false => ready!(place.poll(context, |context| Pin::new(&mut closing).poll(context))),
            };
            let outcome: Outcome =
                Box::new(move |py| closed(py, Some(if failed { Ok(()) } else { end })).map(|()| py.None()));
            Poll::Ready(outcome)
        })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        if self.0.check(py).is_err() {
            return Ok("<trunkline.Connection of another process>".to_owned());
        }
        let connection = self.0.get(py)?;
        let state = match connection.close_reason() {
            Some(_) => ", over",
            None if connection.is_suspended() => ", suspended",
            None => "",
        };
        Ok(match connection.peer_addr() {
            Some(peer) => format!("<trunkline.Connection to {peer}{state}>"),
            None => format!("<trunkline.Connection{state}>"),
        })
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(handle_not_pickled("Connection"))
    }
}

/// What the peer is told of a block that raised.
fn failure(class: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if class.is_none() {
        return Ok(None);
    }
    Ok(Some(format!("the program raised {}", class.getattr("__name__")?)))
}
