//! A console on pipes.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::{LONG, Place};

pub struct Pipes {
    pub child: Child,
    stdout: mpsc::Receiver<Vec<u8>>,
    stderr: mpsc::Receiver<Vec<u8>>,
}

/// How a process has ended, and what it has written since it was looked at.
#[derive(PartialEq, Eq, Debug)]
pub struct Outcome {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn new(status: i32, stdout: &str, stderr: &str) -> Self {
        Self { status: Some(status), stdout: stdout.to_owned(), stderr: stderr.to_owned() }
    }
}

impl Pipes {
    pub fn start(place: &Place, options: &[&str]) -> Self {
        let mut command = place.console(options);
        command.stdin(Stdio::piped());
        Self::with(command)
    }

    /// The standard input is as the caller has set it.
    pub fn with(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    pub fn write(&mut self, text: impl AsRef<[u8]>) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_ref()).unwrap();
    }

    pub fn finish(&mut self) {
        drop(self.child.stdin.take());
    }

    #[track_caller]
    pub fn line(&self) -> String {
        String::from_utf8(self.stdout.recv_timeout(LONG).expect("a line of standard output")).unwrap()
    }

    #[track_caller]
    pub fn error_line(&self) -> String {
        String::from_utf8(self.stderr.recv_timeout(LONG).expect("a line of standard error")).unwrap()
    }

    #[track_caller]
    pub fn end(mut self) -> Outcome {
        let [stdout, stderr] = [&self.stdout, &self.stderr].map(|lines| {
            let mut text = Vec::new();
            loop {
                match lines.recv_timeout(LONG) {
                    Ok(line) => text.extend(line),
                    Err(mpsc::RecvTimeoutError::Disconnected) => break String::from_utf8(text).unwrap(),
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        panic!("it hangs; so far: {:?}", String::from_utf8_lossy(&text))
                    }
                }
            }
        });
        assert!(!stderr.contains("panicked"), "{stderr}");
        Outcome { status: status(&mut self.child), stdout, stderr }
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The exit status as a shell tells it.
#[track_caller]
pub fn status(child: &mut Child) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;

    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        }
        assert!(begun.elapsed() < LONG, "it does not end");
        thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The lines of a pipe. The sender goes when the pipe ends.
fn lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0)
            && sender.send(std::mem::take(&mut line)).is_ok()
        {}
    });
    lines
}
