//! What goes on beside the measured messages: a flood, and an unread channel.

use std::time::Instant;

use crate::child::{Values, usage};
use crate::plan::Plan;
use crate::work::clock::Span;

/// A peer that takes so much and asks for more has no bound worth the name.
pub const FILL_AT_MOST: u64 = 512 << 20;

/// The flood's rate before the first ping under it and from there to the last.
pub fn flood_values(begin: Option<Instant>, marks: &[(Instant, u64)], size: usize) -> Values {
    let mut values = Values::new();
    let rate = |(from, before): (Instant, u64), (to, after): (Instant, u64)| {
        (after - before) as f64 * size as f64 / (to - from).as_secs_f64()
    };
    if let (Some(begin), [first, .., last]) = (begin, marks) {
        let alone = rate((begin, 1), *first);
        let together = rate(*first, *last);
        values.insert("alone".into(), alone);
        values.insert("flood".into(), together);
        values.insert("kept".into(), together / alone);
    }
    values
}

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
