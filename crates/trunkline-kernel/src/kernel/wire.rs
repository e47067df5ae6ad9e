//! The channels to one console.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use trunkline::{
    ChannelError, ChannelId, Connection, Disconnect, Interrupter, SendError, Sender, TrySendError,
};

use crate::layout::{DISPLAY, STATUS, STDERR, STDOUT};

/// What a frame costs beyond its bytes (protocol, section 3).
const COST: usize = 32;
/// The longest message that is accepted whole or not at all, with the windows that are usual.
const WHOLE: usize = 4096;
/// A long text goes in pieces of so many bytes at most, so that what is left of it can be stopped.
pub(super) const PIECE: usize = 64 * 1024;

/// The channels on which a kernel speaks to one console.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) connection: Connection,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    pub(super) status: Output,
    pub(super) display: Output,
}

/// A channel to the console.
#[derive(Debug)]
pub(super) struct Output {
    sender: Mutex<Arc<Sender>>,
    interrupter: Interrupter,
    /// A message of up to so many bytes is accepted whole or not at all.
    whole: usize,
    /// How many messages of the statement were sent.
    sent: AtomicU64,
    /// How many messages were sent of which a part may have waited, and for how many of them that is over.
    long: AtomicU64,
    whole_so_far: AtomicU64,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// So many bytes were sent.
    Yes(usize),
    /// There is no room now.
    Full,
    /// A wait for room was ended.
    Interrupted,
    /// The console does not want it.
    Unwanted,
    /// There is no console any more.
    Lost,
}

impl Wire {
    pub(super) fn new(connection: Connection) -> Result<Self, ChannelError> {
        Ok(Self {
            stdout: Output::new(&connection, STDOUT)?,
            stderr: Output::new(&connection, STDERR)?,
            status: Output::new(&connection, STATUS)?,
            display: Output::new(&connection, DISPLAY)?,
            connection,
        })
    }

    fn statements(&self) -> [&Output; 3] {
        [&self.stdout, &self.stderr, &self.display]
    }

    /// A statement begins: what was sent before is not its own.
    pub(super) fn begin(&self) {
        for output in self.statements() {
            output.sent.store(0, Ordering::Relaxed);
            output.renew(&self.connection);
        }
        self.status.renew(&self.connection);
    }

    /// Ends what waits for room, and takes back what the statement has sent and what is not on its way.
    /// Returns `true` if something was taken back.
    pub(super) fn cut(&self) -> bool {
        self.statements().map(Output::cut).contains(&true)
    }

    /// Of some output the end of a message waits for the console: what is sent on another channel would overtake it.
    /// The task is woken when that has changed.
    pub(super) fn is_behind(&self, task: &Waker) -> bool {
        self.statements().into_iter().any(|output| output.is_behind(task))
    }

    /// What waits for room waits on.
    pub(super) fn release(&self) {
        for output in self.statements() {
            output.sender().clear_interrupt();
        }
    }

    /// Tells the console that there will be no more output.
    pub(super) fn finish(&self) {
        for output in [&self.stdout, &self.stderr, &self.display, &self.status] {
            // It fails only if there is no console to be told.
            drop(output.sender().finish());
        }
    }
}

impl Output {
    fn new(connection: &Connection, channel: ChannelId) -> Result<Self, ChannelError> {
        let sender = connection.sender(channel)?;
        // The library keeps a quarter of the window in hand for the beginning of a message.
        let whole = (sender.credit() as usize / 4).saturating_sub(COST).clamp(1, WHOLE);
        Ok(Self {
            whole,
            interrupter: sender.interrupter(),
            sender: Mutex::new(Arc::new(sender)),
            sent: AtomicU64::new(0),
            long: AtomicU64::new(0),
            whole_so_far: AtomicU64::new(0),
        })
    }

    pub(super) fn sender(&self) -> Arc<Sender> {
        Arc::clone(&self.sender.lock())
    }

    /// A message was sent of which the end may wait.
    pub(super) fn may_be_behind(&self) -> bool {
        self.long.load(Ordering::SeqCst) > self.whole_so_far.load(Ordering::SeqCst)
    }

    /// The end of a message waits for the console. The task is woken when that has changed.
    pub(super) fn is_behind(&self, task: &Waker) -> bool {
        let long = self.long.load(Ordering::SeqCst);
        if long <= self.whole_so_far.load(Ordering::SeqCst) {
            return false;
        }
        let sender = self.sender();
        let is_behind = sender.staged() > 0
            && sender.poll_ready(&mut Context::from_waker(task)).is_pending()
            && sender.staged() > 0;
        if !is_behind {
            self.whole_so_far.fetch_max(long, Ordering::SeqCst);
        }
        is_behind
    }

    /// A console that wanted no more of a run may want the next.
    fn renew(&self, connection: &Connection) {
        let mut sender = self.sender.lock();
        if sender.stopped().is_some()
            && let Ok(next) = connection.sender(sender.channel())
        {
            *sender = Arc::new(next);
        }
    }

    fn cut(&self) -> bool {
        // In this order: one that waits sends nothing after it was ended.
        self.interrupter.interrupt();
        let sent = self.sent.swap(0, Ordering::Relaxed);
        sent > 0 && self.sender().discard_newest(sent).is_ok_and(|messages| messages > 0)
    }

    /// Sends a beginning of a text, as long as there is room for, and waits for some.
    ///
    /// What is sent has all the room that it needs. Of a message with less the rest would wait, and what other
    /// channels send later would come before it: a status, which says that the output is there.
    pub(super) fn send(&self, text: &Bytes) -> Sent {
        let sender = self.sender();
        let room = (sender.credit() as usize).saturating_sub(COST);
        // A message in several frames costs more: on a slow link a frame has 4 KiB, or less.
        let piece = (room - room / 16).min(PIECE).max(self.whole).min(text.len());
        self.send_whole(&sender, text.slice(..piece))
    }

    /// Sends a message that cannot go in pieces.
    pub(super) fn send_whole(&self, sender: &Sender, message: Bytes) -> Sent {
        let len = message.len();
        match sender.send_bytes(message) {
            Ok(()) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                if len > self.whole {
                    self.long.fetch_add(1, Ordering::SeqCst);
                }
                Sent::Yes(len)
            }
            Err(SendError::Interrupted { .. }) => Sent::Interrupted,
            Err(SendError::Disconnected { cause: Disconnect::ConnectionLost(_), .. }) => Sent::Lost,
            // Nothing is too large: texts go in pieces, and pictures are looked at before.
            Err(_) => Sent::Unwanted,
        }
    }

    /// Sends a beginning of a text that is accepted whole.
    pub(super) fn try_send(&self, text: &[u8]) -> Sent {
        let piece = &text[..text.len().min(self.whole)];
        match self.sender().try_send(piece) {
            Ok(()) => Sent::Yes(piece.len()),
            Err(TrySendError::Full { .. }) => Sent::Full,
            Err(TrySendError::Disconnected { cause: Disconnect::ConnectionLost(_), .. }) => Sent::Lost,
            Err(_) => Sent::Unwanted,
        }
    }
}
