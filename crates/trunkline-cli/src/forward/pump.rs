//! One TCP stream on one channel, both ways.
//!
//! An empty message says that a way has ended: half-closes pass. The run goes on, because its end says that its side is
//! done with the channel. The client ends its run when both ways have ended, or when the stream is broken; the host ends
//! its run when it has read that end, and earlier only to break the stream. So what the host reads after an end belongs to
//! the next stream, and the client begins that when it has read the host's end.
//!
//! What is broken off on one side is reset on the other, both ways: nothing that was cut looks as if it were whole.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use trunkline::{Receiver, RecvError, Sender};

/// Requests: `N` begins a stream on channel N, and `break N` says that the one there is broken, also to a host that waits for
/// its target. `may HOST:PORT` asks whether that may be reached, and is answered by `yes` or by why not.
pub const REQUESTS: u8 = 64;
/// The channels of the streams.
pub const STREAMS: std::ops::RangeInclusive<u8> = 65..=126;

/// A stream was broken off.
const BROKEN: u32 = 1;
/// What is sent at once.
const PIECE: usize = 16 * 1024;
/// How long it may take until a stream that waits hears that it is broken.
const LOOK: Duration = Duration::from_secs(1);

/// Which side this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Client,
    Host,
}

/// A stream that is carried.
pub struct Pump<'a> {
    pub side: Side,
    pub stream: TcpStream,
    pub sender: Sender,
    /// It is broken. The host hears that from elsewhere, too.
    pub broken: &'a AtomicBool,
    /// Tells the other side that it is broken.
    pub tell: &'a (dyn Fn() + Sync),
}

/// How far this side's run is.
struct Run {
    /// The stream is still read.
    sending: bool,
    /// The other way has ended.
    received: bool,
    over: bool,
}

impl Pump<'_> {
    /// Carries the stream until both sides are done with it.
    pub fn run(self, receiver: &Receiver) {
        // A key and its echo wait for no other.
        let _ = self.stream.set_nodelay(true);
        let _ = self.stream.set_read_timeout(Some(LOOK));
        let _ = self.stream.set_write_timeout(Some(LOOK));
        let run = Mutex::new(Run { sending: true, received: false, over: false });
        thread::scope(|scope| {
            let sends = || {
                let whole = self.send();
                self.sent(&run, whole);
            };
            let name = "trunkline-stream".to_owned();
            if thread::Builder::new().name(name).spawn_scoped(scope, sends).is_err() {
                self.sent(&run, false);
            }
            self.receive(receiver, &run);
        });
        let broken = self.broken.load(SeqCst);
        if !run.into_inner().over {
            let _ = if broken { self.sender.reset(BROKEN) } else { self.sender.finish() };
        }
        if broken {
            reset(self.stream);
        }
    }

    /// The stream is no longer read: it has ended, or it is broken.
    fn sent(&self, run: &Mutex<Run>, whole: bool) {
        self.broken.fetch_or(!whole, SeqCst);
        let mut run = run.lock();
        run.sending = false;
        self.settle(&mut run);
    }

    /// Ends this side's run if it is time.
    fn settle(&self, run: &mut Run) {
        if run.over {
            return;
        }
        if self.broken.load(SeqCst) {
            if run.sending {
                // It hears of it, and then it is time.
                self.sender.interrupter().interrupt();
                let _ = self.stream.shutdown(Shutdown::Read);
            } else {
                run.over = true;
                (self.tell)();
                let _ = self.sender.reset(BROKEN);
            }
        } else if self.side == Side::Client && !run.sending && run.received {
            run.over = true;
            let _ = self.sender.finish();
        }
    }

    /// Sends what the stream brings. Returns `true` at its end, and `false` if it is broken.
    fn send(&self) -> bool {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = (&self.stream).read(&mut buffer);
            if self.broken.load(SeqCst) {
                return false;
            }
            match read {
                Ok(read) => {
                    if self.sender.send(&buffer[..read]).is_err() {
                        return false;
                    }
                    if read == 0 {
                        return true;
                    }
                }
                Err(error) if is_early(&error) => {}
                Err(_) => return false,
            }
        }
    }

    /// Writes what comes, until the other side's run has ended.
    fn receive(&self, receiver: &Receiver, run: &Mutex<Run>) {
        loop {
            match receiver.recv() {
                Ok(message) if message.is_empty() => {
                    if !self.broken.load(SeqCst) {
                        let _ = self.stream.shutdown(Shutdown::Write);
                    }
                    let mut run = run.lock();
                    run.received = true;
                    self.settle(&mut run);
                }
                Ok(message) => {
                    if !self.write(&message) {
                        self.broken.store(true, SeqCst);
                        self.settle(&mut run.lock());
                    }
                }
                Err(end) => {
                    let mut run = run.lock();
                    self.broken.fetch_or(end != RecvError::Finished || !run.received, SeqCst);
                    return self.settle(&mut run);
                }
            }
        }
    }

    /// Returns `true` if all of it was written.
    fn write(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.broken.load(SeqCst) {
                return false;
            }
            match (&self.stream).write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if is_early(&error) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

/// Returns `true` if it is time to look at what else has happened.
fn is_early(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Ends a stream so that its reader hears that it was cut.
pub fn reset(stream: TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}
