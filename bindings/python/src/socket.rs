//! Sockets that a program has made by itself, and what is known of the other end.

use std::net::TcpStream;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use trunkline::{SessionInfo, Stream};

use crate::arguments::host_and_port;
use crate::key::Access;
use crate::python::record;

/// A `socket.socket` that is connected. It is detached: from here on the descriptor is the connection's.
#[allow(unsafe_code)]
pub(crate) fn take(py: Python<'_>, socket: &Bound<'_, PyAny>) -> PyResult<Stream> {
    let module = py.import("socket")?;
    if !socket.is_instance(&module.getattr("socket")?)? {
        return Err(PyTypeError::new_err("a socket is a socket.socket"));
    }
    let is = |attribute: &str, name: &str| socket.getattr(attribute)?.eq(module.getattr(name)?);
    let is_unix = is("family", "AF_UNIX")?;
    if !is("type", "SOCK_STREAM")? || !(is_unix || is("family", "AF_INET")? || is("family", "AF_INET6")?) {
        return Err(PyValueError::new_err("the socket is neither one of TCP nor a Unix stream socket"));
    }
    let descriptor: RawFd = socket.call_method0("detach")?.extract()?;
    if descriptor < 0 {
        return Err(PyValueError::new_err("the socket is closed, or was given to something else before"));
    }
    // SAFETY: the object has just let go of its descriptor, which nothing else owns.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(if is_unix { UnixStream::from(descriptor).into() } else { TcpStream::from(descriptor).into() })
}

/// One of Listener.sessions().
pub(crate) fn session<'py>(py: Python<'py>, session: &SessionInfo) -> PyResult<Bound<'py, PyAny>> {
    record(py, "SessionInfo", |fields| {
        fields.set_item("access", Bound::new(py, Access(session.access.clone()))?)?;
        fields.set_item("age", session.since.elapsed().as_secs_f64())?;
        fields.set_item("suspended", session.suspended)?;
        fields.set_item("sealed", session.sealed)?;
        fields.set_item("peer_addr", session.peer_addr.map(host_and_port))?;
        fields.set_item("peer_pid", session.peer_process.as_ref().map(|process| process.id()))
    })
}
