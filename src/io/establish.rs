//! What a connection is made of, once both sides agree.

use std::sync::Arc;

use super::conn::{ClientId, Conn, Home, Identity, Origin, Presence, ServerId, terms};
use super::core::Attention;
use super::env::Env;
use super::link::NewSocket;
use super::place::Place;
use super::shared::{Agreed, Facts, Shared};
use super::trace::{ConnTrace, Side};
use crate::access::{Access, Quotas};
use crate::id::ChannelSet;
use crate::io::accepted::Accepted;
use crate::io::backoff::jittered;
use crate::options::Options;
use crate::proto::credit::cost;
use crate::proto::handshake::{Granted, Terms};
use crate::proto::outbound::Outbound;
use crate::proto::session::{Session, Settings};
use crate::queue::accept::Seat;
use crate::queue::receive::ReceiveQueues;
use crate::queue::send::SendQueue;

/// A client's connection: what the server has granted.
pub(crate) fn client(new: NewSocket, home: Home, granted: &Granted, place: Place, env: &Env) -> Conn {
    let settings = client_settings(&home.options, granted);
    let (mut session, outbound) = Session::new(env.now, &settings);
    session.announce(env.now);
    let options = home.options.clone();
    let identity = if settings.resumable {
        Identity::Client(Box::new(ClientId { home, granted: *granted, attempt: 0 }))
    } else {
        Identity::Plain
    };
    let made = Made { session, outbound, settings, identity, side: Side::Client };
    made.conn(&options, new, granted.rights.interrupt, None, place, env).0
}

/// A client's connection over a socket of the caller's, which has no way back to its server.
pub(crate) fn joined(
    new: NewSocket,
    options: &Options,
    granted: &Granted,
    place: Place,
    env: &Env,
) -> (Conn, Arc<Shared>) {
    let settings = client_settings(options, granted);
    let (session, outbound) = Session::new(env.now, &settings);
    let made = Made { session, outbound, settings, identity: Identity::Plain, side: Side::Client };
    made.conn(options, new, granted.rights.interrupt, None, place, env)
}

/// A client that a listener lets in.
pub(crate) struct Guest {
    pub(crate) origin: Origin,
    pub(crate) asked: Terms,
    pub(crate) granted: Granted,
    /// Its place among the connections to accept.
    pub(crate) seat: Seat<Accepted>,
}

impl Guest {
    /// The listener's end.
    pub(crate) fn conn(self, new: NewSocket, options: &Options, place: Place, env: &Env) -> Conn {
        let Self { origin, asked, granted, seat } = self;
        let access = origin.tenant.credential().access();
        let options = &limited(options, access.quotas);
        let resumable = !granted.terms.grace.is_none();
        let settings = Settings {
            we_may_send: access.receive,
            peer_may_send: access.send,
            peer_may_interrupt: access.interrupt,
            resumable,
            ..settings(options, granted.terms, asked, access.send)
        };
        let (session, outbound) = Session::new(env.now, &settings);
        let (identity, seat) = if resumable {
            let presence = Presence::Unconfirmed(seat);
            let server = ServerId { asked, granted, attempt: 0, presence };
            (Identity::Server(Box::new(server)), None)
        } else {
            (Identity::Plain, Some(seat))
        };
        let made = Made { session, outbound, settings, identity, side: Side::Server };
        let (conn, shared) = made.conn(options, new, true, Some(access.clone()), place, env);
        if let Some(seat) = seat {
            // A client without a session need not say anything, so it can be accepted at once.
            let _ = seat.offer(Accepted::new(shared));
        }
        conn.with_origin(origin)
    }
}

/// What a listener allows, and the key.
fn limited(options: &Options, quotas: Quotas) -> Options {
    let mut options = options.clone();
    options.max_assembly = options.max_assembly.min(quotas.assembly.unwrap_or(usize::MAX));
    options.max_unread = options.max_unread.min(quotas.unread.unwrap_or(usize::MAX));
    options
}

/// One end of a pair.
pub(crate) fn pair_end(
    new: NewSocket,
    options: &Options,
    settings: Settings,
    place: Place,
    env: &Env,
) -> (Conn, Arc<Shared>) {
    let (session, outbound) = Session::new(env.now, &settings);
    let made = Made { session, outbound, settings, identity: Identity::Plain, side: Side::Pair };
    made.conn(options, new, true, None, place, env)
}

/// A client's connection whose peer is not there yet: what is sent waits, within the limits that
/// this side has itself.
pub(crate) fn lazy(home: Home, place: Place, env: &Env) -> (Conn, Arc<Shared>) {
    let ours = terms(&home.options);
    let settings = Settings {
        we_may_send: ChannelSet::ALL,
        peer_may_send: ChannelSet::ALL,
        peer_may_interrupt: true,
        resumable: true,
        ..settings(&home.options, ours, ours, ChannelSet::ALL)
    };
    let (session, outbound) = Session::unmet(env.now, &settings);
    let shared = shared(&home.options, &settings, outbound, false, None, place, env);
    (Conn::lazy(Arc::clone(&shared), session, home, place, env.now), shared)
}

struct Made {
    session: Session,
    outbound: Outbound,
    settings: Settings,
    identity: Identity,
    side: Side,
}

impl Made {
    fn conn(
        self,
        options: &Options,
        new: NewSocket,
        may_interrupt: bool,
        access: Option<Access>,
        place: Place,
        env: &Env,
    ) -> (Conn, Arc<Shared>) {
        let Self { mut session, outbound, settings, identity, side } = self;
        if let Some(rtt) = new.rtt {
            session.set_rtt(rtt);
        }
        let mut trace = ConnTrace::new(side, access.as_ref());
        trace.connected(new.peer_addr);
        let shared = shared(options, &settings, outbound, may_interrupt, access, place, env);
        shared.agreed.lock().attach(&new);
        let conn = Conn::new(Arc::clone(&shared), session, identity, new, place, trace);
        conn.watch_peer(&env.registry);
        (conn, shared)
    }
}

/// What the handles get.
fn shared(
    options: &Options,
    settings: &Settings,
    outbound: Outbound,
    may_interrupt: bool,
    access: Option<Access>,
    place: Place,
    env: &Env,
) -> Arc<Shared> {
    let attention = Arc::new(Attention { core: Arc::clone(&env.core), place });
    let facts = Facts { linger: options.linger, access };
    let agreed = Agreed {
        may_send: settings.we_may_send,
        may_receive: settings.peer_may_send,
        may_interrupt,
        suspended: true,
        ..Agreed::default()
    };
    let send = SendQueue::new(outbound, attention.clone());
    let receive =
        ReceiveQueues::new(settings.ours.window, attention.clone(), Arc::clone(env.core.schedule.sleepers()));
    Arc::new(Shared::new(attention, Arc::clone(&env.core.pool), facts, agreed, send, receive))
}

/// What a client may do, as the server has granted it.
pub(crate) fn client_settings(options: &Options, granted: &Granted) -> Settings {
    Settings {
        we_may_send: granted.rights.send,
        peer_may_send: granted.rights.receive,
        peer_may_interrupt: true,
        resumable: !granted.terms.grace.is_none(),
        ..settings(options, terms(options), granted.terms, granted.rights.receive)
    }
}

/// Both ends of a pair may do everything.
pub(crate) fn pair_settings(options: &Options) -> Settings {
    Settings {
        we_may_send: ChannelSet::ALL,
        peer_may_send: ChannelSet::ALL,
        peer_may_interrupt: true,
        ..settings(options, terms(options), terms(options), ChannelSet::ALL)
    }
}

/// This side's limits and both sides' grants; the rights are the caller's to fill in, but for the
/// channels that the peer may send on.
fn settings(options: &Options, ours: Terms, theirs: Terms, peer_may_send: ChannelSet) -> Settings {
    let windows = peer_may_send.len() as u64 * u64::from(options.window);
    let reserves = (options.max_assembly as u64).saturating_sub(windows);
    Settings {
        ours,
        theirs,
        we_may_send: ChannelSet::EMPTY,
        peer_may_send,
        peer_may_interrupt: false,
        send_queue: options.send_queue as usize,
        reserves: reserves.max(cost(options.max_message as usize).into()),
        excess: options.max_unread as u64,
        heartbeat: options.heartbeat.map(|(interval, timeout)| (jittered(interval), timeout)),
        replay_limit: options.replay_limit.into(),
        resumable: false,
    }
}

#[cfg(all(test, not(trunkline_loom)))]
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
        let options = crate::Config::new(Key::generate()).heartbeat(INTERVAL, INTERVAL * 3).options;
        let start = Instant::now();
        for beat in 1..=3u32 {
            let mut together = HashMap::new();
            for _ in 0..1000 {
                let (interval, timeout) = pair_settings(&options).heartbeat.unwrap();
                assert_eq!(timeout, INTERVAL * 3);
                let mut live = Liveness::new(start, Some((interval, timeout)));
                let mut at = start;
                for _ in 1..=beat {
                    at = live.deadline().unwrap();
                    assert_eq!(live.poll(at), Heartbeat::Ask);
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
