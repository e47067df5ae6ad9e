//! Standard output and error of this command, whose readers may be gone.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::thread;

use crossbeam_channel::{Receiver, bounded, never};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::failure::{Failure, OS_ERROR, READER_GONE};

/// Writes all of a text.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()).map_err(failure)
}

/// Standard output cannot be written. A reader that wants no more is no fault that is worth a word.
pub fn failure(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::quiet(READER_GONE)
    } else {
        Failure::new(OS_ERROR, format!("standard output: {error}"))
    }
}

/// Tells the person something, if there is one.
pub fn tell(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Returns what fires when the reader of a pipe has gone, even if nothing is written.
pub fn reader_gone() -> io::Result<Receiver<()>> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Ok(never());
    }
    let (sender, receiver) = bounded(1);
    thread::Builder::new().name("trunkline-reader".to_owned()).spawn(move || {
        // Nothing is asked for: an error is told all the same.
        while poll(&mut [PollFd::new(&stdout, PollFlags::empty())], None) == Err(Errno::INTR) {}
        let _ = sender.send(());
        // Nothing is fired twice.
        std::mem::forget(sender);
    })?;
    Ok(receiver)
}
