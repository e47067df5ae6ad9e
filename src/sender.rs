//! The sending end of a channel.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{ConnectionError, Disconnect, SendError, SendTimeoutError, TrySendError};
use crate::handle::Handle;
use crate::id::ChannelId;
use crate::interrupter::{Interrupter, Target};
use crate::proto::frame::{End, MAX_DATA};
use crate::proto::outbound::Payload;
use crate::queue::send::Unsent;
use crate::queue::until::Until;
use crate::queue::waiters::{Owner, always};

/// The sending end of a channel.
///
/// Clones send on the same channel. What several threads send goes in the order of their calls, and senders
/// that wait for room go in the order in which they came. When the last clone is dropped, the peer reads
/// what was sent and then the end of the run. If it is dropped while its thread panics, the peer reads an
/// error instead: [`Sender::PANICKED`].
///
/// A `send` returns when the message is in the send queue; the I/O thread does the rest. It waits while the
/// peer has not taken enough of the channel, which holds up no other channel, or while the connection's
/// send queue is full ([`Config::send_queue`](crate::Config::send_queue)). A message may be larger than
/// what the peer takes at once: the rest follows as the peer takes the beginning.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key, RecvError};
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let sender = here.sender(ChannelId::new(1))?;
/// let receiver = there.receiver(ChannelId::new(1))?;
/// sender.send("a string")?;
/// sender.send([1, 2, 3])?;
/// drop(sender);
/// assert_eq!(&*receiver.recv()?, b"a string");
/// assert_eq!(&*receiver.recv()?, [1, 2, 3]);
/// assert_eq!(receiver.recv().unwrap_err(), RecvError::Finished);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sender {
    handle: Arc<Handle>,
    channel: ChannelId,
    place: usize,
    generation: u32,
}

impl Sender {
    /// The code of the reset that the peer reads when the last sender of a run is dropped while its thread
    /// panics.
    pub const PANICKED: u32 = u32::MAX;

    pub(crate) fn new(handle: Arc<Handle>, channel: ChannelId, place: usize, generation: u32) -> Self {
        Self { handle, channel, place, generation }
    }

    #[inline]
    fn offer(&self, message: &[u8], until: Until) -> Result<(), Unsent> {
        let shared = &self.handle.shared;
        if !shared.is_forked() && shared.send.send_quickly(self.place, self.generation, message) {
            return Ok(());
        }
        self.offer_slice(message, until)
    }

    #[inline(never)]
    fn offer_slice(&self, message: &[u8], until: Until) -> Result<(), Unsent> {
        if message.len() > MAX_DATA {
            // Copied before the lock, which all senders and the I/O thread share.
            return self.offer_bytes(&Bytes::copy_from_slice(message), until);
        }
        self.offer_payload(Payload::Slice(message), until, false)
    }

    fn offer_bytes(&self, message: &Bytes, until: Until) -> Result<(), Unsent> {
        self.offer_payload(Payload::Shared(message), until, false)
    }

    fn offer_payload(&self, payload: Payload<'_>, until: Until, ahead: bool) -> Result<(), Unsent> {
        self.check_fork()?;
        let shared = &self.handle.shared;
        shared.send.send(self.place, self.generation, payload, until, ahead, &shared.pool)
    }

    /// Sends a message for a writer: it is accepted without credit while little else waits.
    pub(crate) fn offer_ahead(&self, message: &[u8], until: Until) -> Result<(), Unsent> {
        let shared = &self.handle.shared;
        if !shared.is_forked() && shared.send.send_quickly(self.place, self.generation, message) {
            return Ok(());
        }
        self.offer_payload(Payload::Slice(message), until, true)
    }

    fn check_fork(&self) -> Result<(), Unsent> {
        if self.handle.shared.is_forked() { Err(Unsent::Ended(ConnectionError::Forked)) } else { Ok(()) }
    }

    /// Sends a message, and waits for room as long as it takes.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`] if the message is larger than [`max_message`](Sender::max_message),
    /// [`SendError::Disconnected`] if the peer stopped receiving or the connection is over. Nothing of the
    /// message was sent.
    pub fn send(&self, message: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.offer(message.as_ref(), Until::Forever).map_err(|unsent| send_error((), unsent))
    }

    /// Sends a message without copying it; otherwise as [`send`](Sender::send). That pays above 4 KiB; a
    /// smaller message is copied all the same.
    ///
    /// The memory is freed by the thread that runs the I/O loop, perhaps with a lock of this library held.
    /// So if it has an owner ([`Bytes::from_owner`]), the owner's drop must be quick, must not block and
    /// must not call this library.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key, SendError};
    /// use bytes::Bytes;
    ///
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()).max_message(100_000))?;
    /// let sender = here.sender(ChannelId::new(1))?;
    /// sender.send_bytes(Bytes::from(vec![7; 100_000]))?;
    /// let error = sender.send_bytes(Bytes::from(vec![7; 100_001])).unwrap_err();
    /// assert!(matches!(error, SendError::TooLarge { limit: 100_000, .. }));
    /// assert_eq!(error.into_inner().len(), 100_001); // given back
    /// # assert_eq!(there.receiver(ChannelId::new(1))?.recv()?.len(), 100_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Sender::send), with the message.
    pub fn send_bytes(&self, message: Bytes) -> Result<(), SendError<Bytes>> {
        self.offer_bytes(&message, Until::Forever).map_err(|unsent| send_error(message, unsent))
    }

    /// Sends a message if there is room now.
    ///
    /// A message of any size has room on a channel that is idle: its beginning goes, and the rest follows.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] if there is no room now, or other senders of the channel wait for it;
    /// otherwise as [`send`](Sender::send).
    pub fn try_send(&self, message: impl AsRef<[u8]>) -> Result<(), TrySendError> {
        self.offer(message.as_ref(), Until::Now).map_err(|unsent| try_send_error((), unsent))
    }

    /// Sends a message without copying it if there is room now.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Sender::try_send), with the message.
    pub fn try_send_bytes(&self, message: Bytes) -> Result<(), TrySendError<Bytes>> {
        self.offer_bytes(&message, Until::Now).map_err(|unsent| try_send_error(message, unsent))
    }

    /// Sends a message, and waits for room no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError::Timeout`] if there was no room in time, and then nothing of the message was
    /// sent; otherwise as [`send`](Sender::send).
    pub fn send_timeout(&self, message: impl AsRef<[u8]>, timeout: Duration) -> Result<(), SendTimeoutError> {
        self.offer(message.as_ref(), Until::after(timeout)).map_err(|unsent| timeout_error((), unsent))
    }

    /// Sends a message, and waits for room until `deadline` at most; otherwise as
    /// [`send_timeout`](Sender::send_timeout).
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Sender::send_timeout).
    pub fn send_deadline(
        &self,
        message: impl AsRef<[u8]>,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError> {
        self.offer(message.as_ref(), Until::At(deadline)).map_err(|unsent| timeout_error((), unsent))
    }

    /// Sends a message without copying it, and waits for room no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Sender::send_timeout), with the message.
    pub fn send_bytes_timeout(
        &self,
        message: Bytes,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<Bytes>> {
        self.offer_bytes(&message, Until::after(timeout)).map_err(|unsent| timeout_error(message, unsent))
    }

    /// Returns `Ready` if a message of up to 4 KiB would be accepted now, or if none will be any more, so
    /// that [`try_send`](Sender::try_send) says which. Otherwise the task is woken when that may have
    /// changed. Another sender may be faster.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_room(Owner::Shared, context)
    }

    pub(crate) fn poll_room(&self, owner: Owner, context: &mut Context<'_>) -> Poll<()> {
        let shared = &self.handle.shared;
        let waker = context.waker();
        if shared.is_forked() || shared.send.poll_room(self.place, self.generation, owner, waker) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Sends for the task of a handle that has this number.
    #[cfg(feature = "futures")]
    pub(crate) fn poll_bytes(&self, message: &Bytes, number: u64, task: &Waker) -> Poll<Result<(), Unsent>> {
        self.poll_payload(Payload::Shared(message), false, number, task)
    }

    /// The same as [`offer_ahead`](Sender::offer_ahead).
    pub(crate) fn poll_ahead(&self, message: &[u8], number: u64, task: &Waker) -> Poll<Result<(), Unsent>> {
        self.poll_payload(Payload::Slice(message), true, number, task)
    }

    fn poll_payload(
        &self,
        payload: Payload<'_>,
        ahead: bool,
        number: u64,
        task: &Waker,
    ) -> Poll<Result<(), Unsent>> {
        if let Err(forked) = self.check_fork() {
            return Poll::Ready(Err(forked));
        }
        let shared = &self.handle.shared;
        let sender = (self.place, self.generation);
        let owner = Owner::Sole(number);
        match shared.send.poll_send(sender, payload, ahead, owner, task, &shared.pool) {
            Some(sent) => Poll::Ready(sent),
            None => Poll::Pending,
        }
    }

    /// A number for a handle on this sender that waits with one task at a time.
    pub(crate) fn task_number(&self) -> u64 {
        let shared = &self.handle.shared;
        if shared.is_forked() { 0 } else { shared.send.number(self.place) }
    }

    /// The task of that handle waits no more.
    pub(crate) fn forget_task(&self, number: u64) {
        let shared = &self.handle.shared;
        if !shared.is_forked() {
            shared.send.forget_task(self.place, number);
        }
    }

    /// Returns a crossbeam channel to `select!` on. A token comes when there may be room again after
    /// [`try_send`](Sender::try_send) returned `Full`.
    #[must_use]
    pub fn ready(&self) -> crossbeam_channel::Receiver<()> {
        let shared = &self.handle.shared;
        if shared.is_forked() {
            return always();
        }
        shared.send.ready(self.place, self.generation)
    }

    /// Returns the channel.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Returns how many bytes the peer takes on this channel now (protocol, section 3). A frame of up to 64
    /// KiB costs its length + 32 of them.
    #[must_use]
    pub fn credit(&self) -> u32 {
        self.read(0, |outbound| outbound.credit(self.place))
    }

    /// Returns `true` if a message of up to 4 KiB would wait for the peer: it has granted no credit, its socket
    /// takes no more, or there is none. Returns `false` if there is room, and if the message would wait only
    /// until this side's I/O thread comes to it; then a task that waits with
    /// [`poll_ready`](Sender::poll_ready) is also woken when that has changed.
    ///
    /// A relay asks that before it lets go of what a slow peer has not taken.
    #[must_use]
    pub fn waits_for_peer(&self) -> bool {
        let shared = &self.handle.shared;
        !shared.is_forked() && shared.send.waits_for_peer(self.place, self.generation)
    }

    /// Returns how many bytes were accepted on this channel and wait for credit: the rest of a message that
    /// was larger than the peer's room. While it is not 0, what is sent on other channels overtakes them.
    #[must_use]
    pub fn staged(&self) -> u64 {
        self.read(0, |outbound| outbound.staged(self.place))
    }

    /// Returns the size of the largest message that the peer takes, in bytes.
    #[must_use]
    pub fn max_message(&self) -> u32 {
        self.read(0, |outbound| outbound.max_message())
    }

    fn read<R>(&self, forked: R, read: impl FnOnce(&mut crate::proto::outbound::Outbound) -> R) -> R {
        if self.handle.shared.is_forked() { forked } else { self.handle.shared.send.read(read) }
    }

    /// Returns the code with which the peer has stopped the run that this sender belongs to; `None` if it
    /// has not.
    ///
    /// Nothing can be sent with a stopped sender any more. A new one, from
    /// [`Connection::sender`](crate::Connection::sender), begins a new run.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// let sender = here.sender(ChannelId::new(1))?;
    /// let receiver = there.receiver(ChannelId::new(1))?;
    /// receiver.stop(3);
    /// while sender.send("more").is_ok() {} // until the peer's wish has come
    /// assert_eq!(sender.stopped(), Some(3));
    /// here.sender(ChannelId::new(1))?.send("the next run")?;
    /// assert_eq!(&*receiver.recv()?, b"the next run");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stopped(&self) -> Option<u32> {
        self.read(None, |outbound| outbound.stopped(self.place, self.generation)).map(|stopped| stopped.0)
    }

    /// Returns `true` if a reader of the peer's is blocked on this channel and has taken all that was sent:
    /// it waits for what this side sends next.
    ///
    /// Only a reader that [announces](crate::Reader::announce_waiting) it is known to wait.
    #[must_use]
    pub fn peer_is_waiting(&self) -> bool {
        self.read(false, |outbound| outbound.peer_is_waiting(self.place))
    }

    /// Tells the peer, at this place among the messages, that so many messages and bytes were left out. Its
    /// [`recv`](crate::Receiver::recv) returns [`RecvError::Gap`](crate::RecvError::Gap).
    ///
    /// It costs no credit and never waits, and keeps its place among what other channels of the same priority
    /// send later, as a message does. Neighbouring gaps may be added up.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key, RecvError};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// # let channel = ChannelId::new(1);
    /// let log = here.sender(channel)?;
    /// log.send("the first line")?;
    /// log.gap(998, 51_200)?;
    /// log.send("the last line")?;
    /// let lines = there.receiver(channel)?;
    /// assert_eq!(&*lines.recv()?, b"the first line");
    /// assert_eq!(lines.recv(), Err(RecvError::Gap { channel, messages: 998, bytes: 51_200 }));
    /// assert_eq!(&*lines.recv()?, b"the last line");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Disconnect::Stopped`] if the peer stopped receiving, [`Disconnect::ConnectionLost`] if the
    /// connection is over.
    pub fn gap(&self, messages: u64, bytes: u64) -> Result<(), Disconnect> {
        self.check_fork()?;
        let shared = &self.handle.shared;
        Ok(shared.send.gap(self.place, self.generation, messages, bytes, &shared.pool)?)
    }

    /// Takes back what was sent in this run and is not on its way, for a program that was interrupted:
    /// whole messages, in all clones of this sender. The peer gets a [gap](Sender::gap) in their place.
    /// Returns how many messages that was. What may be on its way still arrives; a message is never cut.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key, RecvError};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// # let channel = ChannelId::new(1);
    /// let output = here.sender(channel)?;
    /// let mut sent = 0;
    /// while output.try_send([7; 4096]).is_ok() {
    ///     sent += 1;
    /// }
    /// let left_out = output.discard_queued()?;
    /// output.send("interrupted")?;
    /// let lines = there.receiver(channel)?;
    /// for _ in 0..sent - left_out {
    ///     assert_eq!(lines.recv()?.len(), 4096);
    /// }
    /// if left_out > 0 {
    ///     assert!(matches!(lines.recv(), Err(RecvError::Gap { messages, .. }) if messages == left_out));
    /// }
    /// assert_eq!(&*lines.recv()?, b"interrupted");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the peer stopped receiving, or the connection is over.
    pub fn discard_queued(&self) -> Result<u64, Disconnect> {
        self.discard_newest(u64::MAX)
    }

    /// Takes back what was sent in this run and is not on its way, but the newest `most` messages at most: for
    /// a program that knows how much the part has sent that was interrupted. Otherwise as
    /// [`discard_queued`](Sender::discard_queued).
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key};
    /// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
    /// # let channel = ChannelId::new(1);
    /// let output = here.sender(channel)?;
    /// output.send("the first part")?;
    /// output.send("the second")?;
    /// output.send("part")?;
    /// assert!(output.discard_newest(2)? <= 2);
    /// assert_eq!(&*there.receiver(channel)?.recv()?, b"the first part");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`discard_queued`](Sender::discard_queued).
    pub fn discard_newest(&self, most: u64) -> Result<u64, Disconnect> {
        self.check_fork()?;
        let shared = &self.handle.shared;
        Ok(shared.send.discard(self.place, self.generation, most, &shared.pool)?)
    }

    /// Ends this run of the channel: the peer reads what was sent, and then the end. What is sent after it
    /// begins the next run.
    ///
    /// A second call with nothing sent in between does nothing. The first one ends the run even if nothing
    /// was sent at all.
    ///
    /// # Errors
    ///
    /// [`Disconnect::Stopped`] if the peer has stopped the run: it does not read it to this end.
    /// [`Disconnect::ConnectionLost`] if the connection is over.
    pub fn finish(&self) -> Result<(), Disconnect> {
        self.end(End::Finish)
    }

    /// Abandons this run of the channel: the peer reads the whole messages that are on their way, and then
    /// an error with this code. A message whose rest waits for credit is dropped.
    ///
    /// # Errors
    ///
    /// As [`finish`](Sender::finish).
    pub fn reset(&self, code: u32) -> Result<(), Disconnect> {
        self.end(End::Reset(code))
    }

    fn end(&self, end: End) -> Result<(), Disconnect> {
        self.check_fork()?;
        let shared = &self.handle.shared;
        Ok(shared.send.end_run(self.place, self.generation, end, &shared.pool)?)
    }

    /// Returns a value that ends a blocked send of this channel from another thread, by this sender or
    /// another of the channel: it returns [`SendError::Interrupted`], and nothing of its message was sent.
    ///
    /// ```
    /// # use trunkline::{ChannelId, Config, Connection, Key, SendError};
    /// # let (here, _there) = Connection::pair(Config::new(Key::generate()).window(4096))?;
    /// let output = here.sender(ChannelId::new(1))?;
    /// let interrupter = output.interrupter();
    /// std::thread::spawn(move || interrupter.interrupt());
    /// let error = loop {
    ///     // Nothing is read, so there is no room in the end.
    ///     if let Err(error) = output.send([7; 1000]) {
    ///         break error;
    ///     }
    /// };
    /// assert!(matches!(error, SendError::Interrupted { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn interrupter(&self) -> Interrupter {
        Interrupter::new(&self.handle.shared, Target::Sends { place: self.place })
    }

    /// Forgets an interrupt of this channel that no send has returned yet: before work begins that an
    /// earlier interrupt was not meant for.
    pub fn clear_interrupt(&self) {
        let shared = &self.handle.shared;
        if !shared.is_forked() {
            shared.send.clear_interrupt(self.place);
        }
    }

    pub(crate) fn shared(&self) -> &crate::io::shared::Shared {
        &self.handle.shared
    }

    pub(crate) fn linger(&self) -> Duration {
        self.handle.shared.facts.linger
    }
}

impl From<Unsent> for Disconnect {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Stopped(code) => Self::Stopped(code),
            Unsent::Ended(cause) => cause.into(),
            // An end is neither too large nor in need of room.
            Unsent::TooLarge(_) | Unsent::NoRoom | Unsent::Interrupted => {
                ConnectionError::IoThreadStopped.into()
            }
        }
    }
}

pub(crate) fn send_error<T>(message: T, unsent: Unsent) -> SendError<T> {
    match unsent {
        Unsent::Interrupted => SendError::Interrupted { message },
        Unsent::TooLarge(limit) => SendError::TooLarge { message, limit },
        other => SendError::Disconnected { message, cause: other.into() },
    }
}

fn try_send_error<T>(message: T, unsent: Unsent) -> TrySendError<T> {
    match unsent {
        Unsent::NoRoom => TrySendError::Full { message },
        Unsent::TooLarge(limit) => TrySendError::TooLarge { message, limit },
        other => TrySendError::Disconnected { message, cause: other.into() },
    }
}

fn timeout_error<T>(message: T, unsent: Unsent) -> SendTimeoutError<T> {
    match unsent {
        Unsent::Interrupted => SendTimeoutError::Interrupted { message },
        Unsent::NoRoom => SendTimeoutError::Timeout { message },
        Unsent::TooLarge(limit) => SendTimeoutError::TooLarge { message, limit },
        other => SendTimeoutError::Disconnected { message, cause: other.into() },
    }
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        if !self.handle.shared.is_forked() {
            self.handle.shared.send.clone_sender(self.place, self.generation);
        }
        Self::new(Arc::clone(&self.handle), self.channel, self.place, self.generation)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        if !shared.is_forked() {
            let end = if std::thread::panicking() { End::Reset(Self::PANICKED) } else { End::Finish };
            shared.send.release(self.place, self.generation, end, &shared.pool);
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("channel", &self.channel).finish_non_exhaustive()
    }
}
