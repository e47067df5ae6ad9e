//! System calls per message, counted by `strace -c`. What setting up takes is counted by a run of
//! one message and subtracted.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;

use crate::harness::pair::{self, Traces};
use crate::plan::Plan;
use crate::plan::rows::Row;
use crate::plan::workload::{Mode, Workload};

const WORKLOADS: [Workload; 3] = [Workload::Small, Workload::Large, Workload::Ping];

/// What one row needs; or why that is not known.
pub struct Counted {
    pub workload: Workload,
    pub row: Row,
    pub calls: Result<PerMessage, String>,
}

#[derive(Clone, Copy)]
pub struct PerMessage {
    pub client: f64,
    pub server: f64,
}

/// Counts and prints, row by row.
pub fn count(congestion: Option<&str>, bar: &ProgressBar) -> Result<Vec<Counted>> {
    let strace = Command::new("strace").arg("-V").output();
    ensure!(strace.is_ok_and(|out| out.status.success()), "to count system calls needs strace");
    bar.suspend(|| println!("\nsystem calls per message (a ping: per round trip), client + server"));
    let mut counted = Vec::new();
    for workload in WORKLOADS {
        for row in Row::all(workload) {
            bar.set_message(format!("strace {} {}", workload.name(), row.label()));
            let calls = per_message(workload, row, congestion).map_err(|error| format!("{error:#}"));
            let said = match &calls {
                Ok(calls) => format!("{:.3} + {:.3}", calls.client, calls.server),
                Err(error) => format!("failed: {error}"),
            };
            let label = row.label();
            bar.suspend(|| println!("  {:<14}{label:<32}{said}", workload.name()));
            bar.inc(1);
            counted.push(Counted { workload, row, calls });
        }
    }
    Ok(counted)
}

pub fn runs() -> usize {
    WORKLOADS.iter().map(|&workload| Row::all(workload).len()).sum()
}

fn per_message(workload: Workload, row: Row, congestion: Option<&str>) -> Result<PerMessage> {
    let mut plan = Plan::new(workload, row, Mode::Quick, congestion.map(str::to_owned));
    // Traced calls take many times as long.
    plan.patience = Duration::from_secs(10);
    plan.deadline = Duration::from_secs(30);
    plan.limit = Duration::from_millis(1_000);
    plan.warm_up = 0;
    let many = traced(&plan)?;
    plan.count = 2;
    let few = traced(&plan)?;
    let messages = many.messages - few.messages;
    ensure!(messages > 0.0, "no messages");
    Ok(PerMessage {
        client: (many.client - few.client) / messages,
        server: (many.server - few.server) / messages,
    })
}

struct Counts {
    messages: f64,
    client: f64,
    server: f64,
}

fn traced(plan: &Plan) -> Result<Counts> {
    let file = |side: &str| std::env::temp_dir().join(format!("peers-strace-{}-{side}", std::process::id()));
    let (client, server) = (file("client"), file("server"));
    let run = pair::run(plan, Some(Traces { client: &client, server: &server }))?;
    let messages = run.values.get("messages").or(run.values.get("pings"));
    Ok(Counts {
        messages: *messages.context("no count of messages")?,
        client: total(&fs::read_to_string(&client)?)?,
        server: total(&fs::read_to_string(&server)?)?,
    })
}

/// From `100.00    0.002100           3       598        20 total`.
fn total(summary: &str) -> Result<f64> {
    let line = summary.lines().find(|line| line.trim_end().ends_with("total")).context("no total")?;
    Ok(line.split_whitespace().nth(3).context("no count of calls")?.parse()?)
}
