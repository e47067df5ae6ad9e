//! When a process has ended, and how.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions};

use crate::ending::{Ending, Signal};

/// Tells the end of one process, and reaps it.
pub(super) struct Waiting {
    pid: Pid,
    /// Readable once it has ended.
    ended: OwnedFd,
    orphans: Option<Orphans>,
    ending: Option<Ending>,
}

/// Tells the end of any child. A process that adopts orphans is told of theirs by no descriptor.
struct Orphans {
    ended: UnixStream,
    registration: signal_hook::SigId,
}

impl Waiting {
    /// Waits for a child of this process that no other code waits for. With `orphans` every child of this
    /// process is reaped.
    pub(super) fn new(pid: Pid, orphans: bool) -> io::Result<Self> {
        let ended = descriptor_of(pid)?;
        let orphans = if orphans { Some(Orphans::new()?) } else { None };
        Ok(Self { pid, ended, orphans, ending: None })
    }

    /// The process, unless it has been reaped: its number may be another's then.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.ending.is_none().then_some(self.pid)
    }

    /// What becomes readable when [`Waiting::check`] has something to do.
    pub(super) fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 2] {
        let process = self.ending.is_none().then(|| self.ended.as_fd());
        [process, self.orphans.as_ref().map(|orphans| orphans.ended.as_fd())]
    }

    /// Reaps what has ended. Returns how the process did, once.
    pub(super) fn check(&mut self) -> Option<Ending> {
        let before = self.ending;
        if let Some(orphans) = &self.orphans {
            orphans.clear();
            while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                if pid == self.pid && self.ending.is_none() {
                    self.ending = Some(ending(status));
                }
            }
        } else if self.ending.is_none()
            && let Ok(Some((_, status))) = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG)
        {
            self.ending = Some(ending(status));
        }
        if before.is_none() { self.ending } else { None }
    }
}

fn ending(status: rustix::process::WaitStatus) -> Ending {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ending::Exited(code),
        (None, Some(signal)) => Ending::Killed(Signal::of(signal)),
        // Neither is only a process that was stopped, which is not asked for.
        (None, None) => Ending::Exited(-1),
    }
}

/// Returns a descriptor that is readable once a process has ended.
#[cfg(target_os = "linux")]
fn descriptor_of(pid: Pid) -> io::Result<OwnedFd> {
    use rustix::process::{PidfdFlags, pidfd_open};

    pidfd_open(pid, PidfdFlags::empty()).or_else(|_| by_thread(pid))
}

#[cfg(not(target_os = "linux"))]
fn descriptor_of(pid: Pid) -> io::Result<OwnedFd> {
    by_thread(pid)
}

/// Where the system has no descriptor for a process: a thread waits, and its end of a pipe closes.
fn by_thread(pid: Pid) -> io::Result<OwnedFd> {
    let (here, there) = io::pipe()?;
    thread::Builder::new().name("trunkline-wait".to_owned()).spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(rustix::process::waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
        drop(there);
    })?;
    Ok(here.into())
}

impl Orphans {
    fn new() -> io::Result<Self> {
        let (ended, there) = UnixStream::pair()?;
        ended.set_nonblocking(true)?;
        let registration = signal_hook::low_level::pipe::register(libc::SIGCHLD, there)?;
        Ok(Self { ended, registration })
    }

    fn clear(&self) {
        let mut bytes = [0; 64];
        while matches!(io::Read::read(&mut &self.ended, &mut bytes), Ok(read) if read > 0) {}
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.registration);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn readable(descriptor: BorrowedFd<'_>) -> bool {
        let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
        poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&patience)).unwrap() == 1
    }

    /// Both ways to hear of an end say the same.
    #[test]
    #[expect(clippy::zombie_processes, reason = "it is what reaps them that is tested")]
    fn an_end_is_heard_once_by_a_descriptor_or_a_thread() {
        for (command, expected) in
            [("exit 3", Ending::Exited(3)), ("kill -9 $$", Ending::Killed(Signal::KILL))]
        {
            for thread in [false, true] {
                let child = Command::new("sh").args(["-c", command]).spawn().unwrap();
                let pid = Pid::from_child(&child);
                let mut waiting = Waiting::new(pid, false).unwrap();
                if thread {
                    waiting.ended = by_thread(pid).unwrap();
                }
                assert!(readable(waiting.descriptors()[0].unwrap()));
                assert_eq!(waiting.check(), Some(expected));
                assert_eq!(waiting.check(), None);
                assert_eq!(waiting.pid(), None);
                assert!(waiting.descriptors()[0].is_none());
            }
        }
    }
}
