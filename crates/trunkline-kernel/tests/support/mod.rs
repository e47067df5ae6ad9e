//! A console for tests, and kernels to try it on.

#![allow(dead_code)]

#[cfg(unix)]
pub mod dam;
#[path = "../../examples/tiny.rs"]
pub mod tiny;

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use trunkline::{Config, Connection, Key, Listener};
use trunkline_kernel::console::{Said, Session};
use trunkline_kernel::kernel::{Kernel, Settings};
use trunkline_kernel::layout::{Answer, STDOUT, Status};

/// Longer than anything here takes; only a failure waits for it.
pub const LONG: Duration = Duration::from_secs(60);

/// A console that gathers what it is told.
pub struct Console {
    pub session: Session,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub statuses: Vec<String>,
    pub answers: Vec<Answer>,
    pub nonsense: Vec<String>,
    /// How many bytes each had.
    pub pictures: Vec<usize>,
    /// What was left out of standard output: messages and bytes.
    pub cut: (u64, u64),
    pub finished: bool,
    pub over: bool,
}

impl Console {
    pub fn new(connection: Connection) -> Self {
        Self {
            session: Session::new(connection).unwrap(),
            stdout: Vec::new(),
            stderr: String::new(),
            statuses: Vec::new(),
            answers: Vec::new(),
            nonsense: Vec::new(),
            pictures: Vec::new(),
            cut: (0, 0),
            finished: false,
            over: false,
        }
    }

    #[track_caller]
    pub fn send(&mut self, line: &str) -> u64 {
        self.session.try_send(format!("{line}\n")).unwrap()
    }

    /// Takes in what comes until something is so.
    #[track_caller]
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LONG;
        while !wanted(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.session.next_timeout(left) {
                Some(said) => self.note(said),
                None => panic!(
                    "{what}: not in time; statuses {:?}, stderr {:?}, {} bytes of stdout, over {}",
                    self.statuses,
                    self.stderr,
                    self.stdout.len(),
                    self.over
                ),
            }
        }
    }

    fn note(&mut self, said: Said) {
        match said {
            Said::Output(text) if text.channel() == STDOUT => self.stdout.extend_from_slice(&text),
            Said::Output(text) => self.stderr += &String::from_utf8_lossy(&text),
            Said::Cut { channel: STDOUT, messages, bytes } => {
                self.cut = (self.cut.0 + messages, self.cut.1 + bytes);
            }
            Said::Status(status) => self.statuses.push(status.to_string()),
            Said::Answer(answer) => self.answers.push(answer),
            Said::Picture(picture) => self.pictures.push(picture.body.len()),
            Said::Nonsense(text) => self.nonsense.push(text),
            Said::Finished => self.finished = true,
            Said::Over(_) => self.over = true,
            _ => {}
        }
    }

    #[track_caller]
    pub fn until_status(&mut self, status: Status) {
        let text = status.to_string();
        self.until(&text, |console| console.statuses.contains(&text));
    }

    #[track_caller]
    pub fn until_over(&mut self, number: u64) {
        self.until("the line is over", |console| console.session.console().is_over(number));
    }

    #[track_caller]
    pub fn interrupt(&mut self) {
        assert!(self.session.interrupt().unwrap(), "there is nothing to interrupt");
    }

    #[track_caller]
    pub fn interrupt_message(&mut self, number: u64) {
        let control = self.session.console().interrupt_message(number);
        self.session.command(&control).unwrap();
    }

    /// What standard output has shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A kernel of the tiny language in this process, and its console.
pub fn pair() -> (Console, JoinHandle<()>) {
    pair_with(Settings::new().introspect(tiny::Words), |config| config)
}

pub fn pair_with(settings: Settings, set: impl FnOnce(Config) -> Config) -> (Console, JoinHandle<()>) {
    let (here, there) = Connection::pair(set(Config::new(Key::generate()))).unwrap();
    let kernel = Kernel::on(there, settings).unwrap();
    let interpreter = std::thread::spawn(move || tiny::interpret(kernel));
    (Console::new(here), interpreter)
}

/// A kernel of the tiny language in this process that listens, and how to reach it.
pub struct Listening {
    pub address: std::net::SocketAddr,
    key: Key,
}

impl Listening {
    pub fn new(settings: Settings, set: impl FnOnce(Config) -> Config) -> Self {
        Self::with(settings, set, tiny::interpret)
    }

    /// A kernel of another language.
    pub fn with(
        settings: Settings,
        set: impl FnOnce(Config) -> Config,
        interpret: impl FnOnce(Kernel) + Send + 'static,
    ) -> Self {
        let key = Key::generate();
        let listener = Listener::bind("127.0.0.1:0", set(Config::new(key.clone()))).unwrap();
        let address = listener.local_addr();
        let kernel = Kernel::serve(listener, settings).unwrap();
        std::thread::spawn(move || interpret(kernel));
        Self { address, key }
    }

    pub fn console(&self) -> Console {
        self.console_at(self.address)
    }

    pub fn console_at(&self, address: std::net::SocketAddr) -> Console {
        self.console_with(address, |config| config)
    }

    pub fn console_with(&self, address: std::net::SocketAddr, set: impl FnOnce(Config) -> Config) -> Console {
        Console::new(Connection::connect(address, set(Config::new(self.key.clone()))).unwrap())
    }
}
