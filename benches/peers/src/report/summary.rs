//! What the rounds add up to: medians with min and max, and ratios to raw.

use crate::harness::rounds::Cell;
use crate::plan::rows::PeerName;
use crate::report::metrics::Metric;

#[derive(Clone, Copy, Debug)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub ratio: Option<f64>,
}

pub fn summarise(metric: &Metric, cell: &Cell, reference: Option<&Cell>) -> Option<Summary> {
    let of = |cell: &Cell, round: usize| (metric.value)(cell.rounds.get(round)?.as_ref()?.as_ref().ok()?);
    let rounds = 0..cell.rounds.len();
    let mut values: Vec<_> = rounds.clone().filter_map(|round| of(cell, round)).collect();
    let same_round = |round| {
        let raw = of(reference?, round)?;
        (raw > 0.0).then_some(of(cell, round)? / raw)
    };
    let ratio = median(&mut rounds.filter_map(same_round).collect::<Vec<_>>());
    let median = median(&mut values)?;
    Some(Summary { median, min: values[0], max: *values.last()?, ratio })
}

/// Sorts them.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { (upper + values[values.len() / 2 - 1]) / 2.0 })
}

/// Three significant digits, and no more zeros than that needs.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.01 || v == 0.0 => 3,
        _ => 4,
    };
    format!("{value:.digits$}")
}

/// Whether a row is the one that all this is about.
pub fn is_ours(cell: &Cell) -> bool {
    cell.row.peer == PeerName::Trunkline
}
