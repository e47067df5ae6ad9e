//! `results.json`: a record for each row and quantity.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::harness::rounds::Cell;
use crate::harness::syscalls::{Counted, PerMessage};
use crate::plan::rows::Row;
use crate::plan::workload::Workload;
use crate::report::metrics::{costs, metrics};
use crate::report::summary::summarise;

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

pub fn write(path: &Path, measured: &[(Workload, Vec<Cell>)], counted: &[Counted]) -> io::Result<()> {
    let mut records = call_records(counted);
    for (workload, cells) in measured {
        let reference = cells.iter().find(|cell| cell.row == Row::reference(*workload));
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
                    variant: cell.row.variant,
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
        let reference = counted
            .iter()
            .find(|other| other.workload == *workload && other.row == Row::reference(*workload));
        for (metric, side) in sides {
            let value = calls.as_ref().ok().map(|calls| side(*calls));
            let raw = reference.and_then(|raw| raw.calls.as_ref().ok()).map(|calls| side(*calls));
            records.push(Record {
                workload: workload.name(),
                peer: row.peer.name(),
                variant: row.variant,
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
