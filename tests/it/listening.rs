//! A listener's own ends and waits.

use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use trunkline::*;

use crate::support::LONG;
use crate::support::wire::ClientHandshake;

fn listener() -> (Listener, impl Fn() -> Connection) {
    let key = Key::generate();
    let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone())).unwrap();
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
    let listener = Listener::bind("127.0.0.1:0", Config::new(Key::from(KEY))).unwrap();
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
