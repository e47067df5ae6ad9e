//! How other threads get the I/O thread's attention.
//!
//! `state` protects the list and `sleeping` together. The I/O thread goes to sleep only by
//! [`Schedule::may_sleep`], which sees an empty list and sets `sleeping` under the same lock that
//! a pusher takes; so an entry is either seen before the sleep, or its pusher sees `sleeping` and
//! wakes. The flag is taken by the first pusher, so a sleep costs one wake, not one per message.

use super::sync::Mutex;

/// Ends the I/O thread's sleep; may be called when it does not sleep.
pub(crate) trait Wake {
    fn wake(&self);
}

#[derive(Debug)]
struct State<T> {
    list: Vec<T>,
    sleeping: bool,
    /// The I/O thread is there; else what is pushed is dropped.
    open: bool,
    wakes: u64,
}

#[derive(Debug)]
pub(crate) struct Schedule<T, W> {
    state: Mutex<State<T>>,
    wake: W,
}

impl<T, W: Wake> Schedule<T, W> {
    pub(crate) fn new(wake: W) -> Self {
        Self { state: Mutex::new(State { list: Vec::new(), sleeping: false, open: true, wakes: 0 }), wake }
    }

    pub(crate) fn push(&self, item: T) {
        let mut state = self.state.lock();
        if !state.open {
            return;
        }
        state.list.push(item);
        let wake = std::mem::take(&mut state.sleeping);
        state.wakes += u64::from(wake);
        drop(state);
        if wake {
            self.wake.wake();
        }
    }

    /// The I/O thread takes all entries; it is awake.
    pub(crate) fn collect(&self, into: &mut Vec<T>) {
        debug_assert!(into.is_empty());
        let mut state = self.state.lock();
        state.sleeping = false;
        std::mem::swap(&mut state.list, into);
    }

    /// The I/O thread is about to sleep; `false`: it must not, something is there.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut state = self.state.lock();
        state.sleeping = state.list.is_empty();
        state.sleeping
    }

    /// The I/O thread has ended: what is there, and what comes, is dropped, so that whoever waits
    /// for an answer hears that there is none.
    pub(crate) fn shut(&self) {
        let mut state = self.state.lock();
        state.open = false;
        let list = std::mem::take(&mut state.list);
        drop(state);
        drop(list);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().open
    }

    /// How often the I/O thread was woken.
    pub(crate) fn wakes(&self) -> u64 {
        self.state.lock().wakes
    }
}
