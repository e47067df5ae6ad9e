//! Section 1: the handshake, the library as the client.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use trunkline::HandshakeError;

use super::library::*;
use crate::support::wire::*;

#[test]
fn the_client_says_what_its_configuration_says() {
    let graces = [
        (Duration::ZERO, 0),
        (Duration::from_millis(1), 1),
        (Duration::from_secs(90), 90_000),
        (Duration::MAX, FOR_EVER),
    ];
    for (grace, told) in graces {
        let server = RawServer::start();
        let (connection, served) = server.meet(
            |config| config.window(12_345).max_message(54_321).resume_grace(grace),
            |mut handshake| {
                let hello = handshake.read_hello().unwrap();
                assert_eq!((hello.low, hello.high, hello.flags), (1, 1, 0));
                handshake.send_hello().unwrap();
                let proof = handshake.read_proof().unwrap();
                handshake.settle_grace(&proof);
                handshake.send_accept().unwrap();
                (proof, handshake)
            },
        );
        let (proof, _socket) = served;
        connection.unwrap();
        assert_eq!((proof.session, proof.offset, proof.attempt), ([0; 16], 0, 0));
        assert_eq!((proof.window, proof.max_message, proof.grace), (12_345, 54_321, told));
    }
}

#[test]
fn each_hello_has_a_nonce_of_its_own() {
    let server = RawServer::start();
    let mut nonces = Vec::new();
    // A client whose socket is closed before its CLOSE is confirmed would come back.
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let (connection, (nonce, socket)) = server.meet(
            |config| config,
            |mut handshake| {
                let nonce = handshake.read_hello().unwrap().nonce;
                handshake.send_hello().unwrap();
                let proof = handshake.read_proof().unwrap();
                handshake.settle_grace(&proof);
                handshake.send_accept().unwrap();
                (nonce, handshake)
            },
        );
        connection.unwrap();
        sockets.push(socket);
        assert!(!nonces.contains(&nonce));
        nonces.push(nonce);
    }
}

/// Every byte of ServerHello is covered by its proof, or must be what it is.
#[test]
fn a_server_hello_changed_on_the_way_is_refused_and_no_proof_is_sent() {
    thread::scope(|scope| {
        for part in 0..8 {
            scope.spawn(move || {
                for at in (part..SERVER_HELLO).step_by(8) {
                    let (connection, after) = RawServer::meet_once(
                        |config| config,
                        |mut handshake| {
                            handshake.flip_hello = Some((at, 0x04));
                            handshake.read_hello().unwrap();
                            handshake.send_hello().unwrap();
                            read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE)
                        },
                    );
                    assert!(connection.is_err(), "byte {at}");
                    let after = after.expect("the client hangs up");
                    assert_eq!(after, b"", "byte {at}: the client proved its key to a stranger");
                }
            });
        }
    });
}

#[test]
fn an_accept_changed_on_the_way_is_refused() {
    thread::scope(|scope| {
        for part in 0..8 {
            scope.spawn(move || {
                for at in (part..ACCEPT).step_by(8) {
                    let (connection, after) = RawServer::meet_once(
                        |config| config,
                        |mut handshake| {
                            handshake.flip_accept = Some((at, 0x01));
                            let proof = handshake.hear().unwrap();
                            handshake.settle_grace(&proof);
                            handshake.send_accept().unwrap();
                            read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE)
                        },
                    );
                    assert_eq!(handshake_error(connection), HandshakeError::BadProof, "byte {at}");
                    let after = after.expect("the client hangs up");
                    assert_eq!(after, b"", "byte {at}: the client sent frames");
                }
            });
        }
    });
}

/// "The client verifies it whatever the status."
#[test]
fn a_refusal_by_accept_with_a_wrong_mac_is_not_believed() {
    for status in 2..=6 {
        let (connection, ()) = RawServer::meet_once(
            |config| config,
            |mut handshake| {
                handshake.hear().unwrap();
                handshake.flip_accept = Some((ACCEPT_HEAD, 0x01));
                handshake.refuse(status).unwrap();
            },
        );
        assert_eq!(handshake_error(connection), HandshakeError::BadProof, "status {status}");
    }
}

#[test]
fn a_server_without_the_key_is_refused() {
    let (connection, after) = RawServer::meet_once(
        |config| config,
        |mut handshake| {
            handshake.read_hello().unwrap();
            handshake.key = random();
            handshake.send_hello().unwrap();
            read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE)
        },
    );
    assert_eq!(handshake_error(connection), HandshakeError::BadProof);
    assert_eq!(after.unwrap(), b"");
}

#[test]
fn the_client_tells_the_refusals_of_a_server_hello_apart() {
    let refused = |status| {
        let (connection, after) = RawServer::meet_once(
            |config| config,
            |mut handshake| {
                handshake.hello.status = status;
                handshake.read_hello().unwrap();
                handshake.send_hello().unwrap();
                read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE)
            },
        );
        assert_eq!(after.expect("the client hangs up"), b"", "status {status}: a proof after a refusal");
        connection
    };
    for (status, error) in [
        (status::NO_COMMON_VERSION, HandshakeError::NoCommonVersion { client: 1, server: 1 }),
        (status::NOT_AUTHORISED, HandshakeError::NotAuthorised),
        (status::TOO_BUSY, HandshakeError::TooBusy),
    ] {
        assert_eq!(handshake_error(refused(status)), error, "ServerHello status {status}");
    }
    // Refusals of the kind of connection, those that are not legal here, and one that is none.
    for status in [status::ONLY_SEALED, status::ONLY_PLAIN, 4, 5, 6, 9, 255] {
        assert!(refused(status).is_err(), "ServerHello status {status}");
    }
}

#[test]
fn the_client_tells_the_refusals_of_an_accept_apart() {
    for (status, error) in
        [(status::NOT_AUTHORISED, HandshakeError::NotAuthorised), (status::TOO_BUSY, HandshakeError::TooBusy)]
    {
        let (connection, ()) = RawServer::meet_once(
            |config| config,
            |mut handshake| {
                handshake.hear().unwrap();
                handshake.refuse(status).unwrap();
            },
        );
        assert_eq!(handshake_error(connection), error, "Accept status {status}");
    }
    // Refusals of a session that nobody has asked for, and some that are none.
    for status in [4, 5, 6, 1, 7, 8, 255] {
        let (connection, ()) = RawServer::meet_once(
            |config| config,
            |mut handshake| {
                handshake.hear().unwrap();
                handshake.refuse(status).unwrap();
            },
        );
        assert!(connection.is_err(), "Accept status {status}");
    }
}

/// "Any other reserved field that is not zero, or an unknown right: the socket is dropped as lost",
/// and "an Accept with another [window] ends the attempt". No frame follows.
#[test]
fn an_accept_that_is_none_is_dropped() {
    type Edit = fn(&mut Accept);
    let edits: [(&str, Edit); 8] = [
        ("a reserved byte", |accept| accept.zero = 1),
        ("the other reserved byte", |accept| accept.zero = 0x8000),
        ("an unknown right", |accept| accept.rights = 2),
        ("an unknown right besides the known one", |accept| accept.rights = 0x81),
        ("a window of 1", |accept| accept.window = 1),
        ("a window of 63", |accept| accept.window = 63),
        ("a window of 2^31", |accept| accept.window = 1 << 31),
        ("a window of 2^32 - 1", |accept| accept.window = u32::MAX),
    ];
    for (what, edit) in edits {
        let (connection, after) = RawServer::meet_once(
            |config| config,
            |mut handshake| {
                let proof = handshake.hear().unwrap();
                handshake.settle_grace(&proof);
                edit(&mut handshake.accept);
                handshake.send_accept().unwrap();
                read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE)
            },
        );
        assert!(connection.is_err(), "{what}");
        assert_eq!(after.expect("the client hangs up"), b"", "{what}: frames follow");
    }
}

/// What the client drops as lost it tries again, as a new session: it has none yet.
#[test]
fn a_first_attempt_that_is_lost_is_tried_again_as_a_new_session() {
    let server = RawServer::start();
    let (connection, mut peer) = server.meet(
        |config| config.connect_timeout(PATIENCE),
        |mut handshake| {
            // Cut between ClientProof and Accept.
            let first = handshake.hear().unwrap();
            drop(handshake);
            let mut handshake = ServerHandshake::accept(&server.listener, &server.key);
            let proof = handshake.hear().unwrap();
            assert_eq!(
                (proof.window, proof.max_message, proof.grace),
                (first.window, first.max_message, first.grace)
            );
            assert!(proof.is_new());
            handshake.settle_grace(&proof);
            handshake.send_accept().unwrap();
            handshake.into_peer(&proof)
        },
    );
    connection.unwrap().sender(channel(1)).unwrap().send("here").unwrap();
    assert_eq!(peer.expect_message(1), b"here");
}

#[test]
fn the_client_gives_up_on_a_server_that_is_none() {
    let (connection, _) = RawServer::meet_once(
        |config| config,
        |mut handshake| handshake.stream.write_all(b"SSH-2.0-OpenSSH_9.7\r\n"),
    );
    assert_eq!(handshake_error(connection), HandshakeError::NotTrunkline);
    let (connection, ()) = RawServer::meet_once(|config| config, drop);
    // Dropped with our hello unread: an end or a reset.
    assert!(connection.is_err());
    let begun = Instant::now();
    let (connection, ()) = RawServer::meet_once(
        |config| config.handshake_timeout(Duration::from_millis(300)),
        |mut handshake| {
            handshake.read_hello().unwrap();
            // Until the client hangs up.
            read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE).expect("the client gives up");
        },
    );
    assert!(connection.is_err());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn the_client_takes_a_wrong_version_for_no_answer() {
    for version in [0, 2, 255] {
        let (connection, after) = RawServer::meet_once(
            |config| config,
            |mut handshake| {
                handshake.hello.version = version;
                handshake.read_hello().unwrap();
                handshake.send_hello().unwrap();
                read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE)
            },
        );
        assert_eq!(
            handshake_error(connection),
            HandshakeError::NoCommonVersion { client: 1, server: version },
            "version {version}"
        );
        assert_eq!(after.unwrap(), b"", "version {version}");
    }
}

/// Both versions are named, so that the person knows which side is to be updated.
#[test]
fn a_refusal_for_want_of_a_common_version_names_both() {
    for (version, text) in [
        (9, "the server speaks protocol version 9, and this side version 1; update this side"),
        (
            1,
            "the server speaks protocol version 1, as this side does, but does not know what this side asks for; update the server",
        ),
        (0, "the server does not speak protocol version 1, as this side does; update the older of the two"),
    ] {
        let (connection, after) = RawServer::meet_once(
            |config| config,
            |mut handshake| {
                handshake.hello.status = status::NO_COMMON_VERSION;
                handshake.hello.version = version;
                handshake.read_hello().unwrap();
                handshake.send_hello().unwrap();
                read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE)
            },
        );
        assert_eq!(after.unwrap(), b"");
        let error = handshake_error(connection);
        assert_eq!(error, HandshakeError::NoCommonVersion { client: 1, server: version });
        assert_eq!(error.to_string(), text);
    }
}

/// Flags in a ServerHello are reserved: it is dropped, though its proof is right.
#[test]
fn the_client_takes_unknown_flags_for_no_answer() {
    for bit in 0..16 {
        let (connection, after) = RawServer::meet_once(
            |config| config,
            |mut handshake| {
                handshake.hello.flags = 1 << bit;
                handshake.read_hello().unwrap();
                handshake.send_hello().unwrap();
                read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE)
            },
        );
        assert!(connection.is_err(), "bit {bit}");
        assert_eq!(after.unwrap(), b"", "bit {bit}");
    }
}
