//! All rows of a workload, round by round: A B C A B C …, so that whatever else the machine does
//! meets them all alike, and a row is compared with the raw socket of its own round.

use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

use crate::harness::pair::{self, Run};
use crate::plan::Plan;
use crate::plan::rows::Row;
use crate::plan::workload::{Mode, Workload};

/// One row of one workload: a run per round, or what went wrong.
pub struct Cell {
    pub row: Row,
    pub rounds: Vec<Option<Result<Run, String>>>,
}

/// A row that has failed so often and never succeeded is not asked again: each time takes as long
/// as our patience.
const HOPELESS: usize = 2;

pub fn measure(
    workload: Workload,
    rows: &[Row],
    rounds: usize,
    mode: Mode,
    congestion: Option<&str>,
    bar: &ProgressBar,
) -> Vec<Cell> {
    let mut cells: Vec<_> = rows.iter().map(|&row| Cell { row, rounds: Vec::new() }).collect();
    let once = &|row: Row| {
        let plan = Plan::new(workload, row, mode, congestion.map(str::to_owned));
        pair::run(&plan, None).map_err(|error| format!("{error:#}"))
    };
    let say = |what: &str| bar.set_message(format!("{}: {what}", workload.name()));
    if workload == Workload::Slow {
        say("all rows at once");
        // The link is the bottleneck by far, so the rows do not disturb each other, nor, when
        // there is little time, do the rounds.
        let at_once = if mode == Mode::Quick { rounds } else { 1 };
        for _ in 0..rounds / at_once {
            thread::scope(|scope| {
                let start = |cell: &Cell| {
                    let row = cell.row;
                    let run = |_| scope.spawn(move || Some(once(row)));
                    (0..at_once).map(run).collect::<Vec<_>>()
                };
                let running: Vec<_> = cells.iter().map(start).collect();
                for (cell, runs) in cells.iter_mut().zip(running) {
                    for run in runs {
                        cell.rounds.push(run.join().expect("a run does not panic"));
                        bar.inc(1);
                    }
                }
            });
        }
        return cells;
    }
    for round in 1..=rounds {
        for cell in &mut cells {
            say(&format!("{}, round {round} of {rounds}", cell.row.label()));
            let outcome = (!cell.is_hopeless()).then(|| once(cell.row));
            cell.rounds.push(outcome);
            bar.inc(1);
        }
    }
    cells
}

pub fn bar(runs: u64) -> ProgressBar {
    let style = "{elapsed_precise} {bar:30} {pos}/{len} {msg}";
    ProgressBar::new(runs).with_style(ProgressStyle::with_template(style).expect("a constant"))
}

impl Cell {
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.rounds.iter().flatten().filter_map(|round| round.as_ref().ok())
    }

    /// How many rounds were tried, how many failed, and what the last failure said.
    pub fn failures(&self) -> Option<(usize, usize, &str)> {
        let tried = || self.rounds.iter().flatten();
        let failed = || tried().filter_map(|round| round.as_ref().err());
        Some((tried().count(), failed().count(), failed().next_back()?))
    }

    fn is_hopeless(&self) -> bool {
        self.runs().next().is_none() && self.failures().is_some_and(|(_, failed, _)| failed >= HOPELESS)
    }
}
