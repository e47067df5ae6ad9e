//! The thread that runs the loop.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::command::Command;
use super::core::Core;
use super::driver::Driver;
use super::leaving::leave;

/// A thread that does all socket work of its connections and listeners.
///
/// All connections of a process share one, which starts on first use and needs no call. A thread of its own
/// keeps some connections apart from the others: see [`Config::io_thread`](crate::Config::io_thread). It
/// ends when its handles and its connections are gone.
///
/// ```
/// use trunkline::{Config, Connection, IoThread, Key};
///
/// let io = IoThread::new()?;
/// let (here, there) = Connection::pair(Config::new(Key::generate()).io_thread(&io))?;
/// # drop((here, there));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct IoThread {
    owner: Arc<Owner>,
}

struct Owner {
    core: Arc<Core>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.core.is_forked() {
            self.core.push(Command::Stop);
        }
    }
}

/// Every I/O thread of the process.
static ALL: Mutex<Vec<Weak<Core>>> = Mutex::new(Vec::new());

fn register(core: &Arc<Core>) {
    let mut all = ALL.lock();
    all.retain(|known| known.strong_count() > 0);
    all.push(Arc::downgrade(core));
}

/// Closes all connections of this process behind what was sent, and waits until their peers have it, no
/// longer than `timeout`.
///
/// A program that returns from `main` needs no such call: dropping the last handle of a connection does it.
/// A program that leaves by [`std::process::exit`], or from the thread of a signal handler, drops nothing;
/// if it calls this first, it loses nothing. All handles fail from the call on, with
/// [`ConnectionError::Closed`](crate::ConnectionError::Closed). The peers hear
/// [`CloseCode::SHUTTING_DOWN`](crate::CloseCode::SHUTTING_DOWN). Connections that are made later are not
/// closed.
///
/// Returns `true` if all connections have ended in that time. It does not tell whether each peer has
/// confirmed that it has everything; [`Connection::close`](crate::Connection::close) does.
///
/// ```
/// use std::time::Duration;
/// use trunkline::{ChannelId, Config, Connection, Key};
///
/// # let (connection, _peer) = Connection::pair(Config::new(Key::generate()))?;
/// connection.sender(ChannelId::new(1))?.send("the last result")?;
/// trunkline::shutdown(Duration::from_secs(5));
/// std::process::exit(0);
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn shutdown(timeout: Duration) -> bool {
    let until = Instant::now().checked_add(timeout);
    let (leave, all_left) = leave(until);
    let all: Vec<_> = ALL.lock().iter().filter_map(Weak::upgrade).collect();
    for core in all {
        if !core.is_forked() {
            core.push(Command::Shutdown(leave.clone()));
            core.schedule.call();
        }
    }
    drop(leave);
    all_left.wait()
}

/// The thread that the process shares; `None` before its first use, and again should it have died.
static SHARED: Mutex<Option<IoThread>> = Mutex::new(None);

impl IoThread {
    /// Starts a thread.
    ///
    /// # Errors
    ///
    /// If the system gives no thread or no file descriptor for it.
    pub fn new() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Returns a builder, for a thread with other settings than those of [`new`](IoThread::new).
    ///
    /// ```
    /// # use trunkline::{Config, Connection, IoThread, Key};
    /// let quiet = IoThread::builder().name("jobs-io").spin(false).start()?;
    /// let (_here, _there) = Connection::pair(Config::new(Key::generate()).io_thread(&quiet))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> IoThreadBuilder {
        IoThreadBuilder { name: "trunkline-io".to_owned(), lend: true, spin: true }
    }

    /// The one that the process shares.
    pub(crate) fn shared() -> io::Result<Self> {
        let mut shared = SHARED.lock();
        if let Some(thread) = &*shared
            && !thread.core().is_forked()
            && thread.core().schedule.is_open()
        {
            return Ok(thread.clone());
        }
        Ok(shared.insert(Self::new()?).clone())
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.owner.core
    }
}

/// Runs the loop whenever no other thread does, until there is nothing to do for good.
fn run(core: &Core) {
    loop {
        core.schedule.wait_turn();
        let Some(received) = turns(core) else { return };
        core.schedule.release(received, false);
    }
}

/// Runs the loop until it is better to leave it to another thread: whether anything was received.
/// `None`: it is over.
fn turns(core: &Core) -> Option<bool> {
    let mut driver = core.driver.lock();
    let driver = driver.as_mut()?;
    loop {
        // An error of the poll itself leaves nothing that could go on; the driver's drop tells
        // every handle.
        if !driver.turn(None).unwrap_or(false) {
            return None;
        }
        // A reader has something to do now, and may want to wait for more: let it.
        if core.lends && driver.take_served() && !driver.is_pressed() && !core.others_wait() {
            return Some(driver.take_received());
        }
    }
}

/// Settings of an [`IoThread`] that is to be started; see [`IoThread::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct IoThreadBuilder {
    name: String,
    lend: bool,
    spin: bool,
}

impl IoThreadBuilder {
    /// Sets the name of the thread, as a debugger shows it. `trunkline-io` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets whether a thread that waits for a message may run the loop itself meanwhile. It may by
    /// default, which halves the time of a round trip. Without it, all socket work and every drop of a
    /// payload that was sent is done by this thread alone.
    pub fn lend(mut self, lend: bool) -> Self {
        self.lend = lend;
        self
    }

    /// Sets whether the loop looks for 50 µs before it sleeps, while connections are busy enough for that to
    /// pay. It does by default. Without it, a busy connection takes less of the processor and a round trip
    /// longer.
    pub fn spin(mut self, spin: bool) -> Self {
        self.spin = spin;
        self
    }

    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system gives no thread or no file descriptor for it, or the name has a zero byte in it.
    pub fn start(self) -> io::Result<IoThread> {
        let Self { name, lend, spin } = self;
        if name.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a thread's name holds no zero byte"));
        }
        let poll = mio::Poll::new()?;
        let waker = Driver::waker(&poll)?;
        let core = Arc::new(Core::new(waker, lend));
        *core.driver.lock() = Some(Box::new(Driver::new(poll, Arc::clone(&core), spin)?));
        let last = LastAct(Arc::clone(&core));
        register(&core);
        std::thread::Builder::new().name(name).spawn(move || run(&last.0))?;
        Ok(IoThread { owner: Arc::new(Owner { core }) })
    }
}

impl fmt::Debug for IoThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IoThread")
    }
}

/// However the thread ends, no caller waits for it after.
struct LastAct(Arc<Core>);

impl Drop for LastAct {
    fn drop(&mut self) {
        self.0.schedule.shut();
        // With it go the connections, whose handles hear that the thread has stopped.
        let driver = self.0.driver.lock().take();
        drop(driver);
    }
}
