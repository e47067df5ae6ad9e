//! The thread that runs the loop.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::driver::{Command, Driver};
use super::shared::Core;

/// A thread that does all socket work of its connections and listeners.
///
/// All connections of a process share one, which is started on first use and needs no call. One
/// of your own is for those who want some connections apart from others; it ends when its handles
/// and its connections are gone.
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
        self.core.push(Command::Stop);
    }
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
        let poll = mio::Poll::new()?;
        let waker = Driver::waker(&poll)?;
        let core = Arc::new(Core::new(waker));
        *core.driver.lock() = Some(Driver::new(poll, Arc::clone(&core)));
        let last = LastAct(Arc::clone(&core));
        std::thread::Builder::new().name("trunkline-io".into()).spawn(move || run(&last.0))?;
        Ok(Self { owner: Arc::new(Owner { core }) })
    }

    /// The one that the process shares.
    pub(crate) fn shared() -> io::Result<Self> {
        let mut shared = SHARED.lock();
        if let Some(thread) = &*shared
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
        if driver.take_served() && !driver.is_pressed() && !core.others_wait() {
            return Some(driver.take_received());
        }
    }
}

impl fmt::Debug for IoThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IoThread")
    }
}

/// However the thread ends, nobody waits for it after.
struct LastAct(Arc<Core>);

impl Drop for LastAct {
    fn drop(&mut self) {
        self.0.schedule.shut();
        // With it go the connections, whose handles hear that the thread has stopped.
        let driver = self.0.driver.lock().take();
        drop(driver);
    }
}
