//! Trunkline beside raw TCP and six other ways of carrying many channels, on one table.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- all
//! ```
//!
//! Imports run downwards: `main`, then `peers`, `worlds`, `work` for the two processes of a run,
//! `report`, `harness` for the one that starts them, and `child` and `plan` under both.
//!
//! A further variant of a peer, such as a sealed trunkline: a `Way`, its line
//! among the peer's rows in `plan/rows.rs`, and what it does in the peer's file.
//!
//! A further peer, such as TLS over a raw socket: a `PeerName` with its rows, a file in `peers/`
//! that implements `Peer` and `Channel` of one world (and `Fan` where calls block), and its line in
//! `peers/mod.rs`.
//!
//! A further workload: its words in `plan/workload.rs`, rows and sizes beside them, its quantities
//! in `report/metrics.rs`, its two halves in `work`, and in each world the loops that move them.
//! The compiler names each place but `ALL`, and USAGE below.

mod child;
mod harness;
mod peers;
mod plan;
mod report;
mod work;
mod worlds;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::child::{Role, congestion};
use crate::harness::{rounds, syscalls};
use crate::plan::rows::{PeerName, Row};
use crate::plan::workload::{Mode, Workload};
use crate::report::{chart, json, table};

const USAGE: &str = "\
usage: all                  every peer on every workload, at full size, and system calls (about twenty-two minutes)
       quick                the same in under three minutes, smaller and noisier
       one PEER WORKLOAD    a single cell: all variants of one peer on one workload
       syscalls             system calls per message alone, by strace

  --rounds N                instead of 5

peers:     raw zmq yamux h2 chmux async_smux trunkline
workloads: small large ping ping-one-core many flood unread slow";

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match option(&mut arguments, "--rounds") {
        Ok(rounds) => command(&arguments, rounds),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: &[String], rounds: usize) -> Result<()> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["child", plan, to] => {
            let role = match to {
                "" => Role::Server,
                to => Role::Client(to.split(',').map(str::parse).collect::<Result<_, _>>()?),
            };
            let plan = serde_json::from_str(plan)?;
            child::begin(&plan)?;
            peers::run(role, &plan)
        }
        ["all"] => compare(Mode::Full, rounds),
        ["quick"] => compare(Mode::Quick, rounds),
        ["one", peer, workload] => one(peer, workload, rounds),
        ["syscalls"] => {
            let bar = rounds::bar(syscalls::runs() as u64);
            let done = syscalls::count(congestion::choose().as_deref(), &bar);
            bar.finish_and_clear();
            done.map(|_| ())
        }
        _ => bail!("{USAGE}"),
    }
}

/// Takes `name N` out of the arguments.
fn option(arguments: &mut Vec<String>, name: &str) -> Result<usize> {
    let Some(at) = arguments.iter().position(|argument| argument == name) else { return Ok(5) };
    arguments.remove(at);
    anyhow::ensure!(at < arguments.len(), "{name} what?");
    arguments.remove(at).parse().context(name.to_owned())
}

fn compare(mode: Mode, rounds: usize) -> Result<()> {
    let congestion = congestion::choose();
    print_machine(congestion.as_deref());
    let runs: usize = Workload::ALL.iter().map(|&workload| Row::all(workload).len() * rounds).sum();
    let traced = if mode == Mode::Full { syscalls::runs() } else { 0 };
    let bar = rounds::bar((runs + traced) as u64);
    let folder = results()?;
    let mut measured = Vec::new();
    for workload in Workload::ALL {
        let rows = Row::all(workload);
        let cells = rounds::measure(workload, &rows, rounds, mode, congestion.as_deref(), &bar);
        bar.suspend(|| table::print(workload, mode, &cells));
        chart::draw(&folder.join(format!("{}.svg", workload.name())), workload, mode, &cells)?;
        measured.push((workload, cells));
        // After each workload, so that a run that is broken off leaves what it has.
        json::write(&folder.join("results.json"), &measured, &[])?;
    }
    if mode == Mode::Full {
        match syscalls::count(congestion.as_deref(), &bar) {
            Ok(counted) => json::write(&folder.join("results.json"), &measured, &counted)?,
            Err(error) => bar.suspend(|| println!("\n{error:#}")),
        }
    }
    bar.finish_and_clear();
    println!("\n{} and a chart for each workload beside it", folder.join("results.json").display());
    Ok(())
}

fn one(peer: &str, workload: &str, rounds: usize) -> Result<()> {
    let peer = PeerName::ALL.into_iter().find(|known| known.name() == peer).context(USAGE)?;
    let workload = Workload::ALL.into_iter().find(|known| known.name() == workload).context(USAGE)?;
    let rows: Vec<Row> = Row::of(peer, workload).collect();
    let congestion = congestion::choose();
    print_machine(congestion.as_deref());
    let bar = rounds::bar((rows.len() * rounds) as u64);
    let cells = rounds::measure(workload, &rows, rounds, Mode::Full, congestion.as_deref(), &bar);
    bar.finish_and_clear();
    table::print(workload, Mode::Full, &cells);
    Ok(())
}

/// `target/peers` of the repository this crate is part of.
fn results() -> Result<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let folder = repository.join("target/peers");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn print_machine(congestion: Option<&str>) {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    println!("{} x {cores}, Linux {}", model.unwrap_or("?"), read("/proc/sys/kernel/osrelease").trim());
    println!("load before: {}", read("/proc/loadavg").trim());
    println!(
        "congestion control of every socket: {}",
        congestion.unwrap_or("the system's default, since neither cubic nor reno may be set")
    );
    println!("{}", peers::versions());
    println!("AES-256-GCM alone, on one core: {:.1} GB/s", peers::tls::ceiling());
    println!("median (min-max) of the rounds; x raw: the ratio to that raw row in the same round;");
    println!("cpu seconds, peak rss and voluntary context switches: client/server");
}
