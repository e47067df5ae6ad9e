//! A socket as a connection uses it: what it is ready for, what waits to be written on it alone,
//! and how fast it drains.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::Registry;

use super::pace::Pace;
#[cfg(unix)]
use super::peer::Watch;
use super::place::Place;
use super::socket::Socket;
use crate::peer_process::PeerProcess;
use crate::proto::replay::Replay;
use crate::proto::segment::Spare;

/// Slices of one vectored write.
const SLICES: usize = 128;

/// A socket whose handshake is done.
pub(crate) struct NewSocket {
    pub(crate) socket: Socket,
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) rtt: Option<Duration>,
    /// The end of the handshake, which is no part of the stream.
    pub(crate) ahead: Vec<u8>,
    /// What came behind the handshake.
    pub(crate) early: Vec<u8>,
    /// The process at the other end of a Unix socket.
    pub(crate) process: Option<PeerProcess>,
}

impl NewSocket {
    /// Registers a socket that was not registered before.
    pub(crate) fn register(&mut self, registry: &Registry, place: Place) -> io::Result<()> {
        self.socket.register(registry, place.token())
    }

    /// Moves it from its handshake's place to its connection's.
    pub(crate) fn reregister(&mut self, registry: &Registry, place: Place) -> io::Result<()> {
        self.socket.reregister(registry, place.token())
    }
}

/// What happened to a socket, as the system tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer's side of the socket has ended, or will.
    pub(crate) hung_up: bool,
    /// The peer's process has ended, whatever still holds its side of the socket.
    pub(crate) peer_died: bool,
}

impl Ready {
    pub(crate) fn of(event: &mio::event::Event) -> Self {
        let hung_up = event.is_read_closed() || event.is_error();
        let readable = event.is_readable() || hung_up;
        Self { readable, writable: event.is_writable(), hung_up, peer_died: false }
    }

    pub(crate) const NONE: Self = Self { readable: false, writable: false, hung_up: false, peer_died: false };
    pub(crate) const PEER_DIED: Self =
        Self { readable: true, writable: false, hung_up: false, peer_died: true };

    pub(crate) fn add(&mut self, more: Self) {
        self.readable |= more.readable;
        self.writable |= more.writable;
        self.hung_up |= more.hung_up;
        self.peer_died |= more.peer_died;
    }
}

/// What a read found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Read {
    Bytes(usize),
    /// Nothing, for now.
    Nothing,
    /// The end of the peer's half.
    End,
}

/// How a write went; how many bytes of the stream that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wrote {
    /// All of what was offered.
    All(usize),
    /// The socket is full.
    Part(usize),
}

pub(crate) struct Link {
    socket: Socket,
    ahead: Vec<u8>,
    /// What was read and not handled yet: others had their turn.
    pub(crate) unhandled: Vec<u8>,
    /// Until the socket says otherwise.
    readable: bool,
    writable: bool,
    hung_up: bool,
    /// What the socket has is all that will ever come.
    peer_died: bool,
    #[cfg(unix)]
    watch: Option<Watch>,
    pub(crate) pace: Pace,
    /// What the kernel was last told that it may keep unsent.
    unsent: u32,
    /// Nothing more is written, and the socket was told so.
    finished: bool,
}

impl Link {
    pub(crate) fn new(new: NewSocket) -> Self {
        let NewSocket { socket, rtt, ahead, early, process, .. } = new;
        let pace = Pace::new(rtt);
        let unsent = pace.unsent();
        socket.limit_unsent(unsent);
        Self {
            socket,
            ahead,
            unhandled: early,
            readable: true,
            writable: true,
            hung_up: false,
            peer_died: false,
            #[cfg(unix)]
            watch: process.as_ref().and_then(|process| Watch::new(process).ok()),
            pace,
            unsent,
            finished: false,
        }
    }

    /// Has the end of the peer's process told, where the system does that. Without it, the end of the socket
    /// tells, a little later if a child of the process holds it.
    pub(crate) fn watch_peer(&self, registry: &Registry, place: Place) {
        #[cfg(unix)]
        if let Some(watch) = &self.watch {
            let _ = watch.register(registry, place);
        }
        #[cfg(not(unix))]
        let _ = (registry, place);
    }

    /// The system tells of the socket. `true`: it takes bytes again after it was full.
    pub(crate) fn handle_ready(&mut self, ready: Ready) -> bool {
        self.hung_up |= ready.hung_up;
        self.peer_died |= ready.peer_died;
        self.readable |= ready.readable;
        let progress = ready.writable && !self.writable;
        self.writable |= ready.writable;
        progress
    }

    /// Looks at the socket at the next read, whatever it has told.
    pub(crate) fn look_again(&mut self) {
        self.readable = true;
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.readable || !self.unhandled.is_empty()
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable && !self.finished
    }

    /// Returns `true` if all is written that is to be written on this socket before the stream.
    pub(crate) fn is_clear(&self) -> bool {
        self.ahead.is_empty()
    }

    /// Reads with `read`, which has room for `room` bytes.
    pub(crate) fn read(
        &mut self,
        room: usize,
        read: impl FnOnce(&mut Socket) -> io::Result<usize>,
    ) -> io::Result<Read> {
        if !self.readable {
            return Ok(self.nothing());
        }
        match read(&mut self.socket) {
            Ok(0) => {
                self.readable = false;
                Ok(Read::End)
            }
            Ok(read) => {
                // Less than there was room for: the socket is empty, and tells when it is not. It has
                // told already if the peer has hung up, and on other systems it tells only a reader
                // that has read to the end.
                if cfg!(unix) && read < room && !self.hung_up {
                    self.readable = false;
                }
                Ok(Read::Bytes(read))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(self.nothing())
            }
            Err(error) => Err(error),
        }
    }

    /// The socket is empty: for now, or for good.
    fn nothing(&mut self) -> Read {
        if std::mem::take(&mut self.peer_died) { Read::End } else { Read::Nothing }
    }

    /// One write of as much of the stream as one call takes.
    pub(crate) fn write(
        &mut self,
        replay: &mut Replay,
        now: Instant,
        spare: &mut impl Spare,
    ) -> io::Result<Wrote> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut offered = 0;
        let ahead = Some(&*self.ahead).filter(|ahead| !ahead.is_empty());
        for part in ahead.into_iter().chain(replay.unwritten()).take(SLICES) {
            slices[count] = IoSlice::new(part);
            count += 1;
            offered += part.len();
        }
        let written = match self.socket.write_vectored(&slices[..count]) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let before = written.min(self.ahead.len());
        if before > 0 {
            self.ahead.drain(..before);
        }
        let stream = written - before;
        replay.advance(stream, spare);
        if written == offered {
            self.pace.took_all(stream);
            return Ok(Wrote::All(stream));
        }
        self.pace.took_part(now, stream);
        self.writable = false;
        let unsent = self.pace.unsent();
        if std::mem::replace(&mut self.unsent, unsent) != unsent {
            self.socket.limit_unsent(unsent);
        }
        Ok(Wrote::Part(stream))
    }

    /// Nothing more is written.
    pub(crate) fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            self.socket.finish();
        }
    }
}
