//! Section 5: liveness.

use std::thread;
use std::time::{Duration, Instant};

use trunkline::{ConnectionError, IoThread, RecvError};

use super::library::*;
use crate::support::wire::*;

/// "A peer that has received nothing for its heartbeat interval sends PING; one that has received
/// nothing for its heartbeat timeout gives the socket up."
#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let server = Server::start(|config| {
        config.resume_grace(Duration::ZERO).heartbeat(Duration::from_millis(100), Duration::from_millis(500))
    });
    let (mut peer, connection) = server.pair(server.client());
    (peer.auto_pong, peer.auto_ack) = (false, false);
    let receiver = connection.receiver(channel(1)).unwrap();
    let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Ping(_) | Event::Close(..)));
    assert!(matches!(event, Ok(Event::Ping(_))), "{event:?}");
    peer.expect_end();
    assert!(matches!(&peer.closed, None | Some((code::HEARTBEAT, _))), "{:?}", peer.closed);
    let end = take_end(&receiver);
    assert!(matches!(end, RecvError::ConnectionLost(ConnectionError::HeartbeatLost(_))), "{end:?}");
}

/// The socket is given up and the session is not.
#[test]
fn a_session_outlives_the_socket_of_a_silent_peer() {
    let server =
        Server::start(|config| config.heartbeat(Duration::from_millis(100), Duration::from_millis(500)));
    let (mut peer, connection) = server.pair(server.client());
    (peer.auto_pong, peer.auto_ack) = (false, false);
    peer.expect_end();
    assert_eq!(peer.closed, None, "CLOSE would end the session");
    (peer.auto_pong, peer.auto_ack) = (true, true);
    peer.resume(server.addr).unwrap();
    peer.send_data(1, false, b"here again");
    assert_eq!(take(&connection.receiver(channel(1)).unwrap()), b"here again");
}

#[test]
fn any_byte_shows_that_the_peer_lives() {
    const TIMEOUT: Duration = Duration::from_millis(800);
    let server = Server::start(|config| config.heartbeat(Duration::from_millis(200), TIMEOUT));
    let mut answering = server.connect();
    let mut busy = server.connect();
    busy.auto_pong = false;
    // One large frame, slowly: no whole frame for longer than the timeout, and no PONG.
    let frame = data(1, false, &[1; 1000]);
    let begun = Instant::now();
    for byte in &frame {
        if begun.elapsed() > TIMEOUT * 3 {
            break;
        }
        busy.send_bytes(&[*byte]).expect("it lives");
        for peer in [&mut answering, &mut busy] {
            match peer.event(Duration::from_millis(50)) {
                Ok(Event::Ping(_) | Event::Ack(_)) | Err(WireError::Timeout) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    answering.expect_alive();
}

/// "PING and PONG go ahead of queued data."
#[test]
fn a_pong_goes_ahead_of_queued_data() {
    const MESSAGES: u32 = 600;
    let server = Server::start(|config| config.send_queue(64 << 20).replay_limit(64 << 20));
    let (mut peer, connection) = server.pair(server.client().window(1 << 30));
    let sender = connection.sender(channel(1)).unwrap();
    for _ in 0..MESSAGES {
        sender.send(&[0; 64 << 10][..]).unwrap();
    }
    peer.send_bytes(&ping(3)).unwrap();
    peer.expect_pong(3);
    let ahead = peer.messages_received[1];
    assert!(ahead < MESSAGES, "the PONG came behind everything");
    for _ in 0..MESSAGES {
        peer.expect_message(1);
    }
}

/// An ACK that is due and cannot be written must not keep the I/O thread busy for ever.
#[test]
fn a_peer_that_sends_and_never_reads_hangs_nobody() {
    // An I/O thread of its own, so that a hang fails this test alone.
    let thread = IoThread::new().unwrap();
    let server = Server::echo(|config| config.io_thread(&thread));
    let mut peer = server.client().window(1 << 30).finish().unwrap();
    // More than the system keeps for a peer that does not read.
    let block = vec![0; 60_000];
    for _ in 0..200 {
        while peer.send_credit[1] < 60_032 {
            peer.read_frame(PATIENCE).expect("credit, between echoes");
        }
        peer.send_data(1, false, &block);
    }
    // Longer than an ACK may wait.
    let begun = Instant::now();
    while begun.elapsed() < ACK_TIME * 3 {
        server.assert_serving();
        peer.send_bytes(&waiting(1, 1, 0)).unwrap();
    }
    server.assert_serving();
    // Then a violation, with CLOSE behind all that could not be written.
    peer.send_bytes(&control(0, 0x0C, b"")).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        server.assert_serving();
    }
}

#[test]
fn a_peer_that_neither_reads_nor_speaks_is_given_up_and_hangs_nobody() {
    let thread = IoThread::new().unwrap();
    let server = Server::start(|config| {
        config
            .resume_grace(Duration::ZERO)
            .heartbeat(Duration::from_millis(100), Duration::from_millis(400))
            .io_thread(&thread)
    });
    let (silent, connection) = server.pair(server.client().window(1 << 30));
    thread::scope(|scope| {
        let stuck = scope.spawn(|| {
            let sender = connection.sender(channel(1)).unwrap();
            while sender.send(&[0; 60_000][..]).is_ok() {}
        });
        while !stuck.is_finished() {
            server.connect().expect_alive();
            drop(server.accepted());
        }
    });
    let reason = connection.close_reason();
    assert!(matches!(reason, Some(ConnectionError::HeartbeatLost(_))), "{reason:?}");
    drop(silent);
}
