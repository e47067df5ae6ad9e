//! A channel as a stream of bytes to write to.

use std::fmt;
use std::io::{self, Write};
use std::task::{Context, Poll, Waker};

use crate::error::Interrupted;
use crate::patience;
use crate::queue::send::Unsent;
use crate::queue::until::{Until, runs_loop};
use crate::sender::Sender;

/// How much is gathered of a line before it is sent without its end.
const GATHER: usize = 16 * 1024;
/// The largest message that a writer makes, if the peer takes it.
const LARGEST: usize = 64 * 1024;

/// A [`Write`] that sends what is written on a channel, as standard output would go to a terminal.
///
/// Whole lines go at once. The rest goes at `flush`, when 16 KiB have gathered, or on drop. So `print!`,
/// which makes several writes of a line, makes one message of it. A message is 64 KiB at most, or less if
/// the peer takes less; what is larger goes in pieces.
///
/// A write waits while the peer has not taken enough of what was written: what there is no room for
/// now is kept with the channel, up to 64 KiB or 64 messages, and follows by itself; above that a write
/// waits. Dropping a writer, and whatever is written while the thread panics, waits at most
/// [`Config::linger`](crate::Config::linger). A [`BufWriter`](std::io::BufWriter) around it makes a
/// usual write when it is dropped. A drop reports no error; `flush`
/// does.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// use std::io::Write;
///
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let mut stdout = here.sender(ChannelId::new(1))?.into_writer();
/// writeln!(stdout, "{} times {} is {}", 6, 7, 42)?;
/// assert_eq!(&*there.receiver(ChannelId::new(1))?.recv()?, b"6 times 7 is 42\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Writer {
    sender: Sender,
    /// The beginning of a line.
    line: Vec<u8>,
    /// Beginnings of lines wait for their end.
    by_line: bool,
    /// The number with which its task waits, once one has.
    number: Option<u64>,
}

/// How a write waits for room: as a thread, or as a task that is woken.
#[derive(Clone, Copy)]
enum Wait<'a> {
    Thread(Until),
    Task { number: u64, waker: &'a Waker },
}

/// Why something was not written.
enum Unwritten {
    /// There is no room, not in time either; a task is woken when there may be.
    NoRoom,
    Failed(io::Error),
}

impl From<Unwritten> for io::Error {
    fn from(why: Unwritten) -> Self {
        match why {
            Unwritten::NoRoom => io::ErrorKind::TimedOut.into(),
            Unwritten::Failed(error) => error,
        }
    }
}

fn poll<T>(result: Result<T, Unwritten>) -> Poll<io::Result<T>> {
    match result {
        Ok(done) => Poll::Ready(Ok(done)),
        Err(Unwritten::NoRoom) => Poll::Pending,
        Err(Unwritten::Failed(error)) => Poll::Ready(Err(error)),
    }
}

impl Sender {
    /// Turns the sender into a [`Write`] that sends on this channel.
    #[must_use]
    pub fn into_writer(self) -> Writer {
        Writer { sender: self, line: Vec::new(), by_line: true, number: None }
    }

    /// Returns a [`Write`] that sends on this channel, beside this sender.
    #[must_use]
    pub fn writer(&self) -> Writer {
        self.clone().into_writer()
    }
}

impl Writer {
    /// Makes each write a message of its own at once, whole line or not: for output of another program,
    /// which is passed on as it comes, prompts included.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let mut program_output = &b"your name? "[..];
    /// let mut stdout = here.sender(ChannelId::new(1))?.into_writer().unbuffered();
    /// std::io::copy(&mut program_output, &mut stdout)?;
    /// assert_eq!(&*there.receiver(ChannelId::new(1))?.recv()?, b"your name? ");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn unbuffered(mut self) -> Self {
        self.by_line = false;
        self
    }

    /// Returns the sender that it writes to.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Writes as [`write`](Write::write) does; if there is no room, the task is woken when there may be.
    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wait = self.as_task(context.waker());
        poll(self.write_some(bytes, wait))
    }

    /// Sends what was gathered, as [`flush`](Write::flush) does; if there is no room, the task is woken
    /// when there may be.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wait = self.as_task(context.waker());
        poll(self.send_line(wait))
    }

    fn as_task<'a>(&mut self, waker: &'a Waker) -> Wait<'a> {
        let number = *self.number.get_or_insert_with(|| self.sender.task_number());
        Wait::Task { number, waker }
    }

    /// How long a write may wait: in a panic nothing may for ever.
    fn patience(&self) -> Wait<'static> {
        let panics = std::thread::panicking();
        Wait::Thread(if panics { Until::after(self.sender.linger()) } else { Until::Forever })
    }

    /// Sends a message that is no larger than the peer takes.
    fn send(&self, message: &[u8], wait: Wait<'_>) -> Result<(), Unwritten> {
        let sent = match wait {
            Wait::Thread(until) => self.sender.offer_ahead(message, until),
            Wait::Task { number, waker } => match self.sender.poll_ahead(message, number, waker) {
                Poll::Ready(sent) => sent,
                Poll::Pending => Err(Unsent::NoRoom),
            },
        };
        sent.map_err(|unsent| match unsent {
            Unsent::NoRoom => Unwritten::NoRoom,
            Unsent::Interrupted => Unwritten::Failed(io::Error::other(Interrupted)),
            Unsent::TooLarge(_) => Unwritten::Failed(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the peer takes no messages on this connection",
            )),
            other => Unwritten::Failed(crate::error::Disconnect::from(other).into()),
        })
    }

    /// The largest message to make.
    fn largest(&self) -> usize {
        LARGEST.min(self.sender.max_message() as usize).max(1)
    }

    /// Sends what was gathered; what could not be sent is kept.
    fn send_line(&mut self, wait: Wait<'_>) -> Result<(), Unwritten> {
        let mut line = std::mem::take(&mut self.line);
        let result = self.send_gathered(&mut line, wait);
        self.line = line;
        result
    }

    fn send_gathered(&self, line: &mut Vec<u8>, wait: Wait<'_>) -> Result<(), Unwritten> {
        let largest = self.largest();
        let mut sent = 0;
        let mut result = Ok(());
        while sent < line.len() && result.is_ok() {
            let end = line.len().min(sent + largest);
            result = self.send(&line[sent..end], wait);
            if result.is_ok() {
                sent = end;
            }
        }
        line.drain(..sent);
        result
    }

    fn write_some(&mut self, bytes: &[u8], wait: Wait<'_>) -> Result<usize, Unwritten> {
        let bytes = &bytes[..bytes.len().min(self.largest())];
        if !self.by_line && self.line.is_empty() {
            if !bytes.is_empty() {
                self.send(bytes, wait)?;
            }
            return Ok(bytes.len());
        }
        let end_of_line = bytes.iter().rposition(|&byte| byte == b'\n');
        let whole = if self.by_line { end_of_line.map_or(0, |at| at + 1) } else { bytes.len() };
        if whole > 0 && self.line.is_empty() {
            self.send(&bytes[..whole], wait)?;
            return Ok(whole);
        }
        if !self.line.is_empty() && self.line.len() + bytes.len() > GATHER {
            self.send_line(wait)?;
        }
        if whole == 0 {
            self.line.extend_from_slice(bytes);
            if self.line.len() >= GATHER {
                // Accepted, whether it can be sent now or not: it is kept.
                let _ = self.send_line(Wait::Thread(Until::Now));
            }
            return Ok(bytes.len());
        }
        self.line.extend_from_slice(&bytes[..whole]);
        let result = self.send_line(wait);
        match result {
            Ok(()) => Ok(whole),
            Err(error) => {
                // What is left of these bytes was not written, so it is not kept either.
                let left = self.line.len();
                let unwritten = left.min(whole);
                self.line.truncate(left - unwritten);
                let written = whole - unwritten;
                if written > 0 { Ok(written) } else { Err(error) }
            }
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.write_some(bytes, self.patience())?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.send_line(self.patience())?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.sender.forget_task(number);
        }
        if self.line.is_empty() || self.sender.shared().is_forked() {
            return;
        }
        let mut line = std::mem::take(&mut self.line);
        // No caller is left to hear of an error; `flush` is for those that want to. The thread that runs
        // the I/O loop would wait for itself.
        if runs_loop() {
            let _ = self.send_gathered(&mut line, Wait::Thread(Until::Now));
            return;
        }
        patience::spend(self.sender.shared(), self.sender.linger(), |allowed| {
            let sent = self.send_gathered(&mut line, Wait::Thread(Until::after(allowed)));
            !matches!(sent, Err(Unwritten::NoRoom))
        });
    }
}

impl fmt::Debug for Writer {
    /// Nothing of what was written and is not sent yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("channel", &self.sender.channel()).finish_non_exhaustive()
    }
}
