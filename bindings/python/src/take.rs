//! What a call of a receiver takes: the next message, several, the newest, or whatever comes.

use std::task::{Context, Poll};
use std::time::Instant;

use trunkline::{Received, RecvError, RecvTimeoutError, TryRecvError};

pub(crate) type Looked<T> = Poll<Result<T, RecvError>>;

/// What a call takes.
pub(crate) trait Take: Sync {
    type Item: Send;
    /// Never waits.
    fn now(&self, receiver: &trunkline::Receiver) -> Looked<Self::Item>;
    /// Waits as a thread.
    fn wait(&self, receiver: &trunkline::Receiver, until: Instant) -> Looked<Self::Item>;
    fn poll(&self, receiver: &trunkline::Receiver, context: &mut Context<'_>) -> Looked<Self::Item>;
}

/// The next message.
pub(crate) struct One;

impl Take for One {
    type Item = trunkline::Message;

    fn now(&self, receiver: &trunkline::Receiver) -> Looked<Self::Item> {
        match receiver.try_recv() {
            Ok(message) => Poll::Ready(Ok(message)),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected(why)) => Poll::Ready(Err(why)),
        }
    }

    fn wait(&self, receiver: &trunkline::Receiver, until: Instant) -> Looked<Self::Item> {
        match receiver.recv_deadline(until) {
            Ok(message) => Poll::Ready(Ok(message)),
            Err(RecvTimeoutError::Timeout) => Poll::Pending,
            Err(RecvTimeoutError::Disconnected(why)) => Poll::Ready(Err(why)),
        }
    }

    fn poll(&self, receiver: &trunkline::Receiver, context: &mut Context<'_>) -> Looked<Self::Item> {
        receiver.poll_recv(context)
    }
}

/// The next message, and what else is there up to the first end; so many at most.
pub(crate) struct Many(pub(crate) usize);

impl Many {
    fn and_rest(
        &self,
        receiver: &trunkline::Receiver,
        first: Looked<trunkline::Message>,
    ) -> Looked<Vec<trunkline::Message>> {
        first.map_ok(|first| std::iter::once(first).chain(receiver.try_iter().take(self.0 - 1)).collect())
    }
}

impl Take for Many {
    type Item = Vec<trunkline::Message>;

    fn now(&self, receiver: &trunkline::Receiver) -> Looked<Self::Item> {
        self.and_rest(receiver, One.now(receiver))
    }

    fn wait(&self, receiver: &trunkline::Receiver, until: Instant) -> Looked<Self::Item> {
        self.and_rest(receiver, One.wait(receiver, until))
    }

    fn poll(&self, receiver: &trunkline::Receiver, context: &mut Context<'_>) -> Looked<Self::Item> {
        self.and_rest(receiver, One.poll(receiver, context))
    }
}

/// The newest message of those that are there.
pub(crate) struct Latest;

impl Latest {
    fn of(
        receiver: &trunkline::Receiver,
        first: impl FnOnce() -> Looked<trunkline::Message>,
    ) -> Looked<trunkline::Message> {
        let others = receiver.len().saturating_sub(1);
        first().map_ok(|first| receiver.try_iter().take(others).last().unwrap_or(first))
    }
}

impl Take for Latest {
    type Item = trunkline::Message;

    fn now(&self, receiver: &trunkline::Receiver) -> Looked<Self::Item> {
        Self::of(receiver, || One.now(receiver))
    }

    fn wait(&self, receiver: &trunkline::Receiver, until: Instant) -> Looked<Self::Item> {
        Self::of(receiver, || One.wait(receiver, until))
    }

    fn poll(&self, receiver: &trunkline::Receiver, context: &mut Context<'_>) -> Looked<Self::Item> {
        Self::of(receiver, || One.poll(receiver, context))
    }
}

/// The next message, gap or end.
pub(crate) struct Any;

impl Take for Any {
    type Item = Received;

    fn now(&self, receiver: &trunkline::Receiver) -> Looked<Self::Item> {
        match receiver.try_recv_any() {
            Ok(received) => Poll::Ready(Ok(received)),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected(why)) => Poll::Ready(Err(why)),
        }
    }

    fn wait(&self, receiver: &trunkline::Receiver, _until: Instant) -> Looked<Self::Item> {
        self.now(receiver)
    }

    fn poll(&self, receiver: &trunkline::Receiver, context: &mut Context<'_>) -> Looked<Self::Item> {
        receiver.poll_recv_any(context)
    }
}
