//! Introspection: questions of the console, answered by a thread of Python's, and without it where that hangs.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use trunkline_kernel::kernel::Introspect;
use trunkline_kernel::layout::{Frame, Operation, Reply, Thread};

/// The kernel itself gives up after two seconds.
const PATIENCE: Duration = Duration::from_millis(1950);
/// How long the interpreter must have been silent before its stack is read without it.
const SILENCE: Duration = Duration::from_secs(1);
/// A report without a word for so long is whole.
const WHOLE: Duration = Duration::from_millis(100);

/// Questions on their way to Python, and its answers.
#[derive(Default)]
pub(crate) struct Questions {
    queue: Mutex<Option<Sender<(u64, Operation)>>>,
    waiting: Mutex<HashMap<u64, Sender<Result<Reply, String>>>>,
    next: AtomicU64,
    /// What faulthandler writes to at a signal, and how to send one.
    report: Mutex<Option<Report>>,
}

/// How the stack of the main thread is read while it does not react.
pub(crate) struct Report {
    pub(crate) from: OwnedFd,
    pub(crate) ask: Box<dyn Fn() + Send + Sync>,
}

impl Questions {
    /// The questions, for the thread that answers them.
    pub(crate) fn take(&self) -> Receiver<(u64, Operation)> {
        let (outlet, inbox) = unbounded();
        *self.queue.lock() = Some(outlet);
        inbox
    }

    /// There are no more questions: the thread that answers them ends.
    pub(crate) fn end(&self) {
        *self.queue.lock() = None;
        self.report_no_more();
    }

    pub(crate) fn report_with(&self, report: Report) {
        *self.report.lock() = Some(report);
    }

    /// The stack is read in this way no longer. Returns when no signal for it is on its way.
    pub(crate) fn report_no_more(&self) {
        *self.report.lock() = None;
    }

    /// The answer to a question, which may have been given up.
    pub(crate) fn answer(&self, number: u64, reply: Result<Reply, String>) {
        if let Some(outlet) = self.waiting.lock().remove(&number) {
            drop(outlet.send(reply));
        }
    }

    fn ask(&self, operation: &Operation) -> Result<Reply, String> {
        let number = self.next.fetch_add(1, Relaxed);
        let (outlet, inbox) = bounded(1);
        self.waiting.lock().insert(number, outlet);
        let sent =
            self.queue.lock().as_ref().is_some_and(|queue| queue.send((number, operation.clone())).is_ok());
        let begin = Instant::now();
        let patience = if matches!(operation, Operation::Stack) { SILENCE } else { PATIENCE };
        let reply = sent.then(|| inbox.recv_timeout(patience).ok()).flatten();
        self.waiting.lock().remove(&number);
        if let Some(reply) = reply {
            return reply;
        }
        if matches!(operation, Operation::Stack)
            && let Some(report) = self.report.try_lock_for(PATIENCE.saturating_sub(begin.elapsed()))
            && let Some(report) = &*report
        {
            return report.stack();
        }
        Err("the interpreter does not react: it runs code that holds its lock (the GIL)".to_owned())
    }
}

/// What a kernel asks.
pub(crate) struct Asked(pub(crate) Arc<Questions>);

impl Introspect for Asked {
    fn answer(&self, operation: &Operation) -> Result<Reply, String> {
        self.0.ask(operation)
    }
}

impl Report {
    /// The stack of the main thread, which holds the GIL or waits for it, so that nothing changes it.
    fn stack(&self) -> Result<Reply, String> {
        let mut text = String::new();
        let mut file = std::fs::File::from(self.from.try_clone().map_err(|error| error.to_string())?);
        let mut wait = Duration::from_millis(500);
        // What is left of a report before comes first, and is not this one.
        self.read(&mut file, Duration::ZERO, &mut String::new());
        (self.ask)();
        while self.read(&mut file, wait, &mut text) {
            wait = WHOLE;
        }
        let frames: Vec<Frame> = text.lines().filter_map(frame).collect();
        if frames.is_empty() {
            return Err("the interpreter does not react, and its main thread tells no stack".to_owned());
        }
        Ok(Reply::Stack { threads: vec![Thread { name: "MainThread".to_owned(), frames }] })
    }

    fn read(&self, file: &mut std::fs::File, wait: Duration, text: &mut String) -> bool {
        let time = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let mut descriptors = [PollFd::new(&self.from, PollFlags::IN)];
        if !matches!(poll(&mut descriptors, Some(&time)), Ok(1)) {
            return false;
        }
        let mut buffer = [0; 16 * 1024];
        match file.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                text.push_str(&String::from_utf8_lossy(&buffer[..read]));
                true
            }
        }
    }
}

/// `  File "/a/b.py", line 3 in f`
fn frame(line: &str) -> Option<Frame> {
    let rest = line.trim_start().strip_prefix("File \"")?;
    let (file, rest) = rest.split_once("\", line ")?;
    let (line, function) = rest.split_once(" in ")?;
    Some(Frame { file: file.to_owned(), line: line.parse().ok()?, function: function.to_owned() })
}
