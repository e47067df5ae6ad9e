//! [`Sink`]: messages to send.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;

use crate::error::{SendError, TrySendError};
use crate::queue::waiters::Owner;
use crate::sender::{Sender, send_error};

/// A [`Sink`] of messages for a channel: see [`Sender::into_sink`].
///
/// `poll_ready` waits for room. Another sender of the channel may take that room before `start_send`;
/// then the sink holds the message until there is room again. `poll_flush` waits until the send queue
/// has accepted what was held, as [`send`](Sender::send) does; until the peer has it,
/// [`Connection::flushing`](crate::Connection::flushing) does. `poll_close` ends the run, as
/// [`finish`](Sender::finish) does. A message that is held when the sink is dropped was not sent.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// # futures_util::FutureExt::now_or_never(async {
/// use futures_util::{SinkExt, StreamExt};
///
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let mut sink = here.sender(ChannelId::new(1))?.into_sink();
/// sink.send("a message".into()).await?;
/// sink.close().await?;
/// # here.flush()?;
/// let mut messages = there.receiver(ChannelId::new(1))?;
/// assert_eq!(&*messages.next().await.unwrap()?, b"a message");
/// assert!(messages.next().await.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
pub struct SenderSink {
    sender: Sender,
    /// Accepted by `start_send`, and not by the send queue.
    held: Option<Bytes>,
    /// The number with which its task waits.
    number: u64,
}

impl Sender {
    /// A [`Sink`] that sends on this channel.
    #[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
    #[must_use]
    pub fn into_sink(self) -> SenderSink {
        let number = self.task_number();
        SenderSink { sender: self, held: None, number }
    }

    /// A [`Sink`] that sends on this channel, beside this sender.
    #[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
    #[must_use]
    pub fn sink(&self) -> SenderSink {
        self.clone().into_sink()
    }
}

impl SenderSink {
    /// The sender that it sends with.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError<Bytes>>> {
        let Some(message) = &self.held else { return Poll::Ready(Ok(())) };
        let sent = ready!(self.sender.poll_bytes(message, self.number, context.waker()));
        let message = self.held.take().unwrap_or_default();
        Poll::Ready(sent.map_err(|unsent| send_error(message, unsent)))
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
impl Sink<Bytes> for SenderSink {
    type Error = SendError<Bytes>;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let sink = self.get_mut();
        ready!(sink.poll_held(context))?;
        sink.sender.poll_room(Owner::Sole(sink.number), context).map(Ok)
    }

    /// # Panics
    ///
    /// If the sink holds a message: the caller has not waited for `poll_ready`.
    fn start_send(self: Pin<&mut Self>, message: Bytes) -> Result<(), Self::Error> {
        let sink = self.get_mut();
        assert!(sink.held.is_none(), "`start_send` without a `poll_ready` that was ready");
        match sink.sender.try_send_bytes(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full { message }) => {
                sink.held = Some(message);
                Ok(())
            }
            Err(TrySendError::TooLarge { message, limit }) => Err(SendError::TooLarge { message, limit }),
            Err(TrySendError::Disconnected { message, cause }) => {
                Err(SendError::Disconnected { message, cause })
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().poll_held(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let sink = self.get_mut();
        ready!(sink.poll_held(context))?;
        let finished = sink.sender.finish();
        Poll::Ready(finished.map_err(|cause| SendError::Disconnected { message: Bytes::new(), cause }))
    }
}

impl Drop for SenderSink {
    fn drop(&mut self) {
        self.sender.forget_task(self.number);
    }
}

impl fmt::Debug for SenderSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderSink").field("channel", &self.sender.channel()).finish_non_exhaustive()
    }
}
