//! A listener's own ends and waits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use trunkline::*;

use crate::support::wire::ClientHandshake;
use crate::support::{LONG, free_address};

fn listener() -> (Listener, impl Fn() -> Connection) {
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone())).unwrap();
    let address = listener.local_addr();
    (listener, move || Connection::connect(address, Config::new(key.clone())).unwrap())
}

#[test]
fn close_ends_every_call_that_waits_in_another_thread() {
    for _ in 0..50 {
        let (listener, _connect) = listener();
        let ready = listener.ready();
        thread::scope(|scope| {
            let waiting = [
                scope.spawn(|| listener.accept().unwrap_err()),
                scope.spawn(|| listener.accept_timeout(LONG).unwrap_err()),
                scope.spawn(|| listener.accept_deadline(Instant::now() + LONG).unwrap_err()),
            ];
            let incoming = scope.spawn(|| listener.incoming().count());
            listener.close();
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), AcceptError::Closed);
            }
            assert_eq!(incoming.join().unwrap(), 0);
        });
        while ready.recv_timeout(LONG).is_ok() {}
        assert_eq!(ready.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected));
        assert_eq!(listener.try_accept().unwrap_err(), AcceptError::Closed);
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(listener.poll_accept(&mut context), Poll::Ready(Err(AcceptError::Closed))));
        listener.close();
    }
}

/// The port is free, connections go on, and those that nobody accepted are told.
#[test]
fn close_lets_go_of_the_port_and_of_nothing_that_was_accepted() {
    let (listener, connect) = listener();
    let client = connect();
    let server = listener.accept().unwrap();
    let unaccepted = connect();
    let address = listener.local_addr();
    listener.close();
    let begun = Instant::now();
    while std::net::TcpListener::bind(address).is_err() {
        assert!(begun.elapsed() < LONG, "the port is never free");
        thread::yield_now();
    }
    client.sender(ChannelId::new(1)).unwrap().send("still here").unwrap();
    let message = server.receiver(ChannelId::new(1)).unwrap().recv_timeout(LONG).unwrap();
    assert_eq!(&*message, b"still here");
    let end = unaccepted.receiver(ChannelId::new(1)).unwrap().recv_timeout(LONG).unwrap_err();
    assert!(matches!(end, RecvTimeoutError::Disconnected(RecvError::ConnectionLost(_))), "{end:?}");
}

/// Also a client that has not said a word since it was let in, and so could not be accepted yet.
#[test]
fn close_tells_a_client_that_was_let_in_and_said_nothing() {
    const KEY: [u8; 32] = [4; 32];
    let listener = Listener::bind(free_address(), Config::new(Key::from(KEY))).unwrap();
    let mut client = ClientHandshake::new(listener.local_addr(), &KEY).silent().finish().unwrap();
    listener.close();
    assert_eq!(client.expect_close_frame().0, u16::from(CloseCode::SHUTTING_DOWN));
}

#[test]
fn try_accept_and_accept_timeout_wait_no_longer_than_they_say() {
    let (listener, connect) = listener();
    assert_eq!(listener.try_accept().unwrap_err(), AcceptError::Empty);
    let (begun, time) = (Instant::now(), Duration::from_millis(30));
    assert_eq!(listener.accept_timeout(time).unwrap_err(), AcceptError::Empty);
    assert!(begun.elapsed() >= time);
    let _first = connect();
    listener.accept_timeout(LONG).unwrap();
    let _second = connect();
    let begun = Instant::now();
    while listener.try_accept().is_err() {
        assert!(begun.elapsed() < LONG, "it never comes");
        thread::yield_now();
    }
    // And it can be selected on.
    let ready = listener.ready();
    let _third = connect();
    ready.recv_timeout(LONG).unwrap();
    listener.accept_timeout(LONG).unwrap();
}

/// Waits for the event that counts the peers which were turned away for this reason.
fn turned_away(events: &ListenerEvents, wanted: HandshakeError) -> (u64, Option<SocketAddr>) {
    match events.recv_timeout(LONG).unwrap() {
        ListenerEvent::TurnedAway { error, peers, last } if error == wanted => (peers, last),
        other => panic!("{other:?} and not {wanted:?}"),
    }
}

#[test]
fn events_tell_of_each_reason_to_turn_a_peer_away() {
    const KEY: [u8; 32] = [4; 32];
    let config = Config::new(Key::from(KEY)).max_connections(1).handshake_timeout(Duration::from_millis(200));
    let listener = Listener::bind(free_address(), config).unwrap();
    let address = listener.local_addr();
    let events = listener.events();
    assert_eq!(events.try_recv(), Err(EventError::Empty));

    let mut stranger = TcpStream::connect(address).unwrap();
    let from = stranger.local_addr().unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(turned_away(&events, HandshakeError::NotTrunkline), (1, Some(from)));
    drop(TcpStream::connect(address).unwrap());
    assert_eq!(turned_away(&events, HandshakeError::Disconnected).0, 1);
    let _silent = TcpStream::connect(address).unwrap();
    assert_eq!(turned_away(&events, HandshakeError::TimedOut).0, 1);
    // Whatever versions they speak, it is one reason.
    let (later, any_other) = ([2, 9], [0, 0]);
    for versions in [later, any_other] {
        let mut hello = [0; 48];
        hello[..4].copy_from_slice(&[0xf4, b'T', b'L', b'N']);
        hello[4..6].copy_from_slice(&versions);
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(&hello).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer[4..6], [1, 1], "this version, and that there is none in common");
    }
    let error = HandshakeError::NoCommonVersion { client: 0, server: 1 };
    assert_eq!(
        error.to_string(),
        "the client does not speak protocol version 1, as this listener does; update the older of the two"
    );
    let first = turned_away(&events, error).0;
    assert_eq!(first + if first == 1 { turned_away(&events, error).0 } else { 0 }, 2);
    let other = Config::new(Key::generate());
    assert!(Connection::connect(address, other).is_err());
    assert_eq!(turned_away(&events, HandshakeError::NotAuthorised).0, 1);
    let mut unknown = ClientHandshake::new(address, &KEY).session([7; 16], 5, 1);
    assert!(unknown.shake().is_err());
    assert_eq!(turned_away(&events, HandshakeError::SessionUnknown).0, 1);
    let _client = Connection::connect(address, Config::new(Key::from(KEY))).unwrap();
    for _ in 0..3 {
        assert!(ClientHandshake::new(address, &KEY).shake().is_err());
    }
    let mut busy = 0;
    while busy < 3 {
        busy += turned_away(&events, HandshakeError::TooBusy).0;
    }
    assert_eq!(busy, 3);
    assert_eq!(events.try_recv(), Err(EventError::Empty), "an accepted client is no event");

    // A thread that waits hears of the end, and so does a handle that was made after it.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| events.iter().collect::<Vec<_>>());
        listener.close();
        assert_eq!(waiting.join().unwrap(), [ListenerEvent::Closed]);
    });
    assert_eq!(events.recv(), Err(EventError::Over));
    assert_eq!(listener.events().recv(), Ok(ListenerEvent::Closed));
}

#[test]
fn a_key_has_no_more_connections_than_its_quota() {
    let (wide, narrow) = (Key::generate(), Key::generate());
    let config = Config::new(wide.clone()).with_key(narrow.clone(), Access::full().max_connections(2));
    let listener = Listener::bind(free_address(), config).unwrap();
    // A client that is told to come later comes again, for so long.
    let patience = Duration::from_millis(100);
    let connect = |key: &Key| {
        Connection::connect(listener.local_addr(), Config::new(key.clone()).connect_timeout(patience))
    };
    let first = connect(&narrow).unwrap();
    let _second = connect(&narrow).unwrap();
    for _ in 0..3 {
        let refused = connect(&narrow).unwrap_err();
        assert!(matches!(refused, ConnectError::Handshake(HandshakeError::TooBusy)), "{refused}");
    }
    // Another key is not concerned.
    let _others: Vec<Connection> = (0..5).map(|_| connect(&wide).unwrap()).collect();
    // There is room again once one of them is over.
    first.close(CloseCode::NORMAL, "").unwrap();
    let begun = Instant::now();
    let _third = loop {
        match connect(&narrow) {
            Ok(third) => break third,
            Err(_) => assert!(begun.elapsed() < LONG, "the place is never free"),
        }
    };
    assert!(connect(&narrow).is_err());
}

/// Else a client that nothing is gained for costs another its session.
#[test]
fn a_client_that_is_refused_takes_no_session_away() {
    const KEY: [u8; 32] = [4; 32];
    let other = Key::generate();
    let config = Config::with_access(Key::from(KEY), Access::full().max_connections(1))
        .with_key(other.clone(), Access::full())
        .linger(Duration::from_millis(50))
        .max_connections(1);
    let listener = Listener::bind(free_address(), config).unwrap();
    let address = listener.local_addr();
    let mut peer = ClientHandshake::new(address, &KEY).grace(60_000).finish().unwrap();
    let away = listener.accept_timeout(LONG).unwrap();
    peer.expect_alive();
    peer.cut();
    let begun = Instant::now();
    while !away.is_suspended() {
        assert!(begun.elapsed() < LONG, "the outage goes unnoticed");
        thread::yield_now();
    }
    // The listener has no place left.
    let _taken = Connection::connect(address, Config::new(other)).unwrap();
    assert!(ClientHandshake::new(address, &KEY).shake().is_err());
    assert!(away.is_suspended());
    peer.resume(address).unwrap();
    peer.expect_alive();
}

/// A laptop that went to sleep holds no place against its owner, who comes from another machine.
#[test]
fn a_session_without_a_socket_makes_room_for_a_new_client_of_its_key() {
    const KEY: [u8; 32] = [4; 32];
    let access = Access::full().max_connections(2);
    let config = Config::with_access(Key::from(KEY), access).linger(Duration::from_millis(50));
    let listener = Listener::bind(free_address(), config).unwrap();
    let address = listener.local_addr();
    let raw = || {
        let mut peer = ClientHandshake::new(address, &KEY).grace(60_000).finish().unwrap();
        let connection = listener.accept_timeout(LONG).unwrap();
        peer.expect_alive();
        (peer, connection)
    };
    let (mut older, ghost) = raw();
    let (mut newer, other) = raw();
    for (peer, connection) in [(&mut older, &ghost), (&mut newer, &other)] {
        peer.cut();
        let begun = Instant::now();
        while !connection.is_suspended() {
            assert!(begun.elapsed() < LONG, "the outage goes unnoticed");
            thread::yield_now();
        }
    }
    let _client = Connection::connect(address, Config::new(Key::from(KEY))).unwrap();
    // The one that was away for longest.
    let events = ghost.events();
    while !matches!(events.recv_timeout(LONG).unwrap(), Event::Closed(ConnectionError::SessionExpired)) {}
    assert!(other.is_suspended());
}
