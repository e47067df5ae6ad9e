//! A kernel as a process of the console's own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child as Process, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, after, bounded, select};
use parking_lot::Mutex;
use trunkline::{Config, ConnectError, Connection, Key};

/// How long a kernel may take to say where it listens. An interpreter that reads much at its start is slow.
const START: Duration = Duration::from_secs(60);
/// The longest line that says it.
const LINE: u64 = 256;

/// A kernel that the console has started as a process of its own, as
/// [`Kernel::serve_parent`](crate::kernel::Kernel::serve_parent) serves it. The two share a key that no other
/// process sees, and the kernel ends with its console.
///
/// When it is dropped, the process is killed if it has not ended.
#[derive(Debug)]
pub struct Child {
    /// As long as it is open, the kernel has a parent.
    _stdin: ChildStdin,
    exit: Receiver<io::Result<ExitStatus>>,
    process: Arc<Mutex<Process>>,
}

/// Why a kernel did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// The process could not be started.
    #[error("cannot start the kernel {program:?}: {source}")]
    Spawn {
        /// The program.
        program: std::ffi::OsString,
        /// The reason.
        source: io::Error,
    },
    /// It ended, or said something else, before it said where it listens.
    #[error("the kernel did not say where it listens ({how}); what it wrote to its standard error says why")]
    NotListening {
        /// How it has ended, or what it said instead.
        how: String,
    },
    /// It could not be connected to.
    #[error("cannot connect to the kernel that was started: {0}")]
    Connect(#[from] ConnectError),
}

impl Child {
    /// Starts a kernel and connects to it. The command gets pipes for its standard input and output; its
    /// standard error is as the caller has set it. `set` changes the connection's configuration.
    ///
    /// The key goes to the kernel's standard input as a line of 64 hex digits, and `listening on ADDRESS` comes
    /// back as a line on its standard output.
    ///
    /// # Errors
    ///
    /// If the process does not start, or does not say within 60 s where it listens, or cannot be connected to.
    pub fn start(
        mut command: Command,
        set: impl FnOnce(Config) -> Config,
    ) -> Result<(Self, Connection), ChildError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C on the terminal is for the console, which tells the kernel itself.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process = command
            .spawn()
            .map_err(|source| ChildError::Spawn { program: command.get_program().to_owned(), source })?;
        let pipes = (process.stdin.take(), process.stdout.take());
        let process = Arc::new(Mutex::new(process));
        let exit = reap(Arc::clone(&process));
        let (Some(mut stdin), Some(stdout)) = pipes else {
            return Err(ChildError::NotListening { how: "it has no pipes".to_owned() });
        };
        let key = Key::generate();
        // One that has ended already says so below.
        drop(stdin.write_all(key.expose_hex().as_bytes()).and_then(|()| stdin.write_all(b"\n")));
        // From here on the process is killed if something fails.
        let child = Self { _stdin: stdin, exit, process };
        let address = child.address(stdout)?;
        // Nothing lies between the two but this machine: a link that is lost is a kernel that has died.
        let config = set(Config::new(key).resume_grace(Duration::ZERO));
        let connection = Connection::connect(address, config)?;
        Ok((child, connection))
    }

    fn address(&self, stdout: impl Read + Send + 'static) -> Result<SocketAddr, ChildError> {
        let (said, first) = bounded(1);
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = Vec::new();
            let read = stdout.by_ref().take(LINE).read_until(b'\n', &mut line);
            drop(said.send(read.map(|_| String::from_utf8_lossy(&line).into_owned())));
            // What a library of the interpreter writes there must not block it.
            drop(io::copy(&mut stdout, &mut io::sink()));
        });
        let how = select! {
            recv(first) -> line => match line {
                Ok(Ok(line)) => match line.trim_end().strip_prefix("listening on ").map(str::parse) {
                    Some(Ok(address)) => return Ok(address),
                    _ if line.is_empty() => match self.exit.recv_timeout(Duration::from_secs(1)) {
                        Ok(Ok(status)) => status.to_string(),
                        _ => "it has closed its standard output".to_owned(),
                    },
                    _ => format!("it said {line:?}"),
                },
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it said nothing".to_owned(),
            },
            recv(after(START)) -> _ => format!("nothing within {} s", START.as_secs()),
        };
        Err(ChildError::NotListening { how })
    }

    /// Returns the id of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.lock().id()
    }

    /// Waits for the end of the process no longer than `timeout`, and returns how it has ended. `None` if it
    /// has not; and after it was returned once.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<io::Result<ExitStatus>> {
        self.exit.recv_timeout(timeout).ok()
    }

    /// Returns a crossbeam channel to `select!` on, which gives how the process has ended, once.
    #[must_use]
    pub fn exited(&self) -> Receiver<io::Result<ExitStatus>> {
        self.exit.clone()
    }

    /// Kills the process: the last step, for a kernel that does not react. What it had sent arrives.
    pub fn kill(&self) {
        // It may have ended.
        drop(self.process.lock().kill());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for the end of a process, which can be killed meanwhile.
fn reap(process: Arc<Mutex<Process>>) -> Receiver<io::Result<ExitStatus>> {
    let (exited, exit) = bounded(1);
    thread::spawn(move || {
        await_end(&process);
        // Under the lock, so that no signal is given to a process that has the same id later.
        drop(exited.send(process.lock().wait()));
    });
    exit
}

/// Returns when a process has ended; it stays to be waited for.
#[cfg(unix)]
fn await_end(process: &Mutex<Process>) {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    let Ok(id) = process.lock().id().try_into() else { return };
    let Some(pid) = Pid::from_raw(id) else { return };
    let end = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), end) {}
}

#[cfg(not(unix))]
fn await_end(process: &Mutex<Process>) {
    // There is no call that waits without taking the process from those that may kill it.
    while let Ok(None) = process.lock().try_wait() {
        thread::sleep(Duration::from_millis(10));
    }
}
