//! Deadlines of connections, handshakes and listeners.
//!
//! Entries are not taken out when a deadline moves: one that fires too early is looked at and put
//! back. Deadlines mostly move later (every byte that arrives moves the heartbeat), so this costs
//! nothing per message.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::driver::Place;

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Place)>>,
}

impl Timers {
    pub(crate) fn add(&mut self, at: Instant, place: Place) {
        self.heap.push(Reverse((at, place)));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Place> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse((_, place))| place)
    }
}

/// The one entry that a source keeps in the heap.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    set: Option<Instant>,
}

impl Alarm {
    /// Makes sure that the source is called at `at` or before.
    pub(crate) fn set(&mut self, at: Option<Instant>, place: Place, timers: &mut Timers) {
        if let Some(at) = at
            && self.set.is_none_or(|set| at < set)
        {
            self.set = Some(at);
            timers.add(at, place);
        }
    }

    /// An entry has fired.
    pub(crate) fn fired(&mut self, now: Instant) {
        if self.set.is_some_and(|set| set <= now) {
            self.set = None;
        }
    }
}
