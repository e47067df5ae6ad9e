//! What a sender sends, message by message, until the plan's count or its time is up.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::child::watchdog;
use crate::plan::Plan;
use crate::work::message::{LAST, Messages};

#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    limit: Duration,
}

impl Clock {
    fn start(limit: Duration) -> Self {
        Self { start: Instant::now(), limit }
    }

    /// Not inlined: reading the clock takes an address, which keeps the whole sender out of the
    /// registers, which costs the fastest rows a tenth.
    #[inline(never)]
    fn is_up(self) -> bool {
        self.start.elapsed() > self.limit
    }
}

/// The messages of one channel.
pub struct Sending {
    messages: Messages,
    sent: u64,
    count: u64,
    clock: Clock,
}

impl Sending {
    pub fn start(plan: &Plan) -> Self {
        watchdog::stage("sending");
        Self {
            messages: Messages::new(plan.size, 0),
            sent: 0,
            count: plan.count,
            clock: Clock::start(plan.limit),
        }
    }

    /// The next small message, when the one before is sent.
    #[inline]
    pub fn next_small(&mut self) -> Option<&[u8]> {
        // Reading the clock costs more than sending a small message does.
        let (seq, is_last) = self.advance(self.sent.is_multiple_of(256))?;
        Some(self.messages.small(seq, 0, if is_last { LAST } else { 0 }))
    }

    /// The same, large.
    pub fn next_large(&mut self) -> Option<&Bytes> {
        let (seq, is_last) = self.advance(true)?;
        Some(self.messages.large(seq, is_last))
    }

    /// The number of the next message, and whether it is the last.
    #[inline]
    fn advance(&mut self, clock_due: bool) -> Option<(u64, bool)> {
        watchdog::progress(self.sent);
        if self.sent == self.count {
            return None;
        }
        let seq = self.sent;
        self.sent += 1;
        if clock_due && self.clock.is_up() {
            self.count = self.sent;
        }
        Some((seq, self.sent == self.count))
    }
}

/// The messages of many channels, one of each in turn.
pub struct RoundRobin {
    messages: Messages,
    channels: u32,
    /// The next one; none is left when it is as many as there are.
    channel: u32,
    seq: u64,
    is_last: bool,
    count: u64,
    clock: Clock,
}

impl RoundRobin {
    pub fn start(plan: &Plan) -> Self {
        watchdog::stage("sending round robin");
        Self {
            messages: Messages::new(plan.size, 0),
            channels: plan.channels,
            channel: 0,
            seq: 0,
            is_last: false,
            count: plan.count,
            clock: Clock::start(plan.limit),
        }
    }

    /// The next message and its channel, when the one before is sent.
    #[inline]
    pub fn next(&mut self) -> Option<(u32, &[u8])> {
        if self.channel == self.channels {
            self.seq += 1;
            watchdog::progress(self.seq);
            if self.is_last {
                return None;
            }
            self.channel = 0;
        }
        if self.channel == 0 {
            self.is_last = self.seq + 1 >= self.count || self.clock.is_up();
        }
        let channel = self.channel;
        self.channel += 1;
        Some((channel, self.messages.small(self.seq, channel, if self.is_last { LAST } else { 0 })))
    }
}
