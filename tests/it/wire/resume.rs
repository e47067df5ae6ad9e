//! Section 6: sessions that go on over another socket, the library as the server.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use trunkline::{Connection, ConnectionError, RecvTimeoutError};

use super::library::*;
use crate::support::wire::*;

/// A session with one message each way, so that both know of it.
fn begun(server: &Server) -> (RawPeer, Connection) {
    let (mut peer, connection) = server.pair(server.client());
    peer.send_data(1, false, b"hello");
    assert_eq!(take(&connection.receiver(channel(1)).unwrap()), b"hello");
    connection.sender(channel(2)).unwrap().send("0123456789").unwrap();
    assert_eq!(peer.expect_message(2), b"0123456789");
    peer.expect_next(Event::Finish(2));
    peer.expect_alive();
    (peer, connection)
}

/// The stream of the session ends; whatever was under way is counted.
#[track_caller]
fn assert_old_socket_ends(mut stream: std::net::TcpStream) {
    read_to_end_by(&mut stream, Instant::now() + PATIENCE).expect("the server lets go of the old socket");
}

#[test]
fn a_session_goes_on_over_the_next_socket_in_both_directions() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = begun(&server);
    let (sender, receiver) =
        (connection.sender(channel(3)).unwrap(), connection.receiver(channel(3)).unwrap());
    for round in 0..5u8 {
        peer.cut();
        eventually("the outage is noticed", || connection.is_suspended());
        // What is sent meanwhile waits.
        sender.send([round, 1]).unwrap();
        peer.enter_sent(&data(3, false, &[round, 2]));
        peer.resume(server.addr).unwrap();
        assert_eq!(peer.expect_message(3), [round, 1]);
        assert_eq!(take(&receiver), [round, 2]);
    }
    peer.expect_alive();
}

/// "Each side goes on sending at exactly the offset that the other named, even in the middle of a
/// frame": what the library received of ours, at each byte of a frame.
#[test]
fn the_library_has_received_exactly_the_bytes_that_came() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = begun(&server);
    let receiver = connection.receiver(channel(4)).unwrap();
    let frame = [data(4, true, b"abc"), credit(5, 0), data(4, false, b"def")].concat();
    for cut in 0..frame.len() {
        peer.send_bytes(&frame[..cut]).unwrap();
        let sent = peer.sent;
        // An end comes behind all bytes, as a reset does not.
        peer.shutdown_write();
        peer.expect_end();
        peer.enter_sent(&frame[cut..]);
        let mut handshake = peer.come_back(server.addr);
        let accept = handshake.shake().unwrap();
        assert_eq!(accept.offset, sent, "cut at byte {cut}");
        peer.go_on(handshake, &accept).unwrap();
        assert_eq!(take(&receiver), b"abcdef", "cut at byte {cut}");
    }
}

/// The other direction: from each byte of a frame on that we name. What comes again is compared with
/// what came before.
#[test]
fn the_library_goes_on_at_exactly_the_offset_that_was_named() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = begun(&server);
    let sender = connection.sender(channel(2)).unwrap();
    for back in 0..30 {
        // From here on nothing is acknowledged, so it can be asked for again.
        peer.acknowledge();
        peer.auto_ack = false;
        peer.expect_alive();
        sender.send("a message that comes again").unwrap();
        assert_eq!(peer.expect_message(2), b"a message that comes again");
        peer.cut();
        let mut handshake = peer.come_back(server.addr);
        handshake.proof.offset -= back;
        let accept = handshake.shake().unwrap();
        peer.auto_ack = true;
        peer.go_on(handshake, &accept).unwrap();
        peer.expect_alive();
    }
}

/// "The server lets go of the old socket only after the new one has shown the right key, terms,
/// attempt and offset", and then it does.
#[test]
fn the_old_socket_goes_when_the_new_one_is_accepted() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = begun(&server);
    let receiver = connection.receiver(channel(3)).unwrap();
    let mut handshake = peer.come_back(server.addr);
    handshake.send_hello().unwrap();
    handshake.read_server_hello().unwrap();
    // Nothing is proved yet, and the old one works.
    peer.send_data(3, false, b"over the old one");
    assert_eq!(take(&receiver), b"over the old one");
    peer.expect_alive();
    handshake.proof.offset = peer.heard();
    handshake.send_proof().unwrap();
    let accept = handshake.read_accept().unwrap();
    let mut old = peer.stream.try_clone().unwrap();
    // "The offset in its Accept is final: nothing more is taken from the old socket after it."
    let _ = old.write_all(&data(3, false, b"over a socket that is over"));
    peer.go_on(handshake, &accept).unwrap();
    assert_old_socket_ends(old);
    peer.send_data(3, false, b"over the new one");
    assert_eq!(take(&receiver), b"over the new one");
    assert!(!connection.is_suspended());
}

/// What is on its way over the old socket when the new one is accepted counts once, whichever way it
/// comes.
#[test]
fn bytes_of_the_old_socket_count_once() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = begun(&server);
    let receiver = connection.receiver(channel(3)).unwrap();
    for round in 0..50u8 {
        let mut handshake = peer.come_back(server.addr);
        handshake.send_hello().unwrap();
        handshake.read_server_hello().unwrap();
        handshake.proof.offset = peer.heard();
        peer.send_data(3, false, &[round, 1]);
        handshake.send_proof().unwrap();
        peer.send_anyway(&data(3, false, &[round, 2]));
        let accept = handshake.read_accept().unwrap();
        let old = peer.stream.try_clone().unwrap();
        peer.go_on(handshake, &accept).unwrap();
        assert_eq!(take(&receiver), [round, 1]);
        assert_eq!(take(&receiver), [round, 2]);
        assert_old_socket_ends(old);
    }
    peer.expect_none(Duration::from_millis(20), |event| matches!(event, Event::Close(..)));
}

/// Attempts need not follow each other closely: those between may have been lost.
#[test]
fn attempts_may_be_left_out() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = begun(&server);
    for attempt in [1, 2, 10, 1000, FOR_EVER - 1, FOR_EVER] {
        peer.cut();
        peer.attempt = attempt - 1;
        peer.resume(server.addr).unwrap_or_else(|error| panic!("attempt {attempt}: {error}"));
        peer.expect_alive();
    }
    assert!(!connection.is_suspended());
}

#[test]
fn of_two_resumes_at_once_the_session_survives() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = begun(&server);
    peer.cut();
    let heard = peer.heard();
    let session = peer.session();
    let results: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> = (1..=8)
            .map(|attempt| {
                let handshake = server.client().session(session, heard, attempt);
                scope.spawn(move || handshake.silent().finish())
            })
            .collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let mut newest = 0;
    for (attempt, result) in (1..).zip(results) {
        match result {
            Ok(_) => newest = attempt,
            // Overtaken, or accepted and let go of before its Accept was read.
            Err(error) => {
                assert!(error.refusal() == Some(status::OUT_OF_RANGE) || error.is_end(), "{error}");
            }
        }
    }
    assert_eq!(newest, 8, "the highest attempt is never a late one");
    peer.attempt = 8;
    peer.resume(server.addr).unwrap();
    peer.expect_alive();
    assert_eq!(connection.close_reason(), None);
}

/// A session that is resumed keeps what STOP, WAITING and the books count: "in this session".
#[test]
fn counts_and_credit_outlive_the_socket() {
    let server = Server::start(|config| config.window(2000));
    let (mut peer, connection) = begun(&server);
    let receiver = connection.receiver(channel(3)).unwrap();
    peer.send_bytes(&[finish(3), finish(3), data(3, false, &[1; 900])].concat()).unwrap();
    take_end(&receiver);
    take_end(&receiver);
    peer.expect_alive();
    peer.cut();
    peer.resume(server.addr).unwrap();
    // 1068 are left, and nobody has read the 900.
    peer.send_data(3, false, &[2; 1000]);
    peer.expect_alive();
    assert_eq!(take(&receiver), [1; 900]);
    receiver.stop(5);
    assert_eq!(peer.expect_stop(3), (5, 2));
}

/// "The clean end" of a socket without CLOSE is a lost socket like any other.
#[test]
fn an_end_without_close_is_a_lost_socket() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = begun(&server);
    peer.shutdown_write();
    peer.expect_end();
    eventually("the outage is noticed", || connection.is_suspended());
    peer.resume(server.addr).unwrap();
    peer.expect_alive();
}

#[test]
fn without_grace_a_lost_socket_is_the_end() {
    let server = Server::start(|config| config);
    for abort in [false, true] {
        let (mut peer, connection) = server.pair(server.client().grace(0));
        let receiver = connection.receiver(channel(1)).unwrap();
        peer.send_data(1, false, b"x");
        assert_eq!(take(&receiver), b"x");
        if abort {
            peer.cut();
        } else {
            drop(peer);
        }
        let reason = take_loss(&receiver);
        assert!(matches!(reason, ConnectionError::Lost { .. }), "{reason:?}");
    }
}

/// "A session that nobody resumes within its grace period has expired", by the grace that was
/// granted.
#[test]
fn a_session_that_nobody_resumes_expires() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client().grace(300));
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_data(1, false, b"x");
    assert_eq!(take(&receiver), b"x");
    peer.cut();
    let begun = Instant::now();
    let reason = take_loss(&receiver);
    assert_eq!(reason, ConnectionError::SessionExpired);
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    let refused = peer.resume(server.addr).unwrap_err();
    let told = refused.refusal();
    assert!([Some(status::SESSION_EXPIRED), Some(status::SESSION_UNKNOWN)].contains(&told), "{refused}");
}

#[test]
fn a_session_is_kept_for_its_grace() {
    let server = Server::start(|config| config.resume_grace(Duration::from_millis(1500)));
    let (mut peer, connection) = begun(&server);
    let receiver = connection.receiver(channel(3)).unwrap();
    peer.cut();
    let nothing = receiver.recv_timeout(Duration::from_millis(700));
    assert!(matches!(nothing, Err(RecvTimeoutError::Timeout)), "{nothing:?}");
    peer.resume(server.addr).unwrap();
    // The time begins anew with each lost socket.
    peer.cut();
    let nothing = receiver.recv_timeout(Duration::from_millis(1000));
    assert!(matches!(nothing, Err(RecvTimeoutError::Timeout)), "{nothing:?}");
    peer.resume(server.addr).unwrap();
    peer.send_data(3, false, b"still there");
    assert_eq!(take(&receiver), b"still there");
}
