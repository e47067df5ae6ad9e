//! How fast the socket drains, and what follows from it.
//!
//! What is urgent goes ahead of all that has not been taken from the send queue, but not of what
//! was: so on a slow link little is taken at a time, in small frames, and little is left unsent in
//! the kernel. On a fast one that would only cost calls.
//!
//! The rate is measured only while the socket is full: from one write that it did not take whole to
//! the next, so that an application with little to send does not look like a slow link.

use std::time::{Duration, Instant};

use crate::proto::frame::MAX_DATA;

/// Below this rate, in bytes a second, the sizes follow the rate.
const FAST: f64 = 32e6;
/// How long one frame may keep the link busy.
const FRAME_TIME: f64 = 0.0025;
/// How long one sealed record may (protocol, section 8).
const RECORD_TIME: f64 = 0.05;
const LEAST_RECORD: usize = 1024;
/// How long what the kernel has unsent may keep the link busy.
const UNSENT_TIME: f64 = 0.004;
/// The least sizes: smaller ones would be mostly headers.
const LEAST_FRAME: usize = 2048;
const LEAST_UNSENT: u32 = 4096;
/// What the kernel may keep unsent on a fast link: it keeps a gigabit busy between two wake-ups.
const MOST_UNSENT: u32 = 128 * 1024;
/// What is true of a link until so many bytes went out, because more may already be more than it carries in
/// a second: the longest frame, what is taken at once, and what the kernel may keep unsent.
const UNKNOWN: u64 = 256 * 1024;
const UNKNOWN_FRAME: usize = 8 * 1024;
const UNKNOWN_BITE: usize = 16 * 1024;
const UNKNOWN_UNSENT: u32 = 16 * 1024;
/// Bounds of what is taken from the send queue at once.
const LEAST_BITE: usize = 16 * 1024;
const FIRST_BITE: usize = 128 * 1024;
const MOST_BITE: usize = 1024 * 1024;
/// A peer that answers the handshake later than this is taken for a slow link at first.
const FAR: Duration = Duration::from_millis(3);
/// What such a link is taken for, in bytes a second.
const FAR_RATE: f64 = 1.5e6;
/// Shorter intervals say little.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<f64>,
    /// The last write that the socket did not take whole, and what it took since.
    full_since: Option<Instant>,
    taken: u64,
    bite: usize,
    /// Bytes that went out, while that is of interest.
    carried: u64,
}

impl Pace {
    pub(crate) fn new(rtt: Option<Duration>) -> Self {
        let far = rtt.is_some_and(|rtt| rtt >= FAR);
        Self { rate: far.then_some(FAR_RATE), full_since: None, taken: 0, bite: FIRST_BITE, carried: 0 }
    }

    /// The socket took all that was offered.
    pub(crate) fn took_all(&mut self, bytes: usize) {
        self.taken += bytes as u64;
        self.carried += bytes as u64;
        let most = if self.rate.is_some() { MOST_BITE } else { FIRST_BITE };
        self.bite = (self.bite * 2).min(most);
    }

    /// Nothing is left to offer: what follows measures the application, not the link.
    pub(crate) fn idle(&mut self) {
        self.full_since = None;
    }

    /// The socket took less than was offered: it is full.
    pub(crate) fn took_part(&mut self, now: Instant, bytes: usize) {
        self.taken += bytes as u64;
        self.carried += bytes as u64;
        self.bite = (self.bite / 2).max(LEAST_BITE);
        match self.full_since {
            Some(since) => {
                let elapsed = now.saturating_duration_since(since);
                if elapsed < LEAST_INTERVAL {
                    return;
                }
                let rate = self.taken as f64 / elapsed.as_secs_f64();
                self.rate = Some(self.rate.map_or(rate, |before| before * 0.7 + rate * 0.3));
            }
            None => self.taken = 0,
        }
        self.taken = 0;
        self.full_since = Some(now);
    }

    fn is_unknown(&self) -> bool {
        self.carried < UNKNOWN
    }

    fn slow_rate(&self) -> Option<f64> {
        self.rate.filter(|rate| *rate < FAST)
    }

    /// How much to take from the send queue at once.
    pub(crate) fn bite(&self) -> usize {
        match self.slow_rate() {
            Some(_) => self.frame(),
            None if self.is_unknown() => UNKNOWN_BITE,
            None => self.bite,
        }
    }

    /// The longest payload of a frame.
    pub(crate) fn frame(&self) -> usize {
        match self.slow_rate() {
            Some(rate) => ((rate * FRAME_TIME) as usize).clamp(LEAST_FRAME, MAX_DATA),
            None if self.is_unknown() => UNKNOWN_FRAME,
            None => MAX_DATA,
        }
    }

    /// The longest text of a sealed record, which can be read only when all of it has come.
    pub(crate) fn record(&self) -> usize {
        self.slow_rate().map_or(usize::MAX, |rate| ((rate * RECORD_TIME) as usize).max(LEAST_RECORD))
    }

    /// How much the kernel may keep unsent, in steps of two, so that it is seldom set anew.
    pub(crate) fn unsent(&self) -> u32 {
        match self.slow_rate() {
            Some(rate) => ((rate * UNSENT_TIME) as u32).next_power_of_two().clamp(LEAST_UNSENT, MOST_UNSENT),
            None if self.is_unknown() => UNKNOWN_UNSENT,
            None => MOST_UNSENT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_slow_link_gets_small_frames_and_a_fast_one_large_ones() {
        let start = Instant::now();
        for (per_ms, frame, unsent) in
            [(1_000, 2_500, 4096), (10_000, 25_000, 64 * 1024), (1_000_000, MAX_DATA, 128 * 1024)]
        {
            let mut pace = Pace::new(None);
            assert_eq!((pace.frame(), pace.unsent()), (UNKNOWN_FRAME, UNKNOWN_UNSENT));
            pace.took_all(UNKNOWN as usize);
            assert_eq!((pace.frame(), pace.unsent()), (MAX_DATA, MOST_UNSENT));
            for ms in 0..100 {
                pace.took_part(start + MS * ms, per_ms);
            }
            assert!(pace.frame().abs_diff(frame) <= 8, "{}", pace.frame());
            assert_eq!(pace.unsent(), unsent);
        }
    }

    #[test]
    fn an_idle_application_is_no_slow_link() {
        let start = Instant::now();
        let mut pace = Pace::new(None);
        pace.took_all(UNKNOWN as usize);
        for second in 0..10 {
            pace.took_part(start + MS * 1000 * second, 100);
            pace.took_all(100);
            pace.idle();
        }
        assert_eq!(pace.frame(), MAX_DATA);
    }

    #[test]
    fn a_far_peer_is_taken_for_slow_until_it_is_measured() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(MS * 40));
        assert!(pace.frame() <= 4_000 && pace.unsent() <= 8 * 1024);
        for ms in 0..100 {
            pace.took_part(start + MS * ms, 1_000_000);
        }
        assert_eq!(pace.frame(), MAX_DATA);
    }
}
