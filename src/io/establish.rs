//! What becomes of a socket once both sides agree.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;

use super::conn::Conn;
use super::driver::{Context, Place};
use super::pending::NewSocket;
use super::resume::{Resumption, Side, jittered};
use super::shared::{Agreed, Attention, Facts, Shared};
use crate::config::Config;
use crate::id::ChannelSet;
use crate::proto::handshake::{Rights, SessionId, Terms};
use crate::proto::session::{Session, Settings};
use crate::queue::recv::Inbox;
use crate::queue::send::SendQueue;

/// How a connection begins.
#[derive(Default)]
pub(crate) struct Link {
    /// None: the peer is not there yet.
    pub(crate) new: Option<NewSocket>,
    pub(crate) resumption: Option<Resumption>,
    pub(crate) owner: Option<Place>,
    /// This side has connected, and tells that it got the Accept.
    pub(crate) is_client: bool,
}

/// The session of a new connection, what its handles get, and what runs it.
pub(crate) fn establish(
    link: Link,
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
    let new = link.new.as_ref();
    if let Some(rtt) = new.and_then(|new| new.rtt) {
        session.set_rtt(rtt);
    }
    let agreed = Agreed {
        local_addr: new.and_then(|new| new.socket.local_addr()),
        peer_addr: new.and_then(|new| new.peer_addr),
        may_send: settings.we_may_send,
        may_receive: settings.peer_may_send,
        may_interrupt: settings.we_may_interrupt,
    };
    let attention = Arc::new(Attention { core: Arc::clone(&ctx.core), place });
    let shared = Arc::new(Shared {
        core: Arc::clone(&ctx.core),
        place,
        facts: Facts { window: settings.our_window, linger: config.linger },
        agreed: Mutex::new(agreed),
        send: SendQueue::new(outbound, attention.clone()),
        inbox: Inbox::new(attention),
        rtt: AtomicU64::new(0),
        suspended: AtomicBool::new(link.new.is_none()),
        ghost: AtomicBool::new(false),
        last_stats: Mutex::new(None),
    });
    let (socket, unsent) = link.new.map(|new| (new.socket, new.unsent)).unzip();
    let unsent = unsent.unwrap_or_default();
    let mut conn =
        Conn::new(socket, session, Arc::clone(&shared), link.resumption, config.replay_limit, unsent);
    conn.owner = link.owner;
    (Box::new(conn), shared)
}

/// A client's connection whose peer is not there yet: what is sent waits, within the limits that
/// this side has itself.
pub(crate) fn establish_lazily(
    config: Config,
    addresses: Vec<SocketAddr>,
    place: Place,
    ctx: &Context,
) -> (Box<Conn>, Arc<Shared>) {
    let rights = Rights { interrupt: false, send: ChannelSet::ALL, receive: ChannelSet::ALL };
    let settings = client_settings(&config, &our_terms(&config), &rights);
    let side = Side::Client { addresses, config: Box::new(config.clone()) };
    let resumption = Resumption { session: SessionId::default(), grace: config.resume_grace, side };
    let link = Link { resumption: Some(resumption), ..Link::default() };
    let (mut conn, shared) = establish(link, &config, &settings, place, ctx);
    conn.wait_for_peer(ctx.now);
    (conn, shared)
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

/// The same with what the server lets a client do.
pub(crate) fn client_settings(config: &Config, server: &Terms, rights: &Rights) -> Settings {
    Settings {
        we_may_send: rights.send,
        peer_may_send: rights.receive,
        we_may_interrupt: rights.interrupt,
        peer_may_interrupt: true,
        ..settings(config, server)
    }
}

/// The address that answered, then the others: the order for later attempts.
pub(crate) fn first(mut addresses: Vec<SocketAddr>, answered: Option<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_by_key(|address| Some(*address) != answered);
    addresses
}

/// What this side tells of itself when it begins a session.
pub(crate) fn our_terms(config: &Config) -> Terms {
    Terms { session: SessionId::default(), offset: 0, window: config.window, max_message: config.max_message }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::key::Key;
    use crate::proto::liveness::{Heartbeat, Liveness};

    /// 1,000 connections that begin together and stay idle: their heartbeats are spread over a
    /// quarter of the interval, and none comes late.
    #[test]
    fn a_thousand_connections_do_not_tick_together() {
        const INTERVAL: Duration = Duration::from_secs(10);
        let config = Config::new(Key::generate()).heartbeat(INTERVAL, INTERVAL * 3);
        let start = Instant::now();
        for beat in 1..=3u32 {
            let mut together = HashMap::new();
            for _ in 0..1000 {
                let (interval, timeout) = settings(&config, &our_terms(&config)).heartbeat.unwrap();
                assert_eq!(timeout, INTERVAL * 3);
                let mut live = Liveness::new(start, Some(interval), timeout);
                let mut at = start;
                for number in 1..=beat {
                    at = live.deadline().unwrap();
                    assert_eq!(live.poll(at), Heartbeat::Ping(number.into()));
                    live.handle_pong(at, number.into());
                    live.handle_alive(at);
                }
                let after = at.duration_since(start);
                assert!((INTERVAL * 3 / 4 * beat..=INTERVAL * beat).contains(&after), "{after:?}");
                *together.entry(after.as_millis() / 100).or_insert(0) += 1;
            }
            // Of 25 tenths of a second, or more, about 40 of them in each.
            let most = together.values().max().unwrap();
            assert!(together.len() >= 25 && *most < 100, "{most} in the same tenth of a second");
        }
    }
}
