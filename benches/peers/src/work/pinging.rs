//! Pings and their answers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::child::{Values, watchdog};
use crate::plan::{PING_SIZE, Plan};
use crate::work::clock::RoundTrips;
use crate::work::message::{FLOODED, Head, LAST, Messages};

/// A series of pings, of which one is on its way at a time.
pub struct Pings {
    messages: Messages,
    /// What each ping bears, and what the last bears besides.
    flags: [u32; 2],
    until: Until,
    /// So many warm up and do not count.
    warm_up: u64,
    answered: u64,
    is_over: bool,
    sent: Instant,
    newest: Duration,
    times: RoundTrips,
}

enum Until {
    Count(u64),
    Time { start: Instant, length: Duration },
}

impl Pings {
    pub fn alone(plan: &Plan) -> Self {
        let count = Until::Count(plan.warm_up + plan.count);
        Self { warm_up: plan.warm_up, ..Self::new("pinging", [0, LAST], count) }
    }

    pub fn before_flood(plan: &Plan) -> Self {
        Self::new("pinging before the flood", [0, 0], Until::Count(plan.warm_up))
    }

    pub fn under_flood(plan: &Plan) -> Self {
        let time = Until::Time { start: Instant::now(), length: plan.together };
        Self::new("pinging under the flood", [FLOODED, LAST], time)
    }

    fn new(stage: &'static str, flags: [u32; 2], until: Until) -> Self {
        watchdog::stage(stage);
        Self {
            messages: Messages::new(PING_SIZE, 0),
            flags,
            is_over: matches!(until, Until::Count(0)),
            until,
            warm_up: 0,
            answered: 0,
            sent: Instant::now(),
            newest: Duration::ZERO,
            times: RoundTrips::new(),
        }
    }

    /// The next ping, when the one before is answered. Its time runs from here.
    #[inline]
    pub fn next(&mut self) -> Option<&[u8]> {
        if self.is_over {
            return None;
        }
        self.is_over = match self.until {
            Until::Count(count) => self.answered + 1 == count,
            // The last ping is the one that would outlast the time: where each takes seconds, a
            // further one would double the wait.
            Until::Time { start, length } => start.elapsed() + self.newest >= length,
        };
        let flags = self.flags[0] | if self.is_over { self.flags[1] } else { 0 };
        self.sent = Instant::now();
        Some(self.messages.small(self.answered, 0, flags))
    }

    #[inline]
    pub fn take(&mut self, answer: Head) -> Result<()> {
        self.newest = self.sent.elapsed();
        ensure!(answer.seq == self.answered, "the answer to another ping");
        self.answered += 1;
        watchdog::progress(self.answered);
        if self.answered > self.warm_up {
            self.times.record(self.newest);
        }
        Ok(())
    }

    pub fn into_values(self) -> Result<Values> {
        let mut values = Values::new();
        self.times.report("", &mut values)?;
        Ok(values)
    }

    /// The times of this series beside those of an idle one.
    pub fn into_values_beside(self, idle: &Self) -> Result<Values> {
        let mut values = self.into_values()?;
        idle.times.report("idle_", &mut values)?;
        Ok(values)
    }
}

/// The answers to pings, until the last is answered.
pub struct Answers {
    messages: Messages,
    sent: u64,
    is_over: bool,
}

impl Answers {
    pub fn start(stage: &'static str) -> Self {
        watchdog::stage(stage);
        Self { messages: Messages::new(PING_SIZE, 0), sent: 0, is_over: false }
    }

    #[inline]
    pub fn to(&mut self, ping: Head) -> &[u8] {
        self.is_over = ping.is(LAST);
        self.messages.small(ping.seq, ping.channel, ping.flags)
    }

    /// An answer is sent. Whether it was the last.
    #[inline]
    pub fn sent(&mut self) -> bool {
        self.sent += 1;
        watchdog::progress(self.sent);
        self.is_over
    }
}
