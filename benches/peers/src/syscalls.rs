//! System calls per message, counted by `strace -c`. What setting up takes is counted by a run of
//! one message and subtracted.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;

use crate::harness::{self, Traces};
use crate::plan::{Mode, Plan, Row, Workload};

const WORKLOADS: [Workload; 3] = [Workload::Small, Workload::Large, Workload::Ping];

pub fn print(congestion: Option<&str>, bar: &ProgressBar) -> Result<()> {
    let strace = Command::new("strace").arg("-V").output();
    ensure!(strace.is_ok_and(|out| out.status.success()), "this needs strace");
    println!("\nsystem calls per message (a ping: per round trip), client + server");
    for workload in WORKLOADS {
        for row in workload.rows() {
            bar.set_message(format!("strace {} {}", workload.name(), row.label(workload)));
            let label = format!("  {:<14}{:<32}", workload.name(), row.label(workload));
            let said = match per_message(workload, row, congestion) {
                Ok((client, server)) => format!("{client:.3} + {server:.3}"),
                Err(error) => format!("failed: {error:#}"),
            };
            bar.suspend(|| println!("{label}{said}"));
            bar.inc(1);
        }
    }
    Ok(())
}

pub fn runs() -> usize {
    WORKLOADS.iter().map(|workload| workload.rows().len()).sum()
}

fn per_message(workload: Workload, row: Row, congestion: Option<&str>) -> Result<(f64, f64)> {
    let mut plan = workload.plan(row, Mode::Quick, congestion.map(str::to_owned));
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
    Ok(((many.client - few.client) / messages, (many.server - few.server) / messages))
}

struct Counts {
    messages: f64,
    client: f64,
    server: f64,
}

fn traced(plan: &Plan) -> Result<Counts> {
    let file = |side: &str| std::env::temp_dir().join(format!("peers-strace-{}-{side}", std::process::id()));
    let (client, server) = (file("client"), file("server"));
    let run = harness::run(plan, Some(Traces { client: &client, server: &server }))?;
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
