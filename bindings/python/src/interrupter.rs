//! Ending a wait of another thread.

use pyo3::prelude::*;

use crate::errors::handle_not_pickled;

/// Ends a call that waits in another thread: a recv, a send, a read or a write. It raises Interrupted.
///
/// It does not keep the connection open, and may be used in a signal handler.
#[pyclass(frozen, module = "trunkline", name = "Interrupter", weakref)]
pub(crate) struct Interrupter(pub(crate) trunkline::Interrupter);

#[pymethods]
impl Interrupter {
    /// Ends the call that waits, or else the next one that would wait. Nothing that was sent is lost.
    /// Interrupts that no call has raised merge into one.
    fn interrupt(&self) {
        self.0.interrupt();
    }

    fn __repr__(&self) -> &'static str {
        "<trunkline.Interrupter>"
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(handle_not_pickled("Interrupter"))
    }
}
