//! Hosts and terminals that tests use. The terminals are those of trunkline-host, with the command in them.
#![allow(dead_code)]

#[path = "../../../trunkline-host/tests/support/leash.rs"]
mod leash;
pub mod proxy;

pub use leash::command;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use trunkline_host::{Ending, Happened, Program, Setup, Size};

/// How long a test waits for what must come. Long, since other work can load the machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How much, or how often: what a test does on each change, or with `TRUNKLINE_TRAPS=full` what the fault that it is about
/// was seen at.
pub fn or_in_full<T>(reduced: T, full: T) -> T {
    if std::env::var_os("TRUNKLINE_TRAPS").is_some_and(|size| size == "full") { full } else { reduced }
}

pub fn trunkline() -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_trunkline"));
    command.env_remove("TRUNKLINE_ADDR").env_remove("TRUNKLINE_KEY_FILE");
    command
}

/// Runs a command to its end: status, standard output, standard error.
pub fn finish(mut command: Command) -> (i32, String, String) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(PATIENCE) else {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let output = receiver.recv().unwrap();
        panic!("{command:?} does not end: {output:?}");
    };
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A host in a process of its own, killed at the end.
pub struct Host {
    pub directory: tempfile::TempDir,
    pub process: Child,
    pub address: String,
}

impl Host {
    /// Starts `trunkline host ARGUMENTS -- sh -c SCRIPT`.
    pub fn start(arguments: &[&str], script: &str) -> Self {
        Self::start_program(arguments, &["sh", "-c", script])
    }

    /// Starts `trunkline host ARGUMENTS -- PROGRAM`. `{}` in the arguments is the host's directory.
    pub fn start_program(arguments: &[&str], program: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["key", "watch"] {
            assert!(trunkline().arg("key").arg(directory.path().join(name)).status().unwrap().success());
        }
        let place = directory.path().to_str().unwrap();
        let mut process = trunkline()
            .arg("host")
            .args(arguments.iter().map(|argument| argument.replace("{}", place)))
            .arg("--key-file")
            .arg(directory.path().join("key"))
            .arg("--watch-key-file")
            .arg(directory.path().join("watch"))
            .arg("--")
            .args(program)
            .env("PS1", "$ ")
            .env("XDG_RUNTIME_DIR", place)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("the host does not listen").to_owned();
        Self { directory, process, address }
    }

    /// `trunkline CALL` at this host with a key.
    pub fn call(&self, key: &str, call: &[&str]) -> Command {
        let mut command = trunkline();
        command.args(call).env("TRUNKLINE_ADDR", &self.address).env("TRUNKLINE_KEY_FILE", self.key(key));
        command.env("XDG_RUNTIME_DIR", self.directory.path()).stdin(Stdio::null());
        command
    }

    /// The same, to its end: status, standard output, standard error.
    pub fn run(&self, key: &str, call: &[&str]) -> (i32, String, String) {
        finish(self.call(key, call))
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `trunkline attach ARGUMENTS` with a key.
    pub fn attach(&self, key: &str, arguments: &[&str]) -> Command {
        let mut command = trunkline();
        command.arg("attach").arg(&self.address).arg("--key-file").arg(self.key(key)).args(arguments);
        command
    }

    /// The same in a terminal.
    pub fn terminal(&self, key: &str, size: Size) -> Terminal {
        Terminal::of(self.attach(key, &[]), size)
    }

    /// The status of the host's process, once it has ended.
    pub fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the host lives");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A person at a terminal.
pub struct Terminal {
    pub program: Program,
    pub written: Vec<u8>,
}

impl Terminal {
    pub fn of(command: Command, size: Size) -> Self {
        Self { program: Setup::terminal(command, size).start().unwrap(), written: Vec::new() }
    }

    pub fn text(&self) -> String {
        self.program.screen().unwrap().text()
    }

    pub fn keys(&mut self, keys: &str) {
        self.program.input(keys.to_owned().into()).unwrap();
    }

    /// Runs until the screen is as wished.
    #[track_caller]
    pub fn until(&mut self, wish: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wish(&self.text()) {
            match self.program.next(Some(deadline)).unwrap() {
                Happened::Output(_, bytes) => self.written.extend_from_slice(&bytes),
                Happened::Timeout => panic!("not within {PATIENCE:?}:\n{}", self.text()),
                Happened::Ended(ending) => panic!("{ending} before:\n{}", self.text()),
                _ => {}
            }
        }
    }

    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        self.until(|screen| screen.contains(text));
    }

    /// Runs for a while.
    pub fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while !matches!(self.program.next(Some(until)).unwrap(), Happened::Timeout | Happened::Ended(_)) {}
    }

    #[track_caller]
    pub fn end(&mut self) -> Ending {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.program.next(Some(deadline)).unwrap() {
                Happened::Output(_, bytes) => self.written.extend_from_slice(&bytes),
                Happened::Ended(ending) => return ending,
                Happened::Timeout => panic!("lives:\n{}", self.text()),
                _ => {}
            }
        }
    }
}
