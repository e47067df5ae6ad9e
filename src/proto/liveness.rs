//! Heartbeat deadlines: when to ask the peer whether it lives, and when to give it up.
//!
//! Any byte that comes in shows that the peer lives. So does the socket taking bytes again after
//! it was full: the peer's side must have made room. Without that, a link that is busy with our
//! own bulk in front of the peer's answer would be cut although it is healthy.
//!
//! A peer is given up only after it was asked and had time to answer: a process that was stopped
//! for longer than the timeout, or a machine that slept, has asked no peer.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// Nothing is due.
    Idle,
    /// Ask the peer.
    Ask,
    /// Nothing was heard for the whole timeout, although the peer was asked.
    Dead,
}

#[derive(Debug)]
pub(crate) struct Liveness {
    /// The interval and the timeout; `None` asks nothing and gives no peer up.
    times: Option<(Duration, Duration)>,
    heard: Instant,
    /// When the peer was first asked since it was heard.
    asked: Option<Instant>,
    pinged_at: Instant,
}

impl Liveness {
    pub(crate) fn new(now: Instant, times: Option<(Duration, Duration)>) -> Self {
        Self { times, heard: now, asked: None, pinged_at: now }
    }

    /// There is a new socket: what was asked on the old one is forgotten.
    pub(crate) fn restart(&mut self, now: Instant) {
        *self = Self::new(now, self.times);
    }

    pub(crate) fn handle_alive(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        self.asked = None;
    }

    /// The peer was asked, for whatever reason.
    pub(crate) fn handle_asked(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
        self.pinged_at = now;
    }

    pub(crate) fn poll(&mut self, now: Instant) -> Heartbeat {
        let Some((interval, _)) = self.times else { return Heartbeat::Idle };
        if self.dead_at().is_some_and(|at| now >= at) {
            return Heartbeat::Dead;
        }
        if now >= self.heard + interval && (self.asked.is_none() || now >= self.pinged_at + interval) {
            self.handle_asked(now);
            return Heartbeat::Ask;
        }
        Heartbeat::Idle
    }

    /// When the peer is given up, if nothing comes before.
    fn dead_at(&self) -> Option<Instant> {
        let (interval, timeout) = self.times?;
        let asked = self.asked?;
        Some((self.heard + timeout).max(asked + (timeout - interval)))
    }

    /// When `poll` wants to be called again, if nothing arrives before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (interval, _) = self.times?;
        let next = if self.asked.is_some() { self.pinged_at } else { self.heard } + interval;
        Some(self.dead_at().map_or(next, |dead| dead.min(next)))
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.times.map_or(Duration::MAX, |(_, timeout)| timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMES: Option<(Duration, Duration)> = Some((Duration::from_secs(10), Duration::from_secs(30)));

    #[test]
    fn an_idle_peer_is_asked_then_given_up() {
        let start = Instant::now();
        let mut live = Liveness::new(start, TIMES);
        assert_eq!(live.deadline(), Some(start + 10 * SECOND));
        assert_eq!(live.poll(start + 9 * SECOND), Heartbeat::Idle);
        assert_eq!(live.poll(start + 10 * SECOND), Heartbeat::Ask);
        assert_eq!(live.poll(start + 11 * SECOND), Heartbeat::Idle);
        assert_eq!(live.poll(start + 20 * SECOND), Heartbeat::Ask);
        assert_eq!(live.deadline(), Some(start + 30 * SECOND));
        assert_eq!(live.poll(start + 30 * SECOND), Heartbeat::Dead);
    }

    #[test]
    fn any_byte_counts() {
        let start = Instant::now();
        let mut live = Liveness::new(start, TIMES);
        assert_eq!(live.poll(start + 10 * SECOND), Heartbeat::Ask);
        live.handle_alive(start + 25 * SECOND);
        assert_eq!(live.poll(start + 34 * SECOND), Heartbeat::Idle);
        assert_eq!(live.poll(start + 35 * SECOND), Heartbeat::Ask);
    }

    #[test]
    fn a_peer_that_was_never_asked_is_asked_first() {
        let start = Instant::now();
        let mut live = Liveness::new(start, TIMES);
        // This process was stopped for an hour.
        let awake = start + 3600 * SECOND;
        assert_eq!(live.poll(awake), Heartbeat::Ask);
        assert_eq!(live.poll(awake + 19 * SECOND), Heartbeat::Ask);
        assert_eq!(live.deadline(), Some(awake + 20 * SECOND));
        assert_eq!(live.poll(awake + 20 * SECOND), Heartbeat::Dead);
    }

    #[test]
    fn no_interval_no_heartbeat() {
        let start = Instant::now();
        let mut live = Liveness::new(start, None);
        assert_eq!(live.deadline(), None);
        assert_eq!(live.poll(start + 3600 * SECOND), Heartbeat::Idle);
    }
}
