//! How much of the stream may be under way at once on a slow link.
//!
//! What is urgent goes ahead of all that was not handed to the socket, but not of what is under way: in the
//! kernel, and in the buffers of every machine between. On a fast link that is nothing. On a slow one it
//! can be seconds, so there no more is handed over than the link carries in about [`TIME`].
//!
//! A link is taken for fast until the peer's ACKs show otherwise; from then on PINGs among the data show sooner
//! than the ACKs how far it is. Nothing is measured of an application that sends little.

use std::time::Duration;
use std::time::Instant;

use crate::proto::frame::MAX_DATA;

/// How long what is under way may take to arrive and to be known to have arrived, besides what a round trip
/// takes anyway. Less than a peer may wait with an ACK would let the link stand still.
const TIME: Duration = Duration::from_millis(210);
/// What arrives in a shorter time says little of the rate.
const LEAST_TIME: Duration = Duration::from_millis(150);
/// So many rates are remembered: those of a second or two.
const RATES: usize = 8;
/// After so many rates it is tried whether the link carries so many times what it seems to: the window itself
/// may be what limits it, if the answers wait behind what the peer sends.
const TRY: usize = 4;
const MORE: f64 = 1.3;
/// With less than this under way, the application may be what is slow.
const BUSY: u64 = 16 * 1024;
/// The least that may be under way.
const LEAST_WINDOW: u64 = 8 * 1024;
/// A window has room for so many frames, so that channels take turns in it.
const FRAMES: u64 = 8;
const LEAST_FRAME: usize = 2048;

#[derive(Debug)]
pub(super) struct Flight {
    /// `None` on a fast link.
    window: Option<u64>,
    /// What the peer had then; nothing has stood still since.
    begun: Option<(Instant, u64)>,
    /// The newest rates, in bytes a second. The best of them is the link's: the others may be those of a
    /// peer, or of this side, that was busy with something else.
    rates: [f64; RATES],
    next: usize,
    /// The shortest round trip so far: what a link takes that carries nothing.
    base: Duration,
}

impl Flight {
    pub(super) fn new() -> Self {
        Self { window: None, begun: None, rates: [0.0; RATES], next: 0, base: Duration::ZERO }
    }

    /// There is another socket, perhaps over another network.
    pub(super) fn restart(&mut self) {
        *self = Self::new();
    }

    /// What may be under way, at most.
    #[inline]
    pub(super) fn window(&self) -> u64 {
        self.window.unwrap_or(u64::MAX)
    }

    /// The longest payload of a frame.
    #[inline]
    pub(super) fn frame(&self) -> usize {
        match self.window {
            None => MAX_DATA,
            Some(window) => {
                usize::try_from(window / FRAMES).map_or(MAX_DATA, |frame| frame.clamp(LEAST_FRAME, MAX_DATA))
            }
        }
    }

    /// From how much under way on the peer is to be asked for a sign, since its ACKs may be late; `None` on a
    /// fast link.
    #[inline]
    pub(super) fn probe_at(&self) -> Option<u64> {
        self.window.map(|window| window / 2)
    }

    /// Data goes out although nothing is under way.
    #[inline]
    pub(super) fn begin(&mut self, now: Instant, sent: u64) {
        self.begun = Some((now, sent));
    }

    /// A round trip was measured.
    pub(super) fn handle_rtt(&mut self, rtt: Duration) {
        self.base = if self.base.is_zero() { rtt } else { self.base.min(rtt) };
    }

    /// The peer has more of the stream than before, and `left` is still under way. A window of `most` is none.
    pub(super) fn handle_progress(&mut self, now: Instant, peer_has: u64, left: u64, most: u64) {
        let Some((since, had)) = self.begun else { return };
        // The first of it is known to have arrived a round trip after it went out.
        let time = now.saturating_duration_since(since).saturating_sub(self.base);
        if time < LEAST_TIME {
            return;
        }
        self.begun = Some((now.checked_sub(self.base).unwrap_or(now), peer_has));
        if left < self.window.map_or(BUSY, |window| BUSY.min(window / 4)) {
            return;
        }
        self.rates[self.next % RATES] = peer_has.saturating_sub(had) as f64 / time.as_secs_f64();
        self.next += 1;
        let rate = self.rates.into_iter().fold(0.0, f64::max);
        let more = if self.next.is_multiple_of(TRY) { MORE } else { 1.0 };
        let window = (rate * (TIME + self.base).as_secs_f64() * more) as u64;
        self.window = Some(window.max(LEAST_WINDOW)).filter(|window| *window < most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const MOST: u64 = 4 << 20;

    /// A link that carries so much a second, with a buffer of half a second or more in it, and a peer that
    /// acknowledges after 200 ms: the window, and how long the last byte waits, once that has settled.
    fn settle(rate: f64, base: Duration) -> (Option<u64>, f64) {
        let start = Instant::now();
        let mut flight = Flight::new();
        flight.handle_rtt(base);
        let buffer = if rate < 5e6 { 100_000 } else { MOST };
        let (mut sent, mut has) = (buffer, 0_u64);
        flight.begin(start, 0);
        let mut wait = 0.0;
        for step in 1..400_u32 {
            let now = start + MS * 50 * step + base;
            has = (has + (rate * 0.05) as u64).min(sent);
            if step % 4 == 0 {
                flight.handle_progress(now, has, sent - has, MOST);
            }
            let under_way = sent - has;
            if flight.probe_at().is_some_and(|at| under_way >= at) {
                flight.handle_progress(now, has, under_way, MOST);
            }
            sent = sent.max(has + flight.window.unwrap_or(buffer));
            wait = (sent - has) as f64 / rate;
        }
        (flight.window, wait)
    }

    #[test]
    fn on_a_slow_link_little_is_under_way_and_never_nothing() {
        for (rate, base) in [(100e3, MS), (100e3, MS * 100), (20e3, MS * 40), (1e6, MS * 20)] {
            let (window, wait) = settle(rate, base);
            let most = if rate < 50e3 { 0.6 } else { 0.4 } + base.as_secs_f64();
            assert!(wait <= most, "{wait} s at {rate} and {base:?}");
            let window = window.expect("it is slow") as f64;
            // Enough that it does not stand still for a round trip.
            assert!(window / rate >= base.as_secs_f64(), "{window} at {rate}");
        }
    }

    #[test]
    fn a_fast_link_has_no_window() {
        for rate in [50e6, 1e9] {
            assert_eq!(settle(rate, MS).0, None);
        }
    }

    #[test]
    fn an_application_that_sends_little_says_nothing_of_the_link() {
        let start = Instant::now();
        let mut flight = Flight::new();
        for second in 0..100_u64 {
            let now = start + MS * 1000 * second as u32;
            flight.begin(now, second * 1000);
            // Acknowledged late, as a peer may.
            flight.handle_progress(now + MS * 200, second * 1000 + 1000, 0, MOST);
        }
        assert_eq!((flight.window, flight.frame()), (None, MAX_DATA));
    }

    #[test]
    fn a_link_that_becomes_fast_again_loses_its_window() {
        let start = Instant::now();
        let mut flight = Flight::new();
        flight.begin(start, 0);
        flight.handle_progress(start + MS * 200, 20_000, 100_000, MOST);
        assert!(flight.window.is_some());
        let mut has = 20_000;
        for step in 2..30_u32 {
            // All that may be under way arrives at once.
            has += flight.window().min(MOST) * 10;
            flight.handle_progress(start + MS * 200 * step, has, flight.window().min(MOST), MOST);
        }
        assert_eq!(flight.window, None);
    }
}
