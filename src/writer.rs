//! A channel to write to.

use std::io::{self, Write};

use crate::sender::Sender;

/// How much is gathered of a line before it is sent without its end.
const GATHER: usize = 16 * 1024;
/// The largest message that one write makes.
const LARGEST: usize = 64 * 1024;

/// A [`Write`] that sends what is written on a channel, as standard output would go to a terminal:
/// by whole lines, and the rest at `flush`, or when 16 KiB have gathered, or on drop.
///
/// `print!` makes several writes of a line; this makes one message of them.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// use std::io::Write;
///
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let mut stdout = here.sender(ChannelId::new(1))?.writer();
/// writeln!(stdout, "{} times {} is {}", 6, 7, 42)?;
/// assert_eq!(&*there.receiver(ChannelId::new(1))?.recv()?, b"6 times 7 is 42\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer {
    sender: Sender,
    line: Vec<u8>,
}

impl Sender {
    /// A [`std::io::Write`] that sends on this channel.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer::new(self.clone())
    }
}

impl Writer {
    fn new(sender: Sender) -> Self {
        Self { sender, line: Vec::new() }
    }

    /// The sender that it writes to.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    fn send_line(&mut self) -> io::Result<()> {
        if !self.line.is_empty() {
            self.sender.send(&self.line).map_err(io::Error::from)?;
            self.line.clear();
        }
        Ok(())
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(LARGEST)];
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if whole > 0 && self.line.is_empty() {
            self.sender.send(&bytes[..whole]).map_err(io::Error::from)?;
            return Ok(whole);
        }
        if whole > 0 {
            let before = self.line.len();
            self.line.extend_from_slice(&bytes[..whole]);
            if let Err(error) = self.send_line() {
                // Not written, so not kept either.
                self.line.truncate(before);
                return Err(error);
            }
            return Ok(whole);
        }
        if self.line.len() + bytes.len() > GATHER {
            self.send_line()?;
        }
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_line()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nobody is left to hear of an error; `flush` is for those who want to.
        let _ = self.send_line();
    }
}
