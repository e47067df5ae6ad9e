//! What this terminal, or pipe, is shown.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use trunkline_host::{Screen, Size};

use crate::output;
use crate::screen::{is_terminal, lines_of, screen_of};

/// How long a note stands over what the program shows.
const READING: Duration = Duration::from_secs(4);

/// How output is shown.
pub struct Shown {
    terminal: bool,
    /// What the terminal shows, so that it can be left and painted again.
    screen: Screen,
    /// The program has a terminal.
    marked: bool,
    /// What stands over it.
    note: Note,
}

/// A note in the last row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Note {
    None,
    /// It is taken away then.
    Until(Instant),
    /// What it says is so until the terminal is painted again.
    Stays,
}

impl Shown {
    pub fn new(terminal: bool) -> Self {
        Self { terminal, screen: Screen::new(Size::default()), marked: false, note: Note::None }
    }

    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Returns `true` if the program is on a terminal.
    pub fn follows_terminal(&self) -> bool {
        self.marked
    }

    /// Returns `true` if these bytes say, for the first time, that the program is on a terminal.
    pub fn finds_terminal(&mut self, bytes: &[u8]) -> bool {
        let found = !self.marked && is_terminal(bytes);
        self.marked |= found;
        found
    }

    /// Writes what the program has written.
    pub fn output(&mut self, error: bool, bytes: &[u8]) -> io::Result<()> {
        if error && !self.terminal {
            return io::stderr().write_all(bytes);
        }
        if self.terminal && self.marked {
            self.screen.follow(bytes);
        }
        let mut stdout = io::stdout().lock();
        if !self.terminal && self.marked && is_terminal(bytes) {
            stdout.write_all(lines_of(&screen_of(bytes)).as_bytes())?;
        } else {
            stdout.write_all(bytes)?;
        }
        stdout.flush()
    }

    /// Output was left out. On a terminal a snapshot follows that stands for it.
    pub fn gap(&self, bytes: u64) {
        if !self.marked {
            output::tell(format!("[trunkline: {bytes} bytes of output were left out here]"));
        }
    }

    /// Says something to the person, in the last row of the terminal, over what is there, for a while.
    pub fn note(&mut self, text: &str) {
        self.say(text, Note::Until(Instant::now() + READING));
    }

    /// The same, until the terminal is painted again.
    pub fn note_that_stays(&mut self, text: &str) {
        self.say(text, Note::Stays);
    }

    /// When [`Shown::take_old_note`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        if let Note::Until(due) = self.note { Some(due) } else { None }
    }

    /// Takes a note away that has stood for long enough. Returns `true` if there was one.
    pub fn take_old_note(&mut self, now: Instant) -> bool {
        let is_old = self.due().is_some_and(|due| due <= now);
        if is_old {
            self.repaint();
        }
        is_old
    }

    /// Takes away what stands over what the program shows.
    pub fn take_note(&mut self) {
        if self.note != Note::None {
            self.repaint();
        }
    }

    fn say(&mut self, text: &str, note: Note) {
        if !self.terminal {
            output::tell(format!("trunkline: {text}"));
            return;
        }
        if !self.marked {
            // Lines of output scroll, and this is one of them.
            output::tell(format!("\x1b[7m[{text}]\x1b[0m"));
            return;
        }
        self.note = note;
        let row = super::mode::size().unwrap_or_default().rows();
        let mut stdout = io::stdout().lock();
        let _ = write!(stdout, "\x1b7\x1b[{row};1H\x1b[0;7m[{text}]\x1b[0m\x1b[K\x1b8")
            .and_then(|()| stdout.flush());
    }

    /// Paints the terminal again.
    pub fn repaint(&mut self) {
        self.note = Note::None;
        if self.terminal && self.marked {
            let mut stdout = io::stdout().lock();
            let _ = stdout.write_all(&self.screen.snapshot()).and_then(|()| stdout.flush());
        }
    }

    /// Resets what the program has set on this terminal.
    pub fn leave(&mut self) {
        // What it says is over. A lost link is told once more, below.
        self.take_note();
        if self.terminal && self.marked {
            let mut stdout = io::stdout().lock();
            let _ = stdout.write_all(&self.screen.leave());
            let _ = stdout.write_all(b"\r\n").and_then(|()| stdout.flush());
        }
    }
}
