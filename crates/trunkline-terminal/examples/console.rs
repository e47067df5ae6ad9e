//! A console for any kernel that keeps the layout of `trunkline-kernel`.
//!
//! ```text
//! cargo run --example console -- ADDRESS KEY_FILE [--script|--plain|--terminal] [--failures] [--ends] [--grace S]
//! ```

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use trunkline::{Config, Connection, Key};
use trunkline_terminal::{Ending, Mode, Options, attend, configure};

const USAGE: &str =
    "console ADDRESS KEY_FILE [--script|--plain|--terminal] [--failures] [--ends] [--grace S]";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let arguments: Option<Vec<&str>> = arguments.iter().map(|it| it.to_str()).collect();
    match arguments.as_deref() {
        Some([address, key_file, options @ ..]) => match run(address, key_file, options) {
            Ok(ending) => ending.into(),
            Err(ending) => {
                eprintln!("console: {}", ending.message().unwrap_or(USAGE));
                ending.into()
            }
        },
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(address: &str, key_file: &str, arguments: &[&str]) -> Result<Ending, Ending> {
    let usage = |what: String| Ending::Unusable(what);
    let mut options = Options::new("console").banner("Ctrl-C interrupts, Ctrl-D ends, Tab completes.");
    let mut grace = 60;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        options = match *argument {
            "--script" => options.mode(Mode::Script),
            "--plain" => options.mode(Mode::Plain),
            "--terminal" => options.mode(Mode::Terminal),
            "--failures" => options.report_failures(true),
            "--ends" => options.ends_kernel(true),
            "--pictures" => options.pictures(arguments.next().ok_or_else(|| usage(USAGE.to_owned()))?),
            "--grace" => {
                let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
                grace = seconds.ok_or_else(|| usage("--grace needs whole seconds".to_owned()))?;
                options
            }
            other => return Err(usage(format!("there is no {other}: {USAGE}"))),
        };
    }
    let key = Key::from_file(key_file).map_err(|error| usage(error.to_string()))?;
    let config = configure(Config::new(key).resume_grace(Duration::from_secs(grace)));
    let connection =
        Connection::connect(address, config).map_err(|error| Ending::Lost(format!("{address}: {error}")))?;
    Ok(attend(connection, &options))
}
