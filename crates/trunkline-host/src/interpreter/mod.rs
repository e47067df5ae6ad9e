//! A kernel in a process of its own: what it writes, what its children and its C code write, its last words, and
//! its end.
//!
//! A kernel that must survive its interpreter's death is two processes. The *host* has the sockets to the outside,
//! reads the pipes, and waits for the process. The *interpreter* is its child: it runs a
//! [`Kernel`](trunkline_kernel::kernel::Kernel) on a connection to the host, and its descriptors 1 and 2 are pipes
//! to the host. [`marks`](crate::marks) put the pipes and the connection into one order.
//!
//! # What the interpreter does
//!
//! It takes [`SOCKET`] and [`SECRET`] out of its environment, and calls [`connect`]. Before it does what makes its
//! kernel send a status or a picture, it flushes and sends [`Turn::Begin`] on [`TURNS`], and afterwards [`Turn::End`]
//! with the number of its next mark, which it then writes to both pipes. What the kernel sends in between stands at
//! the mark. What it sends at other times, from other threads, stands where it comes.

mod link;
mod memory;
mod serve;
mod words;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use trunkline::{BindError, ChannelId, Config, ConnectError, Connection, Key, Listener};

use self::memory::Kills;
use crate::host::{ServeError, Served, Stopper};
use crate::marks::Token;
use crate::program::{Program, Setup, StartError};

/// The environment variable with the number of the descriptor that the interpreter has inherited.
pub const SOCKET: &str = "TRUNKLINE_HOST_SOCKET";
/// The environment variable with the key of the connection and the token of the marks, which no process that the
/// interpreter starts should have.
pub const SECRET: &str = "TRUNKLINE_HOST_SECRET";
/// The environment variable with the number of the descriptor of memory that the interpreter shares with its host. It
/// may keep there what it has printed and not given to the system, because the line has no end: 4 bytes of length, least
/// first, and the text, in [`ROOM`] bytes for standard output and as many for standard error. The host says it when the
/// process is over. Where the system has no such memory, there is no such variable.
pub const LAST_WORDS: &str = "TRUNKLINE_HOST_LAST_WORDS";
/// The channel, of the connection between the two alone, on which the interpreter says where its frames belong.
pub const TURNS: ChannelId = ChannelId::new(63);

pub use words::ROOM;

/// What the interpreter says on [`TURNS`]: one message of 8 bytes, the number or 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// What the kernel sends from now on belongs to the next mark.
    Begin,
    /// That was all, and the mark of this number, which is not 0, is written next.
    End(u64),
}

impl Turn {
    /// Returns the message.
    #[must_use]
    pub fn to_message(self) -> [u8; 8] {
        match self {
            Self::Begin => 0,
            Self::End(number) => number,
        }
        .to_le_bytes()
    }

    /// Reads a message; `None` if it is not one.
    #[must_use]
    pub fn from_message(message: &[u8]) -> Option<Self> {
        Some(match u64::from_le_bytes(message.try_into().ok()?) {
            0 => Self::Begin,
            number => Self::End(number),
        })
    }
}

/// An interpreter that was started, for a host to [serve](Interpreter::serve).
#[derive(Debug)]
pub struct Interpreter {
    program: Program,
    stop: Stopper,
    listener: Listener,
    token: Token,
    kills: Kills,
    words: words::LastWords,
}

/// An interpreter could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterpreterError {
    /// The process could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no way to talk to it.
    #[error("cannot listen for the interpreter on this machine: {0}")]
    Listen(#[from] BindError),
    /// The system gives no socket or random bytes.
    #[error("the system gives no socket for the interpreter: {0}")]
    System(#[from] io::Error),
}

impl Interpreter {
    /// Starts an interpreter: a command that does what [the module](self) says. Its standard input is empty, and it
    /// has no controlling terminal.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(command: Command) -> Result<Self, InterpreterError> {
        let (ours, theirs) = UnixStream::pair()?;
        let (key, token) = (Key::generate(), token());
        // A program that is stopped, as by a debugger, is there all the same; and the end of a process is seen.
        let config = Config::new(key.clone()).no_heartbeat().handshake_timeout(STARTUP);
        let listener = Listener::bind("127.0.0.1:0", config)?;
        listener.adopt(ours)?;
        let mut command = command;
        command.env(SECRET, secret(&key, &token));
        let mut setup = Setup::pipes_without_input(command).inherit(SOCKET, OwnedFd::from(theirs));
        let (words, shared) = words::LastWords::share()?;
        if let Some(shared) = shared {
            setup = setup.inherit(LAST_WORDS, shared);
        }
        let program = setup.start()?;
        let stop = Stopper::new(&program);
        let kills = Kills::until_now(program.pid());
        Ok(Self { program, stop, listener, token, kills, words })
    }

    /// Returns the process id of the interpreter.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.program.pid()
    }

    /// Returns what ends the interpreter from another thread, while it is served.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stop.clone()
    }

    /// Serves until the interpreter has ended and everything was sent; this thread is the host's meanwhile. The other
    /// side is a console or a hub, and has all channels of [a kernel](trunkline_kernel::layout); the last status,
    /// behind all output, is the host's. The connection stays open, for the caller to close, and then to drop what this
    /// returns.
    ///
    /// # Errors
    ///
    /// If the connection is over first, or was not one that can carry the channels.
    pub fn serve(self, upstream: &Connection) -> Result<Served, ServeError> {
        serve::serve(self, upstream)
    }
}

/// How long an interpreter may take until it says something.
const STARTUP: Duration = Duration::from_secs(60);

fn token() -> Token {
    // A key is random bytes, and more of them.
    let mut token = Token::default();
    let hex = Key::generate().expose_hex();
    for (byte, digits) in token.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(digits[0]) << 4 | digit(digits[1]);
    }
    token
}

fn digit(hex: u8) -> u8 {
    char::from(hex).to_digit(16).and_then(|digit| digit.try_into().ok()).unwrap_or_default()
}

fn secret(key: &Key, token: &Token) -> String {
    let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{token}", key.expose_hex().as_str())
}

/// An interpreter cannot reach its host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// What stood in the environment is nothing that a host has put there.
    #[error("{SECRET} has no key and token; an interpreter is started by its host")]
    Secret,
    /// The host is gone, or does not answer.
    #[error("cannot connect to the host: {0}")]
    Connect(#[from] ConnectError),
}

/// Connects an interpreter to its host: with its socket, and the value of [`SECRET`]. Returns the connection for its
/// kernel, and the token of its marks.
///
/// # Errors
///
/// If the secret is none, or the host is gone.
pub fn connect(socket: OwnedFd, secret: &str) -> Result<(Connection, Token), LinkError> {
    let (key, hex) = secret.split_once(':').ok_or(LinkError::Secret)?;
    let key: Key = key.parse().map_err(|_| LinkError::Secret)?;
    let mut token = Token::default();
    if hex.len() != 2 * token.len() || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(LinkError::Secret);
    }
    for (byte, digits) in token.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(digits[0]) << 4 | digit(digits[1]);
    }
    let config = Config::new(key).no_heartbeat();
    Ok((Connection::from_stream(UnixStream::from(socket), config)?, token))
}
