//! Sections 2 to 6 but for resuming: the library as the client.

use std::thread;
use std::time::Duration;

use trunkline::{Connection, Disconnect, Event as Happened, RecvError, SendError};

use super::library::*;
use crate::support::wire::*;

fn pair(server: &RawServer) -> (Connection, RawPeer) {
    server.pair(|config| config, |_| {})
}

#[test]
fn the_client_talks_in_both_directions() {
    let server = RawServer::start();
    let (connection, mut peer) =
        server.pair(|config| config.window(12_345), |handshake| handshake.accept.window = 5000);
    assert_eq!((peer.accept.window, peer.window), (12_345, 5000));
    let sender = connection.sender(channel(9)).unwrap();
    let receiver = connection.receiver(channel(9)).unwrap();
    peer.auto_credit = true;
    thread::scope(|scope| {
        scope.spawn(|| {
            sender.send(&[5; 20_000][..]).unwrap();
            for n in 0..200 {
                sender.send(&[n; 100][..]).unwrap();
            }
        });
        assert_eq!(peer.expect_message(9), [5; 20_000]);
        for n in 0..200 {
            assert_eq!(peer.expect_message(9), [n; 100]);
        }
    });
    peer.send_message(9, &[7; 50_000]).unwrap();
    assert_eq!(take(&receiver), [7; 50_000]);
    peer.send_bytes(&control(3, 0x0C, b"")).unwrap();
    peer.expect_close(code::PROTOCOL);
}

/// "A client sends an ACK as soon as it has read Accept, so the server knows that the client knows of
/// the session": nothing else moves it to say anything.
#[test]
fn the_client_acknowledges_accept_at_once() {
    let server = RawServer::start();
    let (_connection, mut peer) =
        server.pair(|config| config.heartbeat(Duration::from_secs(600), Duration::from_secs(1800)), |_| {});
    let first = peer.read_frame(PATIENCE).expect("the client says that it is there");
    assert_eq!(first, Frame::Ack(0));
}

#[test]
fn the_client_acknowledges_in_time() {
    let server = RawServer::start();
    let (_connection, mut peer) = pair(&server);
    peer.auto_ack = false;
    for frame in [ping(1), data(1, false, b"x"), finish(1), control(0, 0x80, b"")] {
        peer.send_bytes(&frame).unwrap();
        let sent = peer.sent;
        peer.acked_within(sent, ACK_TIME + Duration::from_secs(1)).expect("an ACK in time");
    }
    for _ in 0..20 {
        peer.acknowledge();
    }
    peer.expect_none(ACK_TIME * 3, |event| matches!(event, Event::Ack(_)));
}

#[test]
fn the_client_respects_what_accept_allows() {
    let server = RawServer::start();
    let (connection, mut peer) = server.pair(
        |config| config,
        |handshake| {
            handshake.accept.may_send = 1 << 1;
            handshake.accept.may_receive = 1 << 2;
            handshake.accept.max_message = 1000;
            handshake.accept.rights = 0;
        },
    );
    assert!(connection.sender(channel(2)).is_err());
    assert!(connection.receiver(channel(1)).is_err());
    assert!(connection.interrupt().is_err());
    let sender = connection.sender(channel(1)).unwrap();
    assert!(sender.send(&[0; 1001][..]).is_err(), "larger than the server takes");
    sender.send(&[0; 1000][..]).unwrap();
    assert_eq!(peer.expect_message(1), [0; 1000]);
}

#[test]
fn a_server_that_breaks_the_protocol_is_told_how() {
    let server = RawServer::start();
    let cases = [
        ("data where it may not", data(3, false, b"x"), code::NOT_PERMITTED),
        ("FINISH where it may not", finish(3), code::NOT_PERMITTED),
        ("RESET where it may not", reset(3, 1), code::NOT_PERMITTED),
        ("GAP where it may not", gap(3, 1, 1), code::NOT_PERMITTED),
        ("CREDIT where the client may not", credit(3, 1), code::NOT_PERMITTED),
        ("STOP where the client may not", stop(3, 1, 0), code::NOT_PERMITTED),
        ("WAITING where the client may not", waiting(3, 1, 0), code::NOT_PERMITTED),
        ("data without credit", data(1, false, &[0; 2000]), code::FLOW_CONTROL),
        ("a message too large", data(1, false, &[0; 1001]), code::TOO_LARGE),
        ("an empty fragment", data(1, true, b""), code::PROTOCOL),
        ("FINISH inside a message", [data(1, true, b"x"), finish(1)].concat(), code::PROTOCOL),
        ("GAP inside a message", [data(1, true, b"x"), gap(1, 1, 1)].concat(), code::PROTOCOL),
        ("WAITING 2", waiting(1, 2, 0), code::PROTOCOL),
        ("ACK of what was never sent", ack(1 << 40), code::PROTOCOL),
        ("an unknown opcode", control(0, 0x7F, b""), code::PROTOCOL),
        ("a body too short", control(1, opcode::STOP, &[0; 4]), code::PROTOCOL),
        ("a channel where none is", control(1, opcode::PING, &[0; 8]), code::PROTOCOL),
        ("M on a control frame", vec![0x80, 0x80, 0, 1, opcode::INTERRUPT], code::PROTOCOL),
        ("a frame too long", word(false, 1, false, 65_537).to_vec(), code::PROTOCOL),
        ("a reason too long", close(0, &[b'x'; 256]), code::PROTOCOL),
    ];
    for (what, bytes, code) in cases {
        let (_connection, mut peer) = server.pair(
            |config| config.window(1500).max_message(1000),
            |handshake| {
                handshake.accept.may_send = 0b110;
                handshake.accept.may_receive = 0b110;
            },
        );
        peer.expect_alive();
        peer.try_send_bytes(&bytes);
        match peer.read_close() {
            Ok((told, _)) if told == code => {}
            // One frame that is both.
            Ok((code::TOO_LARGE, _)) if code == code::FLOW_CONTROL => {}
            other => panic!("{what}: wanted CLOSE {code} and the end, got {other:?}"),
        }
    }
}

/// "The server always may" interrupt, and what is legal for a client is for a server.
#[test]
fn every_legal_frame_of_a_server_is_accepted() {
    let server = RawServer::start();
    let (_connection, mut peer) = server.pair(|config| config, |handshake| handshake.accept.rights = 0);
    let frames = [
        interrupt(),
        interrupt(),
        waiting(1, 1, 0),
        waiting(1, 0, 7),
        credit(1, 0),
        credit(1, 1),
        pong(9),
        gap(1, 1, 1),
        finish(1),
        reset(1, 1),
        stop(1, 1, 9),
        ack(0),
        control(9, 0xAB, b"extension"),
    ];
    for frame in frames {
        peer.send_bytes(&frame).unwrap();
        peer.expect_alive();
    }
}

#[test]
fn a_client_that_may_interrupt_does_and_is_interrupted() {
    let server = RawServer::start();
    let (connection, mut peer) = pair(&server);
    let events = connection.events();
    connection.interrupt().unwrap();
    let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Interrupt | Event::Close(..)));
    assert_eq!(event.unwrap(), Event::Interrupt);
    peer.send_bytes(&interrupt().repeat(1000)).unwrap();
    peer.expect_alive();
    assert_eq!(events.recv_timeout(PATIENCE), Ok(Happened::Interrupt));
    assert_eq!(events.try_iter().count(), 0);
}

/// Windows at both ends of what is legal.
#[test]
fn the_client_sends_through_the_smallest_window_and_nothing_through_none() {
    let server = RawServer::start();
    let (connection, mut peer) = server.pair(|config| config, |handshake| handshake.accept.window = 64);
    peer.auto_credit = true;
    let message = Noise(5).bytes(500);
    thread::scope(|scope| {
        scope.spawn(|| connection.sender(channel(1)).unwrap().send(&message).unwrap());
        assert_eq!(peer.expect_message(1), message);
    });
    let (connection, mut peer) =
        server.pair(|config| config, |handshake| (handshake.accept.window, handshake.accept.grace) = (0, 0));
    thread::scope(|scope| {
        scope.spawn(|| connection.sender(channel(1)).unwrap().send("").is_ok());
        peer.expect_silence(1, Duration::from_millis(100));
        drop(peer);
    });
    let (connection, mut peer) =
        server.pair(|config| config, |handshake| handshake.accept.window = MAX_CREDIT as u32);
    connection.sender(channel(1)).unwrap().send(&[1; 300_000][..]).unwrap();
    assert_eq!(peer.expect_message(1), [1; 300_000]);
}

#[test]
fn the_client_keeps_the_account_too() {
    let server = RawServer::start();
    let (connection, mut peer) = server.pair(|config| config.window(1024), |_| {});
    let receiver = connection.receiver(channel(1)).unwrap();
    let credit = |event: &Event| matches!(event, Event::Credit(1, _));
    peer.send_data(1, false, &[1; 479]);
    assert_eq!(take(&receiver).len(), 479);
    peer.expect_alive();
    peer.expect_none(Duration::from_millis(50), credit);
    peer.send_data(1, true, &[1]);
    let paid = peer.wait_for(PATIENCE, credit).expect("more than half a window is owed");
    assert_eq!(paid, Event::Credit(1, 511 + 33));
}

#[test]
fn the_client_stops_and_is_stopped_by_the_number_of_the_run() {
    let server = RawServer::start();
    let (connection, mut peer) = pair(&server);
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_bytes(&[finish(1), reset(1, 2), data(1, false, b"of run 2")].concat()).unwrap();
    assert_eq!(take_end(&receiver), RecvError::Finished);
    assert_eq!(take_end(&receiver), RecvError::Reset { channel: channel(1), code: 2 });
    assert_eq!(take(&receiver), b"of run 2");
    receiver.stop(6);
    assert_eq!(peer.expect_stop(1), (6, 2));

    let sender = connection.sender(channel(2)).unwrap();
    sender.send("x").unwrap();
    sender.finish().unwrap();
    assert_eq!(peer.expect_message(2), b"x");
    peer.expect_next(Event::Finish(2));
    let sender = connection.sender(channel(2)).unwrap();
    sender.send("y").unwrap();
    assert_eq!(peer.expect_message(2), b"y");
    peer.send_bytes(&stop(2, 8, 0)).unwrap();
    peer.expect_silence(2, Duration::from_millis(30));
    peer.send_bytes(&stop(2, 9, 1)).unwrap();
    peer.expect_next(Event::Reset(2, 9));
    let refused = sender.send("z").unwrap_err();
    assert!(matches!(refused, SendError::Disconnected { cause: Disconnect::Stopped(9), .. }), "{refused}");
}

#[test]
fn the_client_asks_a_silent_server_and_gives_the_socket_up() {
    let server = RawServer::start();
    let (connection, mut peer) = server.pair(
        |config| config.heartbeat(Duration::from_millis(100), Duration::from_millis(400)),
        |handshake| handshake.accept.grace = 0,
    );
    (peer.auto_pong, peer.auto_ack) = (false, false);
    let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Ping(_) | Event::Close(..)));
    assert!(matches!(event, Ok(Event::Ping(_))), "{event:?}");
    peer.expect_end();
    eventually("the client gives up", || connection.close_reason().is_some());
}
