//! What is written in Python: looked up once.

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule};
use pyo3::{BoundObject, IntoPyObject};

/// A module of this package.
#[derive(Clone, Copy)]
pub(crate) enum Module {
    Errors,
    Records,
    Streams,
    Tasks,
}

static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
static RECORDS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
static STREAMS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
static TASKS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

impl Module {
    /// What has this name in the module.
    pub(crate) fn get<'py>(self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let (module, path) = match self {
            Self::Errors => (&ERRORS, "trunkline._errors"),
            Self::Records => (&RECORDS, "trunkline._records"),
            Self::Streams => (&STREAMS, "trunkline._streams"),
            Self::Tasks => (&TASKS, "trunkline._tasks"),
        };
        let module = module.get_or_try_init(py, || PyModule::import(py, path).map(Bound::unbind))?;
        module.bind(py).getattr(name)
    }
}

/// Fails in a subinterpreter. Classes, exceptions and the end of the process are those of the main one; and
/// before 3.12 nothing but this says so.
#[pyfunction]
#[allow(unsafe_code)]
pub(crate) fn _check_interpreter() -> PyResult<()> {
    // SAFETY: a function that Python calls has the GIL and a thread state, which is all that these ask for.
    let number = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if number == 0 {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "trunkline does not work in a subinterpreter; import it in the main interpreter",
    ))
}

/// Makes one of the records, by the names of its fields.
pub(crate) fn record<'py>(
    py: Python<'py>,
    class: &str,
    fill: impl FnOnce(&Bound<'py, PyDict>) -> PyResult<()>,
) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fill(&fields)?;
    let mut class_object = Module::Records.get(py, class.split('.').next().unwrap_or(class))?;
    for part in class.split('.').skip(1) {
        class_object = class_object.getattr(part)?;
    }
    class_object.call((), Some(&fields))
}

/// A value as an object.
pub(crate) fn object<'py>(py: Python<'py>, value: impl IntoPyObject<'py>) -> PyResult<Py<PyAny>> {
    match value.into_pyobject(py) {
        Ok(object) => Ok(object.into_any().unbind()),
        Err(error) => Err(error.into()),
    }
}
