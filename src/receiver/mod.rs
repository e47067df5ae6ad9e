//! The receiving end of one channel or several.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::handle::Handle;
use crate::id::{ChannelId, ChannelSet};
use crate::interrupter::{Interrupter, Target};
use crate::message::Message;
use crate::queue::receive::{Claim, Unwanted};
use crate::queue::until::Until;
use crate::queue::waiters::always;

mod iter;
mod next;

pub use iter::Messages;
use next::{Local, Next};
pub(crate) use next::{No, Wait};

/// The receiving end of one channel, or of several merged in arrival order.
///
/// It belongs to one thread at a time (it is `Send`, not `Sync`): it takes messages from the connection in
/// batches, and returns them one by one without a lock.
///
/// `recv` and its variants return messages until the peer's run of the channel ends, and then once an error
/// that says how it ended. What comes after belongs to the next run. A receiver of several channels is
/// finished once all of them are; [`recv_any`](Receiver::recv_any) returns the end of each. When a receiver
/// is dropped, the peer's `send` fails.
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
    local: RefCell<Local>,
}

/// What a [`Receiver`] returns, ends included; see [`Receiver::recv_any`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Received {
    /// A message.
    Message(Message),
    /// The peer left out so much of a channel at this place.
    Gap {
        /// The channel.
        channel: ChannelId,
        /// How many messages.
        messages: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// The peer has finished a run of this channel: everything that it sent there was returned.
    Finished(ChannelId),
    /// The peer abandoned a run of a channel, or its program panicked
    /// ([`Sender::PANICKED`](crate::Sender::PANICKED)).
    Reset {
        /// The channel.
        channel: ChannelId,
        /// The peer's code.
        code: u32,
    },
}

impl Receiver {
    pub(crate) fn new(handle: Arc<Handle>, claim: Claim) -> Self {
        Self { handle, claim, local: RefCell::default() }
    }

    /// Returns the channels that it receives.
    #[must_use]
    pub fn channels(&self) -> ChannelSet {
        self.claim.channels()
    }

    /// Returns the next message, and waits until there is one.
    ///
    /// # Errors
    ///
    /// [`RecvError::Finished`] and [`RecvError::Reset`], once for each run that ends. On a receiver of
    /// several channels: each reset, and `Finished` once the runs of all have ended. [`RecvError::Gap`]
    /// where the peer left something out. [`RecvError::ConnectionLost`] once everything that had arrived is
    /// read.
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
            match self.next_message(&Wait::Thread(Until::Forever)) {
                Ok(result) => return result,
                Err(No::Lost(cause)) => return Err(cause.into()),
                Err(No::Interrupted) => return Err(RecvError::Interrupted),
                Err(No::Empty) => {}
            }
        }
    }

    /// Returns the next message if it is there now.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if nothing is there now; otherwise as [`recv`](Receiver::recv).
    pub fn try_recv(&self) -> Result<Message, TryRecvError> {
        match self.next_message(&Wait::Thread(Until::Now)) {
            Ok(result) => Ok(result?),
            Err(No::Empty) => Err(TryRecvError::Empty),
            Err(No::Interrupted) => Err(RecvError::Interrupted.into()),
            Err(No::Lost(cause)) => Err(RecvError::from(cause).into()),
        }
    }

    /// Returns the next message, and waits for it no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if nothing came in time; otherwise as [`recv`](Receiver::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        self.recv_until(Until::after(timeout))
    }

    /// Returns the next message, and waits for it until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Receiver::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Message, RecvTimeoutError> {
        self.recv_until(Until::At(deadline))
    }

    fn recv_until(&self, until: Until) -> Result<Message, RecvTimeoutError> {
        match self.next_message(&Wait::Thread(until)) {
            Ok(result) => Ok(result?),
            Err(No::Empty) => Err(RecvTimeoutError::Timeout),
            Err(No::Interrupted) => Err(RecvError::Interrupted.into()),
            Err(No::Lost(cause)) => Err(RecvError::from(cause).into()),
        }
    }

    /// Returns what [`recv`](Receiver::recv) returns; if nothing is there, the task is woken when there is.
    /// Of several tasks that share a receiver the one that polled last is woken.
    pub fn poll_recv(&self, context: &mut Context<'_>) -> Poll<Result<Message, RecvError>> {
        if let Some(message) = self.next_quickly() {
            return Poll::Ready(Ok(message));
        }
        match self.next_message(&Wait::Task(context.waker())) {
            Ok(result) => Poll::Ready(result),
            Err(No::Empty) => Poll::Pending,
            Err(No::Interrupted) => Poll::Ready(Err(RecvError::Interrupted)),
            Err(No::Lost(cause)) => Poll::Ready(Err(cause.into())),
        }
    }

    /// Returns the next message, gap or end, in the order in which they came, and waits until there is one.
    /// So the end of each of several channels is told, with its channel.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key, Received, RecvError};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// const OUT: ChannelId = ChannelId::new(1);
    /// const ERR: ChannelId = ChannelId::new(2);
    /// let output = there.receiver(OUT | ERR)?;
    /// here.sender(ERR)?.reset(7)?;
    /// here.sender(OUT)?.finish()?;
    /// assert_eq!(output.recv_any()?, Received::Reset { channel: ERR, code: 7 });
    /// assert_eq!(output.recv_any()?, Received::Finished(OUT));
    /// assert_eq!(output.recv_any(), Err(RecvError::Finished));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RecvError::Finished`] once after the runs of all channels have ended, and
    /// [`RecvError::ConnectionLost`] once everything that had arrived is read; no other.
    pub fn recv_any(&self) -> Result<Received, RecvError> {
        loop {
            match self.next(&Wait::Thread(Until::Forever)) {
                Ok(Next::Received(received)) => return Ok(received),
                Ok(Next::AllOver) => return Err(RecvError::Finished),
                Err(No::Lost(cause)) => return Err(cause.into()),
                Err(No::Interrupted) => return Err(RecvError::Interrupted),
                Err(No::Empty) => {}
            }
        }
    }

    /// Returns what [`recv_any`](Receiver::recv_any) returns, if something is there now.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if nothing is there now; otherwise as [`recv_any`](Receiver::recv_any).
    pub fn try_recv_any(&self) -> Result<Received, TryRecvError> {
        match self.next(&Wait::Thread(Until::Now)) {
            Ok(Next::Received(received)) => Ok(received),
            Ok(Next::AllOver) => Err(RecvError::Finished.into()),
            Err(No::Lost(cause)) => Err(RecvError::from(cause).into()),
            Err(No::Empty) => Err(TryRecvError::Empty),
            Err(No::Interrupted) => Err(RecvError::Interrupted.into()),
        }
    }

    /// Returns what [`recv_any`](Receiver::recv_any) returns; if nothing is there, the task is woken when
    /// there is.
    pub fn poll_recv_any(&self, context: &mut Context<'_>) -> Poll<Result<Received, RecvError>> {
        match self.next(&Wait::Task(context.waker())) {
            Ok(Next::Received(received)) => Poll::Ready(Ok(received)),
            Ok(Next::AllOver) => Poll::Ready(Err(RecvError::Finished)),
            Err(No::Lost(cause)) => Poll::Ready(Err(cause.into())),
            Err(No::Empty) => Poll::Pending,
            Err(No::Interrupted) => Poll::Ready(Err(RecvError::Interrupted)),
        }
    }

    /// Returns the newest message that was there when the call began, and drops older ones: for a caller
    /// that wants the state and not its history. Waits if there is none. It stops at the end of a run and
    /// at a gap, which the next call returns.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let progress = here.sender(ChannelId::new(1))?;
    /// for percent in [10, 20, 30] {
    ///     progress.send(format!("{percent} %"))?;
    /// }
    /// here.flush()?;
    /// assert_eq!(there.receiver(ChannelId::new(1))?.recv_latest()?, "30 %");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`recv`](Receiver::recv).
    pub fn recv_latest(&self) -> Result<Message, RecvError> {
        let there = self.len();
        let mut latest = self.recv()?;
        let mut left = there.saturating_sub(1);
        while left > 0 {
            match self.next(&Wait::Thread(Until::Now)) {
                Ok(Next::Received(Received::Message(message))) => {
                    latest = message;
                    left -= 1;
                }
                // One of several channels has ended: `recv` passes that over too.
                Ok(Next::Received(Received::Finished(_))) if !self.local.borrow().all_over => {}
                Ok(next) => {
                    self.put_back(next);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(latest)
    }

    /// Puts the token of [`ready`](Receiver::ready) back, if there is something.
    pub(crate) fn rearm(&self, some_left: bool) {
        let local = &mut *self.local.borrow_mut();
        if local.ready.is_some() && !self.handle.shared.is_forked() {
            self.handle.shared.receive.rearm(&self.claim, some_left || local.has_some());
        }
    }

    /// Returns how many messages wait to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        if self.handle.shared.is_forked() {
            return 0;
        }
        self.local.borrow().batch.len() + self.handle.shared.receive.len(&self.claim)
    }

    /// Returns `true` if no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many whole messages of a channel this side has refused in this session: those that
    /// [`stop`](Receiver::stop) dropped, those that came after it until the end of the run, and those for
    /// which there was no receiver any more.
    ///
    /// With the messages that were returned it gives the number of each in the peer's own count: a relay
    /// can so say which of them it has not taken. The end of a refused run wakes a task that waits for
    /// messages, because the count is final then.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let channel = ChannelId::new(1);
    /// let jobs = there.receiver(channel)?;
    /// let sender = here.sender(channel)?;
    /// for n in 1..=5 {
    ///     sender.send(format!("job {n}"))?;
    /// }
    /// here.flush()?;
    /// assert_eq!(jobs.recv()?, "job 1");
    /// jobs.stop(3);
    /// assert_eq!(jobs.discarded(channel), 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn discarded(&self, channel: ChannelId) -> u64 {
        let shared = &self.handle.shared;
        if shared.is_forked() { 0 } else { shared.receive.discarded(channel) }
    }

    /// Refuses the rest of the peer's current runs; of a channel on which no run is open, the next run.
    ///
    /// What has arrived is dropped, and the peer's `send` fails with this code. What comes after those runs
    /// is received again. A run that the peer has ended already is not touched.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Disconnect, Key, SendError};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let results = there.receiver(ChannelId::new(1))?;
    /// let sender = here.sender(ChannelId::new(1))?;
    /// sender.send("the first of many results")?;
    /// results.recv()?;
    /// results.stop(9); // enough
    /// let refused = loop {
    ///     if let Err(refused) = sender.send("one more") { break refused }
    /// };
    /// assert!(matches!(refused, SendError::Disconnected { cause: Disconnect::Stopped(9), .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(&self, code: u32) {
        self.stop_channels(self.channels(), code, Unwanted::Newest);
    }

    /// Refuses the rest of one channel's run; otherwise as [`stop`](Receiver::stop).
    pub fn stop_channel(&self, channel: ChannelId, code: u32) {
        if self.channels().contains(channel) {
            self.stop_channels(channel.into(), code, Unwanted::Newest);
        }
    }

    /// Drops what has arrived on one channel, and refuses the rest of its run if one is open. Otherwise as
    /// [`stop_channel`](Receiver::stop_channel), which also refuses a run that has not begun.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let channel = ChannelId::new(1);
    /// let lines = there.receiver(channel)?;
    /// here.sender(channel)?.send("a run of one line, which is over")?;
    /// here.flush()?;
    /// lines.refuse_channel(channel, 3);
    /// here.sender(channel)?.send("the next run")?;
    /// assert_eq!(lines.recv()?, "the next run");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn refuse_channel(&self, channel: ChannelId, code: u32) {
        if self.channels().contains(channel) {
            self.stop_channels(channel.into(), code, Unwanted::Arrived);
        }
    }

    /// Refuses the rest of the run that is being received on one channel, and nothing of the runs behind it. If the
    /// peer has not ended that run yet, its `send` fails with this code; if nothing of a run has come, nothing
    /// is refused.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let channel = ChannelId::new(1);
    /// let answers = there.receiver(channel)?;
    /// for question in ["first", "second"] {
    ///     let answer = here.sender(channel)?;
    ///     answer.send(question)?;
    ///     answer.send("more of it")?;
    ///     answer.finish()?;
    /// }
    /// here.flush()?;
    /// assert_eq!(answers.recv()?, "first");
    /// answers.skip_run(channel, 3);
    /// assert_eq!(answers.recv()?, "second");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn skip_run(&self, channel: ChannelId, code: u32) {
        if self.channels().contains(channel) {
            self.stop_channels(channel.into(), code, Unwanted::ThisRun);
        }
    }

    fn stop_channels(&self, channels: ChannelSet, code: u32, what: Unwanted) {
        let shared = &self.handle.shared;
        if shared.is_forked() {
            return;
        }
        let local = &mut *self.local.borrow_mut();
        let (put_back_ends, about) = match &local.put_back {
            Some(Next::Received(Received::Message(message))) => (false, Some(message.channel())),
            Some(Next::Received(Received::Gap { channel, .. })) => (false, Some(*channel)),
            Some(Next::Received(Received::Finished(channel) | Received::Reset { channel, .. })) => {
                (true, Some(*channel))
            }
            Some(Next::AllOver) | None => (false, None),
        };
        if about.is_some_and(|channel| channels.contains(channel)) {
            local.put_back = None;
            if put_back_ends && what == Unwanted::ThisRun {
                // That was all of it.
                local.all_over = false;
                local.over = local.over - channels;
                return;
            }
        }
        if channels == self.channels() && what != Unwanted::ThisRun {
            local.put_back = None;
            local.all_over = false;
        }
        local.over = local.over - channels;
        let rest = std::mem::take(&mut local.batch).into_rest();
        local.batch.pieces = shared.receive.stop(&self.claim, channels, code, what, rest, &shared.pool);
    }

    /// Returns a crossbeam channel to `select!` on. It has a token while there may be something to take,
    /// and is disconnected when the connection is over. After it fires, call
    /// [`try_recv`](Receiver::try_recv), which may still return `Empty`.
    #[must_use]
    pub fn ready(&self) -> crossbeam_channel::Receiver<()> {
        if self.handle.shared.is_forked() {
            return always();
        }
        let local = &mut *self.local.borrow_mut();
        let some_left = local.has_some();
        local.careful = true;
        local.ready.get_or_insert_with(|| self.handle.shared.receive.ready(&self.claim, some_left)).clone()
    }

    /// Tells the peer that a reader of these channels waits, or no longer waits, after `count` messages:
    /// for a relay, which passes on what it was told. A [`Reader`](crate::Reader) does it by itself: see
    /// [`announce_waiting`](crate::Reader::announce_waiting).
    pub fn set_waiting(&self, waiting: bool, count: u32) {
        if !self.handle.shared.is_forked() {
            self.handle.shared.receive.set_waiting(&self.claim, waiting, Some(count));
        }
    }

    /// Returns a value that ends a blocked call of this receiver from another thread: it returns
    /// [`RecvError::Interrupted`], and an iteration ends.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key, RecvError};
    /// # let (_here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let results = there.receiver(ChannelId::new(1))?;
    /// let interrupter = results.interrupter();
    /// std::thread::spawn(move || interrupter.interrupt());
    /// assert_eq!(results.recv(), Err(RecvError::Interrupted));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn interrupter(&self) -> Interrupter {
        let target = Target::Receives { number: self.claim.number, serial: self.claim.serial };
        Interrupter::new(&self.handle.shared, target)
    }

    /// Forgets an interrupt that no call of this receiver has returned yet.
    pub fn clear_interrupt(&self) {
        let shared = &self.handle.shared;
        if !shared.is_forked() {
            shared.receive.clear_interrupt(&self.claim);
        }
    }

    #[cfg(feature = "futures")]
    pub(crate) fn has_told_end(&self) -> bool {
        self.local.borrow().told_end
    }

    #[cfg(feature = "futures")]
    pub(crate) fn set_told_end(&mut self) {
        self.local.get_mut().told_end = true;
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        if !shared.is_forked() {
            let rest = std::mem::take(&mut self.local.get_mut().batch).into_rest();
            shared.receive.release(&self.claim, rest, &shared.pool);
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("channels", &self.channels()).finish_non_exhaustive()
    }
}
