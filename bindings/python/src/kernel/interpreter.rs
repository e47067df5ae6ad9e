//! The kernel's loop as the interpreter drives it, from its main thread.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use parking_lot::{Mutex, MutexGuard};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use trunkline::Connection;
use trunkline_host::interpreter;
use trunkline_kernel::kernel::{self as stdio, Kernel, Next, Run, Settings, Stdio, StdioError};
use trunkline_kernel::layout::{Operation, Picture, Request};

use super::embedded::Embedded;
use super::kicks::{Kicks, Ladder, MainThread};
use super::line::LastWords;
use super::output::{Marks, Output, Way};
use super::questions::{Asked, Questions, Report};
use crate::arguments::Where;
use crate::config::Settings as Given;
use crate::wait;

/// How long a statement that does not react may run on when its console is gone for good.
const ORPHAN: Duration = Duration::from_secs(10);
/// For so many looks at signals the loop looks often, then seldom: a kernel that is idle for long costs nothing.
const OFTEN: u32 = 100;
const SELDOM: Duration = Duration::from_millis(500);

/// What the interpreter asks its kernel.
#[pyclass(frozen, module = "trunkline._trunkline", name = "_Interpreter")]
pub(crate) struct Interpreter {
    /// Held while a statement runs, by the main thread.
    kernel: Mutex<Option<Kernel>>,
    stdio: Stdio,
    way: Way,
    /// Consoles reach it through this process itself.
    embedded: Option<Embedded>,
    kicks: Arc<Kicks>,
    questions: Arc<Questions>,
    asked: Receiver<(u64, Operation)>,
    ready: Receiver<()>,
    main: MainThread,
}

/// What [`Interpreter::next`] returns: what it is, and the line.
type Event = (&'static str, Option<String>);
/// What [`Interpreter::read_line`] returns: what it is, and the line or a reason.
type Line = (&'static str, Option<Py<PyBytes>>);

impl Interpreter {
    fn kernel(&self) -> PyResult<MutexGuard<'_, Option<Kernel>>> {
        self.kernel.try_lock().ok_or_else(|| {
            PyRuntimeError::new_err("the kernel's loop runs a statement; a statement cannot run the loop")
        })
    }

    fn begin_read(&self, secret: bool) -> stdio::Reading {
        if secret { self.stdio.reading_secret() } else { self.stdio.reading() }
    }

    fn start(
        py: Python<'_>,
        link: Connection,
        marks: Option<Arc<Marks>>,
        embedded: Option<Embedded>,
    ) -> PyResult<Self> {
        let main = MainThread::this();
        let kicks = Kicks::new(main)?;
        let questions = Arc::<Questions>::default();
        let asked = questions.take();
        let mut settings = Settings::new()
            .blocks(true)
            .hooks(Ladder(Arc::clone(&kicks)))
            .introspect(Asked(Arc::clone(&questions)));
        if embedded.is_none() {
            settings = settings.orphan_grace(ORPHAN);
        }
        let kernel = wait::detached(py, || Kernel::on(link, settings))?;
        let (stdio, ready) = (kernel.stdio(), kernel.ready());
        kicks.begin(stdio.clone());
        let way = match marks {
            Some(marks) => Way::Pipes(marks),
            None => Way::Kernel(stdio.clone(), Arc::new(AtomicBool::new(false))),
        };
        let kernel = Mutex::new(Some(kernel));
        Ok(Self { kernel, stdio, way, embedded, kicks, questions, asked, ready, main })
    }
}

fn told(py: Python<'_>, line: Result<Vec<u8>, StdioError>) -> Line {
    match line {
        Ok(line) => ("line", Some(PyBytes::new(py, &line).unbind())),
        Err(StdioError::Interrupted) => ("interrupted", None),
        Err(StdioError::Finished) => ("finished", None),
        Err(StdioError::Gone) => ("gone", None),
        Err(why) => ("broken", Some(PyBytes::new(py, why.to_string().as_bytes()).unbind())),
    }
}

/// A place among the readers of standard input.
#[pyclass(frozen, module = "trunkline._trunkline", name = "_Reading")]
pub(crate) struct Reading {
    reading: Mutex<Option<stdio::Reading>>,
    way: Way,
}

#[pymethods]
impl Reading {
    /// Returns as read_line() does; None if the line is not there yet.
    fn poll(&self, py: Python<'_>) -> Option<Line> {
        let line = wait::detached(py, || {
            let mut reading = self.reading.lock();
            match &mut *reading {
                Some(reading) => self.way.turn(|| reading.next(Some(Instant::now()))),
                None => Some(Err(StdioError::Gone)),
            }
        });
        line.map(|line| told(py, line))
    }

    /// Reads no more.
    fn close(&self, py: Python<'_>) {
        wait::detached(py, || drop(self.reading.lock().take()));
    }
}

fn event(next: Next) -> Event {
    match next {
        Next::Line(line) => ("line", Some(line)),
        Next::Drop => ("drop", None),
        Next::Arrived => ("arrived", None),
        Next::Finished => ("finished", None),
        Next::Gone => ("gone", None),
        Next::Exit => ("exit", None),
        // What a later kernel says besides is the end of nothing.
        Next::Over => ("over", None),
        _ => ("drop", None),
    }
}

#[pymethods]
impl Interpreter {
    /// Connects to the host that has started this process, by the descriptor of its socket and its secret. To be called
    /// once, by the main thread.
    #[staticmethod]
    #[allow(unsafe_code)]
    #[pyo3(signature = (socket, secret, words = None))]
    fn of_host(py: Python<'_>, socket: RawFd, secret: &str, words: Option<RawFd>) -> PyResult<Self> {
        if socket < 3 || words.is_some_and(|words| words < 3) {
            return Err(PyValueError::new_err("what the host has opened is not one of the standard streams"));
        }
        // SAFETY: the host has opened it for this process, and nothing else in it knows the number.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let connected = wait::detached(py, || interpreter::connect(socket, secret));
        let (link, token) = connected.map_err(|error| PyOSError::new_err(error.to_string()))?;
        // SAFETY: as above.
        let words = words.map(|words| std::fs::File::from(unsafe { OwnedFd::from_raw_fd(words) }));
        let words = words.map(|words| LastWords::of(&words)).transpose()?;
        let marks = Marks::new(py, token, &link, words)?;
        Self::start(py, link, Some(marks), None)
    }

    /// Serves consoles that come to an address, from this process. To be called by the main thread.
    #[staticmethod]
    fn embedded(py: Python<'_>, address: Where, config: Given) -> PyResult<Self> {
        let (embedded, link) = Embedded::serve(py, address, config.0)?;
        Self::start(py, link, None, Some(embedded))
    }

    /// Where consoles reach it, if it is embedded.
    fn address(&self) -> Option<String> {
        self.embedded.as_ref()?.address()
    }

    /// How many consoles there are, with those whose link is lost; 0 if it is not embedded.
    fn consoles(&self) -> usize {
        self.embedded.as_ref().map_or(0, Embedded::consoles)
    }

    /// The raw sides of sys.stdout and sys.stderr.
    fn outputs(&self) -> (Output, Output) {
        Output::both(&self.way, &self.stdio).into()
    }

    /// Returns what the loop has to do next, and waits for it; None after `timeout` seconds. What it had is over. The
    /// streams are flushed.
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Event>> {
        let mut kernel = self.kernel()?;
        let Some(kernel) = &mut *kernel else { return Ok(Some(("over", None))) };
        let deadline = wait::deadline(timeout)?;
        // What it says now stands behind what was written.
        let mut next = wait::detached(py, || self.way.turn(|| kernel.try_next()));
        for look in 0.. {
            if next.is_some() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break;
            }
            py.check_signals()?;
            let pause = if look < OFTEN { wait::LOOK } else { SELDOM };
            let left = deadline.map_or(pause, |at| at.saturating_duration_since(Instant::now()).min(pause));
            next = wait::detached(py, || kernel.next_timeout(left));
        }
        Ok(next.map(event))
    }

    /// Waits until next() may have something. For a thread beside the loop; returns False if there is no more.
    fn wait_ready(&self, py: Python<'_>) -> bool {
        wait::detached(py, || self.ready.recv().is_ok())
    }

    /// The line belongs to a statement whose rest is missing.
    fn incomplete(&self) -> PyResult<()> {
        if let Some(kernel) = &mut *self.kernel()? {
            kernel.incomplete();
        }
        Ok(())
    }

    /// The statement has failed.
    fn fail(&self) -> PyResult<()> {
        if let Some(kernel) = &mut *self.kernel()? {
            kernel.fail();
        }
        Ok(())
    }

    /// Calls `statement` as the statement that the line belongs to. Returns False if it was interrupted before it began.
    fn run(&self, py: Python<'_>, statement: Py<PyAny>) -> PyResult<bool> {
        let mut kernel = self.kernel()?;
        let Some(kernel) = &mut *kernel else { return Ok(false) };
        let done = wait::detached(py, || {
            self.way.begin_turn();
            let mut begun = false;
            let done = kernel.run(|| {
                begun = true;
                self.way.end_turn();
                Python::attach(|py| statement.call0(py).map(drop))
            });
            if !begun {
                self.way.end_turn();
            }
            done
        });
        match done {
            Run::Done(done) => done.map(|()| true),
            Run::Panicked(text) => Err(PyRuntimeError::new_err(text)),
            _ => Ok(false),
        }
    }

    /// Returns True, once for each interrupt, if the statement that this thread runs is to stop.
    fn stop_requested(&self) -> bool {
        self.stdio.stop_requested()
    }

    /// Returns columns and rows of the console's terminal, if it has another size than when it was asked last.
    fn new_size(&self) -> Option<(u16, u16)> {
        self.kicks.size.lock().take()
    }

    /// Returns True if the statement is to stop and stop_requested() has not told so yet.
    fn is_stopping(&self) -> bool {
        self.stdio.is_stopping()
    }

    /// The interrupt was swallowed; the kernel tries again.
    fn stop_again(&self) {
        self.stdio.stop_again();
    }

    /// Returns True if a SIGINT that the main thread handles now was sent by the kernel itself.
    fn is_own_signal(&self) -> bool {
        self.kicks.is_own()
    }

    /// Returns a line of standard input: ("line", line), or why there is none: "interrupted", "finished", "gone" or
    /// "broken". The streams are flushed. If it is secret, consoles do not show what is typed.
    #[pyo3(signature = (secret = false))]
    fn read_line(&self, py: Python<'_>, secret: bool) -> PyResult<Line> {
        let (mut reading, mut line) = wait::detached(py, || {
            self.way.turn(|| {
                let mut reading = self.begin_read(secret);
                let line = reading.next(Some(Instant::now()));
                (reading, line)
            })
        });
        let looks = wait::is_main(py)?;
        while line.is_none() {
            py.check_signals()?;
            let deadline = looks.then(|| Instant::now() + wait::LOOK);
            line = wait::detached(py, || reading.next(deadline));
        }
        Ok(line.map_or(("gone", None), |line| told(py, line)))
    }

    /// Begins to read a line, for a main thread that has other things to do while it waits. The streams are flushed.
    #[pyo3(signature = (secret = false))]
    fn reading(&self, py: Python<'_>, secret: bool) -> Reading {
        let reading = wait::detached(py, || self.way.turn(|| self.begin_read(secret)));
        Reading { reading: Mutex::new(Some(reading)), way: self.way.clone() }
    }

    /// Shows a picture, or another rich result, at this place of the output. The streams are flushed.
    #[pyo3(signature = (mime, body, text, id = None, replaces = false))]
    fn show(
        &self,
        py: Python<'_>,
        mime: &str,
        body: &[u8],
        text: &str,
        id: Option<&str>,
        replaces: bool,
    ) -> PyResult<&'static str> {
        let mut picture = Picture::new(mime, body.to_vec()).text(text);
        if let Some(id) = id {
            picture = if replaces { picture.replacing(id) } else { picture.id(id) };
        }
        let shown = wait::detached(py, || self.way.turn(|| self.stdio.show(&picture)));
        match shown {
            Ok(()) => Ok("shown"),
            Err(StdioError::Interrupted) => Ok("interrupted"),
            Err(StdioError::Gone) => Ok("gone"),
            Err(error) => Err(PyValueError::new_err(error.to_string())),
        }
    }

    /// Returns the next question: its number, and the request as JSON. For the thread that answers.
    fn next_question(&self, py: Python<'_>) -> PyResult<Option<(u64, String)>> {
        let asked = wait::detached(py, || self.asked.recv());
        Ok(asked.ok().map(|(number, operation)| {
            let request = Request { id: number, operation };
            (number, String::from_utf8_lossy(&request.to_message()).into_owned())
        }))
    }

    /// Answers a question: with the answer as JSON, without its number.
    fn answer(&self, number: u64, answer: &str) {
        let reply =
            serde_json::from_str(answer).map_err(|error| format!("the answer cannot be read: {error}"));
        self.questions.answer(number, reply);
    }

    /// Tells that `signal` makes the main thread write its stack to the pipe whose reading end is `pipe`.
    #[allow(unsafe_code)]
    fn report_stack_with(&self, signal: i32, pipe: RawFd) -> PyResult<()> {
        if pipe < 3 {
            return Err(PyValueError::new_err("the pipe is not one of the standard streams"));
        }
        let main = self.main;
        // SAFETY: the caller hands the descriptor over, which it has opened for this.
        let from = unsafe { OwnedFd::from_raw_fd(pipe) };
        self.questions.report_with(Report { from, ask: Box::new(move || main.signal(signal)) });
        Ok(())
    }

    /// The signal of report_stack_with() is not sent any more, from the return on.
    fn report_no_stack(&self, py: Python<'_>) {
        wait::detached(py, || self.questions.report_no_more());
    }

    /// Ends the kernel: the host hears nothing more of it than what is written. If it is embedded, consoles are told
    /// that it has exited with `code`.
    #[pyo3(signature = (code = 0))]
    fn close(&self, py: Python<'_>, code: i32) -> PyResult<()> {
        let kernel = self.kernel.try_lock().and_then(|mut kernel| kernel.take());
        self.kicks.end();
        self.questions.end();
        match (&self.embedded, kernel) {
            (Some(embedded), Some(kernel)) => embedded.end(py, kernel, code),
            (_, kernel) => {
                wait::detached(py, || drop(kernel));
                Ok(())
            }
        }
    }
}
