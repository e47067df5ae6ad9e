//! What the rounds add up to: medians with min and max, ratios to raw, a table and a JSON file.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::harness::pair::Run;
use crate::harness::rounds::Cell;
use crate::harness::syscalls::{Counted, PerMessage};
use crate::plan::{Mode, PeerName, Workload};

/// A measured quantity: where its value is found in a run, and what it is called.
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    pub more_is_better: bool,
    value: fn(&Run) -> Option<f64>,
}

macro_rules! metric {
    ($name:literal, $key:literal, $unit:literal, $per:expr, $more:literal) => {
        Metric {
            name: $name,
            unit: $unit,
            more_is_better: $more,
            value: |run| run.values.get($key).map(|value| value / $per),
        }
    };
}

macro_rules! cost {
    ($name:literal, $side:ident . $field:ident, $unit:literal) => {
        Metric { name: $name, unit: $unit, more_is_better: false, value: |run| Some(run.$side.$field) }
    };
}

const MICRO: f64 = 1e-6;
const MILLI: f64 = 1e-3;
const MEBI: f64 = (1 << 20) as f64;

/// The first is what the workload is about: its ratio to raw is printed, and its chart drawn.
pub fn metrics(workload: Workload) -> Vec<Metric> {
    match workload {
        Workload::Small | Workload::Many => vec![
            metric!("rate", "rate", "M msg/s", 1e6, true),
            metric!("messages", "messages", "M", 1e6, true),
        ],
        Workload::Large => vec![metric!("throughput", "throughput", "GB/s", 1e9, true)],
        Workload::Ping | Workload::PingOneCore => vec![
            metric!("p50", "p50", "µs", MICRO, false),
            metric!("p99", "p99", "µs", MICRO, false),
            metric!("p99.9", "p999", "µs", MICRO, false),
        ],
        Workload::Flood => vec![
            metric!("p99", "p99", "µs", MICRO, false),
            metric!("p50", "p50", "µs", MICRO, false),
            metric!("p99.9", "p999", "µs", MICRO, false),
            metric!("idle p99", "idle_p99", "µs", MICRO, false),
            metric!("flood", "flood", "GB/s", 1e9, true),
            metric!("flood kept", "kept", "of alone", 1.0, true),
        ],
        Workload::Unread => vec![
            metric!("throughput", "throughput", "GB/s", 1e9, true),
            metric!("kept", "kept", "of alone", 1.0, true),
            metric!("receiver grew", "growth", "MiB", 1.0, false),
            metric!("sender filled", "filled", "MiB", MEBI, false),
        ],
        Workload::Slow => vec![
            metric!("p99", "p99", "ms", MILLI, false),
            metric!("p50", "p50", "ms", MILLI, false),
            metric!("idle p50", "idle_p50", "ms", MILLI, false),
            metric!("flood", "flood", "MB/s", 1e6, true),
            metric!("pings", "pings", "", 1.0, true),
        ],
    }
}

fn costs() -> Vec<Metric> {
    vec![
        cost!("client cpu", client.cpu_seconds, "s"),
        cost!("server cpu", server.cpu_seconds, "s"),
        cost!("client peak rss", client.peak_rss_mib, "MiB"),
        cost!("server peak rss", server.peak_rss_mib, "MiB"),
        cost!("client switches", client.voluntary_switches, "switches"),
        cost!("server switches", server.voluntary_switches, "switches"),
    ]
}

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

pub fn print_table(workload: Workload, mode: Mode, cells: &[Cell]) {
    let reference = cells.iter().find(|cell| cell.row == workload.reference());
    let (metrics, costs) = (metrics(workload), costs());
    let raw = workload.reference().variant(workload);
    println!("\n{}: {} (x raw: beside \"{raw}\")", workload.name(), workload.what(mode));
    let mut header = vec!["peer".to_owned(), "variant".into()];
    for (metric, first) in metrics.iter().zip(std::iter::once(true).chain(std::iter::repeat(false))) {
        header.push(format!("{} {}", metric.name, metric.unit).trim().to_owned());
        if first {
            header.push("x raw".into());
        }
    }
    header.extend(["cpu s", "rss MiB", "switches"].map(String::from));
    let mut lines = vec![header];
    let mut notes = Vec::new();
    for cell in cells {
        let mut line = vec![cell.row.peer.name().to_owned(), cell.row.variant(workload).to_owned()];
        if let Some((tried, failed, said)) = cell.failures() {
            notes.push(format!(
                "  {}: failed in {failed} of {tried} rounds: {said}",
                cell.row.label(workload)
            ));
        }
        for (index, metric) in metrics.iter().enumerate() {
            let summary = summarise(metric, cell, reference);
            line.push(match summary {
                Some(s) => format!("{} ({}-{})", number(s.median), number(s.min), number(s.max)),
                None if index == 0 => failure_word(cell),
                None => String::new(),
            });
            if index == 0 {
                let ratio = summary.and_then(|summary| summary.ratio);
                line.push(ratio.map_or(String::new(), |ratio| format!("{ratio:.3}")));
            }
        }
        let cost = |index: usize| summarise(&costs[index], cell, None).map(|s| number(s.median));
        line.extend([0, 2, 4].map(|index| match (cost(index), cost(index + 1)) {
            (Some(client), Some(server)) => format!("{client}/{server}"),
            _ => String::new(),
        }));
        lines.push(line);
    }
    print_aligned(&lines);
    for note in notes {
        println!("{note}");
    }
}

fn print_aligned(lines: &[Vec<String>]) {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
    for line in lines {
        let padded = line.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}"));
        println!("  {}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn failure_word(cell: &Cell) -> String {
    match cell.failures() {
        Some((_, _, said)) if said.starts_with("stalled") => "STALLED".into(),
        Some(_) => "FAILED".into(),
        None => "-".into(),
    }
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

/// One line of `results.json`.
#[derive(Serialize)]
struct Record {
    workload: &'static str,
    peer: &'static str,
    variant: &'static str,
    metric: &'static str,
    unit: &'static str,
    median: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    ratio_to_raw: Option<f64>,
    /// What a peer that stalled or failed said.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

pub fn write_json(path: &Path, measured: &[(Workload, Vec<Cell>)], counted: &[Counted]) -> io::Result<()> {
    let mut records = call_records(counted);
    for (workload, cells) in measured {
        let reference = cells.iter().find(|cell| cell.row == workload.reference());
        for cell in cells {
            let failure = cell.failures();
            let failure =
                failure.map(|(tried, failed, said)| format!("failed in {failed} of {tried} rounds: {said}"));
            for (index, metric) in metrics(*workload).iter().chain(&costs()).enumerate() {
                let summary = summarise(metric, cell, reference);
                if summary.is_none() && index > 0 {
                    continue;
                }
                records.push(Record {
                    workload: workload.name(),
                    peer: cell.row.peer.name(),
                    variant: cell.row.variant(*workload),
                    metric: metric.name,
                    unit: metric.unit,
                    median: summary.map(|s| s.median),
                    min: summary.map(|s| s.min),
                    max: summary.map(|s| s.max),
                    ratio_to_raw: summary.and_then(|s| s.ratio),
                    failure: failure.clone().filter(|_| index == 0),
                });
            }
        }
    }
    fs::write(path, serde_json::to_string_pretty(&records)?)
}

/// System calls are counted once, so median, min and max are the same.
fn call_records(counted: &[Counted]) -> Vec<Record> {
    let client: fn(PerMessage) -> f64 = |calls| calls.client;
    let sides = [("client system calls", client), ("server system calls", |calls| calls.server)];
    let mut records = Vec::new();
    for Counted { workload, row, calls } in counted {
        let reference =
            counted.iter().find(|other| other.workload == *workload && other.row == workload.reference());
        for (metric, side) in sides {
            let value = calls.as_ref().ok().map(|calls| side(*calls));
            let raw = reference.and_then(|raw| raw.calls.as_ref().ok()).map(|calls| side(*calls));
            records.push(Record {
                workload: workload.name(),
                peer: row.peer.name(),
                variant: row.variant(*workload),
                metric,
                unit: "per message",
                median: value,
                min: value,
                max: value,
                ratio_to_raw: value.zip(raw).and_then(|(value, raw)| (raw > 0.0).then_some(value / raw)),
                failure: calls.as_ref().err().cloned(),
            });
        }
    }
    records
}

/// Whether a row is the one that all this is about.
pub fn is_ours(cell: &Cell) -> bool {
    cell.row.peer == PeerName::Trunkline
}
