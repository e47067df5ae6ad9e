//! What an outage does to processes, to attackers, and to the end of a connection.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{ask, status};
use crate::support::chaos::{Chaos, Cut};
use crate::support::line::{Line, eventually, next, on};
use crate::support::wire::{self, ClientHandshake, RawKey, RawPeer};
use crate::support::{LONG, free_address};
use trunkline::{
    ChannelId, CloseCode, Config, ConnectError, Connection, ConnectionError, Event, HandshakeError, Key,
    Listener, RecvError, RecvTimeoutError, Sealing,
};

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

// ---------------------------------------------------------------------------
// Processes: this test binary again, with a role and its arguments in the environment

const ROLE: &str = "TRUNKLINE_TEST_ROLE";
const ADDR: &str = "TRUNKLINE_TEST_ADDR";
const KEY: RawKey = [0x5a; 32];

/// A process that is killed if the test fails.
struct Process(Child);

impl Process {
    fn start(role: &str, addr: &str) -> (Self, String) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "outages::peers::a_process_of_its_own", "--nocapture"]);
        command.env(ROLE, role).env(ADDR, addr).stdout(Stdio::piped());
        let mut process = Self(command.spawn().unwrap());
        // What comes behind the mark is the process's; the rest is the test harness's.
        let mut lines = BufReader::new(process.0.stdout.as_mut().unwrap()).lines();
        let says = lines.find_map(|line| Some(line.unwrap().split_once("says: ")?.1.to_owned())).unwrap();
        (process, says)
    }

    fn status(&mut self) -> Option<i32> {
        // Its pipe must not fill.
        let _ = self.0.stdout.take().unwrap().read_to_end(&mut Vec::new());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the processes do; without a role, nothing.
#[test]
fn a_process_of_its_own() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let addr = std::env::var(ADDR).unwrap();
    let config = on(Key::from(KEY)).resume_grace(Duration::MAX).linger(Duration::from_millis(300));
    if role == "serve" {
        let listener = Listener::bind(&*addr, config).unwrap();
        println!("says: {}", listener.local_addr());
        let server = listener.accept().unwrap();
        let sender = server.sender(B).unwrap();
        sender.send("hello").unwrap();
        let _ = server.receiver(A).unwrap().recv();
        loop {
            thread::park();
        }
    }
    let client = Connection::connect(&*addr, config).unwrap();
    let sender = client.sender(A).unwrap();
    sender.send("before").unwrap();
    let events = client.events();
    println!("says: connected");
    assert!(matches!(next(&events), Event::Suspended { .. }));
    sender.send("during").unwrap();
    let code = match &*role {
        // As a program does that returns from `main`: 7 is for what was not acknowledged.
        "close" => client.close(CloseCode::NORMAL, "").map_or_else(|_| 7, |()| 0),
        _ => {
            drop((sender, client));
            8
        }
    };
    std::process::exit(code);
}

/// A program that sends and ends during an outage ends, although nobody ever comes back; one that
/// asks hears that not everything was acknowledged, and one whose link heals in time that it was.
#[test]
fn a_process_that_ends_during_an_outage_waits_for_no_more_than_linger() {
    // This side's own connections have nobody to wait for either.
    let config = || on(Key::from(KEY)).linger(Duration::from_millis(10));
    for (role, expected) in [("close", 7), ("drop", 8)] {
        let listener = Listener::bind(free_address(), config()).unwrap();
        let chaos = Chaos::new(listener.local_addr());
        let (mut process, _) = Process::start(role, &chaos.addr.to_string());
        let server = listener.accept().unwrap();
        // It stays: dropped, it would tell the process to stop sending, if the link is there for so long.
        let receiver = server.receiver(A).unwrap();
        assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"before");
        chaos.refuse(true);
        chaos.cut(Cut::Reset);
        // It would wait for ever, and this with it.
        assert_eq!(process.status(), Some(expected), "{role}");
    }
    let listener = Listener::bind(free_address(), config()).unwrap();
    let chaos = Chaos::new(listener.local_addr());
    let (mut process, _) = Process::start("close", &chaos.addr.to_string());
    let server = listener.accept().unwrap();
    let receiver = server.receiver(A).unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"before");
    chaos.cut(Cut::Reset);
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"during");
    assert_eq!(process.status(), Some(0));
}

/// A server that is killed for real, and another process that listens on its port: the client hears
/// at its first attempt that reaches it what has happened. Its grace period has no end.
#[test]
fn a_killed_and_restarted_server_is_session_unknown() {
    let (mut server, addr) = Process::start("serve", "127.0.0.1:0");
    let addr: SocketAddr = addr.parse().unwrap();
    let config = on(Key::from(KEY)).resume_grace(Duration::MAX).linger(Duration::from_millis(10));
    let client = Connection::connect(addr, config).unwrap();
    let receiver = client.receiver(B).unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"hello");
    let events = client.events();
    server.0.kill().unwrap();
    server.0.wait().unwrap();
    assert!(matches!(next(&events), Event::Suspended { .. }));
    assert_eq!(client.close_reason(), None, "refused connections are no reason to give up");
    let (_restarted, again) = Process::start("serve", &addr.to_string());
    assert_eq!(again.parse(), Ok(addr));
    assert_eq!(lost(&receiver), ConnectionError::SessionUnknown);
    assert_eq!(next(&events), Event::Closed(ConnectionError::SessionUnknown));
}

fn lost(receiver: &trunkline::Receiver) -> ConnectionError {
    match receiver.recv_timeout(LONG) {
        Err(RecvTimeoutError::Disconnected(RecvError::ConnectionLost(cause))) => cause,
        other => panic!("{other:?}"),
    }
}

// ---------------------------------------------------------------------------
// Attackers

/// Who has seen a session's id, or has recorded the whole handshake that resumed it, and has not the
/// key: nothing happens, while the session has a socket and while it has none.
#[test]
fn who_has_the_session_id_and_not_the_key_disturbs_nothing() {
    let key: RawKey = wire::random();
    let config = on(Key::from(key)).no_heartbeat();
    let listener = Listener::bind(free_address(), config).unwrap();
    let addr = listener.local_addr();
    let mut peer = RawPeer::connect(addr, &key);
    let session = peer.accept.session;
    let server = listener.accept().unwrap();
    let events = server.events();
    peer.send_data(1, false, b"x");
    let receiver = server.receiver(A).unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"x");

    // A resume, recorded on its way.
    let mut resume = ClientHandshake::new(addr, &key).session(session, 0, 1);
    let recorded = resume.make_hello();
    resume.send_hello().unwrap();
    resume.read_server_hello().unwrap();
    let proof = resume.make_proof();
    resume.send_proof().unwrap();
    let accept = resume.read_accept().unwrap();
    let mut resumed = resume.into_peer(accept);
    drop(peer);
    assert!(matches!(next(&events), Event::Suspended { .. }));
    assert!(matches!(next(&events), Event::Resumed { .. }));

    let attack = || {
        // The recording, byte for byte.
        let mut replay = wire::dial(addr);
        std::io::Write::write_all(&mut replay, &[&recorded[..], &proof[..]].concat()).unwrap();
        let mut answer = [0; wire::SERVER_HELLO + wire::ACCEPT];
        wire::read_exact_by(&mut replay, &mut answer, std::time::Instant::now() + LONG).unwrap();
        assert_eq!(answer[wire::SERVER_HELLO], wire::status::NOT_AUTHORISED);
        // Another key under the right name.
        let wrong: RawKey = wire::random();
        let mut forged = ClientHandshake::new(addr, &wrong);
        forged.hello.key_id = wire::key_id(&key);
        forged.ignore_server_proof = true;
        (forged.proof.session, forged.proof.attempt) = (session, 9);
        assert!(forged.finish().is_err());
        // And another key altogether.
        assert!(ask(addr, &wrong, session, 0, 9).is_err());
    };
    attack();
    resumed.send_data(1, false, b"undisturbed");
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"undisturbed");
    assert!(events.try_iter().all(|event| matches!(event, Event::Opened(_))));

    let sent = resumed.sent;
    drop(resumed);
    assert!(matches!(next(&events), Event::Suspended { .. }));
    attack();
    // Who has the key and names what was never sent: status 6, and the session stays as it is.
    for offset in [1 << 20, u64::MAX] {
        assert_eq!(status(ask(addr, &key, session, offset, 9)), 6);
    }
    assert!(server.is_suspended());
    let mut back = ask(addr, &key, session, 0, 2).unwrap();
    assert_eq!(back.accept.offset, sent);
    back.send_data(1, false, b"still there");
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"still there");
    assert_eq!(server.close_reason(), None);
}

// ---------------------------------------------------------------------------
// Progress, and ends

/// No link carries more than 6,000 bytes each way, and 200,000 are to be replayed.
#[test]
fn a_link_that_never_lasts_for_a_whole_replay_makes_progress() {
    let line = Line::new(|config| config);
    line.chaos.refuse(true);
    line.chaos.cut(Cut::Reset);
    let (sender, back) = (line.client.sender(A).unwrap(), line.server.sender(B).unwrap());
    for number in 0..100u32 {
        for sender in [&sender, &back] {
            sender.send([&number.to_be_bytes()[..], &[5; 2000]].concat()).unwrap();
        }
    }
    line.chaos.plan([[6000, 6000]; 1000]);
    line.chaos.refuse(false);
    let receivers = [line.server.receiver(A).unwrap(), line.client.receiver(B).unwrap()];
    for number in 0..100u32 {
        for receiver in &receivers {
            assert_eq!(receiver.recv_timeout(LONG).unwrap()[..4], number.to_be_bytes());
        }
    }
    assert!(line.chaos.cuts() > 30, "{}", line.chaos.cuts());
}

/// Somebody who hangs up at once: an address that nobody else gets meanwhile.
fn hangs_up() -> SocketAddr {
    let listener = TcpListener::bind(free_address()).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    addr
}

/// The link falls silent in the first handshake, with no FIN and no RST, and after that the proxy is
/// dead: the client says so in time, and the server has no connection of it.
#[test]
fn a_first_handshake_that_falls_silent_ends_in_time() {
    let key = Key::generate();
    // More than both sides need; only a link that is silent takes so long.
    let patience = Duration::from_secs(1);
    let client = || {
        // The places of the cuts are those of the plain messages.
        let config = on(key.clone()).handshake_timeout(patience).connect_timeout(LONG);
        config.sealing(Sealing::Never)
    };
    // It notices silence before it takes it for a client that has nothing to say.
    let server = || on(key.clone()).heartbeat(Duration::from_millis(20), Duration::from_millis(100));
    // In each of the four messages: who has not proved the key yet is not asked again.
    let proved = wire::SERVER_HELLO as u64;
    let cuts = [[0, u64::MAX], [20, u64::MAX], [u64::MAX, 0], [u64::MAX, proved - 1]];
    let later = [
        [wire::CLIENT_HELLO as u64 + 20, u64::MAX],
        [u64::MAX, proved],
        [u64::MAX, proved + wire::ACCEPT as u64 - 1],
    ];
    thread::scope(|scope| {
        for cut in cuts.into_iter().chain(later) {
            let (key, client, server) = (&key, &client, &server);
            scope.spawn(move || {
                let gone = hangs_up();
                let listener =
                    Listener::bind(free_address(), server().handshake_timeout(patience / 2)).unwrap();
                let chaos = Chaos::new(listener.local_addr());
                chaos.plan_cuts(Cut::Silence, [cut]);
                chaos.then_lead_to(gone);
                let failed = Connection::connect(chaos.addr, client()).unwrap_err();
                let expected = if cuts.contains(&cut) {
                    HandshakeError::TimedOut
                } else {
                    // It has tried again, and met the end of the proxy.
                    HandshakeError::Disconnected
                };
                assert!(
                    matches!(failed, ConnectError::Handshake(error) if error == expected),
                    "{cut:?}: {failed}"
                );
                // The first to be accepted is one that is there.
                let real = Connection::connect(listener.local_addr(), on(key.clone())).unwrap();
                real.sender(A).unwrap().send("real").unwrap();
                let accepted = listener.accept().unwrap();
                let heard = accepted.receiver(A).unwrap().recv_timeout(LONG);
                assert_eq!(heard.as_deref(), Ok(&b"real"[..]), "{cut:?}");

                // One that has time tries until the link is good.
                let lazy = Chaos::new(listener.local_addr());
                lazy.plan_cuts(Cut::Silence, [cut]);
                let client = Connection::connect_lazily(lazy.addr, client()).unwrap();
                client.sender(A).unwrap().send("at last").unwrap();
                let accepted = listener.accept().unwrap();
                let heard = accepted.receiver(A).unwrap().recv_timeout(LONG);
                assert_eq!(heard.as_deref(), Ok(&b"at last"[..]), "{cut:?}");
            });
        }
    });
}

/// The socket is lost around the CLOSE, at every offset: who closes hears that the peer has
/// everything, and the peer hears of the close or, if the client's is lost for good, of an end.
/// Nobody waits for the grace period, which has no end. Where an orderly end of the socket stands
/// right behind the CLOSE, it is the end (protocol, section 7), and the side that closed may hear of
/// nothing.
#[test]
fn a_close_that_is_cut_anywhere_ends_both_sides() {
    let mut unconfirmed = 0;
    let ways = [Cut::Reset, Cut::Fin].map(|kind| [true, false].map(|by_client| (kind, by_client)));
    for (kind, by_client) in ways.concat() {
        let linger = if kind == Cut::Fin { Duration::from_millis(500) } else { Duration::from_secs(3600) };
        for cut in (100..=260).step_by(3).flat_map(|at| [[at, u64::MAX], [u64::MAX, at + 60]]) {
            let key = Key::generate();
            // The places of the cuts are those of the plain messages.
            let config = || {
                let config = on(key.clone()).resume_grace(Duration::MAX).linger(linger);
                config.sealing(Sealing::Never)
            };
            let listener = Listener::bind(free_address(), config()).unwrap();
            let chaos = Chaos::new(listener.local_addr());
            chaos.plan_cuts(kind, [cut]);
            let client = Connection::connect(chaos.addr, config()).unwrap();
            let server = listener.accept().unwrap();
            let (closing, other) = if by_client { (client, server) } else { (server, client) };
            closing.sender(A).unwrap().send("all").unwrap();
            assert_eq!(&*other.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"all");
            assert_eq!(closing.flush_timeout(LONG), Ok(()));
            let confirmed = closing.close(CloseCode::NORMAL, "bye").is_ok();
            assert!(confirmed || kind == Cut::Fin, "{kind:?} {cut:?}, {by_client}");
            unconfirmed += u32::from(!confirmed);
            eventually("the other side hears of it", || other.close_reason().is_some());
            let told = other.close_reason().unwrap();
            assert!(
                matches!(&told, ConnectionError::ClosedByPeer { .. }),
                "{told:?}, {kind:?} {cut:?}, {by_client}"
            );
        }
    }
    assert!(unconfirmed <= 8, "{unconfirmed}");
}

/// A listener's sessions end with it: there is nothing to come back to, and nothing to wait for.
#[test]
fn suspended_sessions_end_with_their_listener() {
    let line = Line::new(|config| config.resume_grace(Duration::MAX).linger(Duration::from_secs(3600)));
    let Line { listener, chaos, client, server, .. } = line;
    let other =
        Connection::connect(listener.local_addr(), on(line.key).resume_grace(Duration::ZERO)).unwrap();
    let connected = listener.accept().unwrap();
    client.sender(A).unwrap().send("x").unwrap();
    assert_eq!(&*server.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"x");
    chaos.refuse(true);
    chaos.cut(Cut::Reset);
    eventually("the outage", || server.is_suspended());
    let sender = server.sender(B).unwrap();
    sender.send("nobody will hear it").unwrap();
    drop(listener);
    eventually("the end", || server.close_reason().is_some());
    assert_eq!(server.close_reason(), Some(ConnectionError::SessionExpired));
    // They would wait for an hour.
    drop((sender, server));
    // What has a socket goes on.
    other.sender(A).unwrap().send("y").unwrap();
    assert_eq!(&*connected.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"y");
    // Nobody is there for the client either, and nobody waits for it.
    client.sender(A).unwrap().finish().unwrap();
    let forgotten = std::mem::ManuallyDrop::new(client);
    assert!(forgotten.is_suspended());
}

/// After a resume, the addresses are those of the socket that there is.
#[test]
fn the_addresses_are_the_current_socket_s() {
    let line = Line::new(|config| config);
    let events = [line.client.events(), line.server.events()];
    let before = (line.client.local_addr().unwrap(), line.server.peer_addr().unwrap());
    assert_eq!(line.client.peer_addr(), Some(line.chaos.addr));
    line.chaos.cut(Cut::Reset);
    for events in &events {
        assert!(matches!(next(events), Event::Suspended { .. }));
        assert!(matches!(next(events), Event::Resumed { .. }));
    }
    let after = (line.client.local_addr().unwrap(), line.server.peer_addr().unwrap());
    assert!(before.0 != after.0 && before.1 != after.1, "{before:?}, {after:?}");
    assert_eq!(line.server.local_addr(), Some(line.listener.local_addr()));
    let _ = Config::new(line.key);
}
