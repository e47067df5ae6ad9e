//! The receiving end of one channel or several.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::handle::Handle;
use crate::id::{ChannelId, ChannelSet};
use crate::message::Message;
use crate::proto::credit::cost;
use crate::proto::frame::End;
use crate::proto::inbound::Taken;
use crate::queue::batch::{Batch, Entry};
use crate::queue::recv::{Claim, Nothing};
use crate::queue::send::Until;

/// The receiving end of one channel, or of several merged in arrival order.
///
/// It belongs to one thread at a time (it is `Send`, not `Sync`): messages are taken from the
/// connection in batches and given out one by one without a lock.
///
/// `recv` and its like return messages until the peer's run of the channel ends, then once an
/// error that says how it ended; what comes after belongs to the next run. A receiver of several
/// channels is finished once all of them are. When it is dropped, the peer's `send` fails.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key, TryRecvError};
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let receiver = there.receiver(ChannelId::new(1))?;
/// assert_eq!(receiver.try_recv().unwrap_err(), TryRecvError::Empty);
/// here.sender(ChannelId::new(1))?.send("one")?;
/// assert_eq!(&*receiver.recv()?, b"one");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// To wait for several receivers, timers and other crossbeam channels at once, select on
/// [`ready`](Receiver::ready):
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// use std::time::Duration;
/// use crossbeam_channel::{after, select};
///
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// # here.sender(ChannelId::new(2))?.send("two")?;
/// let (one, two) = (there.receiver(ChannelId::new(1))?, there.receiver(ChannelId::new(2))?);
/// let (one_ready, two_ready) = (one.ready(), two.ready());
/// select! {
///     recv(one_ready) -> _ => println!("{:?}", one.try_recv()),
///     recv(two_ready) -> _ => println!("{:?}", two.try_recv()),
///     recv(after(Duration::from_secs(5))) -> _ => println!("nothing for a while"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Receiver {
    handle: Arc<Handle>,
    claim: Claim,
    /// Report what was taken of a channel when so much has gathered.
    report_at: u32,
    local: RefCell<Local>,
}

#[derive(Default)]
struct Local {
    batch: Batch,
    /// Channels whose run has ended and that sent nothing after it.
    finished: ChannelSet,
    /// An end that came behind a message that was given out first.
    put_back: Option<RecvError>,
    reports: Vec<Taken>,
    /// The cost of what was reported since the peer was due credit.
    gathered: u32,
    /// Something of the above is set, or `ready` is, so that `next_quickly` will not do.
    careful: bool,
    ready: Option<crossbeam_channel::Receiver<()>>,
}

/// Why there is no message.
enum No {
    Empty,
    Interrupted,
    Ended(RecvError),
}

impl Receiver {
    pub(crate) fn new(handle: Arc<Handle>, claim: Claim) -> Self {
        // A peer waits for credit only when half a window is gone; an eighth is reported in time.
        let report_at = handle.shared.facts.window / 8;
        Self { handle, claim, report_at, local: RefCell::default() }
    }

    /// The channels that it receives.
    #[must_use]
    pub fn channels(&self) -> ChannelSet {
        self.claim.channels()
    }

    /// The common case: a short message that was fetched before, and nothing to be done besides.
    #[inline(always)]
    fn next_quickly(&self) -> Option<Message> {
        let local = &mut *self.local.borrow_mut();
        if local.careful {
            return None;
        }
        let message = local.batch.next_quickly()?;
        if self.claim.unreported.add(message.channel(), cost(message.len())) >= self.report_at {
            self.report(message.channel(), local);
        }
        Some(message)
    }

    #[cold]
    fn report(&self, channel: ChannelId, local: &mut Local) {
        let taken = self.claim.unreported.take(channel);
        local.gathered += taken.cost;
        // Half a window, which is what the peer gets back at once.
        let due = local.gathered >= 4 * self.report_at;
        if due {
            local.gathered = 0;
        }
        local.reports.push(taken);
        self.handle.shared.inbox.deposit(&mut local.reports, due);
    }

    fn next(&self, until: Until) -> Result<Message, No> {
        let local = &mut *self.local.borrow_mut();
        let shared = &self.handle.shared;
        if let Some(end) = local.put_back.take() {
            return Err(No::Ended(end));
        }
        local.careful = !local.finished.is_empty() || local.ready.is_some();
        loop {
            match local.batch.next(&mut shared.pool()) {
                Some(Entry::Message(message)) => {
                    self.taken(&message, local);
                    return Ok(message);
                }
                Some(Entry::End(channel, end)) => {
                    local.reports.push(Taken { ends: 1, ..Taken::none(channel) });
                    shared.inbox.deposit(&mut local.reports, false);
                    local.finished.insert(channel);
                    local.careful = true;
                    let all = local.finished == self.channels();
                    if all {
                        local.finished = ChannelSet::EMPTY;
                    }
                    self.rearm(local);
                    match end {
                        End::Reset(code) => return Err(No::Ended(RecvError::Reset { channel, code })),
                        End::Finish if all => return Err(No::Ended(RecvError::Finished)),
                        End::Finish => {}
                    }
                }
                None => {
                    shared.inbox.take(&self.claim, &mut local.batch, until).map_err(
                        |nothing| match nothing {
                            Nothing::Empty => No::Empty,
                            Nothing::Interrupted => No::Interrupted,
                            Nothing::Ended(cause) => No::Ended(cause.into()),
                        },
                    )?
                }
            }
        }
    }

    fn taken(&self, message: &Message, local: &mut Local) {
        let channel = message.channel();
        if !local.finished.is_empty() {
            local.finished.remove(channel);
        }
        if self.claim.unreported.add(channel, cost(message.len())) >= self.report_at {
            self.report(channel, local);
        }
        self.rearm(local);
    }

    /// Lets a `select!` on `ready` fire again if there is more.
    fn rearm(&self, local: &Local) {
        if local.ready.is_some() {
            self.handle.shared.inbox.rearm(&self.claim, !local.batch.is_empty());
        }
    }

    /// The next message; waits for it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Finished`] and [`RecvError::Reset`] once for each run that ends,
    /// [`RecvError::ConnectionLost`] once everything that had arrived is read.
    #[inline]
    pub fn recv(&self) -> Result<Message, RecvError> {
        match self.next_quickly() {
            Some(message) => Ok(message),
            None => self.recv_slowly(),
        }
    }

    #[cold]
    #[inline(never)]
    fn recv_slowly(&self) -> Result<Message, RecvError> {
        loop {
            match self.next(Until::Forever) {
                Ok(message) => return Ok(message),
                Err(No::Ended(end)) => return Err(end),
                // An interrupt is for a reader; there is none.
                Err(No::Empty | No::Interrupted) => {}
            }
        }
    }

    /// The next message if it is there.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if nothing is there now, else as [`recv`](Receiver::recv).
    pub fn try_recv(&self) -> Result<Message, TryRecvError> {
        self.next(Until::Now).map_err(|no| match no {
            No::Empty | No::Interrupted => TryRecvError::Empty,
            No::Ended(end) => TryRecvError::Disconnected(end),
        })
    }

    /// The next message; waits at most so long.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if nothing came in time, else as [`recv`](Receiver::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        self.recv_until(Until::after(timeout))
    }

    /// The next message; waits until then at most.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Receiver::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Message, RecvTimeoutError> {
        self.recv_until(Until::At(deadline))
    }

    fn recv_until(&self, until: Until) -> Result<Message, RecvTimeoutError> {
        loop {
            match self.next(until) {
                Ok(message) => return Ok(message),
                Err(No::Empty) => return Err(RecvTimeoutError::Timeout),
                Err(No::Interrupted) => {}
                Err(No::Ended(end)) => return Err(RecvTimeoutError::Disconnected(end)),
            }
        }
    }

    /// The newest message that is there, for who wants the state and not its history; older ones
    /// are dropped. Waits if there is none.
    ///
    /// # Errors
    ///
    /// As [`recv`](Receiver::recv).
    pub fn recv_latest(&self) -> Result<Message, RecvError> {
        let mut latest = self.recv()?;
        loop {
            match self.next(Until::Now) {
                Ok(message) => latest = message,
                Err(No::Ended(end)) => {
                    let local = &mut *self.local.borrow_mut();
                    local.put_back = Some(end);
                    local.careful = true;
                    return Ok(latest);
                }
                Err(No::Empty | No::Interrupted) => return Ok(latest),
            }
        }
    }

    pub(crate) fn next_for_reader(&self, until: Until) -> Result<Option<Message>, ReaderError> {
        match self.next(until) {
            Ok(message) => Ok(Some(message)),
            Err(No::Empty) => Ok(None),
            Err(No::Interrupted) => Err(ReaderError::Interrupted),
            Err(No::Ended(end)) => Err(ReaderError::Ended(end)),
        }
    }

    /// The messages, until something else than a message comes.
    pub fn iter(&self) -> impl Iterator<Item = Message> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The messages that are there now.
    pub fn try_iter(&self) -> impl Iterator<Item = Message> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// How many messages wait to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.local.borrow().batch.len() + self.handle.shared.inbox.len(&self.claim)
    }

    /// Whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wants no more of the peer's current runs, or if none is open, of the next: what has arrived
    /// is dropped, the peer's `send` fails with this code, and what comes after that run is
    /// received again.
    pub fn stop(&self, code: u32) {
        let local = &mut *self.local.borrow_mut();
        local.put_back = None;
        let rest = std::mem::take(&mut local.batch).into_rest();
        let shared = &self.handle.shared;
        shared.inbox.stop(&self.claim, code, rest, shared.pool());
    }

    /// A crossbeam channel to `select!` on: it has a token while there may be something to take,
    /// and is disconnected when the connection is over. After it fires, call
    /// [`try_recv`](Receiver::try_recv), which may still say `Empty`.
    #[must_use]
    pub fn ready(&self) -> crossbeam_channel::Receiver<()> {
        let local = &mut *self.local.borrow_mut();
        let some_left = !local.batch.is_empty() || local.put_back.is_some();
        local.careful = true;
        local.ready.get_or_insert_with(|| self.handle.shared.inbox.ready(&self.claim, some_left)).clone()
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }
}

/// Why a reader got no message.
pub(crate) enum ReaderError {
    Interrupted,
    Ended(RecvError),
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut self.local.get_mut().batch).into_rest();
        let shared = &self.handle.shared;
        shared.inbox.release(&self.claim, rest, shared.pool());
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("channels", &self.channels()).finish_non_exhaustive()
    }
}
