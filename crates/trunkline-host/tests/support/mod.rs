//! Programs that tests run, and what they did.
#![allow(dead_code)]

pub mod leash;

pub use leash::command;
use std::process::Command;
use std::time::{Duration, Instant};

use trunkline_host::{Ending, Happened, Program, Setup, Size, Stream};

/// How long a test waits for what must come. Long, since other work can load the machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn sh(script: &str) -> Command {
    let mut command = command("sh");
    command.args(["-c", script]);
    command
}

pub fn on_terminal(script: &str) -> Program {
    Setup::terminal(sh(script), Size::default()).start().unwrap()
}

pub fn on_pipes(script: &str) -> Program {
    Setup::pipes(sh(script)).start().unwrap()
}

/// What a program has written until now.
#[derive(Default)]
pub struct Written {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub both: Vec<(Stream, Vec<u8>)>,
}

impl Written {
    fn add(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.stderr.extend_from_slice(bytes),
        }
        match self.both.last_mut() {
            Some((last, text)) if *last == stream => text.extend_from_slice(bytes),
            _ => self.both.push((stream, bytes.to_vec())),
        }
    }

    /// The output without the marks of the size.
    pub fn text(&self) -> String {
        let mut text = String::from_utf8(self.stdout.clone()).unwrap();
        while let Some(start) = text.find("\x1b_trunkline size ") {
            let end = start + text[start..].find("\x1b\\").unwrap() + 2;
            text.replace_range(start..end, "");
        }
        text
    }
}

/// What happens next, output aside, which is kept.
pub fn next(program: &mut Program, written: &mut Written) -> Happened {
    let until = Instant::now() + PATIENCE;
    loop {
        match program.next(Some(until)).unwrap() {
            Happened::Output(stream, bytes) => written.add(stream, &bytes),
            Happened::Timeout => {
                panic!("nothing within {PATIENCE:?}; so far {:?}", String::from_utf8_lossy(&written.stdout))
            }
            other => return other,
        }
    }
}

/// Runs a program until its output has something.
pub fn until(program: &mut Program, written: &mut Written, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while memchr::memmem::find(&written.stdout, text.as_bytes()).is_none() {
        match program.next(Some(deadline)).unwrap() {
            Happened::Output(stream, bytes) => written.add(stream, &bytes),
            Happened::Timeout | Happened::Ended(_) => {
                panic!("no {text:?} in {:?}", String::from_utf8_lossy(&written.stdout))
            }
            _ => {}
        }
    }
}

/// Runs a program to its end.
pub fn end(program: &mut Program, written: &mut Written) -> Ending {
    loop {
        if let Happened::Ended(ending) = next(program, written) {
            return ending;
        }
    }
}

pub fn run(mut program: Program) -> (Ending, Written) {
    let mut written = Written::default();
    let ending = end(&mut program, &mut written);
    (ending, written)
}

pub fn seq(to: u32, newline: &str) -> String {
    (1..=to).map(|number| format!("{number}{newline}")).collect()
}
