//! Sealed connections (section 8): the library's listener against a raw client, and the other way round.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use trunkline::{
    Access, Config, ConnectError, Connection, ConnectionError, Event, HandshakeError, Key, Listener,
    ListenerEvent, Sealing,
};

use super::library::*;
use crate::support::free_address;
use crate::support::wire::seal::{LARGEST_RECORD, RECORDS_OF_A_KEY};
use crate::support::wire::*;

fn sealed_client(server: &Server) -> SealedClient {
    SealedClient::new(server.addr, &server.key)
}

/// A sealed raw peer and the library's end.
fn sealed_pair(server: &Server) -> (RawPeer, Connection) {
    let peer = sealed_client(server).finish().expect("the handshake succeeds");
    (peer, server.accepted())
}

/// The vector of the Noise framework, said by the speaker: what it says is right.
#[test]
fn the_speaker_says_what_the_vector_says() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let lines = |name: &str| -> Vec<Vec<u8>> {
        let vector = include_str!("../../data/noise_nnpsk0.txt");
        let all = vector.lines().filter_map(|line| line.split_once(' '));
        all.filter(|(known, _)| *known == name).map(|(_, value)| hex(value)).collect()
    };
    let array = |name: &str| -> [u8; 32] { lines(name)[0][..].try_into().unwrap() };
    let (payloads, messages, psk) = (lines("payload"), lines("message"), array("psk"));
    let prologue = &lines("prologue")[0];
    let mut here = seal::Handshake::with_ephemeral(prologue, array("initiator-ephemeral"));
    let mut there = seal::Handshake::with_ephemeral(prologue, array("responder-ephemeral"));
    assert_eq!(here.write_first(&psk, &payloads[0]), messages[0]);
    assert_eq!(there.read_first(&psk, &messages[0]).unwrap(), payloads[0]);
    assert_eq!(there.write_second(&payloads[1]), messages[1]);
    assert_eq!(here.read_second(&messages[1]).unwrap(), payloads[1]);
    assert_eq!([here.handshake_hash(), there.handshake_hash()], [array("hash"); 2]);
    let (mut first, mut second) = here.split();
    for at in 2..6 {
        let cipher = if at % 2 == 0 { &mut first } else { &mut second };
        assert_eq!(cipher.clone().seal(&[], &payloads[at]), messages[at]);
        assert_eq!(cipher.open(&[], &messages[at]).unwrap(), payloads[at]);
    }
}

#[test]
fn a_sealed_client_is_served_like_a_plain_one() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = sealed_pair(&server);
    assert!(connection.is_sealed());
    let (receiver, sender) =
        (connection.receiver(channel(1)).unwrap(), connection.sender(channel(2)).unwrap());
    for size in [0, 1, 100, 65_536, 300_000] {
        let message = vec![size as u8; size];
        peer.send_message(1, &message).unwrap();
        assert_eq!(take(&receiver), message);
        sender.send(&message[..]).unwrap();
        assert_eq!(peer.expect_message(2), message);
    }
    connection.detach();
    peer.answer_close();
    let (plain, connection) = server.pair(server.client());
    assert!(!connection.is_sealed());
    drop(plain);
}

/// "each record … (17 to 65,535)": the smallest and the largest are taken, and records need not coincide with
/// frames.
#[test]
fn records_of_any_legal_length_are_taken() {
    let server = Server::echo(|config| config);
    for most in [1, 2, 3, 15, 16, 17, 1000, LARGEST_RECORD - 16] {
        let mut peer = sealed_client(&server).finish().unwrap();
        peer.seal.as_mut().unwrap().most = most;
        let message = vec![most as u8; if most < 15 { 500 } else { 200_000 }];
        peer.send_message(1, &message).unwrap();
        assert_eq!(peer.expect_message(1), message);
    }
}

/// Many tiny records cost a pass all that it may do for one peer; the socket, which holds no more, does not
/// tell of the rest again.
#[test]
fn more_records_than_a_pass_handles_are_all_handled() {
    // Without a clock, which would look at the socket too.
    let server = Server::start(|config| config.no_heartbeat().resume_grace(Duration::ZERO));
    let (mut peer, _connection) = sealed_pair(&server);
    let grant = credit(1, 1);
    peer.seal.as_mut().unwrap().most = grant.len();
    for round in 0..2 {
        // Each is a record of its own, and all of them fit into one read.
        let mut bytes = grant.repeat(10_500);
        bytes.extend(ping(round));
        peer.send_bytes(&bytes).unwrap();
        peer.expect_pong(round);
    }
}

/// "A record that … has an impossible length … is dropped like a lost socket, and the session goes on over the
/// next one." The peer that sent it hears nothing more.
#[test]
fn an_impossible_length_loses_the_socket_and_not_the_session() {
    let server = Server::start(|config| config);
    for length in [0_u16, 1, 15, 16] {
        let (mut peer, connection) = sealed_pair(&server);
        let events = connection.events();
        let receiver = connection.receiver(channel(1)).unwrap();
        peer.send_message(1, b"before").unwrap();
        assert_eq!(take(&receiver), b"before");
        // Without a byte of the record itself: it is not waited for.
        peer.stream.write_all(&length.to_be_bytes()).unwrap();
        assert_eq!(events.recv_timeout(PATIENCE), Ok(Event::Suspended { cause: ConnectionError::Tampered }));
        assert_eq!(connection.stats().tampered, 1);
        peer.resume_sealed(server.addr).unwrap();
        peer.send_message(1, b"after").unwrap();
        assert_eq!(take(&receiver), b"after");
        connection.abandon();
    }
}

/// "A record that fails to open" likewise: wherever a bit is flipped, nothing of that record is delivered, and
/// nothing is lost.
#[test]
fn a_record_with_a_flipped_bit_loses_the_socket_and_not_the_session() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = sealed_pair(&server);
    let events = connection.events();
    let receiver = connection.receiver(channel(1)).unwrap();
    let frame = data(1, false, b"numbered");
    // The lowest bits of the length make it shorter or longer; the others would only be waited for.
    let bits = (8..16).chain((16..(2 + frame.len() + 16) * 8).step_by(5));
    let mut tampered = 0;
    for bit in bits {
        let mut record = peer.seal.as_mut().unwrap().record(&frame);
        record[bit / 8] ^= 1 << (bit % 8);
        // A length that has become longer needs bytes of its own.
        record.extend([0; 256]);
        let _ = peer.stream.write_all(&record);
        peer.enter_sent(&frame);
        assert_eq!(
            events.recv_timeout(PATIENCE),
            Ok(Event::Suspended { cause: ConnectionError::Tampered }),
            "bit {bit}"
        );
        tampered += 1;
        assert_eq!(connection.stats().tampered, tampered);
        peer.resume_sealed(server.addr).unwrap();
        assert_eq!(take(&receiver), b"numbered");
        assert!(matches!(events.recv_timeout(PATIENCE), Ok(Event::Resumed { .. })));
    }
    assert!(receiver.try_recv().is_err(), "nothing came twice");
    connection.abandon();
}

/// "The end of the socket without CLOSE is a lost socket, so truncation is noticed": at every byte of a record.
#[test]
fn truncation_is_a_lost_socket_wherever_it_is() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = sealed_pair(&server);
    let events = connection.events();
    let receiver = connection.receiver(channel(1)).unwrap();
    let frame = data(1, false, b"whole");
    for cut in 0..2 + frame.len() + 16 {
        let record = peer.seal.as_mut().unwrap().record(&frame);
        peer.stream.write_all(&record[..cut]).unwrap();
        peer.enter_sent(&frame);
        peer.stream.shutdown(Shutdown::Write).unwrap();
        let event = events.recv_timeout(PATIENCE);
        assert!(matches!(event, Ok(Event::Suspended { cause: ConnectionError::Lost { .. } })), "{event:?}");
        peer.resume_sealed(server.addr).unwrap();
        assert_eq!(take(&receiver), b"whole");
        assert!(matches!(events.recv_timeout(PATIENCE), Ok(Event::Resumed { .. })));
    }
    connection.abandon();
}

/// "Before record 65,536·k of a direction (k ≥ 1, its first record is number 0) both sides rekey".
#[test]
fn a_direction_changes_its_key_at_its_record() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = sealed_pair(&server);
    let receiver = connection.receiver(channel(1)).unwrap();
    let seal = peer.seal.as_mut().unwrap();
    // Record 0 was the handshake's; with a byte each, the message below is across the border.
    seal.most = 1;
    let mut count = 0;
    while peer.seal.as_ref().unwrap().sends.next + 100 < RECORDS_OF_A_KEY {
        peer.send_data(1, false, &[]);
        count += 1;
        if count % 100 == 0 {
            for _ in 0..100 {
                assert_eq!(take(&receiver), b"");
            }
            // Credit and ACKs.
            peer.expect_alive();
        }
    }
    assert!(peer.seal.as_ref().unwrap().sends.next < RECORDS_OF_A_KEY);
    peer.send_message(1, &[7; 300]).unwrap();
    assert!(peer.seal.as_ref().unwrap().sends.next > RECORDS_OF_A_KEY + 100);
    let last = std::iter::from_fn(|| Some(take(&receiver))).find(|message| !message.is_empty());
    assert_eq!(last.unwrap(), [7; 300]);
    // And back: the other direction has its own count.
    assert!(peer.seal.as_ref().unwrap().receives.next < RECORDS_OF_A_KEY);
    connection.sender(channel(2)).unwrap().send("back").unwrap();
    assert_eq!(peer.expect_message(2), b"back");
    connection.abandon();
}

/// Whatever bit of the hello or of the first record is changed on the way: no connection comes of it.
#[test]
fn a_bit_flipped_in_what_a_client_says_first_ends_the_handshake() {
    let server = Server::echo(|config| config.handshake_timeout(Duration::from_millis(200)));
    for bit in 0..SEALED_HELLO * 8 {
        let mut client = sealed_client(&server);
        client.flip_hello = Some((bit / 8, 1 << (bit % 8)));
        client.plain.deadline = Instant::now() + PATIENCE;
        assert!(client.shake().is_err(), "bit {bit} of the hello");
    }
    for bit in 0..(2 + CLIENT_PROOF_HEAD + 16) * 8 {
        let mut client = sealed_client(&server);
        client.flip_proof = Some((bit / 8, 1 << (bit % 8)));
        let result = client.shake();
        assert!(result.as_ref().is_err_and(WireError::is_end), "bit {bit} of the first record: {result:?}");
    }
    server.assert_serving();
}

/// The same on the other side, where the client does not take the changed answer for the server's.
#[test]
fn a_bit_flipped_in_what_a_server_says_first_ends_the_handshake() {
    let sealed = |config: Config| config.sealing(Sealing::Always).handshake_timeout(Duration::from_secs(2));
    for bit in (0..SEALED_REPLY * 8).step_by(3).chain(40..64) {
        let (result, ()) = RawServer::meet_once(sealed, |mut handshake| {
            handshake.flip_hello = Some((bit / 8, 1 << (bit % 8)));
            let _ = handshake.hear();
        });
        let error = handshake_error(result);
        assert!(
            !matches!(error, HandshakeError::SessionUnknown | HandshakeError::SessionExpired),
            "{error:?}"
        );
    }
    for bit in (0..(2 + ACCEPT_HEAD + 16) * 8).step_by(3) {
        let (result, ()) = RawServer::meet_once(sealed, |mut handshake| {
            let proof = handshake.hear().unwrap();
            handshake.settle_grace(&proof);
            handshake.flip_accept = Some((bit / 8, 1 << (bit % 8)));
            handshake.send_accept().unwrap();
        });
        let error = handshake_error(result);
        assert!(
            matches!(error, HandshakeError::BadProof | HandshakeError::Malformed),
            "bit {bit}: {error:?}"
        );
    }
}

/// "a client that wants a sealed connection … accepts nothing else": neither a plain answer nor a refusal that
/// names a way around.
#[test]
fn a_sealed_client_is_never_talked_down() {
    let (result, ()) = RawServer::meet_once(
        |config| config.sealing(Sealing::Always),
        |mut handshake| {
            let Hello::Sealed(hello) = handshake.read_any_hello().unwrap() else { panic!("it is plain") };
            assert_eq!(hello.flags, 1);
            // As an attacker would who has the key of nothing.
            let mut plain = handshake.hello.encode();
            plain[6..8].copy_from_slice(&[0, 0]);
            let _ = handshake.stream.write_all(&plain);
        },
    );
    assert!(matches!(handshake_error(result), HandshakeError::Malformed | HandshakeError::BadProof));
    for (status, expected) in [
        (status::ONLY_PLAIN, HandshakeError::PlainOnly),
        (status::NOT_AUTHORISED, HandshakeError::NotAuthorised),
        (status::NO_COMMON_VERSION, HandshakeError::NoCommonVersion { client: 1, server: 1 }),
    ] {
        let server = RawServer::start();
        let (result, again) = server.meet(
            |config| config.sealing(Sealing::Always),
            |mut handshake| {
                let Hello::Sealed(_) = handshake.read_any_hello().unwrap() else { panic!("it is plain") };
                handshake.refuse_sealed(status).unwrap();
                ServerHandshake::accept_within(&server.listener, &server.key, Duration::from_millis(200))
            },
        );
        assert_eq!(handshake_error(result), expected);
        assert!(again.is_none(), "it does not try again another way");
    }
}

/// "a server that does not allow plain connections answers ClientHello with status 7; one that cannot seal
/// answers SealedHello with status 8."
#[test]
fn a_kind_that_is_not_taken_is_told_so_and_nothing_else() {
    let sealed_only = Server::echo(|config| config.sealing(Sealing::Always));
    let mut client = sealed_only.client();
    client.send_hello().unwrap();
    match client.read_server_hello() {
        Err(WireError::RefusedByHello(hello)) => assert_eq!(hello.status, status::ONLY_SEALED),
        other => panic!("{other:?}"),
    }
    sealed_client(&sealed_only).finish().unwrap().expect_alive();

    let plain_only = Server::echo(|config| config.sealing(Sealing::Never));
    match sealed_client(&plain_only).shake() {
        Err(WireError::Refused(status::ONLY_PLAIN)) => {}
        other => panic!("{other:?}"),
    }
    plain_only.assert_serving();

    // And the library's clients.
    let connect = |server: &Server, sealing| {
        Connection::connect(server.addr, Config::new(Key::from(server.key)).sealing(sealing))
    };
    assert_eq!(handshake_error(connect(&sealed_only, Sealing::Never)), HandshakeError::SealedOnly);
    assert_eq!(handshake_error(connect(&plain_only, Sealing::Auto)), HandshakeError::PlainOnly);
    assert_eq!(handshake_error(connect(&plain_only, Sealing::Always)), HandshakeError::PlainOnly);
    assert!(connect(&sealed_only, Sealing::Auto).unwrap().is_sealed());
    assert!(!connect(&plain_only, Sealing::Never).unwrap().is_sealed());
}

/// By default a client seals every TCP connection, loopback too; a listener on loopback takes both kinds.
#[test]
fn by_default_what_goes_over_tcp_is_sealed() {
    let key = Key::generate();
    let config = || Config::new(key.clone());
    let listener = Listener::bind(free_address(), config()).unwrap();
    let client = Connection::connect(listener.local_addr(), config()).unwrap();
    assert!(client.is_sealed() && listener.accept().unwrap().is_sealed());
    let lazy = Connection::connect_lazily(listener.local_addr(), config()).unwrap();
    lazy.sender(channel(1)).unwrap().send("x").unwrap();
    assert!(listener.accept_timeout(PATIENCE).unwrap().is_sealed());
    let stream = std::net::TcpStream::connect(listener.local_addr()).unwrap();
    let over = Connection::from_stream(stream, config()).unwrap();
    assert!(over.is_sealed() && listener.accept_timeout(PATIENCE).unwrap().is_sealed());
    let plain = Connection::connect(listener.local_addr(), config().sealing(Sealing::Never)).unwrap();
    assert!(!plain.is_sealed() && !listener.accept_timeout(PATIENCE).unwrap().is_sealed());
    let (here, there) = Connection::pair(config()).unwrap();
    assert!(!here.is_sealed() && !there.is_sealed());
    // Elsewhere only sealed ones, without a word.
    let reached = Listener::bind("0.0.0.0:0", config()).unwrap();
    let address = ("127.0.0.1", reached.local_addr().port());
    assert!(Connection::connect(address, config()).unwrap().is_sealed());
    let plain = Connection::connect(address, config().sealing(Sealing::Never));
    assert_eq!(handshake_error(plain), HandshakeError::SealedOnly);
}

/// "A session belongs to the key that opened it, to its kind (plain or sealed) and to its listener; any other
/// hears status 4", and its owner is not disturbed.
#[test]
fn a_session_is_its_owners_and_nobody_elses() {
    let other_key: RawKey = random();
    let with_both = |config: Config| config.with_key(Key::from(other_key), Access::full());
    let server = Server::start(with_both);
    let elsewhere = Server::with_config(server.key, config(&server.key));
    let (mut plain, plain_end) = server.pair(server.client());
    let (mut sealed, sealed_end) = sealed_pair(&server);
    for (peer, end, is_sealed) in [(&mut plain, plain_end, false), (&mut sealed, sealed_end, true)] {
        let asks = |addr, key: &RawKey, as_sealed: bool, peer: &RawPeer| {
            let handshake = ClientHandshake::new(addr, key)
                .window(peer.window)
                .max_message(peer.max_message)
                .grace(peer.grace)
                .session(peer.session(), peer.heard(), peer.attempt + 1);
            let told = match as_sealed {
                true => SealedClient::from_plain(handshake).shake(),
                false => ClientHandshake::shake(&mut { handshake }),
            };
            told.expect_err("it is another's").refusal()
        };
        for (addr, key, as_sealed) in [
            (server.addr, &server.key, !is_sealed),
            (server.addr, &other_key, is_sealed),
            (server.addr, &other_key, !is_sealed),
            (elsewhere.addr, &server.key, is_sealed),
        ] {
            assert_eq!(asks(addr, key, as_sealed, peer), Some(status::SESSION_UNKNOWN));
        }
        let receiver = end.receiver(channel(1)).unwrap();
        peer.send_message(1, b"undisturbed").unwrap();
        assert_eq!(take(&receiver), b"undisturbed");
        assert!(!end.is_suspended());
        end.abandon();
    }
}

/// "An attempt whose number is not above the highest that the server has accepted" is refused, sealed too.
#[test]
fn a_late_attempt_on_a_sealed_socket_is_out_of_range() {
    let server = Server::start(|config| config);
    let (mut peer, end) = sealed_pair(&server);
    peer.resume_sealed(server.addr).unwrap();
    let mut late = SealedClient::from_plain(peer.come_back(server.addr));
    late.plain.proof.attempt = 1;
    assert_eq!(late.shake().unwrap_err().refusal(), Some(status::OUT_OF_RANGE));
    peer.expect_alive();
    end.abandon();
}

/// A whole connection that was recorded is said again: the hello is answered, since its tag is right, and what
/// follows comes to nothing.
#[test]
fn a_recorded_connection_opens_nothing_when_it_is_repeated() {
    let server = Server::start(|config| config);
    let mut client = sealed_client(&server);
    let accept = client.shake().unwrap();
    let (hello, proof) = (client.hello_bytes, client.proof_bytes.clone());
    let mut peer = client.into_peer(accept);
    let end = server.accepted();
    let receiver = end.receiver(channel(1)).unwrap();
    let frame = data(1, false, b"once");
    let record = peer.seal.as_mut().unwrap().record(&frame);
    peer.stream.write_all(&record).unwrap();
    peer.enter_sent(&frame);
    assert_eq!(take(&receiver), b"once");
    for _ in 0..20 {
        let mut replay = dial(server.addr);
        replay.write_all(&hello).unwrap();
        let mut reply = [0; SEALED_REPLY];
        read_exact_by(&mut replay, &mut reply, Instant::now() + PATIENCE).unwrap();
        assert_eq!(reply[5], status::OK);
        let _ = replay.write_all(&[&proof[..], &record[..]].concat());
        let more = read_to_end_by(&mut replay, Instant::now() + PATIENCE).unwrap();
        assert!(more.is_empty(), "{more:?}");
    }
    assert!(receiver.try_recv().is_err());
    peer.send_message(1, b"undisturbed").unwrap();
    assert_eq!(take(&receiver), b"undisturbed");
    end.abandon();
}

/// What a stranger says is refused before anything costs: the listener tells why.
#[test]
fn a_listener_tells_which_sealed_strangers_it_turned_away() {
    let key: RawKey = random();
    let listener = Listener::bind(free_address(), Config::new(Key::from(key))).unwrap();
    let events = listener.events();
    let told = || match events.recv_timeout(PATIENCE) {
        Ok(ListenerEvent::TurnedAway { error, .. }) => error,
        other => panic!("{other:?}"),
    };
    let mut forged = dial(listener.local_addr());
    forged.write_all(&SealedHello::forged(&key).encode()).unwrap();
    assert_eq!(told(), HandshakeError::NotAuthorised);
    let mut client = SealedClient::new(listener.local_addr(), &key);
    client.flip_proof = Some((5, 1));
    assert!(client.shake().is_err());
    assert_eq!(told(), HandshakeError::BadProof);
    // One that goes on before it was answered.
    let client = SealedClient::new(listener.local_addr(), &key);
    let mut stream = client.plain.stream;
    stream.write_all(&[&client.hello_bytes[..], &[0; 10]].concat()).unwrap();
    assert_eq!(told(), HandshakeError::Malformed);
}

/// "On a sealed socket only a record that opened counts as life …; a record that is not complete when the
/// heartbeat timeout is over ends the socket."
#[test]
fn bytes_that_trickle_are_no_sign_of_life() {
    let times = (Duration::from_millis(100), Duration::from_millis(300));
    let server = Server::start(|config| config.heartbeat(times.0, times.1));
    let (mut peer, connection) = sealed_pair(&server);
    peer.auto_pong = false;
    let events = connection.events();
    // A record that is announced and comes byte by byte, for longer than any heartbeat.
    peer.stream.write_all(&1000_u16.to_be_bytes()).unwrap();
    let begun = Instant::now();
    let event = loop {
        let _ = peer.stream.write_all(&[7]);
        match events.recv_timeout(Duration::from_millis(20)) {
            Ok(event) => break event,
            Err(_) => assert!(begun.elapsed() < PATIENCE, "it lives"),
        }
    };
    assert!(matches!(event, Event::Suspended { cause: ConnectionError::HeartbeatLost(_) }), "{event:?}");
    peer.resume_sealed(server.addr).unwrap();
    peer.auto_pong = true;
    peer.expect_alive();
    connection.abandon();
}

/// Nor is a socket that takes bytes again after it was full: whatever stands between can do that.
#[test]
fn a_socket_that_drains_is_no_sign_of_life() {
    let times = (Duration::from_millis(100), Duration::from_millis(300));
    let server = Server::start(|config| config.heartbeat(times.0, times.1));
    let mut client = sealed_client(&server);
    client.plain = client.plain.window(1 << 30).silent();
    let peer = client.finish().unwrap();
    // Something has come from it, so that it is accepted.
    let mut peer = peer;
    peer.acknowledge();
    let connection = server.accepted();
    let (events, sender) = (connection.events(), connection.sender(channel(1)).unwrap());
    let flood = std::thread::spawn(move || while sender.send([7; 60_000]).is_ok() {});
    let begun = Instant::now();
    let event = loop {
        // Slowly enough that it is full again and again, for some seconds.
        let mut some = [0; 50_000];
        let _ = std::io::Read::read(&mut peer.stream, &mut some);
        match events.recv_timeout(Duration::from_millis(40)) {
            Ok(event) => break event,
            Err(_) => assert!(begun.elapsed() < PATIENCE, "it lives"),
        }
    };
    assert!(matches!(event, Event::Suspended { cause: ConnectionError::HeartbeatLost(_) }), "{event:?}");
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    connection.abandon();
    flood.join().unwrap();
}

/// "When a key is removed its sessions end", sealed ones too, with a socket and without.
#[test]
fn removing_a_key_ends_its_sealed_sessions() {
    let key = Key::generate();
    let listener = Listener::bind(
        free_address(),
        Config::new(Key::generate()).with_key(key.clone(), Access::full().named("leaving")),
    )
    .unwrap();
    let client = Connection::connect(listener.local_addr(), Config::new(key.clone())).unwrap();
    let server = listener.accept_timeout(PATIENCE).unwrap();
    let sessions = listener.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].access.name(), Some("leaving"));
    assert!(sessions[0].sealed && !sessions[0].suspended);
    assert_eq!(sessions[0].peer_addr, client.local_addr());
    listener.remove_key(&key);
    eventually("the client hears of it", || client.close_reason().is_some());
    match client.close_reason().unwrap() {
        ConnectionError::ClosedByPeer { code, .. } => assert_eq!(code, trunkline::CloseCode::NOT_PERMITTED),
        other => panic!("{other:?}"),
    }
    eventually("the session is gone", || listener.sessions().is_empty());
    drop(server);
    assert_eq!(
        handshake_error(Connection::connect(listener.local_addr(), Config::new(key))),
        HandshakeError::NotAuthorised
    );
}

/// Two keys at once, so that clients move from the one to the other while both are served.
#[test]
fn a_key_is_replaced_while_its_clients_work() {
    let (old, new) = (Key::generate(), Key::generate());
    let listener = Listener::bind(free_address(), Config::new(old.clone())).unwrap();
    let connect = |key: &Key| Connection::connect(listener.local_addr(), Config::new(key.clone()));
    let before = connect(&old).unwrap();
    listener.add_key(new.clone(), Access::full());
    let after = connect(&new).unwrap();
    assert!(before.close_reason().is_none());
    listener.remove_key(&old);
    eventually("the old key's client is told", || before.close_reason().is_some());
    assert!(after.close_reason().is_none() && connect(&new).is_ok());
    match connect(&old) {
        Err(ConnectError::Handshake(HandshakeError::NotAuthorised)) => {}
        other => panic!("{other:?}"),
    }
}

/// The library's sealed client comes back to a raw server, as a plain one does: the frame stream goes on at
/// exactly its offset, with new keys.
#[test]
fn the_librarys_sealed_client_resumes() {
    let server = RawServer::start();
    let (connection, mut peer) = server.pair(|config| config.sealing(Sealing::Always), |_| ());
    assert!(peer.seal.is_some());
    let sender = connection.sender(channel(1)).unwrap();
    for round in 0..5_u8 {
        sender.send([round; 1000]).unwrap();
        assert_eq!(peer.expect_message(1), [round; 1000]);
        peer.cut();
        peer.serve_again(&server.listener).unwrap();
    }
    sender.send("done").unwrap();
    assert_eq!(peer.expect_message(1), b"done");
    connection.abandon();
}

/// Its close is confirmed over whichever socket; what a socket's end loses is said again.
#[test]
fn a_sealed_close_whose_socket_is_lost_is_confirmed_over_the_next_one() {
    let server = Server::start(|config| config.linger(PATIENCE));
    let (mut peer, connection) = sealed_pair(&server);
    peer.expect_alive();
    peer.try_send_bytes(&close(code::NORMAL, b""));
    eventually("the library has it", || connection.close_reason().is_some());
    peer.cut();
    peer.resume_sealed(server.addr).unwrap();
    peer.answer_close();
}
