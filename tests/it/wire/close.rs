//! Section 7: closing, the library as the server.

use std::thread;
use std::time::{Duration, Instant};

use trunkline::{CloseCode, Connection, ConnectionError, RecvError};

use super::library::*;
use crate::support::wire::*;

/// Every code and reason is legal, and what the peer closed with is what the application hears.
#[test]
fn a_close_is_answered_confirmed_and_told() {
    let server = Server::start(|config| config.linger(PATIENCE));
    let longest = "x".repeat(255);
    for (code, reason) in [(0, ""), (0, "bye"), (6, "täglich"), (256, ""), (65_535, &longest[..])] {
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(1)).unwrap();
        let answer = peer.close_and_finish(code, reason.as_bytes());
        assert!(answer == code::NORMAL || answer == code, "CLOSE {code} answered by {answer}");
        match take_end(&receiver) {
            RecvError::ConnectionLost(ConnectionError::ClosedByPeer { code: told, reason: why }) => {
                assert_eq!((u16::from(told), &why[..]), (code, reason));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_was_sent_before_close_is_read_and_then_its_code() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    for n in 0..100 {
        peer.send_data(1, false, &[n]);
    }
    peer.close_and_finish(300, b"that was all");
    // Only now the application begins to read.
    let receiver = connection.receiver(channel(1)).unwrap();
    for n in 0..100 {
        assert_eq!(take(&receiver), [n]);
    }
    match take_end(&receiver) {
        RecvError::ConnectionLost(ConnectionError::ClosedByPeer { code, reason }) => {
            assert_eq!((u16::from(code), &reason[..]), (300, "that was all"));
        }
        other => panic!("{other:?}"),
    }
}

/// "A side that closes first sends what it has accepted, within its linger, then CLOSE."
#[test]
fn the_applications_close_comes_after_everything_it_sent() {
    let server = Server::start(|config| config.linger(PATIENCE));
    let (mut peer, connection) = server.pair(server.client().window(1000));
    peer.auto_credit = true;
    let sender = connection.sender(channel(1)).unwrap();
    let closing = thread::spawn(move || {
        for n in 0..100 {
            sender.send([n; 200]).unwrap();
        }
        connection.close(CloseCode::application(44), "bye")
    });
    for n in 0..100 {
        assert_eq!(peer.expect_message(1), [n; 200]);
    }
    assert_eq!(peer.expect_close_frame(), (300, "bye".to_owned()));
    assert_eq!(peer.answer_close(), 300);
    closing.join().unwrap().expect("the peer had it all and said so");
}

/// The peer is in the middle of its own sending when CLOSE is on its way to it; bytes that nobody
/// reads any more must not make the system drop what it has not delivered yet.
#[test]
fn nothing_sent_before_close_is_lost_while_the_peer_still_sends() {
    const MESSAGES: u8 = 100;
    let server = Server::start(|config| config.linger(PATIENCE));
    let (mut peer, connection) = server.pair(server.client().window(1 << 26));
    let closing = thread::spawn(move || {
        let sender = connection.sender(channel(1)).unwrap();
        for n in 0..MESSAGES {
            sender.send(&[n; 60_000][..]).unwrap();
        }
        connection.close(CloseCode::NORMAL, "")
    });
    for n in 0..MESSAGES {
        for _ in 0..5 {
            peer.send_data(2, false, &[0; 1000]);
        }
        assert_eq!(peer.expect_message(1), [n; 60_000]);
    }
    assert_eq!(peer.answer_close(), code::NORMAL);
    closing.join().unwrap().expect("the peer had it all and said so");
}

/// "What is not yet in the stream is dropped and reported undelivered: the answering CLOSE waits for
/// neither credit nor ACK."
#[test]
fn the_answer_to_a_close_waits_for_neither_credit_nor_ack() {
    let server = Server::start(|config| config.linger(PATIENCE).replay_limit(256 << 10));
    for window in [64, 1 << 30] {
        let (mut peer, connection) = server.pair(server.client().window(window));
        peer.auto_ack = false;
        let sender = connection.sender(channel(1)).unwrap();
        // Nobody grants anything in one round, or acknowledges anything in the other.
        let sending = thread::spawn(move || while sender.send(&[0; 60_000][..]).is_ok() {});
        while peer.read_frame(Duration::from_millis(200)).is_ok() {}
        peer.send_bytes(&close(0, b"enough")).unwrap();
        let begun = Instant::now();
        peer.expect_close_frame();
        assert!(begun.elapsed() < PATIENCE / 2, "CLOSE has waited for {:?}", begun.elapsed());
        assert!(peer.received < 1 << 20, "it was sent, without an ACK");
        peer.answer_close();
        sending.join().unwrap();
        assert!(connection.flush_timeout(PATIENCE).is_err(), "reported undelivered");
    }
}

/// "Within its linger": what the peer takes nothing of is given up, with a CLOSE or without.
#[test]
fn a_close_does_not_wait_for_credit_longer_than_linger() {
    let server = Server::start(|config| config.linger(Duration::from_millis(300)));
    let (mut peer, connection) = server.pair(server.client().window(64));
    let sender = connection.sender(channel(1)).unwrap();
    let sending = thread::spawn(move || while sender.send([0; 1000]).is_ok() {});
    while peer.data_frames == 0 {
        peer.read_frame(PATIENCE).expect("as much as there is credit for");
    }
    let closing = thread::spawn(move || connection.close(CloseCode::NORMAL, "").is_ok());
    peer.expect_end();
    assert!(matches!(peer.closed, None | Some((code::NORMAL, _))), "{:?}", peer.closed);
    assert_eq!(peer.messages_received[1], 0);
    assert!(!closing.join().unwrap(), "what was sent has not arrived");
    sending.join().unwrap();
}

/// Whoever closes first, ACK and CLOSE may come "in either order".
#[test]
fn the_confirmation_may_come_before_or_after_the_peers_close() {
    let server = Server::start(|config| config.linger(PATIENCE));
    for ack_first in [true, false] {
        let (mut peer, connection) = server.pair(server.client());
        peer.auto_ack = false;
        let closing = thread::spawn(move || connection.close(CloseCode::NORMAL, ""));
        peer.expect_close_frame();
        let frames = [ack(peer.received), close(0, b"")];
        let mut frames = frames.to_vec();
        if !ack_first {
            frames.reverse();
        }
        peer.send_bytes(&frames.concat()).unwrap();
        peer.shutdown_write();
        peer.expect_end();
        assert!(peer.is_confirmed());
        assert_eq!(closing.join().unwrap(), Ok(()), "ACK first: {ack_first}");
    }
}

/// "It closes the socket when it has read the ACK that covers its own CLOSE and the peer's half has
/// ended; it reads and discards what comes until then."
#[test]
fn the_library_hears_the_peer_to_its_end() {
    let server = Server::start(|config| config.linger(PATIENCE));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    let closing = thread::spawn(move || connection.close(CloseCode::NORMAL, ""));
    peer.expect_close_frame();
    // More than a socket keeps, so somebody has to read it; and none of it is for the application.
    for _ in 0..300 {
        peer.send_data(2, false, &[0; 3000]);
    }
    peer.send_data(1, false, b"nobody reads this any more");
    assert_eq!(peer.answer_close(), code::NORMAL);
    assert_eq!(closing.join().unwrap(), Ok(()));
    let end = take_end(&receiver);
    assert!(matches!(end, RecvError::ConnectionLost(ConnectionError::Closed { .. })), "{end:?}");
}

#[track_caller]
fn assert_unconfirmed(closing: thread::JoinHandle<bool>, why: &str) {
    assert!(!closing.join().unwrap(), "confirmed by {why}");
}

fn close_in_background(connection: Connection) -> thread::JoinHandle<bool> {
    thread::spawn(move || connection.close(CloseCode::NORMAL, "").is_ok())
}

/// "What a side sent before its CLOSE counts as delivered when an ACK covers that CLOSE, and only
/// then … A side whose peer closes without that ACK reports that delivery was not confirmed, and does
/// not wait longer for it."
#[test]
fn without_the_ack_that_covers_the_close_nothing_is_confirmed() {
    let server = Server::start(|config| config.linger(Duration::from_secs(600)));
    type Short = fn(u64) -> u64;
    let short: [Option<Short>; 3] = [None, Some(|received| received - 1), Some(|_| 0)];
    for acknowledged in short {
        let (mut peer, connection) = server.pair(server.client());
        peer.auto_ack = false;
        let closing = close_in_background(connection);
        peer.expect_close_frame();
        if let Some(acknowledged) = acknowledged {
            peer.send_bytes(&ack(acknowledged(peer.received))).unwrap();
        }
        peer.send_bytes(&close(0, b"")).unwrap();
        peer.shutdown_write();
        // Nobody waits for ten minutes.
        peer.expect_end();
        assert_unconfirmed(closing, "an ACK that is too short, or none");
    }
}

/// Both close at the same moment: the other's CLOSE alone proves nothing.
#[test]
fn a_close_that_crosses_another_is_no_confirmation() {
    let server = Server::start(|config| config.linger(Duration::from_secs(600)));
    for confirms in [true, false] {
        let (mut peer, connection) = server.pair(server.client());
        peer.auto_ack = false;
        // Before anything of the library's was read.
        peer.send_bytes(&close(0, b"")).unwrap();
        let closing = close_in_background(connection.clone());
        peer.expect_close_frame();
        if confirms {
            peer.acknowledge();
        }
        peer.shutdown_write();
        peer.expect_end();
        assert!(peer.is_confirmed());
        // Nothing was sent but the CLOSE; whether a close comes too late for the library to send one
        // of its own is a matter of moments, and so is its result if it was confirmed.
        let confirmed = closing.join().unwrap();
        assert!(confirms || !confirmed, "confirmed by a CLOSE alone");
    }
}

#[test]
fn close_waits_for_the_peer_no_longer_than_linger() {
    let server = Server::start(|config| config.linger(Duration::from_millis(300)));
    let (mut peer, connection) = server.pair(server.client());
    peer.auto_ack = false;
    let begun = Instant::now();
    // The peer neither reads nor answers.
    assert!(connection.close(CloseCode::NORMAL, "").is_err(), "nobody said that it arrived");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(250) && waited < Duration::from_secs(5), "waited {waited:?}");
    assert_eq!(peer.expect_close_frame().0, code::NORMAL);
    peer.expect_end();
}

/// "At its end the socket is closed in any case and the session ends, whatever the grace": also on
/// the side that answers, and also if the peer goes on sending.
#[test]
fn linger_ends_the_socket_and_the_session() {
    let server = Server::start(|config| config.linger(Duration::from_millis(400)));
    let (mut peer, connection) = server.pair(server.client());
    peer.auto_ack = false;
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_bytes(&close(0, b"")).unwrap();
    let begun = Instant::now();
    peer.expect_close_frame();
    peer.expect_end();
    // Its half ends at once; the socket is there until linger is over.
    while peer.send_bytes(&ack(0)).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the socket outlives linger");
        thread::sleep(Duration::from_millis(10));
    }
    let end = take_end(&receiver);
    assert!(matches!(end, RecvError::ConnectionLost(ConnectionError::ClosedByPeer { .. })), "{end:?}");
}

/// "Linger … replaces the heartbeat": a peer that says nothing is not given up before, and "after its
/// CLOSE a side neither sends nor answers PING"; the books find either.
#[test]
fn after_its_close_a_side_neither_sends_nor_answers_ping() {
    let server = Server::start(|config| {
        config
            .heartbeat(Duration::from_millis(50), Duration::from_millis(150))
            .linger(Duration::from_secs(600))
    });
    let (mut peer, connection) = server.pair(server.client());
    peer.auto_ack = false;
    let closing = thread::spawn(move || connection.close(CloseCode::NORMAL, ""));
    peer.expect_close_frame();
    let only_acks = |peer: &mut RawPeer, time| loop {
        match peer.read_frame(time) {
            Ok(Frame::Ack(_)) => {}
            Err(WireError::Timeout) => break,
            other => panic!("{other:?}"),
        }
    };
    // Several timeouts long.
    only_acks(&mut peer, Duration::from_millis(600));
    peer.send_bytes(&ping(5)).unwrap();
    only_acks(&mut peer, Duration::from_millis(400));
    assert_eq!(peer.answer_close(), code::NORMAL);
    assert_eq!(closing.join().unwrap(), Ok(()));
}

/// "Anything but ACK after a CLOSE is a protocol error; a side that has sent its own CLOSE already
/// then closes unconfirmed."
#[test]
fn anything_but_an_ack_after_a_close_is_a_protocol_error() {
    let server = Server::start(|config| config.linger(Duration::from_secs(600)));
    let frames =
        [data(1, false, b"after the end"), ping(1), close(0, b"again"), control(0, 0x80, b""), finish(1)];
    for frame in &frames {
        // The library has sent its CLOSE, and what would confirm it comes behind the violation.
        let (mut peer, connection) = server.pair(server.client());
        peer.auto_ack = false;
        let closing = close_in_background(connection);
        peer.expect_close_frame();
        peer.send_bytes(&[&close(0, b"")[..], frame, &ack(peer.received)].concat()).unwrap();
        peer.shutdown_write();
        peer.expect_end();
        assert_unconfirmed(closing, "what comes after a violation");
    }
    for frame in &frames {
        // The library answers, or complains; it sends one CLOSE, and delivers nothing.
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(1)).unwrap();
        peer.send_bytes(&[&close(300, b"")[..], frame].concat()).unwrap();
        peer.shutdown_write();
        peer.expect_close_in(&[code::NORMAL, code::PROTOCOL, 300]);
        let end = take_end(&receiver);
        assert!(matches!(end, RecvError::ConnectionLost(_)), "{end:?}");
    }
}

/// ACKs may follow a CLOSE, also one that repeats what is known.
#[test]
fn acks_may_follow_a_close() {
    let server = Server::start(|config| config.linger(PATIENCE));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_bytes(&[close(0, b""), ack(0), ack(0)].concat()).unwrap();
    assert_eq!(peer.answer_close(), code::NORMAL);
    let end = take_end(&receiver);
    assert!(matches!(end, RecvError::ConnectionLost(ConnectionError::ClosedByPeer { .. })), "{end:?}");
}

#[test]
fn dropped_handles_finish_and_close() {
    let server = Server::start(|config| config.linger(PATIENCE));
    let (mut peer, connection) = server.pair(server.client());
    let sender = connection.sender(channel(1)).unwrap();
    sender.send(&b"last words"[..]).unwrap();
    let closing = thread::spawn(move || drop((sender, connection)));
    assert_eq!(peer.expect_message(1), b"last words");
    peer.expect_next(Event::Finish(1));
    assert_eq!(peer.answer_close(), code::NORMAL);
    closing.join().unwrap();
}

/// Without a grace period closing is the same.
#[test]
fn a_close_is_confirmed_without_grace_too() {
    let server = Server::start(|config| config.linger(PATIENCE));
    let (mut peer, connection) = server.pair(server.client().grace(0));
    let closing = thread::spawn(move || {
        connection.sender(channel(1)).unwrap().send("x").unwrap();
        connection.close(CloseCode::NORMAL, "")
    });
    assert_eq!(peer.expect_message(1), b"x");
    assert_eq!(peer.answer_close(), code::NORMAL);
    assert_eq!(closing.join().unwrap(), Ok(()));
    let (mut peer, _connection) = server.pair(server.client().grace(0));
    assert_eq!(peer.close_and_finish(0, b""), code::NORMAL);
}
