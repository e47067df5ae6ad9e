//! What Python passes, and what it gets back.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyFrozenSet, PyString};
use trunkline::{Address, BindError, ChannelId, ChannelSet, Config, Listener};

use crate::errors::Raised;
use crate::message::Message;

/// A message of bytes that is shorter is copied sooner than it is shared.
const SHARED: usize = 16 * 1024;

/// A channel's number.
pub(crate) struct Channel(pub(crate) ChannelId);

impl<'py> FromPyObject<'_, 'py> for Channel {
    type Error = PyErr;

    fn extract(number: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let channel = match number.extract::<i32>() {
            Ok(number) => ChannelId::try_from(number),
            // A number that is too large has a text that says what is wrong.
            Err(error) if number.hasattr("__index__")? => {
                match number.str()?.to_str()?.parse::<ChannelId>() {
                    Ok(_) => return Err(error),
                    other => other,
                }
            }
            Err(error) => return Err(error),
        };
        channel.map(Self).map_err(|error| error.raised(number.py()))
    }
}

/// A channel's number, or several.
pub(crate) struct Channels(pub(crate) ChannelSet);

impl<'py> FromPyObject<'_, 'py> for Channels {
    type Error = PyErr;

    fn extract(channels: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if channels.hasattr("__index__")? {
            return channels.extract::<Channel>().map(|channel| Self(channel.0.into()));
        }
        let mut set = ChannelSet::EMPTY;
        for channel in channels.try_iter()? {
            set.insert(channel?.extract::<Channel>()?.0);
        }
        Ok(Self(set))
    }
}

/// A set of channels as Python sees it.
pub(crate) fn frozen(py: Python<'_>, channels: ChannelSet) -> PyResult<Bound<'_, PyFrozenSet>> {
    PyFrozenSet::new(py, channels.iter().map(ChannelId::get))
}

/// `"host:port"`, `(host, port)`, or a path, which is a Unix socket's.
pub(crate) enum Where {
    Path(PathBuf),
    Text(String),
    Pair(String, u16),
}

impl<'py> FromPyObject<'_, 'py> for Where {
    type Error = PyErr;

    fn extract(address: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = address.cast::<PyString>() {
            return Ok(Self::Text(text.to_str()?.to_owned()));
        }
        if address.hasattr("__fspath__")? {
            return address.extract().map(Self::Path);
        }
        match address.extract::<(String, u16)>() {
            Ok((host, port)) => Ok(Self::Pair(host, port)),
            Err(_) => Err(PyTypeError::new_err(format!(
                "an address is \"host:port\", (host, port) or a pathlib.Path, not {}",
                address.repr()?
            ))),
        }
    }
}

impl From<Where> for Address {
    fn from(address: Where) -> Self {
        match address {
            Where::Path(path) => Self::unix(path),
            Where::Text(text) => text.into(),
            Where::Pair(host, port) => (host, port).into(),
        }
    }
}

impl Where {
    /// Listens there. To look a name up may take as long as the system likes.
    pub(crate) fn listen(&self, config: Config) -> Result<Listener, BindError> {
        match self {
            Self::Path(path) => Listener::bind_unix(path, config),
            Self::Text(text) => Listener::bind(&**text, config),
            Self::Pair(host, port) => match host.parse::<IpAddr>() {
                Ok(ip) => Listener::bind((ip, *port), config),
                Err(_) => Listener::bind((&**host, *port), config),
            },
        }
    }
}

/// An address as Python's sockets have it.
pub(crate) fn host_and_port(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}

/// Bytes to send.
pub(crate) enum Payload<'a, 'py> {
    /// Those of a `bytes` or a `str`, which stay as they are while it lives.
    Slice(&'a [u8]),
    /// Those of a `bytes` that are shared and not copied.
    Shared(Borrowed<'a, 'py, PyBytes>),
    Bytes(Bytes),
}

impl<'a, 'py> Payload<'a, 'py> {
    pub(crate) fn of(data: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            let slice = bytes.as_bytes();
            return Ok(if slice.len() < SHARED {
                Self::Slice(slice)
            } else {
                Self::Shared(bytes.as_borrowed())
            });
        }
        if let Ok(text) = data.cast::<PyString>() {
            return text.to_str().map(|text| Self::Slice(text.as_bytes()));
        }
        if let Ok(message) = data.cast_exact::<Message>() {
            return Ok(Self::Bytes(message.get().shared()));
        }
        Ok(Self::Bytes(Bytes::from(copy(data)?)))
    }

    /// The bytes without the GIL.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Slice(slice) => Bytes::copy_from_slice(slice),
            // The I/O thread drops it. It has no GIL, so what is to be freed waits for a call that has.
            // Only bytes of exactly that type are shared: to free them runs nothing.
            Self::Shared(bytes) => Bytes::from_owner(PyBackedBytes::from(bytes.to_owned())),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// A copy of what an object with the buffer protocol holds.
fn copy(data: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let py = data.py();
    if let Ok(buffer) = PyBuffer::<u8>::get(data) {
        return buffer.to_vec(py);
    }
    // Items of another type: their bytes.
    let view = match py.get_type::<pyo3::types::PyMemoryView>().call1((data,)) {
        Ok(view) => view,
        Err(_) => {
            return Err(PyTypeError::new_err(format!(
                "a message is bytes, a str or another object with the buffer protocol, not {}",
                data.get_type().name()?
            )));
        }
    };
    view.call_method0("tobytes")?.extract()
}

/// A number of messages, bytes or the like that is at least one.
pub(crate) fn at_least_one(name: &str, number: Option<usize>) -> PyResult<usize> {
    match number {
        None => Ok(usize::MAX),
        Some(0) => Err(PyValueError::new_err(format!("{name} is at least 1"))),
        Some(number) => Ok(number),
    }
}
