//! Section 6: sessions that go on over another socket, the library as the client.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use trunkline::{Config, Connection, ConnectionError, Event as Happened};

use super::library::*;
use crate::support::wire::*;

struct Session {
    server: RawServer,
    connection: Connection,
    peer: RawPeer,
}

impl Session {
    fn begin() -> Self {
        Self::with(|config| config)
    }

    /// One message each way, so that both know of it.
    fn with(tune: impl FnOnce(Config) -> Config + Send) -> Self {
        let server = RawServer::start();
        let (connection, mut peer) = server.pair(tune, |_| {});
        connection.sender(channel(2)).unwrap().send("0123456789").unwrap();
        assert_eq!(peer.expect_message(2), b"0123456789");
        peer.expect_alive();
        Self { server, connection, peer }
    }

    /// The client comes back, and its ClientProof is checked against the session.
    fn lose(&mut self) -> (ServerHandshake, ClientProof) {
        self.peer.cut();
        self.peer.hear_again(&self.server.listener).expect("the client resumes its session")
    }

    /// The next socket, on which nothing was said.
    fn next(&self) -> ServerHandshake {
        ServerHandshake::accept(&self.server.listener, &self.server.key)
    }

    /// Over the next socket the session goes on, whatever became of the one before.
    #[track_caller]
    fn assert_goes_on(&mut self) {
        self.peer.serve_again(&self.server.listener).expect("the client tries again");
        self.peer.expect_alive();
        self.connection.sender(channel(5)).unwrap().send("still there").unwrap();
        assert_eq!(self.peer.expect_message(5), b"still there");
    }

    #[track_caller]
    fn reason(&self) -> ConnectionError {
        eventually("the session ends", || self.connection.close_reason().is_some());
        self.connection.close_reason().unwrap()
    }
}

/// "Then one more for each ClientProof that the client sends for it", the same terms, and what it has
/// received: [`RawPeer::check_proof`] knows.
#[test]
fn the_client_resumes_with_the_next_attempt_and_the_same_terms() {
    let mut session = Session::begin();
    let receiver = session.connection.receiver(channel(3)).unwrap();
    let sender = session.connection.sender(channel(3)).unwrap();
    for round in 1..=5u8 {
        session.peer.cut();
        sender.send([round, 1]).unwrap();
        session.peer.send_anyway(&data(3, false, &[round, 2]));
        session.peer.serve_again(&session.server.listener).unwrap();
        assert_eq!(session.peer.attempt, u32::from(round));
        assert_eq!(session.peer.expect_message(3), [round, 1]);
        assert_eq!(take(&receiver), [round, 2]);
    }
}

/// Attempts that come to nothing count too: at every step of the handshake.
#[test]
fn attempts_that_fail_are_counted_from_the_client_proof_on() {
    let mut session = Session::begin();
    session.peer.cut();
    drop(session.next());
    let mut next = session.next();
    next.read_hello().unwrap();
    drop(next);
    // No ClientProof so far.
    let (handshake, proof) = session.lose();
    assert_eq!(proof.attempt, 1);
    drop(handshake);
    let (_, proof) = session.peer.hear_again(&session.server.listener).unwrap();
    assert_eq!(proof.attempt, 2);
    session.assert_goes_on();
    assert_eq!(session.peer.attempt, 3);
}

/// What the client has received is told to the byte, and it goes on sending at the byte that it is
/// told.
#[test]
fn the_client_goes_on_in_the_middle_of_a_frame() {
    let mut session = Session::begin();
    let receiver = session.connection.receiver(channel(4)).unwrap();
    let frame = [data(4, true, b"abc"), data(4, false, b"def")].concat();
    for cut in 0..frame.len() {
        session.peer.send_bytes(&frame[..cut]).unwrap();
        let sent = session.peer.sent;
        // An end comes behind all bytes, as a reset does not.
        session.peer.shutdown_write();
        session.peer.expect_end();
        session.peer.enter_sent(&frame[cut..]);
        let (mut handshake, proof) = session.peer.hear_again(&session.server.listener).unwrap();
        assert_eq!(proof.offset, sent, "cut at byte {cut}");
        handshake.send_accept().unwrap();
        let offset = handshake.accept.offset;
        session.peer.replay(handshake.stream, proof.offset, offset).unwrap();
        assert_eq!(take(&receiver), b"abcdef", "cut at byte {cut}");
    }
    let sender = session.connection.sender(channel(5)).unwrap();
    for back in 0..30 {
        session.peer.acknowledge();
        session.peer.auto_ack = false;
        session.peer.expect_alive();
        sender.send("a message that comes again").unwrap();
        assert_eq!(session.peer.expect_message(5), b"a message that comes again");
        session.peer.cut();
        let (mut handshake, proof) = session.peer.hear_again(&session.server.listener).unwrap();
        handshake.accept.offset -= back;
        let offset = handshake.accept.offset;
        handshake.send_accept().unwrap();
        session.peer.auto_ack = true;
        session.peer.replay(handshake.stream, proof.offset, offset).unwrap();
        session.peer.expect_alive();
    }
}

/// "A client sends an ACK as soon as it has read Accept": each one.
#[test]
fn the_client_acknowledges_the_accept_of_a_resume() {
    let mut session = Session::with(|config| config.heartbeat(PATIENCE, PATIENCE * 3));
    session.peer.auto_ack = false;
    // Nothing else obliges it to one.
    session.peer.send_bytes(&ping(1)).unwrap();
    let sent = session.peer.sent;
    session.peer.expect_acked(sent);
    session.peer.cut();
    session.peer.serve_again(&session.server.listener).unwrap();
    loop {
        match session.peer.read_frame(PATIENCE) {
            Ok(Frame::Ack(offset)) => break assert_eq!(offset, sent),
            Ok(_) => {}
            Err(error) => panic!("no ACK: {error}"),
        }
    }
}

/// "A client that hears 4, 5 or 6 in a verified Accept for its newest attempt ends the session."
#[test]
fn a_refusal_of_the_session_ends_it() {
    for (status, reason) in [
        (status::SESSION_UNKNOWN, Some(ConnectionError::SessionUnknown)),
        (status::SESSION_EXPIRED, Some(ConnectionError::SessionExpired)),
        (status::OUT_OF_RANGE, None),
    ] {
        let mut session = Session::begin();
        let (mut handshake, _) = session.lose();
        handshake.refuse(status).unwrap();
        let told = session.reason();
        assert!(reason.is_none_or(|reason| reason == told), "status {status}: {told}");
        let again = ServerHandshake::accept_within(
            &session.server.listener,
            &session.server.key,
            Duration::from_millis(300),
        );
        assert!(again.is_none(), "status {status}: the client comes back");
    }
}

/// "2 and 3 in an Accept end no session … and are tried again with the next number."
#[test]
fn a_busy_server_is_asked_again_with_the_next_number() {
    let mut session = Session::begin();
    let (mut handshake, _) = session.lose();
    handshake.refuse(status::TOO_BUSY).unwrap();
    let (mut handshake, _) = session.peer.hear_again(&session.server.listener).unwrap();
    handshake.refuse(status::NOT_AUTHORISED).unwrap();
    session.assert_goes_on();
    assert_eq!(session.peer.attempt, 3);
}

/// "A refusal proves nothing about its sender, so … no refusal in a ServerHello ends a session that
/// exists: the client tries again until its grace period is over." 4, 5 and 6 are no refusals there.
#[test]
fn no_refusal_in_a_server_hello_ends_a_session() {
    thread::scope(|scope| {
        for status in [1, 2, 3, 7, 8, 4, 5, 6, 255] {
            scope.spawn(move || {
                let mut session = Session::begin();
                session.peer.cut();
                let mut handshake = session.next();
                handshake.read_hello().unwrap();
                handshake.hello.status = status;
                handshake.send_hello().unwrap();
                let after = read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE);
                assert_eq!(after.expect("the client hangs up"), b"", "status {status}");
                session.assert_goes_on();
                assert_eq!(session.peer.attempt, 1, "status {status}: no ClientProof was sent");
            });
        }
    });
}

/// Whoever has not the key, or changes something on the way, ends no session either.
#[test]
fn nobody_without_the_key_ends_a_session() {
    let mut session = Session::begin();
    session.peer.cut();
    // Somebody else listens there now.
    drop(session.next());
    let mut stranger = session.next();
    stranger.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    drop(stranger);
    let mut liar = session.next();
    liar.read_hello().unwrap();
    liar.key = random();
    liar.send_hello().unwrap();
    let said = read_to_end_by(&mut liar.stream, Instant::now() + PATIENCE);
    assert_eq!(said.expect("the client hangs up"), b"");
    // A refusal whose MAC is wrong.
    let (mut handshake, _) = session.peer.hear_again(&session.server.listener).unwrap();
    handshake.flip_accept = Some((ACCEPT - 1, 1));
    handshake.refuse(status::SESSION_UNKNOWN).unwrap();
    session.assert_goes_on();
}

/// "Any other reserved field that is not zero, or an unknown right: the socket is dropped as lost."
#[test]
fn an_accept_with_a_reserved_field_is_a_lost_socket() {
    let mut session = Session::begin();
    type Edit = fn(&mut Accept);
    let edits: [Edit; 2] = [|accept| accept.zero = 1, |accept| accept.rights |= 2];
    for edit in edits {
        let (mut handshake, _) = session.lose();
        edit(&mut handshake.accept);
        handshake.send_accept().unwrap();
    }
    session.assert_goes_on();
}

/// "A resuming Accept repeats the server's [terms], and a client that sees others ends the session."
#[test]
fn an_accept_with_other_terms_ends_the_session() {
    type Edit = fn(&mut Accept);
    let edits: [(&str, Edit); 7] = [
        ("window", |accept| accept.window += 1),
        ("largest message", |accept| accept.max_message -= 1),
        ("less grace", |accept| accept.grace -= 1),
        ("more grace", |accept| accept.grace += 1),
        ("rights", |accept| accept.rights = 0),
        ("may send less", |accept| accept.may_send &= !(1 << 9)),
        ("may receive less", |accept| accept.may_receive &= !(1 << 9)),
    ];
    for (what, edit) in edits {
        let mut session = Session::with(|config| config.resume_grace(Duration::from_secs(90)));
        let (mut handshake, _) = session.lose();
        edit(&mut handshake.accept);
        handshake.send_accept().unwrap();
        let reason = session.reason();
        assert!(!matches!(reason, ConnectionError::Closed { .. }), "{what}: {reason}");
    }
}

/// "An Accept whose offset lies outside what is unacknowledged ends the session."
#[test]
fn an_accept_with_an_offset_out_of_range_ends_the_session() {
    type Edit = fn(&mut Accept);
    let edits: [(&str, Edit); 3] = [
        ("above what was sent", |accept| accept.offset += 1000),
        ("far above", |accept| accept.offset = u64::MAX),
        ("below what was acknowledged", |accept| accept.offset = 1),
    ];
    for (what, edit) in edits {
        let mut session = Session::begin();
        session.peer.acknowledge();
        session.peer.expect_alive();
        let (mut handshake, _) = session.lose();
        edit(&mut handshake.accept);
        handshake.send_accept().unwrap();
        let reason = session.reason();
        assert!(!matches!(reason, ConnectionError::Closed { .. }), "{what}: {reason}");
    }
}

/// "From the moment it sends ClientProof the client takes nothing from an older socket."
#[test]
fn the_client_takes_nothing_from_an_older_socket() {
    let mut session =
        Session::with(|config| config.heartbeat(Duration::from_millis(100), Duration::from_millis(300)));
    let receiver = session.connection.receiver(channel(3)).unwrap();
    let events = session.connection.events();
    // The link falls silent; the old socket stays open on this side.
    session.peer.auto_pong = false;
    let mut old = session.peer.stream.try_clone().unwrap();
    let (mut handshake, proof) = session.peer.hear_again(&session.server.listener).unwrap();
    let _ = old.write_all(&data(3, false, b"over a socket that is over"));
    handshake.send_accept().unwrap();
    let offset = handshake.accept.offset;
    session.peer.auto_pong = true;
    session.peer.replay(handshake.stream, proof.offset, offset).unwrap();
    session.peer.send_data(3, false, b"over the new one");
    assert_eq!(take(&receiver), b"over the new one");
    session.peer.expect_alive();
    assert!(events.try_iter().any(|event| matches!(event, Happened::Resumed { .. })));
}

/// "And uses no older Accept": it comes while the client waits for a newer one.
#[test]
fn the_client_uses_no_older_accept() {
    let mut session = Session::with(|config| config.handshake_timeout(Duration::from_millis(500)));
    let (mut late, _) = session.lose();
    // The client gives this attempt up, and begins another.
    let (mut newer, proof) = session.peer.hear_again(&session.server.listener).unwrap();
    let bytes = late.make_accept();
    let _ = late.stream.write_all(&bytes);
    newer.send_accept().unwrap();
    let offset = newer.accept.offset;
    session.peer.replay(newer.stream, proof.offset, offset).unwrap();
    session.peer.expect_alive();
    let said = read_to_end_by(&mut late.stream, Instant::now() + PATIENCE);
    assert_eq!(said.expect("the client has hung up"), b"", "it speaks over the older socket");
}

/// The grace that counts is the one that the server grants.
#[test]
fn the_client_gives_up_when_the_grace_is_over() {
    let server = RawServer::start();
    let (connection, mut peer) = server.pair(
        |config| config.resume_grace(Duration::from_secs(600)),
        |handshake| handshake.accept.grace = 700,
    );
    peer.expect_alive();
    peer.cut();
    // The system still takes its connections, and nobody says a word.
    eventually("the client gives up", || connection.close_reason().is_some());
    assert_eq!(connection.close_reason(), Some(ConnectionError::PeerUnreachable));
    drop(server);
}

#[test]
fn without_grace_the_client_does_not_come_back() {
    for by_server in [true, false] {
        let server = RawServer::start();
        let (connection, mut peer) = server.pair(
            |config| if by_server { config } else { config.resume_grace(Duration::ZERO) },
            |handshake| handshake.accept.grace = if by_server { 0 } else { 60_000 },
        );
        assert_eq!(peer.session(), [0; 16]);
        peer.expect_alive();
        peer.cut();
        eventually("the client gives up", || connection.close_reason().is_some());
        let again = ServerHandshake::accept_within(&server.listener, &server.key, Duration::from_millis(300));
        assert!(again.is_none(), "the client comes back");
    }
}
