//! What an application tells its kernel beforehand.

use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::layout::{Operation, Reply, SignalName};

/// What an interpreter does when the kernel calls it from another thread: while a statement runs.
///
/// Each has an answer of its own, so an interpreter that asks
/// [`Stdio::stop_requested`](super::Stdio::stop_requested) often needs none of them. They are called one after
/// the other by one thread of the kernel, and a panic in one of them ends nothing.
pub trait Hooks: Send + Sync + 'static {
    /// Stops the statement that runs: the first step, at once. It may not run any more; the interpreter calls
    /// [`Stdio::stop_requested`](super::Stdio::stop_requested) where it handles the interrupt, and does
    /// nothing if that returns `false`.
    fn interrupt(&self) {}

    /// Stops it by other means: it has not reacted for a second.
    fn insist(&self) {
        self.interrupt();
    }

    /// The console's terminal has another size.
    fn resize(&self, columns: NonZeroU16, rows: NonZeroU16) {
        let _ = (columns, rows);
    }

    /// Gives the program a signal.
    ///
    /// # Errors
    ///
    /// A text for the person if that is not possible.
    fn signal(&self, signal: &SignalName) -> Result<(), String> {
        Err(format!("this kernel passes on no signals, so not {signal}"))
    }
}

/// How an interpreter answers questions while it is busy. It is called by up to four threads of the kernel; a
/// panic becomes an error for the console, and so does an answer that takes longer than 2 s.
pub trait Introspect: Send + Sync + 'static {
    /// Answers a question.
    ///
    /// # Errors
    ///
    /// A text for the person if it cannot.
    fn answer(&self, operation: &Operation) -> Result<Reply, String>;
}

/// How a [`Kernel`](super::Kernel) behaves.
///
/// ```
/// use std::time::Duration;
/// use trunkline_kernel::kernel::Settings;
///
/// let settings = Settings::new().orphan_grace(Duration::from_secs(10)).memory_limit(8 << 30);
/// # let _ = settings;
/// ```
#[derive(Clone)]
pub struct Settings {
    pub(super) hooks: Arc<dyn Hooks>,
    pub(super) introspect: Arc<dyn Introspect>,
    pub(super) log: Arc<dyn Fn(&str) + Send + Sync>,
    pub(super) place_grace: Duration,
    pub(super) orphan_grace: Option<Duration>,
    pub(super) memory_limit: Option<u64>,
    pub(super) blocks: bool,
}

struct Nothing;

impl Hooks for Nothing {}

impl Introspect for Nothing {
    fn answer(&self, _: &Operation) -> Result<Reply, String> {
        Err("this kernel answers no questions".to_owned())
    }
}

impl Settings {
    /// Makes settings with the defaults that each function names.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hooks: Arc::new(Nothing),
            introspect: Arc::new(Nothing),
            // A standard error that nothing reads any more is no reason to end.
            log: Arc::new(|text| drop(writeln!(io::stderr(), "{text}"))),
            place_grace: Duration::from_secs(3),
            orphan_grace: None,
            memory_limit: None,
            blocks: false,
        }
    }

    /// Sets what is called to stop a statement, and for other commands. By default nothing is, and the
    /// interpreter asks.
    #[must_use]
    pub fn hooks(mut self, hooks: impl Hooks) -> Self {
        self.hooks = Arc::new(hooks);
        self
    }

    /// Sets what answers questions. By default each answer is an error.
    #[must_use]
    pub fn introspect(mut self, introspect: impl Introspect) -> Self {
        self.introspect = Arc::new(introspect);
        self
    }

    /// Sets where the kernel's own notes go, as that a connection could not be accepted. By default to the
    /// standard error of the process.
    #[must_use]
    pub fn log(mut self, log: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.log = Arc::new(log);
        self
    }

    /// Sets whether the lines of one message belong together: then [`Next::Line`](super::Next::Line) has all lines of
    /// a message, up to its last newline. A program that reads standard input still gets one line after the other. By
    /// default each line is one by itself.
    #[must_use]
    pub fn blocks(mut self, blocks: bool) -> Self {
        self.blocks = blocks;
        self
    }

    /// Sets for how long a console whose link is lost keeps its place while another waits for it. 3 s by
    /// default.
    #[must_use]
    pub fn place_grace(mut self, grace: Duration) -> Self {
        self.place_grace = grace;
        self
    }

    /// Sets for how long a statement may run on that does not react although its console is gone. After that
    /// the process ends, with exit code 3. By default it may run for ever, and the next console waits.
    #[must_use]
    pub fn orphan_grace(mut self, grace: Duration) -> Self {
        self.orphan_grace = Some(grace);
        self
    }

    /// Sets how many bytes of memory the process may have for its data, with its console or without. An
    /// interpreter's allocation that would exceed it fails; a Rust program ends then. No limit by default.
    ///
    /// It is the limit `RLIMIT_DATA` of the process, so it counts what every part of the process allocates.
    /// It has an effect on Linux and other systems that have this limit; elsewhere making the kernel fails.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("place_grace", &self.place_grace)
            .field("orphan_grace", &self.orphan_grace)
            .field("memory_limit", &self.memory_limit)
            .field("blocks", &self.blocks)
            .finish_non_exhaustive()
    }
}
