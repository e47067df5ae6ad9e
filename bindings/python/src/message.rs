//! What one `send` carries and one `recv` returns.

use std::ffi::c_int;

use bytes::Bytes;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyMemoryView};

use crate::errors::not_pickled;

/// A whole message, and the channel that it came on.
///
/// It is an object like bytes: memoryview(message) and everything else that takes such an object see its
/// memory without a copy, and keep it when the connection is gone. bytes(message) copies. A message of more
/// than 32 bytes refers to the buffer that it arrived in, of which up to 16 KiB are shared with its
/// neighbours: to keep it for long without them, keep bytes(message).
///
/// Two messages are equal if their bytes are, and a message is equal to bytes.
#[pyclass(frozen, module = "trunkline", name = "Message")]
pub(crate) struct Message(trunkline::Message);

impl Message {
    pub(crate) fn new(message: trunkline::Message) -> Self {
        Self(message)
    }

    /// Its bytes, without a copy if there are many.
    pub(crate) fn shared(&self) -> Bytes {
        self.0.clone().into_bytes()
    }
}

#[pymethods]
impl Message {
    /// The channel that the message came on.
    #[getter]
    fn channel(&self) -> u8 {
        self.0.channel().get()
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0)
    }

    /// Returns the text of the message.
    #[pyo3(signature = (encoding = "utf-8", errors = "strict"))]
    fn decode<'py>(&self, py: Python<'py>, encoding: &str, errors: &str) -> PyResult<Bound<'py, PyAny>> {
        self.__bytes__(py).call_method1("decode", (encoding, errors))
    }

    fn __getitem__<'py>(slf: &Bound<'py, Self>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        PyMemoryView::from(slf.as_any())?.get_item(index)
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyIterator>> {
        PyMemoryView::from(slf.as_any())?.try_iter()
    }

    fn __contains__(&self, py: Python<'_>, part: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.__bytes__(py).contains(part)
    }

    fn __eq__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let equal = if let Ok(other) = other.cast::<Self>() {
            *self.0 == *other.get().0
        } else if let Ok(other) = other.cast::<PyBytes>() {
            *self.0 == *other.as_bytes()
        } else if let Ok(view) = PyMemoryView::from(other) {
            return self.__bytes__(py).rich_compare(view, pyo3::basic::CompareOp::Eq);
        } else {
            return Ok(py.NotImplemented().into_bound(py));
        };
        Ok(equal.into_pyobject(py)?.to_owned().into_any())
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.__bytes__(py).hash()
    }

    fn __repr__(&self) -> String {
        const SHOWN: usize = 32;
        let shown = self.0[..self.0.len().min(SHOWN)].escape_ascii();
        let more = if self.0.len() > SHOWN { ".." } else { "" };
        format!(
            "<trunkline.Message on channel {}, {} bytes: b\"{shown}\"{more}>",
            self.channel(),
            self.0.len()
        )
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(not_pickled("Message", "pickle bytes(message)"))
    }

    /// # Safety
    ///
    /// As the slot asks: `view` is valid for writes.
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("no view to fill"));
        }
        let bytes: &[u8] = &slf.get().0;
        // SAFETY: the view is valid, as the slot promises. The bytes live as long as the message, which is
        // frozen and does not move; the view keeps it alive, because it is given as the exporter. Only
        // readers get them: the view is read-only, and a consumer that asks for more is refused.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                bytes.as_ptr().cast_mut().cast(),
                bytes.len() as ffi::Py_ssize_t,
                1,
                flags,
            )
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
