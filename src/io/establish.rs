//! What becomes of a socket once both sides agree.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use super::conn::Conn;
use super::driver::{Context, Place};
use super::resume::{Resumption, Side, jittered};
use super::shared::{Attention, Facts, Shared};
use super::socket::Socket;
use crate::config::Config;
use crate::id::ChannelSet;
use crate::proto::handshake::{SessionId, Terms};
use crate::proto::session::{Session, Settings};
use crate::queue::recv::Inbox;
use crate::queue::send::SendQueue;

/// What is known of a socket that becomes a connection's.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) local_addr: Option<SocketAddr>,
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) rtt: Option<Duration>,
    /// The end of the handshake, if the socket did not take it all.
    pub(crate) unsent: Vec<u8>,
    pub(crate) resumption: Option<Resumption>,
    pub(crate) owner: Option<Place>,
    /// This side has connected, and tells that it got the Accept.
    pub(crate) is_client: bool,
}

/// The session of a new connection, what its handles get, and what runs it.
pub(crate) fn establish(
    link: Link,
    socket: Socket,
    config: &Config,
    settings: &Settings,
    place: Place,
    ctx: &Context,
) -> (Box<Conn>, Arc<Shared>) {
    let settings = &Settings { resumable: link.resumption.is_some(), ..settings.clone() };
    let (mut session, outbound) = Session::new(ctx.now, settings);
    if link.is_client {
        session.announce(ctx.now);
    }
    if let Some(rtt) = link.rtt {
        session.set_rtt(rtt);
    }
    let attention = Arc::new(Attention { core: Arc::clone(&ctx.core), place });
    let shared = Arc::new(Shared {
        core: Arc::clone(&ctx.core),
        place,
        facts: Facts {
            local_addr: link.local_addr,
            peer_addr: link.peer_addr,
            may_send: settings.we_may_send,
            may_receive: settings.peer_may_send,
            may_interrupt: settings.we_may_interrupt,
            window: settings.our_window,
            linger: config.linger,
        },
        send: SendQueue::new(outbound, attention.clone()),
        inbox: Inbox::new(attention),
        rtt: AtomicU64::new(0),
        suspended: AtomicBool::new(false),
        ghost: AtomicBool::new(false),
        last_stats: parking_lot::Mutex::new(None),
    });
    let conn = Conn::new(
        socket,
        session,
        Arc::clone(&shared),
        link.resumption,
        config.replay_limit,
        link.owner,
        link.unsent,
    );
    (Box::new(conn), shared)
}

/// How a connection goes on when its socket is lost, if both sides want that.
pub(crate) fn resumption(config: &Config, session: SessionId, side: Side) -> Option<Resumption> {
    let wanted = !config.resume_grace.is_zero() && session != SessionId::default();
    wanted.then_some(Resumption { session, grace: config.resume_grace, side })
}

/// Our grants, and what the peer granted in its terms; the rights are the caller's to fill in.
pub(crate) fn settings(config: &Config, peer: &Terms) -> Settings {
    Settings {
        our_window: config.window,
        our_max_message: config.max_message,
        peer_window: peer.window,
        peer_max_message: peer.max_message,
        we_may_send: ChannelSet::EMPTY,
        peer_may_send: ChannelSet::EMPTY,
        we_may_interrupt: false,
        peer_may_interrupt: false,
        send_queue: config.send_queue as usize,
        heartbeat: config.heartbeat.map(|(interval, timeout)| (jittered(interval), timeout)),
        resumable: false,
    }
}

/// What this side tells of itself when it begins a session.
pub(crate) fn our_terms(config: &Config) -> Terms {
    Terms { session: SessionId::default(), offset: 0, window: config.window, max_message: config.max_message }
}
