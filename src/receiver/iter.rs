//! Iterating over what is received.

use super::next::{Next, Wait};
use super::{Received, Receiver};
use crate::message::Message;
use crate::queue::until::Until;

impl Receiver {
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
                Err(_) => return None,
            }
        }
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
