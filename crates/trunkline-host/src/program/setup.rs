//! How a program is started.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::waiting::Waiting;
use super::{Program, child, environment};
use crate::size::Size;

/// What the descriptors 0, 1 and 2 of the program are.
#[derive(Debug)]
enum Wiring {
    Terminal(Size),
    Pipes { input: bool },
}

/// What is to be started, and how.
///
/// The program gets a session and a process group of its own, every signal with its default effect, and of the
/// host's descriptors none but those that are named here.
#[derive(Debug)]
pub struct Setup {
    command: Command,
    wiring: Wiring,
    linger: Duration,
    reap_orphans: bool,
    inherited: Vec<OwnedFd>,
}

/// A program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program:?}: {source}{}", advice(source))]
pub struct StartError {
    /// The program.
    pub program: OsString,
    /// The reason.
    pub source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; give its path, or a name that is in PATH",
        io::ErrorKind::PermissionDenied => "; it must be a file that you may execute",
        _ => "",
    }
}

impl Setup {
    /// The program runs on a pseudo-terminal of this size, which is its controlling terminal.
    ///
    /// `TERM` is `xterm-256color`, and without a locale `LC_CTYPE` is `C.UTF-8`, unless the command sets them. Variables
    /// that describe the host's own terminal are removed.
    #[must_use]
    pub fn terminal(command: Command, size: Size) -> Self {
        Self::new(command, Wiring::Terminal(size))
    }

    /// The program's standard input, output and error are pipes.
    #[must_use]
    pub fn pipes(command: Command) -> Self {
        Self::new(command, Wiring::Pipes { input: true })
    }

    /// The program's standard output and error are pipes, and its standard input is empty.
    #[must_use]
    pub fn pipes_without_input(command: Command) -> Self {
        Self::new(command, Wiring::Pipes { input: false })
    }

    fn new(command: Command, wiring: Wiring) -> Self {
        let linger = Duration::from_secs(1);
        Self { command, wiring, linger, reap_orphans: false, inherited: Vec::new() }
    }

    /// Sets how long output is passed on after the program has ended, if other processes still write, 1 s by
    /// default. What the program itself has written is passed on in any case.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets whether every child of this process is waited for, as process 1 has to. No other code of the
    /// process may have children then.
    #[must_use]
    pub fn reap_orphans(mut self, reap: bool) -> Self {
        self.reap_orphans = reap;
        self
    }

    /// Lets the program have one descriptor more, such as its end of a socket pair. The environment variable
    /// `name` has its number.
    #[must_use]
    pub fn inherit(mut self, name: &str, descriptor: OwnedFd) -> Self {
        self.command.env(name, descriptor.as_raw_fd().to_string());
        self.inherited.push(descriptor);
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    ///
    /// If it cannot be started: there is no such file, or the system lacks a terminal, a process or a descriptor.
    pub fn start(mut self) -> Result<Program, StartError> {
        self.begin().map_err(|source| StartError { program: self.command.get_program().to_owned(), source })
    }

    fn begin(&mut self) -> io::Result<Program> {
        let inherited = std::mem::take(&mut self.inherited);
        let kept = inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let wires = match self.wiring {
            Wiring::Terminal(size) => self.on_terminal(size)?,
            Wiring::Pipes { input } => self.on_pipes(input)?,
        };
        child::prepare(&mut self.command, matches!(self.wiring, Wiring::Terminal(_)), kept);
        let child = self.command.spawn();
        // Without the parent's copies of what the child has, a closed end is told.
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child?;
        drop(inherited);
        let waiting = Waiting::new(Pid::from_child(&child), self.reap_orphans)?;
        Program::new(wires, waiting, self.linger)
    }

    fn on_terminal(&mut self, size: Size) -> io::Result<Wires> {
        let master = open_master()?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let slave = open_slave(&master)?;
        // Backspace takes a character, not a byte.
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            use rustix::termios::{InputModes, OptionalActions};

            let mut modes = rustix::termios::tcgetattr(&slave)?;
            modes.input_modes |= InputModes::IUTF8;
            rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes)?;
        }
        // The size is there before the program looks.
        rustix::termios::tcsetwinsize(&slave, winsize(size))?;
        environment::prepare(&mut self.command);
        self.command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        nonblocking(&master)?;
        Ok(Wires::Terminal { master, size })
    }

    fn on_pipes(&mut self, input: bool) -> io::Result<Wires> {
        let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
            io::pipe().map(|(read, write)| (read.into(), write.into()))
        };
        let stdin = if input {
            let (theirs, ours) = pipe()?;
            self.command.stdin(theirs);
            nonblocking(&ours)?;
            Some(ours)
        } else {
            self.command.stdin(File::open("/dev/null")?);
            None
        };
        let ((stdout, out), (stderr, err)) = (pipe()?, pipe()?);
        self.command.stdout(out).stderr(err);
        nonblocking(&stdout)?;
        nonblocking(&stderr)?;
        Ok(Wires::Pipes { stdin, stdout, stderr })
    }
}

/// No program has this end.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
fn open_master() -> io::Result<OwnedFd> {
    Ok(rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?)
}

/// No program that is started after this has this end: elsewhere there is no call for it that is one step.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd")))]
fn open_master() -> io::Result<OwnedFd> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC)?;
    Ok(master)
}

/// The host's ends.
pub(super) enum Wires {
    Terminal { master: OwnedFd, size: Size },
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
}

/// Opens the other side of a terminal, which does not become the host's own.
pub(super) fn open_slave(master: impl AsFd) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        // By the descriptor: the path can lead elsewhere in another mount namespace.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        if let Ok(slave) = rustix::pty::ioctl_tiocgptpeer(&master, flags) {
            return Ok(slave);
        }
    }
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    Ok(rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?)
}

pub(super) fn winsize(size: Size) -> Winsize {
    Winsize { ws_row: size.rows(), ws_col: size.columns(), ws_xpixel: 0, ws_ypixel: 0 }
}

fn nonblocking(descriptor: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&descriptor)?;
    Ok(rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?)
}
