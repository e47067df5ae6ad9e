//! Sockets that are read with a deadline, and what can go wrong.

use std::fmt;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Accept, PATIENCE, ServerHello};

/// Why a read gave no frame, or a handshake no peer.
#[derive(Debug)]
pub enum WireError {
    /// Nothing (or too little) came in time.
    Timeout,
    /// The stream ended; `partial` bytes of something unfinished had come before.
    End {
        partial: usize,
    },
    /// The stream was reset (also: broken pipe).
    Reset,
    /// The other side broke the protocol.
    Violation(String),
    /// The server said no; the ServerHello says why.
    RefusedByHello(Box<ServerHello>),
    /// The server said no in a SealedReply.
    Refused(u8),
    /// The server said no; the Accept, whose MAC was right, says why.
    RefusedByAccept(Box<Accept>),
    Io(io::Error),
}

impl WireError {
    /// The stream is over, in whichever way TCP said so.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::End { .. } | Self::Reset)
    }

    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }

    /// The status of a refusal, by either message.
    pub fn refusal(&self) -> Option<u8> {
        match self {
            Self::Refused(status) => Some(*status),
            Self::RefusedByHello(hello) => Some(hello.status),
            Self::RefusedByAccept(accept) => Some(accept.status),
            _ => None,
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for WireError {}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as K;
        match error.kind() {
            K::WouldBlock | K::TimedOut => Self::Timeout,
            K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::NotConnected => Self::Reset,
            K::UnexpectedEof => Self::End { partial: 0 },
            _ => Self::Io(error),
        }
    }
}

pub(super) fn violation<T>(what: impl Into<String>) -> Result<T, WireError> {
    Err(WireError::Violation(what.into()))
}

/// Fills `out` or says why not. A deadline is absolute: trickling does not extend it.
pub fn read_exact_by(stream: &mut TcpStream, out: &mut [u8], deadline: Instant) -> Result<(), WireError> {
    let mut have = 0;
    while have < out.len() {
        match read_some_by(stream, &mut out[have..], deadline)? {
            0 => return Err(WireError::End { partial: have }),
            n => have += n,
        }
    }
    Ok(())
}

pub(super) fn read_some_by(
    stream: &mut TcpStream,
    out: &mut [u8],
    deadline: Instant,
) -> Result<usize, WireError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(WireError::Timeout);
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(out) {
            Ok(n) => return Ok(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads until the stream ends; gives back what came. `Err(Timeout)` if it does not end.
pub fn read_to_end_by(stream: &mut TcpStream, deadline: Instant) -> Result<Vec<u8>, WireError> {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match read_some_by(stream, &mut chunk, deadline) {
            Ok(0) | Err(WireError::Reset) => return Ok(all),
            Ok(n) => all.extend_from_slice(&chunk[..n]),
            Err(error) => return Err(error),
        }
    }
}

/// A connected socket with the settings every raw peer uses.
pub fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("the server listens");
    prepare(&stream);
    stream
}

pub(super) fn prepare(stream: &TcpStream) {
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout can be set");
}
