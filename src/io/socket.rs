//! A stream socket, whichever kind, and how it is set up.

use std::io::{self, IoSlice, Read as _};
use std::net::{Shutdown, SocketAddr};

use mio::event::Source;
use mio::{Interest, Registry, Token};

#[cfg(unix)]
use super::peer;
#[cfg(unix)]
use super::socket_file::SharedFile;
use crate::address::Target;
#[cfg(unix)]
use crate::address::check_path;
use crate::error::HandshakeError;
use crate::peer_process::PeerProcess;

/// What a read found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Read {
    Bytes(usize),
    /// Nothing, for now.
    Nothing,
    /// The end of the peer's half.
    End,
}

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(mio::net::TcpStream),
    #[cfg(unix)]
    Unix(mio::net::UnixStream),
}

macro_rules! each {
    ($self:expr, $socket:ident => $does:expr) => {
        match $self {
            Socket::Tcp($socket) => $does,
            #[cfg(unix)]
            Socket::Unix($socket) => $does,
        }
    };
}

/// What listens.
#[derive(Debug)]
pub(crate) enum Acceptor {
    Tcp(mio::net::TcpListener),
    #[cfg(unix)]
    Unix {
        socket: mio::net::UnixListener,
        file: SharedFile,
    },
}

impl Acceptor {
    pub(crate) fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(socket) => socket.accept().map(|(stream, peer)| (Socket::tcp(stream), Some(peer))),
            #[cfg(unix)]
            Self::Unix { socket, .. } => socket.accept().map(|(stream, _)| (Socket::unix(stream), None)),
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.register(registry, token, Interest::READABLE),
            #[cfg(unix)]
            Self::Unix { socket, .. } => socket.register(registry, token, Interest::READABLE),
        }
    }
}

impl Socket {
    /// Begins to connect.
    pub(crate) fn connect(target: &Target) -> io::Result<Self> {
        match target {
            Target::Tcp(address) => mio::net::TcpStream::connect(*address).map(Self::tcp),
            #[cfg(unix)]
            Target::Unix(path) => {
                check_path(path)?;
                mio::net::UnixStream::connect(path).map(Self::unix)
            }
        }
    }

    /// Refuses a Unix socket whose other end is another user's. To be called before a byte is read or sent.
    pub(crate) fn check_user(&self) -> Result<(), HandshakeError> {
        match self {
            Self::Tcp(_) => Ok(()),
            #[cfg(unix)]
            Self::Unix(stream) => peer::check_user(&stream),
        }
    }

    /// The process at the other end.
    pub(crate) fn peer_process(&self) -> Option<PeerProcess> {
        match self {
            Self::Tcp(_) => None,
            #[cfg(unix)]
            Self::Unix(stream) => peer::process(&stream),
        }
    }

    #[cfg(unix)]
    pub(crate) fn unix(stream: mio::net::UnixStream) -> Self {
        #[cfg(target_vendor = "apple")]
        let _ = socket2::SockRef::from(&stream).set_nosigpipe(true);
        Self::Unix(stream)
    }

    /// A TCP socket, with the options that every trunkline socket has.
    pub(crate) fn tcp(stream: mio::net::TcpStream) -> Self {
        #[cfg(target_vendor = "apple")]
        let _ = socket2::SockRef::from(&stream).set_nosigpipe(true);
        // Not needed for correctness, so a system that refuses it does no harm.
        // Header and payload leave in one write, but the small frame after another must not wait
        // for its acknowledgement (trap 12).
        let _ = stream.set_nodelay(true);
        Self::Tcp(stream)
    }

    /// Limits how much the kernel keeps unsent. Where that cannot be set, what is urgent may wait
    /// longer; so a failure does no harm.
    pub(crate) fn limit_unsent(&self, bytes: u32) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Self::Tcp(stream) = self {
            let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(bytes);
        }
        let _ = bytes;
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        each!(self, socket => socket.register(registry, token, Interest::READABLE | Interest::WRITABLE))
    }

    /// Moves it to another token; what is ready is told again.
    pub(crate) fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        each!(self, socket => socket.reregister(registry, token, Interest::READABLE | Interest::WRITABLE))
    }

    /// Returns `true` if a connect that was begun is done, or its error.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = each!(self, socket => socket.take_error())? {
            return Err(error);
        }
        match each!(self, socket => socket.peer_addr().map(drop)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// Returns `true` if both ends are the same socket: a client that connects to a port of the
    /// ephemeral range may by chance be given that very port, and then talks to itself.
    pub(crate) fn is_its_own_peer(&self) -> bool {
        match self {
            Self::Tcp(stream) => match (stream.local_addr(), stream.peer_addr()) {
                (Ok(local), Ok(peer)) => local == peer,
                _ => false,
            },
            #[cfg(unix)]
            Self::Unix(_) => false,
        }
    }

    /// Makes its close one without the farewell that keeps its port taken for a while.
    pub(crate) fn reset(&self) {
        match self {
            Self::Tcp(stream) => {
                let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
            }
            #[cfg(unix)]
            Self::Unix(_) => {}
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, socket => retry(|| socket.read(buffer)))
    }

    /// Appends to a buffer, up to its capacity.
    pub(crate) fn read_spare(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        #[cfg(unix)]
        {
            // Into memory that was not cleared first, which a large payload would feel.
            let read =
                each!(self, socket => rustix::io::read(&*socket, rustix::buffer::spare_capacity(buffer)));
            match read {
                Err(rustix::io::Errno::INTR) => self.read_spare(buffer),
                read => Ok(read?),
            }
        }
        #[cfg(not(unix))]
        {
            let before = buffer.len();
            buffer.resize(buffer.capacity(), 0);
            let read = self.read(&mut buffer[before..]);
            buffer.truncate(before + *read.as_ref().unwrap_or(&0));
            read
        }
    }

    /// Writes without a signal: in a program whose SIGPIPE has the default action, writing to a socket
    /// that is lost must not end the process.
    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        #[cfg(all(unix, not(target_vendor = "apple")))]
        {
            use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
            each!(self, socket => retry(|| {
                let mut none = SendAncillaryBuffer::default();
                Ok(sendmsg(&*socket, slices, &mut none, SendFlags::NOSIGNAL)?)
            }))
        }
        // On Apple's systems the socket has an option for it, see `tcp`; elsewhere there is no
        // such signal.
        #[cfg(not(all(unix, not(target_vendor = "apple"))))]
        {
            use std::io::Write as _;
            each!(self, socket => retry(|| socket.write_vectored(slices)))
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Writes what the socket takes of `out`, and leaves the rest there.
    pub(crate) fn write_from(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        while !out.is_empty() {
            match self.write(out) {
                Ok(written) => drop(out.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Nothing more will be written.
    pub(crate) fn finish(&self) {
        let _ = each!(self, socket => socket.shutdown(Shutdown::Write));
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
