//! What happens on a connection outside its channels, for those that listen.
//!
//! It is state, not a log: what repeats itself is merged with what was not read yet, so a peer
//! cannot make it grow, and nothing that still matters is lost. An interrupt that comes before
//! anything listens is kept for the first that does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::sync::{Condvar, Mutex};
use super::until::{Until, check_may_wait};
use super::waiters::{Owner, Waiters, Wakes};
use crate::error::ConnectionError;
use crate::event::Event;
use crate::id::ChannelSet;

/// Which events a listener wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wants {
    All,
    Interrupts,
}

/// Events that were not read yet.
#[derive(Debug)]
struct Mailbox {
    number: u64,
    wants: Wants,
    unread: VecDeque<Event>,
    waiters: Waiters,
}

#[derive(Debug, Default)]
struct State {
    boxes: Vec<Mailbox>,
    numbers: u64,
    /// An interrupt that no mailbox has, nor has given out.
    interrupted: bool,
    /// The last interrupt was given out by some mailbox.
    interrupt_heard: bool,
    /// Channels that something came for and that have no receiver.
    opened: ChannelSet,
    ended: Option<ConnectionError>,
}

/// `state` protects everything. No other lock is taken while it is held.
#[derive(Debug, Default)]
pub(crate) struct Events {
    state: Mutex<State>,
}

/// Why there is no event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoEvent {
    /// Not now, or not in time.
    Yet,
    /// The connection is over, and everything was read.
    Ever,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    // ---- the I/O thread's side

    /// Something happened.
    pub(crate) fn tell(&self, event: &Event) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        let mut kept = false;
        for mailbox in &mut state.boxes {
            kept |= mailbox.put(event, &mut wakes);
        }
        if *event == Event::Interrupt {
            state.interrupted |= !kept;
            state.interrupt_heard = false;
        }
        drop(state);
        wakes.run();
    }

    /// Something came for channels without a receiver. Told once, until there is one.
    pub(crate) fn tell_opened(&self, channels: ChannelSet) {
        if channels.is_empty() {
            return;
        }
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        let new = channels - state.opened;
        state.opened |= new;
        for channel in new.iter() {
            for mailbox in &mut state.boxes {
                mailbox.put(&Event::Opened(channel), &mut wakes);
            }
        }
        drop(state);
        wakes.run();
    }

    /// The connection is over.
    pub(crate) fn end(&self, cause: &ConnectionError) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        if state.ended.is_none() {
            state.ended = Some(cause.clone());
            for mailbox in &mut state.boxes {
                mailbox.put(&Event::Closed(cause.clone()), &mut wakes);
                mailbox.waiters.end(&mut wakes);
            }
        }
        drop(state);
        wakes.run();
    }

    // ---- the listeners' side

    /// These channels have a receiver.
    pub(crate) fn claimed(&self, channels: ChannelSet) {
        let mut state = self.state.lock();
        state.opened = state.opened - channels;
    }

    /// A mailbox, with what is true now in it.
    pub(crate) fn listen(&self, wants: Wants) -> u64 {
        let mut state = self.state.lock();
        state.numbers += 1;
        let number = state.numbers;
        let mut unread = VecDeque::new();
        if wants == Wants::All {
            unread.extend(state.opened.iter().map(Event::Opened));
        }
        if std::mem::take(&mut state.interrupted) {
            unread.push_back(Event::Interrupt);
        }
        if wants == Wants::All
            && let Some(cause) = &state.ended
        {
            unread.push_back(Event::Closed(cause.clone()));
        }
        state.boxes.push(Mailbox { number, wants, unread, waiters: Waiters::default() });
        number
    }

    /// The mailbox is gone. An interrupt that no mailbox has given out goes to the others, or is kept
    /// for the next.
    pub(crate) fn leave(&self, number: u64) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        let Some(at) = state.boxes.iter().position(|mailbox| mailbox.number == number) else { return };
        let gone = state.boxes.swap_remove(at);
        if gone.unread.contains(&Event::Interrupt) && !state.interrupt_heard {
            for mailbox in &mut state.boxes {
                mailbox.put(&Event::Interrupt, &mut wakes);
            }
            state.interrupted = state.boxes.is_empty();
        }
        drop(state);
        // With it go wakers, whose drop is the user's code.
        drop(gone);
        wakes.run();
    }

    /// The next event of a mailbox, waiting as long as `until` allows.
    pub(crate) fn take(&self, number: u64, until: Until) -> Result<Event, NoEvent> {
        let condvar = Arc::new(Condvar::new());
        let mut state = self.state.lock();
        let mut late = matches!(until, Until::Now);
        loop {
            if let Some(result) = state.try_take(number) {
                return result;
            }
            if late {
                return Err(NoEvent::Yet);
            }
            check_may_wait();
            if let Some(mailbox) = state.mailbox(number) {
                mailbox.waiters.add_thread(&condvar);
            }
            match until {
                Until::At(at) => {
                    late = condvar.wait_until(&mut state, at).timed_out() && Instant::now() >= at;
                }
                Until::Now | Until::Forever => condvar.wait(&mut state),
            }
            if let Some(mailbox) = state.mailbox(number) {
                mailbox.waiters.remove_thread(&condvar);
            }
        }
    }

    /// The next event of a mailbox; `task` is woken when there is one.
    pub(crate) fn poll_take(
        &self,
        number: u64,
        owner: Owner,
        task: &Waker,
    ) -> Option<Result<Event, NoEvent>> {
        let mut state = self.state.lock();
        let result = state.try_take(number);
        let spent = match state.mailbox(number) {
            Some(mailbox) if result.is_none() => mailbox.waiters.add_task(owner, task),
            _ => None,
        };
        drop(state);
        drop(spent);
        result
    }

    /// A channel on which a token comes while the mailbox has something.
    pub(crate) fn ready(&self, number: u64) -> crossbeam_channel::Receiver<()> {
        let (token, ready) = crossbeam_channel::bounded(1);
        let mut state = self.state.lock();
        let ended = state.ended.is_some();
        if let Some(mailbox) = state.mailbox(number) {
            if !mailbox.unread.is_empty() {
                let _ = token.try_send(());
            }
            if !ended {
                mailbox.waiters.add_token(token);
            }
        }
        ready
    }
}

impl State {
    fn mailbox(&mut self, number: u64) -> Option<&mut Mailbox> {
        self.boxes.iter_mut().find(|mailbox| mailbox.number == number)
    }

    fn try_take(&mut self, number: u64) -> Option<Result<Event, NoEvent>> {
        let ended = self.ended.is_some();
        let Some(mailbox) = self.mailbox(number) else { return Some(Err(NoEvent::Ever)) };
        let event = mailbox.unread.pop_front();
        if !mailbox.unread.is_empty() {
            mailbox.waiters.put_tokens();
        }
        self.interrupt_heard |= event == Some(Event::Interrupt);
        match event {
            Some(event) => Some(Ok(event)),
            None => ended.then_some(Err(NoEvent::Ever)),
        }
    }
}

impl Mailbox {
    /// Puts an event in, merged with what was not read; `false` if it is not wanted.
    fn put(&mut self, event: &Event, wakes: &mut Wakes) -> bool {
        if self.wants == Wants::Interrupts && *event != Event::Interrupt {
            return false;
        }
        let unread = &mut self.unread;
        match event {
            // Once is enough.
            Event::Interrupt | Event::Opened(_) => {
                if unread.contains(event) {
                    return true;
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
                    return true;
                }
            }
            Event::Resumed { .. } | Event::Closed(_) => {}
        }
        unread.push_back(event.clone());
        self.waiters.notify(wakes);
        true
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::ChannelId;

    #[test]
    fn what_repeats_itself_is_merged_and_nothing_else_is_lost() {
        let events = Events::new();
        let number = events.listen(Wants::All);
        let waiting =
            |channel, waiting, taken| Event::Waiting { channel: ChannelId::new(channel), waiting, taken };
        let suspended =
            Event::Suspended { cause: ConnectionError::Lost { kind: std::io::ErrorKind::UnexpectedEof } };
        let resumed = Event::Resumed { after: Duration::ZERO, attempts: 1 };
        for n in 0..1000 {
            events.tell(&Event::Interrupt);
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
            let events = Events::new();
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
        let events = Events::new();
        events.tell(&Event::Interrupt);
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
