//! What the library holds of what a peer sends it, counted by the allocator. One test, since what
//! others allocate at the same time would count too.

mod support;

use std::time::Duration;

use support::heap::{Counting, live};
use support::wire::*;
use trunkline::{ChannelId, Config, Connection, Key, Listener};

#[global_allocator]
static COUNTING: Counting = Counting;

const A: ChannelId = ChannelId::new(1);

struct Server {
    listener: Listener,
    key: RawKey,
}

impl Server {
    fn start(tune: impl FnOnce(Config) -> Config) -> Self {
        let key = random();
        let config = tune(Config::new(Key::from(key)).linger(Duration::from_millis(50)));
        Self { listener: Listener::bind("127.0.0.1:0", config).expect("bind"), key }
    }

    /// A peer that keeps no copy of what it sends, and the library's end.
    fn pair(&self) -> (RawPeer, Connection) {
        let peer = RawPeer::connect(self.listener.local_addr(), &self.key).forgetful();
        (peer, self.listener.accept().expect("accept returns the connection"))
    }
}

#[test]
fn memory_is_bounded_whatever_a_peer_sends() {
    handshakes_that_are_not_proved_cost_a_fixed_buffer();
    floods_of_control_frames_are_served_and_grow_nothing();
    pings_that_are_not_read_are_answered_by_few_pongs();
    small_messages_that_nobody_reads_stay_below_the_bound();
}

/// "Until the third has been verified the server has allocated nothing for this peer beyond a fixed
/// buffer."
fn handshakes_that_are_not_proved_cost_a_fixed_buffer() {
    const PEERS: usize = 200;
    const EACH: usize = 2048;
    let server = Server::start(|config| {
        config.pending_handshakes(PEERS + 10).handshake_timeout(Duration::from_secs(600))
    });
    let addr = server.listener.local_addr();
    let mut peers = Vec::with_capacity(PEERS);
    // The first of them warms up.
    let mut before = 0;
    for n in 0..PEERS {
        if n == 20 {
            before = live();
        }
        let mut client = ClientHandshake::new(addr, &server.key);
        client.send_hello().unwrap();
        client.read_server_hello().unwrap();
        peers.push(client.stream);
    }
    let each = (live() - before) / (PEERS as i64 - 20);
    println!("a handshake that is not proved costs {each} bytes");
    assert!(each < EACH as i64, "a handshake that is not proved costs {each} bytes");
}

fn floods_of_control_frames_are_served_and_grow_nothing() {
    const UNITS: usize = 400_000;
    /// A queue of even 32 bytes for each would be above it.
    const ALLOWED: i64 = 12 << 20;
    let server = Server::start(|config| config);
    let mut held = Vec::new();
    let floods = [
        ("PONG", pong(1)),
        ("ACK", ack(0)),
        ("CREDIT 1", credit(1, 1)),
        ("CREDIT 0", credit(1, 0)),
        ("WAITING", [waiting(1, 1, 0), waiting(1, 0, 0)].concat()),
        ("FINISH", finish(1)),
        ("RESET", reset(1, 1)),
        ("FINISH, RESET", [finish(1), reset(1, 1)].concat()),
        ("STOP", stop(1, 1, 0)),
        ("STOP of other runs", stop(1, 1, 7)),
        ("GAP", gap(1, 1, 1)),
        ("GAP, FINISH", [gap(1, 1, 1), finish(1)].concat()),
        ("GAP, RESET, FINISH", [gap(1, 1, 1), reset(1, 1), finish(1)].concat()),
        ("extensions", control(1, 0x99, b"some")),
        ("INTERRUPT", interrupt()),
    ];
    for (what, unit) in floods {
        let (mut peer, connection) = server.pair();
        // Somebody could read, and does not; and somebody could send.
        let receiver = connection.receiver(A).unwrap();
        let sender = connection.sender(A).unwrap();
        sender.send(&b"opens the run"[..]).unwrap();
        let block = unit.repeat(2000);
        peer.expect_alive();
        let before = live();
        for _ in 0..UNITS / 2000 {
            peer.send_bytes(&block).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        peer.expect_alive();
        let grown = live() - before;
        println!("{what}: {} KiB", grown >> 10);
        assert!(grown < ALLOWED, "{what}: grew by {} KiB", grown >> 10);
        held.push((peer, connection, receiver, sender));
    }
}

fn pings_that_are_not_read_are_answered_by_few_pongs() {
    const PINGS: u64 = 1_000_000;
    let server = Server::start(|config| config);
    let (mut peer, _connection) = server.pair();
    let mut block = Vec::with_capacity(70_000);
    let before = live();
    // 13 MB without reading a byte: a peer that gates its reading on its writing stops here.
    for number in 0..PINGS {
        block.extend_from_slice(&ping(number));
        if block.len() > 60_000 || number == PINGS - 1 {
            peer.send_bytes(&block).expect("the server reads on");
            block.clear();
        }
    }
    let grown = live() - before;
    println!("PING: {} KiB", grown >> 10);
    assert!(grown < 8 << 20, "grew by {} KiB", grown >> 10);
    // The pongs are some of the numbers, in order, and the last one in any case.
    let mut last = None;
    while last != Some(PINGS - 1) {
        match peer.wait_for(PATIENCE, |event| matches!(event, Event::Pong(_) | Event::Close(..))) {
            Ok(Event::Pong(number)) => {
                assert!(last.is_none_or(|last| number > last), "PONG {number} after {last:?}");
                last = Some(number);
            }
            other => panic!("after {last:?}: {other:?}"),
        }
    }
}

/// One-byte messages on many channels, unread: no more than the bound of section 3, in which each
/// message counts its length + 32.
fn small_messages_that_nobody_reads_stay_below_the_bound() {
    const CHANNELS: u8 = 32;
    const WINDOW: u32 = 330_000;
    let server = Server::start(|config| config.window(WINDOW));
    for (what, payload) in [("empty", &b""[..]), ("one byte", b"x")] {
        let (mut peer, connection) = server.pair();
        peer.expect_alive();
        let cost = payload.len() + FRAME_COST;
        let block = |channel| data(channel, false, payload).repeat(WINDOW as usize / cost);
        let before = live();
        for channel in 0..CHANNELS {
            peer.send_bytes(&block(channel)).unwrap();
        }
        peer.expect_alive();
        let bound = i64::from(CHANNELS) * i64::from(WINDOW);
        let grown = live() - before;
        println!("{what}: {} KiB of {} KiB", grown >> 10, bound >> 10);
        assert!(grown < bound + (4 << 20), "{what}: grew by {} KiB, bound {} KiB", grown >> 10, bound >> 10);
        drop(connection);
    }
}
