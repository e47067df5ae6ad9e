//! The raw halves themselves: against the page, and against each other.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::free_address;
use crate::support::wire::*;

/// The expected values were computed with another program (Python's hashlib and hmac).
#[test]
fn the_raw_half_makes_the_bytes_of_the_page() {
    let key: RawKey = std::array::from_fn(|n| n as u8);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&key_id(&key)), "3402d55cef9d6e29");

    let client_hello = ClientHello { nonce: [0xAA; 32], ..ClientHello::new(&key) }.encode();
    let mut server_hello =
        ServerHello { magic: MAGIC, version: 1, status: 0, flags: 0, nonce: [0xBB; 32], proof: [0; 32] };
    server_hello.proof = mac(&key, &[b"trunkline/1 server", &client_hello, &server_hello.encode()[..40]]);
    assert_eq!(hex(&server_hello.proof), "da0dc77cb298cd608be12f55c97f8d7f84fb662abf81143ec6a71eea923dd691");
    let server_hello = server_hello.encode();

    let mut proof = ClientProof {
        session: [0; 16],
        offset: 0,
        window: 0x10000,
        max_message: 0x10_0000,
        grace: 30_000,
        attempt: 0,
        proof: [0; 32],
    };
    proof.proof = mac(&key, &[b"trunkline/1 client", &client_hello, &server_hello, &proof.encode()[..40]]);
    assert_eq!(hex(&proof.proof), "d8307f522e78956828fd2382dff2aeb518d1c0e8a12cd6b4e099d31967be85ed");
    let proof = proof.encode();

    let accept = Accept {
        rights: 1,
        session: [0xCC; 16],
        window: 0x20000,
        max_message: 0x20_0000,
        may_send: 0b1011,
        may_receive: 1 << 127,
        grace: 20_000,
        ..Accept::refusing(0)
    };
    let parts: [&[u8]; 5] =
        [b"trunkline/1 accept", &client_hello, &server_hello, &proof, &accept.encode()[..72]];
    assert_eq!(hex(&mac(&key, &parts)), "e003e4cf075c70c29c70d24a73b4dfd8cb0e38e3215e7ca575775b318fd6ff31");
    assert_eq!(Accept::decode(&accept.encode()), accept);
    assert_eq!(ClientProof::decode(&proof).encode(), proof);
    assert_eq!(ServerHello::decode(&server_hello).encode(), server_hello);
    assert_eq!(ClientHello::decode(&client_hello).encode(), client_hello);
    let sealed = SealedHello::forged(&key);
    assert_eq!(SealedHello::decode(&sealed.encode()), sealed);
    assert_eq!(data(5, true, b"abc"), [0x05, 0x80, 0, 3, b'a', b'b', b'c']);
    assert_eq!(credit(127, 0x0102_0304), [0xFF, 0, 0, 5, 1, 1, 2, 3, 4]);
    assert_eq!(stop(2, 7, 0x0102_0304), [0x82, 0, 0, 9, 4, 0, 0, 0, 7, 1, 2, 3, 4]);
    assert_eq!(waiting(3, 1, 258), [0x83, 0, 0, 6, 8, 1, 0, 0, 1, 2]);
    assert_eq!(close(258, b"no"), [0x80, 0, 0, 5, 0x0A, 1, 2, b'n', b'o']);
    assert_eq!(gap(3, 1, 2), [0x83, 0, 0, 17, 0x0B, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
}

struct Halves {
    listener: TcpListener,
    addr: SocketAddr,
    client: RawPeer,
    server: RawPeer,
}

impl Halves {
    fn meet() -> Self {
        Self::with(|_| {}, |_| {})
    }

    fn with(client: impl FnOnce(&mut ClientHandshake), server: impl FnOnce(&mut ServerHandshake)) -> Self {
        let (listener, results) = Self::try_with(client, server);
        let (client, server) = (results.0.expect("client"), results.1.expect("server"));
        Self { addr: listener.local_addr().unwrap(), listener, client, server }
    }

    #[allow(clippy::type_complexity, reason = "two results, side by side")]
    fn try_with(
        client: impl FnOnce(&mut ClientHandshake),
        server: impl FnOnce(&mut ServerHandshake),
    ) -> (TcpListener, (Result<RawPeer, WireError>, Result<RawPeer, WireError>)) {
        let (listener, key) = (TcpListener::bind(free_address()).unwrap(), random());
        let mut asking = ClientHandshake::new(listener.local_addr().unwrap(), &key);
        client(&mut asking);
        let mut serving = ServerHandshake::accept(&listener, &key);
        server(&mut serving);
        let results = thread::scope(|scope| {
            let serving = scope.spawn(|| serving.finish());
            (asking.finish(), serving.join().unwrap())
        });
        (listener, results)
    }

    fn close(self) {
        let (mut client, mut server) = (self.client, self.server);
        let answering = thread::spawn(move || server.answer_close());
        assert_eq!(client.close_and_finish(300, b"bye"), code::NORMAL);
        assert_eq!(answering.join().unwrap(), 300);
    }
}

#[test]
fn the_halves_talk_in_both_directions_and_close() {
    let mut halves = Halves::with(|client| client.proof.window = 5000, |server| server.accept.window = 64);
    let (client, server) = (&mut halves.client, &mut halves.server);
    assert_eq!((client.accept.window, server.accept.window), (64, 5000));
    (client.auto_credit, server.auto_credit) = (true, true);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..5 {
                assert_eq!(server.expect_message(3), [n; 300]);
            }
            server.expect_next(Event::Gap(3, 1, 2));
            server.expect_next(Event::Reset(3, 9));
            for n in 0..20 {
                server.send_message(3, &[n; 3000]).unwrap();
            }
            server.send_bytes(&finish(3)).unwrap();
        });
        for n in 0..5 {
            client.send_message(3, &[n; 300]).unwrap();
        }
        client.send_bytes(&[gap(3, 1, 2), reset(3, 9)].concat()).unwrap();
        for n in 0..20 {
            assert_eq!(client.expect_message(3), [n; 3000]);
        }
        client.expect_next(Event::Finish(3));
    });
    halves.close();
}

#[test]
fn a_session_of_the_halves_goes_on_in_the_middle_of_a_frame_in_both_directions() {
    let Halves { listener, addr, mut client, mut server } = Halves::meet();
    client.send_data(1, false, b"one");
    assert_eq!(server.expect_message(1), b"one");
    server.send_data(1, false, b"two");
    assert_eq!(client.expect_message(1), b"two");
    for round in 0..3 {
        // Half a frame each way, then the sockets are gone.
        let [here, there] = [b"from the client", b"from the server"].map(|text| data(2, false, text));
        client.send_bytes(&here[..7]).unwrap();
        server.send_bytes(&there[..9 + round]).unwrap();
        for peer in [&mut client, &mut server] {
            let nothing = peer.read_frame(Duration::from_millis(20));
            assert!(matches!(nothing, Err(WireError::Timeout) | Ok(Frame::Ack(_))), "{nothing:?}");
            while peer.read_frame(Duration::from_millis(20)).is_ok() {}
        }
        client.cut();
        client.enter_sent(&here[7..]);
        server.enter_sent(&there[9 + round..]);
        thread::scope(|scope| {
            let serving = scope.spawn(|| server.serve_again(&listener));
            client.resume(addr).unwrap();
            serving.join().unwrap().unwrap();
        });
        assert_eq!(server.expect_message(2), b"from the client");
        assert_eq!(client.expect_message(2), b"from the server");
    }
    assert_eq!((client.attempt, server.attempt), (3, 3));
    // From further back than need be: what comes again is compared, and counts once.
    let mut handshake = client.come_back(addr);
    handshake.proof.offset -= 5;
    server.acked = server.acked.map(|acked| acked - 5);
    let accept = thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve_again(&listener));
        let accept = handshake.shake().unwrap();
        serving.join().unwrap().unwrap();
        accept
    });
    client.go_on(handshake, &accept).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| server.wait_for(PATIENCE, |event| matches!(event, Event::Ping(_))).unwrap());
        client.expect_alive();
    });
    Halves { listener, addr, client, server }.close();
}

#[test]
fn a_replay_that_differs_is_noticed() {
    let Halves { listener, addr, mut client, mut server } = Halves::meet();
    server.send_data(1, false, b"truth");
    assert_eq!(client.expect_message(1), b"truth");
    let mut handshake = client.come_back(addr);
    handshake.proof.offset -= 4;
    let accept = thread::scope(|scope| {
        scope.spawn(|| {
            let (mut handshake, _) = server.hear_again(&listener).unwrap();
            handshake.send_accept().unwrap();
            server.stream = handshake.stream;
            server.send_bytes(b"rust").unwrap();
        });
        handshake.shake().unwrap()
    });
    client.go_on(handshake, &accept).unwrap();
    let read = client.read_frame(PATIENCE);
    assert!(matches!(read, Err(WireError::Violation(_))), "{read:?}");
}

#[test]
fn the_halves_refuse_each_other() {
    for status in 1..=8u8 {
        let (_listener, (client, _)) = Halves::try_with(|_| {}, |server| server.hello.status = status);
        let client = client.map(|_| "a peer").unwrap_err();
        match status {
            1 | 2 | 3 | 7 | 8 => assert_eq!(client.refusal(), Some(status)),
            _ => assert!(matches!(client, WireError::Violation(_)), "{client}"),
        }
        let (_listener, (client, _)) = Halves::try_with(
            |_| {},
            |server| server.accept = Accept { grace: FOR_EVER, ..Accept::refusing(status) },
        );
        let client = client.map(|_| "a peer").unwrap_err();
        assert!(matches!(client, WireError::Violation(_)), "not zero: {client}");
        let (_listener, (client, _)) =
            Halves::try_with(|_| {}, |server| server.accept = Accept::refusing(status));
        let client = client.map(|_| "a peer").unwrap_err();
        match status {
            2..=6 => assert_eq!(client.refusal(), Some(status)),
            _ => assert!(matches!(client, WireError::Violation(_)), "{client}"),
        }
    }
}

#[test]
fn the_halves_refuse_a_sealed_hello() {
    let (listener, key) = (TcpListener::bind(free_address()).unwrap(), random());
    let mut stream = dial(listener.local_addr().unwrap());
    let hello = SealedHello::forged(&key);
    std::io::Write::write_all(&mut stream, &hello.encode()).unwrap();
    let mut serving = ServerHandshake::accept(&listener, &key);
    assert_eq!(serving.read_any_hello().unwrap(), Hello::Sealed(hello));
    serving.refuse_sealed(status::ONLY_PLAIN).unwrap();
    let deadline = Instant::now() + PATIENCE;
    assert_eq!(read_sealed_refusal(&mut stream, deadline).unwrap(), status::ONLY_PLAIN);
    assert_eq!(read_to_end_by(&mut stream, deadline).unwrap(), b"");
}

#[test]
fn the_client_half_refuses_an_accept_that_is_none() {
    type Edit = fn(&mut Accept);
    let edits: [(&str, Edit); 6] = [
        ("reserved bytes", |accept| accept.zero = 1),
        ("an unknown right", |accept| accept.rights = 2),
        ("a window of 63", |accept| accept.window = 63),
        ("a window of 2^31", |accept| accept.window = 1 << 31),
        ("a session of zeros", |accept| accept.session = [0; 16]),
        ("an offset in a new session", |accept| accept.offset = 1),
    ];
    for (what, edit) in edits {
        let (_listener, (client, _)) = Halves::try_with(|_| {}, |server| edit(&mut server.accept));
        let client = client.map(|_| "a peer").unwrap_err();
        assert!(matches!(client, WireError::Violation(_)), "{what}: {client}");
    }
}

/// What one half sends, the other finds wrong: the library would not get away with it.
#[test]
fn the_books_find_every_violation() {
    let window = 1 << 20;
    let cases = [
        ("data without credit", data(1, true, &[0; 65_000]).repeat(17)),
        ("a message too large", data(1, false, &[0; 2001])),
        ("fragments of a message too large", data(1, true, &[0; 700]).repeat(3)),
        ("an empty fragment", data(1, true, b"")),
        ("data where it may not", data(9, false, b"x")),
        ("FINISH where it may not", finish(9)),
        ("RESET where it may not", reset(9, 0)),
        ("GAP where it may not", gap(9, 1, 1)),
        ("CREDIT where we may not", credit(8, window)),
        ("STOP where we may not", stop(8, 0, 0)),
        ("WAITING where we may not", waiting(8, 1, 0)),
        ("FINISH inside a message", [data(1, true, b"x"), finish(1)].concat()),
        ("GAP inside a message", [data(1, true, b"x"), gap(1, 1, 1)].concat()),
        ("CREDIT 0", credit(1, 0)),
        ("CREDIT that nobody is owed", credit(1, window)),
        ("STOP of a run to come", stop(1, 0, 1)),
        ("WAITING that counts too much", waiting(1, 1, 1)),
        ("WAITING 2", waiting(1, 2, 0)),
        ("a PONG out of nothing", pong(1)),
        ("ACK of what was never sent", ack(1_000_000)),
        ("ACK that goes back", [ack(13), ack(5)].concat()),
        ("INTERRUPT of one who may not", interrupt()),
        ("CLOSE 7", close(7, b"")),
        ("PING after CLOSE", [close(0, b""), ping(1)].concat()),
        ("CLOSE after CLOSE", [close(0, b""), close(0, b"")].concat()),
        ("an extension", control(0, 0x80, b"")),
        ("an unknown opcode", control(0, 0x0C, b"")),
        ("a body too short", control(0, opcode::STOP, &[0; 4])),
        ("a channel where none is", control(1, opcode::PING, &[0; 8])),
        ("M on a control frame", vec![0x80, 0x80, 0, 1, opcode::INTERRUPT]),
    ];
    for (what, bytes) in cases {
        let Halves { mut client, mut server, .. } = Halves::with(
            |_| {},
            |server| {
                server.accept.may_send = 0b11 | 1 << 8;
                server.accept.may_receive = 0b11 | 1 << 9;
                server.accept.max_message = 2000;
                server.accept.rights = 0;
            },
        );
        client.auto_ack = false;
        client.send_bytes(&bytes).unwrap();
        client.shutdown_write();
        let result = loop {
            match server.read_frame(PATIENCE) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(result, WireError::Violation(_)), "{what}: {result}");
    }
}

#[test]
fn a_credit_of_less_than_half_a_window_is_found() {
    let Halves { mut client, mut server, .. } = Halves::with(|_| {}, |server| server.accept.window = 1000);
    client.send_data(1, false, &[0; 768]);
    server.send_bytes(&credit(1, 500)).unwrap();
    assert_eq!(client.wait_for(PATIENCE, |_| true).unwrap(), Event::Credit(1, 500));
    server.send_bytes(&credit(1, 300)).unwrap();
    let result = client.event(PATIENCE);
    assert!(matches!(result, Err(WireError::Violation(_))), "{result:?}");
}

#[test]
fn the_raw_half_acknowledges_in_time_and_pays_back_by_the_account() {
    let Halves { mut client, mut server, .. } = Halves::with(|client| client.proof.window = 1024, |_| {});
    client.auto_credit = true;
    server.send_data(1, false, &[0; 480]);
    let sent = server.sent;
    thread::scope(|scope| {
        scope.spawn(|| {
            // It is held, and then taken.
            assert!(client.wait_for(Duration::from_millis(500), |_| false).is_err());
            assert_eq!(client.expect_message(1), [0; 480]);
        });
        server.acked_within(sent, Duration::from_millis(450)).expect("an ACK in time");
        server.expect_none(Duration::from_millis(1), |event| matches!(event, Event::Credit(..)));
        let event = server.wait_for(PATIENCE, |event| matches!(event, Event::Credit(..)));
        assert_eq!(event.unwrap(), Event::Credit(1, 512));
    });
}
