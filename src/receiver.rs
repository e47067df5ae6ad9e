//! The receiving end of one channel or several.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::error::{ConnectionError, RecvError, RecvTimeoutError, TryRecvError};
use crate::handle::Handle;
use crate::id::{ChannelId, ChannelSet};
use crate::message::Message;
use crate::proto::credit::cost;
use crate::proto::frame::End;
use crate::queue::batch::{Batch, Entry};
use crate::queue::receive::{Claim, Nothing};
use crate::queue::until::Until;

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

/// What comes next.
enum Next {
    Received(Received),
    /// The runs of all channels have ended.
    AllOver,
}

#[derive(Default)]
struct Local {
    batch: Batch,
    /// Channels whose run has ended and that sent nothing after it.
    over: ChannelSet,
    /// That is all of them, which was not told yet.
    all_over: bool,
    /// Something that was looked at and not given out.
    put_back: Option<Next>,
    /// Something of the above is set, or `ready` is, so that `next_quickly` will not do.
    careful: bool,
    ready: Option<crossbeam_channel::Receiver<()>>,
}

/// Why there is nothing.
pub(crate) enum No {
    Empty,
    Interrupted,
    Lost(ConnectionError),
}

/// How long to wait for more: as a thread, or as a task that is woken.
enum Wait<'a> {
    Thread(Until),
    Task(&'a Waker),
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

    /// The common case: a short message that was fetched before, and nothing to be done besides.
    #[inline(always)]
    fn next_quickly(&self) -> Option<Message> {
        let local = &mut *self.local.borrow_mut();
        if local.careful || self.handle.shared.is_forked() {
            return None;
        }
        let message = local.batch.next_quickly()?;
        if self.claim.counts.add(message.channel(), cost(message.len())) {
            self.report(message.channel());
        }
        Some(message)
    }

    #[cold]
    fn report(&self, channel: ChannelId) {
        self.handle.shared.receive.report(channel);
    }

    fn next(&self, wait: &Wait<'_>) -> Result<Next, No> {
        let shared = &self.handle.shared;
        if shared.is_forked() {
            return Err(No::Lost(ConnectionError::Forked));
        }
        let local = &mut *self.local.borrow_mut();
        let next = self.next_of(local, wait);
        local.careful =
            !local.over.is_empty() || local.all_over || local.put_back.is_some() || local.ready.is_some();
        // Lets a `select!` on `ready` fire again if there is more.
        if local.ready.is_some() && next.is_ok() {
            shared.receive.rearm(&self.claim, local.has_some());
        }
        next
    }

    fn next_of(&self, local: &mut Local, wait: &Wait<'_>) -> Result<Next, No> {
        let shared = &self.handle.shared;
        if let Some(next) = local.put_back.take() {
            return Ok(next);
        }
        if std::mem::take(&mut local.all_over) {
            return Ok(Next::AllOver);
        }
        loop {
            let received = match local.batch.next(&mut &*shared.pool) {
                Some(Entry::Message(message)) => {
                    let channel = message.channel();
                    local.over.remove(channel);
                    if self.claim.counts.add(channel, cost(message.len())) {
                        self.report(channel);
                    }
                    Received::Message(message)
                }
                Some(Entry::Gap { channel, messages, bytes, free_notes }) => {
                    shared.receive.report_notes(channel, free_notes);
                    Received::Gap { channel, messages, bytes }
                }
                Some(Entry::End { channel, end, free_notes }) => {
                    shared.receive.report_notes(channel, free_notes);
                    local.over.insert(channel);
                    if local.over == self.channels() {
                        local.over = ChannelSet::EMPTY;
                        local.all_over = true;
                    }
                    match end {
                        End::Finish => Received::Finished(channel),
                        End::Reset(code) => Received::Reset { channel, code },
                    }
                }
                None => {
                    let taken = match wait {
                        Wait::Thread(until) => shared.receive.take(&self.claim, &mut local.batch, *until),
                        Wait::Task(waker) => shared.receive.poll_take(&self.claim, &mut local.batch, waker),
                    };
                    taken.map_err(|nothing| match nothing {
                        Nothing::Empty => No::Empty,
                        Nothing::Interrupted => No::Interrupted,
                        Nothing::Ended(cause) => No::Lost(cause),
                    })?;
                    continue;
                }
            };
            return Ok(Next::Received(received));
        }
    }

    /// What comes next for a caller that wants messages: an end of one channel of several is passed
    /// over.
    fn next_message(&self, wait: &Wait<'_>) -> Result<Result<Message, RecvError>, No> {
        let single = self.channels().len() == 1;
        loop {
            let next = self.next(wait)?;
            let local = &mut *self.local.borrow_mut();
            return Ok(Err(match next {
                Next::Received(Received::Message(message)) => return Ok(Ok(message)),
                Next::Received(Received::Gap { channel, messages, bytes }) => {
                    RecvError::Gap { channel, messages, bytes }
                }
                Next::Received(Received::Finished(_)) => {
                    // The last end is the end of all.
                    if !std::mem::take(&mut local.all_over) {
                        continue;
                    }
                    RecvError::Finished
                }
                Next::Received(Received::Reset { channel, code }) => {
                    if single {
                        local.all_over = false;
                    }
                    RecvError::Reset { channel, code }
                }
                Next::AllOver => RecvError::Finished,
            }));
        }
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
                // An interrupt is for a reader; there is none.
                Err(No::Empty | No::Interrupted) => {}
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
            Err(No::Empty | No::Interrupted) => Err(TryRecvError::Empty),
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
        loop {
            match self.next_message(&Wait::Thread(until)) {
                Ok(result) => return Ok(result?),
                Err(No::Empty) => return Err(RecvTimeoutError::Timeout),
                Err(No::Interrupted) => {}
                Err(No::Lost(cause)) => return Err(RecvError::from(cause).into()),
            }
        }
    }

    /// Returns what [`recv`](Receiver::recv) returns; if nothing is there, the task is woken when there is.
    pub fn poll_recv(&self, context: &mut Context<'_>) -> Poll<Result<Message, RecvError>> {
        match self.next_message(&Wait::Task(context.waker())) {
            Ok(result) => Poll::Ready(result),
            Err(No::Empty | No::Interrupted) => Poll::Pending,
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
                Err(No::Empty | No::Interrupted) => {}
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
            Err(No::Empty | No::Interrupted) => Err(TryRecvError::Empty),
        }
    }

    /// Returns what [`recv_any`](Receiver::recv_any) returns; if nothing is there, the task is woken when
    /// there is.
    pub fn poll_recv_any(&self, context: &mut Context<'_>) -> Poll<Result<Received, RecvError>> {
        match self.next(&Wait::Task(context.waker())) {
            Ok(Next::Received(received)) => Poll::Ready(Ok(received)),
            Ok(Next::AllOver) => Poll::Ready(Err(RecvError::Finished)),
            Err(No::Lost(cause)) => Poll::Ready(Err(cause.into())),
            Err(No::Empty | No::Interrupted) => Poll::Pending,
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
        for _ in 1..there {
            match self.next(&Wait::Thread(Until::Now)) {
                Ok(Next::Received(Received::Message(message))) => latest = message,
                Ok(next) => {
                    self.put_back(next);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(latest)
    }

    fn put_back(&self, next: Next) {
        let local = &mut *self.local.borrow_mut();
        local.put_back = Some(next);
        local.careful = true;
    }

    /// What comes next for a reader.
    pub(crate) fn next_for_reader(&self, until: Until) -> Result<Result<Message, RecvError>, No> {
        self.next_message(&Wait::Thread(until))
    }

    /// The same for a task.
    pub(crate) fn poll_for_reader(&self, waker: &Waker) -> Result<Result<Message, RecvError>, No> {
        self.next_message(&Wait::Task(waker))
    }

    /// Returns `true` if a reader of bytes would not wait: there is something besides empty messages. Those
    /// are taken.
    pub(crate) fn has_bytes_or_end(&self) -> bool {
        if self.handle.shared.is_forked() {
            return true;
        }
        loop {
            let local = &mut *self.local.borrow_mut();
            if local.put_back.is_some() || local.all_over {
                return true;
            }
            match local.batch.is_next_empty() {
                Some(false) => return true,
                Some(true) => drop(self.next_of(local, &Wait::Thread(Until::Now))),
                None => {
                    let receive = &self.handle.shared.receive;
                    match receive.take(&self.claim, &mut local.batch, Until::Now) {
                        Ok(()) => {}
                        Err(Nothing::Ended(_)) => return true,
                        Err(Nothing::Empty | Nothing::Interrupted) => return false,
                    }
                }
            }
        }
    }

    /// Puts the token of [`ready`](Receiver::ready) back, if there is something.
    pub(crate) fn rearm(&self, some_left: bool) {
        let local = &mut *self.local.borrow_mut();
        if local.ready.is_some() && !self.handle.shared.is_forked() {
            self.handle.shared.receive.rearm(&self.claim, some_left || local.has_some());
        }
    }

    /// Returns an iterator over the messages, which waits for each. It ends before anything that is no
    /// message (the end of a run, a gap, a lost connection); [`recv`](Receiver::recv) then returns what
    /// that is.
    pub fn iter(&self) -> impl Iterator<Item = Message> {
        std::iter::from_fn(|| self.next_quickly().or_else(|| self.iterate(Until::Forever)))
    }

    /// Returns an iterator over the messages that are there now; otherwise as [`iter`](Receiver::iter).
    pub fn try_iter(&self) -> impl Iterator<Item = Message> {
        std::iter::from_fn(|| self.iterate(Until::Now))
    }

    fn iterate(&self, until: Until) -> Option<Message> {
        loop {
            match self.next(&Wait::Thread(until)) {
                Ok(Next::Received(Received::Message(message))) => return Some(message),
                Ok(Next::Received(Received::Finished(_))) if !self.local.borrow().all_over => {}
                Ok(next) => {
                    self.put_back(next);
                    return None;
                }
                Err(No::Interrupted) if matches!(until, Until::Forever) => {}
                Err(_) => return None,
            }
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
        self.stop_channels(self.channels(), code);
    }

    /// Refuses the rest of one channel's run; otherwise as [`stop`](Receiver::stop).
    pub fn stop_channel(&self, channel: ChannelId, code: u32) {
        if self.channels().contains(channel) {
            self.stop_channels(channel.into(), code);
        }
    }

    fn stop_channels(&self, channels: ChannelSet, code: u32) {
        let shared = &self.handle.shared;
        if shared.is_forked() {
            return;
        }
        let local = &mut *self.local.borrow_mut();
        let about = match &local.put_back {
            Some(Next::Received(Received::Message(message))) => Some(message.channel()),
            Some(Next::Received(
                Received::Gap { channel, .. } | Received::Finished(channel) | Received::Reset { channel, .. },
            )) => Some(*channel),
            Some(Next::AllOver) | None => None,
        };
        if about.is_some_and(|channel| channels.contains(channel)) {
            local.put_back = None;
        }
        if channels == self.channels() {
            local.put_back = None;
            local.all_over = false;
        }
        local.over = local.over - channels;
        let rest = std::mem::take(&mut local.batch).into_rest();
        local.batch.pieces = shared.receive.stop(&self.claim, channels, code, rest, &shared.pool);
    }

    /// Returns a crossbeam channel to `select!` on. It has a token while there may be something to take,
    /// and is disconnected when the connection is over. After it fires, call
    /// [`try_recv`](Receiver::try_recv), which may still return `Empty`.
    #[must_use]
    pub fn ready(&self) -> crossbeam_channel::Receiver<()> {
        if self.handle.shared.is_forked() {
            return crossbeam_channel::never();
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

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }
}

impl Local {
    /// Something was fetched and not given out.
    fn has_some(&self) -> bool {
        !self.batch.is_empty() || self.put_back.is_some() || self.all_over
    }
}

impl<'a> IntoIterator for &'a Receiver {
    type Item = Message;
    type IntoIter = Messages<&'a Receiver>;

    fn into_iter(self) -> Self::IntoIter {
        Messages(self)
    }
}

impl IntoIterator for Receiver {
    type Item = Message;
    type IntoIter = Messages<Receiver>;

    fn into_iter(self) -> Self::IntoIter {
        Messages(self)
    }
}

/// The messages of a [`Receiver`]; see [`Receiver::iter`].
#[derive(Debug)]
pub struct Messages<R>(R);

impl<R: std::borrow::Borrow<Receiver>> Iterator for Messages<R> {
    type Item = Message;

    #[inline]
    fn next(&mut self) -> Option<Message> {
        let receiver = self.0.borrow();
        receiver.next_quickly().or_else(|| receiver.iterate(Until::Forever))
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
