//! Standard output and error of the interpreter: pipes to the host, with marks that tell their order.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::{Mutex, ReentrantMutex};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyInterruptedError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use trunkline::{Connection, Sender};
use trunkline_host::interpreter::{TURNS, Turn};
use trunkline_host::marks::{Next, Token, mark};
use trunkline_kernel::kernel::Stdio;

use super::line::{LastWords, Line};
use crate::errors::Raised;
use crate::wait;

/// The marks of an interpreter. A write of the language holds the lock from the mark to its last byte.
pub(crate) struct Marks {
    token: Token,
    /// Copies of the descriptors 1 and 2: a program may redirect its own.
    pipes: [OwnedFd; 2],
    turns: Sender,
    /// In a forked process nothing is marked, and the host has lost its pipes if they were closed here.
    off: AtomicBool,
    /// Where the host finds what was not written.
    words: Option<Arc<LastWords>>,
    /// A signal handler may write while a write of its thread waits.
    state: ReentrantMutex<Mutex<State>>,
}

#[derive(Default)]
struct State {
    number: u64,
    /// To which stream was written last.
    last: Option<usize>,
}

impl Marks {
    pub(crate) fn new(
        py: Python<'_>,
        token: Token,
        link: &Connection,
        words: Option<Arc<LastWords>>,
    ) -> PyResult<Arc<Self>> {
        let copy = |descriptor: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(descriptor, 100);
        let pipes = copy(rustix::stdio::stdout()).and_then(|out| Ok([out, copy(rustix::stdio::stderr())?]));
        Ok(Arc::new(Self {
            token,
            pipes: pipes.map_err(|error| PyOSError::new_err(error.to_string()))?,
            turns: link.sender(TURNS).map_err(|error| error.raised(py))?,
            off: AtomicBool::new(false),
            words,
            state: ReentrantMutex::default(),
        }))
    }

    /// Does something that makes the kernel say what belongs at this place of the output. The caller has flushed its
    /// streams. It never waits long, and is never cut.
    pub(crate) fn turn<T>(&self, something: impl FnOnce() -> T) -> T {
        self.begin_turn();
        let result = something();
        self.end_turn();
        result
    }

    #[allow(unsafe_code)]
    pub(crate) fn begin_turn(&self) {
        // What C code has written and keeps back.
        // SAFETY: it flushes all streams, and has no conditions.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        if !self.off.load(Relaxed) {
            // The host takes them as long as it lives.
            drop(self.turns.send(&Turn::Begin.to_message()[..]));
        }
    }

    pub(crate) fn end_turn(&self) {
        if self.off.load(Relaxed) {
            return;
        }
        let state = self.state.lock();
        let number = {
            let mut state = state.lock();
            state.number += 1;
            state.last = None;
            state.number
        };
        drop(self.turns.send(&Turn::End(number).to_message()[..]));
        self.write_mark(number, Next::Frame);
    }

    fn write_mark(&self, number: u64, next: Next) {
        let bytes = mark(&self.token, number, next);
        for pipe in &self.pipes {
            // A pipe takes it whole or waits; a host that is gone needs none.
            if write_all(pipe.as_fd(), &bytes, &mut || Ok(())).is_err() {
                self.off.store(true, Relaxed);
            }
        }
    }

    /// A mark, if the order of what is written next would not be known without.
    fn mark_before(&self, stream: usize) {
        let number = {
            let state = self.state.lock();
            let mut state = state.lock();
            let unread = || rustix::io::ioctl_fionread(&self.pipes[1 - stream]).is_ok_and(|bytes| bytes > 0);
            if state.last == Some(stream) && !unread() {
                return;
            }
            state.last = Some(stream);
            state.number += 1;
            state.number
        };
        self.write_mark(number, if stream == 0 { Next::Stdout } else { Next::Stderr });
    }

    fn write(&self, stream: usize, bytes: &[u8], look: &mut impl FnMut() -> PyResult<()>) -> PyResult<()> {
        let descriptor = if stream == 0 { rustix::stdio::stdout() } else { rustix::stdio::stderr() };
        if self.off.load(Relaxed) {
            return write_all(descriptor, bytes, look);
        }
        // An interrupt gets through while another thread writes to a pipe that is full.
        let _writes = loop {
            match self.state.try_lock_for(wait::LOOK) {
                Some(lock) => break lock,
                None => look()?,
            }
        };
        self.mark_before(stream);
        write_all(descriptor, bytes, look)
    }
}

/// Writes everything; `look` says whether to go on after a signal.
fn write_all(
    descriptor: BorrowedFd<'_>,
    mut bytes: &[u8],
    look: &mut impl FnMut() -> PyResult<()>,
) -> PyResult<()> {
    while !bytes.is_empty() {
        match rustix::io::write(descriptor, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => look()?,
            // The program has made it so.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)], None);
                look()?;
            }
            Err(error) => return Err(PyOSError::new_err((error.raw_os_error(), error.to_string()))),
        }
    }
    Ok(())
}

/// The raw side of `sys.stdout` (0) or `sys.stderr` (1).
#[pyclass(frozen, module = "trunkline._trunkline", name = "_Output")]
pub(crate) struct Output {
    way: Way,
    stream: usize,
    /// Of both streams.
    lines: Arc<[Line; 2]>,
    stdio: Stdio,
}

/// Which way the output of an interpreter goes to its kernel.
#[derive(Clone)]
pub(crate) enum Way {
    /// Through pipes, which what is no Python writes to as well.
    Pipes(Arc<Marks>),
    /// Through the kernel in this process, unless this is a forked one.
    Kernel(Stdio, Arc<AtomicBool>),
}

impl Way {
    /// As [`Marks::turn`].
    pub(crate) fn turn<T>(&self, something: impl FnOnce() -> T) -> T {
        match self {
            Self::Pipes(marks) => marks.turn(something),
            Self::Kernel(..) => something(),
        }
    }

    pub(crate) fn begin_turn(&self) {
        if let Self::Pipes(marks) = self {
            marks.begin_turn();
        }
    }

    pub(crate) fn end_turn(&self) {
        if let Self::Pipes(marks) = self {
            marks.end_turn();
        }
    }
}

impl Output {
    /// Standard output and standard error.
    pub(crate) fn both(way: &Way, stdio: &Stdio) -> [Self; 2] {
        let words = match way {
            Way::Pipes(marks) => marks.words.clone(),
            Way::Kernel(..) => None,
        };
        let lines = Arc::new([Line::new(words.clone()), Line::new(words)]);
        let one = |stream| Self { way: way.clone(), stream, lines: Arc::clone(&lines), stdio: stdio.clone() };
        [one(0), one(1)]
    }

    fn write_all(
        &self,
        stream: usize,
        bytes: &[u8],
        look: &mut impl FnMut() -> PyResult<()>,
    ) -> PyResult<()> {
        match &self.way {
            Way::Pipes(marks) => marks.write(stream, bytes, look),
            Way::Kernel(_, off) if off.load(Relaxed) => {
                let own = if stream == 0 { rustix::stdio::stdout() } else { rustix::stdio::stderr() };
                write_all(own, bytes, look)
            }
            Way::Kernel(stdio, _) => {
                let write = if stream == 0 { Stdio::write_stdout } else { Stdio::write_stderr };
                // If it was cut, the interrupt that has cut it is on its way, and if there is no kernel any more, nothing
                // is to be told.
                drop(write(stdio, bytes));
                Ok(())
            }
        }
    }
}

#[pymethods]
impl Output {
    /// Writes everything, or keeps the beginning of a line until there is more of it.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let copy: Vec<u8>;
        let bytes = match data.cast::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes(),
            Err(_) => {
                copy = PyBuffer::<u8>::get(data)?.to_vec(py)?;
                &copy
            }
        };
        let mut look = || Python::attach(|py| py.check_signals());
        let other = 1 - self.stream;
        // The beginning of a line there was printed before.
        if let Some(text) = self.lines[other].take(other) {
            wait::detached(py, || self.write_all(other, &text, &mut look))?;
        }
        // The pieces of one line come without anything of another thread's in between.
        if let Some(text) = self.lines[self.stream].add(self.stream, bytes) {
            wait::detached(py, || self.write_all(self.stream, &text, &mut look))?;
        }
        Ok(bytes.len())
    }

    /// Writes what there is of a line. An interrupt is not raised here, but where the caller goes on: `input()` flushes,
    /// and forgets what that raises.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let Some(text) = self.lines[self.stream].take(self.stream) else { return Ok(()) };
        let mut stops = false;
        let mut look = || {
            stops = self.stdio.is_stopping();
            // The rest is cut, as output of a statement is that is stopped.
            if stops { Err(PyInterruptedError::new_err(())) } else { Ok(()) }
        };
        let written = wait::detached(py, || self.write_all(self.stream, &text, &mut look));
        if stops { Ok(()) } else { written }
    }

    /// Called in the child after a fork: it writes as any process does.
    fn turn_off(&self) {
        match &self.way {
            Way::Pipes(marks) => {
                marks.off.store(true, Relaxed);
                if let Some(words) = &marks.words {
                    words.turn_off();
                }
            }
            Way::Kernel(_, off) => off.store(true, Relaxed),
        }
        // The other process writes it.
        drop(self.lines[self.stream].take(self.stream));
    }
}
