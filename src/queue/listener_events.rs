//! What happens at a listener, for those that listen.

use std::collections::VecDeque;
use std::io;
use std::mem::discriminant;
use std::net::SocketAddr;

use super::mailbox::{Mailboxes, Merged, Topic};
use crate::error::HandshakeError;
use crate::listener_event::ListenerEvent;

/// What comes to a listener; nothing of it lasts.
pub(crate) struct Door;

/// The mailboxes of a listener.
pub(crate) type ListenerEvents = Mailboxes<Door>;

impl ListenerEvents {
    pub(crate) fn turned_away(&self, error: HandshakeError, last: Option<SocketAddr>) {
        self.tell(&ListenerEvent::TurnedAway { error, peers: 1, last });
    }

    pub(crate) fn accept_failed(&self, kind: io::ErrorKind) {
        self.tell(&ListenerEvent::AcceptFailed { kind });
    }

    pub(crate) fn close(&self) {
        self.end(ListenerEvent::Closed);
    }
}

impl Topic for Door {
    type Event = ListenerEvent;
    type Wants = ();

    fn current(&mut self, (): ()) -> VecDeque<ListenerEvent> {
        VecDeque::new()
    }

    fn merge((): (), unread: &mut VecDeque<ListenerEvent>, event: &ListenerEvent) -> Merged {
        for old in unread.iter_mut() {
            match (old, event) {
                (
                    ListenerEvent::TurnedAway { error, peers, last },
                    ListenerEvent::TurnedAway { error: new, peers: more, last: newest },
                ) if discriminant(error) == discriminant(new) => {
                    *peers = peers.saturating_add(*more);
                    *last = *newest;
                    return Merged::Known;
                }
                (ListenerEvent::FileRemoved { again }, ListenerEvent::FileRemoved { again: newest }) => {
                    *again = *newest;
                    return Merged::Known;
                }
                (ListenerEvent::AcceptFailed { kind }, ListenerEvent::AcceptFailed { kind: newest }) => {
                    *kind = *newest;
                    return Merged::Known;
                }
                _ => {}
            }
        }
        unread.push_back(event.clone());
        Merged::New
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use super::*;
    use crate::queue::mailbox::NoEvent;
    use crate::queue::until::Until;

    #[test]
    fn what_strangers_do_is_counted_by_reason_and_does_not_grow() {
        let events = ListenerEvents::new(Door);
        let mailbox = events.listen(());
        let peer = |n: u16| Some(SocketAddr::from(([127, 0, 0, 1], n)));
        for n in 0..1000 {
            events.turned_away(HandshakeError::TimedOut, peer(n));
            events.turned_away(HandshakeError::NotAuthorised, peer(n));
            events.accept_failed(io::ErrorKind::Other);
        }
        events.close();
        let turned_away = |error| ListenerEvent::TurnedAway { error, peers: 1000, last: peer(999) };
        let unread: Vec<_> = std::iter::from_fn(|| events.take(mailbox, Until::Now).ok()).collect();
        let expected = [
            turned_away(HandshakeError::TimedOut),
            turned_away(HandshakeError::NotAuthorised),
            ListenerEvent::AcceptFailed { kind: io::ErrorKind::Other },
            ListenerEvent::Closed,
        ];
        assert_eq!(unread, expected);
        assert_eq!(events.take(mailbox, Until::Now), Err(NoEvent::Ever));
        // One that listens later hears of the end as well.
        let late = events.listen(());
        assert_eq!(events.take(late, Until::Now), Ok(ListenerEvent::Closed));
    }
}
