//! Deadlines of connections, handshakes and listeners: one for each place.
//!
//! An entry of the heap is not taken out when its place's deadline moves. Deadlines mostly move
//! later (every byte that arrives moves the heartbeat), so when the entry fires its place is not
//! due yet, and the entry moves behind by itself: that costs nothing per message and serves no source
//! in vain.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::place::Place;

#[derive(Debug)]
struct Alarm {
    place: Place,
    deadline: Option<Instant>,
    /// The place's entries in the heap, the earliest first.
    entries: Vec<Instant>,
}

/// So many entries of places that are gone do not matter.
const FEW: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Place)>>,
    /// With so many entries those of places that are gone are thrown out, so that peers that come and
    /// go leave none behind until a time that is far away.
    clean_at: usize,
    /// By the index of the place.
    alarms: Vec<Option<Alarm>>,
}

impl Timers {
    /// Sets or clears the deadline of a place.
    pub(crate) fn set(&mut self, place: Place, deadline: Option<Instant>) {
        let index = place.index as usize;
        if self.alarms.len() <= index {
            self.alarms.resize_with(index + 1, || None);
        }
        let alarm = match &mut self.alarms[index] {
            Some(alarm) if alarm.place == place => alarm,
            old => old.insert(Alarm { place, deadline: None, entries: Vec::new() }),
        };
        alarm.deadline = deadline;
        if let Some(at) = deadline
            && alarm.entries.first().is_none_or(|first| at < *first)
        {
            alarm.entries.insert(0, at);
            self.heap.push(Reverse((at, place)));
            if self.heap.len() > self.clean_at {
                self.clean();
            }
        }
    }

    /// A place is gone.
    pub(crate) fn forget(&mut self, place: Place) {
        if let Some(alarm) = self.alarms.get_mut(place.index as usize)
            && alarm.as_ref().is_some_and(|alarm| alarm.place == place)
        {
            *alarm = None;
        }
    }

    /// Throws out what belongs to places that are gone, and waits with the next time until as much may
    /// have come again as was left.
    #[cold]
    fn clean(&mut self) {
        let alarms = &self.alarms;
        self.heap.retain(|Reverse((_, place))| {
            matches!(alarms.get(place.index as usize), Some(Some(alarm)) if alarm.place == *place)
        });
        self.clean_at = self.heap.len() * 2 + FEW;
    }

    /// Sets the deadline of a place, unless it has an earlier one.
    pub(crate) fn set_earlier(&mut self, place: Place, deadline: Instant) {
        let alarm = self.alarms.get(place.index as usize).and_then(Option::as_ref);
        let known = alarm.filter(|alarm| alarm.place == place).and_then(|alarm| alarm.deadline);
        if known.is_none_or(|known| deadline < known) {
            self.set(place, Some(deadline));
        }
    }

    /// When to look again; perhaps too early.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// A place whose deadline has passed. It has none after that.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Place> {
        while self.next().is_some_and(|at| at <= now) {
            let Reverse((at, place)) = self.heap.pop()?;
            let Some(Some(alarm)) = self.alarms.get_mut(place.index as usize) else { continue };
            if alarm.place != place {
                continue;
            }
            alarm.entries.retain(|entry| *entry != at);
            match alarm.deadline {
                Some(deadline) if deadline <= now => {
                    alarm.deadline = None;
                    return Some(place);
                }
                // A later entry of its own may do.
                Some(deadline) if alarm.entries.first().is_none_or(|first| deadline < *first) => {
                    alarm.entries.insert(0, deadline);
                    self.heap.push(Reverse((deadline, place)));
                }
                _ => {}
            }
        }
        None
    }

    #[cfg(all(test, not(trunkline_loom)))]
    fn entries(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::io::place::Slots;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_deadline_that_moves_fires_once_and_leaves_no_entries_behind() {
        let mut slots = Slots::new();
        let place = slots.insert_with(|_| ());
        let start = Instant::now();
        let mut timers = Timers::default();
        let mut fired = 0;
        // A heartbeat of 10 s, and an ACK 200 ms after every message: a message every 250 ms.
        for n in 0..4000u32 {
            let now = start + MS * 250 * n;
            timers.set(place, Some(now + MS * 200));
            while timers.pop_due(now + MS * 200).is_some() {
                fired += 1;
                timers.set(place, Some(now + MS * 10_000));
            }
            assert!(timers.entries() <= 2, "{} entries", timers.entries());
        }
        assert_eq!(fired, 4000);
    }

    #[test]
    fn places_that_are_gone_leave_few_entries_behind() {
        let mut slots = Slots::new();
        let start = Instant::now();
        let mut timers = Timers::default();
        let stays = slots.insert_with(|_| ());
        timers.set(stays, Some(start + MS));
        for n in 0..10_000 {
            let place = slots.insert_with(|_| ());
            timers.set(place, Some(start + MS * 3_600_000));
            if n % 2 == 0 {
                timers.forget(place);
            }
            slots.remove(place);
            assert!(timers.entries() <= 2 * FEW, "{} entries", timers.entries());
        }
        assert_eq!(timers.pop_due(start + MS), Some(stays));
        assert_eq!(timers.pop_due(start + MS), None);
    }

    #[test]
    fn a_place_that_is_gone_is_never_due() {
        let mut slots = Slots::new();
        let start = Instant::now();
        let mut timers = Timers::default();
        let first = slots.insert_with(|_| ());
        timers.set(first, Some(start + MS));
        slots.remove(first);
        let second = slots.insert_with(|_| ());
        timers.set(second, Some(start + MS * 3));
        assert_eq!(timers.pop_due(start + MS * 2), None);
        assert_eq!(timers.pop_due(start + MS * 3), Some(second));
        assert_eq!(timers.pop_due(start + MS * 3), None);
        timers.set(second, Some(start + MS * 4));
        timers.set(second, None);
        assert_eq!(timers.pop_due(start + MS * 5), None);
    }
}
