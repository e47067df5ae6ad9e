//! The keys of the terminal, also between two lines.

use std::io;

/// As long as there is one, keys are kept for the line editor. It reads them while a line is edited
/// and leaves the terminal as it was before, and there Ctrl-C would end this process, Ctrl-D be
/// swallowed, and what is typed ahead be shown twice.
pub struct Keys {
    #[cfg(unix)]
    original: rustix::termios::Termios,
}

#[cfg(unix)]
impl Keys {
    pub fn keep() -> io::Result<Self> {
        use rustix::termios::{InputModes, LocalModes, OptionalActions, tcgetattr, tcsetattr};

        let original = tcgetattr(io::stdin())?;
        let mut raw = original.clone();
        raw.input_modes -= InputModes::ICRNL | InputModes::IXON;
        raw.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG;
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self { original })
    }
}

#[cfg(unix)]
impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone is as it may be.
        let _ =
            rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Drain, &self.original);
    }
}

#[cfg(not(unix))]
impl Keys {
    pub fn keep() -> io::Result<Self> {
        Ok(Self {})
    }
}
