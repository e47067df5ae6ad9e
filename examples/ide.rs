//! The IDE's side of a kernel: it starts one as a child process, sends selections, shows output and status,
//! completes, interrupts, restarts, and notices when the kernel dies. The kernel is that of the example `repl`.
//!
//! ```sh
//! cargo build --example repl && cargo run --example ide -- target/debug/examples/repl own-kernel
//! ```
//!
//! Each line of the standard input is a selection that the user runs, with `\n` for a newline. `!` is the
//! button that interrupts, `!!` the one that restarts, and `?imp` is Tab behind `imp`.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, never, select};
use trunkline_kernel::console::{Child, Said, Session};
use trunkline_kernel::layout::{Operation, Reply, STDOUT};

/// How long a kernel may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, rest @ ..] = &arguments[..] else { return Err("usage: ide KERNEL [ARGUMENTS]".into()) };
    let start = || -> Result<(Child, Session), Box<dyn Error>> {
        let mut command = Command::new(program);
        command.args(rest);
        let (child, connection) = Child::start(command, |config| config)?;
        Ok((child, Session::new(connection)?))
    };
    let (user, mut actions) = bounded(0);
    thread::spawn(move || io::stdin().lines().map_while(Result::ok).try_for_each(|line| user.send(line)));

    let (mut child, mut session) = start()?;
    // Selections that have not gone: the kernel takes the next when it is done with the one before.
    let (mut unsent, mut user_left) = (VecDeque::new(), false);
    loop {
        let mut ended = None;
        while let Some(said) = session.try_next() {
            show(&said);
            ended = matches!(said, Said::Finished | Said::Over(_)).then_some(said).or(ended);
        }
        if let Some(said) = ended {
            session.close();
            // Everything that it wrote was shown before.
            let status = child.wait(PATIENCE).transpose()?;
            println!("[the kernel has ended: {}]", status.map_or("not yet".to_owned(), |it| it.to_string()));
            if matches!(said, Said::Finished) {
                return Ok(());
            }
            (child, session) = start()?;
            println!("[a new kernel]");
            continue;
        }
        while session.console().may_send(0)
            && let Some(selection) = unsent.front()
            && session.try_send(String::clone(selection)).is_ok()
        {
            unsent.pop_front();
        }
        if user_left && unsent.is_empty() {
            let _ = session.finish(); // what was sent is finished; again it does nothing
        }
        let ready = session.ready();
        select! {
            recv(actions) -> action => match action.as_deref() {
                Ok("!") => _ = session.interrupt(),
                Ok("!!") => child.kill(), // its end is noticed above
                Ok(line) => match line.strip_prefix('?') {
                    Some(code) => {
                        let tab = Operation::Complete { code: code.to_owned(), cursor: code.chars().count() };
                        let _ = session.request(tab).inspect_err(|error| println!("[{error}]"));
                    }
                    None => unsent.push_back(line.replace("\\n", "\n") + "\n"),
                },
                Err(_) => (actions, user_left) = (never(), true),
            },
            recv(ready.output) -> _ => {}
            recv(ready.answers) -> _ => {}
            recv(ready.events) -> _ => {}
        }
    }
}

fn show(said: &Said) {
    match said {
        Said::Output(text) if text.channel() == STDOUT => print!("{}", String::from_utf8_lossy(text)),
        Said::Output(text) => print!("error: {}", String::from_utf8_lossy(text)),
        Said::Cut { bytes, .. } => println!("[{bytes} bytes were left out]"),
        Said::Status(status) => println!("[{status}]"),
        Said::Answer(answer) => match &answer.reply {
            Reply::Complete { matches, .. } => println!("[{}]", matches.join(" ")),
            other => println!("[{other:?}]"),
        },
        _ => {}
    }
}
