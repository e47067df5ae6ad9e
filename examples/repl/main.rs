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
//! - the console's process: `child.rs` (starts the kernel), `console.rs`, `terminal.rs` and `tty.rs` for
//!   a person, `script.rs` for a script, `meta.rs` (lines that begin with a colon)
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
mod tty;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use trunkline::{ConnectError, HandshakeError, Key, KeyError};

use crate::child::Kernel;
use crate::console::{Console, Ending};
use crate::terminal::Terminal;

/// How long a console tries to come back: as long as somebody may wait for it.
const CONSOLE_GRACE: Duration = Duration::from_secs(60);
/// How long a kernel waits for a console that may be on a laptop in a bag.
const KERNEL_GRACE: Duration = Duration::from_secs(600);

type Failure = Box<dyn std::error::Error + Send + Sync>;

const HELP: &str = "\
repl: a Rhai interpreter in another process, over one TCP connection

usage:
  repl                                        start a kernel and a console for it
  repl kernel --listen ADDR --key-file F [--grace S] [--allow-plaintext]
                                              a kernel on its own; 127.0.0.1:0 chooses a port
  repl console --connect ADDR --key-file F [--grace S]
                                              a console on its own

  Both need the same key: 64 hex digits in a file that only its owner can read. A kernel makes the
  file if there is none. A kernel on its own serves one console after another and keeps its
  variables; a console that comes while another is served waits for its turn.

  Nothing is encrypted: a kernel on an address that other machines reach is refused, unless
  --allow-plaintext says that the network between the two is trusted. ssh -L is better.

when the link is lost:
  Console and kernel go on, and nothing is lost or comes twice when it is back. On a terminal
  [reconnecting…] stands behind the line that is typed, a script says so on stderr. Lines and
  interrupts wait; Ctrl-D and :quit leave at once. The console tries for --grace S seconds (60) and
  then fails; it fails at once if the kernel was started again. The kernel keeps the session for
  its own --grace S seconds (600: a laptop's clock stands still while it sleeps), but when another
  console comes meanwhile, only for 3. With --grace 0 a lost link is the end.

on a terminal:
  Ctrl-C interrupts what runs, Ctrl-D ends, Tab completes, the arrow keys go through the history.
  The prompt tells what the kernel does: > idle, . waiting for the rest of a statement, * busy,
  ? waiting for input. What is typed while it is busy comes next.

when stdin is no terminal (a script):
  Each line goes to the kernel; input() reads the lines that follow the one that calls it. At the
  end of the script the kernel finishes what it was given, then both end. The exit code is 0 unless
  the connection or the kernel fails (1): an error of the program is no failure of the console.

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
    Kernel(kernel::Place),
    /// How `repl` starts its own kernel: the key comes on stdin.
    KernelOfParent,
    Console {
        connect: String,
        key_file: PathBuf,
        grace: Duration,
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
    let (mut listen, mut connect, mut key_file, mut grace) = (None, None, None, None);
    let (mut key_stdin, mut allow_plaintext) = (false, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("listen") => listen = Some(parser.value()?.into_string().map_err(lexopt::Error::from)?),
            Long("connect") => connect = Some(parser.value()?.into_string().map_err(lexopt::Error::from)?),
            Long("key-file") => key_file = Some(PathBuf::from(parser.value()?)),
            Long("grace") => grace = Some(seconds(&parser.value()?)?),
            Long("allow-plaintext") => allow_plaintext = true,
            Long("key-stdin") => key_stdin = true,
            Value(value) if part.is_none() => part = Some(value),
            other => return Err(format!("{}; see repl --help", other.unexpected()).into()),
        }
    }
    let missing = |what| format!("{what} is missing; see repl --help");
    let none = listen.is_none() && connect.is_none() && key_file.is_none() && grace.is_none();
    match part.as_ref().and_then(|part| part.to_str()) {
        None if part.is_none() && none && !key_stdin && !allow_plaintext => Ok(Command::Own),
        Some("kernel") if key_stdin && none && !allow_plaintext => Ok(Command::KernelOfParent),
        Some("kernel") if !key_stdin && connect.is_none() => Ok(Command::Kernel(kernel::Place {
            listen: listen.ok_or_else(|| missing("--listen ADDR"))?,
            key_file: key_file.ok_or_else(|| missing("--key-file F"))?,
            grace: grace.unwrap_or(KERNEL_GRACE),
            allow_plaintext,
        })),
        Some("console") if !key_stdin && listen.is_none() && !allow_plaintext => Ok(Command::Console {
            connect: connect.ok_or_else(|| missing("--connect ADDR"))?,
            key_file: key_file.ok_or_else(|| missing("--key-file F"))?,
            grace: grace.unwrap_or(CONSOLE_GRACE),
        }),
        Some("kernel" | "console") => Err("an option that does not belong here; see repl --help".into()),
        None if part.is_none() => Err("options belong to `kernel` or `console`; see repl --help".into()),
        _ => Err(format!("there is no {:?}; see repl --help", part.unwrap_or_default()).into()),
    }
}

fn seconds(value: &OsStr) -> Result<Duration, Failure> {
    let seconds = value.to_str().and_then(|value| value.parse().ok());
    let seconds =
        seconds.ok_or_else(|| format!("--grace is {value:?}; it must be whole seconds, 0 or more"))?;
    Ok(Duration::from_secs(seconds))
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
        Command::Kernel(place) => kernel::listen(&place)?,
        Command::KernelOfParent => kernel::serve_parent()?,
        Command::Console { connect, key_file, grace } => {
            let key = Key::from_file(&key_file).map_err(|error| about_key(&error, &key_file))?;
            return attend(&connect, key, grace, None).map_err(|error| match error.downcast_ref() {
                Some(ConnectError::Handshake(HandshakeError::NotAuthorised)) => {
                    format!("--key-file {}: {connect}: {error}", key_file.display()).into()
                }
                Some(_) => format!("--connect {connect}: {error}").into(),
                None => error,
            });
        }
        Command::Own => {
            let (kernel, address, key) = Kernel::start()?;
            // Nothing lies between the two but this machine: a lost link is a kernel that died.
            return attend(&address.to_string(), key, Duration::ZERO, Some(&kernel));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The error names the file, and says what to do.
fn about_key(error: &KeyError, file: &Path) -> Failure {
    match error {
        KeyError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            format!("{error}; a kernel makes it, and a console needs a copy").into()
        }
        KeyError::File { .. } | KeyError::Exposed { .. } => error.to_string().into(),
        error => format!("--key-file {}: {error}", file.display()).into(),
    }
}

/// Is the console of a kernel, until one of the two ends.
fn attend(address: &str, key: Key, grace: Duration, kernel: Option<&Kernel>) -> Result<ExitCode, Failure> {
    let ending = if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        let terminal = Terminal::new()?;
        let mut console = Console::connect(address, key, grace, terminal.show())?;
        wait_for_turn(&mut console).map_or_else(|ending| ending, |()| terminal.run(&mut console))
    } else {
        let mut console = Console::connect(address, key, grace, script::show)?;
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
            Some(Ok(status)) => Err(format!("{why} ({status})").into()),
            _ => Err(why.into()),
        },
        Ending::TooLong(limit) => Err(console::too_long(limit).into()),
        Ending::Left => {
            Err("left while the link was lost; the kernel may not have read the last lines".into())
        }
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
