//! When the output of a program that has ended is over: a value without descriptors and clock.

use std::time::{Duration, Instant};

/// How long the output is silent before it is taken to be over, although another process could still write.
const SILENCE: Duration = Duration::from_millis(100);

/// The last output of a program.
///
/// It is over when every stream has ended. But a process that the program has left behind can hold a stream
/// open for ever. So it is also over when nothing has come for 100 ms, and at the latest when the linger is
/// over, however much others write. The time does not count while the reader is held up.
#[derive(Debug)]
pub(super) struct Drain {
    linger: Duration,
    /// Since when there was no output, and what is left of the linger; as of `at`.
    silent: Duration,
    left: Duration,
    at: Instant,
    held_up: bool,
}

impl Drain {
    /// The program has ended.
    pub(super) fn new(linger: Duration, now: Instant) -> Self {
        Self { linger, silent: Duration::ZERO, left: linger, at: now, held_up: false }
    }

    /// Output has come.
    pub(super) fn output(&mut self, now: Instant) {
        self.pass(now);
        self.silent = Duration::ZERO;
    }

    /// A stream is not read because its reader is held up, or no stream is.
    pub(super) fn hold_up(&mut self, held_up: bool, now: Instant) {
        self.pass(now);
        self.held_up = held_up;
    }

    /// When it is over if nothing comes; `None` while the reader is held up.
    pub(super) fn due(&self) -> Option<Instant> {
        let silence = SILENCE.min(self.linger).saturating_sub(self.silent);
        (!self.held_up).then(|| self.at + silence.min(self.left))
    }

    /// Returns `true` if the output is over although not every stream has ended. The caller has looked, and
    /// there was nothing, since the time that [`Drain::due`] names.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        self.pass(now);
        !self.held_up && (self.left.is_zero() || self.silent >= SILENCE.min(self.linger))
    }

    fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        if !self.held_up {
            self.silent += passed;
            self.left = self.left.saturating_sub(passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn silence_ends_it_and_noise_ends_with_the_linger() {
        let start = Instant::now();
        let mut drain = Drain::new(1000 * MS, start);
        assert_eq!(drain.due(), Some(start + SILENCE));
        assert!(!drain.is_over(start + 99 * MS));
        assert!(drain.is_over(start + 100 * MS));

        let mut drain = Drain::new(1000 * MS, start);
        for step in 1..100 {
            let now = start + step * 10 * MS;
            assert!(!drain.is_over(now));
            drain.output(now);
        }
        assert_eq!(drain.due(), Some(start + 1000 * MS));
        assert!(drain.is_over(start + 1000 * MS));
    }

    #[test]
    fn a_reader_that_is_held_up_loses_nothing() {
        let start = Instant::now();
        let mut drain = Drain::new(1000 * MS, start);
        drain.hold_up(true, start + 10 * MS);
        assert_eq!(drain.due(), None);
        assert!(!drain.is_over(start + 100_000 * MS));
        drain.hold_up(false, start + 100_000 * MS);
        assert!(!drain.is_over(start + 100_080 * MS));
        assert!(drain.is_over(start + 100_090 * MS));
    }

    #[test]
    fn without_a_linger_it_is_over_at_once() {
        let start = Instant::now();
        assert!(Drain::new(Duration::ZERO, start).is_over(start));
    }
}
