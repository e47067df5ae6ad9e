//! The host process: the sockets to the outside, the hub, and the interpreter as a child.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use trunkline::{Access, BindError, ChannelSet, CloseCode, Config, Connection, Key, KeyError, Listener};
use trunkline_host::interpreter::Interpreter;
use trunkline_host::{Ending, ServeError, Served};
use trunkline_hub::{History, Hub, Running, kernel};
use trunkline_kernel::layout::{CONTROL, DISPLAY, INTROSPECTION, ROSTER, STATUS, STDERR, STDIN, STDOUT};

use crate::arguments::Where;
use crate::errors::Raised;
use crate::wait;

/// What clients that come later are shown of the output, in bytes.
const HISTORY: usize = 4 << 20;
/// And of the pictures, which are large: apart, so that they do not push the text out.
const PICTURES: usize = 32 << 20;
/// How much of the statuses a console may lag, in bytes.
const STATUSES: usize = 4096;
/// How long a console whose link is lost keeps its session.
const GRACE: Duration = Duration::from_secs(600);
/// How long clients get what is left once the interpreter has ended.
pub(super) const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// Serves one interpreter until it has ended: `command` is started as its process. `listening` is called with the
/// address, `ended` with nothing when a signal has asked for the end. Returns the exit status for this process.
#[pyfunction]
#[pyo3(signature = (address, key_file, watch_key_file, allow_plaintext, command, listening))]
pub(crate) fn _serve(
    py: Python<'_>,
    address: Where,
    key_file: PathBuf,
    watch_key_file: Option<PathBuf>,
    allow_plaintext: bool,
    command: Vec<String>,
    listening: &Bound<'_, PyAny>,
) -> PyResult<i32> {
    let (key, is_new) = key_at(py, &key_file)?;
    let mut config = Config::new(key.clone())
        .interactive()
        .resume_grace(GRACE)
        .linger(LAST_OUTPUT)
        .allow_plaintext(allow_plaintext);
    if let Some(file) = watch_key_file {
        let key = Key::from_file(&file).map_err(|error| error.raised(py))?;
        config = config.with_key(key, Access::read_only().receive(ChannelSet::ALL).named("watch"));
    }
    let listener = wait::detached(py, || bind(address, config)).map_err(|error| error.raised(py))?;
    if is_new {
        key.write_new_file(&key_file).map_err(|error| error.raised(py))?;
    }
    let Some((program, arguments)) = command.split_first() else {
        return Err(PyValueError::new_err("the command has no program"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let interpreter = Interpreter::start(command).map_err(|error| PyOSError::new_err(error.to_string()))?;
    let stopper = interpreter.stopper();
    // Both ends are in this process, so the key is seen by no other.
    let pair = wait::detached(py, || Connection::pair(Config::new(Key::generate())));
    let (connection, upstream) = pair.map_err(|error| error.raised(py))?;
    let hub = serve(upstream, listener).map_err(|error| PyOSError::new_err(error.to_string()))?;
    listening.call1((hub.listener().address().to_string(),))?;

    let (tell, told) = mpsc::channel();
    let told = Mutex::new(told);
    thread::Builder::new().name("trunkline-host".to_owned()).spawn(move || {
        let served = interpreter.serve(&connection);
        let ending = match &served {
            Ok(served) => Ok(served.ending()),
            Err(ServeError::Lost { ending, .. }) => Ok(*ending),
            Err(error) => Err(error.to_string()),
        };
        end(&connection, hub, served, &ending);
        // The other end is gone only if this process ends.
        drop(tell.send(ending));
    })?;
    let mut asked = false;
    loop {
        // A handler of a signal raises, so that its process ends as it should.
        let ended = wait::wait(py, None, |look| {
            let told = told.lock();
            match look {
                Some(look) => {
                    told.recv_timeout(look.saturating_duration_since(std::time::Instant::now())).ok()
                }
                None => told.recv().ok(),
            }
        });
        match ended {
            Ok(Some(Ok(ending))) => return Ok(ending.code()),
            Ok(Some(Err(why))) => return Err(PyOSError::new_err(why)),
            Ok(None) => return Err(PyOSError::new_err("the host's thread has panicked")),
            Err(error) if asked => return Err(error),
            Err(_) => {
                asked = true;
                stopper.stop();
            }
        }
    }
}

/// The key of a file, and whether it is new.
fn key_at(py: Python<'_>, file: &Path) -> PyResult<(Key, bool)> {
    match Key::from_file(file) {
        Ok(key) => Ok((key, false)),
        Err(KeyError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok((Key::generate(), true))
        }
        Err(error) => Err(error.raised(py)),
    }
}

pub(super) fn bind(address: Where, config: Config) -> Result<Listener, BindError> {
    match address {
        Where::Path(path) => Listener::bind_unix(path, config),
        Where::Text(text) => Listener::bind(text, config),
        Where::Pair(host, port) => Listener::bind((host, port), config),
    }
}

pub(super) fn serve(upstream: Connection, listener: Listener) -> Result<Running, trunkline_hub::HubError> {
    Hub::new(upstream)
        .broadcast(STDOUT | STDERR, History::bytes(HISTORY))
        .broadcast(DISPLAY, History::bytes(PICTURES))
        // That a statement has failed is a status of a moment.
        .recent(STATUS, STATUSES)
        .input(STDIN)
        .shared_with(CONTROL, kernel::control_filter)
        .private(INTROSPECTION, 64..=126)
        .roster(ROSTER)
        .urgent(CONTROL | INTROSPECTION)
        // The one that has typed a statement gets all of its output.
        .wait_for_owner(true)
        .linger(LAST_OUTPUT)
        .serve(listener)
}

/// The clients get what they have not received yet.
fn end(
    connection: &Connection,
    hub: Running,
    served: Result<Served, ServeError>,
    ending: &Result<Ending, String>,
) {
    let reason = match ending {
        Ok(ending) => ending.to_string(),
        Err(why) => why.clone(),
    };
    let _ = connection.close(CloseCode::NORMAL, &reason);
    hub.wait();
    drop(served);
    trunkline::shutdown(LAST_OUTPUT);
}
