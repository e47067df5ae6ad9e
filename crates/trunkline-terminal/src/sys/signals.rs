//! Signals, for as long as a console wants them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

const ALL: [i32; 7] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH];

/// The hooks stay for ever once they are there, since the library has no way back to the system's default.
/// While no console wants them, they do what the system would do.
static HOOKS: Mutex<Option<Hooks>> = Mutex::new(None);

struct Hooks {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    nobody: Arc<AtomicBool>,
}

/// As long as it is there, signals come here and do nothing else.
pub(crate) struct Signals {
    fd: UnixStream,
}

impl Signals {
    /// Takes all signals that a console acts on.
    ///
    /// # Errors
    ///
    /// If the system has no descriptor left.
    pub(crate) fn take() -> io::Result<Self> {
        let mut hooks = HOOKS.lock();
        if hooks.is_none() {
            *hooks = Some(Hooks::new()?);
        }
        let Some(hooks) = hooks.as_mut() else { return Err(io::ErrorKind::Other.into()) };
        let fd = hooks.delivery.get_read().try_clone()?;
        // What came for an earlier console.
        hooks.delivery.pending().for_each(drop);
        hooks.nobody.store(false, Ordering::SeqCst);
        Ok(Self { fd })
    }

    /// Returns what came, and forgets it.
    pub(crate) fn pending(&self) -> Vec<i32> {
        let hooks: MutexGuard<'_, Option<Hooks>> = HOOKS.lock();
        let mut hooks = hooks;
        hooks.as_mut().map_or_else(Vec::new, |hooks| hooks.delivery.pending().collect())
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns the signals in the order in which they are acted on: that the process goes on comes first. Where stopping
/// and going on come together, it goes on: a process that is stopped for ever is worse than one that was not stopped.
pub(crate) fn in_order(mut signals: Vec<i32>) -> Vec<i32> {
    if signals.contains(&SIGCONT) {
        signals.retain(|signal| *signal != SIGTSTP);
    }
    signals.sort_by_key(|signal| *signal != SIGCONT);
    signals
}

impl Drop for Signals {
    fn drop(&mut self) {
        if let Some(hooks) = HOOKS.lock().as_ref() {
            hooks.nobody.store(true, Ordering::SeqCst);
        }
    }
}

impl Hooks {
    fn new() -> io::Result<Self> {
        let nobody = Arc::new(AtomicBool::new(true));
        for signal in ALL {
            register_conditional_default(signal, Arc::clone(&nobody))?;
        }
        let (read, write) = UnixStream::pair()?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, ALL)?;
        Ok(Self { delivery, nobody })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_to_stop_and_to_go_on_goes_on_first_of_all() {
        assert_eq!(in_order(vec![SIGINT, SIGCONT, SIGTSTP, SIGWINCH]), [SIGCONT, SIGINT, SIGWINCH]);
        assert_eq!(in_order(vec![SIGINT, SIGTSTP]), [SIGINT, SIGTSTP]);
    }
}
