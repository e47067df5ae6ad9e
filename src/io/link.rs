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
use super::sealed::Sealed;
use super::socket::{Read, Socket};
use crate::peer_process::PeerProcess;
use crate::proto::replay::Replay;
use crate::proto::seal::{MOST, Seal};
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
    /// Of a sealed connection; then what goes ahead is sealed already, and what came early still is.
    pub(crate) seal: Option<Box<Seal>>,
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

/// How a write went; how many bytes of the stream that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wrote {
    /// All of what was offered.
    All(usize),
    /// The socket is full.
    Part(usize),
}

/// What stands between the stream and the socket.
enum Way {
    /// Nothing.
    Plain,
    /// The end of the handshake, which is no part of the stream.
    Behind(Vec<u8>),
    Sealed(Box<Sealed>),
}

pub(crate) struct Link {
    socket: Socket,
    way: Way,
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
        #[cfg(unix)]
        let watch = new.process.as_ref().and_then(|process| Watch::new(process).ok());
        let NewSocket { socket, rtt, ahead, early, seal, .. } = new;
        let (way, unhandled) = match seal {
            Some(seal) => (Way::Sealed(Box::new(Sealed::new(seal, ahead, early))), Vec::new()),
            None if ahead.is_empty() => (Way::Plain, early),
            None => (Way::Behind(ahead), early),
        };
        let pace = Pace::new(rtt);
        let unsent = pace.unsent();
        socket.limit_unsent(unsent);
        Self {
            socket,
            way,
            unhandled,
            readable: true,
            writable: true,
            hung_up: false,
            peer_died: false,
            #[cfg(unix)]
            watch,
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

    /// The system tells of the socket. `true`: it takes bytes again after it was full, which shows that the
    /// peer lives. On a sealed socket only a record does that.
    pub(crate) fn handle_ready(&mut self, ready: Ready) -> bool {
        self.hung_up |= ready.hung_up;
        self.peer_died |= ready.peer_died;
        self.readable |= ready.readable;
        let progress = ready.writable && !self.writable && !matches!(self.way, Way::Sealed(_));
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
        match &self.way {
            Way::Plain => true,
            Way::Behind(_) => false,
            Way::Sealed(sealed) => sealed.is_clear(),
        }
    }

    /// What it holds for itself.
    pub(crate) fn memory(&self) -> usize {
        match &self.way {
            Way::Plain => 0,
            Way::Behind(ahead) => ahead.capacity(),
            Way::Sealed(sealed) => sealed.memory(),
        }
    }

    pub(crate) fn sealed(&mut self) -> Option<&mut Sealed> {
        match &mut self.way {
            Way::Sealed(sealed) => Some(sealed),
            Way::Plain | Way::Behind(_) => None,
        }
    }

    /// Reads records into `bytes`: how many bytes there are then, to be opened.
    pub(crate) fn read_sealed(&mut self, bytes: &mut [u8], spare: &mut impl Spare) -> io::Result<Read> {
        let mut way = std::mem::replace(&mut self.way, Way::Plain);
        let read = match &mut way {
            Way::Sealed(sealed) => sealed.read(bytes, spare, |bytes| {
                let room = bytes.len();
                self.read(room, |socket| socket.read(bytes))
            }),
            Way::Plain | Way::Behind(_) => Ok(Read::Nothing),
        };
        self.way = way;
        read
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

    /// One write of as much of the stream as one call takes. `sealing` is memory to work with.
    pub(crate) fn write(
        &mut self,
        replay: &mut Replay,
        now: Instant,
        spare: &mut impl Spare,
        sealing: &mut Vec<u8>,
    ) -> io::Result<Wrote> {
        let ahead = match &mut self.way {
            Way::Plain => None,
            Way::Behind(ahead) => Some(&**ahead),
            Way::Sealed(_) => return self.write_sealed(replay, now, spare, sealing),
        };
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut offered = 0;
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
        let mut stream = written;
        if let Way::Behind(ahead) = &mut self.way {
            let before = written.min(ahead.len());
            stream -= before;
            ahead.drain(..before);
            if ahead.is_empty() {
                self.way = Way::Plain;
            }
        }
        replay.advance(stream, spare);
        Ok(self.wrote(stream, written == offered, now))
    }

    fn wrote(&mut self, stream: usize, all: bool, now: Instant) -> Wrote {
        if all {
            self.pace.took_all(stream);
        } else {
            self.pace.took_part(now, stream);
            self.writable = false;
        }
        let unsent = self.pace.unsent();
        if std::mem::replace(&mut self.unsent, unsent) != unsent {
            self.socket.limit_unsent(unsent);
        }
        if all { Wrote::All(stream) } else { Wrote::Part(stream) }
    }

    /// What is sealed counts as written, since nothing can come before it any more.
    fn write_sealed(
        &mut self,
        replay: &mut Replay,
        now: Instant,
        spare: &mut impl Spare,
        sealing: &mut Vec<u8>,
    ) -> io::Result<Wrote> {
        let Self { socket, way: Way::Sealed(sealed), pace, .. } = self else { return Ok(Wrote::All(0)) };
        let record = pace.record().min(MOST);
        let (stream, all) = sealed.write(replay.unwritten(), record, sealing, |bytes| socket.write(bytes))?;
        replay.advance(stream, spare);
        Ok(self.wrote(stream, all, now))
    }

    /// Nothing more is written.
    pub(crate) fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            self.socket.finish();
        }
    }
}
