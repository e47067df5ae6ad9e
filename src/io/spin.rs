//! Whether to look again for a moment before sleeping.
//!
//! To be woken costs more than most waits of a busy connection: tens of microseconds where the
//! processor has gone idle meanwhile, and the thread that wakes it pays as well. So the thread that runs the loop
//! polls for [`SPIN`] before it sleeps, giving way to every other thread that has something to do,
//! but only while that is worth it: each time in vain doubles how many short sleeps must go by
//! before it is tried again. Long sleeps do not count, so a process that waits for people or for
//! computations does not poll at all.

use std::time::Duration;

/// How long to look before a sleep.
pub(crate) const SPIN: Duration = Duration::from_micros(50);
/// A sleep of at most this may be one that looking would have spared: most of it is the waking,
/// on both ends.
const SHORT: Duration = Duration::from_micros(200);
/// So many short sleeps at most go by between two tries.
const MOST: u32 = 63;

#[derive(Debug)]
pub(crate) struct Spin {
    /// Short sleeps until the next try.
    skip: u32,
    /// How many they were the last time.
    penalty: u32,
    allowed: bool,
}

impl Spin {
    pub(crate) fn new(allowed: bool) -> Self {
        Self { skip: 1, penalty: 0, allowed }
    }

    pub(crate) fn is_worth_it(&self) -> bool {
        self.skip == 0 && self.allowed
    }

    /// Something came while it looked.
    pub(crate) fn found(&mut self) {
        self.penalty = 0;
    }

    /// It looked in vain.
    pub(crate) fn missed(&mut self) {
        self.penalty = (2 * self.penalty + 1).min(MOST);
        self.skip = self.penalty;
    }

    /// It slept, and something happened after so long.
    pub(crate) fn slept(&mut self, time: Duration) {
        if time <= SHORT {
            self.skip = self.skip.saturating_sub(1);
        }
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn long_sleeps_are_never_looked_for() {
        let mut spin = Spin::new(true);
        for _ in 0..1000 {
            assert!(!spin.is_worth_it());
            spin.slept(SHORT * 2);
        }
        spin.slept(SHORT);
        assert!(spin.is_worth_it());
        spin.missed();
        for _ in 0..1000 {
            assert!(!spin.is_worth_it());
            spin.slept(SHORT * 2);
        }
    }

    #[test]
    fn what_is_in_vain_becomes_rare_and_what_is_not_goes_on() {
        let mut spin = Spin::new(true);
        let mut tries = 0;
        for _ in 0..64 * 100 {
            if spin.is_worth_it() {
                tries += 1;
                spin.missed();
            }
            spin.slept(Duration::ZERO);
        }
        assert!((100..110).contains(&tries), "{tries}");
        while !spin.is_worth_it() {
            spin.slept(Duration::ZERO);
        }
        for _ in 0..100 {
            assert!(spin.is_worth_it());
            spin.found();
        }
        spin.missed();
        spin.slept(Duration::ZERO);
        assert!(spin.is_worth_it(), "one miss after success costs one sleep");
    }
}
