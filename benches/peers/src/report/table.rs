//! The table of a workload, for a terminal.

use crate::harness::rounds::Cell;
use crate::plan::rows::Row;
use crate::plan::workload::{Mode, Workload};
use crate::report::metrics::{costs, metrics};
use crate::report::summary::{number, summarise};

pub fn print(workload: Workload, mode: Mode, cells: &[Cell]) {
    let reference = cells.iter().find(|cell| cell.row == Row::reference(workload));
    let (metrics, costs) = (metrics(workload), costs());
    let raw = Row::reference(workload).variant;
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
        let mut line = vec![cell.row.peer.name().to_owned(), cell.row.variant.to_owned()];
        if let Some((tried, failed, said)) = cell.failures() {
            notes.push(format!("  {}: failed in {failed} of {tried} rounds: {said}", cell.row.label()));
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
