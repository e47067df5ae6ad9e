//! A channel as a stream of bytes to read from, as from standard input.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{Interrupted, RecvError, is_interrupted};
use crate::interrupter::Interrupter;
use crate::queue::until::Until;
use crate::receiver::{No, Receiver, Wait};

mod stream;
#[cfg(all(test, not(trunkline_loom)))]
mod tests;

use stream::{Front, LineEnd, Stream};

/// The longest line that is gathered before its end has come.
const LONGEST_LINE: usize = 16 << 20;

/// A channel as a stream of bytes: the stand-in for standard input.
///
/// Message boundaries make no difference. The calls of [`Read`] and [`BufRead`] wait for what they need, so
/// `read_line` can serve an `input()` that the program calls. [`try_read_line`](Reader::try_read_line)
/// never waits, so the loop around it can do other things.
///
/// The end of each of the peer's runs is told exactly once, at its place, as a terminal tells the end of
/// its input: a read returns `Ok(0)`, and the next read waits for the next run. `Ok(0)` means that the peer
/// has finished. Every other end is an error, and so is a gap, where the peer left something out.
///
/// A call that does not get what it needs, because its time is over or it was
/// [interrupted](Reader::interrupter), takes nothing: what has come is there for the next call. A line may
/// have up to 16 MiB.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// use std::io::BufRead;
///
/// const STDIN: ChannelId = ChannelId::new(0);
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let mut stdin = there.receiver(STDIN)?.into_reader();
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
    stream: RefCell<Stream>,
}

/// What a reader was given by its source.
pub(crate) enum Fetched {
    /// Something was appended to the stream.
    Some,
    /// Nothing came in time.
    Nothing,
    /// There is nothing, and there will not be in this call.
    Failed(io::Error),
}

impl Receiver {
    /// Turns the receiver into a stream of bytes to read from.
    #[must_use]
    pub fn into_reader(self) -> Reader {
        Reader { receiver: self, stream: RefCell::default() }
    }
}

impl Reader {
    /// Appends what comes next to the stream.
    fn fetch(receiver: &Receiver, stream: &mut Stream, until: Until) -> Fetched {
        append(stream, receiver.next_for_reader(&Wait::Thread(until)))
    }

    /// Returns the next line with its `\n` if all of it is there, and `None` if not; never waits. The last
    /// line of a finished run may have no `\n`.
    ///
    /// # Errors
    ///
    /// - [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) at the end of a run, once.
    /// - [`InvalidData`](io::ErrorKind::InvalidData) for a line that is not UTF-8, or of more than 16 MiB
    ///   without an end. It stays, to be read as bytes.
    /// - Otherwise what ended the run or the connection. If a reset or a gap cuts a line, the error comes
    ///   first, and the bytes stay to be read as bytes; the next call that reads a line drops them.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key};
    /// use std::io::ErrorKind;
    ///
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let mut commands = there.receiver(ChannelId::new(0))?.into_reader();
    /// let sender = here.sender(ChannelId::new(0))?;
    /// sender.send("run\nhal")?;
    /// here.flush()?;
    /// assert_eq!(commands.try_read_line()?.as_deref(), Some("run\n"));
    /// assert_eq!(commands.try_read_line()?, None); // half a line
    /// sender.send("t")?;
    /// sender.finish()?;
    /// here.flush()?;
    /// assert_eq!(commands.try_read_line()?.as_deref(), Some("halt"));
    /// assert_eq!(commands.try_read_line().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    /// assert_eq!(commands.try_read_line()?, None); // the next run may come
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_read_line(&mut self) -> io::Result<Option<String>> {
        self.line(Wait::Thread(Until::Now))
    }

    /// Returns the next line, and waits for its end no longer than `timeout`; `None` if it did not come in
    /// time.
    ///
    /// # Errors
    ///
    /// As [`try_read_line`](Reader::try_read_line); and [`Interrupted`] if an [`Interrupter`] ended the
    /// wait.
    pub fn read_line_timeout(&mut self, timeout: Duration) -> io::Result<Option<String>> {
        self.line(Wait::Thread(Until::after(timeout)))
    }

    fn line(&mut self, wait: Wait<'_>) -> io::Result<Option<String>> {
        let receiver = &self.receiver;
        let stream = self.stream.get_mut();
        let line = take_line(stream, b'\n', |stream| append(stream, receiver.next_for_reader(&wait)));
        let line = line.and_then(|line| match line {
            Line::Whole(bytes) => text(stream, bytes).map(Some),
            Line::End => Err(RecvError::Finished.into()),
            Line::None => Ok(None),
        });
        // A select finds what is left, but is not called for a line that is not whole.
        match line {
            Ok(None) => {}
            Ok(Some(_)) => self.rearm(),
            Err(error) => return self.failed(error),
        }
        line
    }

    /// Returns `true` exactly if a read would not wait: bytes are there, or an end, or the connection
    /// is over, or an interrupt that no read has seen. An empty message is none of these, nor is the end
    /// of one of several channels.
    #[must_use]
    pub fn pending(&self) -> bool {
        !matches!(self.stream.borrow_mut().front(), Front::Nothing) || self.receiver.has_bytes_or_end()
    }

    /// Returns a crossbeam channel to `select!` on. It has a token while a read would not wait, and is
    /// disconnected when the connection is over. After it fires, call
    /// [`try_read_line`](Reader::try_read_line). If that returns `None`, only a part of a line is there,
    /// and a token comes when there is more.
    #[must_use]
    pub fn ready(&self) -> crossbeam_channel::Receiver<()> {
        let ready = self.receiver.ready();
        self.receiver.rearm(!matches!(self.stream.borrow_mut().front(), Front::Nothing));
        ready
    }

    /// Sets whether the peer is told when a read of this reader waits with nothing to read, and when it no
    /// longer does (the protocol's WAITING). So a console knows that the program asks for input. Off at
    /// first.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Event, Key};
    /// use std::io::BufRead;
    ///
    /// const STDIN: ChannelId = ChannelId::new(0);
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let mut stdin = there.receiver(STDIN)?.into_reader();
    /// stdin.announce_waiting(true);
    /// let events = here.events();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| stdin.read_line(&mut String::new()));
    ///     let waits = Event::Waiting { channel: STDIN, waiting: true, taken: 0 };
    ///     assert_eq!(events.recv().unwrap(), waits);
    ///     here.sender(STDIN).unwrap().send("an answer\n").unwrap();
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn announce_waiting(&mut self, announce: bool) {
        let shared = &self.receiver.handle().shared;
        if !shared.is_forked() {
            shared.receive.set_announce(self.receiver.claim(), announce);
        }
    }

    /// Returns a value that ends a blocked read of this reader from another thread.
    #[must_use]
    pub fn interrupter(&self) -> Interrupter {
        self.receiver.interrupter()
    }

    /// Forgets an interrupt that no read has returned yet.
    pub fn clear_interrupt(&mut self) {
        self.receiver.clear_interrupt();
    }

    /// Returns the receiver that it reads from. What is taken from it does not reach the reader.
    #[must_use]
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Returns the bytes that come next, as [`fill_buf`](BufRead::fill_buf) does; if there are none, the
    /// task is woken when there are. No bytes are the end of a run.
    pub fn poll_fill_buf(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let receiver = &self.receiver;
        let wait = Wait::Task(context.waker());
        let filled = fill(self.stream.get_mut(), |stream| append(stream, receiver.next_for_reader(&wait)));
        match filled {
            Ok(Filled::Nothing) => Poll::Pending,
            Ok(Filled::End) => {
                self.rearm();
                Poll::Ready(Ok(&[]))
            }
            Ok(Filled::Bytes) => Poll::Ready(Ok(self.stream.get_mut().bytes())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Waits for a whole line; how long it is. 0: the end of the run, which is told now.
    fn whole_line(&mut self, delimiter: u8) -> io::Result<usize> {
        let receiver = &self.receiver;
        let stream = self.stream.get_mut();
        loop {
            match take_line(stream, delimiter, |stream| Self::fetch(receiver, stream, Until::Forever)) {
                Ok(Line::Whole(bytes)) => return Ok(bytes),
                Ok(Line::End) => {
                    self.rearm();
                    return Ok(0);
                }
                Ok(Line::None) => {}
                Err(error) => return self.failed(error),
            }
        }
    }

    /// Waits for the end of a run; how many bytes stand before it.
    fn whole_run(&mut self) -> io::Result<usize> {
        let receiver = &self.receiver;
        let stream = self.stream.get_mut();
        loop {
            let run = take_run(stream, |stream| Self::fetch(receiver, stream, Until::Forever))?;
            if let Some(run) = run {
                return Ok(run);
            }
        }
    }

    /// The bytes of a run were given out: tells its end, unless that was told before.
    fn end_run(&mut self, bytes: usize) -> io::Result<usize> {
        let end = end_run(self.stream.get_mut(), bytes);
        self.rearm();
        end.map(|()| bytes)
    }

    /// Lets a select find what is left.
    fn rearm(&mut self) {
        let something = !matches!(self.stream.get_mut().front(), Front::Nothing);
        self.receiver.rearm(something);
    }

    /// A call failed. One that was interrupted is called again, and needs no select for what is there.
    fn failed<T>(&mut self, error: io::Error) -> io::Result<T> {
        if !is_interrupted(&error) {
            self.rearm();
        }
        Err(error)
    }

    /// The next line with its `\n`, for an executor: the whole line or nothing of it, so a task that
    /// gives up loses nothing.
    ///
    /// # Errors
    ///
    /// As [`try_read_line`](Reader::try_read_line); and as [`Interrupter::interrupt`] says.
    pub fn poll_read_line(&mut self, context: &mut Context<'_>) -> Poll<io::Result<String>> {
        match self.line(Wait::Task(context.waker())) {
            Ok(Some(line)) => Poll::Ready(Ok(line)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Appends the next bytes up to and with the delimiter, for an executor: all of them or none, so a task
    /// that gives up loses nothing. Returns how many that was; 0 is the end of a run. The last bytes of a
    /// finished run may have no delimiter.
    ///
    /// # Errors
    ///
    /// As [`read_until`](BufRead::read_until): what ended the run or the connection;
    /// [`InvalidData`](io::ErrorKind::InvalidData) for more than 16 MiB without a delimiter, which stay to be
    /// read in pieces; and as [`Interrupter::interrupt`] says.
    pub fn poll_read_until(
        &mut self,
        context: &mut Context<'_>,
        delimiter: u8,
        bytes: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let receiver = &self.receiver;
        let wait = Wait::Task(context.waker());
        let stream = self.stream.get_mut();
        match take_line(stream, delimiter, |stream| append(stream, receiver.next_for_reader(&wait))) {
            Ok(Line::Whole(line)) => {
                bytes.extend(self.stream.get_mut().copy(line));
                self.consume(line);
                Poll::Ready(Ok(line))
            }
            Ok(Line::End) => {
                self.rearm();
                Poll::Ready(Ok(0))
            }
            Ok(Line::None) => Poll::Pending,
            Err(error) => Poll::Ready(self.failed(error)),
        }
    }

    fn wait_for_bytes(&mut self) -> io::Result<Filled> {
        let receiver = &self.receiver;
        fill(self.stream.get_mut(), |stream| Self::fetch(receiver, stream, Until::Forever))
    }
}

/// Appends what a receiver gave.
fn append(stream: &mut Stream, next: Result<Result<crate::message::Message, RecvError>, No>) -> Fetched {
    match next {
        Ok(Ok(message)) => stream.push(message),
        Ok(Err(RecvError::ConnectionLost(cause))) | Err(No::Lost(cause)) => {
            return Fetched::Failed(cause.into());
        }
        Ok(Err(why)) => stream.push_break(why),
        Err(No::Empty) => return Fetched::Nothing,
        Err(No::Interrupted) => return Fetched::Failed(interrupted()),
    }
    Fetched::Some
}

/// What a read finds.
enum Filled {
    Bytes,
    /// The end of a run, which is told now.
    End,
    /// Nothing, for now.
    Nothing,
}

/// Makes sure that there is something at the front of the stream.
fn fill(stream: &mut Stream, mut fetch: impl FnMut(&mut Stream) -> Fetched) -> io::Result<Filled> {
    loop {
        match stream.front() {
            Front::Bytes => return Ok(Filled::Bytes),
            Front::Break => {
                return match stream.take_break() {
                    Some(RecvError::Finished) | None => Ok(Filled::End),
                    Some(why) => Err(why.into()),
                };
            }
            Front::Nothing => match fetch(stream) {
                Fetched::Some => {}
                Fetched::Nothing => return Ok(Filled::Nothing),
                Fetched::Failed(error) => return Err(error),
            },
        }
    }
}

/// A line, whose bytes are still in the stream.
enum Line {
    /// So many bytes.
    Whole(usize),
    /// The end of a run, which is told now.
    End,
    /// There is no whole line, for now.
    None,
}

/// Makes sure that there is a whole line at the front of the stream.
fn take_line(
    stream: &mut Stream,
    delimiter: u8,
    mut fetch: impl FnMut(&mut Stream) -> Fetched,
) -> io::Result<Line> {
    loop {
        match stream.find_line(delimiter) {
            LineEnd::Delimiter(bytes) | LineEnd::Finish(bytes) => return Ok(Line::Whole(bytes)),
            LineEnd::Cut(before) => match stream.cut_line(before) {
                Some(RecvError::Finished) => return Ok(Line::End),
                Some(why) => return Err(why.into()),
                None => {}
            },
            LineEnd::Open(bytes) if bytes > LONGEST_LINE => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line of more than 16 MiB; read it in pieces, as bytes",
                ));
            }
            LineEnd::Open(_) => match fetch(stream) {
                Fetched::Some => {}
                Fetched::Nothing => return Ok(Line::None),
                Fetched::Failed(error) => return Err(error),
            },
        }
    }
}

/// Makes sure that so many bytes are at the front of the stream; `false`: they are not, for now.
fn take_exact(
    stream: &mut Stream,
    amount: usize,
    mut fetch: impl FnMut(&mut Stream) -> Fetched,
) -> io::Result<bool> {
    loop {
        let (bytes, is_broken) = stream.run();
        if bytes >= amount {
            return Ok(true);
        }
        if is_broken {
            // The end is told here; what stands before it stays.
            if let Some(why) = stream.cut_line(bytes) {
                return Err(why.into());
            }
            continue;
        }
        match fetch(stream) {
            Fetched::Some => {}
            Fetched::Nothing => return Ok(false),
            Fetched::Failed(error) => return Err(error),
        }
    }
}

/// Makes sure that a run is there to its end; how many bytes it has left. `None`: it is not, for now.
fn take_run(stream: &mut Stream, mut fetch: impl FnMut(&mut Stream) -> Fetched) -> io::Result<Option<usize>> {
    loop {
        // An end that was told is over once no bytes are left before it.
        stream.front();
        let (bytes, is_broken) = stream.run();
        if is_broken {
            return Ok(Some(bytes));
        }
        match fetch(stream) {
            Fetched::Some => {}
            Fetched::Nothing => return Ok(None),
            Fetched::Failed(error) => return Err(error),
        }
    }
}

/// Takes what [`take_run`] has found, and tells the end, unless that was told before.
fn end_run(stream: &mut Stream, bytes: usize) -> io::Result<()> {
    stream.consume(bytes);
    match stream.cut_line(0) {
        Some(RecvError::Finished) | None => Ok(()),
        Some(why) => Err(why.into()),
    }
}

/// Takes bytes that are text out of the stream; if they are not, they stay.
fn text(stream: &mut Stream, bytes: usize) -> io::Result<String> {
    let text = String::from_utf8(stream.copy(bytes)).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, "a line that is not UTF-8; read it as bytes")
    })?;
    stream.consume(bytes);
    Ok(text)
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

    /// Takes all of the bytes or none.
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let receiver = &self.receiver;
        let stream = self.stream.get_mut();
        loop {
            match take_exact(stream, buffer.len(), |stream| Self::fetch(receiver, stream, Until::Forever)) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => return self.failed(error),
            }
        }
        stream.copy_to(buffer);
        self.consume(buffer.len());
        Ok(())
    }

    /// Takes the whole run, or nothing of it if it is interrupted; of a run that a lost connection ends
    /// all that there is.
    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let run = match self.whole_run() {
            Ok(run) => run,
            Err(error) => {
                if !is_interrupted(&error) {
                    let (left, _) = self.stream.get_mut().run();
                    bytes.extend(self.stream.get_mut().copy(left));
                    self.consume(left);
                }
                return Err(error);
            }
        };
        bytes.extend(self.stream.get_mut().copy(run));
        self.end_run(run)
    }

    /// Takes the whole run or nothing of it.
    fn read_to_string(&mut self, text: &mut String) -> io::Result<usize> {
        let run = self.whole_run()?;
        let Ok(whole) = String::from_utf8(self.stream.get_mut().copy(run)) else {
            let error = "what was sent is not UTF-8; read it as bytes";
            return self.failed(io::Error::new(io::ErrorKind::InvalidData, error));
        };
        text.push_str(&whole);
        self.end_run(run)
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        loop {
            match self.wait_for_bytes()? {
                Filled::Bytes => return Ok(self.stream.get_mut().bytes()),
                Filled::End => {
                    self.rearm();
                    return Ok(&[]);
                }
                Filled::Nothing => {}
            }
        }
    }

    fn consume(&mut self, amount: usize) {
        self.stream.get_mut().consume(amount);
        self.rearm();
    }

    /// Takes the whole line or nothing of it.
    fn read_line(&mut self, line: &mut String) -> io::Result<usize> {
        match self.line(Wait::Thread(Until::Forever)) {
            Ok(Some(read)) => {
                line.push_str(&read);
                Ok(read.len())
            }
            Ok(None) => Ok(0),
            Err(error) if is_finish(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Takes everything up to the delimiter or nothing of it.
    fn read_until(&mut self, delimiter: u8, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let line = self.whole_line(delimiter)?;
        bytes.extend(self.stream.get_mut().copy(line));
        self.consume(line);
        Ok(line)
    }

    /// Drops everything up to the delimiter or nothing of it.
    fn skip_until(&mut self, delimiter: u8) -> io::Result<usize> {
        let line = self.whole_line(delimiter)?;
        self.consume(line);
        Ok(line)
    }
}

fn is_finish(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<RecvError>());
    inner == Some(&RecvError::Finished)
}

fn interrupted() -> io::Error {
    io::Error::other(Interrupted)
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("channels", &self.receiver.channels()).finish_non_exhaustive()
    }
}
