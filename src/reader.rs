//! A channel to read from, as from standard input.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::error::{ReadInterrupted, RecvError};
use crate::io::shared::Shared;
use crate::message::Message;
use crate::queue::send::Until;
use crate::receiver::{ReaderError, Receiver};

/// The longest line that is gathered before its end has come.
const LONGEST_LINE: usize = 16 << 20;

/// A channel as a stream of bytes: the stand-in for standard input.
///
/// Where one message ends and the next begins makes no difference. The calls of [`Read`] and
/// [`BufRead`] wait for what they need, so `read_line` can serve an `input()` that the program
/// calls; [`try_read_line`](Reader::try_read_line) never waits, so the loop around it can do other
/// things meanwhile.
///
/// `Ok(0)` comes only after the peer has finished, and then, as at the end of a file, for each read
/// until the peer's next run begins; every other end is an error.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// use std::io::BufRead;
///
/// const STDIN: ChannelId = ChannelId::new(0);
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let mut stdin = there.receiver(STDIN)?.reader();
/// assert_eq!(stdin.try_read_line()?, None);
///
/// here.sender(STDIN)?.send("first\nsecond\n")?;
/// let mut line = String::new();
/// stdin.read_line(&mut line)?;
/// assert_eq!(line, "first\n");
/// assert_eq!(stdin.try_read_line()?.as_deref(), Some("second\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader {
    receiver: Receiver,
    /// Bytes gathered for a line, from `start` on not given out; before `seen` is no line's end.
    gathered: Vec<u8>,
    start: usize,
    seen: usize,
    /// The message being read, and how much of it was.
    message: Option<Message>,
    at: usize,
    /// The run was abandoned, or the connection is over, behind what was gathered.
    ended: Option<RecvError>,
    /// The run has finished behind what was gathered: the end of the file, until more comes.
    finished: bool,
}

impl Receiver {
    /// What is received as a stream of bytes, to read from.
    #[must_use]
    pub fn reader(self) -> Reader {
        Reader::new(self)
    }
}

impl Reader {
    fn new(receiver: Receiver) -> Self {
        Self {
            receiver,
            gathered: Vec::new(),
            start: 0,
            seen: 0,
            message: None,
            at: 0,
            ended: None,
            finished: false,
        }
    }

    /// The next line with its `\n` if it is there whole; never waits. The last line of a run may
    /// have no `\n`.
    ///
    /// # Errors
    ///
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) once the peer has finished and all lines
    /// were read; [`InvalidData`](io::ErrorKind::InvalidData) for a line that is not UTF-8, or of
    /// more than 16 MiB without an end: it stays there, to be read as bytes; otherwise what ended
    /// the run or the connection.
    pub fn try_read_line(&mut self) -> io::Result<Option<String>> {
        self.line(Until::Now)
    }

    /// The next line, waiting at most so long for its end; `None` if it did not come in time.
    ///
    /// # Errors
    ///
    /// As [`try_read_line`](Reader::try_read_line); and as
    /// [`Interrupter::interrupt`] says.
    pub fn read_line_timeout(&mut self, timeout: Duration) -> io::Result<Option<String>> {
        self.line(Until::after(timeout))
    }

    fn line(&mut self, until: Until) -> io::Result<Option<String>> {
        loop {
            self.gather();
            let from = self.seen.max(self.start);
            if let Some(at) = self.gathered[from..].iter().position(|&byte| byte == b'\n') {
                return self.take_line(from + at + 1).map(Some);
            }
            self.seen = self.gathered.len();
            let left = self.gathered.len() - self.start;
            if left > 0 && (self.finished || self.ended.is_some()) {
                return self.take_line(self.gathered.len()).map(Some);
            }
            if let Some(end) = self.ended.take() {
                return Err(end.into());
            }
            if self.finished && !self.begins_again() {
                return Err(RecvError::Finished.into());
            }
            if left > LONGEST_LINE {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line of more than 16 MiB; read it in pieces, as bytes",
                ));
            }
            if self.message.is_some() {
                continue;
            }
            match self.receiver.next_for_reader(until) {
                Ok(Some(message)) => self.message = Some(message),
                Ok(None) => return Ok(None),
                Err(ReaderError::Interrupted) => return Err(interrupted()),
                Err(ReaderError::Ended(RecvError::Finished)) => self.finished = true,
                Err(ReaderError::Ended(end)) => self.ended = Some(end),
            }
        }
    }

    /// At the end of a run: whether the next one has begun.
    fn begins_again(&mut self) -> bool {
        if let Ok(Some(message)) = self.receiver.next_for_reader(Until::Now) {
            self.message = Some(message);
            self.finished = false;
        }
        !self.finished
    }

    /// Moves what is left of the current message behind what was gathered.
    fn gather(&mut self) {
        if let Some(message) = self.message.take() {
            self.gathered.drain(..self.start);
            self.seen = self.seen.saturating_sub(self.start);
            self.start = 0;
            self.gathered.extend_from_slice(&message[self.at..]);
            self.at = 0;
        }
    }

    fn take_line(&mut self, end: usize) -> io::Result<String> {
        let line = std::str::from_utf8(&self.gathered[self.start..end]).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "a line that is not UTF-8; read it as bytes")
        })?;
        let line = line.to_owned();
        self.start = end;
        self.forget_taken();
        Ok(line)
    }

    fn forget_taken(&mut self) {
        if self.start == self.gathered.len() {
            self.gathered = Vec::new();
            self.start = 0;
            self.seen = 0;
        }
    }

    /// Whether something can be read without waiting.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.start < self.gathered.len()
            || self.message.as_ref().is_some_and(|message| self.at < message.len())
            || self.finished
            || self.ended.is_some()
            || !self.receiver.is_empty()
    }

    /// What ends a blocked read of this reader from another thread.
    #[must_use]
    pub fn interrupter(&self) -> Interrupter {
        Interrupter {
            shared: Arc::downgrade(&self.receiver.handle().shared),
            number: self.receiver.claim().number,
            serial: self.receiver.claim().serial,
        }
    }

    /// Forgets an interrupt that no read has seen yet.
    pub fn clear_interrupt(&mut self) {
        self.receiver.handle().shared.inbox.clear_interrupt(self.receiver.claim());
    }

    /// The receiver that it reads from, to select on.
    #[must_use]
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.gathered.len() {
            // An empty message is no end of the stream.
            while self.message.as_ref().is_none_or(|message| self.at >= message.len()) {
                self.at = 0;
                self.message = None;
                if let Some(end) = self.ended.take() {
                    return Err(end.into());
                }
                if self.finished {
                    if self.begins_again() {
                        continue;
                    }
                    return Ok(&[]);
                }
                match self.receiver.next_for_reader(Until::Forever) {
                    Ok(message) => self.message = message,
                    Err(ReaderError::Interrupted) => return Err(interrupted()),
                    Err(ReaderError::Ended(RecvError::Finished)) => self.finished = true,
                    Err(ReaderError::Ended(end)) => return Err(end.into()),
                }
            }
        }
        match &self.message {
            _ if self.start < self.gathered.len() => Ok(&self.gathered[self.start..]),
            Some(message) => Ok(&message[self.at..]),
            None => Ok(&[]),
        }
    }

    fn consume(&mut self, amount: usize) {
        if self.start < self.gathered.len() {
            self.start = (self.start + amount).min(self.gathered.len());
            self.forget_taken();
        } else {
            self.at += amount;
        }
    }
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Finished => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            RecvError::Reset { .. } => io::Error::new(io::ErrorKind::ConnectionReset, error),
            RecvError::ConnectionLost(cause) => cause.into(),
        }
    }
}

fn interrupted() -> io::Error {
    io::Error::other(ReadInterrupted)
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("channels", &self.receiver.channels()).finish_non_exhaustive()
    }
}

/// Ends a blocked read of a [`Reader`] from another thread: how a control channel wakes an
/// `input()`. It does not keep the connection open.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// use std::io::BufRead;
///
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let mut stdin = there.receiver(ChannelId::new(0))?.reader();
/// let interrupter = stdin.interrupter();
/// std::thread::spawn(move || interrupter.interrupt());
/// let error = stdin.read_line(&mut String::new()).unwrap_err();
/// assert!(trunkline::is_read_interrupted(&error));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Interrupter {
    shared: Weak<Shared>,
    number: u8,
    serial: u64,
}

impl Interrupter {
    /// Ends the read that the reader is blocked in, or else the next one that would block, with
    /// [`ReadInterrupted`]. Nothing that was sent is lost.
    pub fn interrupt(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.inbox.interrupt(self.number, self.serial);
        }
    }
}

impl fmt::Debug for Interrupter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupter")
    }
}
