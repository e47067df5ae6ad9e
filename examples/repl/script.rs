//! The console of a script: lines in, output out, and then the end.

use std::io::{self, BufRead, Write};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};

use crate::console::{Console, Ending, Link, Said, Unsent};
use crate::layout::{Activity, STDOUT};
use crate::meta::{self, Meta};

/// How long a question waits for the lines before it. A line that takes longer is one that is
/// asked about while it runs.
const SETTLE: Duration = Duration::from_secs(1);

/// Shows what the kernel says on this process's own stdout and stderr.
pub fn show(said: Said<'_>) -> io::Result<()> {
    match said {
        Said::Text(STDOUT, text) => write(&mut io::stdout().lock(), text),
        Said::Text(_, text) => write(&mut io::stderr().lock(), text),
        Said::Link(Link::Lost) => write(&mut io::stderr().lock(), b"repl: the link is lost; reconnecting\n"),
        Said::Link(Link::Back) => write(&mut io::stderr().lock(), b"repl: the link is back\n"),
        Said::State(_) | Said::Over(_) => Ok(()),
    }
}

/// Written at once: what is buffered would come after what is written to the other stream.
fn write(to: &mut impl Write, text: &[u8]) -> io::Result<()> {
    to.write_all(text)?;
    to.flush()
}

/// Gives the kernel a script from this process's stdin, line by line.
pub fn run(console: &mut Console) -> Ending {
    let too_long = match feed(console) {
        Ok(()) => None,
        Err(Unsent::TooLong(limit)) => Some(limit),
        Err(Unsent::Over(ending)) => return ending,
    };
    // What comes of the lines before is shown in any case.
    match (console.finish().map_or_else(|ending| ending, |()| console.ending()), too_long) {
        (Ending::Finished, Some(limit)) => Ending::TooLong(limit),
        (ending, _) => ending,
    }
}

fn feed(console: &mut Console) -> Result<(), Unsent> {
    let lines = lines();
    let reports = console.reports();
    loop {
        // The kernel may die while the script waits for its next line.
        select! {
            recv(lines) -> line => match line {
                Ok(line) => match meta::parse(&line) {
                    Meta::Quit => return Ok(()),
                    Meta::Line(line) => console.send(line)?,
                    meta => command(console, meta)?,
                },
                Err(_) => return Ok(()),
            },
            recv(reports) -> report => match report {
                Ok(report) => console.note(report)?,
                Err(_) => return Err(console.ending().into()),
            },
        }
    }
}

/// The lines of stdin, read by a thread of their own: reading cannot be waited for otherwise.
fn lines() -> Receiver<String> {
    let (sender, lines) = bounded(64);
    thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut line = Vec::new();
        // An error of stdin is its end.
        while matches!(stdin.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line);
            let text = text.strip_suffix('\n').unwrap_or(&text);
            if sender.send(text.strip_suffix('\r').unwrap_or(text).to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    lines
}

fn command(console: &mut Console, meta: Meta<'_>) -> Result<(), Ending> {
    let line = console.sent();
    if meta == Meta::Interrupt {
        // Only when that line is what the kernel has read last, and only if it runs still: the
        // number keeps the interrupt from another line, and what comes next waits until it is over.
        console.wait(None, |state| state.lines >= line)?;
        if console.state().lines == line && console.state().activity != Activity::Idle {
            console.interrupt(Some(line))?;
            console.wait(None, |state| state.activity == Activity::Idle)?;
        }
        return Ok(());
    }
    console.wait(Some(SETTLE), |state| state.settled(line))?;
    let answer = meta::answer(console, meta);
    let shown = match answer {
        Ok(text) => write(&mut io::stdout().lock(), text.as_bytes()),
        Err(text) => write(&mut io::stderr().lock(), text.as_bytes()),
    };
    shown.map_err(|error| Ending::NotShown(error.to_string()))
}
