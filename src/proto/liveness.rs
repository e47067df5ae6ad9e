//! Heartbeat deadlines: when to ask the peer whether it lives, and when to give it up.
//!
//! Any byte that comes in shows that the peer lives. So does the socket taking bytes again after
//! it was full: the peer's side must have made room. Without that, a link that is busy with our
//! own bulk in front of the peer's answer would be cut although it is healthy.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// Nothing is due.
    Idle,
    /// Send a PING with this number.
    Ping(u64),
    /// Nothing was heard for the whole timeout.
    Dead,
}

#[derive(Debug)]
pub(crate) struct Liveness {
    interval: Option<Duration>,
    timeout: Duration,
    heard: Instant,
    /// The PING that waits for its PONG.
    asked: Option<(u64, Instant)>,
    pinged_at: Instant,
    number: u64,
    rtt: Option<Duration>,
}

impl Liveness {
    /// `interval` of `None` turns heartbeats off: then the peer is asked nothing and never given
    /// up for its silence.
    pub(crate) fn new(now: Instant, interval: Option<Duration>, timeout: Duration) -> Self {
        Self { interval, timeout, heard: now, asked: None, pinged_at: now, number: 0, rtt: None }
    }

    /// There is a new socket: what was asked on the old one is forgotten.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
        self.pinged_at = now;
    }

    pub(crate) fn handle_alive(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// A PONG counts only for the number that was asked: an invented one changes nothing.
    pub(crate) fn handle_pong(&mut self, now: Instant, number: u64) {
        if let Some((asked, at)) = self.asked
            && asked == number
        {
            self.rtt = Some(now.saturating_duration_since(at));
            self.asked = None;
        }
    }

    pub(crate) fn poll(&mut self, now: Instant) -> Heartbeat {
        let Some(interval) = self.interval else { return Heartbeat::Idle };
        if now >= self.heard + self.timeout {
            return Heartbeat::Dead;
        }
        if now >= self.heard + interval && now >= self.pinged_at + interval {
            self.number += 1;
            self.asked = Some((self.number, now));
            self.pinged_at = now;
            return Heartbeat::Ping(self.number);
        }
        Heartbeat::Idle
    }

    /// When `poll` wants to be asked again, if nothing arrives before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let interval = self.interval?;
        let ping = (self.heard + interval).max(self.pinged_at + interval);
        Some(ping.min(self.heard + self.timeout))
    }

    /// The last round trip that a PING measured.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(crate) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(rtt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_idle_peer_is_asked_then_given_up() {
        let start = Instant::now();
        let mut live = Liveness::new(start, Some(10 * SECOND), 30 * SECOND);
        assert_eq!(live.deadline(), Some(start + 10 * SECOND));
        assert_eq!(live.poll(start + 9 * SECOND), Heartbeat::Idle);
        assert_eq!(live.poll(start + 10 * SECOND), Heartbeat::Ping(1));
        assert_eq!(live.poll(start + 11 * SECOND), Heartbeat::Idle);
        assert_eq!(live.poll(start + 20 * SECOND), Heartbeat::Ping(2));
        assert_eq!(live.deadline(), Some(start + 30 * SECOND));
        assert_eq!(live.poll(start + 30 * SECOND), Heartbeat::Dead);
    }

    #[test]
    fn any_byte_and_only_the_right_pong_count() {
        let start = Instant::now();
        let mut live = Liveness::new(start, Some(10 * SECOND), 30 * SECOND);
        assert_eq!(live.poll(start + 10 * SECOND), Heartbeat::Ping(1));
        live.handle_pong(start + 11 * SECOND, 7);
        assert_eq!(live.rtt(), None);
        live.handle_pong(start + 12 * SECOND, 1);
        assert_eq!(live.rtt(), Some(2 * SECOND));
        live.handle_alive(start + 25 * SECOND);
        assert_eq!(live.poll(start + 34 * SECOND), Heartbeat::Idle);
        assert_eq!(live.poll(start + 35 * SECOND), Heartbeat::Ping(2));
    }

    #[test]
    fn no_interval_no_heartbeat() {
        let start = Instant::now();
        let mut live = Liveness::new(start, None, 30 * SECOND);
        assert_eq!(live.deadline(), None);
        assert_eq!(live.poll(start + 3600 * SECOND), Heartbeat::Idle);
    }
}
