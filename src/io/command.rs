//! What other threads ask of the I/O loop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::accepted::Accepted;
use super::leaving::Leave;
use super::link::NewSocket;
use super::place::Place;
use super::reply::Reply;
use super::shared::Shared;
use super::socket::{Acceptor, Socket};
use crate::access::Access;
use crate::address::Address;
use crate::key::Key;
use crate::options::Options;
use crate::proto::handshake::{Granted, Takes};
use crate::proto::session::Settings;
use crate::queue::accept::AcceptQueue;
use crate::queue::listener_events::ListenerEvents;
use crate::session_info::SessionInfo;
use crate::stats::Stats;

pub(crate) enum Command {
    /// A connection's queues have something for it.
    Attend(Place),
    Connect(Box<Connect>),
    ConnectLazily(Box<ConnectLazily>),
    Adopt(Box<Adopt>),
    Join(Box<Join>),
    /// A socket as if it had come to the listener at this place.
    Come(Place, Box<(Socket, Option<SocketAddr>)>),
    Listen(Box<Listen>),
    /// Listens no more.
    Unlisten(Place),
    AddKey(Place, Key, Access),
    RemoveKey(Place, Key),
    /// A name was looked up for the attempt at this place.
    Resolved(Place, io::Result<Vec<SocketAddr>>),
    Stats(Place, Sender<Stats>),
    /// The clients of the listener at this place.
    Sessions(Place, Sender<Vec<SessionInfo>>),
    /// All connections of this I/O thread end, behind what was sent, in that time.
    Shutdown(Leave),
    /// End when the last source is gone.
    Stop,
}

/// A client that waits for its connection.
pub(crate) struct Connect {
    pub(crate) address: Address,
    pub(crate) key: Key,
    pub(crate) options: Options,
    pub(crate) reply: Reply,
}

/// A client's connection that does not wait for its peer.
pub(crate) struct ConnectLazily {
    pub(crate) address: Address,
    pub(crate) key: Key,
    pub(crate) options: Options,
    pub(crate) reply: Sender<Arc<Shared>>,
}

/// A socket that needs no handshake: one end of a pair.
pub(crate) struct Adopt {
    pub(crate) socket: Socket,
    pub(crate) options: Options,
    pub(crate) settings: Settings,
    pub(crate) reply: Sender<io::Result<Arc<Shared>>>,
}

/// A client's socket whose handshake is done.
pub(crate) struct Join {
    pub(crate) socket: NewSocket,
    pub(crate) granted: Granted,
    pub(crate) options: Options,
    pub(crate) reply: Sender<io::Result<Arc<Shared>>>,
}

pub(crate) struct Listen {
    pub(crate) socket: Acceptor,
    /// Where clients find it.
    pub(crate) address: Address,
    pub(crate) takes: Takes,
    pub(crate) keys: Vec<(Key, Access)>,
    pub(crate) options: Options,
    pub(crate) accepted: Arc<AcceptQueue<Accepted>>,
    pub(crate) events: Arc<ListenerEvents>,
    pub(crate) reply: Sender<io::Result<Place>>,
}
