//! A console: a conversation with a kernel.

use std::task::{Context, Poll};

use parking_lot::Mutex;
use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use trunkline::{Config, Connection};
use trunkline_kernel::console::{Activity, Said, Session as Console, Unsent};
use trunkline_kernel::layout::{Control, Operation, STDOUT};
use trunkline_terminal::{Mode, Options, attend, configure};

use crate::arguments::Where;
use crate::config::Settings;
use crate::errors::Raised;
use crate::python::object;
use crate::wait;

fn connect(py: Python<'_>, address: Where, config: Config) -> PyResult<Connection> {
    let made = wait::detached(py, || trunkline::Connection::connecting(address, config));
    let mut connecting = made.map_err(|error| error.raised(py))?;
    match wait::poll(py, None, |context| std::pin::Pin::new(&mut connecting).poll(context))? {
        Some(made) => made.map_err(|error| error.raised(py)),
        None => Err(PyConnectionError::new_err("the interpreter ends")),
    }
}

/// Is the console of a kernel for a script on standard input, or for a person. Returns its exit status.
#[pyfunction]
#[pyo3(signature = (address, config, name, script, report_failures, ends_kernel))]
pub(crate) fn _attend(
    py: Python<'_>,
    address: Where,
    config: Settings,
    name: &str,
    script: bool,
    report_failures: bool,
    ends_kernel: bool,
) -> PyResult<u8> {
    let connection = connect(py, address, configure(config.0))?;
    let mode = if script { Mode::Script } else { Mode::Auto };
    let options = Options::new(name).mode(mode).report_failures(report_failures).ends_kernel(ends_kernel);
    Ok(wait::detached(py, || attend(connection, &options).status()))
}

/// A conversation with a kernel. Several threads may use it, and one may wait while others send.
#[pyclass(frozen, module = "trunkline._trunkline", name = "_Session")]
pub(crate) struct Session(Mutex<Option<Console>>);

impl Session {
    /// What the kernel has said next; `None` if there is no more.
    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Said>> {
        match &mut *self.0.lock() {
            Some(session) => session.poll_next(context),
            None => Poll::Ready(None),
        }
    }

    fn with<T>(&self, py: Python<'_>, act: impl FnOnce(&mut Console) -> T + Send) -> PyResult<T>
    where
        T: Send,
    {
        let done = wait::detached(py, || self.0.lock().as_mut().map(act));
        done.ok_or_else(|| PyValueError::new_err("this session is closed"))
    }
}

fn unsent(why: Unsent) -> PyErr {
    match why {
        Unsent::Full | Unsent::NotNow => PyRuntimeError::new_err(why.to_string()),
        Unsent::TooLarge { .. } => PyValueError::new_err(why.to_string()),
        _ => PyConnectionError::new_err(why.to_string()),
    }
}

fn activity(activity: Activity) -> &'static str {
    match activity {
        Activity::Unserved => "unserved",
        Activity::Idle => "idle",
        Activity::Incomplete => "incomplete",
        Activity::Sent => "sent",
        Activity::Waiting => "waiting",
        Activity::Interrupting => "interrupting",
        Activity::Hung => "hung",
        Activity::Over => "over",
        _ => "busy",
    }
}

/// What was said, as a tuple that begins with its kind.
pub(super) fn tuple<'py>(py: Python<'py>, said: Said) -> PyResult<Bound<'py, PyTuple>> {
    let with = |kind: &str, rest: Vec<Py<PyAny>>| {
        let mut all = vec![object(py, kind)?];
        all.extend(rest);
        PyTuple::new(py, all)
    };
    match said {
        Said::Output(message) => {
            let kind = if message.channel() == STDOUT { "stdout" } else { "stderr" };
            with(kind, vec![object(py, PyBytes::new(py, &message))?])
        }
        Said::Cut { channel, messages, bytes } => {
            with("cut", vec![object(py, channel.get())?, object(py, messages)?, object(py, bytes)?])
        }
        Said::Picture(picture) => {
            let header = PyDict::new(py);
            header.set_item("mime", picture.mime)?;
            header.set_item("id", picture.id)?;
            header.set_item("replaces", picture.replaces)?;
            header.set_item("text", picture.text)?;
            with("picture", vec![object(py, header)?, object(py, PyBytes::new(py, &picture.body))?])
        }
        Said::Status(status) => with("status", vec![object(py, status.to_string())?]),
        Said::Answer(answer) => {
            let text = String::from_utf8_lossy(&answer.to_message()).into_owned();
            with("answer", vec![object(py, answer.id)?, object(py, text)?])
        }
        Said::Roster(roster) => {
            let owner = roster
                .clients
                .as_ref()
                .map(|clients| clients.iter().find(|client| client.owner).map(|client| client.id));
            with(
                "roster",
                vec![object(py, roster.you)?, object(py, owner.flatten())?, object(py, owner.is_some())?],
            )
        }
        Said::Nonsense(text) => with("nonsense", vec![object(py, text)?]),
        Said::Waiting(waiting) => with("waiting", vec![object(py, waiting)?]),
        Said::Deaf => with("deaf", vec![]),
        Said::LinkLost(cause) => with("link_lost", vec![object(py, cause.to_string())?]),
        Said::LinkBack(after) => with("link_back", vec![object(py, after.as_secs_f64())?]),
        Said::Finished => with("finished", vec![]),
        Said::Over(cause) => with("over", vec![object(py, cause.to_string())?]),
        _ => with("other", vec![]),
    }
}

#[pymethods]
impl Session {
    #[staticmethod]
    fn connect(py: Python<'_>, address: Where, config: Settings) -> PyResult<Self> {
        let connection = connect(py, address, configure(config.0))?;
        let session = wait::detached(py, || Console::new(connection));
        Ok(Self(Mutex::new(Some(session.map_err(|error| error.raised(py))?))))
    }

    /// Returns what the kernel has said next, as a tuple that begins with its kind; None after `timeout` seconds, or
    /// when everything is over.
    #[pyo3(signature = (timeout = None))]
    fn next<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let said = wait::poll(py, wait::deadline(timeout)?, |context| self.poll_next(context))?;
        said.flatten().map(|said| tuple(py, said)).transpose()
    }

    /// Sends a message on standard input, and waits until there is room. Returns its number.
    #[pyo3(signature = (message, timeout = None))]
    fn send(&self, py: Python<'_>, message: &str, timeout: Option<f64>) -> PyResult<Option<u64>> {
        let sent = wait::poll(py, wait::deadline(timeout)?, |context| {
            let mut session = self.0.lock();
            let Some(session) = &mut *session else { return Poll::Ready(None) };
            match session.try_send(message.to_owned()) {
                Err(Unsent::Full) => match session.poll_ready(context) {
                    Poll::Ready(()) => {
                        context.waker().wake_by_ref();
                        Poll::Pending
                    }
                    Poll::Pending => Poll::Pending,
                },
                other => Poll::Ready(Some(other)),
            }
        })?;
        match sent {
            Some(Some(Ok(number))) => Ok(Some(number)),
            Some(Some(Err(why))) => Err(unsent(why)),
            Some(None) => Err(PyValueError::new_err("this session is closed")),
            None => Ok(None),
        }
    }

    /// Takes the input from another console, after a message was refused or before the next is sent.
    fn take_input(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, Console::take_input)?.map_err(unsent)
    }

    /// A program that reads standard input is told that there is no more; others may read on.
    fn end_of_input(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, Console::end_of_input)?.map_err(unsent)
    }

    /// There are no more lines; ("finished",) comes when everything is over.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |session| session.finish())?.map_err(unsent)
    }

    /// Stops what runs; False if nothing does.
    fn interrupt(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, Console::interrupt)?.map_err(unsent)
    }

    /// Sends a command, such as "exit" or "signal KILL".
    fn command(&self, py: Python<'_>, command: &str) -> PyResult<()> {
        let control = Control::try_from(command.as_bytes())
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.with(py, |session| session.command(&control))?.map_err(unsent)
    }

    /// Asks the kernel: "complete" or "inspect" with code and a cursor, "variables", "stack" or "info". Returns the
    /// number that the answer will have.
    #[pyo3(signature = (operation, code = "", cursor = 0))]
    fn ask(&self, py: Python<'_>, operation: &str, code: &str, cursor: usize) -> PyResult<u64> {
        let code = code.to_owned();
        let operation = match operation {
            "complete" => Operation::Complete { code, cursor },
            "inspect" => Operation::Inspect { code, cursor },
            "variables" => Operation::Variables,
            "stack" => Operation::Stack,
            "info" => Operation::Info,
            other => return Err(PyValueError::new_err(format!("there is no question \"{other}\""))),
        };
        self.with(py, |session| session.request(operation))?.map_err(unsent)
    }

    /// What the kernel does: "unserved", "idle", "incomplete", "sent", "busy", "waiting", "interrupting", "hung" or
    /// "over".
    fn activity(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.with(py, |session| activity(session.console().activity()))
    }

    /// Whether the kernel waits for a line that is not to be seen.
    fn is_secret(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |session| session.console().is_secret())
    }

    /// Whether message `number` is over.
    fn is_over(&self, py: Python<'_>, number: u64) -> PyResult<bool> {
        self.with(py, |session| session.console().is_over(number))
    }

    /// The connection is closed when the kernel has everything, or after a while.
    fn close(&self, py: Python<'_>) {
        let session = wait::detached(py, || self.0.lock().take());
        wait::detached(py, || session.is_none_or(Console::close));
    }
}
