//! What the tests share: a kernel that says what a test wants, and consoles as processes, on pipes and at
//! pseudo-terminals.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod pipes;
pub mod proxy;
pub mod terminal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use trunkline::{Config, Connection, Key, Listener, Priority, Receiver, Sender};
use trunkline_kernel::layout::{CONTROL, DISPLAY, INTROSPECTION, STATUS, STDERR, STDIN, STDOUT};

/// Longer than anything here takes; only a failure waits for it.
pub const LONG: Duration = Duration::from_secs(60);

/// A place where a kernel listens.
pub struct Place {
    pub listener: Listener,
    pub folder: tempfile::TempDir,
    /// Where consoles connect: here, or a proxy.
    pub address: SocketAddr,
}

impl Place {
    pub fn new() -> Self {
        Self::with(|config| config)
    }

    pub fn with(set: impl FnOnce(Config) -> Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::generate();
        key.write_new_file(folder.path().join("key")).unwrap();
        let config = set(Config::new(key).resume_grace(Duration::from_secs(60)));
        let listener = Listener::bind("127.0.0.1:0", config).unwrap();
        let address = listener.local_addr();
        Self { listener, folder, address }
    }

    /// A console for it, which is not started yet.
    pub fn console(&self, options: &[&str]) -> Command {
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join("examples").join("console");
        assert!(program.exists(), "{} is missing: cargo build --examples", program.display());
        let mut command = Command::new(program);
        command.arg(self.address.to_string()).arg(self.key_file()).args(options);
        for variable in
            ["TERM", "TERM_PROGRAM", "KITTY_WINDOW_ID", "LC_TERMINAL", "TMUX", "STY", "INSIDE_EMACS"]
        {
            command.env_remove(variable);
        }
        command
    }

    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// The kernel of the console that was started.
    pub fn kernel(&self) -> Kernel {
        Kernel::on(self.listener.accept_timeout(LONG).unwrap())
    }
}

/// A kernel that does what the test says.
pub struct Kernel {
    pub connection: Connection,
    stdin: Receiver,
    control: Receiver,
    requests: Receiver,
    answers: Sender,
    stdout: Sender,
    stderr: Sender,
    status: Sender,
    display: Sender,
}

impl Kernel {
    fn on(connection: Connection) -> Self {
        Self {
            stdin: connection.receiver(STDIN).unwrap(),
            control: connection.receiver(CONTROL).unwrap(),
            requests: connection.receiver(INTROSPECTION).unwrap(),
            answers: connection.sender_with(INTROSPECTION, Priority::Urgent).unwrap(),
            stdout: connection.sender(STDOUT).unwrap(),
            stderr: connection.sender(STDERR).unwrap(),
            status: connection.sender(STATUS).unwrap(),
            display: connection.sender(DISPLAY).unwrap(),
            connection,
        }
    }

    pub fn status(&self, status: &str) {
        self.status.send(status).unwrap();
    }

    pub fn print(&self, text: impl AsRef<[u8]>) {
        self.stdout.send(text).unwrap();
    }

    /// Prints until the console takes no more, and at least half a window; returns how many bytes.
    pub fn flood(&self, line: &[u8]) -> usize {
        let (mut sent, begun) = (0, Instant::now());
        loop {
            if self.stdout.send_timeout(line, Duration::from_millis(300)).is_ok() {
                sent += line.len();
            } else if sent >= 512 * 1024 {
                return sent;
            }
            // On a machine that does much else, the connection may need longer than a moment.
            assert!(begun.elapsed() < LONG, "only {sent} bytes are taken");
        }
    }

    pub fn complain(&self, text: &str) {
        self.stderr.send(text).unwrap();
    }

    pub fn show(&self, picture: &trunkline_kernel::layout::Picture) {
        self.display.send(picture.to_message()).unwrap();
    }

    /// Reads a line of the console, without its newline.
    #[track_caller]
    pub fn line(&self) -> String {
        let line = self.stdin.recv_timeout(LONG).expect("a line of the console");
        let line = String::from_utf8(line.to_vec()).unwrap();
        line.strip_suffix('\n').map(str::to_owned).unwrap_or(line)
    }

    /// Reads a piece of a line; returns it without a newline, and whether it ends the line.
    #[track_caller]
    pub fn piece(&self) -> (Vec<u8>, bool) {
        let mut piece = self.stdin.recv_timeout(LONG).expect("a piece of a line").to_vec();
        let ends = piece.last() == Some(&b'\n');
        piece.truncate(piece.len() - usize::from(ends));
        (piece, ends)
    }

    /// The console has said that no more input comes for the program that reads.
    #[track_caller]
    pub fn end_of_run(&self) {
        match self.stdin.recv_timeout(LONG) {
            Err(trunkline::RecvTimeoutError::Disconnected(trunkline::RecvError::Finished)) => {}
            other => panic!("not the end of the input: {other:?}"),
        }
    }

    /// Reads lines, and runs each with nothing to show: `busy N`, `idle N`.
    #[track_caller]
    pub fn run_lines(&self, from: u64, expected: &[&str]) {
        for (number, expected) in (from..).zip(expected) {
            assert_eq!(self.line(), *expected);
            self.status(&format!("busy {number}"));
            self.status(&format!("idle {number}"));
        }
    }

    /// There is no line now, and none is on its way.
    #[track_caller]
    pub fn no_line(&self) {
        match self.stdin.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => panic!("a line came: {:?}", String::from_utf8_lossy(&line)),
            Err(error) => assert!(matches!(error, trunkline::RecvTimeoutError::Timeout), "{error}"),
        }
    }

    /// The next command that is not the size of the terminal.
    #[track_caller]
    pub fn command(&self) -> String {
        loop {
            let command = self.any_command();
            if !command.starts_with("resize ") {
                return command;
            }
        }
    }

    #[track_caller]
    pub fn any_command(&self) -> String {
        let command = self.control.recv_timeout(LONG).expect("a command of the console");
        String::from_utf8(command.to_vec()).unwrap()
    }

    #[track_caller]
    pub fn request(&self) -> String {
        let request = self.requests.recv_timeout(LONG).expect("a request of the console");
        String::from_utf8(request.to_vec()).unwrap()
    }

    pub fn answer(&self, answer: &str) {
        self.answers.send(answer).unwrap();
    }

    /// Waits for the end of the lines, and ends the output.
    #[track_caller]
    pub fn finish(self) {
        match self.stdin.recv_timeout(LONG) {
            Err(trunkline::RecvTimeoutError::Disconnected(_)) => {}
            other => panic!("not the end of the lines: {other:?}"),
        }
        for sender in [&self.stdout, &self.stderr, &self.status, &self.display] {
            // The console may have gone, since it knows that all is over.
            drop(sender.finish());
        }
        self.gone();
    }

    /// Waits until the console is gone.
    #[track_caller]
    pub fn gone(&self) {
        let begun = Instant::now();
        while self.connection.close_reason().is_none() {
            assert!(begun.elapsed() < LONG, "the console stays");
            let _ = self.connection.events().recv_timeout(Duration::from_millis(50));
        }
    }

    /// The console is gone, and comes back to nothing: it is not waited for.
    pub fn leave(self) {
        self.connection.clone().abandon();
    }

    /// Says that output was left out here.
    pub fn gap(&self, messages: u64, bytes: u64) {
        self.stdout.gap(messages, bytes).unwrap();
        // A gap is told with what follows on its channel.
        self.print("");
    }
}

/// The most memory that a process has used so far, in bytes.
pub fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
