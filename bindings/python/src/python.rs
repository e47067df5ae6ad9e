//! What is written in Python: looked up once.

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
