//! What a new process does between fork and exec.
//!
//! This is the one place with unsafe code: only what is safe after a fork in a process with threads may stand
//! here, and no library offers all of it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Signals are numbered up to here, the real-time ones included.
const SIGNALS: i32 = 64;
/// Where closing one by one ends, on systems that cannot close a range.
const DESCRIPTORS: RawFd = 65_536;

/// The new process gets a session of its own, with its standard input as the controlling terminal if
/// `terminal`; every signal has its default effect, whatever the host ignores; and of the host's descriptors
/// only 0, 1, 2 and `kept` go on to the program, those that were opened without `CLOEXEC` by others included.
pub(super) fn prepare(command: &mut Command, terminal: bool, mut kept: Vec<RawFd>) {
    kept.sort_unstable();
    let setup = move || {
        rustix::process::setsid()?;
        if terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        for signal in 1..=SIGNALS {
            // SAFETY: `signal` may be called after a fork, and the default effect is no code of ours. It fails for
            // KILL, STOP and the ones that the C library keeps to itself, which is as well.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        let mut from = 3;
        for kept in &kept {
            close_on_exec(from, kept - 1);
            // SAFETY: a system call on a number; the caller has the descriptor open.
            if unsafe { libc::fcntl(*kept, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
            from = kept + 1;
        }
        close_on_exec(from, RawFd::MAX);
        Ok(())
    };
    // SAFETY: the closure makes system calls and nothing else: it takes no lock and allocates nothing.
    unsafe { command.pre_exec(setup) };
}

/// Descriptors `from` to `to` are closed when the program begins. Not before: the standard library tells the
/// parent by one of them that it could not begin.
fn close_on_exec(from: RawFd, to: RawFd) {
    if from > to {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a system call on numbers; it changes flags only.
        let done = unsafe { libc::syscall(libc::SYS_close_range, from, to, libc::CLOSE_RANGE_CLOEXEC) };
        if done == 0 {
            return;
        }
    }
    for descriptor in from..=to.min(DESCRIPTORS) {
        // SAFETY: a system call on a number. It fails where nothing is open.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
