//! Section 7: closing, the library as the client.

use std::thread;
use std::time::{Duration, Instant};

use trunkline::{CloseCode, CloseError, Connection, ConnectionError, RecvError};

use super::library::*;
use crate::support::wire::*;

const FOREVER: Duration = Duration::from_secs(600);

fn pair(server: &RawServer, linger: Duration) -> (Connection, RawPeer) {
    server.pair(|config| config.linger(linger), |_| {})
}

fn closing(connection: Connection) -> thread::JoinHandle<Result<(), CloseError>> {
    thread::spawn(move || connection.close(CloseCode::application(1), "bye"))
}

#[test]
fn the_clients_close_is_confirmed_by_the_ack_that_covers_it() {
    let server = RawServer::start();
    let (connection, mut peer) = pair(&server, PATIENCE);
    connection.sender(channel(1)).unwrap().send("last words").unwrap();
    let closing = closing(connection);
    assert_eq!(peer.expect_message(1), b"last words");
    assert_eq!(peer.expect_close_frame(), (257, "bye".to_owned()));
    assert_eq!(peer.answer_close(), 257);
    assert_eq!(closing.join().unwrap(), Ok(()));
}

#[test]
fn a_servers_close_is_answered_confirmed_and_told() {
    let server = RawServer::start();
    let (connection, mut peer) = pair(&server, PATIENCE);
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_data(1, false, b"last words");
    let answer = peer.close_and_finish(6, b"shutting down");
    assert!([code::NORMAL, 6].contains(&answer), "answered by {answer}");
    assert_eq!(take(&receiver), b"last words");
    match take_end(&receiver) {
        RecvError::ConnectionLost(ConnectionError::ClosedByPeer { code, reason }) => {
            assert_eq!((u16::from(code), &reason[..]), (6, "shutting down"));
        }
        other => panic!("{other:?}"),
    }
    // It was closed, and nobody comes back.
    let again = ServerHandshake::accept_within(&server.listener, &server.key, Duration::from_millis(300));
    assert!(again.is_none(), "the client comes back");
}

/// "The clean end of the peer's half after its CLOSE, without the ACK, means unconfirmed, and is not
/// resumed."
#[test]
fn a_server_that_closes_and_ends_without_the_ack_leaves_the_close_unconfirmed() {
    let server = RawServer::start();
    let (connection, mut peer) = pair(&server, FOREVER);
    peer.auto_ack = false;
    let closing = closing(connection);
    peer.expect_close_frame();
    peer.send_bytes(&close(0, b"")).unwrap();
    peer.shutdown_write();
    peer.expect_end();
    assert!(closing.join().unwrap().is_err(), "nobody has confirmed it");
    let again = ServerHandshake::accept_within(&server.listener, &server.key, Duration::from_millis(300));
    assert!(again.is_none(), "the client comes back");
}

/// The socket is lost before the client hears the answer: it comes back for it, at each byte of the
/// answer.
#[test]
fn a_client_whose_socket_is_lost_while_closing_comes_back_for_the_answer() {
    let server = RawServer::start();
    for cut in 0..=19 {
        let (connection, mut peer) = pair(&server, FOREVER);
        peer.auto_ack = false;
        let closing = closing(connection);
        peer.expect_close_frame();
        // 13 bytes and 7.
        let answer = [ack(peer.received), close(0, b"")].concat();
        peer.send_bytes(&answer[..cut]).unwrap();
        peer.cut();
        peer.enter_sent(&answer[cut..]);
        peer.serve_again(&server.listener).unwrap_or_else(|error| panic!("cut at byte {cut}: {error}"));
        assert_eq!(peer.answer_close(), 257, "cut at byte {cut}");
        assert_eq!(closing.join().unwrap(), Ok(()), "cut at byte {cut}");
    }
}

/// The socket is lost again and again: the client comes back until it has the answer.
#[test]
fn a_closing_client_comes_back_as_often_as_need_be() {
    let server = RawServer::start();
    let (connection, mut peer) = pair(&server, FOREVER);
    let closing = closing(connection);
    peer.expect_close_frame();
    for _ in 0..4 {
        peer.cut();
        peer.serve_again(&server.listener).unwrap();
    }
    assert_eq!(peer.answer_close(), 257);
    assert_eq!(closing.join().unwrap(), Ok(()));
}

/// A server that knows nothing of the session any more cannot confirm anything.
#[test]
fn a_server_that_does_not_know_the_session_leaves_the_close_unconfirmed() {
    let server = RawServer::start();
    let (connection, mut peer) = pair(&server, FOREVER);
    let closing = closing(connection);
    peer.expect_close_frame();
    peer.cut();
    let (mut handshake, _) = peer.hear_again(&server.listener).unwrap();
    handshake.refuse(status::SESSION_UNKNOWN).unwrap();
    assert!(closing.join().unwrap().is_err(), "nobody has confirmed it");
}

/// "Linger runs from the moment a side sent CLOSE, with or without a socket", and at its end the
/// session ends, whatever the grace.
#[test]
fn the_client_waits_no_longer_than_linger() {
    for lost in [false, true] {
        let server = RawServer::start();
        let (connection, mut peer) = pair(&server, Duration::from_millis(400));
        peer.auto_ack = false;
        let begun = Instant::now();
        let closing = closing(connection);
        peer.expect_close_frame();
        if lost {
            peer.cut();
        }
        assert!(closing.join().unwrap().is_err(), "nobody has confirmed it");
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_millis(350), "waited {waited:?}");
        assert!(waited < Duration::from_secs(10), "waited {waited:?}");
    }
}

#[test]
fn a_server_that_goes_on_after_its_close_leaves_the_close_unconfirmed() {
    let server = RawServer::start();
    for frame in [data(1, false, b"x"), ping(1), close(0, b"")] {
        let (connection, mut peer) = pair(&server, FOREVER);
        peer.auto_ack = false;
        let closing = closing(connection);
        peer.expect_close_frame();
        peer.send_bytes(&[&close(0, b"")[..], &frame, &ack(peer.received)].concat()).unwrap();
        peer.shutdown_write();
        peer.expect_end();
        assert!(closing.join().unwrap().is_err(), "confirmed by what comes after a violation");
    }
}

/// Both close at once, and both confirm: both are done.
#[test]
fn closes_that_cross_are_both_confirmed() {
    let server = RawServer::start();
    let (connection, mut peer) = pair(&server, PATIENCE);
    let closing = closing(connection);
    peer.try_send_bytes(&close(0, b""));
    let answer = peer.answer_close();
    assert!([257, code::NORMAL].contains(&answer), "{answer}");
    // If the server's came first there was nothing left to close.
    if answer == 257 {
        assert_eq!(closing.join().unwrap(), Ok(()));
    }
}
