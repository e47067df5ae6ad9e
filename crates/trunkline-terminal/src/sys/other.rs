//! The standard streams where there is no `poll(2)`: a thread reads, and writes wait.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::task::Wake;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, never};

use super::Read;

/// Wakes [`wait`] from another thread.
pub(crate) struct Bell {
    ring: Sender<()>,
    rung: Receiver<()>,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let (ring, rung) = bounded(1);
        Ok(Arc::new(Self { ring, rung }))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // One that has rung already rings.
        let _ = self.ring.try_send(());
    }
}

/// The standard input, read by a thread of its own.
pub(crate) struct Source {
    chunks: Receiver<io::Result<Vec<u8>>>,
    held: Vec<u8>,
}

impl Source {
    pub(crate) fn stdin() -> io::Result<Self> {
        let (sender, chunks) = bounded(4);
        thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let read = io::stdin().lock().read(&mut buffer).map(|read| buffer[..read].to_vec());
                let last = !matches!(&read, Ok(chunk) if !chunk.is_empty());
                if sender.send(read).is_err() || last {
                    return;
                }
            }
        })?;
        Ok(Self { chunks, held: Vec::new() })
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        if self.held.is_empty() {
            match self.chunks.try_recv() {
                Ok(chunk) => self.held = chunk?,
                Err(error) if error.is_empty() => return Ok(Read::Nothing),
                Err(_) => return Ok(Read::End),
            }
        }
        let count = self.held.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.held[..count]);
        self.held.drain(..count);
        Ok(if count == 0 { Read::End } else { Read::Bytes(count) })
    }
}

/// A standard stream for output. A write waits.
pub(crate) struct Sink {
    stderr: bool,
    pending: Vec<u8>,
}

impl Sink {
    pub(crate) fn stdout() -> io::Result<Self> {
        Ok(Self { stderr: false, pending: Vec::new() })
    }

    pub(crate) fn stderr(_patient: bool) -> io::Result<Self> {
        Ok(Self { stderr: true, pending: Vec::new() })
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        let pending = std::mem::take(&mut self.pending);
        if self.stderr {
            let mut to = io::stderr().lock();
            to.write_all(&pending).and_then(|()| to.flush())?;
        } else {
            let mut to = io::stdout().lock();
            to.write_all(&pending).and_then(|()| to.flush())?;
        }
        Ok(true)
    }
}

/// There are no signals.
pub(crate) struct Signals(());

impl Signals {
    pub(crate) fn take() -> io::Result<Self> {
        Ok(Self(()))
    }

    pub(crate) fn pending(&self) -> Vec<i32> {
        Vec::new()
    }
}

/// As on Unix.
pub(crate) fn wait(
    bell: &Bell,
    _signals: Option<&Signals>,
    source: Option<&Source>,
    _sinks: &[&Sink],
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let Some(source) = source else {
        match deadline {
            Some(deadline) => drop(bell.rung.recv_deadline(deadline)),
            None => drop(bell.rung.recv()),
        }
        return Ok(false);
    };
    if !source.held.is_empty() || !source.chunks.is_empty() {
        return Ok(true);
    }
    // There is no way to wait for a chunk without taking it, so a chunk is waited for by its place.
    let timeout = deadline.map_or_else(never, crossbeam_channel::at);
    let mut select = crossbeam_channel::Select::new();
    let input = select.recv(&source.chunks);
    select.recv(&bell.rung);
    select.recv(&timeout);
    let ready = select.ready();
    let _ = bell.rung.try_recv();
    Ok(ready == input)
}
