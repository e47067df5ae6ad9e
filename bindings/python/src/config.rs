//! The settings of a listener or a connection.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use trunkline::Sealing;

use crate::errors::not_pickled;
use crate::key::{Access, Key};
use crate::wait::duration;

/// The settings of a listener or a connection: a key, and what differs from the defaults.
///
/// Sizes are in bytes, times in seconds. They are checked where they are used. Wherever a Config is taken, a
/// Key is too, for the default settings.
///
/// - access: what a client that has the key may do (listener); everything by default
/// - keys: more keys that a listener takes, each with its access: [(key, access), …]
/// - preset: "interactive" or "bulk"; window, send_queue and replay_limit together
/// - window (896 KiB), max_message (16 MiB), max_assembly (128 MiB), max_unread (256 MiB), send_queue (4 MiB),
///   replay_limit (4 MiB): what is bounded, and by what
/// - handshake_timeout (3), connect_timeout (10), linger (5): how long these may take
/// - heartbeat: (interval, timeout), (10, 30) by default; None turns it off
/// - resume_grace (60), local_grace (1): how long a connection outlives its socket; math.inf for ever
/// - pending_handshakes (1024), backlog (128), max_connections (4096), max_suspended ((1024, 64 MiB)): the
///   limits of a listener
/// - sealing: which connections are sealed (encrypted): "auto", "always" or "never"; by default everything that
///   leaves this process over TCP, and everything that comes from other machines
/// - allow_plaintext: lets a listener take an address that other machines reach; nothing is encrypted
#[pyclass(frozen, module = "trunkline", name = "Config")]
pub(crate) struct Config(pub(crate) trunkline::Config);

/// Names the setting in what is wrong with it.
fn named<T>(name: &str, value: PyResult<T>, py: Python<'_>) -> PyResult<T> {
    value.map_err(|error| {
        let text = format!("{name}: {}", error.value(py));
        if error.is_instance_of::<PyTypeError>(py) {
            PyTypeError::new_err(text)
        } else {
            PyValueError::new_err(text)
        }
    })
}

#[pymethods]
impl Config {
    #[new]
    #[pyo3(signature = (key, *, access = None, keys = Vec::new(), **settings))]
    fn new(
        py: Python<'_>,
        key: &Bound<'_, Key>,
        access: Option<&Bound<'_, Access>>,
        keys: Vec<(Py<Key>, Py<Access>)>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let key = key.get().0.clone();
        let mut config = match access {
            Some(access) => trunkline::Config::with_access(key, access.get().0.clone()),
            None => trunkline::Config::new(key),
        };
        for (key, access) in keys {
            config = config.with_key(key.get().0.clone(), access.get().0.clone());
        }
        let Some(settings) = settings else { return Ok(Self(config)) };
        // First: what is said besides goes on top of it.
        if let Some(preset) = settings.get_item("preset")? {
            config = match preset.extract::<Option<String>>()?.as_deref() {
                None => config,
                Some("interactive") => config.interactive(),
                Some("bulk") => config.bulk(),
                Some(other) => {
                    let text = format!("preset: \"interactive\" or \"bulk\", not \"{other}\"");
                    return Err(PyValueError::new_err(text));
                }
            };
        }
        for (name, value) in settings {
            let name = name.extract::<String>()?;
            config = named(&name, set(config, &name, &value), py)?;
        }
        Ok(Self(config))
    }

    fn __repr__(&self) -> &'static str {
        "<trunkline.Config>"
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(not_pickled("Config", "it holds a key, which is a secret; make it where it is needed"))
    }
}

fn set(config: trunkline::Config, name: &str, value: &Bound<'_, PyAny>) -> PyResult<trunkline::Config> {
    let time = || duration(value.extract::<f64>()?);
    Ok(match name {
        "preset" => config,
        "window" => config.window(value.extract()?),
        "max_message" => config.max_message(value.extract()?),
        "max_assembly" => config.max_assembly(value.extract()?),
        "max_unread" => config.max_unread(value.extract()?),
        "send_queue" => config.send_queue(value.extract()?),
        "replay_limit" => config.replay_limit(value.extract()?),
        "handshake_timeout" => config.handshake_timeout(time()?),
        "connect_timeout" => config.connect_timeout(time()?),
        "linger" => config.linger(time()?),
        "resume_grace" => config.resume_grace(time()?),
        "local_grace" => config.local_grace(time()?),
        "pending_handshakes" => config.pending_handshakes(value.extract()?),
        "backlog" => config.backlog(value.extract()?),
        "max_connections" => config.max_connections(value.extract()?),
        "sealing" => config.sealing(match value.extract::<&str>()? {
            "auto" => Sealing::Auto,
            "always" => Sealing::Always,
            "never" => Sealing::Never,
            other => {
                let text = format!("\"auto\", \"always\" or \"never\", not \"{other}\"");
                return Err(PyValueError::new_err(text));
            }
        }),
        "allow_plaintext" => config.allow_plaintext(value.extract()?),
        "heartbeat" => match value.extract::<Option<(f64, f64)>>()? {
            None => config.no_heartbeat(),
            Some((interval, timeout)) => config.heartbeat(duration(interval)?, duration(timeout)?),
        },
        "max_suspended" => {
            let (sessions, bytes) = value.extract()?;
            config.max_suspended(sessions, bytes)
        }
        _ => return Err(PyTypeError::new_err("there is no such setting")),
    })
}

/// A config, or a key with the default settings.
pub(crate) struct Settings(pub(crate) trunkline::Config);

impl<'py> FromPyObject<'_, 'py> for Settings {
    type Error = PyErr;

    fn extract(settings: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(key) = settings.cast::<Key>() {
            Ok(Self(trunkline::Config::new(key.get().0.clone())))
        } else if let Ok(config) = settings.cast::<Config>() {
            Ok(Self(config.get().0.clone()))
        } else {
            Err(PyTypeError::new_err(format!(
                "a Key or a Config is needed, not {}",
                settings.get_type().name()?
            )))
        }
    }
}
