//! Large messages that run beside what is measured, and what they do to it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::child::{Values, usage, watchdog};
use crate::plan::Plan;
use crate::work::clock::Span;
use crate::work::message::{FLOODED, Head, LAST, Messages};

/// A peer that takes so much and asks for more has no bound worth the name.
const FILL_AT_MOST: u64 = 512 << 20;

/// How often, and after how long each time, a sender looks whether the unread channel is full.
pub const LOOKS: usize = 20;
pub const LOOK: Duration = Duration::from_millis(50);

/// What the flooding side sends.
pub struct Flood {
    messages: Messages,
    size: u64,
    most: u64,
    sent: u64,
    is_over: bool,
    gauge: Arc<Gauge>,
}

/// The flood as it is seen from beside it.
pub struct Gauge {
    stop: AtomicBool,
    bytes: AtomicU64,
    /// The bytes at the last look.
    seen: AtomicU64,
}

impl Flood {
    pub fn until_stopped(plan: &Plan) -> Self {
        Self::new(plan, u64::MAX)
    }

    /// For a channel that is not read.
    pub fn until_full(plan: &Plan) -> Self {
        watchdog::stage("filling the unread channel");
        Self::new(plan, FILL_AT_MOST / plan.size as u64)
    }

    fn new(plan: &Plan, most: u64) -> Self {
        let gauge =
            Gauge { stop: AtomicBool::new(false), bytes: AtomicU64::new(0), seen: AtomicU64::new(u64::MAX) };
        Self {
            messages: Messages::new(plan.size, 1),
            size: plan.size as u64,
            most,
            sent: 0,
            is_over: false,
            gauge: Arc::new(gauge),
        }
    }

    pub fn gauge(&self) -> Arc<Gauge> {
        self.gauge.clone()
    }

    /// The next message, when the one before is sent.
    pub fn next(&mut self) -> Option<&Bytes> {
        let bytes = self.sent * self.size;
        self.gauge.bytes.store(bytes, Relaxed);
        watchdog::beside(bytes);
        if self.is_over {
            return None;
        }
        let seq = self.sent;
        self.sent += 1;
        let stopped = self.gauge.stop.load(Relaxed);
        self.is_over = stopped || self.sent >= self.most;
        Some(self.messages.large(seq, stopped))
    }
}

impl Gauge {
    /// The next message is the last.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether nothing was sent since the last look.
    pub fn stands_still(&self) -> bool {
        let now = self.bytes.load(Relaxed);
        self.seen.swap(now, Relaxed) == now
    }

    pub fn filled(&self) -> Values {
        Values::from([("filled".into(), self.bytes.load(Relaxed) as f64)])
    }
}

/// What the flooded side counts, and from when.
#[derive(Clone)]
pub struct Taken {
    size: u64,
    messages: Arc<AtomicU64>,
    begin: Arc<OnceLock<Instant>>,
}

impl Taken {
    pub fn new(plan: &Plan) -> Self {
        Self { size: plan.size as u64, messages: Arc::default(), begin: Arc::default() }
    }

    /// Whether this message was the last.
    pub fn take(&self, head: Head) -> bool {
        self.begin.get_or_init(Instant::now);
        let messages = self.messages.fetch_add(1, Relaxed) + 1;
        watchdog::beside(messages * self.size);
        head.is(LAST)
    }
}

/// How far the flood was at the first and at the newest ping under it.
pub struct Marks {
    taken: Taken,
    marks: Vec<(Instant, u64)>,
}

impl Marks {
    pub fn new(taken: Taken) -> Self {
        Self { taken, marks: Vec::new() }
    }

    pub fn see(&mut self, ping: Head) {
        if ping.is(FLOODED) {
            self.marks.truncate(1);
            self.marks.push((Instant::now(), self.taken.messages.load(Relaxed)));
        }
    }

    /// The flood's rate before the first ping under it and from there to the last.
    pub fn into_values(self) -> Values {
        let mut values = Values::new();
        let size = self.taken.size as f64;
        let rate = |(from, before): (Instant, u64), (to, after): (Instant, u64)| {
            (after - before) as f64 * size / (to - from).as_secs_f64()
        };
        if let (Some(begin), [first, .., last]) = (self.taken.begin.get(), &self.marks[..]) {
            let alone = rate((*begin, 1), *first);
            let together = rate(*first, *last);
            values.insert("alone".into(), alone);
            values.insert("flood".into(), together);
            values.insert("kept".into(), together / alone);
        }
        values
    }
}

/// One channel before and beside another that is filled and never read; the process had `before`
/// MiB in between.
pub fn unread_values(alone: &Span, beside: &Span, before: f64, plan: &Plan) -> Values {
    let mut values = Values::from([("growth".into(), usage::peak_mib() - before)]);
    if let (Some(alone), Some(beside)) = (alone.per_second(), beside.per_second()) {
        let size = plan.size as f64;
        values.insert("alone".into(), alone * size);
        values.insert("throughput".into(), beside * size);
        values.insert("kept".into(), beside / alone);
    }
    values
}
