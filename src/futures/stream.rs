//! [`Stream`]: what comes, one after the other.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::connection::Connection;
use crate::error::RecvError;
use crate::event::Event;
use crate::events::Events;
use crate::listener::Listener;
use crate::message::Message;
use crate::queue::waiters::Owner;
use crate::receiver::Receiver;

/// The messages of a run. The stream ends where [`recv`](Receiver::recv) says
/// [`Finished`](RecvError::Finished), and goes on with the next run if it is asked again. A reset and
/// a gap are errors at their place, and messages may follow them. A lost connection is one error, and
/// then the end.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key};
/// # futures_util::FutureExt::now_or_never(async {
/// use futures_util::TryStreamExt;
///
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// # let sender = here.sender(ChannelId::new(1))?;
/// # sender.send("one")?;
/// # sender.send("two")?;
/// # drop(sender);
/// # here.flush()?;
/// let mut receiver = there.receiver(ChannelId::new(1))?;
/// while let Some(message) = receiver.try_next().await? {
///     println!("{} bytes", message.len());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
impl Stream for Receiver {
    type Item = Result<Message, RecvError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let receiver = self.get_mut();
        if receiver.has_told_end() {
            return Poll::Ready(None);
        }
        receiver.poll_recv(context).map(|next| match next {
            Err(RecvError::Finished) => None,
            Err(RecvError::ConnectionLost(cause)) => {
                receiver.set_told_end();
                Some(Err(RecvError::ConnectionLost(cause)))
            }
            other => Some(other),
        })
    }
}

/// The events, until the connection is over; the last is [`Event::Closed`].
///
/// ```
/// # use trunkline::{Config, Connection, Event, Key};
/// # futures_util::FutureExt::now_or_never(async {
/// use futures_util::StreamExt;
///
/// # let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let mut events = here.events();
/// # drop(there);
/// # while here.close_reason().is_none() { std::thread::yield_now() }
/// while let Some(event) = events.next().await {
///     println!("{event:?}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_as(Owner::ONLY, context).map(Result::ok)
    }
}

/// The clients that have proved their key, until the listener is closed.
///
/// ```
/// # use trunkline::{Config, Connection, Key, Listener};
/// # let key = Key::generate();
/// # let config = || Config::new(key.clone());
/// use futures_util::StreamExt;
///
/// let mut listener = Listener::bind("127.0.0.1:0", config())?;
/// # let address = listener.local_addr();
/// # let client = std::thread::spawn({ let config = config(); move || Connection::connect(address, config).unwrap() });
/// # while listener.ready().recv().is_err() {}
/// # futures_util::FutureExt::now_or_never(async {
/// while let Some(connection) = listener.next().await {
///     println!("a client at {:?}", connection.peer_addr());
///     # listener.close();
/// }
/// # }).unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
impl Stream for Listener {
    type Item = Connection;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Connection>> {
        self.poll_as(Owner::ONLY, context).map(Result::ok)
    }
}
