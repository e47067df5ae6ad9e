//! The shared secret of two peers, and what its holder may do.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyFrozenSet;

use crate::arguments::{Channels, frozen};
use crate::errors::{Raised, not_pickled};

/// 32 random bytes that both peers have and no other program knows.
///
/// Key(text) reads 64 hex digits. Nothing of a key is ever on the wire or in a repr.
#[pyclass(frozen, module = "trunkline", name = "Key")]
pub(crate) struct Key(pub(crate) trunkline::Key);

#[pymethods]
impl Key {
    #[new]
    fn new(py: Python<'_>, hex: &str) -> PyResult<Self> {
        hex.parse().map(Self).map_err(|error: trunkline::KeyError| error.raised(py))
    }

    /// Creates a fresh key from the system's random numbers.
    #[staticmethod]
    fn generate() -> Self {
        Self(trunkline::Key::generate())
    }

    /// Reads a key from a file that only its owner can read and that holds 64 hex digits.
    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        trunkline::Key::from_file(path).map(Self).map_err(|error| error.raised(py))
    }

    /// Reads the key in a file, or makes a new one and writes it there: for a server, which is there first.
    #[staticmethod]
    fn from_file_or_new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        trunkline::Key::from_file_or_new(path).map(Self).map_err(|error| error.raised(py))
    }

    /// Reads a key from an environment variable that holds 64 hex digits.
    #[staticmethod]
    fn from_env(py: Python<'_>, variable: &str) -> PyResult<Self> {
        // As Python sees it, which may have set it without the system's knowledge.
        let environment = py.import("os")?.getattr("environ")?;
        match environment.call_method1("get", (variable,))?.extract::<Option<String>>()? {
            Some(text) => Self::new(py, &text),
            None => Err(trunkline::KeyError::NotSet(variable.to_owned()).raised(py)),
        }
    }

    /// Writes the key into a new file that only its owner can read.
    fn write_new_file(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.0.write_new_file(path).map_err(|error| error.raised(py))
    }

    /// Returns the key as 64 hex digits, for a process that may have it. Do not print it, log it or put it on
    /// a command line.
    fn expose_hex(&self) -> String {
        self.0.expose_hex().to_string()
    }

    fn __repr__(&self) -> &'static str {
        "Key(..)"
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(not_pickled("Key", "it is a secret; hand over key.expose_hex() where that is meant"))
    }
}

/// What a client with a certain key may do: channels to send and to receive on, interrupts, quotas. The name
/// is what the server's program knows the key by; it is never on the wire.
#[pyclass(frozen, eq, module = "trunkline", name = "Access")]
#[derive(PartialEq)]
pub(crate) struct Access(pub(crate) trunkline::Access);

#[pymethods]
impl Access {
    /// Allows everything that is not said otherwise.
    #[new]
    #[pyo3(signature = (
        *, send = None, receive = None, interrupt = true, take_input = None, name = None, max_connections = None,
        max_assembly = None, max_unread = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        send: Option<Channels>,
        receive: Option<Channels>,
        interrupt: bool,
        take_input: Option<bool>,
        name: Option<String>,
        max_connections: Option<usize>,
        max_assembly: Option<usize>,
        max_unread: Option<usize>,
    ) -> Self {
        let mut access = trunkline::Access::full().interrupt(interrupt);
        if let Some(channels) = send {
            access = access.send(channels.0);
        }
        if let Some(channels) = receive {
            access = access.receive(channels.0);
        }
        if let Some(may) = take_input {
            access = access.take_input(may);
        }
        if let Some(name) = name {
            access = access.named(name);
        }
        if let Some(connections) = max_connections {
            access = access.max_connections(connections);
        }
        if let Some(bytes) = max_assembly {
            access = access.max_assembly(bytes);
        }
        if let Some(bytes) = max_unread {
            access = access.max_unread(bytes);
        }
        Self(access)
    }

    /// Allows receiving on these channels, all by default, and neither sending nor interrupts.
    #[staticmethod]
    #[pyo3(signature = (receive = None, *, name = None))]
    fn read_only(receive: Option<Channels>, name: Option<String>) -> Self {
        let none = Channels(trunkline::ChannelSet::EMPTY);
        Self::new(Some(none), receive, false, Some(false), name, None, None, None)
    }

    /// The channels that the client may send on.
    #[getter]
    fn send<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        frozen(py, self.0.may_send())
    }

    /// The channels that the client may receive.
    #[getter]
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        frozen(py, self.0.may_receive())
    }

    /// True if the client may interrupt what the server computes.
    #[getter]
    fn interrupt(&self) -> bool {
        self.0.may_interrupt()
    }

    /// True if the client may take the input of a shared program from another client.
    #[getter]
    fn take_input(&self) -> bool {
        self.0.may_take_input()
    }

    /// The name that was given to the key.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.0.name()
    }

    fn __repr__(&self) -> String {
        let (send, receive) = (self.0.may_send(), self.0.may_receive());
        let interrupt = if self.interrupt() { "may" } else { "may not" };
        let name = self.name().unwrap_or("no name");
        format!(
            "<trunkline.Access: {name}, sends on \"{send}\", receives \"{receive}\", {interrupt} interrupt>"
        )
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(not_pickled("Access", "make it where it is needed"))
    }
}
