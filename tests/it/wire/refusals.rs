//! Section 1: who is not let in, and how it is said.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use trunkline::{Access, Config, Key};

use super::library::*;
use crate::support::wire::*;

#[track_caller]
pub fn assert_refused_by_hello(client: &mut ClientHandshake, status: u8) {
    match client.read_server_hello() {
        Err(WireError::RefusedByHello(hello)) if hello.status == status => {}
        other => panic!("wanted ServerHello with status {status}, got {other:?}"),
    }
    assert_nothing_more(&mut client.stream);
}

/// Refused, with a right MAC and nothing in it but the status, and closed.
#[track_caller]
pub fn assert_refused_by_accept(client: &mut ClientHandshake, status: u8) {
    match client.read_accept() {
        Err(WireError::RefusedByAccept(accept)) if accept.status == status => {}
        other => panic!("wanted Accept with status {status}, got {other:?}"),
    }
    assert_nothing_more(&mut client.stream);
}

/// "After any but 0 the server closes."
#[track_caller]
pub fn assert_nothing_more(stream: &mut TcpStream) {
    assert_eq!(read_to_end_by(stream, Instant::now() + PATIENCE).expect("the server closes"), b"");
}

/// Three messages, and the refusal that the fourth is.
#[track_caller]
pub fn assert_refused(mut client: ClientHandshake, status: u8) {
    client.send_hello().unwrap();
    client.read_server_hello().unwrap();
    client.send_proof().unwrap();
    assert_refused_by_accept(&mut client, status);
}

#[test]
fn each_key_has_its_own_rights() {
    let (key, other) = (random(), random());
    let config = Config::new(Key::from(key)).with_key(Key::from(other), Access::read_only());
    let server = Server::with_config(key, config);
    assert_eq!(server.connect().accept.may_send, u128::MAX);
    let reader = RawPeer::connect(server.addr, &other);
    assert_eq!((reader.accept.may_send, reader.accept.may_receive), (0, u128::MAX));
    assert!(!reader.accept.may_interrupt());
    // The id of one key with the proof of the other.
    let mut mixed = ClientHandshake::new(server.addr, &key);
    mixed.hello.key_id = key_id(&other);
    mixed.ignore_server_proof = true;
    mixed.send_hello().unwrap();
    mixed.read_server_hello().unwrap();
    mixed.send_proof().unwrap();
    mixed.key = other; // the server's MAC is made with the key that was named
    assert_refused_by_accept(&mut mixed, status::NOT_AUTHORISED);
}

#[test]
fn an_unknown_key_is_not_authorised() {
    let server = Server::echo(|config| config);
    let mut stranger = ClientHandshake::new(server.addr, &random());
    stranger.send_hello().unwrap();
    assert_refused_by_hello(&mut stranger, status::NOT_AUTHORISED);
    for bit in 0..64 {
        let mut client = server.client();
        client.hello.key_id[bit / 8] ^= 1 << (bit % 8);
        client.send_hello().unwrap();
        assert_refused_by_hello(&mut client, status::NOT_AUTHORISED);
    }
    server.assert_serving();
}

#[test]
fn a_wrong_client_proof_is_not_authorised() {
    let server = Server::echo(|config| config);
    // Every byte of ClientProof: what it says, and the proof of it. The proof is checked before
    // anything that it covers: a wrong session id with a wrong proof is not authorised either.
    for at in 0..CLIENT_PROOF {
        let mut client = server.client();
        client.flip_proof = Some((at, 0x10));
        assert_refused(client, status::NOT_AUTHORISED);
    }
    server.assert_serving();
}

#[test]
fn a_hello_changed_on_the_way_gives_no_connection() {
    // The lowest bit of the flags turns it into a longer hello, whose rest never comes.
    let server = Server::echo(|config| config.handshake_timeout(Duration::from_millis(500)));
    for at in 0..CLIENT_HELLO {
        for mask in [0x01, 0x80] {
            let mut client = server.client();
            client.flip_hello = Some((at, mask));
            assert!(client.finish().is_err(), "byte {at} ^ {mask:#04x}: the client noticed nothing");
            // A client that does not check is stopped by the server.
            let mut careless = server.client();
            careless.flip_hello = Some((at, mask));
            careless.ignore_server_proof = true;
            assert!(careless.finish().is_err(), "byte {at} ^ {mask:#04x}: the server noticed nothing");
        }
    }
    server.assert_serving();
}

#[test]
fn a_recorded_handshake_is_refused() {
    let server = Server::echo(|config| config);
    let mut recorded = server.client();
    recorded.send_hello().unwrap();
    let original = recorded.read_server_hello().unwrap();
    recorded.send_proof().unwrap();
    recorded.read_accept().unwrap();
    for _ in 0..3 {
        let mut replay = server.client();
        replay.hello = recorded.hello.clone();
        replay.send_hello().unwrap();
        let answer = replay.read_server_hello().unwrap();
        assert_ne!(answer.nonce, original.nonce, "the server used a nonce twice");
        replay.stream.write_all(&recorded.proof_bytes).unwrap();
        replay.proof_bytes = recorded.proof_bytes;
        assert_refused_by_accept(&mut replay, status::NOT_AUTHORISED);
    }
    server.assert_serving();
}

#[test]
fn no_common_version_is_told() {
    let server = Server::echo(|config| config);
    for (low, high) in [(0, 0), (2, 2), (2, 255), (255, 255), (2, 1)] {
        let mut client = server.client();
        (client.hello.low, client.hello.high) = (low, high);
        client.send_hello().unwrap();
        assert_refused_by_hello(&mut client, status::NO_COMMON_VERSION);
    }
    server.assert_serving();
}

/// "Unknown bits in a hello's flags: the server answers status 1, in the size of the hello's kind."
#[test]
fn an_unknown_flag_is_no_common_version_in_the_size_of_the_hello() {
    let server = Server::echo(|config| config);
    for bit in 1..16 {
        let mut client = server.client();
        client.hello.flags = 1 << bit;
        client.send_hello().unwrap();
        assert_refused_by_hello(&mut client, status::NO_COMMON_VERSION);

        let mut stream = dial(server.addr);
        let hello = SealedHello { flags: 1 | 1 << bit, ..SealedHello::forged(&server.key) };
        stream.write_all(&hello.encode()).unwrap();
        let told = read_sealed_refusal(&mut stream, Instant::now() + PATIENCE);
        assert_eq!(told.expect("a reply of 64 bytes"), status::NO_COMMON_VERSION, "bit {bit}");
        assert_nothing_more(&mut stream);
    }
    server.assert_serving();
}

/// "The answer to a SealedHello is always 64 bytes, and comes after all 64 of the hello were read,
/// also from a server that cannot seal (status 8)." One that can seal finds the tag wrong.
#[test]
fn a_sealed_hello_without_the_key_is_refused_in_64_bytes_after_the_last_of_its_own() {
    let server = Server::echo(|config| config);
    for key in [server.key, random()] {
        let hello = SealedHello::forged(&key).encode();
        let mut stream = dial(server.addr);
        stream.write_all(&hello[..SEALED_HELLO - 1]).unwrap();
        let early = read_exact_by(&mut stream, &mut [0], Instant::now() + Duration::from_millis(150));
        assert!(early.as_ref().is_err_and(WireError::is_timeout), "answered too early: {early:?}");
        stream.write_all(&hello[SEALED_HELLO - 1..]).unwrap();
        let told = read_sealed_refusal(&mut stream, Instant::now() + PATIENCE).expect("64 bytes");
        assert!([status::NOT_AUTHORISED, status::ONLY_PLAIN].contains(&told), "status {told}");
        assert_nothing_more(&mut stream);
    }
    server.assert_serving();
}

#[test]
fn a_sealed_hello_of_another_version_is_refused_in_64_bytes() {
    let server = Server::echo(|config| config);
    let mut stream = dial(server.addr);
    let hello = SealedHello { low: 2, high: 9, ..SealedHello::forged(&server.key) };
    stream.write_all(&hello.encode()).unwrap();
    let told = read_sealed_refusal(&mut stream, Instant::now() + PATIENCE).expect("64 bytes");
    assert!([status::NO_COMMON_VERSION, status::ONLY_PLAIN].contains(&told), "status {told}");
    assert_nothing_more(&mut stream);
}

#[test]
fn a_sealed_hello_that_breaks_off_hurts_nobody() {
    let server = Server::echo(|config| config);
    for len in 0..SEALED_HELLO {
        let mut stream = dial(server.addr);
        stream.write_all(&SealedHello::forged(&server.key).encode()[..len]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_nothing_more(&mut stream);
    }
    server.assert_serving();
}

/// "A window is 0 (nothing may be sent) or 64 to 2³¹−1; a ClientProof with another is refused with
/// status 6."
#[test]
fn a_window_that_is_none_is_out_of_range() {
    let server = Server::echo(|config| config);
    for window in [1, 31, 32, 33, 63, 1 << 31, (1 << 31) + 64, u32::MAX] {
        assert_refused(server.client().window(window), status::OUT_OF_RANGE);
    }
    server.assert_serving();
    for window in [0, 64, 65, MAX_CREDIT as u32] {
        server.client().window(window).finish().unwrap().expect_alive();
    }
}

/// "A ClientProof for a new session (id of zeros) has attempt and offset 0, else status 6."
#[test]
fn a_new_session_with_an_offset_or_an_attempt_is_out_of_range() {
    let server = Server::echo(|config| config);
    for (offset, attempt) in [(1, 0), (0, 1), (1, 1), (u64::MAX, 0), (0, u32::MAX)] {
        assert_refused(server.client().session([0; 16], offset, attempt), status::OUT_OF_RANGE);
    }
    server.assert_serving();
}

#[test]
fn a_session_that_never_was_is_unknown() {
    let server = Server::echo(|config| config);
    let mut one = [0; 16];
    one[15] = 1;
    for session in [random(), one] {
        for (offset, attempt) in [(0, 1), (7, 1), (u64::MAX, u32::MAX)] {
            assert_refused(server.client().session(session, offset, attempt), status::SESSION_UNKNOWN);
        }
    }
    server.assert_serving();
}

/// A largest message of any size is legal: of 0 too, where only empty ones get through.
#[test]
fn every_largest_message_is_legal() {
    let server = Server::start(|config| config);
    for limit in [0, 1, u32::MAX] {
        let (mut peer, connection) = server.pair(server.client().max_message(limit));
        let sender = connection.sender(channel(1)).unwrap();
        if limit < u32::MAX {
            assert!(sender.send(vec![0; limit as usize + 1]).is_err(), "more than {limit}");
            sender.send(vec![7; limit as usize]).unwrap();
            assert_eq!(peer.expect_message(1), vec![7; limit as usize]);
        } else {
            sender.send(&[1; 100_000][..]).unwrap();
            assert_eq!(peer.expect_message(1), [1; 100_000]);
        }
    }
}
