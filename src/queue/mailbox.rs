//! Mailboxes: what happens, for each handle that listens.
//!
//! It is state, not a log: what repeats itself is merged with what was not read yet, so a peer
//! cannot make it grow, and nothing that still matters is lost. What merges with what is the
//! [`Topic`]'s to say.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::sync::{Condvar, Mutex};
use super::until::{Until, check_may_wait};
use super::waiters::{Owner, Waiters, Wakes};

/// Why there is no event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoEvent {
    /// Not now, or not in time.
    Yet,
    /// Nothing happens any more, and everything was read.
    Ever,
}

/// What became of an event in a mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Merged {
    Unwanted,
    /// What was not read says the same.
    Known,
    New,
}

/// What mailboxes are about.
pub(crate) trait Topic {
    type Event: Clone;
    /// Which events a mailbox wants.
    type Wants: Copy;

    /// What is true now, for a new mailbox; the last event is not its to keep.
    fn current(&mut self, wants: Self::Wants) -> VecDeque<Self::Event>;

    /// Puts an event behind those that were not read, or merges it with them.
    fn merge(wants: Self::Wants, unread: &mut VecDeque<Self::Event>, event: &Self::Event) -> Merged;

    /// A mailbox has given out an event.
    fn taken(&mut self, _event: &Self::Event) {}

    /// A mailbox is gone, with what was not read. Returns what the others have to hear.
    fn left(&mut self, _unread: &VecDeque<Self::Event>, _others: bool) -> Option<Self::Event> {
        None
    }
}

/// Events that were not read yet.
struct Mailbox<T: Topic> {
    number: u64,
    wants: T::Wants,
    unread: VecDeque<T::Event>,
    waiters: Waiters,
}

struct State<T: Topic> {
    boxes: Vec<Mailbox<T>>,
    numbers: u64,
    /// The last event, once there was one: nothing happens any more.
    last: Option<T::Event>,
    topic: T,
}

/// `state` protects everything. No other lock is taken while it is held.
pub(crate) struct Mailboxes<T: Topic> {
    state: Mutex<State<T>>,
}

/// The topic under the lock, and the way to tell of it.
pub(crate) struct Telling<'a, T: Topic> {
    pub(crate) topic: &'a mut T,
    boxes: &'a mut [Mailbox<T>],
    wakes: &'a mut Wakes,
}

impl<T: Topic> Telling<'_, T> {
    /// Tells all mailboxes; `true` if one of them wants to know.
    pub(crate) fn tell(&mut self, event: &T::Event) -> bool {
        let mut wanted = false;
        for mailbox in self.boxes.iter_mut() {
            wanted |= mailbox.put(event, self.wakes);
        }
        wanted
    }
}

impl<T: Topic> Mailboxes<T> {
    pub(crate) fn new(topic: T) -> Self {
        Self { state: Mutex::new(State { boxes: Vec::new(), numbers: 0, last: None, topic }) }
    }

    // ---- the side that tells

    /// Something happened.
    pub(crate) fn tell(&self, event: &T::Event) {
        self.change(|mut telling| {
            telling.tell(event);
        });
    }

    /// Changes the topic, and tells of it.
    pub(crate) fn change(&self, change: impl FnOnce(Telling<'_, T>)) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        let State { boxes, topic, .. } = &mut *state;
        change(Telling { topic, boxes, wakes: &mut wakes });
        drop(state);
        wakes.run();
    }

    /// The last event: nothing happens any more.
    pub(crate) fn end(&self, event: T::Event) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        if state.last.is_none() {
            for mailbox in &mut state.boxes {
                mailbox.put(&event, &mut wakes);
                mailbox.waiters.end(&mut wakes);
            }
            state.last = Some(event);
        }
        drop(state);
        wakes.run();
    }

    // ---- the listeners' side

    /// A mailbox, with what is true now in it.
    pub(crate) fn listen(&self, wants: T::Wants) -> u64 {
        let mut state = self.state.lock();
        state.numbers += 1;
        let number = state.numbers;
        let mut unread = state.topic.current(wants);
        if let Some(last) = &state.last {
            T::merge(wants, &mut unread, last);
        }
        state.boxes.push(Mailbox { number, wants, unread, waiters: Waiters::default() });
        number
    }

    /// The mailbox is gone.
    pub(crate) fn leave(&self, number: u64) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        let State { boxes, topic, .. } = &mut *state;
        let Some(at) = boxes.iter().position(|mailbox| mailbox.number == number) else { return };
        let gone = boxes.swap_remove(at);
        if let Some(event) = topic.left(&gone.unread, !boxes.is_empty()) {
            for mailbox in boxes {
                mailbox.put(&event, &mut wakes);
            }
        }
        drop(state);
        // With it go wakers, whose drop is the user's code.
        drop(gone);
        wakes.run();
    }

    /// The next event of a mailbox, waiting as long as `until` allows.
    pub(crate) fn take(&self, number: u64, until: Until) -> Result<T::Event, NoEvent> {
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
    ) -> Option<Result<T::Event, NoEvent>> {
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
        let ended = state.last.is_some();
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

impl<T: Topic> State<T> {
    fn mailbox(&mut self, number: u64) -> Option<&mut Mailbox<T>> {
        self.boxes.iter_mut().find(|mailbox| mailbox.number == number)
    }

    fn try_take(&mut self, number: u64) -> Option<Result<T::Event, NoEvent>> {
        let ended = self.last.is_some();
        let Some(mailbox) = self.mailbox(number) else { return Some(Err(NoEvent::Ever)) };
        let event = mailbox.unread.pop_front();
        if !mailbox.unread.is_empty() {
            mailbox.waiters.put_tokens();
        }
        match event {
            Some(event) => {
                self.topic.taken(&event);
                Some(Ok(event))
            }
            None => ended.then_some(Err(NoEvent::Ever)),
        }
    }
}

impl<T: Topic> Mailbox<T> {
    /// Puts an event in; `false` if it is not wanted.
    fn put(&mut self, event: &T::Event, wakes: &mut Wakes) -> bool {
        let merged = T::merge(self.wants, &mut self.unread, event);
        if merged == Merged::New {
            self.waiters.notify(wakes);
        }
        merged != Merged::Unwanted
    }
}
