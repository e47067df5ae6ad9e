//! One call that is a console.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use trunkline::{CloseCode, Config, Connection};
use trunkline_kernel::console::Session;

use crate::ending::Ending;
use crate::options::{Mode, Options};
use crate::script;

/// How long a console that leaves waits until the kernel has everything.
const LINGER: Duration = Duration::from_secs(1);
/// The largest message that a console takes, in bytes. A picture may have it; output comes in smaller ones.
const LARGEST: u32 = 16 << 20;

/// Sets what suits a console: little memory for what comes, and a short wait when it leaves.
///
/// ```
/// use std::time::Duration;
///
/// use trunkline::{Config, Key};
///
/// let config = trunkline_terminal::configure(Config::new(Key::generate()).resume_grace(Duration::from_secs(60)));
/// # let _ = config;
/// ```
#[must_use]
pub fn configure(config: Config) -> Config {
    // Of messages above the windows, one that is unfinished and 1 MiB that is not read.
    config.linger(LINGER).max_message(LARGEST).max_assembly(0).max_unread(1 << 20)
}

/// Is the console of a kernel, until one of the two ends. It blocks the thread that calls it.
///
/// Lines come from the standard input; the kernel's output goes to the standard output, its errors to the
/// standard error, pictures and all else as the [crate's documentation](crate) says. Whatever happens, the
/// terminal is as it was before when this returns, or when the process ends by a signal or a panic of this
/// thread. The connection is closed when this returns.
///
/// What the [`Ending`] has to say is written to standard error, if it is not gone too.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use trunkline::{Config, Connection, Key};
/// use trunkline_terminal::{Options, attend, configure};
///
/// fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
///     let config = configure(Config::new(Key::from_file("kernel.key")?));
///     let connection = Connection::connect("127.0.0.1:4000", config)?;
///     Ok(attend(connection, &Options::new("console")).into())
/// }
/// ```
pub fn attend(connection: Connection, options: &Options) -> Ending {
    let closing = connection.clone();
    let ending = match Session::new(connection) {
        Ok(mut session) => {
            face(&mut session, options).unwrap_or_else(|error| Ending::Unusable(error.to_string()))
        }
        Err(error) => Ending::Lost(format!("the kernel is gone, or gives a console too few rights: {error}")),
    };
    if let Some(message) = ending.message() {
        // There may be no reader any more.
        let _ = writeln!(io::stderr(), "{}: {message}", options.name);
    }
    // A link that is lost is not waited for.
    let linger = if closing.is_suspended() { Duration::ZERO } else { LINGER };
    let _ = closing.close_timeout(CloseCode::NORMAL, "", linger);
    ending
}

fn face(session: &mut Session, options: &Options) -> io::Result<Ending> {
    match options.mode {
        Mode::Auto => face(session, &Options { mode: auto(), ..options.clone() }),
        Mode::Script => script::run(session, options, false),
        #[cfg(unix)]
        Mode::Terminal => crate::terminal::run(session, options),
        _ => script::run(session, options, true),
    }
}

fn auto() -> Mode {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Mode::Script;
    }
    // cons25 and emacs are what older systems say instead.
    let prints =
        std::env::var("TERM").map_or(true, |term| ["", "dumb", "cons25", "emacs"].contains(&term.as_str()));
    if prints { Mode::Plain } else { Mode::Terminal }
}

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
