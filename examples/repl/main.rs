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

use trunkline::Config;
use trunkline_kernel::console::Child;
use trunkline_kernel::kernel::{Kernel, Settings};
use trunkline_kernel::{PlaceError, connect, listen};
use trunkline_terminal::{Ending, Options, attend, configure};

const HELP: &str = "\
repl: a Rhai interpreter in another process, over one TCP connection

usage:
  repl                                        start a kernel and a console for it
  repl kernel --listen ADDR --key-file F [--grace S] [--orphan S] [--memory MIB] [--allow-plaintext]
  repl console --connect ADDR --key-file F [--grace S]

  A kernel makes the key file if there is none; a console needs a copy. A kernel on its own serves one
  console after another and keeps its variables. --grace: how long a lost link may take to come back (a
  kernel waits 600 s, a console 60). --orphan: how long a statement that does not react may run on when its
  console is gone; then the kernel ends. --memory: how much the kernel may have. Nothing is encrypted:
  --allow-plaintext says that the network is trusted.

lines for the console (:: begins a line with a colon for the kernel):
  :complete PREFIX, :inspect NAME, :status, :interrupt, :quit

exit status: 0, 1 the kernel failed, 2 wrong use, 3 the kernel or the link is gone, 128 + N signal N
";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The options that take a value, the parts of the program that have them, and what is missing without it.
const OPTIONS: [(&str, &[&str], &str); 6] = [
    ("listen", &["kernel"], "--listen ADDR"),
    ("connect", &["console"], "--connect ADDR"),
    ("key-file", &["kernel", "console"], "--key-file F"),
    ("grace", &["kernel", "console"], ""),
    ("orphan", &["kernel"], ""),
    ("memory", &["kernel"], ""),
];

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        // A standard error that is not read is no reason to panic.
        drop(writeln!(io::stderr(), "repl: {error}"));
        ExitCode::from(2)
    })
}

fn run() -> Result<ExitCode, Failure> {
    use lexopt::prelude::{Long, Short, Value};

    let (mut part, mut values, mut allow_plaintext) = (None, BTreeMap::new(), false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => {
                drop(io::stdout().write_all(HELP.as_bytes()));
                return Ok(ExitCode::SUCCESS);
            }
            Long("allow-plaintext") => allow_plaintext = true,
            Long(name) if let Some((name, ..)) = OPTIONS.iter().find(|(known, ..)| *known == name) => {
                values.insert(*name, parser.value()?.into_string().map_err(lexopt::Error::from)?);
            }
            Value(value) if part.is_none() => part = Some(value.to_string_lossy().into_owned()),
            other => return Err(format!("{}; see repl --help", other.unexpected()).into()),
        }
    }
    let belongs =
        |name: &str, part| OPTIONS.iter().any(|(known, of, _)| *known == name && of.contains(&part));
    let text = |name| {
        let missing = || {
            format!(
                "{} is missing; see repl --help",
                OPTIONS.iter().find(|o| o.0 == name).map_or("", |o| o.2)
            )
        };
        values.get(name).map(String::as_str).ok_or_else(missing)
    };
    let number = |name| match values.get(name).map(|value| value.parse::<u64>()) {
        Some(Err(_)) => Err(format!("--{name} is {:?}; it must be a whole number", values[name])),
        number => Ok(number.and_then(Result::ok)),
    };
    match part.as_deref() {
        None if values.is_empty() && !allow_plaintext => return own(),
        None => return Err("options belong to `kernel` or `console`; see repl --help".into()),
        // How `repl` starts its own.
        Some("own-kernel") => {
            let settings = Settings::new().orphan_grace(Duration::from_secs(10));
            interpreter::serve(|names| Ok(Kernel::serve_parent(settings.introspect(names))?))?;
        }
        Some(part @ ("kernel" | "console"))
            if !values.keys().all(|name| belongs(name, part)) || (part == "console" && allow_plaintext) =>
        {
            return Err("an option that does not belong here; see repl --help".into());
        }
        Some("kernel") => {
            let grace = Duration::from_secs(number("grace")?.unwrap_or(600));
            let set = |config: Config| config.resume_grace(grace).allow_plaintext(allow_plaintext);
            let mut settings = Settings::new();
            if let Some(seconds) = number("orphan")? {
                settings = settings.orphan_grace(Duration::from_secs(seconds));
            }
            if let Some(mib) = number("memory")? {
                settings = settings.memory_limit(mib.saturating_mul(1 << 20));
            }
            let listener =
                listen(text("listen")?, text("key-file")?, set).map_err(|error| about("--listen", &error))?;
            writeln!(io::stdout(), "listening on {}", listener.local_addr())?;
            interpreter::serve(|names| Ok(Kernel::serve(listener, settings.introspect(names))?))?;
        }
        Some("console") => {
            let grace = Duration::from_secs(number("grace")?.unwrap_or(60));
            let set = |config: Config| configure(config.resume_grace(grace));
            return match connect(text("connect")?, text("key-file")?, set) {
                Ok(connection) => Ok(attend(connection, &options()).into()),
                Err(error @ (PlaceError::Connect { .. } | PlaceError::NotAuthorised { .. })) => {
                    drop(writeln!(io::stderr(), "repl: {}", about("--connect", &error)));
                    Ok(Ending::Lost(String::new()).into())
                }
                Err(error) => Err(about("--connect", &error).into()),
            };
        }
        Some(part) => return Err(format!("there is no {part:?}; see repl --help").into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The option that is wrong, and why.
fn about(address: &str, error: &PlaceError) -> String {
    let option = if error.is_about_key() { "--key-file" } else { address };
    let how = if matches!(error, PlaceError::Plaintext { .. }) { " (--allow-plaintext)" } else { "" };
    format!("{option} {error}{how}")
}

fn options() -> Options {
    Options::new("repl").banner("Ctrl-C interrupts what runs, Ctrl-D ends, Tab completes.")
}

/// Starts this program again as a kernel, and is its console.
fn own() -> Result<ExitCode, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("own-kernel");
    let (kernel, connection) = Child::start(command, configure)?;
    let ending = attend(connection, &options());
    match kernel.wait(Duration::from_secs(10)).transpose()? {
        Some(status) if ending == Ending::Finished && !status.success() => {
            drop(writeln!(io::stderr(), "repl: the kernel process failed in the end: {status}"));
            Ok(ExitCode::FAILURE)
        }
        _ => Ok(ending.into()),
    }
}
