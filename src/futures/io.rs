//! [`AsyncRead`], [`AsyncBufRead`] and [`AsyncWrite`]: a channel as a stream of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};

use crate::reader::Reader;
use crate::writer::Writer;

/// As [`Read`](io::Read): zero bytes are the end of a run, told once. A read that an
/// [interrupter](Reader::interrupter) ends is an error of which
/// [`is_interrupted`](crate::is_interrupted) is true.
///
/// A future that reads a line by these traits holds the beginning of it, and loses that when it is
/// dropped; [`poll_read_line`](Reader::poll_read_line) takes the whole line or nothing.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// # futures_util::FutureExt::now_or_never(async {
/// use futures_util::AsyncReadExt;
///
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// # let sender = here.sender(ChannelId::new(0))?;
/// # sender.send("6 * 7")?;
/// # drop(sender);
/// # here.flush()?;
/// let mut input = there.receiver(ChannelId::new(0))?.into_reader();
/// let mut text = String::new();
/// input.read_to_string(&mut text).await?;
/// assert_eq!(text, "6 * 7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let reader = self.get_mut();
        let mut bytes = ready!(reader.poll_fill_buf(context))?;
        let read = io::Read::read(&mut bytes, buffer)?;
        io::BufRead::consume(reader, read);
        Poll::Ready(Ok(read))
    }
}

/// As [`BufRead`](io::BufRead): an empty buffer is the end of a run, told once. So a line by which the
/// end comes without a `\n` uses the end up, and a stream of lines made of this trait alone waits for
/// the next run then; [`poll_read_line`](Reader::poll_read_line) tells that line and the end one after
/// the other.
#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
impl AsyncBufRead for Reader {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        self.get_mut().poll_fill_buf(context)
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        io::BufRead::consume(self.get_mut(), amount);
    }
}

/// As [`Write`](io::Write). Closing it sends what was gathered and ends the run, as
/// [`finish`](crate::Sender::finish) does. Dropping one with the beginning of a line waits for room,
/// as a thread: a task closes or flushes it first.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// # futures_util::FutureExt::now_or_never(async {
/// use futures_util::AsyncWriteExt;
///
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let mut output = here.sender(ChannelId::new(1))?.into_writer();
/// output.write_all(b"a line\nand a half").await?;
/// output.close().await?;
/// assert_eq!(&*there.receiver(ChannelId::new(1))?.recv()?, b"a line\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writer = self.get_mut();
        ready!(writer.poll_flush(context))?;
        Poll::Ready(writer.sender().finish().map_err(io::Error::from))
    }
}
