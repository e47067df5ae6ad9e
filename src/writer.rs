//! A channel as a stream of bytes to write to.

use std::fmt;
use std::io::{self, Write};

use crate::error::Interrupted;
use crate::patience;
use crate::queue::send::Unsent;
use crate::queue::until::Until;
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
}

impl Sender {
    /// Turns the sender into a [`Write`] that sends on this channel.
    #[must_use]
    pub fn into_writer(self) -> Writer {
        Writer { sender: self, line: Vec::new(), by_line: true }
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

    /// How long a write may wait: in a panic nothing may for ever.
    fn patience(&self) -> Until {
        if std::thread::panicking() { Until::after(self.sender.linger()) } else { Until::Forever }
    }

    /// Sends a message that is no larger than the peer takes.
    fn send(&self, message: &[u8], until: Until) -> io::Result<()> {
        self.sender.offer_ahead(message, until).map_err(|unsent| match unsent {
            Unsent::NoRoom => io::ErrorKind::TimedOut.into(),
            Unsent::Interrupted => io::Error::other(Interrupted),
            Unsent::TooLarge(_) => {
                io::Error::new(io::ErrorKind::InvalidInput, "the peer takes no messages on this connection")
            }
            other => crate::error::Disconnect::from(other).into(),
        })
    }

    /// The largest message to make.
    fn largest(&self) -> usize {
        LARGEST.min(self.sender.max_message() as usize).max(1)
    }

    /// Sends what was gathered; what could not be sent is kept.
    fn send_line(&mut self, until: Until) -> io::Result<()> {
        let mut line = std::mem::take(&mut self.line);
        let result = self.send_gathered(&mut line, until);
        self.line = line;
        result
    }

    fn send_gathered(&self, line: &mut Vec<u8>, until: Until) -> io::Result<()> {
        let largest = self.largest();
        let mut sent = 0;
        let mut result = Ok(());
        while sent < line.len() && result.is_ok() {
            let end = line.len().min(sent + largest);
            result = self.send(&line[sent..end], until);
            if result.is_ok() {
                sent = end;
            }
        }
        line.drain(..sent);
        result
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let until = self.patience();
        let bytes = &bytes[..bytes.len().min(self.largest())];
        if !self.by_line && self.line.is_empty() {
            if !bytes.is_empty() {
                self.send(bytes, until)?;
            }
            return Ok(bytes.len());
        }
        let end_of_line = bytes.iter().rposition(|&byte| byte == b'\n');
        let whole = if self.by_line { end_of_line.map_or(0, |at| at + 1) } else { bytes.len() };
        if whole > 0 && self.line.is_empty() {
            self.send(&bytes[..whole], until)?;
            return Ok(whole);
        }
        if !self.line.is_empty() && self.line.len() + bytes.len() > GATHER {
            self.send_line(until)?;
        }
        if whole == 0 {
            self.line.extend_from_slice(bytes);
            if self.line.len() >= GATHER {
                // Accepted, whether it can be sent now or not: it is kept.
                let _ = self.send_line(Until::Now);
            }
            return Ok(bytes.len());
        }
        self.line.extend_from_slice(&bytes[..whole]);
        let result = self.send_line(until);
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

    fn flush(&mut self) -> io::Result<()> {
        self.send_line(self.patience())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.line.is_empty() || self.sender.shared().is_forked() {
            return;
        }
        let mut line = std::mem::take(&mut self.line);
        // No caller is left to hear of an error; `flush` is for those that want to.
        patience::spend(self.sender.shared(), self.sender.linger(), |allowed| {
            let sent = self.send_gathered(&mut line, Until::after(allowed));
            sent.map_or_else(|error| error.kind() != io::ErrorKind::TimedOut, |()| true)
        });
    }
}

impl fmt::Debug for Writer {
    /// Nothing of what was written and is not sent yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("channel", &self.sender.channel()).finish_non_exhaustive()
    }
}
