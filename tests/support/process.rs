//! The examples as processes, which end with the test that has started them.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use super::LONG;

/// An example, which `cargo test` builds beside the tests, with pipes.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let path: PathBuf = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: `cargo test` builds it, `cargo build --examples` does too",
        path.display()
    );
    let mut command = Command::new(path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process whose output is gathered.
pub struct Process {
    pub child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
}

/// How a process has ended, and what it has written since somebody looked.
#[derive(PartialEq, Eq, Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the example starts");
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    pub fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().expect("it is open").write_all(text.as_bytes()).expect("it reads");
    }

    /// The end of its stdin.
    pub fn finish(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Its next line of stdout.
    #[track_caller]
    pub fn line(&self) -> String {
        self.stdout.recv_timeout(LONG).expect("a line of stdout in time")
    }

    /// Its next line of stderr.
    #[track_caller]
    pub fn error_line(&self) -> String {
        self.stderr.recv_timeout(LONG).expect("a line of stderr in time")
    }

    /// What an example says first that listens: where.
    #[track_caller]
    pub fn address(&self) -> std::net::SocketAddr {
        let line = self.stdout.recv_timeout(LONG).unwrap_or_default();
        let address = line.strip_prefix("listening on ").and_then(|line| line.trim_end().parse().ok());
        address.unwrap_or_else(|| panic!("it does not listen: {line:?}, {:?}", rest(&self.stderr)))
    }

    /// Waits for the end of its output, then of itself.
    #[track_caller]
    pub fn end(mut self) -> Outcome {
        let (stdout, stderr) = (rest(&self.stdout), rest(&self.stderr));
        assert!(!stderr.contains("panicked"), "{stderr}");
        Outcome { code: self.child.wait().expect("it can be waited for").code(), stdout, stderr }
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut stderr = String::new();
        while let Ok(line) = self.stderr.recv_timeout(LONG) {
            stderr += &line;
        }
        if thread::panicking() {
            eprint!("{stderr}");
        } else {
            assert!(!stderr.contains("panicked"), "{stderr}");
        }
    }
}

/// The lines of a pipe; the channel is closed where the pipe ends.
pub fn lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = String::new();
        while pipe.read_line(&mut line).is_ok_and(|read| read > 0)
            && sender.send(std::mem::take(&mut line)).is_ok()
        {}
    });
    lines
}

#[track_caller]
pub fn rest(lines: &mpsc::Receiver<String>) -> String {
    let mut text = String::new();
    loop {
        match lines.recv_timeout(LONG) {
            Ok(line) => text += &line,
            Err(mpsc::RecvTimeoutError::Disconnected) => return text,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs; so far it has written:\n{text}"),
        }
    }
}
