//! What all handles of a connection share in this package.

use std::sync::Arc;

use pyo3::prelude::*;
use trunkline::{Connection, ConnectionError};

use crate::bell::Bell;
use crate::errors::Raised;

/// Tells if this process was forked from the one that made something.
pub(crate) struct Born(forkguard::Guard);

impl Born {
    pub(crate) fn new() -> Self {
        Self(forkguard::new())
    }

    /// Fails in the child of a fork, before any lock is taken: a thread that is not there any more may hold
    /// it.
    pub(crate) fn check(&self, py: Python<'_>) -> PyResult<()> {
        if self.0.clone().detected_fork() { Err(ConnectionError::Forked.raised(py)) } else { Ok(()) }
    }
}

/// A connection, as all of its handles hold it. It stands behind the library's own handle in each of them,
/// so that it is dropped after it.
pub(crate) struct Link {
    connection: Option<Connection>,
    born: Born,
    /// For tasks that wait for the connection itself.
    pub(crate) bell: Arc<Bell>,
}

impl Link {
    pub(crate) fn new(connection: Connection) -> Arc<Self> {
        Arc::new(Self { connection: Some(connection), born: Born::new(), bell: Arc::default() })
    }

    /// The connection, unless this process was forked.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<&Connection> {
        self.born.check(py)?;
        self.even_if_forked(py)
    }

    pub(crate) fn even_if_forked(&self, py: Python<'_>) -> PyResult<&Connection> {
        self.connection.as_ref().ok_or_else(|| ConnectionError::IoThreadStopped.raised(py))
    }

    pub(crate) fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.born.check(py)
    }
}

impl Drop for Link {
    /// The last handle is gone. Whatever drops it has the GIL, or is the garbage collector: it waits for
    /// nothing. The I/O thread sends what was sent, and closes.
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.detach();
        }
    }
}
