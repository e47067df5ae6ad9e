//! How a program ended, and the names of signals.

use std::fmt;
use std::str::FromStr;

use trunkline_kernel::layout::{SignalName, Status};

/// A signal of this system.
///
/// ```
/// use trunkline_host::Signal;
///
/// let term: Signal = "TERM".parse()?;
/// assert_eq!((term.number(), term.to_string()), (15, "TERM".to_owned()));
/// assert!("SIGTERM".parse::<Signal>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Signal(i32);

/// There is no signal of this name on this system.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no signal {0:?} here; write it without SIG and in capitals, as TERM or HUP")]
pub struct SignalError(String);

/// The names, without `SIG`.
const NAMES: [(&str, i32); 29] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("SYS", libc::SIGSYS),
];

impl Signal {
    /// `SIGHUP`: the terminal is gone.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// `SIGINT`: what Ctrl-C sends.
    pub const INT: Self = Self(libc::SIGINT);
    /// `SIGTERM`: the request to end.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// `SIGKILL`: the end.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// `SIGCONT`: go on, if stopped.
    pub const CONT: Self = Self(libc::SIGCONT);

    /// Returns the number, which differs between systems.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    /// A signal that ended a program.
    pub(crate) fn of(number: i32) -> Self {
        Self(number)
    }

    pub(crate) fn raw(self) -> Option<rustix::process::Signal> {
        rustix::process::Signal::from_named_raw(self.0)
    }
}

impl fmt::Display for Signal {
    /// The name without `SIG`, or the number of a signal that has none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Signal {
    type Err = SignalError;

    fn from_str(name: &str) -> Result<Self, SignalError> {
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, number)| Self(*number)).ok_or_else(|| SignalError(name.chars().take(20).collect()))
    }
}

impl TryFrom<&SignalName> for Signal {
    type Error = SignalError;

    fn try_from(name: &SignalName) -> Result<Self, SignalError> {
        name.as_str().parse()
    }
}

/// How a program ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ending {
    /// It exited with this status.
    Exited(i32),
    /// A signal has ended it.
    Killed(Signal),
}

impl Ending {
    /// Returns the exit status of a process that stands for the program: its own, or 128 and the signal's
    /// number, as shells have it.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal.0,
        }
    }
}

impl From<Ending> for Status {
    /// The last status of a kernel.
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Exited(code) => Self::Exited(code),
            // Each name and each number is the name of a signal by the rules of the layout.
            Ending::Killed(signal) => match signal.to_string().parse() {
                Ok(name) => Self::Killed(name),
                Err(_) => Self::Exited(ending.code()),
            },
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited {code}"),
            Self::Killed(signal) => write!(f, "killed {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_each_others_and_ends_are_statuses() {
        for (name, number) in NAMES {
            assert_eq!(name.parse(), Ok(Signal(number)));
            assert_eq!(Signal(number).to_string(), name);
            assert_eq!(Status::from(Ending::Killed(Signal(number))).to_string(), format!("killed {name}"));
        }
        // A real-time signal has no name here.
        assert_eq!(Status::from(Ending::Killed(Signal(40))).to_string(), "killed 40");
        assert_eq!(Ending::Killed(Signal::KILL).code(), 137);
        assert_eq!(Status::from(Ending::Exited(3)).to_string(), "exited 3");
    }
}
