//! What a receiver makes of the messages that arrive: whether each is the one that was due, when
//! the first and the last came, and how many there were.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::child::{Values, watchdog};
use crate::plan::Plan;
use crate::work::clock::Span;
use crate::work::message::{Head, LAST};

/// The messages of one channel.
pub struct Receiving {
    size: usize,
    taken: u64,
    span: Span,
}

impl Receiving {
    pub fn start(stage: &'static str, plan: &Plan) -> Self {
        watchdog::stage(stage);
        Self { size: plan.size, taken: 0, span: Span::default() }
    }

    /// Whether this message was the last.
    #[inline]
    pub fn take(&mut self, head: Head) -> Result<bool> {
        if self.taken == 0 {
            self.span.first();
        }
        head.check(self.taken, self.size)?;
        self.taken += 1;
        watchdog::progress(self.taken);
        if head.is(LAST) {
            self.span.last(self.taken);
        }
        Ok(head.is(LAST))
    }

    pub fn into_span(self) -> Span {
        self.span
    }
}

const STAGE_OF_MANY: &str = "receiving from all channels";

/// The messages of many channels in one hand.
pub struct InOneHand {
    size: usize,
    due: Vec<u64>,
    /// Channels whose last message has not come.
    open: u32,
    taken: u64,
    span: Span,
}

impl InOneHand {
    pub fn start(plan: &Plan) -> Self {
        watchdog::stage(STAGE_OF_MANY);
        let due = vec![0; plan.channels as usize];
        Self { size: plan.size, due, open: plan.channels, taken: 0, span: Span::default() }
    }

    /// Whether this message was the last of all.
    #[inline]
    pub fn take(&mut self, head: Head) -> Result<bool> {
        if self.taken == 0 {
            self.span.first();
        }
        let due = &mut self.due[head.channel as usize];
        head.check(*due, self.size)?;
        *due += 1;
        self.taken += 1;
        watchdog::progress(self.taken);
        self.open -= u32::from(head.is(LAST));
        if self.open == 0 {
            self.span.last(self.taken);
        }
        Ok(self.open == 0)
    }

    pub fn into_values(self) -> Values {
        self.span.into_values(self.size)
    }
}

/// The messages of many channels, each channel in a hand of its own.
pub struct InManyHands {
    size: usize,
    taken: Arc<AtomicU64>,
    first: Arc<OnceLock<Instant>>,
}

impl InManyHands {
    pub fn start(plan: &Plan) -> Self {
        watchdog::stage(STAGE_OF_MANY);
        Self { size: plan.size, taken: Arc::default(), first: Arc::default() }
    }

    pub fn hand(&self, channel: u32) -> Hand {
        let (taken, first) = (self.taken.clone(), self.first.clone());
        Hand { channel, size: self.size, due: 0, taken, first }
    }

    /// When every hand has taken its last message.
    pub fn into_values(self) -> Result<Values> {
        let mut span = Span::since(*self.first.get().context("no message")?);
        span.last(self.taken.load(Relaxed));
        Ok(span.into_values(self.size))
    }
}

pub struct Hand {
    channel: u32,
    size: usize,
    due: u64,
    taken: Arc<AtomicU64>,
    first: Arc<OnceLock<Instant>>,
}

impl Hand {
    /// Whether this message was the channel's last.
    #[inline]
    pub fn take(&mut self, head: Head) -> Result<bool> {
        self.first.get_or_init(Instant::now);
        head.check(self.due, self.size)?;
        ensure!(head.channel == self.channel, "a message of channel {}", head.channel);
        self.due += 1;
        watchdog::progress(self.taken.fetch_add(1, Relaxed) + 1);
        Ok(head.is(LAST))
    }
}
