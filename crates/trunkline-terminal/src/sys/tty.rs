//! The mode of the terminal: changed for as long as a console needs it, and restored however it ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic;
use std::sync::Once;
use std::thread::{self, ThreadId};

use parking_lot::Mutex;
use rustix::fs::{OFlags, fstat, open};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize, tcgetattr,
    tcgetwinsize, tcsetattr, ttyname,
};

/// How the terminal is to behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// Each key comes as it is, and nothing is echoed.
    Keys,
    /// Lines come, but Ctrl-C does not throw away what was typed before and after it.
    Lines,
}

/// A terminal in another mode than the one it was found in. It is restored when this is dropped, and when the
/// thread that made it panics, before the message is written.
pub(crate) struct Tty {
    fd: OwnedFd,
    original: Termios,
    changed: Termios,
    /// What the terminal is sent when the mode begins and ends.
    begin: &'static [u8],
}

struct Saved {
    fd: OwnedFd,
    original: Termios,
    end: &'static [u8],
    thread: ThreadId,
}

/// What a panic restores.
static SAVED: Mutex<Option<Saved>> = Mutex::new(None);
static HOOK: Once = Once::new();

const PASTE_ON: &[u8] = b"\x1b[?2004h";
const PASTE_OFF: &[u8] = b"\x1b[?2004l";

impl Tty {
    /// Changes the mode of the terminal.
    ///
    /// # Errors
    ///
    /// If it is no terminal, or gone.
    pub(crate) fn enter(terminal: BorrowedFd<'_>, manner: Manner) -> io::Result<Self> {
        let original = tcgetattr(terminal)?;
        let mut changed = original.clone();
        match manner {
            Manner::Keys => {
                changed.input_modes -= InputModes::BRKINT
                    | InputModes::ICRNL
                    | InputModes::INPCK
                    | InputModes::ISTRIP
                    | InputModes::IXON;
                changed.local_modes -=
                    LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG;
                // A newline goes to the beginning of the next row, whatever was before.
                changed.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
                changed.special_codes[SpecialCodeIndex::VMIN] = 1;
                changed.special_codes[SpecialCodeIndex::VTIME] = 0;
            }
            Manner::Lines => changed.local_modes |= LocalModes::NOFLSH,
        }
        let (begin, end) = match manner {
            Manner::Keys => (PASTE_ON, PASTE_OFF),
            Manner::Lines => (&b""[..], &b""[..]),
        };
        // Its own descriptor, so that nothing here blocks while the terminal takes nothing.
        let tty = Self { fd: reopen(terminal)?, original, changed, begin };
        HOOK.call_once(restore_at_panic);
        *SAVED.lock() = Some(Saved {
            fd: tty.fd.try_clone()?,
            original: tty.original.clone(),
            end,
            thread: thread::current().id(),
        });
        tty.resume()?;
        Ok(tty)
    }

    /// Changes the mode again, after the process was stopped and goes on.
    pub(crate) fn resume(&self) -> io::Result<()> {
        tcsetattr(&self.fd, OptionalActions::Now, &self.changed)?;
        say(self.fd.as_fd(), self.begin);
        Ok(())
    }

    /// Restores the mode, before the process is stopped.
    pub(crate) fn restore(&self) {
        if let Some(saved) = SAVED.lock().as_ref() {
            saved.restore();
        }
    }

    /// Lets the terminal turn Ctrl-C into a signal, while no key is read.
    pub(crate) fn set_signals(&mut self, signals: bool) {
        // So it is again at once when the process goes on: Ctrl-C would wait as a key that is not read.
        self.changed.local_modes.set(LocalModes::ISIG, signals);
        self.changed.local_modes.set(LocalModes::NOFLSH, signals);
        // A terminal that is gone is noticed by a read.
        let _ = tcsetattr(&self.fd, OptionalActions::Now, &self.changed);
    }

    /// Hides what is typed, but for where a line ends. A terminal that shows nothing of what is typed goes on like that.
    pub(crate) fn hide(&mut self, hide: bool) {
        let modes = self.original.local_modes;
        let echo = modes.contains(LocalModes::ECHO);
        self.changed.local_modes.set(LocalModes::ECHO, echo && !hide);
        self.changed.local_modes.set(LocalModes::ECHONL, modes.contains(LocalModes::ECHONL) || echo && hide);
        // A terminal that is gone is noticed by a read.
        let _ = tcsetattr(&self.fd, OptionalActions::Now, &self.changed);
    }

    /// Returns which control character asks the process to stop, if any.
    pub(crate) fn suspend_key(&self) -> Option<u8> {
        Some(self.original.special_codes[SpecialCodeIndex::VSUSP]).filter(|byte| (1..0x20).contains(byte))
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        if let Some(saved) = SAVED.lock().take() {
            saved.restore();
        }
    }
}

impl Saved {
    fn restore(&self) {
        // A terminal that is gone is as it may be.
        say(self.fd.as_fd(), self.end);
        let _ = tcsetattr(&self.fd, OptionalActions::Now, &self.original);
    }
}

fn say(fd: BorrowedFd<'_>, what: &[u8]) {
    if !what.is_empty() {
        // A terminal that takes nothing now does without.
        let _ = rustix::io::write(fd, what);
    }
}

/// A panic of another thread leaves the terminal alone: the console lives on. Where panics abort, it does not.
fn restore_at_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        // The lock may be held by the thread that panics.
        if let Some(saved) = SAVED.try_lock() {
            let ours = |saved: &Saved| cfg!(panic = "abort") || saved.thread == thread::current().id();
            if let Some(saved) = saved.as_ref().filter(|saved| ours(saved)) {
                saved.restore();
            }
        }
        before(panic);
    }));
}

/// Opens a terminal once more, so that it can be written to without blocking, whatever mode the processes
/// choose that share the descriptor. Where that cannot be, the descriptor itself is used.
pub(crate) fn reopen(terminal: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let own = ttyname(terminal, Vec::new()).and_then(|name| open(name, flags, rustix::fs::Mode::empty()));
    let is_same = |own: &OwnedFd| match (fstat(own), fstat(terminal)) {
        (Ok(own), Ok(given)) => own.st_rdev == given.st_rdev,
        _ => false,
    };
    match own {
        Ok(own) if is_same(&own) => Ok(own),
        _ => terminal.try_clone_to_owned(),
    }
}

/// Returns columns and rows; 80 and 24 where the terminal does not know.
pub(crate) fn size(terminal: BorrowedFd<'_>) -> (usize, usize) {
    let known = |size: &Winsize| size.ws_col > 0 && size.ws_row > 0;
    match tcgetwinsize(terminal).ok().filter(known) {
        Some(size) => (size.ws_col.into(), size.ws_row.into()),
        None => (80, 24),
    }
}

/// Returns `true` if a shell is there that sees this process stop, and can let it go on.
pub(crate) fn has_shell() -> bool {
    use nix::unistd::{getpgid, getppid, getsid};

    // A process outside of this one's PID namespace has the number 0 here, and so has a session or a group that
    // was begun there. rustix knows no such process.
    let parent = getppid();
    let same_session = matches!((getsid(Some(parent)), getsid(None)), (Ok(parent), Ok(own)) if parent == own);
    let other_group =
        matches!((getpgid(Some(parent)), getpgid(None)), (Ok(parent), Ok(own)) if parent != own);
    parent.as_raw() != 0 && same_session && other_group
}

/// Stops the processes that the shell has started together with this one, as the terminal would do at Ctrl-Z.
/// This process has a hook for the signal, and is not stopped.
pub(crate) fn stop_group() {
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::TSTP);
}

/// Stops this process alone. Returns when it goes on.
pub(crate) fn stop_alone() {
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP);
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Read as _;

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// The tests change what all share: the place for the terminal that a panic restores.
    static ONE: Mutex<()> = Mutex::new(());

    fn terminal() -> (File, File) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        (File::from(master), OpenOptions::new().read(true).write(true).open(path).unwrap())
    }

    fn is_raw(terminal: &File) -> bool {
        !tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    #[test]
    fn a_panic_restores_the_terminal_before_its_message_and_one_of_another_thread_does_not() {
        let _one = ONE.lock();
        let (mut master, slave) = terminal();
        let watched = slave.try_clone().unwrap();
        let (told, hears) = std::sync::mpsc::channel();
        let before = panic::take_hook();
        // It stands around the crate's hook or inside of it, as the tests run.
        panic::set_hook(Box::new(move |panic| {
            before(panic);
            let _ = told.send(is_raw(&watched));
        }));
        let tty = slave.try_clone().unwrap();
        let console = thread::spawn(move || {
            let _tty = Tty::enter(tty.as_fd(), Manner::Keys).unwrap();
            assert!(thread::spawn(|| panic!("of another thread")).join().is_err());
            assert!(is_raw(&tty));
            panic!("of the console");
        });
        assert!(console.join().is_err());
        let seen: Vec<bool> = hears.try_iter().collect();
        assert_eq!((seen, is_raw(&slave)), (vec![true, false], false));
        let mut said = [0; 16];
        master.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"\x1b[?2004h\x1b[?2004l");
    }

    #[test]
    fn a_terminal_that_takes_nothing_blocks_neither_the_beginning_nor_the_end() {
        let _one = ONE.lock();
        let (_master, slave) = terminal();
        let own = reopen(slave.as_fd()).unwrap();
        // Its buffers are full.
        while rustix::io::write(&own, &[b'x'; 4096]).is_ok() {}
        let tty = Tty::enter(slave.as_fd(), Manner::Keys).unwrap();
        assert!(is_raw(&slave));
        drop(tty);
        assert!(!is_raw(&slave));
    }
}
