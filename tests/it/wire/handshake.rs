//! Section 1: the handshake, the library as the server.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use trunkline::{Access, ChannelSet, Config, Key};

use super::library::*;
use super::refusals::assert_nothing_more;
use crate::support::wire::*;

#[test]
fn accept_tells_every_field() {
    let key = random();
    let access = Access::full()
        .send([channel(0), channel(3), channel(127)].into_iter().collect::<ChannelSet>())
        .receive([channel(1), channel(64)].into_iter().collect::<ChannelSet>())
        .interrupt(false);
    let config = Config::with_access(Key::from(key), access)
        .window(70_001)
        .max_message(5_000_003)
        .resume_grace(Duration::from_millis(12_345));
    let server = Server::with_config(key, config);
    let first = server.connect();
    let accept = &first.accept;
    assert_eq!(accept.status, status::OK);
    assert_eq!(accept.rights, 0);
    assert_eq!(accept.zero, 0);
    assert_ne!(accept.session, [0; 16]);
    assert_eq!(accept.offset, 0);
    assert_eq!(accept.window, 70_001);
    assert_eq!(accept.max_message, 5_000_003);
    assert_eq!(accept.may_send, 1 | 1 << 3 | 1 << 127);
    assert_eq!(accept.may_receive, 1 << 1 | 1 << 64);
    assert_eq!(accept.grace, 12_345);

    let second = server.connect();
    assert_ne!(second.accept.session, accept.session, "a session id given out twice");
}

#[test]
fn who_may_do_everything_is_told_so() {
    let server = Server::start(|config| config);
    let peer = server.connect();
    assert!(peer.accept.may_interrupt());
    assert_eq!((peer.accept.may_send, peer.accept.may_receive), (u128::MAX, u128::MAX));
}

/// "FFFFFFFF means for ever in both; the server grants the smaller of its own and the client's." And
/// "0: the session ends with its socket, and the session id is zeros", which every read of an Accept
/// checks here.
#[test]
fn the_grace_granted_is_the_smaller_of_both() {
    let seconds = Duration::from_secs;
    let cases = [
        (Duration::ZERO, [(0, 0), (60_000, 0), (FOR_EVER, 0)]),
        (seconds(10), [(0, 0), (9_999, 9_999), (FOR_EVER, 10_000)]),
        (seconds(3600), [(1, 1), (3_600_001, 3_600_000), (FOR_EVER - 1, 3_600_000)]),
        (Duration::MAX, [(0, 0), (70_000, 70_000), (FOR_EVER, FOR_EVER)]),
    ];
    for (own, asked) in cases {
        let server = Server::start(|config| config.resume_grace(own));
        for (asked, granted) in asked {
            let peer = server.client().grace(asked).finish().unwrap();
            assert_eq!(peer.accept.grace, granted, "{asked} of {own:?}");
        }
    }
}

#[test]
fn the_highest_common_version_is_chosen() {
    let server = Server::echo(|config| config);
    for (low, high) in [(1, 1), (0, 1), (1, 2), (1, 255), (0, 255)] {
        let mut client = server.client();
        (client.hello.low, client.hello.high) = (low, high);
        client.send_hello().unwrap();
        let hello = client.read_server_hello().unwrap_or_else(|error| panic!("{low}..={high}: {error}"));
        assert_eq!(hello.version, 1, "{low}..={high}");
        client.send_proof().unwrap();
        let accept = client.read_accept().unwrap();
        client.into_peer(accept).expect_alive();
    }
}

#[test]
fn http_and_tls_fail_at_byte_0() {
    // A deadline so long that only the first byte can be the reason.
    let server = Server::echo(|config| config.handshake_timeout(Duration::from_secs(60)));
    let openings: [&[u8]; 9] = [
        b"G",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x80",
        b"\x00",
        b"\n",
    ];
    for opening in openings {
        let mut stream = dial(server.addr);
        stream.write_all(opening).unwrap();
        assert_nothing_more(&mut stream);
    }
    for at in 1..4 {
        let mut client = server.client();
        client.hello.magic[at] ^= 0x20;
        client.send_hello().unwrap();
        assert_nothing_more(&mut client.stream);
    }
    server.assert_serving();
}

#[test]
fn a_handshake_has_one_absolute_deadline() {
    const DEADLINE: Duration = Duration::from_millis(400);
    let server = Server::echo(|config| config.handshake_timeout(DEADLINE));
    for part in 0..3 {
        let begun = Instant::now();
        let mut client = server.client();
        let trickle = match part {
            0 => client.make_hello().to_vec(),
            1 => SealedHello::forged(&server.key).encode().to_vec(),
            _ => {
                client.send_hello().unwrap();
                client.read_server_hello().unwrap();
                client.make_proof().to_vec()
            }
        };
        // 100 ms a byte: alone each would be in time, together they take longer than the deadline.
        let mut cut_off = None;
        for byte in &trickle[..trickle.len() - 1] {
            let sent = client.stream.write_all(&[*byte]);
            let pause = Instant::now() + Duration::from_millis(100);
            match read_exact_by(&mut client.stream, &mut [0], pause) {
                Err(WireError::Timeout) if sent.is_ok() => {}
                Err(error) if sent.is_err() || error.is_end() => {
                    cut_off = Some(begun.elapsed());
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        let cut_off = cut_off.expect("trickling went on to the end");
        assert!(cut_off >= DEADLINE - Duration::from_millis(50), "cut off after {cut_off:?}");
        assert!(cut_off < DEADLINE * 6, "cut off after {cut_off:?}");
    }
    // Silence from the start.
    let begun = Instant::now();
    assert_nothing_more(&mut dial(server.addr));
    assert!(begun.elapsed() < DEADLINE * 6, "cut off after {:?}", begun.elapsed());
    server.assert_serving();
}

#[test]
fn twenty_silent_clients_delay_nobody() {
    const LAST: usize = CLIENT_PROOF - 1;
    let server = Server::echo(|config| config.handshake_timeout(Duration::from_secs(60)));
    let mut silent = Vec::new();
    for n in 0..20 {
        let mut client = server.client();
        match n % 4 {
            0 => {}
            1 => {
                let hello = client.make_hello();
                client.stream.write_all(&hello[..CLIENT_HELLO - 1]).unwrap();
            }
            2 => client.send_hello().unwrap(),
            _ => {
                client.send_hello().unwrap();
                client.read_server_hello().unwrap();
                let proof = client.make_proof();
                client.stream.write_all(&proof[..LAST]).unwrap();
            }
        }
        silent.push(client);
    }
    for _ in 0..5 {
        let begun = Instant::now();
        server.assert_serving();
        assert!(begun.elapsed() < Duration::from_secs(2), "held up for {:?}", begun.elapsed());
    }
    // And nobody was thrown out for being slow.
    let mut last = silent.pop().unwrap();
    let proof = last.proof_bytes;
    last.stream.write_all(&proof[LAST..]).unwrap();
    let accept = last.read_accept().expect("the slow one may still finish");
    last.into_peer(accept).expect_alive();
}

#[test]
fn more_connections_than_allowed_are_told_that_it_is_too_busy() {
    let server = Server::echo(|config| config.max_connections(2));
    let mut kept = [server.connect(), server.connect()];
    for _ in 0..3 {
        let refused = server.client().finish().map(|_| "a connection").unwrap_err();
        assert_eq!(refused.refusal(), Some(status::TOO_BUSY), "{refused}");
    }
    for peer in &mut kept {
        peer.expect_alive();
    }
    // A place that becomes free is given away again.
    let [mut first, _second] = kept;
    first.close_and_finish(code::NORMAL, b"");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match server.client().finish() {
            Ok(mut peer) => break peer.expect_alive(),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn more_pending_handshakes_than_allowed_keep_nobody_out() {
    let server =
        Server::echo(|config| config.pending_handshakes(4).handshake_timeout(Duration::from_secs(60)));
    let _silent: Vec<_> = (0..40).map(|_| dial(server.addr)).collect();
    for _ in 0..5 {
        server.assert_serving();
    }
}

#[test]
fn a_handshake_may_come_in_single_bytes() {
    let server = Server::echo(|config| config);
    let mut client = server.client();
    for byte in client.make_hello() {
        client.stream.write_all(&[byte]).unwrap();
    }
    client.read_server_hello().unwrap();
    for byte in client.make_proof() {
        client.stream.write_all(&[byte]).unwrap();
    }
    let accept = client.read_accept().unwrap();
    client.into_peer(accept).expect_alive();
}

/// The bytes after ClientProof are the frame stream, whether or not Accept has been read.
#[test]
fn frames_may_follow_the_proof_at_once() {
    let server = Server::echo(|config| config);
    let mut client = server.client().silent();
    client.send_hello().unwrap();
    client.read_server_hello().unwrap();
    let frames = [data(1, true, b"ear"), ping(99), data(1, false, b"ly")].concat();
    let burst = [&client.make_proof()[..], &frames].concat();
    client.stream.write_all(&burst).unwrap();
    let accept = client.read_accept().unwrap();
    let mut peer = client.into_peer(accept);
    peer.enter_sent(&frames);
    peer.expect_pong(99);
    assert_eq!(peer.expect_message(1), b"early");
}

#[test]
fn a_handshake_that_breaks_off_hurts_nobody() {
    let server = Server::echo(|config| config);
    for len in 0..CLIENT_HELLO {
        let mut client = server.client();
        let hello = client.make_hello();
        client.stream.write_all(&hello[..len]).unwrap();
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_nothing_more(&mut client.stream);
    }
    for len in (0..CLIENT_PROOF).step_by(7) {
        let mut client = server.client();
        client.send_hello().unwrap();
        client.read_server_hello().unwrap();
        let proof = client.make_proof();
        client.stream.write_all(&proof[..len]).unwrap();
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_nothing_more(&mut client.stream);
    }
    server.assert_serving();
}

#[test]
fn random_handshakes_end() {
    let server = Server::echo(|config| config.handshake_timeout(Duration::from_secs(60)));
    for seed in 0..100 {
        let mut noise = Noise(seed);
        let mut client = server.client();
        let mut bytes = client.make_hello().to_vec();
        if seed % 2 == 0 {
            bytes[4..].copy_from_slice(&noise.bytes(CLIENT_HELLO - 4));
        }
        let at = noise.below(CLIENT_HELLO);
        bytes[at] ^= noise.next() as u8 | 1;
        let more = noise.below(200);
        bytes.extend_from_slice(&noise.bytes(more));
        // The server may be gone before all of it is written.
        let _ = client.stream.write_all(&bytes);
        let _ = client.stream.shutdown(Shutdown::Write);
        let answer =
            read_to_end_by(&mut client.stream, Instant::now() + PATIENCE).expect("the server closes");
        let sizes = [0, SEALED_REPLY, SERVER_HELLO, SERVER_HELLO + ACCEPT];
        assert!(sizes.contains(&answer.len()), "{} bytes", answer.len());
    }
    server.assert_serving();
}
