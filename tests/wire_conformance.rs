//! The library against an independent peer.
//!
//! `support::wire` was written from the protocol page alone and never from the library's sources.
//! Where these tests and the library disagree, one of them has a bug; where the page leaves room,
//! the test is named `ambiguous_…` and takes every reading of the page, but nothing worse.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use support::wire::*;
use trunkline::{
    Access, ChannelId, ChannelSet, CloseCode, Config, ConnectError, Connection, ConnectionError,
    HandshakeError, IoThread, Key, Listener, Receiver, RecvError, RecvTimeoutError, Sender,
};

// ---------------------------------------------------------------------------
// The library's side

/// How long the library's end waits for a raw peer that no longer answers, where that is not what
/// the test is about.
const BRIEF: Duration = Duration::from_millis(50);

/// Channels that an echo server echoes; the others it leaves alone.
const ECHOED: [u8; 2] = [1, 2];

/// Taken shared by every test and alone by those that measure the process's memory.
static QUIET: RwLock<()> = RwLock::new(());

#[allow(dead_code, reason = "held, not read")]
enum Quiet {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

fn shared() -> Quiet {
    Quiet::Shared(QUIET.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

fn alone() -> Quiet {
    Quiet::Alone(QUIET.write().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

struct Server {
    addr: SocketAddr,
    key: RawKey,
    accepted: mpsc::Receiver<Connection>,
    _quiet: Quiet,
}

impl Server {
    /// Accepts, and leaves the connections to the test.
    fn start(tune: impl FnOnce(Config) -> Config) -> Self {
        let key = random();
        Self::with_config(key, tune(Config::new(Key::from(key)).linger(BRIEF)), shared())
    }

    fn with_config(key: RawKey, config: Config, quiet: Quiet) -> Self {
        let listener = Listener::bind("127.0.0.1:0", config).expect("bind");
        let addr = listener.local_addr();
        let (sender, accepted) = mpsc::channel();
        // The thread ends with the process: nothing says that dropping a handle stops `accept`.
        thread::spawn(move || {
            while let Ok(connection) = listener.accept() {
                if sender.send(connection).is_err() {
                    break;
                }
            }
        });
        Self { addr, key, accepted, _quiet: quiet }
    }

    /// Echoes on [`ECHOED`].
    fn echo(tune: impl FnOnce(Config) -> Config) -> Self {
        Self::start(tune).echoing()
    }

    fn echoing(mut self) -> Self {
        let (_, nothing) = mpsc::channel();
        let accepted = std::mem::replace(&mut self.accepted, nothing);
        thread::spawn(move || {
            for connection in accepted {
                for channel in ECHOED {
                    let connection = connection.clone();
                    thread::spawn(move || echo(&connection, channel));
                }
            }
        });
        self
    }

    fn client(&self) -> ClientHandshake {
        ClientHandshake::new(self.addr, &self.key)
    }

    fn connect(&self) -> RawPeer {
        RawPeer::connect(self.addr, &self.key)
    }

    /// The library's end of the oldest connection that the test has not taken yet.
    fn accepted(&self) -> Connection {
        self.accepted.recv_timeout(PATIENCE).expect("accept returns the connection")
    }

    /// A raw peer and the library's end of the same connection.
    fn pair(&self, client: ClientHandshake) -> (RawPeer, Connection) {
        let peer = client.finish().expect("the handshake succeeds");
        (peer, self.accepted())
    }

    /// For an echo server: a new client gets its service.
    #[track_caller]
    fn assert_serving(&self) {
        let mut peer = self.connect();
        peer.send_message(1, b"still there?").expect("sends");
        assert_eq!(peer.expect_message(1), b"still there?");
    }
}

fn channel(number: u8) -> ChannelId {
    ChannelId::try_from(number).expect("a channel")
}

fn echo(connection: &Connection, number: u8) {
    let Ok(receiver) = connection.receiver(channel(number)) else { return };
    let mut sender: Option<Sender> = None;
    let mut stopped = false;
    loop {
        let event = receiver.recv();
        if let Err(RecvError::ConnectionLost(_)) = event {
            return;
        }
        if sender.is_none() && !stopped {
            match connection.sender(channel(number)) {
                Ok(new) => sender = Some(new),
                Err(_) => return,
            }
        }
        match event {
            Ok(message) => {
                if sender.as_ref().is_some_and(|sender| sender.send(&message[..]).is_err()) {
                    // Stopped: nothing more until the next run.
                    sender = None;
                    stopped = true;
                }
            }
            Err(RecvError::Finished) => {
                if sender.take().is_some_and(|sender| sender.finish().is_err()) {
                    return;
                }
                stopped = false;
            }
            Err(RecvError::Reset { code, .. }) => {
                if sender.take().is_some_and(|sender| sender.reset(code).is_err()) {
                    return;
                }
                stopped = false;
            }
            Err(RecvError::ConnectionLost(_)) => return,
        }
    }
}

#[track_caller]
fn take(receiver: &Receiver) -> Vec<u8> {
    receiver.recv_timeout(PATIENCE).expect("a message").to_vec()
}

#[track_caller]
fn take_end(receiver: &Receiver) -> RecvError {
    match receiver.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Disconnected(end)) => end,
        other => panic!("wanted the end of the run, got {:?}", other.map(|message| message.to_vec())),
    }
}

// ---------------------------------------------------------------------------
// The raw halves themselves

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

    let mut proof =
        ClientProof { session: [0; 16], offset: 0, window: 0x10000, max_message: 0x10_0000, proof: [0; 32] };
    proof.proof = mac(&key, &[b"trunkline/1 client", &client_hello, &server_hello, &proof.encode()[..32]]);
    assert_eq!(hex(&proof.proof), "ff781050710654fe860021cd28ab7095eb39029c98d0e8ba9e23ac9e3a9382d2");
    let proof = proof.encode();

    let accept = Accept {
        status: 0,
        rights: 1,
        zero: 0,
        session: [0xCC; 16],
        offset: 0,
        window: 0x20000,
        max_message: 0x20_0000,
        may_send: 0b1011,
        may_receive: 1 << 127,
        mac: [0; 32],
    };
    assert_eq!(
        hex(&mac(
            &key,
            &[b"trunkline/1 accept", &client_hello, &server_hello, &proof, &accept.encode()[..68]]
        )),
        "9037fbe2a375c8243e4e570c2e9f22035b61d291e5d39b18df54f45bc788f0fb"
    );
    assert_eq!(Accept::decode(&accept.encode()), accept);
    assert_eq!(ClientProof::decode(&proof).encode(), proof);
    assert_eq!(ServerHello::decode(&server_hello).encode(), server_hello);
    assert_eq!(ClientHello::decode(&client_hello).encode(), client_hello);
    assert_eq!(data(5, true, b"abc"), [0x05, 0x80, 0, 3, b'a', b'b', b'c']);
    assert_eq!(credit(127, 0x0102_0304), [0xFF, 0, 0, 5, 1, 1, 2, 3, 4]);
    assert_eq!(close(258, b"no"), [0x80, 0, 0, 5, 0x0A, 1, 2, b'n', b'o']);
    assert_eq!(gap(3, 1, 2), [0x83, 0, 0, 17, 0x0B, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
}

// ---------------------------------------------------------------------------
// Section 1: handshake

#[test]
fn accept_tells_every_field() {
    let key = random();
    let access = Access::full()
        .send([channel(0), channel(3), channel(127)].into_iter().collect::<ChannelSet>())
        .receive([channel(1), channel(64)].into_iter().collect::<ChannelSet>())
        .interrupt(false);
    let config = Config::with_access(Key::from(key), access).window(70_001).max_message(5_000_003);
    let server = Server::with_config(key, config, shared());
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

#[test]
fn each_key_has_its_own_rights() {
    let (key, other) = (random(), random());
    let config = Config::new(Key::from(key)).with_key(Key::from(other), Access::read_only());
    let server = Server::with_config(key, config, shared());
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
    for (low, high) in [(0, 0), (2, 2), (2, 255), (255, 255)] {
        let mut client = server.client();
        (client.hello.low, client.hello.high) = (low, high);
        client.send_hello().unwrap();
        assert_refused_by_hello(&mut client, status::NO_COMMON_VERSION);
    }
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
        client.send_hello().unwrap();
        client.read_server_hello().unwrap();
        client.send_proof().unwrap();
        assert_refused_by_accept(&mut client, status::NOT_AUTHORISED);
    }
    server.assert_serving();
}

#[test]
fn a_hello_changed_on_the_way_gives_no_connection() {
    let server = Server::echo(|config| config);
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
fn a_session_id_that_is_not_zero_is_unknown() {
    let server = Server::echo(|config| config);
    let mut ended = [0; 16];
    let mut closed = server.connect();
    ended.copy_from_slice(&closed.accept.session);
    closed.send_bytes(&close(0, b"")).unwrap();
    closed.expect_end();
    for session in [random(), ended, {
        let mut one = [0; 16];
        one[15] = 1;
        one
    }] {
        for offset in [0, 7, u64::MAX] {
            let mut client = server.client();
            client.proof.session = session;
            client.proof.offset = offset;
            client.send_hello().unwrap();
            client.read_server_hello().unwrap();
            client.send_proof().unwrap();
            assert_refused_by_accept(&mut client, status::SESSION_UNKNOWN);
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

#[track_caller]
fn assert_refused_by_hello(client: &mut ClientHandshake, status: u8) {
    match client.read_server_hello() {
        Err(WireError::RefusedByHello(hello)) if hello.status == status => {}
        other => panic!("wanted ServerHello with status {status}, got {other:?}"),
    }
    assert_nothing_more(&mut client.stream);
}

/// Refused, with a right MAC, and closed.
#[track_caller]
fn assert_refused_by_accept(client: &mut ClientHandshake, status: u8) {
    match client.read_accept() {
        Err(WireError::RefusedByAccept(accept)) if accept.status == status => {}
        other => panic!("wanted Accept with status {status}, got {other:?}"),
    }
    assert_nothing_more(&mut client.stream);
}

#[track_caller]
fn assert_nothing_more(stream: &mut TcpStream) {
    assert_eq!(read_to_end_by(stream, Instant::now() + PATIENCE).expect("the server closes"), b"");
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
    for with_hello in [false, true] {
        let begun = Instant::now();
        let mut client = server.client();
        let trickle = if with_hello {
            client.send_hello().unwrap();
            client.read_server_hello().unwrap();
            client.make_proof().to_vec()
        } else {
            client.make_hello().to_vec()
        };
        // 100 ms a byte: alone each would be in time, together they take longer than PATIENCE.
        let mut cut_off = None;
        for byte in &trickle[..trickle.len() - 1] {
            let sent = client.stream.write_all(&[*byte]);
            let mut unexpected = [0; 1];
            let read = read_exact_by(
                &mut client.stream,
                &mut unexpected,
                Instant::now() + Duration::from_millis(100),
            );
            match read {
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
    let server = Server::echo(|config| config.handshake_timeout(Duration::from_secs(60)));
    let mut silent = Vec::new();
    for n in 0..20 {
        let mut client = server.client();
        match n % 4 {
            0 => {}
            1 => {
                let hello = client.make_hello();
                client.stream.write_all(&hello[..47]).unwrap();
            }
            2 => client.send_hello().unwrap(),
            _ => {
                client.send_hello().unwrap();
                client.read_server_hello().unwrap();
                let proof = client.make_proof();
                client.stream.write_all(&proof[..63]).unwrap();
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
    last.stream.write_all(&proof[63..]).unwrap();
    let accept = last.read_accept().expect("the slow one may still finish");
    last.into_peer(accept).expect_alive();
}

#[test]
fn more_connections_than_allowed_are_told_that_it_is_too_busy() {
    let server = Server::echo(|config| config.max_connections(2));
    let mut kept = [server.connect(), server.connect()];
    for _ in 0..3 {
        match server.client().finish() {
            Err(WireError::RefusedByHello(hello)) => assert_eq!(hello.status, status::TOO_BUSY),
            Err(WireError::RefusedByAccept(accept)) => assert_eq!(accept.status, status::TOO_BUSY),
            other => panic!("wanted status 3, got {:?}", other.map(|_| "a connection")),
        }
    }
    for peer in &mut kept {
        peer.expect_alive();
    }
    // A place that becomes free is given away again.
    let [mut first, _second] = kept;
    first.try_send_bytes(&close(0, b""));
    first.expect_close_in(&[0]);
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
    let mut client = server.client();
    client.send_hello().unwrap();
    client.read_server_hello().unwrap();
    let mut burst = client.make_proof().to_vec();
    burst.extend_from_slice(&data(1, true, b"ear"));
    burst.extend_from_slice(&ping(99));
    burst.extend_from_slice(&data(1, false, b"ly"));
    client.stream.write_all(&burst).unwrap();
    let accept = client.read_accept().unwrap();
    let mut peer = client.into_peer(accept);
    peer.sent = burst.len() as u64 - CLIENT_PROOF as u64;
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

/// The page does not say what becomes of these. The server may go on or refuse; it goes on
/// serving others.
#[test]
fn ambiguous_handshakes_hurt_nobody() {
    let server = Server::echo(|config| config);
    type Edit = fn(&mut ClientHandshake);
    let edits: [(&str, Edit); 8] = [
        ("flags that are not zero", |client| client.hello.flags = 1),
        ("lowest version above highest", |client| (client.hello.low, client.hello.high) = (2, 1)),
        ("an offset in a new session", |client| client.proof.offset = 1),
        ("a window above the most credit", |client| client.proof.window = 1 << 31),
        ("a window of 2^32 - 1", |client| client.proof.window = u32::MAX),
        ("a window of 2^31 - 1", |client| client.proof.window = i32::MAX as u32),
        ("a largest message of 0", |client| client.proof.max_message = 0),
        ("a largest message of 2^32 - 1", |client| client.proof.max_message = u32::MAX),
    ];
    for (what, edit) in edits {
        let mut client = server.client();
        edit(&mut client);
        let outcome = match client.finish() {
            Ok(mut peer) => {
                peer.try_send_bytes(&ping(1));
                format!(
                    "{:?}",
                    peer.wait_for(PATIENCE, |event| matches!(event, Event::Pong(1) | Event::Close(..)))
                )
            }
            Err(error) => {
                assert!(!matches!(error, WireError::Timeout | WireError::Violation(_)), "{what}: {error}");
                error.to_string()
            }
        };
        println!("{what}: {outcome}");
        server.assert_serving();
    }
}

// ---------------------------------------------------------------------------
// Section 2: frames and messages

#[test]
fn messages_of_all_sizes_come_back() {
    let server = Server::echo(|config| config.window(100_000));
    let mut peer = server.connect();
    peer.auto_credit = true;
    let mut noise = Noise(1);
    for len in [0, 1, 2, 31, 32, 33, 1023, 4096, 65_535, 65_536, 65_537, 99_968, 99_969, 300_000] {
        let message = noise.bytes(len);
        peer.send_message(1, &message).unwrap();
        assert_eq!(peer.expect_message(1), message, "{len} bytes");
    }
}

#[test]
fn every_channel_carries_its_own_messages() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let receivers: Vec<_> = (0..128).map(|n| connection.receiver(channel(n)).unwrap()).collect();
    let senders: Vec<_> = (0..128).map(|n| connection.sender(channel(n)).unwrap()).collect();
    for n in (0..128).rev() {
        peer.send_data(n, false, &[n, 1, 2]);
    }
    for n in 0..128 {
        assert_eq!(take(&receivers[usize::from(n)]), [n, 1, 2]);
        senders[usize::from(n)].send(&[n, 3][..]).unwrap();
    }
    for n in 0..128 {
        assert_eq!(peer.expect_message(n), [n, 3]);
    }
}

#[test]
fn fragments_mix_with_frames_of_other_channels() {
    let server = Server::echo(|config| config);
    let mut peer = server.connect();
    let mut noise = Noise(2);
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for round in 0..50 {
        let (a, b) = (noise.below(40), noise.below(40));
        let (a, b) = (noise.bytes(a), noise.bytes(b));
        peer.send_data(1, round < 49, &a);
        peer.send_data(3, false, b"in between, read by nobody");
        peer.send_bytes(&waiting(1, 1)).unwrap();
        peer.send_data(2, round < 49, &b);
        peer.send_bytes(&ack(0)).unwrap();
        peer.send_bytes(&control(1, 0x80 + round, &a)).unwrap();
        peer.send_bytes(&credit(1, 1)).unwrap();
        one.extend_from_slice(&a);
        two.extend_from_slice(&b);
    }
    assert_eq!(peer.expect_message(1), one);
    assert_eq!(peer.expect_message(2), two);
}

#[test]
fn frames_may_come_in_single_bytes() {
    let server = Server::echo(|config| config);
    let mut peer = server.connect();
    let mut stream = Vec::new();
    for frame in
        [data(1, true, b"sl"), ping(7), data(2, false, b""), data(1, true, b""), data(1, false, b"ow")]
    {
        stream.extend_from_slice(&frame);
    }
    for byte in stream {
        peer.send_bytes(&[byte]).unwrap();
    }
    peer.expect_pong(7);
    assert_eq!(peer.expect_message(2), b"");
    assert_eq!(peer.expect_message(1), b"slow");
}

#[test]
fn empty_messages_and_empty_fragments_are_legal() {
    let server = Server::echo(|config| config.window(4096));
    let mut peer = server.connect();
    peer.auto_credit = true;
    for _ in 0..1000 {
        peer.send_message(1, b"").unwrap();
    }
    for _ in 0..1000 {
        assert_eq!(peer.expect_message(1), b"");
    }
    // 100 times the window in fragments that carry nothing.
    for _ in 0..12_800 {
        while peer.send_credit[1] < 32 {
            peer.wait_for(PATIENCE, |event| matches!(event, Event::Credit(1, _)))
                .expect("fragments are credited back");
        }
        peer.send_data(1, true, b"");
    }
    peer.send_message(1, b"end").unwrap();
    assert_eq!(peer.expect_message(1), b"end");
}

#[test]
fn finish_and_reset_end_a_run_and_the_next_one_works() {
    let server = Server::echo(|config| config);
    let mut peer = server.connect();
    for round in 0..5 {
        peer.send_data(1, false, b"before");
        peer.send_data(1, false, &[round]);
        peer.send_bytes(&finish(1)).unwrap();
        assert_eq!(peer.expect_message(1), b"before");
        assert_eq!(peer.expect_message(1), [round]);
        expect_end_of_run(&mut peer, 1, Event::Finish(1));

        peer.send_data(1, false, b"whole");
        assert_eq!(peer.expect_message(1), b"whole");
        peer.send_data(1, true, b"a part that nobody may see");
        peer.send_bytes(&reset(1, 4_000_000_000 + u32::from(round))).unwrap();
        expect_end_of_run(&mut peer, 1, Event::Reset(1, 4_000_000_000 + u32::from(round)));
    }
    // A run without a message.
    peer.send_bytes(&finish(2)).unwrap();
    expect_end_of_run(&mut peer, 2, Event::Finish(2));
    peer.send_data(2, false, b"next");
    assert_eq!(peer.expect_message(2), b"next");
}

#[track_caller]
fn expect_end_of_run(peer: &mut RawPeer, channel: u8, end: Event) {
    let event = peer.wait_for(PATIENCE, |event| match event {
        Event::Message(c, _) | Event::Finish(c) | Event::Reset(c, _) => *c == channel,
        Event::Close(..) => true,
        _ => false,
    });
    assert_eq!(event.expect("the run ends"), end);
}

#[test]
fn whole_messages_before_a_reset_stay_readable_and_a_part_is_dropped() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(5)).unwrap();
    peer.send_data(5, false, b"whole");
    peer.send_data(5, true, b"par");
    peer.send_data(5, true, b"t");
    peer.send_bytes(&reset(5, 42)).unwrap();
    peer.send_data(5, false, b"next run");
    peer.send_bytes(&finish(5)).unwrap();
    peer.send_data(5, false, b"third run");
    assert_eq!(take(&receiver), b"whole");
    assert_eq!(take_end(&receiver), RecvError::Reset { channel: channel(5), code: 42 });
    assert_eq!(take(&receiver), b"next run");
    assert_eq!(take_end(&receiver), RecvError::Finished);
    assert_eq!(take(&receiver), b"third run");
}

#[test]
fn ping_is_answered_with_the_same_number() {
    let server = Server::start(|config| config);
    let mut peer = server.connect();
    for number in [0, 1, u64::MAX, 0x0102_0304_0506_0708] {
        peer.send_bytes(&ping(number)).unwrap();
        peer.expect_pong(number);
    }
}

#[test]
fn extensions_are_ignored_whatever_they_hold() {
    let server = Server::echo(|config| config);
    let mut peer = server.connect();
    let mut noise = Noise(3);
    for opcode in 0x80..=0xFF {
        for len in [0, 1, 4, 8, 16, 257, MAX_CONTROL - 1] {
            let body = noise.bytes(len);
            peer.send_bytes(&control(opcode & 0x7F, opcode, &body)).unwrap();
        }
    }
    peer.expect_alive();
    peer.send_data(1, false, b"after");
    assert_eq!(peer.expect_message(1), b"after");
}

#[test]
fn every_legal_frame_is_accepted() {
    let server = Server::echo(|config| config);
    let mut peer = server.connect();
    let legal = [
        ("WAITING 1", waiting(127, 1)),
        ("WAITING 1 again", waiting(127, 1)),
        ("WAITING 0", waiting(127, 0)),
        ("WAITING 0 on an idle channel", waiting(9, 0)),
        ("ACK 0", ack(0)),
        ("the same ACK again", ack(0)),
        ("a PONG that was not asked for", pong(5)),
        ("GAP", gap(1, 3, 300)),
        ("GAP of the largest numbers", gap(1, u64::MAX, u64::MAX)),
        ("GAP again, whose sum overflows", gap(1, u64::MAX, u64::MAX)),
        ("GAP of nothing", gap(1, 0, 0)),
        ("FINISH on an idle channel", finish(7)),
        ("RESET on an idle channel", reset(8, u32::MAX)),
        ("STOP on an idle channel", stop(9, 0)),
        ("CREDIT", credit(1, 1)),
        ("INTERRUPT of one who may", interrupt()),
        ("an extension without a body", control(0, 0x80, b"")),
    ];
    for (what, frame) in legal {
        peer.send_bytes(&frame).unwrap();
        let number = u64::from_be_bytes(random());
        peer.send_bytes(&ping(number)).unwrap();
        let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Pong(_) | Event::Close(..)));
        assert_eq!(event.expect(what), Event::Pong(number), "{what}");
    }
    peer.send_data(1, false, b"and it works");
    // The echo of GAP is the application's affair; the message comes.
    assert_eq!(peer.expect_message(1), b"and it works");
}

// ---------------------------------------------------------------------------
// Sections 2 and 3: violations

/// Sends `bytes` on a connection of its own; CLOSE with one of `codes` and the end follow.
#[track_caller]
fn assert_violation(server: &Server, what: &str, bytes: &[u8], codes: &[u16]) {
    let mut peer = server.connect();
    // Until here all is well.
    peer.expect_alive();
    peer.try_send_bytes(bytes);
    match peer.read_close() {
        Ok((code, _)) if codes.contains(&code) => {}
        other => panic!("{what}: wanted CLOSE with one of {codes:?} and the end, got {other:?}"),
    }
}

#[test]
fn an_unknown_opcode_is_a_protocol_error() {
    let server = Server::echo(|config| config);
    for opcode in std::iter::once(0).chain(opcode::FIRST_UNKNOWN..opcode::FIRST_EXTENSION) {
        let body = vec![0; usize::from(opcode % 17)];
        assert_violation(
            &server,
            &format!("opcode {opcode:#04x}"),
            &control(0, opcode, &body),
            &[code::PROTOCOL],
        );
    }
    server.assert_serving();
}

#[test]
fn a_body_of_the_wrong_size_is_a_protocol_error() {
    let server = Server::echo(|config| config);
    let right = |opcode: u8, len: usize| match opcode {
        opcode::CREDIT | opcode::RESET | opcode::STOP => len == 4,
        opcode::FINISH | opcode::INTERRUPT => len == 0,
        opcode::PING | opcode::PONG | opcode::ACK => len == 8,
        opcode::WAITING => len == 1,
        opcode::CLOSE => (2..=257).contains(&len),
        opcode::GAP => len == 16,
        _ => unreachable!(),
    };
    for opcode in opcode::CREDIT..=opcode::GAP {
        for len in [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 257, 258, MAX_CONTROL - 1] {
            if !right(opcode, len) {
                let frame = control(0, opcode, &vec![0; len]);
                assert_violation(
                    &server,
                    &format!("opcode {opcode:#04x}, body {len}"),
                    &frame,
                    &[code::PROTOCOL],
                );
            }
        }
    }
    server.assert_serving();
}

#[test]
fn a_reserved_bit_that_is_set_is_a_protocol_error() {
    let server = Server::echo(|config| config);
    // M on a control frame.
    for (opcode, body) in [
        (opcode::PING, &[0; 8][..]),
        (opcode::CREDIT, &[0, 0, 0, 1]),
        (opcode::FINISH, &[]),
        (opcode::CLOSE, &[0, 0]),
        (0x80, &[]),
        (0xFF, &[1, 2, 3]),
    ] {
        let mut frame = word(true, 0, true, 1 + body.len() as u32).to_vec();
        frame.push(opcode);
        frame.extend_from_slice(body);
        assert_violation(&server, &format!("opcode {opcode:#04x} with M"), &frame, &[code::PROTOCOL]);
    }
    // "In the others it is 0": the channel field of PING, PONG, ACK and CLOSE.
    for (what, opcode, body) in [
        ("PING", opcode::PING, &[0; 8][..]),
        ("PONG", opcode::PONG, &[0; 8]),
        ("ACK", opcode::ACK, &[0; 8]),
        ("CLOSE", opcode::CLOSE, &[0; 2]),
        ("INTERRUPT", opcode::INTERRUPT, &[]),
    ] {
        for channel in [1, 64, 127] {
            assert_violation(
                &server,
                &format!("{what} with channel {channel}"),
                &control(channel, opcode, body),
                &[code::PROTOCOL],
            );
        }
    }
    server.assert_serving();
}

/// The word alone condemns these: no byte of the payload is sent, and none may be waited for.
#[test]
fn a_length_out_of_bounds_is_refused_by_the_word_alone() {
    let server = Server::echo(|config| config);
    for len in [65_537, 65_568, 100_000, 1 << 20, 0x7F_FFFF] {
        for more in [false, true] {
            assert_violation(
                &server,
                &format!("data of {len}, M {more}"),
                &word(false, 1, more, len),
                &[code::PROTOCOL],
            );
        }
    }
    for (channel, len) in [(0, 0), (5, 0), (0, 1025), (5, 1025), (0, 65_536), (127, 0x7F_FFFF)] {
        assert_violation(
            &server,
            &format!("control of {len}"),
            &word(true, channel, false, len),
            &[code::PROTOCOL],
        );
    }
    server.assert_serving();
}

#[test]
fn a_bad_close_is_a_protocol_error() {
    let server = Server::echo(|config| config);
    for (what, reason) in [
        ("256 bytes", &[b'a'; 256][..]),
        ("1021 bytes", &[b'a'; 1021]),
        ("a lone continuation byte", b"\x80"),
        ("an overlong slash", b"\xC0\xAF"),
        ("a surrogate", b"\xED\xA0\x80"),
        ("a character cut short", b"abc\xE2\x82"),
        ("above U+10FFFF", b"\xF4\x90\x80\x80"),
    ] {
        assert_violation(&server, what, &close(0, reason), &[code::PROTOCOL]);
    }
    server.assert_serving();
}

#[test]
fn data_without_credit_violates_flow_control() {
    let server = Server::start(|config| config.window(2000));
    // One frame that is larger than the window.
    assert_violation(&server, "one frame", &data(1, false, &[0; 1969]), &[code::FLOW_CONTROL]);
    // Nobody reads, so the window is all there is, to the byte.
    for payload in [0, 1, 68, 468] {
        let mut peer = server.connect();
        while peer.send_credit[1] >= payload + 32 {
            peer.send_data(1, false, &vec![7; payload as usize]);
        }
        if peer.send_credit[1] >= 32 {
            let rest = peer.send_credit[1] as usize - 32;
            peer.send_data(1, false, &vec![7; rest]);
        }
        assert!(peer.send_credit[1] < 32);
        peer.expect_alive();
        peer.send_data(2, false, b"another channel has its own credit");
        peer.expect_alive();
        peer.send_data(1, false, b"");
        peer.expect_close(code::FLOW_CONTROL);
    }
}

/// The peer may be done writing when it is told what it did.
#[test]
fn a_violation_is_answered_though_the_peer_has_ended_its_side() {
    let server = Server::echo(|config| config);
    for n in 0..50 {
        let mut peer = server.connect();
        peer.send_data(1, false, b"fine");
        let mut burst = ping(1);
        burst.extend_from_slice(&control(0, 0x0C, b""));
        burst.resize(burst.len() + n * 100, 0x55);
        peer.send_bytes(&burst).unwrap();
        peer.shutdown_write();
        peer.expect_close(code::PROTOCOL);
    }
}

#[test]
fn the_flow_control_violation_is_answered_in_the_middle_of_a_flood() {
    let server = Server::echo(|config| config.window(2000));
    let mut peer = server.connect();
    let flood = data(3, false, &[0; 1000]).repeat(1000);
    peer.try_send_bytes(&flood);
    // CLOSE is not lost although the peer had not read everything when it was sent.
    peer.expect_close(code::FLOW_CONTROL);
    server.assert_serving();
}

#[test]
fn a_message_above_the_limit_is_too_large() {
    let server = Server::start(|config| config.window(70_000).max_message(10_000));
    assert_violation(&server, "one frame", &data(1, false, &[0; 10_001]), &[code::TOO_LARGE]);
    assert_violation(&server, "one frame, M", &data(1, true, &[0; 10_001]), &[code::TOO_LARGE]);
    let two = [data(1, true, &[0; 5000]), data(1, false, &[0; 5001])].concat();
    assert_violation(&server, "two fragments", &two, &[code::TOO_LARGE]);
}

#[test]
fn a_message_in_fragments_above_the_limit_is_too_large() {
    let server = Server::start(|config| config.window(70_000).max_message(10_000));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_message(1, &[1; 10_000]).unwrap();
    assert_eq!(take(&receiver).len(), 10_000);
    for _ in 0..10 {
        peer.send_data(1, true, &[2; 1000]);
        peer.send_data(2, true, &[3; 500]);
    }
    peer.expect_alive();
    peer.send_data(1, true, b"");
    peer.expect_alive();
    peer.send_data(1, false, b"x");
    peer.expect_close(code::TOO_LARGE);
    // The application gets none of it.
    assert!(matches!(
        take_end(&receiver),
        RecvError::ConnectionLost(ConnectionError::ProtocolViolation { .. })
    ));
}

#[test]
fn what_the_key_does_not_allow_is_not_permitted() {
    let key = random();
    let access = Access::full().send(ChannelSet::from(channel(1))).interrupt(false);
    let server =
        Server::with_config(key, Config::with_access(Key::from(key), access).linger(BRIEF), shared())
            .echoing();
    for number in [0, 2, 127] {
        for bytes in [data(number, false, b"x"), data(number, true, b"x"), data(number, false, b"")] {
            assert_violation(&server, &format!("data on {number}"), &bytes, &[code::NOT_PERMITTED]);
        }
    }
    // "A protocol error from one who may not": 1 or, more exactly, 4.
    assert_violation(&server, "INTERRUPT", &interrupt(), &[code::NOT_PERMITTED, code::PROTOCOL]);
    server.assert_serving();
}

#[test]
fn the_server_sends_nothing_on_channels_that_the_client_may_not_receive() {
    let key = random();
    let access = Access::full().receive(ChannelSet::from(channel(1)));
    let server =
        Server::with_config(key, Config::with_access(Key::from(key), access).linger(BRIEF), shared());
    let (mut peer, connection) = server.pair(server.client());
    assert!(connection.sender(channel(2)).is_err());
    connection.sender(channel(1)).unwrap().send(&b"yes"[..]).unwrap();
    assert_eq!(peer.expect_message(1), b"yes");
}

/// "Credit that would exceed 2³¹−1 is a protocol error": 1 by its words, 2 by its section.
#[test]
fn credit_that_overflows_is_an_error() {
    let server = Server::echo(|config| config);
    let codes = [code::PROTOCOL, code::FLOW_CONTROL];
    let rest = (MAX_CREDIT - (1 << 20)) as u32; // the raw client's window is 1 MiB
    assert_violation(&server, "one too many", &credit(1, rest + 1), &codes);
    assert_violation(&server, "2^31 - 1 at once", &credit(1, MAX_CREDIT as u32), &codes);
    assert_violation(&server, "2^32 - 1 at once", &credit(1, u32::MAX), &codes);
    assert_violation(&server, "in two steps", &[credit(1, rest), credit(1, 1)].concat(), &codes);
    assert_violation(&server, "on an unused channel", &[credit(99, rest), credit(99, 1)].concat(), &codes);
    // Exactly up to the limit is legal, on every channel, and the channel still works.
    let mut peer = server.connect();
    for channel in 0..128 {
        peer.grant(channel, rest);
    }
    peer.expect_alive();
    peer.send_data(1, false, b"rich");
    assert_eq!(peer.expect_message(1), b"rich");
    server.assert_serving();
}

/// What the page does not settle: accepted or CLOSE 1, but nothing else.
#[test]
fn ambiguous_frames_are_accepted_or_a_protocol_error() {
    let key = random();
    let access = Access::full().send(channel(1) | channel(2)).receive(channel(1) | channel(2));
    let server =
        Server::with_config(key, Config::with_access(Key::from(key), access).linger(BRIEF), shared())
            .echoing();
    let cases = [
        ("WAITING 2", waiting(1, 2), None),
        ("CREDIT 0", credit(1, 0), None),
        ("ACK of what was never sent", ack(u64::MAX), None),
        ("ACK that goes back", [ack(5), ack(0)].concat(), None),
        ("FINISH inside a message", [data(1, true, b"part"), finish(1)].concat(), None),
        (
            "GAP inside a message",
            [data(1, true, b"part"), gap(1, 1, 1), data(1, false, b"+rest")].concat(),
            None,
        ),
        ("FINISH twice", [finish(1), finish(1)].concat(), None),
        ("RESET after FINISH", [finish(1), reset(1, 1)].concat(), None),
        ("CREDIT on a channel it may not receive", credit(3, 1), Some(code::NOT_PERMITTED)),
        ("STOP on a channel it may not receive", stop(3, 1), Some(code::NOT_PERMITTED)),
        ("WAITING on a channel it may not receive", waiting(3, 1), Some(code::NOT_PERMITTED)),
        ("FINISH on a channel it may not send on", finish(3), Some(code::NOT_PERMITTED)),
        ("RESET on a channel it may not send on", reset(3, 1), Some(code::NOT_PERMITTED)),
        ("GAP on a channel it may not send on", gap(3, 1, 1), Some(code::NOT_PERMITTED)),
    ];
    for (what, bytes, also) in cases {
        let mut peer = server.connect();
        peer.try_send_bytes(&bytes);
        peer.try_send_bytes(&ping(4242));
        let event = peer
            .wait_for(PATIENCE, |event| {
                matches!(event, Event::Pong(_) | Event::Close(..) | Event::Message(..))
            })
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        println!("{what}: {event:?}");
        match event {
            Event::Pong(4242) => {}
            Event::Close(code, _) if code == code::PROTOCOL || Some(code) == also => {}
            Event::Message(_, payload) => {
                assert_ne!(payload, b"part".to_vec(), "FINISH inside a message: a part was delivered")
            }
            other => panic!("{what}: {other:?}"),
        }
        server.assert_serving();
    }
}

/// Whatever becomes of FINISH inside a message: the part is never delivered.
#[test]
fn a_part_of_a_message_is_never_delivered() {
    let server = Server::start(|config| config.resume_grace(Duration::ZERO));
    for ending in [finish(4), reset(4, 1), close(0, b""), control(0, 0x0C, b""), Vec::new()] {
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(4)).unwrap();
        peer.send_data(4, false, b"whole");
        peer.send_data(4, true, b"part");
        peer.try_send_bytes(&ending);
        peer.shutdown_write();
        assert_eq!(take(&receiver), b"whole");
        // An end of the run, perhaps, and then of the connection.
        let mut end = take_end(&receiver);
        if !matches!(end, RecvError::ConnectionLost(_)) {
            end = take_end(&receiver);
        }
        assert!(matches!(end, RecvError::ConnectionLost(_)), "{end:?}");
    }
}

// ---------------------------------------------------------------------------
// Section 3: flow control

#[test]
fn nothing_arrives_before_the_first_credit_when_the_window_is_0() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client().window(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let sender = connection.sender(channel(1)).unwrap();
            sender.send(&b"hello"[..]).unwrap();
            sender.send(&b""[..]).unwrap();
        });
        peer.expect_silence(1, Duration::from_millis(150));
        // Less than a frame costs is nothing; other channels' credit is not this one's.
        peer.grant(1, 31);
        peer.grant(2, 10_000);
        peer.expect_silence(1, Duration::from_millis(100));
        peer.grant(1, 6);
        assert_eq!(peer.expect_message(1), b"hello");
        peer.grant(1, 31);
        peer.expect_silence(1, Duration::from_millis(100));
        peer.grant(1, 1);
        assert_eq!(peer.expect_message(1), b"");
    });
}

/// [`RawPeer`] counts: a frame that costs more than was granted fails every read. Here there is
/// never more credit than for a byte or so.
#[test]
fn a_sender_with_little_credit_sends_smaller_fragments() {
    let server = Server::start(|config| config);
    for (window, step) in [(33, 33), (64, 33), (100, 40), (1000, 500), (65_567, 65_567), (65_568, 20_000)] {
        let (mut peer, connection) = server.pair(server.client().window(window));
        let mut noise = Noise(u64::from(window));
        let sizes = [0, 1, 10, 0, 40, 200, if window < 1000 { 300 } else { 150_000 }];
        let messages = sizes.map(|len| noise.bytes(len));
        thread::scope(|scope| {
            scope.spawn(|| {
                let sender = connection.sender(channel(1)).unwrap();
                for message in &messages {
                    sender.send(message).unwrap();
                }
                sender.finish().unwrap();
            });
            let mut received = vec![Vec::new()];
            while received.len() <= messages.len() {
                // Not before there is no more than the last frame left unpaid.
                match peer.read_frame(PATIENCE).unwrap_or_else(|error| panic!("window {window}: {error}")) {
                    Frame::Data { channel: 1, more, payload } => {
                        received.last_mut().unwrap().extend_from_slice(&payload);
                        if !more {
                            received.push(Vec::new());
                        }
                        peer.grant(1, step.min(payload.len() as u32 + 64));
                    }
                    Frame::Ping(_) | Frame::Ack(_) | Frame::Waiting { .. } => {}
                    other => panic!("window {window}: {other:?}"),
                }
            }
            received.pop();
            assert!(received == messages, "window {window}");
        });
    }
}

#[test]
fn credit_for_no_byte_of_a_message_carries_none() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client().window(32));
    thread::scope(|scope| {
        scope.spawn(|| connection.sender(channel(1)).unwrap().send(&b"abc"[..]).unwrap());
        let quiet = peer.wait_for(Duration::from_millis(150), |event| matches!(event, Event::Message(..)));
        assert!(quiet.unwrap_err().is_timeout());
        assert_eq!(peer.data_frames, 0, "an empty fragment that brings nothing forward");
        peer.grant(1, 3);
        assert_eq!(peer.expect_message(1), b"abc");
    });
}

#[test]
fn credit_comes_back_when_half_a_window_has_been_taken() {
    const WINDOW: u32 = 8192;
    let server = Server::start(|config| config.window(WINDOW));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(6)).unwrap();
    let credit = |event: &Event| matches!(event, Event::Credit(6, _));
    for round in 0..4 {
        // 32 + 96 = 128: a window of 64, half of it 32.
        while peer.send_credit[6] >= 128 {
            peer.send_data(6, false, &[round; 96]);
        }
        peer.expect_alive();
        assert!(
            peer.wait_for(Duration::from_millis(30), credit).is_err(),
            "credit for what nobody has taken"
        );
        for _ in 0..31 {
            assert_eq!(take(&receiver), [round; 96]);
        }
        peer.expect_alive();
        assert!(
            peer.wait_for(Duration::from_millis(30), credit).is_err(),
            "credit for less than half a window"
        );
        assert_eq!(take(&receiver), [round; 96]);
        assert_eq!(
            peer.wait_for(PATIENCE, credit).expect("credit at half a window"),
            Event::Credit(6, WINDOW / 2)
        );
        for _ in 0..32 {
            assert_eq!(take(&receiver), [round; 96]);
        }
        assert_eq!(
            peer.wait_for(PATIENCE, credit).expect("and at the other half"),
            Event::Credit(6, WINDOW / 2)
        );
        assert_eq!(peer.send_credit[6], i64::from(WINDOW));
    }
}

#[test]
fn credit_in_hand_never_exceeds_the_window() {
    let server = Server::echo(|config| config.window(20_000));
    let mut peer = server.connect();
    peer.auto_credit = true;
    let mut noise = Noise(9);
    for _ in 0..200 {
        let len = [0, 1, 100, 5000, 19_968, 60_000][noise.below(6)];
        peer.send_message(1, &vec![1; len]).unwrap();
        assert_eq!(peer.expect_message(1).len(), len);
        assert!(peer.send_credit[1] <= 20_000, "{} with a window of 20000", peer.send_credit[1]);
    }
}

#[test]
fn a_message_larger_than_the_window_gets_through() {
    let server = Server::start(|config| config.window(5000).max_message(1_000_000));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    let message = Noise(4).bytes(1_000_000);
    // The application takes nothing meanwhile: only fragments of the incomplete message can be
    // credited back.
    peer.send_message(1, &message).unwrap();
    assert!(peer.send_credit[1] <= 5000);
    assert!(take(&receiver) == message);
}

#[test]
fn a_part_that_was_reset_has_been_credited_back() {
    let server = Server::start(|config| config.window(4096));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    for _ in 0..50 {
        while peer.send_credit[1] < 1032 {
            peer.wait_for(PATIENCE, |event| matches!(event, Event::Credit(1, _))).expect("credit");
        }
        peer.send_data(1, true, &[0; 1000]);
        peer.send_bytes(&reset(1, 3)).unwrap();
    }
    peer.send_message(1, &[1; 4096]).unwrap();
    // Consecutive resets may be told as one.
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(message) => break assert_eq!(&message[..], [1; 4096]),
            Err(RecvTimeoutError::Disconnected(RecvError::Reset { code: 3, .. })) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn credit_outlives_the_runs_of_a_channel() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client().window(100));
    for _ in 0..3 {
        let sender = connection.sender(channel(1)).unwrap();
        sender.send(&[7; 68][..]).unwrap(); // the whole window
        sender.finish().unwrap();
        assert_eq!(peer.expect_message(1), [7; 68]);
        expect_end_of_run(&mut peer, 1, Event::Finish(1));
        // A new run starts with what is left: nothing.
        thread::scope(|scope| {
            scope.spawn(|| {
                let sender = connection.sender(channel(1)).unwrap();
                sender.send(&b""[..]).unwrap();
                sender.finish().unwrap();
            });
            peer.expect_silence(1, Duration::from_millis(50));
            peer.grant(1, 32);
            assert_eq!(peer.expect_message(1), b"");
            expect_end_of_run(&mut peer, 1, Event::Finish(1));
        });
        peer.grant(1, 100);
    }
}

#[test]
fn a_channel_without_credit_holds_up_no_other() {
    let server = Server::echo(|config| config.window(2000));
    let mut peer = server.client().window(0).finish().unwrap();
    // The echo of channel 1 is stuck; send until no more credit comes.
    let mut taken = 0;
    loop {
        while peer.send_credit[1] >= 132 {
            peer.send_data(1, false, &[0; 100]);
            taken += 1;
        }
        assert!(taken < 1000, "the window does not bound what the server takes");
        if peer.wait_for(Duration::from_millis(100), |event| matches!(event, Event::Credit(1, _))).is_err() {
            break;
        }
    }
    peer.grant(2, 10_000);
    for n in 0..20 {
        peer.send_message(2, &[n]).unwrap();
        assert_eq!(peer.expect_message(2), [n]);
    }
    peer.expect_alive();
}

// ---------------------------------------------------------------------------
// Section 4: STOP

#[test]
fn stop_wakes_a_blocked_sender_and_is_answered_by_the_end_of_the_run() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client().window(100));
    thread::scope(|scope| {
        let blocked = scope.spawn(|| {
            let sender = connection.sender(channel(1)).unwrap();
            let mut sent = 0;
            while sender.send(&[0; 18][..]).is_ok() {
                sent += 1;
            }
            sent
        });
        assert_eq!(peer.expect_message(1), [0; 18]);
        assert_eq!(peer.expect_message(1), [0; 18]);
        peer.send_bytes(&stop(1, 77)).unwrap();
        let end = peer.wait_for(PATIENCE, |event| match event {
            Event::Finish(c) | Event::Reset(c, _) => *c == 1,
            Event::Close(..) => true,
            _ => false,
        });
        assert!(matches!(end, Ok(Event::Finish(1) | Event::Reset(1, _))), "{end:?}");
        assert!(blocked.join().unwrap() >= 2);
    });
    peer.expect_silence(1, Duration::from_millis(30));
    // The next run works.
    peer.grant(1, 1000);
    connection.sender(channel(1)).unwrap().send(&b"again"[..]).unwrap();
    assert_eq!(peer.expect_message(1), b"again");
}

#[test]
fn a_stopped_run_is_discarded_and_credited_back_until_it_ends() {
    let server = Server::start(|config| config.window(2000));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_data(1, false, b"first");
    assert_eq!(take(&receiver), b"first");
    receiver.stop(7);
    let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Stop(..) | Event::Close(..)));
    assert_eq!(event.expect("STOP"), Event::Stop(1, 7));
    for n in 0..50 {
        peer.send_message(1, &[n; 500]).expect("what is discarded is credited back");
    }
    peer.send_bytes(&finish(1)).unwrap();
    peer.send_data(1, false, b"next run");
    let message = loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(message) => break message,
            Err(RecvTimeoutError::Disconnected(RecvError::Finished)) => {}
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(&message[..], b"next run");
}

#[test]
fn a_dropped_receiver_says_stop() {
    let server = Server::start(|config| config.window(2000));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_data(1, false, b"first");
    assert_eq!(take(&receiver), b"first");
    drop(receiver);
    let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Stop(1, _) | Event::Close(..)));
    assert!(matches!(event, Ok(Event::Stop(1, _))), "{event:?}");
    for n in 0..20 {
        peer.send_message(1, &[n; 500]).expect("what is discarded is credited back");
    }
    peer.expect_alive();
}

// ---------------------------------------------------------------------------
// CLOSE

#[test]
fn close_is_answered_by_close_and_the_end() {
    let server = Server::echo(|config| config);
    for (code, reason) in [(0, ""), (0, "bye"), (6, "täglich"), (256, ""), (65_535, &"x".repeat(255)[..])] {
        let mut peer = server.connect();
        peer.send_data(1, false, b"x");
        assert_eq!(peer.expect_message(1), b"x");
        peer.send_bytes(&close(code, reason.as_bytes())).unwrap();
        let (answer, _) = peer.read_close().expect("CLOSE and the end");
        assert!(answer == code::NORMAL || answer == code, "CLOSE {code} answered by {answer}");
    }
    server.assert_serving();
}

#[test]
fn what_was_sent_before_close_is_read_and_then_its_code() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    for n in 0..100 {
        peer.send_data(1, false, &[n]);
    }
    peer.send_bytes(&close(300, b"that was all")).unwrap();
    peer.read_close().expect("CLOSE and the end");
    // Only now the application begins to read.
    let receiver = connection.receiver(channel(1)).unwrap();
    for n in 0..100 {
        assert_eq!(take(&receiver), [n]);
    }
    match take_end(&receiver) {
        RecvError::ConnectionLost(ConnectionError::ClosedByPeer { code, reason }) => {
            assert_eq!((u16::from(code), &reason[..]), (300, "that was all"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_applications_close_comes_after_everything_it_sent() {
    let server = Server::start(|config| config.linger(PATIENCE));
    let (mut peer, connection) = server.pair(server.client());
    let sender = connection.sender(channel(1)).unwrap();
    for n in 0..100 {
        sender.send(&[n][..]).unwrap();
    }
    // It may wait for us to have it all.
    let closing = thread::spawn(move || connection.close(CloseCode::application(44), "bye"));
    for n in 0..100 {
        assert_eq!(peer.expect_message(1), [n]);
    }
    let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Close(..)));
    assert_eq!(event.expect("CLOSE"), Event::Close(300, "bye".into()));
    peer.try_send_bytes(&close(0, b""));
    peer.expect_end();
    closing.join().unwrap().expect("the peer had it all and said so");
}

/// The peer is in the middle of its own sending when CLOSE is on its way to it; bytes that nobody
/// reads any more must not make the system drop what it has not delivered yet.
#[test]
fn nothing_sent_before_close_is_lost_while_the_peer_still_sends() {
    const MESSAGES: u8 = 100;
    let server = Server::start(|config| config.linger(PATIENCE));
    let (mut peer, connection) = server.pair(server.client().window(1 << 26));
    let closing = thread::spawn(move || {
        let sender = connection.sender(channel(1)).unwrap();
        for n in 0..MESSAGES {
            sender.send(&[n; 60_000][..]).unwrap();
        }
        connection.close(CloseCode::NORMAL, "")
    });
    for n in 0..MESSAGES {
        for _ in 0..5 {
            peer.send_data(2, false, &[0; 1000]);
        }
        assert_eq!(peer.expect_message(1), [n; 60_000]);
    }
    expect_end_of_run_or_close(&mut peer, 1);
    peer.try_send_bytes(&close(0, b""));
    peer.expect_end();
    assert_eq!(peer.closed.as_ref().map(|(code, _)| *code), Some(code::NORMAL));
    closing.join().unwrap().expect("the peer had it all and said so");
}

#[track_caller]
fn expect_end_of_run_or_close(peer: &mut RawPeer, channel: u8) {
    let event = peer.wait_for(PATIENCE, |event| match event {
        Event::Message(c, _) | Event::Finish(c) | Event::Reset(c, _) => *c == channel,
        Event::Close(..) => true,
        _ => false,
    });
    assert!(matches!(event, Ok(Event::Finish(_) | Event::Close(code::NORMAL, _))), "{event:?}");
}

#[test]
fn close_waits_for_the_peer_no_longer_than_linger() {
    let server = Server::start(|config| config.linger(Duration::from_millis(300)));
    let (mut peer, connection) = server.pair(server.client());
    let begun = Instant::now();
    // The peer neither reads nor answers.
    assert!(connection.close(CloseCode::NORMAL, "").is_err(), "nobody said that it arrived");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(250) && waited < Duration::from_secs(5), "waited {waited:?}");
    let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Close(..)));
    assert!(matches!(event, Ok(Event::Close(code::NORMAL, _))), "{event:?}");
    peer.expect_end();
}

/// "`Sender` dropped or `finish`ed: the peer reads what was sent, then end-of-file", also when
/// nothing was sent: an empty input is an input.
#[test]
fn an_empty_run_is_finished_on_the_wire() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    connection.sender(channel(1)).unwrap().finish().unwrap();
    expect_end_of_run(&mut peer, 1, Event::Finish(1));
    drop(connection.sender(channel(2)).unwrap());
    expect_end_of_run(&mut peer, 2, Event::Finish(2));
}

#[test]
fn dropped_handles_finish_and_close() {
    let server = Server::start(|config| config.linger(PATIENCE));
    let (mut peer, connection) = server.pair(server.client());
    let sender = connection.sender(channel(1)).unwrap();
    sender.send(&b"last words"[..]).unwrap();
    let closing = thread::spawn(move || drop((sender, connection)));
    assert_eq!(peer.expect_message(1), b"last words");
    expect_end_of_run(&mut peer, 1, Event::Finish(1));
    let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Close(..)));
    assert!(matches!(event, Ok(Event::Close(code::NORMAL, _))), "{event:?}");
    peer.try_send_bytes(&close(0, b""));
    peer.expect_end();
    closing.join().unwrap();
}

#[test]
fn a_socket_that_ends_without_close_is_a_lost_connection() {
    let server = Server::start(|config| config.resume_grace(Duration::ZERO));
    for abort in [false, true] {
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(1)).unwrap();
        peer.send_data(1, false, b"x");
        assert_eq!(take(&receiver), b"x");
        if abort {
            // Unread bytes make the system reset the connection.
            connection.sender(channel(1)).unwrap().send(&b"unread"[..]).unwrap();
            peer.expect_alive();
        }
        drop(peer);
        match take_end(&receiver) {
            RecvError::ConnectionLost(ConnectionError::Lost { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

// ---------------------------------------------------------------------------
// Section 5: liveness

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let server = Server::start(|config| {
        config.resume_grace(Duration::ZERO).heartbeat(Duration::from_millis(100), Duration::from_millis(500))
    });
    let (mut peer, connection) = server.pair(server.client());
    peer.auto_pong = false;
    let receiver = connection.receiver(channel(1)).unwrap();
    let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Ping(_) | Event::Close(..)));
    assert!(matches!(event, Ok(Event::Ping(_))), "{event:?}");
    peer.expect_end();
    assert!(matches!(&peer.closed, None | Some((code::HEARTBEAT, _))), "{:?}", peer.closed);
    assert!(matches!(take_end(&receiver), RecvError::ConnectionLost(ConnectionError::HeartbeatLost(_))));
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
    // Longer than an ACK may wait (200 ms).
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(700) {
        server.assert_serving();
        peer.send_bytes(&waiting(1, 1)).unwrap();
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
            loop {
                if sender.send(&[0; 60_000][..]).is_err() {
                    break;
                }
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(1500) {
            server.connect().expect_alive();
            drop(server.accepted());
        }
        stuck.join().unwrap();
    });
    assert!(
        matches!(connection.close_reason(), Some(ConnectionError::HeartbeatLost(_))),
        "{:?}",
        connection.close_reason()
    );
    drop(silent);
}

// ---------------------------------------------------------------------------
// Floods: what a peer owes is state, never a queue

/// The resident size of this process; `None` where the system does not say.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

#[test]
fn floods_of_control_frames_are_served_and_grow_nothing() {
    const UNITS: usize = 400_000;
    /// A queue of even 32 bytes for each would be above it.
    const ALLOWED: usize = 12 << 20;
    let key = random();
    let server = Server::with_config(key, Config::new(Key::from(key)).linger(BRIEF), alone());
    let mut held = Vec::new();
    let floods = [
        ("PONG", pong(1)),
        ("ACK", ack(0)),
        ("CREDIT 1", credit(1, 1)),
        ("WAITING", [waiting(1, 1), waiting(1, 0)].concat()),
        ("FINISH", finish(1)),
        ("RESET", reset(1, 1)),
        ("FINISH, RESET", [finish(1), reset(1, 1)].concat()),
        ("STOP", stop(1, 1)),
        ("GAP", gap(1, 1, 1)),
        ("GAP, FINISH", [gap(1, 1, 1), finish(1)].concat()),
        ("GAP, RESET, FINISH", [gap(1, 1, 1), reset(1, 1), finish(1)].concat()),
        ("extensions", control(1, 0x99, b"some")),
        ("INTERRUPT", interrupt()),
    ];
    for (what, unit) in floods {
        let (mut peer, connection) = server.pair(server.client());
        // Somebody could read, and does not; and somebody could send.
        let receiver = connection.receiver(channel(1)).unwrap();
        let sender = connection.sender(channel(1)).unwrap();
        sender.send(&b"opens the run"[..]).unwrap();
        let block = unit.repeat(2000);
        peer.expect_alive();
        let before = resident();
        for _ in 0..UNITS / 2000 {
            peer.send_bytes(&block).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        peer.expect_alive();
        if let (Some(before), Some(after)) = (before, resident()) {
            let grown = after.saturating_sub(before);
            assert!(grown < ALLOWED, "{what}: grew by {} KiB", grown >> 10);
        }
        held.push((peer, connection, receiver, sender));
    }
}

#[test]
fn pings_that_are_not_read_are_answered_by_few_pongs() {
    const PINGS: u64 = 1_000_000;
    let key = random();
    let server = Server::with_config(key, Config::new(Key::from(key)).linger(BRIEF), alone()).echoing();
    let mut peer = server.connect();
    let before = resident();
    // 13 MB without reading a byte: a peer that gates its reading on its writing stops here.
    let mut block = Vec::new();
    for number in 0..PINGS {
        block.extend_from_slice(&ping(number));
        if block.len() > 60_000 || number == PINGS - 1 {
            peer.send_bytes(&block).expect("the server reads on");
            block.clear();
        }
    }
    server.assert_serving();
    if let (Some(before), Some(after)) = (before, resident()) {
        let grown = after.saturating_sub(before);
        assert!(grown < 8 << 20, "grew by {} KiB", grown >> 10);
    }
    // The pongs are some of the numbers, in order, and the last one in any case.
    let mut last = None;
    while last != Some(PINGS - 1) {
        match peer.wait_for(PATIENCE, |event| matches!(event, Event::Pong(_) | Event::Close(..))) {
            Ok(Event::Pong(number)) => {
                assert!(last.is_none_or(|last| number > last), "PONG {number} after {last:?}");
                last = Some(number);
            }
            other => panic!("after {last:?}: {other:?}"),
        }
    }
}

/// One-byte messages on many channels, unread: no more than the documented bound, in which each
/// message counts its length + 32.
#[test]
fn small_messages_that_nobody_reads_stay_below_the_bound() {
    const CHANNELS: u8 = 32;
    const WINDOW: u32 = 330_000;
    let key = random();
    let server = Server::with_config(key, Config::new(Key::from(key)).window(WINDOW).linger(BRIEF), alone());
    for (what, payload) in [("empty", &b""[..]), ("one byte", b"x")] {
        let (mut peer, connection) = server.pair(server.client());
        peer.expect_alive();
        let before = resident();
        let cost = payload.len() + FRAME_COST;
        let block = |channel| data(channel, false, payload).repeat(WINDOW as usize / cost);
        for channel in 0..CHANNELS {
            peer.send_bytes(&block(channel)).unwrap();
        }
        peer.expect_alive();
        let bound = usize::from(CHANNELS) * WINDOW as usize;
        if let (Some(before), Some(after)) = (before, resident()) {
            let grown = after.saturating_sub(before);
            println!("{what}: {} KiB of {} KiB", grown >> 10, bound >> 10);
            assert!(
                grown < bound + (4 << 20),
                "{what}: grew by {} KiB, bound {} KiB",
                grown >> 10,
                bound >> 10
            );
        }
        drop(connection);
    }
}

// ---------------------------------------------------------------------------
// Noise

#[test]
fn a_stream_cut_anywhere_hurts_nobody() {
    let server = Server::echo(|config| config);
    let frames = [
        data(1, true, b"abcdef"),
        ping(1),
        data(1, false, b"ghi"),
        credit(1, 4),
        stop(2, 1),
        gap(1, 1, 1),
        finish(1),
        close(0, b"done"),
    ];
    let stream = frames.concat();
    for len in 0..stream.len() {
        let mut peer = server.connect();
        peer.send_bytes(&stream[..len]).unwrap();
        if len % 3 == 0 {
            drop(peer);
        } else {
            peer.shutdown_write();
            peer.expect_end();
        }
    }
    server.assert_serving();
}

/// Each peer sends noise, then ends its side; a CLOSE or the end must follow, and all frames on
/// the way must obey the page.
fn assert_noise_ends(server: &Server, rounds: u64, noise: impl Fn(&mut Noise) -> Vec<u8>) {
    let mut outcomes = BTreeMap::new();
    for seed in 0..rounds {
        let mut peer = server.connect();
        let bytes = noise(&mut Noise(seed));
        peer.try_send_bytes(&bytes);
        peer.shutdown_write();
        // Noise can grant credit, or ACK, by chance; the books do not know of it.
        peer.receive_credit.fill(i64::MAX / 2);
        peer.expect_end();
        let code = peer.closed.as_ref().map(|(code, _)| *code);
        assert!(code.is_none_or(|code| code <= code::NOT_PERMITTED), "seed {seed}: CLOSE {code:?}");
        *outcomes.entry(code).or_insert(0) += 1;
    }
    println!("{outcomes:?}");
    server.assert_serving();
}

#[test]
fn random_bytes_end_in_close_or_silence() {
    let server = Server::echo(|config| config);
    assert_noise_ends(&server, 200, |noise| {
        let len = [1, 3, 4, 5, 20, 100, 5000][noise.below(7)];
        noise.bytes(len)
    });
}

#[test]
fn random_frames_end_in_close_or_silence() {
    let server = Server::echo(|config| config.window(3000).max_message(500));
    assert_noise_ends(&server, 200, |noise| {
        let mut stream = Vec::new();
        for _ in 0..noise.below(60) + 1 {
            let channel = [0, 1, 2, 127][noise.below(4)];
            let frame = match noise.below(20) {
                0..8 => {
                    let len = [0, 1, 50, 300][noise.below(4)];
                    data(channel, noise.below(2) == 0, &noise.bytes(len))
                }
                8 => credit(channel, noise.below(5000) as u32),
                9 => finish(channel),
                10 => reset(channel, noise.next() as u32),
                11 => stop(channel, noise.next() as u32),
                12 => ping(noise.next()),
                13 => pong(noise.next()),
                14 => ack(0),
                15 => waiting(channel, noise.below(2) as u8),
                16 => gap(channel, noise.next(), noise.next()),
                17 => interrupt(),
                18 => control(channel, 0x80 | noise.next() as u8, b"any"),
                _ => {
                    let len = noise.below(20);
                    noise.bytes(len)
                }
            };
            stream.extend_from_slice(&frame);
        }
        // One bit in half of the streams.
        if noise.below(2) == 0 {
            let at = noise.below(stream.len());
            stream[at] ^= 1 << noise.below(8);
        }
        stream
    });
}

#[test]
fn random_handshakes_end() {
    let server = Server::echo(|config| config);
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
        assert!([0, SERVER_HELLO, SERVER_HELLO + ACCEPT].contains(&answer.len()), "{} bytes", answer.len());
    }
    server.assert_serving();
}

// ---------------------------------------------------------------------------
// The library as the client

struct RawServer {
    listener: TcpListener,
    addr: SocketAddr,
    key: RawKey,
    _quiet: Quiet,
}

impl RawServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr, key: random(), _quiet: shared() }
    }

    /// `connect` of the library on one thread, `serve` on this one.
    fn meet<T>(
        &self,
        tune: impl FnOnce(Config) -> Config + Send,
        serve: impl FnOnce(ServerHandshake) -> T,
    ) -> (Result<Connection, ConnectError>, T) {
        thread::scope(|scope| {
            let config = tune(Config::new(Key::from(self.key)).linger(BRIEF));
            let client = scope.spawn(move || Connection::connect(self.addr, config));
            let served = serve(ServerHandshake::accept(&self.listener, &self.key));
            (client.join().expect("connect does not panic"), served)
        })
    }
}

#[track_caller]
fn handshake_error(result: Result<Connection, ConnectError>) -> HandshakeError {
    match result {
        Err(ConnectError::Handshake(error)) => error,
        Err(other) => panic!("wanted a handshake error, got {other}"),
        Ok(_) => panic!("wanted a handshake error, got a connection"),
    }
}

#[test]
fn the_client_follows_the_page() {
    let server = RawServer::start();
    let (connection, (proof, mut peer)) = server.meet(
        |config| config.window(12_345).max_message(54_321),
        |mut handshake| {
            handshake.read_hello().unwrap();
            handshake.send_hello().unwrap();
            let proof = handshake.read_proof().unwrap();
            handshake.accept.window = 5000;
            handshake.send_accept().unwrap();
            (proof.clone(), handshake.into_peer(&proof))
        },
    );
    let connection = connection.unwrap();
    assert_eq!((proof.session, proof.offset), ([0; 16], 0));
    assert_eq!((proof.window, proof.max_message), (12_345, 54_321));
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
    peer.send_data(9, false, b"to the client");
    assert_eq!(take(&receiver), b"to the client");
    peer.send_bytes(&control(3, 0x0C, b"")).unwrap();
    peer.expect_close(code::PROTOCOL);
}

#[test]
fn a_server_hello_changed_on_the_way_is_refused_and_no_proof_is_sent() {
    let server = RawServer::start();
    for at in 0..SERVER_HELLO {
        let (connection, after) = server.meet(
            |config| config,
            |mut handshake| {
                handshake.flip_hello = Some((at, 0x04));
                handshake.read_hello().unwrap();
                handshake.send_hello().unwrap();
                read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE)
            },
        );
        assert!(connection.is_err(), "byte {at}");
        assert_eq!(
            after.expect("the client hangs up"),
            b"",
            "byte {at}: the client proved its key to a stranger"
        );
    }
}

#[test]
fn an_accept_changed_on_the_way_is_refused() {
    let server = RawServer::start();
    for at in 0..ACCEPT {
        let (connection, after) = server.meet(
            |config| config,
            |mut handshake| {
                handshake.flip_accept = Some((at, 0x01));
                handshake.read_hello().unwrap();
                handshake.send_hello().unwrap();
                handshake.read_proof().unwrap();
                handshake.send_accept().unwrap();
                read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE)
            },
        );
        assert_eq!(handshake_error(connection), HandshakeError::BadProof, "byte {at}");
        assert_eq!(after.expect("the client hangs up"), b"", "byte {at}: the client sent frames");
    }
}

#[test]
fn a_server_without_the_key_is_refused() {
    let server = RawServer::start();
    let (connection, after) = server.meet(
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
fn the_client_tells_every_refusal_apart() {
    let server = RawServer::start();
    for (status, error) in [
        (1, HandshakeError::NoCommonVersion),
        (2, HandshakeError::NotAuthorised),
        (3, HandshakeError::TooBusy),
    ] {
        let (connection, ()) = server.meet(
            |config| config,
            |mut handshake| {
                handshake.hello.status = status;
                handshake.read_hello().unwrap();
                handshake.send_hello().unwrap();
            },
        );
        assert_eq!(handshake_error(connection), error, "ServerHello status {status}");
    }
    for (status, error) in [
        (2, HandshakeError::NotAuthorised),
        (3, HandshakeError::TooBusy),
        (4, HandshakeError::SessionUnknown),
        (5, HandshakeError::SessionExpired),
        (6, HandshakeError::OffsetOutOfRange),
    ] {
        let (connection, ()) = server.meet(
            |config| config,
            |mut handshake| {
                handshake.accept.status = status;
                handshake.read_hello().unwrap();
                handshake.send_hello().unwrap();
                handshake.read_proof().unwrap();
                handshake.send_accept().unwrap();
            },
        );
        assert_eq!(handshake_error(connection), error, "Accept status {status}");
    }
}

#[test]
fn the_client_gives_up_on_a_server_that_is_none() {
    let server = RawServer::start();
    let (connection, _) =
        server.meet(|config| config, |mut handshake| handshake.stream.write_all(b"SSH-2.0-OpenSSH_9.7\r\n"));
    assert_eq!(handshake_error(connection), HandshakeError::NotTrunkline);
    let (connection, ()) = server.meet(|config| config, drop);
    // Dropped with our hello unread: an end or a reset.
    assert!(connection.is_err());
    let begun = Instant::now();
    let (connection, mut handshake) = server.meet(
        |config| config.handshake_timeout(Duration::from_millis(300)),
        |mut handshake| {
            handshake.read_hello().unwrap();
            // Until the client hangs up.
            read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE).expect("the client gives up");
            handshake
        },
    );
    assert_eq!(handshake_error(connection), HandshakeError::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    handshake.deadline = Instant::now();
}

#[test]
fn the_client_takes_a_wrong_version_for_no_answer() {
    let server = RawServer::start();
    let (connection, after) = server.meet(
        |config| config,
        |mut handshake| {
            handshake.hello.version = 2;
            handshake.read_hello().unwrap();
            handshake.send_hello().unwrap();
            read_to_end_by(&mut handshake.stream, Instant::now() + PATIENCE)
        },
    );
    assert!(connection.is_err());
    assert_eq!(after.unwrap(), b"");
}

#[test]
fn the_client_respects_what_accept_allows() {
    let server = RawServer::start();
    let (connection, mut peer) = server.meet(
        |config| config,
        |mut handshake| {
            handshake.accept.may_send = 1 << 1;
            handshake.accept.may_receive = 1 << 2;
            handshake.accept.max_message = 1000;
            handshake.accept.rights = 0;
            handshake.finish().unwrap()
        },
    );
    let connection = connection.unwrap();
    assert!(connection.sender(channel(2)).is_err());
    assert!(connection.receiver(channel(1)).is_err());
    let sender = connection.sender(channel(1)).unwrap();
    assert!(sender.send(&[0; 1001][..]).is_err(), "larger than the server takes");
    sender.send(&[0; 1000][..]).unwrap();
    assert_eq!(peer.expect_message(1), [0; 1000]);
    // The server's own data on a channel that it may not use.
    peer.send_data(3, false, b"x");
    peer.expect_close_in(&[code::NOT_PERMITTED, code::PROTOCOL]);
}
