//! One console as the interpreter sees it: its stdin, stdout, stderr and status.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};
use trunkline::{Connection, Reader, SendTimeoutError, Sender, is_interrupted};

use crate::interrupts::{Interrupts, Stage};
use crate::layout::{Activity, STATUS, STDERR, STDIN, STDOUT, State};

pub struct Session {
    stdin: RefCell<Reader>,
    stdout: Sender,
    stderr: Sender,
    status: Sender,
    last: Cell<Option<State>>,
    /// The console has sent its last line, and it has been read.
    ended: Cell<bool>,
    dropped: Receiver<()>,
    pub interrupts: Arc<Interrupts>,
}

/// What stdin has for the loop that reads statements.
pub enum Next {
    Line(String),
    /// The beginning of a statement shall be dropped.
    Drop,
    End,
}

/// Why `input()` has no line.
pub enum NoLine {
    Interrupted,
    Failed(String),
}

impl Session {
    pub fn new(connection: &Connection) -> Result<Self, trunkline::ChannelError> {
        let stdin = connection.receiver(STDIN)?.into_reader();
        let (interrupts, dropped) = Interrupts::new(stdin.interrupter());
        Ok(Self {
            stdin: RefCell::new(stdin),
            stdout: connection.sender(STDOUT)?,
            stderr: connection.sender(STDERR)?,
            status: connection.sender(STATUS)?,
            last: Cell::new(None),
            ended: Cell::new(false),
            dropped,
            interrupts: Arc::new(interrupts),
        })
    }

    /// The next line for the loop that reads statements. It asks stdin without blocking, and has
    /// nothing else to do until something happens: a graphical program would handle its window's
    /// events here.
    pub fn next(&self) -> Next {
        let ready = self.stdin.borrow().receiver().ready();
        loop {
            if self.dropped.try_recv().is_ok() {
                return Next::Drop;
            }
            match self.poll() {
                Ok(Some(line)) => return Next::Line(line),
                Ok(None) => {}
                Err(_) => return Next::End,
            }
            // Which of them it was, the next round sees.
            select! {
                recv(ready) -> _ => {}
                recv(self.dropped) -> token => if token.is_ok() { return Next::Drop },
            }
        }
    }

    /// The next line if it is there.
    fn poll(&self) -> io::Result<Option<String>> {
        if self.ended.get() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut stdin = self.stdin.borrow_mut();
        let line = match stdin.try_read_line() {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // It is still there, as bytes.
                let mut bytes = Vec::new();
                stdin.read_until(b'\n', &mut bytes)?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            other => other.inspect_err(|_| self.ended.set(true))?,
        };
        if line.is_some() {
            self.interrupts.count_line();
        }
        Ok(line)
    }

    /// A line for the program that runs: what `input()` calls, in the middle of the line that the
    /// loop above has read.
    pub fn input(&self, prompt: &str) -> Result<String, NoLine> {
        self.write(&self.stdout, prompt);
        if self.interrupts.stopping() {
            return Err(NoLine::Interrupted);
        }
        let mut line = match self.poll() {
            Ok(Some(line)) => line,
            Ok(None) => {
                self.report(Activity::Waiting);
                let line = self.wait_for_line();
                self.report(Activity::Busy);
                line?
            }
            Err(error) => return Err(no_line(&error)),
        };
        while line.ends_with(['\n', '\r']) {
            line.pop();
        }
        Ok(line)
    }

    fn wait_for_line(&self) -> Result<String, NoLine> {
        let mut line = String::new();
        match self.stdin.borrow_mut().read_line(&mut line) {
            Ok(0) => {
                self.ended.set(true);
                Err(no_line(&io::ErrorKind::UnexpectedEof.into()))
            }
            Ok(_) => {
                self.interrupts.count_line();
                Ok(line)
            }
            Err(error) => Err(no_line(&error)),
        }
    }

    pub fn print(&self, text: &str) {
        self.write(&self.stdout, &format!("{text}\n"));
    }

    pub fn complain(&self, text: &str) {
        self.write(&self.stderr, &format!("{text}\n"));
    }

    /// Sends; while the console takes nothing, it waits, but not through an interrupt.
    fn write(&self, to: &Sender, text: &str) {
        // A long text in pieces, so that what is left of it can be interrupted.
        for piece in text.as_bytes().chunks(64 * 1024) {
            while let Err(error) = to.send_timeout(piece, Duration::from_millis(100)) {
                match error {
                    SendTimeoutError::Timeout { .. } if !self.interrupts.stopping() => {}
                    // Interrupted, or there is nobody to show it to; then the program is stopped.
                    _ => return,
                }
            }
        }
    }

    /// Tells the console that there will be no more output.
    pub fn finish(&self) {
        for sender in [&self.stdout, &self.stderr, &self.status] {
            // Fails only if the console is gone.
            drop(sender.finish());
        }
    }

    pub fn report(&self, activity: Activity) {
        let state = State { activity, lines: self.interrupts.lines() };
        if self.last.replace(Some(state)) != Some(state) {
            // Fails only if the console is gone; then the program is stopped.
            drop(self.status.send(state.to_string()));
        }
    }

    pub fn enter(&self, stage: Stage) {
        self.interrupts.enter(stage);
        // One that came in the last moment of what ran must not end the next `input()`.
        self.stdin.borrow_mut().clear_interrupt();
        if stage != Stage::Incomplete {
            while self.dropped.try_recv().is_ok() {}
        }
        self.report(match stage {
            Stage::Idle => Activity::Idle,
            Stage::Incomplete => Activity::Incomplete,
            Stage::Running => Activity::Busy,
        });
    }
}

fn no_line(error: &io::Error) -> NoLine {
    if is_interrupted(error) {
        NoLine::Interrupted
    } else if error.kind() == io::ErrorKind::UnexpectedEof {
        NoLine::Failed("there is no more input".to_owned())
    } else {
        NoLine::Failed(error.to_string())
    }
}
