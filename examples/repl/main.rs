//! A remote interpreter: a Rhai kernel in one process, its console in another, and trunkline between them.
//!
//! ```text
//! cargo run --release --example repl                # a kernel of its own, and a console for it
//! echo 'print(6 * 7)' | cargo run --release --example repl
//! ```
//!
//! The loop is that of `trunkline-kernel`, the console that of `trunkline-terminal`. Here stands Rhai:
//! `interpreter.rs` runs statements, `syntax.rs` says where one ends, `names.rs` answers questions.

mod interpreter;
mod names;
mod syntax;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value};
use trunkline::Config;
use trunkline_kernel::console::Child;
use trunkline_kernel::kernel::{Kernel, Settings};
use trunkline_kernel::{PlaceError, connect, listen};
use trunkline_terminal::{Ending, Options, attend, configure};

const HELP: &str = "\
repl: a Rhai interpreter in another process, over one TCP connection

usage:
  repl                                        start a kernel and a console for it
  repl kernel --listen ADDR --key-file F [--grace S] [--orphan S] [--memory MIB]
  repl console --connect ADDR --key-file F [--grace S]

  A kernel makes the key file if there is none; a console needs a copy. A kernel on its own serves one
  console after another and keeps its variables. --grace: how long a lost link may take to come back (a
  kernel waits 600 s, a console 60). --orphan: how long a statement that does not react may run on when
  its console is gone; then the kernel ends. --memory: how much the kernel may have. What
  goes between them is encrypted with the key, also to other machines.

  Lines for the console: :complete PREFIX, :inspect NAME, :status, :interrupt, :take, :quit. A line that begins
  with two colons is for the kernel, with one.

exit status: 0, 1 the kernel failed, 2 wrong use, 3 the kernel or the link is gone, 128 + N signal N
";

const BANNER: &str = "Ctrl-C interrupts what runs, Ctrl-D ends, Tab completes.";
const OF_KERNEL: [&str; 5] = ["listen", "key-file", "grace", "orphan", "memory"];
const OF_CONSOLE: [&str; 3] = ["connect", "key-file", "grace"];

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    run().unwrap_or_else(|error| say(&error.to_string(), 2))
}

fn say(text: &str, status: u8) -> ExitCode {
    // A standard error that is not read is no reason to panic.
    drop(writeln!(io::stderr(), "repl: {text}"));
    status.into()
}

fn run() -> Result<ExitCode, Failure> {
    let (mut part, mut given) = (String::new(), BTreeMap::new());
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        let name = match argument {
            Long("help") | Short('h') => {
                return Ok(io::stdout().write_all(HELP.as_bytes()).map_or(2, |()| 0).into());
            }
            Value(value) if part.is_empty() => {
                part = value.to_string_lossy().into_owned();
                continue;
            }
            Long(name) if OF_KERNEL.contains(&name) || OF_CONSOLE.contains(&name) => name.to_owned(),
            other => return Err(format!("{}; see repl --help", other.unexpected()).into()),
        };
        given.insert(name, parser.value()?.to_string_lossy().into_owned());
    }
    let all_in = |may: &[&str]| given.keys().all(|name| may.contains(&name.as_str()));
    match part.as_str() {
        "" if given.is_empty() => return own(),
        "" => return Err("options belong to `kernel` or `console`; see repl --help".into()),
        "kernel" if all_in(&OF_KERNEL) => {
            let grace = Duration::from_secs(number(&given, "grace")?.unwrap_or(600));
            let (orphan, memory) = (number(&given, "orphan")?, number(&given, "memory")?);
            let settings =
                orphan.iter().fold(Settings::new(), |set, s| set.orphan_grace(Duration::from_secs(*s)));
            let settings =
                memory.iter().fold(settings, |set, mib| set.memory_limit(mib.saturating_mul(1 << 20)));
            let (address, file) = (text(&given, "listen")?, text(&given, "key-file")?);
            let listener = listen(address, file, |config| config.resume_grace(grace))
                .map_err(|error| about("--listen", &error))?;
            writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
            interpreter::serve(|names| Ok(Kernel::serve(listener, settings.introspect(names))?))?;
        }
        // How `repl` starts its own.
        "own-kernel" => {
            let settings = Settings::new().orphan_grace(Duration::from_secs(10));
            interpreter::serve(|names| Ok(Kernel::serve_parent(settings.introspect(names))?))?;
        }
        "console" if all_in(&OF_CONSOLE) => {
            let grace = Duration::from_secs(number(&given, "grace")?.unwrap_or(60));
            let set = |config: Config| configure(config.resume_grace(grace));
            return match connect(text(&given, "connect")?, text(&given, "key-file")?, set) {
                Ok(connection) => Ok(attend(connection, &Options::new("repl").banner(BANNER)).into()),
                Err(error @ (PlaceError::Connect { .. } | PlaceError::NotAuthorised { .. })) => {
                    Ok(say(&about("--connect", &error), 3))
                }
                Err(error) => Err(about("--connect", &error).into()),
            };
        }
        "kernel" | "console" => return Err("an option that does not belong here; see repl --help".into()),
        part => return Err(format!("there is no {part:?}; see repl --help").into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn text<'a>(given: &'a BTreeMap<String, String>, name: &str) -> Result<&'a str, String> {
    let what = if name == "key-file" { "F" } else { "ADDR" };
    given.get(name).map(String::as_str).ok_or_else(|| format!("--{name} {what} is missing; see repl --help"))
}

fn number(given: &BTreeMap<String, String>, name: &str) -> Result<Option<u64>, String> {
    let wrong = |value: &String| format!("--{name} is {value:?}; it must be a whole number");
    given.get(name).map(|value| value.parse().map_err(|_| wrong(value))).transpose()
}

/// The option that is wrong, and why.
fn about(address: &str, error: &PlaceError) -> String {
    let option = if error.is_about_key() { "--key-file" } else { address };
    format!("{option} {error}")
}

/// Starts this program again as a kernel, and is its console.
fn own() -> Result<ExitCode, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("own-kernel");
    let (kernel, connection) = Child::start(command, configure)?;
    let ending = attend(connection, &Options::new("repl").banner(BANNER));
    match kernel.wait(Duration::from_secs(10)).transpose()? {
        Some(status) if ending == Ending::Finished && !status.success() => {
            Ok(say(&format!("the kernel process failed in the end: {status}"), 1))
        }
        _ => Ok(ending.into()),
    }
}
