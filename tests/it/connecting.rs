//! The ways to a server: several addresses, those that answer with something else, and none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use trunkline::*;

use crate::support::line::next;
use crate::support::wire::{RawKey, ServerHandshake};
use crate::support::{LONG, free_address};

const A: ChannelId = ChannelId::new(1);

/// Something at an address that is not the server that is wanted.
enum Other {
    Nothing,
    Silent(#[allow(dead_code)] TcpListener),
    AnotherKey(Listener),
    /// Speaks another protocol, hangs up, or says nothing after the beginning.
    Speaks(SocketAddr),
}

fn free() -> SocketAddr {
    TcpListener::bind(free_address()).unwrap().local_addr().unwrap()
}

impl Other {
    /// One that does so with each that comes, while the test runs.
    fn speaks(answer: fn(&mut TcpStream)) -> Self {
        let listener = TcpListener::bind(free_address()).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                thread::spawn(move || answer(&mut stream.unwrap()));
            }
        });
        Self::Speaks(address)
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Nothing => free(),
            Self::Silent(listener) => listener.local_addr().unwrap(),
            Self::AnotherKey(listener) => listener.local_addr(),
            Self::Speaks(address) => *address,
        }
    }
}

fn others() -> Vec<(&'static str, Other)> {
    let http = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    };
    let hangs_up = |stream: &mut TcpStream| drop(stream.read(&mut [0; 8]));
    let echoes = |stream: &mut TcpStream| {
        let mut both = stream.try_clone().unwrap();
        let _ = std::io::copy(stream, &mut both);
    };
    let knows_no_key = |stream: &mut TcpStream| {
        // The page's ServerHello with a proof that is none.
        let mut hello = [0; 72];
        let _ = stream.read_exact(&mut hello);
        let mut answer = vec![0; 72];
        answer[..8].copy_from_slice(&hello[..8]);
        let _ = stream.write_all(&answer);
        let _ = stream.read_to_end(&mut Vec::new());
    };
    vec![
        ("nothing", Other::Nothing),
        ("silence", Other::Silent(TcpListener::bind(free_address()).unwrap())),
        (
            "another key",
            Other::AnotherKey(Listener::bind(free_address(), Config::new(Key::generate())).unwrap()),
        ),
        ("HTTP", Other::speaks(http)),
        ("a server that hangs up", Other::speaks(hangs_up)),
        ("an echo", Other::speaks(echoes)),
        ("an impostor", Other::speaks(knows_no_key)),
    ]
}

fn works(client: &Connection, listener: &Listener) {
    let server = listener.accept_timeout(LONG).unwrap();
    client.sender(A).unwrap().send("found").unwrap();
    assert_eq!(&*server.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"found");
}

/// A name that stands for several addresses is tried at all of them, whatever is at the others, and
/// wherever among them the server is.
#[test]
fn every_address_is_tried_whatever_is_at_the_others() {
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone())).unwrap();
    let server = listener.local_addr();
    let others = others();
    for (name, other) in &others {
        let other = other.address();
        for addresses in [vec![other, server], vec![other, other, server, other], vec![server, other]] {
            let connect = Connection::connect(addresses.clone(), Config::new(key.clone()));
            works(&connect.unwrap_or_else(|error| panic!("{name} first: {error}")), &listener);
            let lazy = Connection::connect_lazily(addresses, Config::new(key.clone())).unwrap();
            works(&lazy, &listener);
        }
    }
    // All of them at once.
    let all: Vec<_> = others.iter().map(|(_, other)| other.address()).chain([server]).collect();
    works(&Connection::connect(all, Config::new(key)).unwrap(), &listener);
}

/// All of it has one time: addresses that say nothing do not add up.
#[test]
fn silent_addresses_share_one_connect_timeout() {
    let silent: Vec<_> = (0..4).map(|_| TcpListener::bind(free_address()).unwrap()).collect();
    let addresses: Vec<_> = silent.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let time = Duration::from_millis(900);
    for handshake in [Duration::from_millis(900), Duration::from_secs(3)] {
        let config = Config::new(Key::generate()).connect_timeout(time).handshake_timeout(handshake);
        let begun = Instant::now();
        let error = Connection::connect(addresses.clone(), config).unwrap_err();
        let took = begun.elapsed();
        assert!((time - Duration::from_millis(100)..time * 3).contains(&took), "{took:?}");
        let timed_out = match &error {
            ConnectError::Io(error) => error.kind() == std::io::ErrorKind::TimedOut,
            ConnectError::Handshake(error) => *error == HandshakeError::TimedOut,
            _ => false,
        };
        assert!(timed_out, "{error:?}");
    }
}

/// The error is that which says most: a server that speaks says more than one that is not there.
#[test]
fn of_several_failures_the_one_that_says_most_is_told() {
    let another = Listener::bind(free_address(), Config::new(Key::generate())).unwrap();
    let addresses = [[another.local_addr(), free()], [free(), another.local_addr()]];
    for addresses in addresses {
        let error = Connection::connect(addresses, Config::new(Key::generate())).unwrap_err();
        assert!(matches!(error, ConnectError::Handshake(HandshakeError::NotAuthorised)), "{error:?}");
    }
    let error = Connection::connect([free(), free()], Config::new(Key::generate())).unwrap_err();
    let refused = std::io::ErrorKind::ConnectionRefused;
    assert!(matches!(&error, ConnectError::Io(error) if error.kind() == refused), "{error:?}");
    assert!(Connection::connect(Vec::new(), Config::new(Key::generate())).is_err());
}

/// A name is looked up, and stands for whatever it stands for: here perhaps for two families, of which
/// the server listens on one.
#[test]
fn a_name_of_two_families_finds_the_one_that_listens() {
    let key = Key::generate();
    let v6 = TcpListener::bind("[::1]:0").is_ok();
    for address in ["127.0.0.1:0", "[::1]:0"].into_iter().take(1 + usize::from(v6)) {
        let listener = Listener::bind(address, Config::new(key.clone())).unwrap();
        let port = listener.local_addr().port();
        let names_it = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", port)).unwrap();
        if !names_it.into_iter().any(|named| named == listener.local_addr()) {
            continue;
        }
        for name in [Address::from(("localhost", port)), Address::from(format!("localhost:{port}"))] {
            works(&Connection::connect(&name, Config::new(key.clone())).unwrap(), &listener);
            works(&Connection::connect_lazily(&name, Config::new(key.clone())).unwrap(), &listener);
        }
    }
}

/// A connection that has lost its socket tries all addresses again.
#[test]
fn a_lost_connection_comes_back_by_any_of_its_addresses() {
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone())).unwrap();
    let [one, two] = [0, 1].map(|_| crate::support::chaos::Chaos::new(listener.local_addr()));
    let client = Connection::connect([one.addr, two.addr], Config::new(key)).unwrap();
    let server = listener.accept().unwrap();
    let events = client.events();
    for gone in [&one, &two, &one] {
        one.refuse(false);
        two.refuse(false);
        gone.refuse(true);
        one.cut(crate::support::chaos::Cut::Reset);
        two.cut(crate::support::chaos::Cut::Reset);
        assert!(matches!(next(&events), Event::Suspended { .. }));
        assert!(matches!(next(&events), Event::Resumed { .. }));
    }
    client.sender(A).unwrap().send("found again").unwrap();
    assert_eq!(&*server.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"found again");
}

/// A server on this machine that is gone: what a killed process leaves.
fn lose(config: Config) -> (Connection, Events) {
    const KEY: RawKey = [3; 32];
    let socket = TcpListener::bind(free_address()).unwrap();
    let address = socket.local_addr().unwrap();
    let connecting = thread::spawn(move || Connection::connect(address, config).unwrap());
    let mut peer = ServerHandshake::accept(&socket, &KEY).finish().unwrap();
    let client = connecting.join().unwrap();
    let events = client.events();
    drop(socket);
    peer.cut();
    (client, events)
}

/// On this machine a refused connection means that the listener is gone: that is told after a short
/// grace of its own, to every call that waits, with a cause that says so.
#[test]
fn a_server_on_this_machine_that_is_gone_is_given_up_soon() {
    let config = || Config::new(Key::from([3; 32])).resume_grace(LONG * 10);
    for config in
        [config(), config().local_grace(Duration::from_millis(50)), config().local_grace(Duration::ZERO)]
    {
        let begun = Instant::now();
        let (client, events) = lose(config.linger(Duration::ZERO));
        let receiver = client.receiver(A).unwrap();
        let end = receiver.recv_timeout(LONG).unwrap_err();
        assert_eq!(end, RecvError::ConnectionLost(ConnectionError::PeerGone).into());
        // By default it is a second.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert!(matches!(next(&events), Event::Suspended { cause: ConnectionError::Lost { .. } }));
        assert_eq!(next(&events), Event::Closed(ConnectionError::PeerGone));
        assert_eq!(events.recv(), Err(EventError::Over));
        let cause = Disconnect::ConnectionLost(ConnectionError::PeerGone);
        assert_eq!(client.sender(A).unwrap_err(), ChannelError::ConnectionLost(ConnectionError::PeerGone));
        assert!(client.flush().is_err());
        assert_eq!(cause.to_string(), ConnectionError::PeerGone.to_string());
    }
}

/// A tunnel's user raises it, and the connection waits for the tunnel to come back.
#[test]
fn the_grace_of_this_machine_can_be_raised() {
    let config = Config::new(Key::from([3; 32])).local_grace(LONG).linger(Duration::ZERO);
    let (client, events) = lose(config);
    assert!(matches!(next(&events), Event::Suspended { .. }));
    assert_eq!(events.recv_timeout(Duration::from_millis(2500)), Err(EventError::Empty));
    assert!(client.is_suspended());
    client.abandon();
}

/// A port that nothing listens on, and from which the system is about to connect to itself: how many
/// connects later.
#[cfg(target_os = "linux")]
fn about_to_meet_itself() -> Option<(u16, u32)> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut range = range.split_whitespace().map(|number| number.parse::<u32>());
    let (low, high) = (range.next()?.ok()?, range.next()?.ok()?);
    let mut noise = crate::support::wire::Noise(u64::from(std::process::id()) * 77 + 5);
    for _ in 0..2000 {
        // A connect takes every other port in turn.
        let port = low + 2 * noise.below(((high - low) / 2) as usize) as u32;
        let Ok(listener) = TcpListener::bind(("127.0.0.1", port as u16)) else { continue };
        let Ok(stream) = TcpStream::connect(("127.0.0.1", port as u16)) else { continue };
        let from = u32::from(stream.local_addr().ok()?.port());
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok()?;
        drop((stream, listener));
        if from < port && (port - from) / 2 < 300 {
            return Some((port as u16, (port - from) / 2));
        }
    }
    None
}

/// A client that by chance connects to itself has found nobody, and leaves the port to a listener.
#[test]
#[cfg(target_os = "linux")]
fn a_client_that_connects_to_itself_is_refused_and_leaves_the_port_free() {
    for _ in 0..3 {
        // Where the system chooses ports in another way there is nothing to be forced.
        let Some((port, soon)) = about_to_meet_itself() else { return };
        for attempt in 0..soon * 2 + 50 {
            let error = Connection::connect(("127.0.0.1", port), Config::new(Key::generate())).unwrap_err();
            let refused = std::io::ErrorKind::ConnectionRefused;
            assert!(
                matches!(&error, ConnectError::Io(error) if error.kind() == refused),
                "{attempt}: {error:?}"
            );
            // At once, without waiting for the end of an old connection.
            if attempt % 8 == 0 {
                drop(TcpListener::bind(("127.0.0.1", port)).unwrap());
            }
        }
    }
}

/// A task's waker that counts.
#[derive(Default)]
struct Wakes(std::sync::Mutex<u32>, std::sync::Condvar);

impl std::task::Wake for Wakes {
    fn wake(self: std::sync::Arc<Self>) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }
}

#[test]
fn a_task_that_waits_for_its_connection_is_woken_once_it_is_there() {
    let key = Key::generate();
    let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone())).unwrap();
    for (key, works) in [(key, true), (Key::generate(), false)] {
        let mut connecting = std::pin::pin!(
            Connection::connecting(listener.local_addr(), Config::new(key).connect_timeout(LONG)).unwrap()
        );
        let wakes = std::sync::Arc::new(Wakes::default());
        let waker = std::task::Waker::from(std::sync::Arc::clone(&wakes));
        let mut context = std::task::Context::from_waker(&waker);
        let result = loop {
            match std::future::Future::poll(connecting.as_mut(), &mut context) {
                std::task::Poll::Ready(result) => break result,
                std::task::Poll::Pending => {
                    let woken = wakes.0.lock().unwrap();
                    let (mut woken, late) =
                        wakes.1.wait_timeout_while(woken, LONG, |woken| *woken == 0).unwrap();
                    assert!(!late.timed_out(), "not woken");
                    *woken = 0;
                }
            }
        };
        match result {
            Ok(client) => {
                assert!(works);
                client.sender(A).unwrap().send("made by a task").unwrap();
                let server = listener.accept().unwrap();
                assert_eq!(&*server.receiver(A).unwrap().recv().unwrap(), b"made by a task");
            }
            Err(error) => {
                assert!(!works);
                assert!(matches!(error, ConnectError::Handshake(HandshakeError::NotAuthorised)), "{error}");
            }
        }
    }
}

#[test]
fn an_attempt_that_is_given_up_leaves_no_connection_open() {
    let key = Key::generate();
    let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone())).unwrap();
    // Given up before there is an answer, and after: the peer hears the end in both cases.
    for polls in [false, true] {
        let connecting = Connection::connecting(listener.local_addr(), Config::new(key.clone())).unwrap();
        if !polls {
            drop(connecting);
            // It may have been given up before the server knew of it.
            let Ok(server) = listener.accept_timeout(Duration::from_secs(1)) else { continue };
            assert!(server.receiver(A).unwrap().recv().is_err());
            continue;
        }
        let server = listener.accept_timeout(LONG).unwrap();
        drop(connecting);
        let end = server.receiver(A).unwrap().recv_timeout(LONG).unwrap_err();
        let RecvTimeoutError::Disconnected(RecvError::ConnectionLost(cause)) = end else { panic!("{end}") };
        assert_eq!(cause.close_code(), Some(CloseCode::NORMAL));
    }
}
