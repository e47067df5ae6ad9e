//! Errors of the library as exceptions: one class for each, with the same text.
//!
//! The classes are written in Python (`trunkline/_errors.py`). What is not known here, because a later
//! library has more, is the base class of its kind.

use std::io;
use std::path::Path;

use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use trunkline::{
    AcceptError, BindError, ChannelError, ChannelIdError, CloseError, ConfigError, ConnectError,
    ConnectionError, Disconnect, EventError, Fault, FlushError, HandshakeError, Interrupted, KeyError,
    RecvError, SendError, SocketFileError, TrySendError,
};

use crate::python::{Module, object};

/// An exception on its way: a class, a text, and attributes.
struct Raise<'py> {
    py: Python<'py>,
    error: PyResult<Bound<'py, PyAny>>,
}

impl<'py> Raise<'py> {
    fn new(py: Python<'py>, class: &str, text: &impl ToString) -> Self {
        let error = Module::Errors.get(py, class).and_then(|class| class.call1((text.to_string(),)));
        Self { py, error }
    }

    fn with(self, name: &str, value: impl IntoPyObject<'py>) -> Self {
        let error = self.error.and_then(|error| {
            error.setattr(name, object(self.py, value)?)?;
            Ok(error)
        });
        Self { error, ..self }
    }

    fn done(self) -> PyErr {
        match self.error {
            Ok(error) => PyErr::from_value(error),
            Err(why) => why,
        }
    }
}

/// An error of the library that has a class.
pub(crate) trait Raised {
    fn raised(&self, py: Python<'_>) -> PyErr;
}

fn fault(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::None => None,
        Fault::Peer => Some("peer"),
        Fault::Caller => Some("caller"),
        Fault::Network => Some("network"),
        Fault::Library => Some("library"),
    }
}

impl Raised for ConnectionError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        let class = match self {
            Self::Closed { .. } => "ConnectionClosed",
            Self::ClosedByPeer { .. } => "ClosedByPeer",
            Self::ProtocolViolation { .. } => "ProtocolViolation",
            Self::HeartbeatLost(_) => "HeartbeatLost",
            Self::Tampered => "Tampered",
            Self::Lost { .. } => "SocketLost",
            Self::SessionExpired => "SessionExpired",
            Self::SessionUnknown => "SessionUnknown",
            Self::PeerUnreachable => "PeerUnreachable",
            Self::PeerGone => "PeerGone",
            Self::Refused(_) => "Refused",
            Self::Forked => "Forked",
            Self::IoThreadStopped => "IoThreadStopped",
            _ => "ConnectionLost",
        };
        let raise = Raise::new(py, class, self)
            .with("code", self.close_code().map(u16::from))
            .with("fault", fault(self.fault()));
        match self {
            Self::ClosedByPeer { reason, .. } => raise.with("reason", reason).done(),
            Self::ProtocolViolation { what, .. } => raise.with("reason", what).done(),
            Self::HeartbeatLost(silence) => raise.with("silence", silence.as_secs_f64()).done(),
            Self::Refused(why) => raise.with("handshake", why.raised(py)).done(),
            _ => raise.done(),
        }
    }
}

impl Raised for HandshakeError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        let class = match self {
            Self::NotTrunkline => "NotTrunkline",
            Self::NoCommonVersion { .. } => "NoCommonVersion",
            Self::NotAuthorised => "NotAuthorised",
            Self::BadProof => "BadProof",
            Self::TooBusy => "TooBusy",
            Self::ForeignUser { .. } => "ForeignUser",
            Self::SessionUnknown => "HandshakeSessionUnknown",
            Self::SessionExpired => "HandshakeSessionExpired",
            Self::TermsChanged => "TermsChanged",
            Self::SealedOnly => "SealedOnly",
            Self::PlainOnly => "PlainOnly",
            Self::Malformed => "Malformed",
            Self::NotPermitted { .. } => "HandshakeNotPermitted",
            Self::MessageTooLarge { .. } => "HandshakeMessageTooLarge",
            Self::TimedOut => "HandshakeTimedOut",
            Self::Disconnected => "HandshakeDisconnected",
            _ => "HandshakeError",
        };
        let raise = Raise::new(py, class, self);
        match self {
            Self::NotPermitted { channel, sending } => {
                raise.with("channel", channel.get()).with("sending", *sending).done()
            }
            Self::MessageTooLarge { limit } => raise.with("limit", *limit).done(),
            Self::NoCommonVersion { client, server } => {
                raise.with("client", *client).with("server", *server).done()
            }
            Self::ForeignUser { user } => raise.with("user", *user).done(),
            _ => raise.done(),
        }
    }
}

impl Raised for ConfigError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        let class = match self {
            Self::Plaintext(_) => "PlaintextError",
            Self::OutOfRange { .. } => "OutOfRangeError",
            Self::Heartbeat { .. } => "HeartbeatError",
            Self::DuplicateKey => "DuplicateKeyError",
            Self::CannotSeal => "CannotSealError",
            _ => "ConfigError",
        };
        Raise::new(py, class, self).done()
    }
}

impl Raised for ChannelIdError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        Raise::new(py, "ChannelIdError", self).done()
    }
}

/// An error of the system keeps its number, so `errno` can be compared.
fn with_errno<'py>(raise: Raise<'py>, error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => raise.with("errno", number).done(),
        None => raise.done(),
    }
}

impl Raised for BindError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Config(error) => error.raised(py),
            Self::SocketFile(error) => error.raised(py),
            Self::Io(error) => match inner::<ConnectionError>(error) {
                Some(cause) => cause.raised(py),
                None => with_errno(Raise::new(py, "BindError", self), error),
            },
            _ => Raise::new(py, "BindError", self).done(),
        }
    }
}

impl Raised for SocketFileError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        let raise = |class, path: &Path| Raise::new(py, class, self).with("path", path.as_os_str());
        match self {
            Self::Io { path, source } => with_errno(raise("SocketFileError", path), source),
            Self::InUse { path } => raise("SocketInUse", path).done(),
            Self::NotASocket { path } => raise("NotASocket", path).done(),
            Self::Exposed { directory, .. } => raise("SocketExposed", directory).done(),
            Self::ForeignDirectory { directory, .. } => raise("ForeignDirectory", directory).done(),
            _ => Raise::new(py, "SocketFileError", self).done(),
        }
    }
}

impl Raised for ConnectError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Config(error) => error.raised(py),
            Self::Handshake(error) => error.raised(py),
            Self::Io(error) => match inner::<ConnectionError>(error) {
                Some(cause) => cause.raised(py),
                None if error.kind() == io::ErrorKind::TimedOut => {
                    with_errno(Raise::new(py, "ConnectTimedOut", self), error)
                }
                None => with_errno(Raise::new(py, "ConnectError", self), error),
            },
            _ => Raise::new(py, "ConnectError", self).done(),
        }
    }
}

impl Raised for ChannelError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::NotPermitted { channel, sending } => Raise::new(py, "NotPermitted", self)
                .with("channel", channel.get())
                .with("sending", *sending)
                .done(),
            Self::InUse(channel) => Raise::new(py, "InUse", self).with("channel", channel.get()).done(),
            Self::PriorityInUse(channel) => {
                Raise::new(py, "PriorityInUse", self).with("channel", channel.get()).done()
            }
            Self::InterruptNotPermitted => Raise::new(py, "InterruptNotPermitted", self).done(),
            Self::NoChannel => Raise::new(py, "NoChannel", self).done(),
            Self::ConnectionLost(cause) => cause.raised(py),
            _ => Raise::new(py, "ChannelError", self).done(),
        }
    }
}

impl Raised for Disconnect {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Stopped(code) => Raise::new(py, "Stopped", self).with("code", *code).done(),
            Self::ConnectionLost(cause) => cause.raised(py),
            _ => Raise::new(py, "SendError", self).done(),
        }
    }
}

impl<T> Raised for SendError<T> {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Interrupted { .. } => Interrupted.raised(py),
            Self::TooLarge { limit, .. } => Raise::new(py, "TooLarge", self).with("limit", *limit).done(),
            Self::Disconnected { cause, .. } => cause.raised(py),
        }
    }
}

impl<T> Raised for TrySendError<T> {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Full { .. } => Raise::new(py, "Full", self).done(),
            Self::TooLarge { limit, .. } => Raise::new(py, "TooLarge", self).with("limit", *limit).done(),
            Self::Disconnected { cause, .. } => cause.raised(py),
        }
    }
}

impl Raised for Interrupted {
    fn raised(&self, py: Python<'_>) -> PyErr {
        Raise::new(py, "Interrupted", self).done()
    }
}

impl Raised for RecvError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Finished => Raise::new(py, "Finished", self).done(),
            Self::Reset { channel, code } => {
                Raise::new(py, "Reset", self).with("channel", channel.get()).with("code", *code).done()
            }
            Self::Gap { channel, messages, bytes } => Raise::new(py, "Gap", self)
                .with("channel", channel.get())
                .with("messages", *messages)
                .with("bytes", *bytes)
                .done(),
            Self::Interrupted => Interrupted.raised(py),
            Self::ConnectionLost(cause) => cause.raised(py),
        }
    }
}

impl Raised for FlushError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::TimedOut => Raise::new(py, "FlushTimedOut", self).done(),
            Self::Suspended => Raise::new(py, "Suspended", self).done(),
            Self::ConnectionLost(cause) => cause.raised(py),
            _ => Raise::new(py, "FlushError", self).done(),
        }
    }
}

impl Raised for CloseError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        Raise::new(py, "CloseError", self).with("cause", self.cause().map(|cause| cause.raised(py))).done()
    }
}

impl Raised for AcceptError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        let class = match self {
            Self::Empty => "AcceptTimedOut",
            Self::Closed => "ListenerClosed",
            _ => "AcceptError",
        };
        Raise::new(py, class, self).done()
    }
}

impl Raised for EventError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        let class = match self {
            Self::Empty => "EventTimedOut",
            Self::Over => "EventsOver",
            _ => "EventError",
        };
        Raise::new(py, class, self).done()
    }
}

impl Raised for KeyError {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::File { path, source } => {
                with_errno(Raise::new(py, "KeyFileError", self).with("path", path.as_os_str()), source)
            }
            Self::Exposed { path, mode } => {
                Raise::new(py, "KeyExposed", self).with("path", path.as_os_str()).with("mode", *mode).done()
            }
            Self::NotSet(variable) => Raise::new(py, "KeyNotSet", self).with("variable", variable).done(),
            Self::NotHex => Raise::new(py, "KeyNotHex", self).done(),
            _ => Raise::new(py, "InvalidKey", self).done(),
        }
    }
}

/// The error of the library that an error of a reader or a writer carries.
pub(crate) fn inner<E: std::error::Error + 'static>(error: &io::Error) -> Option<&E> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// An error of a reader or a writer.
pub(crate) fn io_error(py: Python<'_>, error: &io::Error) -> PyErr {
    if let Some(why) = inner::<RecvError>(error) {
        why.raised(py)
    } else if let Some(cause) = inner::<ConnectionError>(error) {
        cause.raised(py)
    } else if let Some(cause) = inner::<Disconnect>(error) {
        cause.raised(py)
    } else if inner::<Interrupted>(error).is_some() {
        Interrupted.raised(py)
    } else {
        PyOSError::new_err(error.to_string())
    }
}

/// Nothing came in time.
pub(crate) fn recv_timed_out(py: Python<'_>) -> PyErr {
    Raise::new(py, "RecvTimedOut", &trunkline::RecvTimeoutError::Timeout).done()
}

/// There was no room in time.
pub(crate) fn send_timed_out(py: Python<'_>) -> PyErr {
    Raise::new(py, "SendTimedOut", &trunkline::SendTimeoutError::Timeout { message: () }).done()
}

/// Something stays where it is: what is to be done instead.
pub(crate) fn not_pickled(what: &str, instead: &str) -> PyErr {
    PyTypeError::new_err(format!("a {what} cannot be pickled or copied: {instead}"))
}

/// What a handle of a connection says to that.
pub(crate) fn handle_not_pickled(what: &str) -> PyErr {
    not_pickled(what, "it belongs to this process; a process that needs one makes a connection of its own")
}

/// Every error of the library, as `Type::Variant` and the exception that stands for it. For the tests of
/// this package.
#[pyfunction]
pub(crate) fn _every_error(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyTuple>>> {
    use std::time::Duration;

    use trunkline::{ChannelId, CloseCode};

    const CHANNEL: ChannelId = ChannelId::new(7);
    let code = CloseCode::application(3);
    let mut all = Vec::new();
    let mut add = |name: &str, text: String, error: PyErr| -> PyResult<()> {
        let name = PyString::new(py, name);
        all.push((name, text, error.into_value(py)).into_pyobject(py)?);
        Ok(())
    };
    macro_rules! each {
        ($($type:ident { $($variant:ident $value:expr),* $(,)? })*) => {$($({
            let error: $type = $value;
            add(concat!(stringify!($type), "::", stringify!($variant)), error.to_string(), error.raised(py))?;
        })*)*};
    }
    type SendError = trunkline::SendError<()>;
    type TrySendError = trunkline::TrySendError<()>;
    let io = || io::Error::from_raw_os_error(13);
    let lost = || ConnectionError::PeerGone;
    each! {
        AcceptError { Closed AcceptError::Closed, Empty AcceptError::Empty }
        BindError {
            Config BindError::Config(ConfigError::DuplicateKey),
            Io BindError::Io(io()),
            SocketFile BindError::SocketFile(SocketFileError::InUse { path: "/tmp/s".into() }),
        }
        ChannelError {
            ConnectionLost ChannelError::ConnectionLost(lost()),
            InUse ChannelError::InUse(CHANNEL),
            InterruptNotPermitted ChannelError::InterruptNotPermitted,
            NoChannel ChannelError::NoChannel,
            NotPermitted ChannelError::NotPermitted { channel: CHANNEL, sending: true },
            PriorityInUse ChannelError::PriorityInUse(CHANNEL),
        }
        ConfigError {
            CannotSeal ConfigError::CannotSeal,
            DuplicateKey ConfigError::DuplicateKey,
            Heartbeat ConfigError::Heartbeat { interval: Duration::from_secs(2), timeout: Duration::from_secs(3) },
            OutOfRange ConfigError::OutOfRange { knob: "window", value: 1, min: 1024, max: 4096 },
            Plaintext ConfigError::Plaintext(([10, 0, 0, 1], 4000).into()),
        }
        ConnectError {
            Config ConnectError::Config(ConfigError::DuplicateKey),
            Handshake ConnectError::Handshake(HandshakeError::TooBusy),
            Io ConnectError::Io(io()),
        }
        ConnectionError {
            Closed ConnectionError::Closed { code },
            ClosedByPeer ConnectionError::ClosedByPeer { code, reason: "done".to_owned() },
            Forked ConnectionError::Forked,
            HeartbeatLost ConnectionError::HeartbeatLost(Duration::from_secs(30)),
            IoThreadStopped ConnectionError::IoThreadStopped,
            Lost ConnectionError::Lost { kind: io::ErrorKind::ConnectionReset },
            PeerGone ConnectionError::PeerGone,
            PeerUnreachable ConnectionError::PeerUnreachable,
            ProtocolViolation ConnectionError::ProtocolViolation { code, what: "noise".to_owned() },
            Refused ConnectionError::Refused(HandshakeError::NotAuthorised),
            SessionExpired ConnectionError::SessionExpired,
            SessionUnknown ConnectionError::SessionUnknown,
            Tampered ConnectionError::Tampered,
        }
        Disconnect { ConnectionLost Disconnect::ConnectionLost(lost()), Stopped Disconnect::Stopped(9) }
        EventError { Empty EventError::Empty, Over EventError::Over }
        FlushError {
            ConnectionLost FlushError::ConnectionLost(lost()),
            Suspended FlushError::Suspended,
            TimedOut FlushError::TimedOut,
        }
        HandshakeError {
            BadProof HandshakeError::BadProof,
            Disconnected HandshakeError::Disconnected,
            Malformed HandshakeError::Malformed,
            MessageTooLarge HandshakeError::MessageTooLarge { limit: 100 },
            NoCommonVersion HandshakeError::NoCommonVersion { client: 1, server: 9 },
            NotAuthorised HandshakeError::NotAuthorised,
            NotPermitted HandshakeError::NotPermitted { channel: CHANNEL, sending: false },
            NotTrunkline HandshakeError::NotTrunkline,
            PlainOnly HandshakeError::PlainOnly,
            SealedOnly HandshakeError::SealedOnly,
            SessionExpired HandshakeError::SessionExpired,
            SessionUnknown HandshakeError::SessionUnknown,
            TermsChanged HandshakeError::TermsChanged,
            TimedOut HandshakeError::TimedOut,
            TooBusy HandshakeError::TooBusy,
            ForeignUser HandshakeError::ForeignUser { user: Some(1) },
        }
        SocketFileError {
            Exposed SocketFileError::Exposed { directory: "/tmp".into(), mode: 0o777 },
            ForeignDirectory SocketFileError::ForeignDirectory { directory: "/tmp".into(), user: 1 },
            InUse SocketFileError::InUse { path: "/tmp/s".into() },
            Io SocketFileError::Io { path: "/tmp/s".into(), source: io() },
            NotASocket SocketFileError::NotASocket { path: "/tmp/s".into() },
        }
        KeyError {
            Exposed KeyError::Exposed { path: "kernel.key".into(), mode: 0o644 },
            File KeyError::File { path: "kernel.key".into(), source: io() },
            NotHex KeyError::NotHex,
            NotSet KeyError::NotSet("TRUNKLINE_KEY".to_owned()),
        }
        RecvError {
            ConnectionLost RecvError::ConnectionLost(lost()),
            Finished RecvError::Finished,
            Gap RecvError::Gap { channel: CHANNEL, messages: 2, bytes: 3 },
            Interrupted RecvError::Interrupted,
            Reset RecvError::Reset { channel: CHANNEL, code: 5 },
        }
        SendError {
            Disconnected SendError::Disconnected { message: (), cause: Disconnect::Stopped(9) },
            Interrupted SendError::Interrupted { message: () },
            TooLarge SendError::TooLarge { message: (), limit: 100 },
        }
        TrySendError {
            Disconnected TrySendError::Disconnected { message: (), cause: Disconnect::Stopped(9) },
            Full TrySendError::Full { message: () },
            TooLarge TrySendError::TooLarge { message: (), limit: 100 },
        }
    }
    let timeout = trunkline::RecvTimeoutError::Timeout;
    add("RecvTimeoutError::Timeout", timeout.to_string(), recv_timed_out(py))?;
    let timeout = trunkline::SendTimeoutError::Timeout { message: () };
    add("SendTimeoutError::Timeout", timeout.to_string(), send_timed_out(py))?;
    Ok(all)
}
