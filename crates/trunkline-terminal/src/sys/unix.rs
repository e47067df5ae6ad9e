//! The standard streams by `poll(2)`. Each may be blocking or not; another process may change that at any
//! time, since the flag belongs to all that share the stream.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Wake;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Read, Signals};

/// So many bytes fit into a pipe that `poll` calls writable.
const PIPE_BUF: usize = 4096;
/// A write to a stream that may block takes so many bytes at most.
const CHUNK: usize = 64 * 1024;

/// Wakes [`wait`] from another thread.
pub(crate) struct Bell {
    read: OwnedFd,
    write: OwnedFd,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let (read, write) = io::pipe()?;
        rustix::io::ioctl_fionbio(&read, true)?;
        rustix::io::ioctl_fionbio(&write, true)?;
        Ok(Arc::new(Self { read: read.into(), write: write.into() }))
    }

    /// What rang so far is taken as heard.
    fn clear(&self) {
        let mut buffer = [0; 64];
        while let Ok(1..) = rustix::io::read(&self.read, &mut buffer) {}
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A pipe that is full rings already.
        let _ = rustix::io::write(&self.write, &[0]);
    }
}

/// Where input comes from.
pub(crate) struct Source {
    fd: OwnedFd,
}

impl Source {
    pub(crate) fn stdin() -> io::Result<Self> {
        Ok(Self { fd: rustix::stdio::stdin().try_clone_to_owned()? })
    }

    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Returns `true` if a read finds something now.
    pub(crate) fn has_more(&self) -> bool {
        is_ready(self.fd.as_fd(), PollFlags::IN)
    }

    /// Reads what is there. It may block if [`wait`] did not say that something is there.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        match rustix::io::read(&self.fd, buffer) {
            Ok(0) => Ok(Read::End),
            Ok(read) => Ok(Read::Bytes(read)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Read::Nothing),
            // The other side of a pseudo-terminal is gone.
            Err(Errno::IO) if rustix::termios::isatty(&self.fd) => Ok(Read::End),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where output goes, with what it has not taken yet.
pub(crate) struct Sink {
    fd: OwnedFd,
    pending: Vec<u8>,
    written: usize,
    /// A write must not block, whatever the mode of the stream.
    patient: bool,
}

impl Sink {
    pub(crate) fn stdout() -> io::Result<Self> {
        Ok(Self::new(rustix::stdio::stdout().try_clone_to_owned()?, false))
    }

    pub(crate) fn stderr(patient: bool) -> io::Result<Self> {
        Ok(Self::new(rustix::stdio::stderr().try_clone_to_owned()?, patient))
    }

    /// If `patient`, a write takes only what is sure not to block.
    pub(crate) fn new(fd: OwnedFd, patient: bool) -> Self {
        Self { fd, pending: Vec::new(), written: 0, patient }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // A stream that always takes some and never all must not make this grow.
        if self.written >= CHUNK.min(self.pending.len() / 2 + 1) {
            self.pending.drain(..self.written);
            self.written = 0;
        }
        self.pending.extend_from_slice(bytes);
    }

    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.pending.len() - self.written
    }

    /// Writes what the stream takes now; returns `true` if nothing is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while self.written < self.pending.len() {
            let most = if self.patient { PIPE_BUF } else { CHUNK };
            let end = self.pending.len().min(self.written + most);
            if self.patient && !is_ready(self.fd.as_fd(), PollFlags::OUT) {
                return Ok(false);
            }
            match rustix::io::write(&self.fd, &self.pending[self.written..end]) {
                Ok(written) => self.written += written,
                Err(Errno::AGAIN) => return Ok(false),
                // A signal has come, which may be the end.
                Err(Errno::INTR) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        self.pending.clear();
        self.pending.shrink_to(CHUNK);
        self.written = 0;
        Ok(true)
    }
}

fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Waits until the bell has rung, a signal has come, the source has something, or a sink with something to
/// write takes it, or until the deadline. A source that is `None` is not waited for. Returns `true` if the
/// source has something.
pub(crate) fn wait(
    bell: &Bell,
    signals: Option<&Signals>,
    source: Option<&Source>,
    sinks: &[&Sink],
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let mut fds = vec![PollFd::new(&bell.read, PollFlags::IN)];
    if let Some(signals) = signals {
        fds.push(PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN));
    }
    if let Some(source) = source {
        fds.push(PollFd::new(&source.fd, PollFlags::IN));
    }
    let at = fds.len();
    for sink in sinks.iter().filter(|sink| sink.len() > 0) {
        fds.push(PollFd::new(&sink.fd, PollFlags::OUT));
    }
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| left.try_into().ok());
    match poll(&mut fds, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let something = source.is_some() && !fds[at - 1].revents().is_empty();
    bell.clear();
    Ok(something)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_is_never_empty_does_not_grow() {
        let (read, write) = io::pipe().unwrap();
        let mut sink = Sink::new(write.into(), true);
        let mut buffer = vec![0; 4096];
        sink.push(&vec![b'x'; 256 * 1024]);
        for _ in 0..4096 {
            sink.push(&[b'y'; 4096]);
            while sink.len() > 256 * 1024 {
                sink.flush().unwrap();
                rustix::io::read(&read, &mut buffer).unwrap();
            }
        }
        assert!(sink.len() > 0 && sink.pending.capacity() < 1 << 20, "{}", sink.pending.capacity());
    }

    #[test]
    fn a_patient_sink_never_blocks_on_a_pipe_that_nothing_reads() {
        let (read, write) = io::pipe().unwrap();
        let mut sink = Sink::new(write.into(), true);
        sink.push(&vec![b'x'; 1 << 20]);
        assert!(!sink.flush().unwrap());
        let left = sink.len();
        let mut got = 0;
        let mut buffer = vec![0; 1 << 16];
        while got < 1 << 20 {
            got += rustix::io::read(&read, &mut buffer).unwrap();
            sink.flush().unwrap();
        }
        assert!(left > 0 && left < 1 << 20 && sink.len() == 0);
    }
}
