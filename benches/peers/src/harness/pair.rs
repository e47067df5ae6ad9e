//! Runs one cell once: starts the two processes, brings them together, ends them.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::child::Values;
use crate::child::usage::Usage;
use crate::child::watchdog::STALLED;
use crate::harness::proxy;
use crate::plan::Plan;
use crate::plan::workload::Workload;

/// What one run of one cell measured.
#[derive(Clone, Debug)]
pub struct Run {
    pub values: Values,
    pub client: Usage,
    pub server: Usage,
}

/// A file for `strace -c` to write to, for each side.
pub struct Traces<'a> {
    pub client: &'a Path,
    pub server: &'a Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

enum Said {
    Line(Side, String),
    End(Side),
}

/// Either what was measured or what the peer said when it failed.
pub fn run(plan: &Plan, traces: Option<Traces>) -> Result<Run> {
    let (say, said) = mpsc::channel();
    let mut server = Process::start(Side::Server, plan, &[], traces.as_ref().map(|t| t.server), &say)?;
    let mut client = None;
    let outcome = converse(plan, &mut server, &mut client, &traces, say, &said);
    let last_words = |process: Process, side| {
        let (status, words) = process.end();
        let stalled = status.is_some_and(|status| status.code() == Some(STALLED));
        let words = words.trim().lines().map(str::trim).collect::<Vec<_>>().join(" / ");
        (stalled, if words.is_empty() { String::new() } else { format!("; {side}: {words}") })
    };
    let (server_stalled, server_said) = last_words(server, "server");
    let (client_stalled, client_said) =
        client.map_or((false, String::new()), |client| last_words(client, "client"));
    outcome.map_err(|error| {
        let what = if server_stalled || client_stalled { "stalled".into() } else { error.to_string() };
        anyhow!("{what}{server_said}{client_said}")
    })
}

fn converse(
    plan: &Plan,
    server: &mut Process,
    client: &mut Option<Process>,
    traces: &Option<Traces>,
    say: Sender<Said>,
    said: &Receiver<Said>,
) -> Result<Run> {
    let until = Instant::now() + plan.deadline;
    let [Some(addresses), _] = hear(said, "listening", [true, false], until)? else {
        bail!("the server did not listen");
    };
    let mut addresses = addresses.split(',').map(str::parse).collect::<Result<Vec<_>, _>>()?;
    if plan.workload == Workload::Slow {
        addresses = proxy::start(&addresses, plan.congestion.as_deref())?;
    }
    let trace = traces.as_ref().map(|t| t.client);
    let client = client.insert(Process::start(Side::Client, plan, &addresses, trace, &say)?);
    let results = hear(said, "result", [true, true], until)?;
    server.child.stdin.take();
    client.child.stdin.take();
    let usages = hear(said, "usage", [true, true], Instant::now() + Duration::from_secs(5))?;
    let mut values = Values::new();
    for result in results.iter().flatten() {
        values.extend(serde_json::from_str::<Values>(result)?);
    }
    let usage = |of: &Option<String>| anyhow::Ok(serde_json::from_str(of.as_ref().context("no usage")?)?);
    Ok(Run { values, server: usage(&usages[0])?, client: usage(&usages[1])? })
}

/// Waits until those that are `due` (server, client) have said `what`.
fn hear(said: &Receiver<Said>, what: &str, due: [bool; 2], until: Instant) -> Result<[Option<String>; 2]> {
    let mut heard = [None, None];
    let mut ended = None;
    let mut until = until;
    while (0..2).any(|side| due[side] && heard[side].is_none()) {
        match said.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Said::Line(side, line)) => {
                if let Some(text) = line.strip_prefix(what) {
                    heard[side as usize] = Some(text.trim().to_owned());
                }
            }
            Ok(Said::End(side)) if ended.is_none() => {
                ended = Some(side);
                // The other one may be about to say more about it.
                until = until.min(Instant::now() + Duration::from_millis(700));
            }
            Ok(Said::End(_)) => break,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    match ended {
        _ if (0..2).all(|side| !due[side] || heard[side].is_some()) => Ok(heard),
        Some(side) => bail!("the {side:?} failed"),
        None => bail!("timed out"),
    }
}

struct Process {
    child: Child,
    stderr: JoinHandle<String>,
}

impl Process {
    fn start(
        side: Side,
        plan: &Plan,
        to: &[SocketAddr],
        trace: Option<&Path>,
        say: &Sender<Said>,
    ) -> Result<Self> {
        let this = std::env::current_exe()?;
        let mut command = match trace {
            None => Command::new(this),
            Some(file) => {
                let mut strace = Command::new("strace");
                strace.args(["-f", "-c", "-o"]).arg(file).arg(this);
                strace
            }
        };
        let addresses: Vec<_> = to.iter().map(SocketAddr::to_string).collect();
        command
            .args(["child", &serde_json::to_string(plan)?, &addresses.join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("starting a process of the pair")?;
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let say = say.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                say.send(Said::Line(side, line)).ok();
            }
            say.send(Said::End(side)).ok();
        });
        let mut stderr = child.stderr.take().expect("piped");
        let stderr = thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).ok();
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { child, stderr })
    }

    /// Ends the process if it has not ended by itself; its status and its last words.
    fn end(mut self) -> (Option<ExitStatus>, String) {
        let until =
            Instant::now() + Duration::from_millis(if self.child.stdin.is_none() { 2_000 } else { 0 });
        let mut status = self.child.try_wait().ok().flatten();
        while status.is_none() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
            status = self.child.try_wait().ok().flatten();
        }
        if status.is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        (status, self.stderr.join().unwrap_or_default())
    }
}
