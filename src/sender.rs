//! The sending end of a channel.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{ConnectionError, Disconnect, SendError, SendTimeoutError, TrySendError};
use crate::handle::Handle;
use crate::id::ChannelId;
use crate::proto::frame::{End, MAX_DATA};
use crate::proto::outbound::Payload;
use crate::queue::send::{Unsent, Until};

/// The sending end of a channel.
///
/// Clones send on the same channel, and whatever several threads send is in the order in which the
/// calls were made. When the last one is dropped, the peer reads what was sent and then the end.
///
/// A `send` returns when the message is in the send queue; the I/O thread does the rest. It waits
/// while the peer has not taken enough of the channel (that holds up no other channel), or while
/// the connection's send queue is full. A message may be larger than what the peer takes at once:
/// the rest follows as the peer takes the beginning.
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
    pub(crate) fn new(handle: Arc<Handle>, channel: ChannelId, place: usize, generation: u32) -> Self {
        Self { handle, channel, place, generation }
    }

    #[inline]
    fn offer(&self, message: &[u8], until: Until) -> Result<(), Unsent> {
        if self.handle.shared.send.send_quickly(self.place, self.generation, message) {
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
        let shared = &self.handle.shared;
        shared.send.send(self.place, self.generation, Payload::Slice(message), until, shared.pool())
    }

    fn offer_bytes(&self, message: &Bytes, until: Until) -> Result<(), Unsent> {
        let shared = &self.handle.shared;
        shared.send.send(self.place, self.generation, Payload::Shared(message), until, shared.pool())
    }

    /// Sends a message, waiting for room as long as it takes.
    ///
    /// # Errors
    ///
    /// Gives the message back: [`SendError::TooLarge`] if the peer takes no message of that size,
    /// [`SendError::Disconnected`] if the peer stopped receiving or the connection is over.
    pub fn send<T: AsRef<[u8]>>(&self, message: T) -> Result<(), SendError<T>> {
        self.offer(message.as_ref(), Until::Forever).map_err(|unsent| send_error(message, unsent))
    }

    /// Sends a message without copying it; otherwise as [`send`](Sender::send). It pays above a
    /// few KiB; smaller ones are copied all the same.
    ///
    /// Its memory is given back in whichever thread runs the I/O loop. So if it has an owner
    /// ([`Bytes::from_owner`]), that one's drop must be quick, and not call this library.
    ///
    /// # Errors
    ///
    /// As [`send`](Sender::send).
    pub fn send_bytes(&self, message: Bytes) -> Result<(), SendError<Bytes>> {
        self.offer_bytes(&message, Until::Forever).map_err(|unsent| send_error(message, unsent))
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// Gives the message back: [`TrySendError::Full`] if there is no room now, else as
    /// [`send`](Sender::send). It works for a message of any size on a channel that is idle.
    pub fn try_send<T: AsRef<[u8]>>(&self, message: T) -> Result<(), TrySendError<T>> {
        self.offer(message.as_ref(), Until::Now).map_err(|unsent| match unsent {
            Unsent::NoRoom => TrySendError::Full { message },
            Unsent::TooLarge(limit) => TrySendError::TooLarge { message, limit },
            Unsent::Stopped(code) => TrySendError::Disconnected { message, cause: Disconnect::Stopped(code) },
            Unsent::Ended(cause) => TrySendError::Disconnected { message, cause: cause.into() },
        })
    }

    /// Sends a message, waiting for room at most so long. If it times out, nothing of the message
    /// was sent.
    ///
    /// # Errors
    ///
    /// Gives the message back: [`SendTimeoutError::Timeout`] if there was no room in time, else as
    /// [`send`](Sender::send).
    pub fn send_timeout<T: AsRef<[u8]>>(
        &self,
        message: T,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<T>> {
        self.send_until(message, Until::after(timeout))
    }

    /// Sends a message, waiting for room until then at most; otherwise as
    /// [`send_timeout`](Sender::send_timeout).
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Sender::send_timeout).
    pub fn send_deadline<T: AsRef<[u8]>>(
        &self,
        message: T,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<T>> {
        self.send_until(message, Until::At(deadline))
    }

    fn send_until<T: AsRef<[u8]>>(&self, message: T, until: Until) -> Result<(), SendTimeoutError<T>> {
        self.offer(message.as_ref(), until).map_err(|unsent| match unsent {
            Unsent::NoRoom => SendTimeoutError::Timeout { message },
            Unsent::TooLarge(limit) => SendTimeoutError::TooLarge { message, limit },
            Unsent::Stopped(code) => {
                SendTimeoutError::Disconnected { message, cause: Disconnect::Stopped(code) }
            }
            Unsent::Ended(cause) => SendTimeoutError::Disconnected { message, cause: cause.into() },
        })
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// How many bytes the peer takes on this channel now; a frame of up to 64 KiB costs its length
    /// + 32 of them.
    #[must_use]
    pub fn credit(&self) -> u32 {
        self.handle.shared.send.read(|outbound| outbound.credit(self.place))
    }

    /// Ends this run of the channel: the peer reads what was sent, and then the end. What is sent
    /// after it begins the next run. A second call with nothing sent in between does nothing; the
    /// first one ends the run even if nothing was sent at all.
    ///
    /// # Errors
    ///
    /// If the connection is over.
    pub fn finish(&self) -> Result<(), ConnectionError> {
        self.end(End::Finish)
    }

    /// Abandons this run of the channel: the peer reads the whole messages that are on their way,
    /// and then an error with this code. A message whose rest waits for room is dropped.
    ///
    /// # Errors
    ///
    /// If the connection is over.
    pub fn reset(&self, code: u32) -> Result<(), ConnectionError> {
        self.end(End::Reset(code))
    }

    fn end(&self, end: End) -> Result<(), ConnectionError> {
        let shared = &self.handle.shared;
        shared.send.end_run(self.place, self.generation, end, shared.pool())
    }
}

fn send_error<T>(message: T, unsent: Unsent) -> SendError<T> {
    match unsent {
        Unsent::TooLarge(limit) => SendError::TooLarge { message, limit },
        Unsent::Stopped(code) => SendError::Disconnected { message, cause: Disconnect::Stopped(code) },
        Unsent::Ended(cause) => SendError::Disconnected { message, cause: cause.into() },
        // One that waits for ever is never told that there was no room in time.
        Unsent::NoRoom => SendError::Disconnected { message, cause: ConnectionError::IoThreadStopped.into() },
    }
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        self.handle.shared.send.clone_sender(self.place, self.generation);
        Self::new(Arc::clone(&self.handle), self.channel, self.place, self.generation)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        shared.send.release(self.place, self.generation, shared.pool());
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("channel", &self.channel).finish_non_exhaustive()
    }
}
