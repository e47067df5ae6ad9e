//! Connections over sockets that the caller has connected.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use trunkline::*;

use crate::support::wire::{self, RawKey, ServerHandshake};
use crate::support::{LONG, free_address};

const A: ChannelId = ChannelId::new(1);

/// A socket, and the other end of it.
fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(free_address()).unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn handshake_error(failed: Result<Connection, ConnectError>) -> HandshakeError {
    match failed {
        Err(ConnectError::Handshake(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_ends_over_sockets_of_the_callers_talk_and_close() {
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone())).unwrap();
    let (one, two) = sockets();
    let expected = two.peer_addr().unwrap();
    // As a caller may have used them before.
    one.set_nonblocking(true).unwrap();
    two.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    listener.adopt(two).unwrap();
    let client = Connection::from_stream(one, Config::new(key)).unwrap();
    let server = listener.accept().unwrap();
    assert_eq!(server.peer_addr(), Some(expected));
    client.sender(A).unwrap().send(vec![7; 3_000_000]).unwrap();
    assert_eq!(server.receiver(A).unwrap().recv_timeout(LONG).unwrap().len(), 3_000_000);
    assert_eq!(client.close(CloseCode::NORMAL, "bye"), Ok(()));
}

#[test]
fn a_lost_socket_of_the_callers_is_the_end_whatever_the_grace() {
    let key = Key::generate();
    let config = Config::new(key).resume_grace(Duration::MAX);
    let listener = Listener::bind(free_address(), config.clone()).unwrap();
    let (one, two) = sockets();
    let cut = one.try_clone().unwrap();
    listener.adopt(two).unwrap();
    let client = Connection::from_stream(one, config).unwrap();
    let server = listener.accept().unwrap();
    cut.shutdown(std::net::Shutdown::Both).unwrap();
    for end in [&client, &server] {
        let lost = end.receiver(A).unwrap().recv_timeout(LONG).unwrap_err();
        let RecvTimeoutError::Disconnected(RecvError::ConnectionLost(cause)) = lost else {
            panic!("{lost:?}")
        };
        assert!(matches!(cause, ConnectionError::Lost { .. }), "{cause:?}");
    }
}

#[test]
fn a_server_that_is_none_or_is_silent_is_told_apart_in_time() {
    let config = || Config::new(Key::generate()).handshake_timeout(Duration::from_millis(300));
    let (one, two) = sockets();
    let begun = Instant::now();
    assert_eq!(handshake_error(Connection::from_stream(one, config())), HandshakeError::TimedOut);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    drop(two);

    let (one, two) = sockets();
    drop(two);
    assert_eq!(handshake_error(Connection::from_stream(one, config())), HandshakeError::Disconnected);

    let (one, mut two) = sockets();
    two.write_all(b"HTTP/1.1 400 Bad Request").unwrap();
    assert_eq!(handshake_error(Connection::from_stream(one, config())), HandshakeError::NotTrunkline);

    // One that never says the next byte late enough to be given up for it.
    let (one, mut two) = sockets();
    let trickle = thread::spawn(move || {
        for byte in *b"TRNK" {
            thread::sleep(Duration::from_millis(120));
            if two.write_all(&[byte]).is_err() {
                break;
            }
        }
        let _ = two.read(&mut [0; 1]);
    });
    let begun = Instant::now();
    assert!(Connection::from_stream(one, config()).is_err());
    assert!(begun.elapsed() < LONG / 2);
    trickle.join().unwrap();
}

#[test]
fn a_wrong_key_is_not_authorised_and_disturbs_no_other() {
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone())).unwrap();
    let (one, two) = sockets();
    listener.adopt(two).unwrap();
    let wrong = Connection::from_stream(one, Config::new(Key::generate()));
    assert_eq!(handshake_error(wrong), HandshakeError::NotAuthorised);
    let (mut one, two) = sockets();
    listener.adopt(two).unwrap();
    one.write_all(&[0; 10_000]).unwrap();
    // It is hung up on.
    let _ = one.read_to_end(&mut Vec::new());
    let client = Connection::connect(listener.local_addr(), Config::new(key)).unwrap();
    client.sender(A).unwrap().send("x").unwrap();
    assert_eq!(&*listener.accept().unwrap().receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"x");
}

/// It would wait for a client that cannot come back.
#[test]
fn a_server_that_grants_a_grace_that_was_not_asked_for_is_refused() {
    let key: RawKey = wire::random();
    let server = TcpListener::bind(free_address()).unwrap();
    let address = server.local_addr().unwrap();
    let client = thread::spawn(move || {
        Connection::from_stream(TcpStream::connect(address).unwrap(), Config::new(Key::from(key)))
    });
    let mut handshake = ServerHandshake::accept(&server, &key);
    let proof = handshake.hear().unwrap();
    assert_eq!(proof.grace, 0);
    handshake.accept.grace = 60_000;
    handshake.send_accept().unwrap();
    assert_eq!(handshake_error(client.join().unwrap()), HandshakeError::Malformed);
}

#[test]
fn a_closed_listener_adopts_nothing() {
    let listener = Listener::bind(free_address(), Config::new(Key::generate())).unwrap();
    listener.close();
    let (mut one, two) = sockets();
    assert_eq!(listener.adopt(two).unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    assert_eq!(one.read(&mut [0; 1]).unwrap_or(0), 0, "it was let go");
}
