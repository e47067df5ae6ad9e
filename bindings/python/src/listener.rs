//! The socket that clients connect to.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use trunkline::AcceptError;

use crate::arguments::{Where, host_and_port};
use crate::bell::Bell;
use crate::config::Settings;
use crate::connection::Connection;
use crate::errors::{Raised, handle_not_pickled};
use crate::events::ListenerEvents;
use crate::key::{Access, Key};
use crate::link::Born;
use crate::socket;
use crate::tasks::{Outcome, coroutine};
use crate::wait;

/// A socket that clients connect to: Listener("127.0.0.1:0", key), or Listener(Path("kernel.sock"), key).
///
/// Port 0 lets the system choose. A path is a Unix socket's, for this user's clients. Iteration gives the clients as they come, until the listener is closed;
/// `async for` does the same. A client whose socket is lost comes back to its listener, so keep it as long as
/// its connections.
#[pyclass(frozen, module = "trunkline", name = "Listener", weakref)]
pub(crate) struct Listener {
    listener: Arc<trunkline::Listener>,
    /// Of a Unix socket.
    path: Option<PathBuf>,
    bell: Arc<Bell>,
    born: Born,
}

type Accepted = Result<trunkline::Connection, AcceptError>;

impl Listener {
    fn get(&self, py: Python<'_>) -> PyResult<&trunkline::Listener> {
        self.born.check(py)?;
        Ok(&self.listener)
    }

    fn poll(&self) -> impl FnMut(&mut Context<'_>) -> Poll<Accepted> + Send + 'static {
        let listener = Arc::clone(&self.listener);
        let place = self.bell.place();
        move |context| place.poll(context, |context| listener.poll_accept(context))
    }

    fn coroutine<'py>(
        &self,
        py: Python<'py>,
        closed: fn(Python<'_>) -> PyErr,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.born.check(py)?;
        let mut poll = self.poll();
        coroutine(py, move |context| {
            let accepted = ready!(poll(context));
            let outcome: Outcome = Box::new(move |py| match accepted {
                Ok(connection) => Ok(Py::new(py, Connection::new(connection))?.into_any()),
                Err(_) => Err(closed(py)),
            });
            Poll::Ready(outcome)
        })
    }
}

#[pymethods]
impl Listener {
    #[new]
    fn new(py: Python<'_>, address: Where, config: Settings) -> PyResult<Self> {
        let (bound, path) = wait::detached(py, move || {
            let bound = address.listen(config.0);
            (bound, if let Where::Path(path) = address { Some(path) } else { None })
        });
        let listener = Arc::new(bound.map_err(|error| error.raised(py))?);
        Ok(Self { listener, path, bell: Arc::default(), born: Born::new() })
    }

    /// Returns the next client that has proved its key, and waits for it, no longer than `timeout` seconds.
    /// Raises AcceptTimedOut, and ListenerClosed once the listener is closed. Nothing that a client does
    /// makes this fail.
    #[pyo3(signature = (timeout = None))]
    fn accept(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Connection> {
        self.born.check(py)?;
        let deadline = wait::deadline(timeout)?;
        let accepted = wait::poll(py, deadline, self.poll())?.unwrap_or(Err(AcceptError::Empty));
        accepted.map(Connection::new).map_err(|error| error.raised(py))
    }

    /// Returns the next client, or None if none waits now.
    fn try_accept(&self, py: Python<'_>) -> PyResult<Option<Connection>> {
        match self.get(py)?.try_accept() {
            Ok(connection) => Ok(Some(Connection::new(connection))),
            Err(AcceptError::Empty) => Ok(None),
            Err(error) => Err(error.raised(py)),
        }
    }

    /// Returns the next client, as a task of asyncio.
    fn accept_async<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine(py, |py| AcceptError::Closed.raised(py))
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Connection> {
        self.born.check(py)?;
        match wait::poll(py, None, self.poll())? {
            Some(Ok(connection)) => Ok(Connection::new(connection)),
            _ => Err(PyStopIteration::new_err(())),
        }
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine(py, |_| PyStopAsyncIteration::new_err(()))
    }

    /// Returns a stream of what happens here beside the connections: which peers were turned away, and why.
    fn events(&self, py: Python<'_>) -> PyResult<ListenerEvents> {
        Ok(ListenerEvents::new(self.get(py)?.events()))
    }

    /// (host, port), with the port that the system chose; the path of a Unix socket.
    #[getter]
    fn local_addr<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.path {
            Some(path) => path.into_bound_py_any(py),
            None => host_and_port(self.listener.local_addr()).into_bound_py_any(py),
        }
    }

    /// Takes a socket that is connected already as if it had come to this listener; its client still proves a key. The
    /// socket is detached.
    fn adopt(&self, py: Python<'_>, socket: &Bound<'_, PyAny>) -> PyResult<()> {
        let listener = self.get(py)?;
        let stream = socket::take(py, socket)?;
        Ok(listener.adopt(stream)?)
    }

    /// Returns the clients that the listener has now, accepted or not, in no order.
    fn sessions<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let listener = self.get(py)?;
        let sessions = wait::detached(py, || listener.sessions());
        sessions.iter().map(|session| socket::session(py, session)).collect()
    }

    /// Accepts one more key from now on, and sets what its holder may do. A key that was accepted already
    /// gets the new access, and its connections end.
    #[pyo3(signature = (key, access = None))]
    fn add_key(
        &self,
        py: Python<'_>,
        key: &Bound<'_, Key>,
        access: Option<&Bound<'_, Access>>,
    ) -> PyResult<()> {
        let access = access.map_or_else(trunkline::Access::full, |access| access.get().0.clone());
        self.get(py)?.add_key(key.get().0.clone(), access);
        Ok(())
    }

    /// Accepts a key no longer. The connections of its holders end.
    fn remove_key(&self, py: Python<'_>, key: &Bound<'_, Key>) -> PyResult<()> {
        self.get(py)?.remove_key(&key.get().0);
        Ok(())
    }

    /// Stops listening: what waits in accept() returns. Connections that have a socket go on.
    fn close(&self, py: Python<'_>) {
        if self.born.check(py).is_ok() {
            self.listener.close();
        }
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
    ) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        format!("<trunkline.Listener on {}>", self.listener.address())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(handle_not_pickled("Listener"))
    }
}
