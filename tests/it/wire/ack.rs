//! Section 6: acknowledging.

use std::thread;
use std::time::{Duration, Instant};

use trunkline::{ChannelSet, Listener};

use super::library::*;
use crate::support::free_address;
use crate::support::wire::*;

/// How much later than 200 ms a busy machine may make it.
const SLACK: Duration = Duration::from_secs(1);

/// "A side that has received anything but ACK since its own last ACK sends one within 200 ms."
#[test]
fn anything_but_an_ack_is_acknowledged_in_time() {
    let server = Server::start(|config| config);
    let mut peer = server.connect();
    let frames = [
        ("an empty message", data(1, false, b"")),
        ("a part of a message", data(1, true, b"x")),
        ("its rest", data(1, false, b"y")),
        ("CREDIT", credit(1, 1)),
        ("FINISH", finish(1)),
        ("RESET", reset(1, 0)),
        ("STOP", stop(1, 0, 0)),
        ("PING", ping(1)),
        ("PONG", pong(1)),
        ("WAITING", waiting(1, 1, 0)),
        ("INTERRUPT", interrupt()),
        ("GAP", gap(1, 1, 1)),
        ("an extension", control(0, 0x80, b"")),
    ];
    for (what, frame) in frames {
        peer.send_bytes(&frame).unwrap();
        let sent = peer.sent;
        peer.acked_within(sent, ACK_TIME + SLACK).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

/// Without its listener a server's end cannot take another socket, which its client does not know.
#[test]
fn a_server_whose_listener_is_gone_goes_on_acknowledging() {
    let key = random();
    let listener = Listener::bind(free_address(), config(&key)).unwrap();
    let mut peer = RawPeer::connect(listener.local_addr(), &key);
    let _connection = listener.accept().unwrap();
    drop(listener);
    for _ in 0..3 {
        peer.send_data(1, false, b"x");
        let sent = peer.sent;
        peer.acked_within(sent, ACK_TIME + SLACK).unwrap();
    }
}

/// Half a frame is bytes of the stream too.
#[test]
fn an_ack_counts_bytes_and_not_frames() {
    let server = Server::start(|config| config);
    let mut peer = server.connect();
    peer.auto_ack = false;
    let frame = data(1, false, &[1; 1000]);
    peer.send_bytes(&[ping(1), frame[..500].to_vec()].concat()).unwrap();
    let sent = peer.sent;
    peer.expect_acked(sent);
    peer.send_bytes(&frame[500..]).unwrap();
    peer.expect_acked(sent + 504);
}

/// Otherwise two idle peers would acknowledge each other's ACKs for ever.
#[test]
fn an_ack_does_not_oblige() {
    let server = Server::start(|config| config);
    let mut peer = server.connect();
    peer.expect_alive();
    let sent = peer.sent;
    peer.expect_acked(sent);
    peer.auto_ack = false;
    for _ in 0..20 {
        peer.acknowledge();
    }
    peer.expect_none(ACK_TIME * 3, |event| matches!(event, Event::Ack(_)));
}

/// "A side that has received 128 KiB of anything, ACKs included, sends one at once."
#[test]
fn so_many_acks_are_acknowledged() {
    let server = Server::start(|config| config);
    let mut peer = server.connect();
    let flood = ack(0).repeat(ACK_BYTES as usize / 13 + 1);
    for _ in 0..3 {
        peer.send_bytes(&flood).unwrap();
        let sent = peer.sent;
        // What it acknowledges may be a little less than all.
        peer.acked_within(sent - ACK_BYTES / 2, SLACK).expect("128 KiB of ACKs are acknowledged");
    }
}

/// "At once": a timer alone would take longer in each of these rounds.
#[test]
fn after_128_kib_an_ack_does_not_wait() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    thread::spawn(move || while receiver.recv().is_ok() {});
    // An ACK of ours would never be acknowledged on its own.
    peer.auto_ack = false;
    let block = data(1, false, &[0; 60_000]).repeat(3);
    let mut times = Vec::new();
    for round in 0..8 {
        // Here it says what it has received, as it must now and then, before something that is acknowledged.
        peer.acknowledge();
        peer.send_bytes(&ping(round)).unwrap();
        let sent = peer.sent;
        peer.expect_acked(sent);
        // Nothing is due now, and nothing of this is acknowledged by the timer before its time.
        let begun = Instant::now();
        peer.send_bytes(&block).unwrap();
        peer.acked_within(sent + ACK_BYTES, SLACK).expect("an ACK");
        times.push(begun.elapsed());
    }
    assert!(times.iter().any(|time| *time < ACK_TIME / 2), "{times:?}");
}

/// "The replay limit is each side's own, at least 256 KiB: data frames wait while so much is
/// unacknowledged, control frames do not."
#[test]
fn data_waits_for_acks_at_the_replay_limit_and_control_frames_do_not() {
    const LIMIT: u64 = 256 << 10;
    let server = Server::start(|config| config.replay_limit(LIMIT as u32));
    let (mut peer, connection) = server.pair(server.client().window(1 << 30));
    peer.auto_ack = false;
    let receiver = connection.receiver(channel(2)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let sender = connection.sender(channel(1)).unwrap();
            for n in 0..100 {
                sender.send(&[n; 10_000][..]).unwrap();
            }
        });
        // As much as the limit, and no more.
        let mut read = 0;
        while peer.received < LIMIT - 80_000 {
            assert_eq!(peer.expect_message(1), [read; 10_000]);
            read += 1;
        }
        while let Ok(event) = peer.next_on(1, Duration::from_millis(300)) {
            assert_eq!(event, Event::Message(1, vec![read; 10_000]));
            read += 1;
        }
        let received = peer.received;
        assert!(received <= LIMIT + 70_000, "{received} unacknowledged, the limit is {LIMIT}");
        assert!(read < 100, "nothing has waited");
        // PONG, CREDIT and STOP come.
        peer.expect_alive();
        for _ in 0..3 {
            while peer.send_credit[2] >= 60_032 {
                peer.send_data(2, false, &[0; 60_000]);
                assert_eq!(take(&receiver).len(), 60_000);
            }
            peer.wait_for(PATIENCE, |event| matches!(event, Event::Credit(2, _))).expect("CREDIT");
        }
        peer.send_data(2, false, b"x");
        assert_eq!(take(&receiver), b"x");
        receiver.stop(1);
        assert_eq!(peer.expect_stop(2), (1, 0));
        // And with ACKs the rest.
        peer.auto_ack = true;
        peer.acknowledge();
        for n in read..100 {
            assert_eq!(peer.expect_message(1), [n; 10_000]);
        }
    });
}

/// "A peer that goes on sending but lets more than that limit + 1 MiB go unacknowledged breaks the
/// protocol (code 1), so that control frames cannot pile up."
#[test]
fn a_peer_that_sends_and_never_acknowledges_breaks_the_protocol() {
    const LIMIT: u64 = 256 << 10;
    const ALLOWED: u64 = LIMIT + (1 << 20);
    let server = Server::start(|config| config.window(1024).replay_limit(LIMIT as u32));
    let (mut peer, connection) = server.pair(server.client());
    peer.auto_ack = false;
    let receiver = connection.receiver(ChannelSet::ALL).unwrap();
    thread::spawn(move || while receiver.recv().is_ok() {});
    // Half a window on each channel, for a CREDIT each.
    let round: Vec<u8> = (0..128).flat_map(|channel| data(channel, false, &[0; 480])).collect();
    let end = 'rounds: loop {
        assert!(peer.received < 2 * ALLOWED, "{} bytes unacknowledged, and it goes on", peer.received);
        peer.try_send_bytes(&round);
        while peer.send_credit.iter().any(|credit| *credit < 512) {
            match peer.event(PATIENCE) {
                Ok(Event::Close(code, _)) => break 'rounds code,
                Ok(_) => {}
                Err(error) => panic!("after {} bytes: {error}", peer.received),
            }
        }
    };
    assert_eq!(end, code::PROTOCOL);
    assert!(peer.received > ALLOWED, "after only {} bytes", peer.received);
    peer.expect_end();
}

/// One that acknowledges may let as much pass as it likes.
#[test]
fn a_peer_that_acknowledges_late_breaks_nothing() {
    const LIMIT: u64 = 256 << 10;
    let server = Server::start(|config| config.window(1024).replay_limit(LIMIT as u32));
    let (mut peer, connection) = server.pair(server.client());
    peer.auto_ack = false;
    let receiver = connection.receiver(ChannelSet::ALL).unwrap();
    thread::spawn(move || while receiver.recv().is_ok() {});
    let round: Vec<u8> = (0..128).flat_map(|channel| data(channel, false, &[0; 480])).collect();
    let mut told = 0;
    while peer.received < 3 << 20 {
        peer.send_bytes(&round).unwrap();
        while peer.send_credit.iter().any(|credit| *credit < 512) {
            let event = peer.event(PATIENCE).expect("credit");
            assert!(!matches!(event, Event::Close(..)), "{event:?}");
        }
        if peer.received - told > 1 << 20 {
            told = peer.received;
            peer.acknowledge();
        }
    }
    peer.expect_alive();
}

/// "Sessions that end with their socket (grace 0) need no ACKs but those of section 7."
#[test]
fn without_grace_data_waits_for_no_acks() {
    let server = Server::start(|config| config.replay_limit(256 << 10));
    let (mut peer, connection) = server.pair(server.client().grace(0).window(1 << 30));
    thread::scope(|scope| {
        scope.spawn(|| {
            let sender = connection.sender(channel(1)).unwrap();
            for n in 0..200 {
                sender.send(&[n; 10_000][..]).unwrap();
            }
        });
        for n in 0..200 {
            assert_eq!(peer.expect_message(1), [n; 10_000]);
        }
    });
}
