//! Standard input, output and error for the program that a kernel runs.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use trunkline::ChannelId;

use super::machine::NoLine;
use super::shared::Shared;
use super::stdio_error::StdioError;
use super::wire::{Output, PIECE, Sent};
use crate::layout::{Picture, STDERR, STDOUT};

/// Standard input, output and error of the console that a kernel serves. Clones are the same, and any thread
/// may use them. While no console is served, output is dropped and readers wait for the next.
#[derive(Clone)]
pub struct Stdio(pub(super) Arc<Shared>);

impl Stdio {
    /// Returns the next line of standard input with its newline, and waits for it: what a program's
    /// `input()` calls. The console is told that the program waits, unless the line is there.
    ///
    /// Several threads may read; each gets its line in the order in which they began, and all of them go
    /// before the loop that reads statements.
    ///
    /// # Errors
    ///
    /// If the statement is interrupted and this is its thread; at the end of the input; if the console is
    /// gone; or if the line cannot be given. The last line before the end may have no newline.
    pub fn read_line(&self) -> Result<String, StdioError> {
        String::from_utf8(self.read_line_bytes()?).map_err(StdioError::NotUtf8)
    }

    /// Returns the next line as it came, whether or not it is UTF-8; otherwise as
    /// [`read_line`](Stdio::read_line).
    ///
    /// # Errors
    ///
    /// As [`read_line`](Stdio::read_line), without [`StdioError::NotUtf8`].
    pub fn read_line_bytes(&self) -> Result<Vec<u8>, StdioError> {
        self.reading().next(None).unwrap_or(Err(StdioError::Gone))
    }

    /// Returns the next line as [`read_line_bytes`](Stdio::read_line_bytes) does, and the console does not show what is
    /// typed: for a password. What was typed before the kernel has said so may have been shown.
    ///
    /// # Errors
    ///
    /// As [`read_line_bytes`](Stdio::read_line_bytes).
    pub fn read_secret(&self) -> Result<Vec<u8>, StdioError> {
        self.reading_secret().next(None).unwrap_or(Err(StdioError::Gone))
    }

    /// Takes a place among the readers of standard input, which is kept between several waits for a line: for an
    /// interpreter that has other things to do meanwhile, such as a look for signals.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.begin_read(false)
    }

    /// Takes a place as [`reading`](Stdio::reading) does, for a line that is not to be seen.
    #[must_use]
    pub fn reading_secret(&self) -> Reading {
        self.begin_read(true)
    }

    fn begin_read(&self, secret: bool) -> Reading {
        let main = self.0.is_running_here();
        let id = self.0.with(|state| state.machine.begin_read(main, secret));
        Reading { stdio: self.clone(), id }
    }

    /// Writes to standard output. It waits while the console does not take it.
    ///
    /// A text of up to 4 KiB is one message; a longer one may be several, of 64 KiB at most. If the statement is
    /// interrupted, what has not been sent is left out, and the console is told how much that was.
    ///
    /// # Errors
    ///
    /// [`StdioError::Interrupted`] if this is the thread of a statement that is to stop. If the console wants
    /// no output, or there is none, the text is dropped without an error.
    pub fn write_stdout(&self, text: impl AsRef<[u8]>) -> Result<(), StdioError> {
        self.write(STDOUT, text.as_ref())
    }

    /// Writes to standard error; otherwise as [`write_stdout`](Stdio::write_stdout).
    ///
    /// # Errors
    ///
    /// As [`write_stdout`](Stdio::write_stdout).
    pub fn write_stderr(&self, text: impl AsRef<[u8]>) -> Result<(), StdioError> {
        self.write(STDERR, text.as_ref())
    }

    /// Returns standard output as a [`Write`]. It keeps nothing back: each `write` sends.
    #[must_use]
    pub fn stdout(&self) -> StdioWriter {
        StdioWriter { stdio: self.clone(), channel: STDOUT }
    }

    /// Returns standard error as a [`Write`]. It keeps nothing back: each `write` sends.
    #[must_use]
    pub fn stderr(&self) -> StdioWriter {
        StdioWriter { stdio: self.clone(), channel: STDERR }
    }

    /// Shows a picture, at its place among the output.
    ///
    /// # Errors
    ///
    /// [`StdioError::TooLarge`] if the console takes no message as large; otherwise as
    /// [`write_stdout`](Stdio::write_stdout).
    pub fn show(&self, picture: &Picture) -> Result<(), StdioError> {
        self.0.catch_up();
        let Some(wire) = self.0.wire() else { return Ok(()) };
        let message = picture.to_message();
        let limit = wire.display.sender().max_message();
        if message.len() > limit as usize {
            return Err(StdioError::TooLarge { limit });
        }
        let main = self.0.is_running_here();
        loop {
            if main && self.0.stopping() {
                return Err(self.cut(&wire.display, 1, message.len()));
            }
            let sender = wire.display.sender();
            match wire.display.send_whole(&sender, message.clone()) {
                Sent::Yes(_) => return self.0.wait_for_end(&wire.display, main),
                Sent::Interrupted | Sent::Full => {}
                Sent::Unwanted => return Ok(()),
                Sent::Lost => return lost(main),
            }
        }
    }

    /// Returns `true`, once for each interrupt, if the statement that this thread runs is to stop. The
    /// interpreter asks where it can stop, and stops then. It costs a load of a flag.
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        self.0.stopping() && self.0.is_running_here() && self.0.with(|state| state.machine.deliver())
    }

    /// Tells that the interrupt, of which [`stop_requested`](Stdio::stop_requested) has told, came to nothing: the
    /// statement has swallowed it where it could not be stopped, and runs on. The kernel tries again, and
    /// `stop_requested` tells once more. Any thread may call it.
    pub fn stop_again(&self) {
        self.0.with(|state| state.machine.stop_again(Instant::now()));
    }

    /// Returns `true` if the statement that runs is to stop and [`stop_requested`](Stdio::stop_requested) has
    /// not told so yet. Any thread may ask.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stopping()
    }

    /// Sleeps until `deadline` or until the statement is to stop. Returns `false` if it is to stop.
    #[must_use]
    pub fn sleep_until(&self, deadline: Instant) -> bool {
        self.0.wait(Some(deadline), |_| self.0.stopping().then_some(())).is_none()
    }

    fn write(&self, channel: ChannelId, text: &[u8]) -> Result<(), StdioError> {
        if text.is_empty() {
            return Ok(());
        }
        self.0.catch_up();
        let Some(wire) = self.0.wire() else { return Ok(()) };
        let output = if channel == STDOUT { &wire.stdout } else { &wire.stderr };
        let main = self.0.is_running_here();
        let mut rest = Bytes::copy_from_slice(text);
        while !rest.is_empty() {
            if main && self.0.stopping() {
                return Err(self.cut(output, rest.len().div_ceil(PIECE), rest.len()));
            }
            match output.send(&rest) {
                Sent::Yes(sent) => {
                    drop(rest.split_to(sent));
                    // Another thread may have used the room that was found.
                    let waited = self.0.wait_for_end(output, main);
                    if rest.is_empty() {
                        return waited;
                    }
                }
                // For this statement, or in vain.
                Sent::Interrupted | Sent::Full => {}
                Sent::Unwanted => return Ok(()),
                Sent::Lost => return lost(main),
            }
        }
        Ok(())
    }

    /// Tells the console what was left out.
    fn cut(&self, output: &Output, messages: usize, bytes: usize) -> StdioError {
        // It fails only if there is no console to be told.
        drop(output.sender().gap(messages as u64, bytes as u64));
        self.0.with(|state| state.machine.note_cut());
        StdioError::Interrupted
    }
}

/// There is no console any more: for the statement that is an error.
fn lost(main: bool) -> Result<(), StdioError> {
    if main { Err(StdioError::Gone) } else { Ok(()) }
}

impl std::fmt::Debug for Stdio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stdio")
    }
}

/// A place among the readers of standard input; see [`Stdio::reading`]. It is left when it is dropped.
#[derive(Debug)]
pub struct Reading {
    stdio: Stdio,
    id: u64,
}

impl Reading {
    /// Returns the line, and waits for it until `deadline`; `None` if it has not come by then. After a line or an error
    /// the place is gone: the next call waits in vain.
    ///
    /// # Errors
    ///
    /// As [`Stdio::read_line_bytes`].
    pub fn next(&mut self, deadline: Option<Instant>) -> Option<Result<Vec<u8>, StdioError>> {
        let id = self.id;
        let line =
            self.stdio.0.wait(deadline, |state| match state.machine.poll_read(id, Instant::now()) {
                // The kernel is dropped.
                None if state.closing => Some(Err(NoLine::Gone)),
                line => line,
            })?;
        Some(line.map_err(|why| match why {
            NoLine::Interrupted => StdioError::Interrupted,
            NoLine::Finished => StdioError::Finished,
            NoLine::Gone => StdioError::Gone,
            NoLine::TooLong => StdioError::TooLong,
            NoLine::Broken(why) => StdioError::Broken(why),
        }))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.stdio.0.with(|state| state.machine.end_read(self.id));
    }
}

/// Standard output or standard error as a [`Write`]; see [`Stdio::stdout`].
#[derive(Clone, Debug)]
pub struct StdioWriter {
    stdio: Stdio,
    channel: ChannelId,
}

impl Write for StdioWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.stdio.write(self.channel, text)?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
