//! A remote interpreter: a Rhai kernel in one process, its console in another, and trunkline
//! between them.
//!
//! ```text
//! cargo run --release --example repl                # a kernel of its own, and a console for it
//! echo 'print(6 * 7)' | cargo run --release --example repl
//! ```
//!
//! The parts, from the wire up:
//!
//! - `layout.rs`: which channel carries what
//! - the kernel's process: `kernel.rs` (its threads), `interpreter.rs` (Rhai), `session.rs` (stdin,
//!   stdout and stderr for it), `interrupts.rs`, `names.rs` (introspection), `syntax.rs`
//! - the console's process: `child.rs` (starts the kernel), `console.rs`, `terminal.rs` for a
//!   person, `script.rs` for a script, `meta.rs` (lines that begin with a colon)
//!
//! It exits with 0 if all went well, 1 if something failed, 2 if it was called wrongly. `HELP` below
//! is the manual.

mod child;
mod console;
mod interpreter;
mod interrupts;
mod kernel;
mod layout;
mod meta;
mod names;
mod script;
mod session;
mod syntax;
mod terminal;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use trunkline::Key;

use crate::child::Kernel;
use crate::console::{Console, Ending};
use crate::terminal::Terminal;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const HELP: &str = "\
repl: a Rhai interpreter in another process, over one TCP connection

usage:
  repl                                        start a kernel and a console for it
  repl kernel --listen ADDR --key-file F      a kernel on its own; 127.0.0.1:0 chooses a port
  repl console --connect ADDR --key-file F    a console on its own

  Both need the same key: 64 hex digits in a file that only its owner can read. A kernel makes the
  file if there is none. A kernel on its own serves one console after another and keeps its
  variables; a console that comes while another is served waits for its turn.

on a terminal:
  Ctrl-C interrupts what runs, Ctrl-D ends, Tab completes, the arrow keys go through the history.
  The prompt tells what the kernel does: > idle, . waiting for the rest of a statement, * busy,
  ? waiting for input. What is typed while it is busy comes next.

when stdin is no terminal (a script):
  Each line goes to the kernel; input() reads the lines that follow the one that calls it. At the
  end of the script the kernel finishes what it was given, then both end. The exit code is 0 unless
  the connection or the kernel fails: an error of the program is no failure of the console.

lines for the console (a line that begins with :: goes to the kernel with one colon):
  :complete PREFIX   the names that begin so, one a line
  :inspect NAME      what a name stands for
  :status            idle, busy, waiting for input, or waiting for the rest of a statement
  :interrupt         in a script: interrupts the line before it as soon as the kernel runs it (or
                     waits for input in it), and goes on when that is over. If it was done before,
                     nothing happens. It waits for lines that come earlier still.
  :quit              the end of the script, or of the session

  The kernel answers :complete and :inspect at once, also while it is busy, from the names as of
  the last finished statement. A script asks when the lines before are done, or after a second if
  they take longer; so does :status.

statements:
  The value of an expression is shown as it is written in a program; print(x) writes to stdout,
  debug(x) to stderr. A statement that is incomplete goes on in the next line. Errors name line and
  column, counted in the statement. input(prompt) reads a line, sleep(ms) sleeps; both can be
  interrupted, and so can a loop.
";

enum Command {
    Help,
    Own,
    Kernel {
        listen: String,
        key_file: PathBuf,
    },
    /// How `repl` starts its own kernel: the key comes on stdin.
    KernelOfParent,
    Console {
        connect: String,
        key_file: PathBuf,
    },
}

fn main() -> ExitCode {
    let command = match arguments() {
        Ok(command) => command,
        Err(error) => {
            eprintln!("repl: {error}");
            return ExitCode::from(2);
        }
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("repl: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Command, Failure> {
    use lexopt::prelude::{Long, Short, Value};

    let mut part: Option<OsString> = None;
    let (mut listen, mut connect, mut key_file, mut key_stdin) = (None, None, None, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("listen") => listen = Some(parser.value()?.into_string().map_err(lexopt::Error::from)?),
            Long("connect") => connect = Some(parser.value()?.into_string().map_err(lexopt::Error::from)?),
            Long("key-file") => key_file = Some(PathBuf::from(parser.value()?)),
            Long("key-stdin") => key_stdin = true,
            Value(value) if part.is_none() => part = Some(value),
            other => return Err(format!("{}; see repl --help", other.unexpected()).into()),
        }
    }
    let missing = |what| format!("{what} is missing; see repl --help");
    match (part.as_ref().and_then(|part| part.to_str()), listen, connect, key_file, key_stdin) {
        (None, None, None, None, false) if part.is_none() => Ok(Command::Own),
        (Some("kernel"), None, None, None, true) => Ok(Command::KernelOfParent),
        (Some("kernel"), listen, None, key_file, false) => Ok(Command::Kernel {
            listen: listen.ok_or_else(|| missing("--listen ADDR"))?,
            key_file: key_file.ok_or_else(|| missing("--key-file F"))?,
        }),
        (Some("console"), None, connect, key_file, false) => Ok(Command::Console {
            connect: connect.ok_or_else(|| missing("--connect ADDR"))?,
            key_file: key_file.ok_or_else(|| missing("--key-file F"))?,
        }),
        (Some("kernel" | "console"), ..) => {
            Err("an option that does not belong here; see repl --help".into())
        }
        (None, ..) if part.is_none() => {
            Err("options belong to `kernel` or `console`; see repl --help".into())
        }
        _ => Err(format!("there is no {:?}; see repl --help", part.unwrap_or_default()).into()),
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Help => {
            let mut stdout = io::stdout().lock();
            match write!(stdout, "{HELP}").and_then(|()| stdout.flush()) {
                // Whoever reads it has read enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                written => written.map_err(|error| format!("cannot write to stdout: {error}"))?,
            }
        }
        Command::Kernel { listen, key_file } => kernel::listen(&listen, &key_file)?,
        Command::KernelOfParent => kernel::serve_parent()?,
        Command::Console { connect, key_file } => {
            let key = Key::from_file(key_file)?;
            let address = connect
                .to_socket_addrs()
                .map_err(|error| format!("{connect:?} is no address: {error}"))?
                .next()
                .ok_or_else(|| format!("{connect:?} has no address"))?;
            return attend(address, key, None);
        }
        Command::Own => {
            let (kernel, address, key) = Kernel::start()?;
            return attend(address, key, Some(&kernel));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Is the console of a kernel, until one of the two ends.
fn attend(address: SocketAddr, key: Key, kernel: Option<&Kernel>) -> Result<ExitCode, Failure> {
    let ending = if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        let terminal = Terminal::new()?;
        let mut console = Console::connect(address, key, terminal.show())?;
        wait_for_turn(&mut console).map_or_else(|ending| ending, |()| terminal.run(&mut console))
    } else {
        let mut console = Console::connect(address, key, script::show)?;
        wait_for_turn(&mut console).map_or_else(|ending| ending, |()| script::run(&mut console))
    };
    // The connection is closed now, so that the kernel ends.
    match ending {
        Ending::Finished => {
            if let Some(status) = kernel.map(Kernel::wait).transpose()?
                && !status.success()
            {
                return Err(format!("the kernel process failed in the end: {status}").into());
            }
            Ok(ExitCode::SUCCESS)
        }
        Ending::Lost(why) => match kernel.map(Kernel::wait) {
            Some(Ok(status)) => Err(format!("the kernel is gone ({status}): {why}").into()),
            _ => Err(format!("the kernel is gone: {why}").into()),
        },
        Ending::TooLong(limit) => Err(format!("line too long: at most {} MiB", limit >> 20).into()),
        Ending::NotShown(why) => Err(format!("cannot show what the kernel writes: {why}").into()),
    }
}

/// A kernel on its own may be busy with another console.
fn wait_for_turn(console: &mut Console) -> Result<(), Ending> {
    if !console.greet(Duration::from_secs(1))? {
        eprintln!("repl: waiting for the kernel, which serves another console");
    }
    Ok(())
}
