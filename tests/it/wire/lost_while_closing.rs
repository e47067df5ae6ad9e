//! Section 7: the socket is lost while a session closes, the library as the server.

use std::thread;
use std::time::Duration;

use trunkline::{CloseCode, ConnectionError, RecvError};

use super::library::*;
use crate::support::wire::*;

/// "A server that has received a client's CLOSE remembers the tail of its own stream for a while after
/// the session ended: it accepts that client as often as it resumes, and goes on at exactly the offset
/// that the client named, which may leave only an ACK."
#[test]
fn a_client_whose_socket_was_lost_while_closing_hears_the_rest_as_often_as_it_asks() {
    let server = Server::start(|config| config.linger(PATIENCE));
    let (mut peer, connection) = server.pair(server.client());
    peer.auto_ack = false;
    let receiver = connection.receiver(channel(1)).unwrap();
    connection.sender(channel(2)).unwrap().send("the answer").unwrap();
    assert_eq!(peer.expect_message(2), b"the answer");
    peer.expect_next(Event::Finish(2));
    let begun = peer.received;
    peer.send_bytes(&close(300, b"bye")).unwrap();
    // All of it comes, and nothing of it is confirmed.
    peer.expect_end();
    assert!(peer.closed.is_some() && peer.is_confirmed());
    let end = peer.heard();
    match take_end(&receiver) {
        RecvError::ConnectionLost(ConnectionError::ClosedByPeer { code, .. }) => {
            assert_eq!(u16::from(code), 300);
        }
        other => panic!("{other:?}"),
    }
    // What comes again is compared, and behind its CLOSE nothing but an ACK may be new.
    for offset in begun..=end {
        peer.cut();
        let mut handshake = peer.come_back(server.addr);
        handshake.proof.offset = offset;
        let accept = handshake.shake().unwrap_or_else(|error| panic!("offset {offset} to {end}: {error}"));
        assert_eq!(accept.offset, peer.sent, "the CLOSE has been received");
        peer.go_on(handshake, &accept).unwrap();
        peer.expect_end();
        assert!(peer.heard() >= end, "from {offset} to {}, the end was {end}", peer.heard());
    }
    // At last it says that it has it.
    peer.cut();
    peer.resume(server.addr).unwrap();
    peer.acknowledge();
    peer.shutdown_write();
    peer.expect_end();
}

/// The socket is lost before the client has heard anything, and the server has heard the CLOSE or a
/// part of it: the client is told the same in the end.
#[test]
fn a_client_that_closes_and_loses_its_socket_is_confirmed_over_the_next() {
    let server = Server::start(|config| config.linger(PATIENCE));
    let bytes = [data(1, false, b"last words"), close(300, b"bye")].concat();
    for cut in 0..=bytes.len() {
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(1)).unwrap();
        peer.send_bytes(&bytes[..cut]).unwrap();
        peer.cut();
        peer.enter_sent(&bytes[cut..]);
        peer.resume(server.addr).unwrap_or_else(|error| panic!("cut at byte {cut}: {error}"));
        let answer = peer.answer_close();
        assert!([code::NORMAL, 300].contains(&answer), "cut at byte {cut}: answered by {answer}");
        assert_eq!(take(&receiver), b"last words", "cut at byte {cut}");
        let end = take_end(&receiver);
        assert!(
            matches!(end, RecvError::ConnectionLost(ConnectionError::ClosedByPeer { .. })),
            "cut at byte {cut}: {end:?}"
        );
    }
}

/// The server closes, and the socket is lost before it hears of it: it waits for the client, for its
/// linger.
#[test]
fn a_server_that_closes_waits_for_the_next_socket() {
    let server = Server::start(|config| config.linger(PATIENCE));
    for reads in [false, true] {
        let (mut peer, connection) = server.pair(server.client());
        let closing = thread::spawn(move || {
            connection.sender(channel(1)).unwrap().send("last words").unwrap();
            connection.close(CloseCode::NORMAL, "")
        });
        if reads {
            peer.expect_close_frame();
        }
        peer.cut();
        peer.resume(server.addr).unwrap();
        assert_eq!(peer.answer_close(), code::NORMAL);
        assert_eq!(peer.expect_message(1), b"last words");
        assert_eq!(closing.join().unwrap(), Ok(()), "the client has read the CLOSE before: {reads}");
    }
}

/// "Linger runs from the moment a side sent CLOSE, with or without a socket."
#[test]
fn linger_runs_without_a_socket() {
    let server = Server::start(|config| config.linger(Duration::from_millis(300)));
    let (mut peer, connection) = server.pair(server.client());
    peer.auto_ack = false;
    let closing = thread::spawn(move || {
        let begun = std::time::Instant::now();
        (connection.close(CloseCode::NORMAL, ""), begun.elapsed())
    });
    peer.expect_close_frame();
    peer.cut();
    let (result, waited) = closing.join().unwrap();
    assert!(result.is_err(), "nobody said that it arrived");
    assert!(waited < Duration::from_secs(5), "waited {waited:?}");
    // The session ends with it, whatever the grace.
    let refused = peer.resume(server.addr).unwrap_err();
    assert!(refused.refusal().is_some(), "{refused}");
}
