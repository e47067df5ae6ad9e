//! `trunkline new`.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::arguments::{self, Attach, Reach};
use crate::attach;
use crate::failure::{Failure, OS_ERROR, Outcome, UNAVAILABLE};
use crate::output;
use crate::reach::names;

/// A program that ends within this time needs no hint.
const HINT: Duration = Duration::from_secs(1);

pub fn run(arguments: arguments::New) -> Outcome {
    let name = &arguments.name;
    // A host whose program ends at once waits as long as this lives, so that its output and its status are seen.
    let mut _held = None;
    if names::lives(name)? {
        if arguments.detached {
            let text = format!("{name}: a host of this name runs; `trunkline attach {name}` attaches to it");
            return Err(Failure::new(UNAVAILABLE, text));
        }
    } else {
        _held = start(&arguments)?;
    }
    if arguments.detached {
        return Ok(0);
    }
    if !std::io::stdin().is_terminal() {
        hint(name.to_string())?;
    }
    let reach = Reach { address: name.to_string(), key_file: None };
    attach::run(&attach::Options::attaching(Attach::plainly(reach)))
}

/// Without a terminal none can detach, and a script may wait here unawares.
fn hint(name: String) -> std::io::Result<()> {
    let hint = move || {
        thread::sleep(HINT);
        output::tell(format!(
            "trunkline: {name} runs in the background; without a terminal this goes on until it ends: \
             --detached only starts it, and Ctrl-C here leaves it running"
        ));
    };
    thread::Builder::new().name("trunkline-hint".to_owned()).spawn(hint).map(drop)
}

/// Starts a host in the background. Returns what holds it until this command has attached.
fn start(arguments: &arguments::New) -> Result<Option<ChildStdin>, Failure> {
    let running = &arguments.running;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("host")
        .arg("--background")
        .args((!arguments.detached).then_some("--held"))
        .arg("--name")
        .arg(arguments.name.to_string());
    // It is attached to, so its program has a terminal unless it is told otherwise.
    command.arg(if running.pipes { "--pipes" } else { "--pty" });
    if let Some(bytes) = running.history {
        command.arg("--history").arg(bytes.to_string());
    }
    if let Some(file) = &running.record {
        command.arg("--record").arg(file);
    }
    for allowed in &running.allow_forward {
        command.arg("--allow-forward").arg(allowed.to_string());
    }
    command.arg("--size").arg(running.size.to_string());
    command.arg("--linger-after-exit").arg(running.linger_after_exit.as_secs_f64().to_string());
    command.arg("--").args(&running.program).env_remove("TRUNKLINE_KEY_FILE");
    if arguments.detached {
        command.stdin(Stdio::null());
    } else {
        command.stdin(Stdio::piped());
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut host = command.spawn()?;
    // It has said where it listens, or it has ended and said why.
    let mut line = String::new();
    if let Some(stdout) = host.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if !line.is_empty() {
        return Ok(host.stdin.take());
    }
    let output = host.wait_with_output()?;
    let _ = std::io::stderr().write_all(&output.stderr);
    let code = output.status.code().and_then(|code| u8::try_from(code).ok());
    Err(Failure::quiet(code.unwrap_or(OS_ERROR)))
}
