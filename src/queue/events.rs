//! What happens on a connection outside its channels, for those that listen.
//!
//! An interrupt that comes before anything listens is kept for the first that does.

use std::collections::VecDeque;

use super::mailbox::{Mailboxes, Merged, Topic};
use crate::error::ConnectionError;
use crate::event::Event;
use crate::id::ChannelSet;

/// Which events a listener wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wants {
    All,
    Interrupts,
}

/// What is true now, or was not heard.
#[derive(Debug, Default)]
pub(crate) struct Happenings {
    /// An interrupt that no mailbox has, nor has given out.
    interrupted: bool,
    /// The last interrupt was given out by some mailbox.
    interrupt_heard: bool,
    /// Channels that something came for and that have no receiver.
    opened: ChannelSet,
}

/// The mailboxes of a connection.
pub(crate) type Events = Mailboxes<Happenings>;

impl Events {
    /// The peer asks for an interrupt.
    pub(crate) fn tell_interrupt(&self) {
        self.change(|mut telling| {
            let kept = telling.tell(&Event::Interrupt);
            telling.topic.interrupted |= !kept;
            telling.topic.interrupt_heard = false;
        });
    }

    /// Something came for channels without a receiver. Told once, until there is one.
    pub(crate) fn tell_opened(&self, channels: ChannelSet) {
        if channels.is_empty() {
            return;
        }
        self.change(|mut telling| {
            let new = channels - telling.topic.opened;
            telling.topic.opened |= new;
            for channel in new {
                telling.tell(&Event::Opened(channel));
            }
        });
    }

    /// The connection is over.
    pub(crate) fn close(&self, cause: &ConnectionError) {
        self.end(Event::Closed(cause.clone()));
    }

    /// These channels have a receiver.
    pub(crate) fn claimed(&self, channels: ChannelSet) {
        self.change(|telling| telling.topic.opened = telling.topic.opened - channels);
    }
}

impl Topic for Happenings {
    type Event = Event;
    type Wants = Wants;

    fn current(&mut self, wants: Wants) -> VecDeque<Event> {
        let mut unread = VecDeque::new();
        if wants == Wants::All {
            unread.extend(self.opened.iter().map(Event::Opened));
        }
        if std::mem::take(&mut self.interrupted) {
            unread.push_back(Event::Interrupt);
        }
        unread
    }

    fn merge(wants: Wants, unread: &mut VecDeque<Event>, event: &Event) -> Merged {
        if wants == Wants::Interrupts && *event != Event::Interrupt {
            return Merged::Unwanted;
        }
        match event {
            // Once is enough.
            Event::Interrupt | Event::Opened(_) => {
                if unread.contains(event) {
                    return Merged::Known;
                }
            }
            // The newest state of a channel.
            Event::Waiting { channel, .. } => {
                unread
                    .retain(|old| !matches!(old, Event::Waiting { channel: known, .. } if known == channel));
            }
            Event::Stopped { channel, .. } => {
                unread
                    .retain(|old| !matches!(old, Event::Stopped { channel: known, .. } if known == channel));
            }
            // The last outage. A listener that has read of an outage and not of its end goes on
            // with that one, so the two take turns.
            Event::Suspended { .. } => {
                let is_outage = |old: &Event| matches!(old, Event::Suspended { .. } | Event::Resumed { .. });
                let knows = unread.iter().find(|old| is_outage(old));
                let knows = matches!(knows, Some(Event::Resumed { .. }));
                unread.retain(|old| !is_outage(old));
                if knows {
                    return Merged::Known;
                }
            }
            Event::Resumed { .. } | Event::Closed(_) => {}
        }
        unread.push_back(event.clone());
        Merged::New
    }

    fn taken(&mut self, event: &Event) {
        self.interrupt_heard |= *event == Event::Interrupt;
    }

    /// An interrupt that no mailbox has given out goes to the others, or is kept for the next.
    fn left(&mut self, unread: &VecDeque<Event>, others: bool) -> Option<Event> {
        if !unread.contains(&Event::Interrupt) || self.interrupt_heard {
            return None;
        }
        self.interrupted = !others;
        others.then_some(Event::Interrupt)
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::ChannelId;
    use crate::queue::mailbox::NoEvent;
    use crate::queue::until::Until;

    #[test]
    fn what_repeats_itself_is_merged_and_nothing_else_is_lost() {
        let events = Events::new(Happenings::default());
        let number = events.listen(Wants::All);
        let waiting =
            |channel, waiting, taken| Event::Waiting { channel: ChannelId::new(channel), waiting, taken };
        let suspended =
            Event::Suspended { cause: ConnectionError::Lost { kind: std::io::ErrorKind::UnexpectedEof } };
        let resumed = Event::Resumed { after: Duration::ZERO, attempts: 1 };
        for n in 0..1000 {
            events.tell_interrupt();
            events.tell(&waiting(1, n % 2 == 0, n));
            events.tell(&waiting(2, true, n));
            events.tell_opened(ChannelId::new(3).into());
            events.tell(&suspended);
            events.tell(&resumed);
        }
        let unread: Vec<_> = std::iter::from_fn(|| events.take(number, Until::Now).ok()).collect();
        let expected = [
            Event::Interrupt,
            Event::Opened(ChannelId::new(3)),
            waiting(1, false, 999),
            waiting(2, true, 999),
            suspended,
            resumed,
        ];
        assert_eq!(unread, expected);
    }

    #[test]
    fn the_beginning_and_the_end_of_outages_take_turns_however_late_they_are_read() {
        let suspended =
            Event::Suspended { cause: ConnectionError::Lost { kind: std::io::ErrorKind::UnexpectedEof } };
        let resumed = Event::Resumed { after: Duration::ZERO, attempts: 1 };
        // After each event, the listener reads all that is there or only the first.
        for pattern in 0..3u32.pow(6) {
            let events = Events::new(Happenings::default());
            let number = events.listen(Wants::All);
            let mut read = Vec::new();
            for n in 0..6 {
                events.tell(if n % 2 == 0 { &suspended } else { &resumed });
                let most = pattern / 3u32.pow(n) % 3;
                read.extend((0..most).map_while(|_| events.take(number, Until::Now).ok()));
            }
            read.extend(std::iter::from_fn(|| events.take(number, Until::Now).ok()));
            assert_eq!(read.len() % 2, 0, "{read:?}");
            for pair in read.chunks(2) {
                assert!(pair[0] == suspended && pair[1] == resumed, "{read:?}");
            }
        }
    }

    #[test]
    fn an_interrupt_that_nothing_heard_is_kept_for_the_first_that_listens() {
        let events = Events::new(Happenings::default());
        events.tell_interrupt();
        let first = events.listen(Wants::Interrupts);
        let second = events.listen(Wants::Interrupts);
        assert_eq!(events.take(second, Until::Now), Err(NoEvent::Yet));
        events.leave(second);
        // It was there and was not taken.
        events.leave(first);
        let third = events.listen(Wants::All);
        assert_eq!(events.take(third, Until::Now), Ok(Event::Interrupt));
        assert_eq!(events.take(third, Until::Now), Err(NoEvent::Yet));
    }
}
