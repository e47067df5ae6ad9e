//! The kernel's side: the loop that an interpreter drives.
//!
//! A [`Kernel`] is the loop as a value: the interpreter's thread asks it for the next line, with or without
//! waiting, and runs what it got. Threads of the kernel listen to the console meanwhile: they read standard
//! input, obey commands, and answer questions while a statement runs. [`Stdio`] is what the program sees:
//! standard input, which a read may block on in the middle of a statement, output, error and pictures.

mod input;
mod introspection;
mod machine;
mod outbox;
mod panic_text;
mod parent;
mod service;
mod settings;
mod shared;
mod stdio;
mod stdio_error;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use trunkline::{Connection, Listener};

use machine::Taken;
use panic_text::panic_text;
use service::{Service, Source};
use shared::{Shared, State};

pub use parent::ParentError;
pub use settings::{Hooks, Introspect, Settings};
pub use stdio::{Reading, Stdio, StdioWriter};
pub use stdio_error::StdioError;

/// The kernel's loop: a value that an interpreter drives.
///
/// The interpreter asks for the next thing ([`next`](Kernel::next), or [`try_next`](Kernel::try_next) from a
/// loop that has other things to do), finds out whether the line is a whole statement, and then calls
/// [`incomplete`](Kernel::incomplete) or [`run`](Kernel::run). When it asks again, what it had is over. The
/// kernel does the rest: the status on every change, the numbers of messages, interrupts that come too early
/// or too late, consoles that come and go.
///
/// ```
/// use trunkline::{Config, Connection, Key};
/// use trunkline_kernel::console::{Said, Session};
/// use trunkline_kernel::kernel::{Kernel, Next, Settings};
///
/// let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let mut kernel = Kernel::on(there, Settings::new())?;
/// let interpreter = std::thread::spawn(move || {
///     let stdio = kernel.stdio();
///     loop {
///         match kernel.next() {
///             // This language has one statement: it greets the name that it reads.
///             Next::Line(_) => drop(kernel.run(|| {
///                 stdio.write_stdout("name? ")?;
///                 let name = stdio.read_line()?;
///                 stdio.write_stdout(format!("hello, {name}"))
///             })),
///             Next::Over => return,
///             _ => {}
///         }
///     }
/// });
///
/// let mut console = Session::new(here)?;
/// console.try_send("greet\n")?;
/// console.try_send("Ada\n")?;
/// console.finish()?;
/// let mut shown = String::new();
/// loop {
///     match console.next_timeout(std::time::Duration::from_secs(10)) {
///         Some(Said::Output(text)) => shown += &String::from_utf8_lossy(&text),
///         Some(Said::Finished) | None => break,
///         Some(_) => {}
///     }
/// }
/// assert_eq!(shown, "name? hello, Ada\n");
/// console.close();
/// interpreter.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Kernel {
    shared: Arc<Shared>,
    service: Option<JoinHandle<()>>,
    /// The console has no more lines: the next look ends the output.
    finished: bool,
}

/// What the loop of an interpreter has to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Next {
    /// A line, with its newline. The last line of a console may have none.
    Line(String),
    /// The beginning of a statement is to be dropped: it was interrupted, or a line of it could not be read.
    /// The console was told.
    Drop,
    /// A console has come. It finds the interpreter as the one before has left it, but the beginning of a
    /// statement, if there is one, is not its own.
    Arrived,
    /// The console has no more lines. If a statement has begun, it stays incomplete, and the interpreter may
    /// say so. The console reads the end of the output when the interpreter asks for more.
    Finished,
    /// The console is gone. Another may come.
    Gone,
    /// The console asks the kernel to end.
    Exit,
    /// There is no console any more, and none will come.
    Over,
}

/// What became of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Run<T> {
    /// It has ended by itself.
    Done(T),
    /// It was to be stopped before it began, and was not run.
    NotRun,
    /// It has panicked, with this text. The console was told.
    Panicked(String),
}

impl Kernel {
    /// Serves one console after the other: all that come to a listener. They find one interpreter, with the
    /// variables of those before. A console that comes while another is served waits for its turn; 64 may
    /// wait.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started, or the memory limit cannot be set.
    pub fn serve(listener: Listener, settings: Settings) -> io::Result<Self> {
        Self::start(Source::Listener(listener), settings)
    }

    /// Serves one console or one hub, and ends with its connection.
    ///
    /// # Errors
    ///
    /// As [`serve`](Kernel::serve).
    pub fn on(connection: Connection, settings: Settings) -> io::Result<Self> {
        Self::start(Source::One(Box::new(connection)), settings)
    }

    /// Serves the console that has started this process as its [`Child`](crate::console::Child), and ends
    /// with it. The key is the first line of standard input; where to connect is said on standard output.
    /// Both are the console's from then on.
    ///
    /// # Errors
    ///
    /// If standard input and output are not as the console makes them, or it does not connect.
    pub fn serve_parent(settings: Settings) -> Result<Self, ParentError> {
        let console = parent::connect()?;
        Ok(Self::on(console, settings)?)
    }

    fn start(source: Source, settings: Settings) -> io::Result<Self> {
        if let Some(bytes) = settings.memory_limit {
            limit_memory(bytes)?;
        }
        let (shared, called) = Shared::new(settings);
        let service = Service::start(Arc::clone(&shared), source, called)?;
        Ok(Self { shared, service: Some(service), finished: false })
    }

    /// Returns standard input, output and error.
    #[must_use]
    pub fn stdio(&self) -> Stdio {
        Stdio(Arc::clone(&self.shared))
    }

    /// Returns the next thing to do, and waits for it. What the loop had before is over.
    #[expect(clippy::should_implement_trait, reason = "it never ends as an iterator would")]
    pub fn next(&mut self) -> Next {
        self.next_until(None).unwrap_or(Next::Over)
    }

    /// Returns the next thing to do if there is something now; never waits. What the loop had before is over.
    pub fn try_next(&mut self) -> Option<Next> {
        if self.finished && self.shared.is_behind() {
            return None;
        }
        self.begin_look();
        let next = self.shared.with(look);
        self.seen(next)
    }

    /// Returns the next thing to do, and waits for it no longer than `timeout`. What the loop had before is
    /// over.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Next> {
        self.next_until(Instant::now().checked_add(timeout))
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Option<Next> {
        self.begin_look();
        let next = self.shared.wait(deadline, look);
        self.seen(next)
    }

    fn begin_look(&mut self) {
        if std::mem::take(&mut self.finished) {
            self.shared.catch_up();
            if let Some(wire) = self.shared.wire() {
                wire.finish();
            }
        }
    }

    fn seen(&mut self, next: Option<Next>) -> Option<Next> {
        self.finished = next == Some(Next::Finished);
        next
    }

    /// Returns a crossbeam channel to `select!` on. After it fires, call [`try_next`](Kernel::try_next) until
    /// that returns `None`.
    #[must_use]
    pub fn ready(&self) -> Receiver<()> {
        self.shared.loop_ready.1.clone()
    }

    /// The line that [`next`](Kernel::next) returned begins or continues a statement whose rest is missing.
    pub fn incomplete(&mut self) {
        self.shared.with(|state| state.machine.incomplete());
    }

    /// Ends the kernel: the console gets everything that was written, the status `exited CODE`, and the end of
    /// the connection. For [`Next::Exit`], and for a program that asks to end. It waits while the console takes
    /// nothing.
    pub fn end(self, code: i32) {
        self.shared.with(|state| state.machine.exited(code));
        self.shared.catch_up();
        // The rest is done where it is dropped.
    }

    /// What the loop has, a line that is no statement or one that has run, has failed: a console whose caller
    /// asks is told. A statement that panics has failed without this, and so has a line that is not UTF-8.
    pub fn fail(&mut self) {
        self.shared.with(|state| state.machine.fail());
    }

    /// Runs a statement on this thread: the line that [`next`](Kernel::next) returned, with what it
    /// continues.
    ///
    /// From here on the kernel is busy. An interrupt for the statement ends a read of standard input and a
    /// write that waits, cuts output that is not on its way, and makes
    /// [`Stdio::stop_requested`] return `true`. If it came before, the statement is not run.
    ///
    /// A panic is caught and told. What the interpreter has half done then is its own concern.
    pub fn run<T>(&mut self, statement: impl FnOnce() -> T) -> Run<T> {
        let begins = self.shared.with(|state| {
            if let Some(wire) = &state.wire {
                wire.begin();
            }
            state.machine.begin()
        });
        if !begins {
            return Run::NotRun;
        }
        self.shared.catch_up();
        let done = self.shared.running_here(|| catch_unwind(AssertUnwindSafe(statement)));
        match done {
            Ok(done) => Run::Done(done),
            Err(panic) => {
                let text = panic_text(&*panic).to_owned();
                self.shared.with(|state| {
                    state.machine.say(format!("the interpreter panicked: {text}"));
                    state.machine.fail();
                });
                Run::Panicked(text)
            }
        }
    }
}

fn look(state: &mut State) -> Option<Next> {
    let next = match state.machine.poll_next() {
        None if state.no_more && state.machine.is_free() => Next::Over,
        None => return None,
        // It was looked at.
        Some(Taken::Line(line)) => Next::Line(String::from_utf8(line).unwrap_or_default()),
        Some(Taken::Drop) => Next::Drop,
        Some(Taken::Arrived) => Next::Arrived,
        Some(Taken::Finished) => Next::Finished,
        Some(Taken::Gone) => Next::Gone,
        Some(Taken::Exit) => Next::Exit,
    };
    Some(next)
}

impl Drop for Kernel {
    /// Closes the connection to the console, which gets everything that was written before.
    fn drop(&mut self) {
        self.shared.with(|state| {
            state.closing = true;
            state.machine.wake();
        });
        self.shared.call_service();
        if let Some(service) = self.service.take() {
            // It catches its panics.
            drop(service.join());
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

#[cfg(all(unix, not(target_os = "macos")))]
fn limit_memory(bytes: u64) -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Data);
    limit.current = Some(limit.maximum.map_or(bytes, |most| most.min(bytes)));
    Ok(setrlimit(Resource::Data, limit)?)
}

#[cfg(not(all(unix, not(target_os = "macos"))))]
fn limit_memory(_: u64) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no limit for the memory of a process"))
}
