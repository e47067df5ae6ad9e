//! What suspended sessions hold, counted by the allocator: no more than the listener's limits say,
//! and nothing once they have expired.

use std::time::Duration;

use crate::support::heap::{live, wait_until};
use crate::support::line::on;
use crate::support::wire::{self, ClientHandshake, RawKey};
use crate::support::{LONG, free_address};
use crate::turn;
use trunkline::*;

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

const SESSIONS: usize = 1000;
/// What they may hold for replay and in their send queues together.
const BYTES: usize = 32 << 20;
/// And besides, each: what the page on sessions says.
const FIXED: usize = 8 * 1024;
/// What stays when they are gone, for each of them: a listener remembers how the last 1024 sessions
/// ended, and timers that are not due yet are kept, in a heap that doubles. It does not add up, as
/// what is forgotten somewhere would.
const RESIDUE: usize = 512;
/// What each sends and nobody acknowledges.
const SENT: usize = 20_000;

#[test]
fn suspended_sessions_stay_within_the_limits_and_leave_nothing() {
    let _turn = turn();
    let key: RawKey = wire::random();
    let config = || on(Key::from(key)).no_heartbeat().send_queue(64 << 20).max_suspended(SESSIONS, BYTES);
    let for_ever = Listener::bind(free_address(), config().resume_grace(Duration::MAX)).unwrap();
    let soon = Listener::bind(free_address(), config().resume_grace(Duration::from_millis(100))).unwrap();
    let begun = live();
    let round = || {
        let before = live();
        a_thousand_are_kept_within_the_limits(&for_ever, &key);
        let after_room = live() - before;
        a_thousand_end_with_their_grace(&soon, &key);
        println!("left when all are gone: {after_room} bytes, then {}", live() - before);
    };
    // The first round warms up: buffers are kept for their next use, and tables grow.
    round();
    let baseline = live();
    println!("left of the first round: {}", baseline - begun);
    for number in 1..=7 {
        round();
        let residue = (RESIDUE * SESSIONS * 2) as i64;
        wait_until("the memory of sessions that have expired", || live() - baseline < residue);
        println!("round {number}: {} bytes more than after the first, of {residue}", live() - baseline);
    }
}

/// Clients that send one message, get more than they ever acknowledge, and are gone; the servers'
/// ends of their sessions, the one that is suspended last at the end.
fn suspend(listener: &Listener, key: &RawKey) -> Vec<Connection> {
    let mut peers: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let client = ClientHandshake::new(listener.local_addr(), key);
            let mut peer = client.window(1 << 30).max_message(1 << 30).finish().unwrap();
            peer.send_data(1, false, b"x");
            let server = listener.accept().unwrap();
            assert_eq!(&*server.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"x");
            send(&server).unwrap();
            (server, peer)
        })
        .collect();
    let (last, peer) = peers.pop().unwrap();
    let mut servers: Vec<_> = peers.into_iter().map(|(server, _)| server).collect();
    wait_until("the outage", || servers.iter().all(|server| over(server) || server.is_suspended()));
    drop(peer);
    wait_until("the last one's outage", || over(&last) || last.is_suspended());
    servers.push(last);
    servers
}

fn send(server: &Connection) -> Result<(), Box<dyn std::error::Error>> {
    let sender = server.sender(B)?;
    for _ in 0..SENT / 4000 {
        sender.send([7; 4000])?;
    }
    Ok(())
}

fn over(server: &Connection) -> bool {
    server.close_reason().is_some()
}

/// Waits until each hears that it is over.
fn expect_expired(servers: &[Connection]) {
    for server in servers {
        let heard = server.receiver(A).unwrap().recv_timeout(LONG);
        let cause = RecvError::ConnectionLost(ConnectionError::SessionExpired);
        assert_eq!(heard.unwrap_err(), RecvTimeoutError::Disconnected(cause));
    }
}

fn a_thousand_are_kept_within_the_limits(listener: &Listener, key: &RawKey) {
    let bound = (BYTES + SESSIONS * FIXED) as i64;
    let before = live();
    let servers = suspend(listener, key);
    let held = live() - before;
    println!("{SESSIONS} suspended sessions hold {held} bytes of {bound}: {} each", held / SESSIONS as i64);
    assert!(servers.iter().all(|server| server.is_suspended()), "there is room for all");
    assert!(held >= (SESSIONS * SENT) as i64, "what was sent is kept: {held}");
    assert!(held <= bound, "{held} bytes, the bound is {bound}");

    // What is sent meanwhile counts as well: twice as much is too much for all of them.
    for server in &servers {
        // It may have made room for others already.
        let _ = send(server);
    }
    // The I/O thread counts what it finds in the send queues.
    wait_until("room", || live() - before <= bound);
    let (left, held) = (servers.iter().filter(|server| !over(server)).count(), live() - before);
    println!("with twice as much {left} are left, which hold {held} bytes");
    assert!((1..SESSIONS).contains(&left));
    assert!(!over(&servers[SESSIONS - 1]), "the one that waits for longest goes first");

    // More than all may hold, in one: none can stay, and the listener is there.
    let large = servers[SESSIONS - 1].sender(B).unwrap();
    large.send_bytes(vec![0; BYTES + 1].into()).unwrap();
    expect_expired(&servers);
}

fn a_thousand_end_with_their_grace(listener: &Listener, key: &RawKey) {
    expect_expired(&suspend(listener, key));
}
