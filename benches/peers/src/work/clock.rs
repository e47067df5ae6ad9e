//! The receiver's clock, and the round trips' histogram.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;

use crate::child::Values;

/// From the first to the last message.
#[derive(Default)]
pub struct Span {
    first: Option<Instant>,
    last: Option<Instant>,
    messages: u64,
}

impl Span {
    pub fn since(first: Instant) -> Self {
        Self { first: Some(first), ..Self::default() }
    }

    pub fn first(&mut self) {
        self.first = Some(Instant::now());
    }

    pub fn last(&mut self, messages: u64) {
        self.last = Some(Instant::now());
        self.messages = messages;
    }

    /// The first message only starts the clock, so it does not count.
    pub fn per_second(&self) -> Option<f64> {
        let seconds = (self.last? - self.first?).as_secs_f64();
        (self.messages > 1 && seconds > 0.0).then(|| (self.messages - 1) as f64 / seconds)
    }

    pub fn into_values(self, size: usize) -> Values {
        let mut values = Values::from([("messages".into(), self.messages as f64)]);
        if let Some(rate) = self.per_second() {
            values.insert("rate".into(), rate);
            values.insert("throughput".into(), rate * size as f64);
        }
        values
    }
}

pub struct RoundTrips(Histogram<u64>);

impl RoundTrips {
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 120_000_000_000, 3).unwrap())
    }

    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(time.as_nanos() as u64);
    }

    /// Seconds at the given quantiles, under `prefix` and the quantile's name.
    pub fn report(&self, prefix: &str, values: &mut Values) -> Result<()> {
        if self.0.is_empty() {
            return Err(anyhow!("no round trip was completed"));
        }
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            let seconds = self.0.value_at_quantile(quantile) as f64 / 1e9;
            values.insert(format!("{prefix}{name}"), seconds);
        }
        values.insert(format!("{prefix}pings"), self.0.len() as f64);
        Ok(())
    }
}
