//! What this terminal, or pipe, is shown.

use std::io::{self, Write};

use trunkline_host::{Screen, Size};

/// How output is shown.
pub struct Shown {
    terminal: bool,
    /// What the terminal shows, so that it can be left and painted again.
    screen: Screen,
    /// The program has a terminal.
    marked: bool,
    noted: bool,
}

impl Shown {
    pub fn new(terminal: bool) -> Self {
        Self { terminal, screen: Screen::new(Size::default()), marked: false, noted: false }
    }

    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Returns `true` if the program is on a terminal.
    pub fn follows_terminal(&self) -> bool {
        self.marked
    }

    /// Writes what the program has written.
    pub fn output(&mut self, error: bool, bytes: &[u8]) -> io::Result<()> {
        if error && !self.terminal {
            return io::stderr().write_all(bytes);
        }
        self.marked = self.marked || bytes.starts_with(b"\x1b_trunkline size ");
        if self.terminal {
            self.screen.follow(bytes);
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// Output was left out. On a terminal a snapshot follows that stands for it.
    pub fn gap(&self, bytes: u64) {
        if !self.marked {
            let end = if self.terminal { "\r\n" } else { "\n" };
            eprint!("[trunkline: {bytes} bytes of output were left out here]{end}");
        }
    }

    /// Says something to the person, in the last row of the terminal, over what is there.
    pub fn note(&mut self, text: &str) {
        if !self.terminal {
            eprintln!("trunkline: {text}");
            return;
        }
        self.noted = true;
        let row = super::mode::size().unwrap_or_default().rows();
        let mut stdout = io::stdout().lock();
        let _ = write!(stdout, "\x1b7\x1b[{row};1H\x1b[0;7m[{text}]\x1b[0m\x1b[K\x1b8")
            .and_then(|()| stdout.flush());
    }

    /// Paints the terminal again.
    pub fn repaint(&mut self) {
        if self.terminal {
            let mut stdout = io::stdout().lock();
            let _ = stdout.write_all(&self.screen.snapshot()).and_then(|()| stdout.flush());
        }
    }

    /// Resets what the program has set on this terminal.
    pub fn leave(&mut self) {
        if self.terminal {
            let mut stdout = io::stdout().lock();
            let _ = stdout.write_all(&self.screen.leave());
            let _ = stdout.write_all(b"\r\n").and_then(|()| stdout.flush());
        }
    }
}
