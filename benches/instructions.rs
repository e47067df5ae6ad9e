//! How many instructions the two paths take, counted by callgrind: unlike seconds, the same on
//! every run. `cargo bench --bench instructions` compares with what is committed in
//! `benches/instructions.txt` and fails if a workload takes 5 % more; `-- --save` writes that file.
//!
//! Each workload runs twice, the second time with more messages, and the difference is divided:
//! so what setting up takes does not count.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use bytes::Bytes;
use trunkline::bench::End;

/// More than this is a regression; as much less is worth a new baseline.
const TOLERANCE: f64 = 0.05;
const COUNTS: [u64; 2] = [20_000, 60_000];
/// Messages between two looks of the I/O thread.
const BATCH: u64 = 1000;
/// What a message of 16 bytes costs in credit.
const COST: u32 = 16 + 32;

type Run = fn(u64);

/// Their names are those in the baseline.
const WORKLOADS: [(&str, Run); 6] = [
    ("small-encode", encode),
    ("small-receive", receive),
    ("small-kept", kept),
    ("large", large),
    ("large-kept", large_kept),
    ("ping-pong", ping_pong),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, count] = &arguments[..]
        && flag == "--run"
    {
        let (_, run) = WORKLOADS.into_iter().find(|(known, _)| known == name).expect("a workload");
        run(count.parse().expect("a count"));
        return ExitCode::SUCCESS;
    }
    // `cargo test` of all targets runs this too, in a build that says nothing.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions: not counted, since there is no valgrind here");
        return ExitCode::SUCCESS;
    }
    guard(arguments.iter().any(|argument| argument == "--save"))
}

// ---- the workloads

/// 16 bytes each: into the send queue, and in batches out of it and into bytes.
fn encode(count: u64) {
    let here = &mut End::new(false);
    let mut wire = Vec::new();
    for _ in 0..count / BATCH {
        (0..BATCH).for_each(|_| here.encode(&[7; 16]));
        here.drain();
        wire.clear();
        here.write(&mut wire);
        here.grant(BATCH as u32 * COST);
    }
}

/// 16 bytes each, from `send` to the receiver and its credit back, with sessions that outlive
/// their socket: what was written is kept until it is acknowledged.
fn kept(count: u64) {
    let (mut here, mut there) = (End::new(true), End::new(true));
    let (mut wire, mut answer) = (Vec::new(), Vec::new());
    for _ in 0..count / BATCH {
        (0..BATCH).for_each(|_| here.encode(&[7; 16]));
        here.drain();
        wire.clear();
        here.write(&mut wire);
        there.receive(&wire);
        while there.take().is_some() {}
        there.drain();
        answer.clear();
        there.write(&mut answer);
        here.receive(&answer);
    }
}

/// 16 bytes each: a stream is parsed, handed over and taken, and the credit is given back.
fn receive(count: u64) {
    let mut stream = Vec::new();
    let mut peer = End::new(false);
    (0..BATCH).for_each(|_| peer.encode(&[7; 16]));
    peer.drain();
    peer.write(&mut stream);
    let mut here = End::new(false);
    for _ in 0..count / BATCH {
        here.receive(&stream);
        while here.take().is_some() {}
        here.drain();
        here.written();
    }
}

fn large(count: u64) {
    large_between(End::new(false), End::new(false), count);
}

fn large_kept(count: u64) {
    large_between(End::new(true), End::new(true), count);
}

/// 64 KiB each, from `send_bytes` to the receiver.
fn large_between(mut here: End, mut there: End, count: u64) {
    let zeros = File::open("/dev/zero").expect("a source of zeros");
    let message = Bytes::from(vec![0; 65_536]);
    // Eight to a drain, and fewer of them: the system's part is not counted, but takes its time.
    for _ in 0..count / 160 {
        (0..8).for_each(|_| here.encode_bytes(&message));
        here.drain();
        here.write_to(&mut there, &zeros);
        while there.take().is_some() {}
        there.drain();
        there.write_to(&mut here, &zeros);
        // The credit acts.
        here.drain();
    }
}

/// 16 bytes there and back, one at a time.
fn ping_pong(count: u64) {
    let (mut here, mut there) = (End::new(false), End::new(false));
    let mut wire = Vec::new();
    let mut hop = |from: &mut End, to: &mut End| {
        from.encode(&[7; 16]);
        from.drain();
        wire.clear();
        from.write(&mut wire);
        to.receive(&wire);
        while to.take().is_some() {}
    };
    for _ in 0..count / 4 {
        hop(&mut here, &mut there);
        hop(&mut there, &mut here);
    }
}

/// How many messages, or round trips, a workload makes of a count.
fn messages(name: &str, count: u64) -> u64 {
    match name {
        "large" | "large-kept" => count / 160 * 8,
        "ping-pong" => count / 4,
        _ => count / BATCH * BATCH,
    }
}

// ---- the guard

fn guard(save: bool) -> ExitCode {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let compiler = compiler();
    let known = fs::read_to_string(&path).unwrap_or_default();
    let same_compiler = known.lines().any(|line| line == format!("# {compiler}"));
    let mut report = format!(
        "# Instructions per message (a round trip for ping-pong), of both ends where there are two.\n\
         # Written by: cargo bench --bench instructions -- --save\n# {compiler}\n"
    );
    let mut worse = false;
    // Two at a time: each process counts its own.
    let measured: Vec<(&str, f64)> = thread::scope(|scope| {
        let all = WORKLOADS.map(|(name, _)| scope.spawn(move || (name, count(name))));
        all.into_iter().map(|one| one.join().expect("callgrind's count")).collect()
    });
    for (name, now) in measured {
        writeln!(report, "{name:<20}{now:>10.1}").expect("a string");
        let before = known.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let change = before.map(|before| now / before - 1.0);
        let verdict = match change {
            None => "no baseline",
            Some(change) if change > TOLERANCE && same_compiler => "REGRESSION",
            Some(change) if change > TOLERANCE => "more, but with another compiler",
            Some(change) if change < -TOLERANCE => "less: worth a new baseline",
            Some(_) => "as before",
        };
        worse |= verdict == "REGRESSION";
        let change = change.map_or(String::new(), |change| format!("{:+.1} %", change * 100.0));
        println!("{name:<20}{now:>10.1}{change:>10}  {verdict}");
    }
    if save {
        fs::write(&path, report).expect("the baseline is written");
        println!("written to {}", path.display());
        return ExitCode::SUCCESS;
    }
    if worse { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The code depends on it; so a baseline holds for one compiler and kind of machine.
fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("-V").output().map(|out| out.stdout).unwrap_or_default();
    format!("{} for {}", String::from_utf8_lossy(&version).trim(), std::env::consts::ARCH)
}

fn count(name: &str) -> f64 {
    let [few, many] = COUNTS;
    let counted = (callgrind(name, many) - callgrind(name, few)) as f64;
    counted / (messages(name, many) - messages(name, few)) as f64
}

/// All instructions of one process.
fn callgrind(name: &str, count: u64) -> u64 {
    let this: PathBuf = std::env::current_exe().expect("this program");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["--run", name, &count.to_string()])
        // The same code for copies whatever the processor offers: `rep movsb` alone, which counts
        // once for each byte, makes up 15 % of the small ones. (A glibc that does not know a name
        // ignores it.)
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-ERMS,-FSRM")
        .output()
        .expect("valgrind");
    let said = String::from_utf8_lossy(&run.stderr);
    let collected = said.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok());
    collected.unwrap_or_else(|| panic!("callgrind says {said}"))
}
