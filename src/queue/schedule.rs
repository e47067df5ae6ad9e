//! How other threads get the I/O loop's attention, and which thread runs it.
//!
//! The loop has one *holder* at a time. Mostly that is the I/O thread. When it has served a reader
//! that waited, and no other thread waits, it offers the role and steps aside for a moment (the
//! *lease*): a reader that is about to block takes the role and runs the loop itself until its own
//! message is there, and a sender that answers runs it once, without sleeping, to get its frame out.
//! So a request and its reply wake no thread but those that wait for them.
//!
//! `state` protects the list, the holder and the lease together. The holder goes to sleep only by
//! [`Schedule::may_sleep`], which sees an empty list under the same lock that a pusher takes; so an
//! entry is either seen before the sleep, or its pusher sees the sleep and ends it. When no thread
//! holds the role, a pusher takes it or calls the I/O thread; and should none do either, the I/O
//! thread takes it back when the lease is over. The sleep is taken off by the first pusher, so it
//! costs one wake, not one per message.
//!
//! A reader that sleeps for want of the role counts as a sleeper first, and then calls the I/O
//! thread under the lock; the holder gives the role up under the same lock, and keeps the I/O thread
//! called while there are sleepers. So one of the two sees the other.

use std::sync::Arc;
use std::time::Duration;

use super::sync::{Condvar, Mutex};
use super::waiters::Sleepers;

/// How long the I/O thread leaves the role to others at first; after a lease in which no thread used
/// it, it takes it back.
const LEASE: Duration = Duration::from_micros(500);
/// While others go on using it, each lease is twice as long as the one before, up to so many times
/// the first, because each look at it costs a busy processor a switch. So nothing waits for longer
/// than two of the longest because no thread ran the loop, and mostly for two of the first.
const LONGEST: u32 = 8;

/// Ends the holder's sleep; may be called when it does not sleep.
pub(crate) trait Wake {
    fn wake(&self);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holder {
    /// The role is free to take.
    Free,
    /// A thread runs the loop and will look at the list before it sleeps.
    Awake,
    /// A thread runs the loop and sleeps in it.
    Asleep,
}

#[derive(Debug)]
struct State<T> {
    list: Vec<T>,
    holder: Holder,
    /// Another thread than the I/O thread had the role since it last looked.
    used: bool,
    /// The I/O thread is to take the role as soon as it is free.
    called: bool,
    /// Something was received since a sender last ran the loop: the rhythm of request and reply.
    /// A stream of messages never has it, and is better off with the I/O thread.
    answering: bool,
    /// The I/O thread is there; else what is pushed is dropped.
    open: bool,
    /// The holder is to look again before it sleeps.
    poked: bool,
    wakes: u64,
    lease: Duration,
}

impl<T> State<T> {
    fn take_call(&mut self) -> bool {
        std::mem::take(&mut self.poked) || !self.list.is_empty()
    }
}

#[derive(Debug)]
pub(crate) struct Schedule<T, W> {
    state: Mutex<State<T>>,
    /// Where the I/O thread waits for the role.
    turn: Condvar,
    wake: W,
    sleepers: Arc<Sleepers>,
}

impl<T, W: Wake> Schedule<T, W> {
    pub(crate) fn new(wake: W) -> Self {
        let state = State {
            list: Vec::new(),
            holder: Holder::Free,
            used: false,
            called: true,
            answering: false,
            open: true,
            poked: false,
            wakes: 0,
            lease: LEASE,
        };
        Self { state: Mutex::new(state), turn: Condvar::new(), wake, sleepers: Arc::default() }
    }

    /// Puts something on the list. `true`: the caller has the role now, and must run the loop once
    /// and then [`release`](Schedule::release) it.
    #[must_use]
    pub(crate) fn push(&self, item: T) -> bool {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if !state.open {
            return false;
        }
        state.list.push(item);
        match state.holder {
            Holder::Awake => false,
            Holder::Asleep => {
                state.holder = Holder::Awake;
                state.wakes += 1;
                drop(guard);
                self.wake.wake();
                false
            }
            Holder::Free if !state.called && std::mem::take(&mut state.answering) => {
                state.holder = Holder::Awake;
                state.used = true;
                true
            }
            Holder::Free => {
                state.wakes += u64::from(!state.called);
                let call = !std::mem::replace(&mut state.called, true);
                drop(guard);
                if call {
                    self.turn.notify_one();
                }
                false
            }
        }
    }

    /// The thread that calls is about to wait for what the loop does: it must be run.
    pub(crate) fn call(&self) {
        let mut state = self.state.lock();
        if state.holder == Holder::Free && !std::mem::replace(&mut state.called, true) {
            drop(state);
            self.turn.notify_one();
        }
    }

    /// Ends a sleep of the holder, so that it looks at what it waits for.
    pub(crate) fn poke(&self) {
        let mut state = self.state.lock();
        match state.holder {
            Holder::Asleep => {
                state.holder = Holder::Awake;
                drop(state);
                self.wake.wake();
            }
            // It may have looked already, and be about to sleep.
            Holder::Awake => state.poked = true,
            Holder::Free => {}
        }
    }

    /// Those that sleep until the loop brings them something.
    pub(crate) fn sleepers(&self) -> &Arc<Sleepers> {
        &self.sleepers
    }

    /// Takes the role if it is free, no thread has called the I/O thread, and none sleeps: else it is
    /// better that the I/O thread runs the loop.
    #[must_use]
    pub(crate) fn try_lead(&self) -> bool {
        let mut state = self.state.lock();
        let free = state.open && state.holder == Holder::Free && !state.called && self.sleepers.is_zero();
        if free {
            state.holder = Holder::Awake;
            state.used = true;
        }
        free
    }

    /// Gives the role up. `answering`: something was received. `call`: there is more to do, which
    /// the I/O thread is to see to at once, as when others sleep.
    pub(crate) fn release(&self, answering: bool, call: bool) {
        let mut state = self.state.lock();
        state.holder = Holder::Free;
        state.answering |= answering;
        state.called |= call || !state.list.is_empty() || !self.sleepers.is_zero();
        if state.called {
            drop(state);
            self.turn.notify_one();
        }
    }

    /// The I/O thread waits for the role: until it is called, or no thread has used a lease.
    pub(crate) fn wait_turn(&self) {
        let mut state = self.state.lock();
        let mut over = false;
        let mut lease = state.lease;
        while state.holder != Holder::Free || !(state.called || over) {
            let timed_out = self.turn.wait_for(&mut state, lease).timed_out();
            if timed_out {
                over = !std::mem::take(&mut state.used);
                lease = (lease * 2).min(state.lease * LONGEST);
            }
        }
        state.called = false;
        state.used = false;
        state.holder = Holder::Awake;
    }

    /// The holder takes all entries; it is awake.
    pub(crate) fn collect(&self, into: &mut Vec<T>) {
        debug_assert!(into.is_empty());
        let mut state = self.state.lock();
        state.holder = Holder::Awake;
        std::mem::swap(&mut state.list, into);
    }

    /// Returns `true` if the holder, which is awake, must look again: something is there, or it was poked
    /// since it last asked.
    pub(crate) fn is_called(&self) -> bool {
        self.state.lock().take_call()
    }

    /// The holder is about to sleep; `false`: it must look again, as above.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut state = self.state.lock();
        let may = !state.take_call();
        if may {
            state.holder = Holder::Asleep;
        }
        may
    }

    /// The holder has slept. It looks at the list before it sleeps again, so it need not be woken.
    pub(crate) fn awake(&self) {
        self.state.lock().holder = Holder::Awake;
    }

    /// Leases do not end by themselves from now on, so they cover up for no thread: for tests.
    #[cfg(all(test, not(trunkline_loom)))]
    pub(crate) fn make_leases_endless(&self) {
        self.state.lock().lease = Duration::from_secs(3600);
    }

    /// The I/O thread has ended: what is there, and what comes, is dropped, so that a thread that
    /// waits for an answer hears that there is none.
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

    /// How often another thread had to be woken to run the loop.
    pub(crate) fn wakes(&self) -> u64 {
        self.state.lock().wakes
    }
}
