//! Waking several threads and tasks that wait with one handle.
//!
//! The library wakes the one that polled last, or keeps a waker of each. A bell is one waker for all of them,
//! always the same; and what gives up is taken out of it, so the list is as long as what waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

#[derive(Default)]
pub(crate) struct Bell {
    /// Held for a look; nothing else is locked meanwhile, and no waker runs.
    waits: Mutex<Vec<(u64, Waker)>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

impl Bell {
    /// Wakes all that wait. They look again.
    pub(crate) fn ring(&self) {
        let waits = std::mem::take(&mut *self.waits.lock());
        for (_, waker) in waits {
            waker.wake();
        }
    }

    /// A place for something that waits.
    pub(crate) fn place(self: &Arc<Self>) -> Place {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Place {
            waker: Waker::from(Arc::clone(self)),
            bell: Arc::clone(self),
            number: NUMBERS.fetch_add(1, Relaxed),
        }
    }
}

/// A thread's or a task's place at a bell, until it is dropped.
pub(crate) struct Place {
    bell: Arc<Bell>,
    number: u64,
    waker: Waker,
}

impl Place {
    /// Polls with the bell as the waker. What polls is woken when the bell rings.
    pub(crate) fn poll<T>(
        &self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // Before the poll: a ring in between must not be missed.
        let spent = self.enter(context.waker());
        drop(spent);
        poll(&mut Context::from_waker(&self.waker))
    }

    fn enter(&self, waker: &Waker) -> Option<Waker> {
        let mut waits = self.bell.waits.lock();
        match waits.iter_mut().find(|(number, _)| *number == self.number) {
            Some((_, known)) if known.will_wake(waker) => None,
            Some((_, known)) => Some(std::mem::replace(known, waker.clone())),
            None => {
                waits.push((self.number, waker.clone()));
                None
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waits = self.bell.waits.lock();
        let at = waits.iter().position(|(number, _)| *number == self.number);
        let spent = at.map(|at| waits.swap_remove(at));
        drop(waits);
        drop(spent);
    }
}
