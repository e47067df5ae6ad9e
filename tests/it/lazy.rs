//! Connections that do not wait for their peer: `Connection::connect_lazily`.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::chaos::{Chaos, Cut};
use crate::support::line::{eventually, next, on};
use crate::support::{LONG, free_address};
use trunkline::{
    Access, ChannelError, ChannelId, ChannelSet, CloseCode, Config, ConnectError, Connection,
    ConnectionError, Disconnect, Event, Fault, HandshakeError, Key, Listener, RecvError, RecvTimeoutError,
    SendError, TrySendError,
};

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);
const C: ChannelId = ChannelId::new(3);

/// A link that leads nowhere yet, and whoever will be behind it.
struct Nowhere {
    key: Key,
    chaos: Chaos,
}

impl Nowhere {
    fn new() -> Self {
        let nobody = TcpListener::bind(free_address()).unwrap().local_addr().unwrap();
        let chaos = Chaos::new(nobody);
        chaos.refuse(true);
        Self { key: Key::generate(), chaos }
    }

    fn client(&self, set: impl Fn(Config) -> Config) -> Connection {
        Connection::connect_lazily(self.chaos.addr, set(on(self.key.clone()))).unwrap()
    }

    /// The listener comes.
    fn listen(&self, config: Config) -> Listener {
        let listener = Listener::bind(free_address(), config).unwrap();
        self.chaos.lead_to(listener.local_addr());
        self.chaos.refuse(false);
        listener
    }
}

fn lost(result: Result<trunkline::Message, RecvTimeoutError>) -> ConnectionError {
    match result {
        Err(RecvTimeoutError::Disconnected(RecvError::ConnectionLost(cause))) => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_sent_waits_and_goes_when_the_peer_comes() {
    let nowhere = Nowhere::new();
    let client = nowhere.client(|config| config);
    assert!(client.is_suspended());
    assert_eq!((client.local_addr(), client.peer_addr(), client.close_reason()), (None, None, None));
    assert_eq!((client.may_send(), client.may_receive()), (ChannelSet::ALL, ChannelSet::ALL));
    assert_eq!(client.interrupt(), Err(ChannelError::InterruptNotPermitted));
    let events = client.events();

    let answers = client.receiver(B).unwrap();
    let blocked = thread::spawn(move || answers.recv_timeout(LONG).map(|message| message.to_vec()));
    let (first, second) = (client.sender(A).unwrap(), client.sender(C).unwrap());
    first.send("one").unwrap();
    second.send("two").unwrap();
    first.send(vec![3; 300_000]).unwrap();
    first.finish().unwrap();
    assert_eq!(client.stats().messages_sent, 3);
    assert!(client.flush_timeout(Duration::from_millis(1)).is_err());

    let listener = nowhere.listen(on(nowhere.key.clone()).with_key(Key::generate(), Access::full()));
    let server = listener.accept().unwrap();
    match next(&events) {
        Event::Resumed { attempts, .. } => assert!(attempts >= 1),
        other => panic!("{other:?}"),
    }
    let receiver = server.receiver(A | C).unwrap();
    let heard: Vec<_> = (0..3).map(|_| receiver.recv_timeout(LONG).unwrap()).collect();
    // In the order in which it was sent.
    assert_eq!((heard[0].channel(), &*heard[0]), (A, &b"one"[..]));
    assert_eq!((heard[1].channel(), &*heard[1]), (C, &b"two"[..]));
    assert_eq!((heard[2].channel(), &*heard[2]), (A, &vec![3; 300_000][..]));
    server.sender(B).unwrap().send("an answer").unwrap();
    assert_eq!(blocked.join().unwrap().unwrap(), b"an answer");
    assert_eq!(client.flush_timeout(LONG), Ok(()));
    assert!(!client.is_suspended());
    assert_eq!(client.peer_addr(), Some(nowhere.chaos.addr));
    assert!(client.local_addr().is_some());
    client.interrupt().unwrap();

    // From now on it is a connection like others: it goes on over another socket.
    let before = client.local_addr();
    nowhere.chaos.cut(Cut::Reset);
    assert!(matches!(next(&events), Event::Suspended { .. }));
    assert!(matches!(next(&events), Event::Resumed { .. }));
    assert_ne!(client.local_addr(), before);
    second.send("after").unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"after");
    assert_eq!(client.close(CloseCode::NORMAL, ""), Ok(()));
}

/// The listener grants less than the client took for granted: nothing is lost, and nothing goes
/// without credit, which would be the end of the connection.
#[test]
fn a_peer_with_a_smaller_window_gets_everything_as_it_makes_room() {
    let nowhere = Nowhere::new();
    let client = nowhere.client(|config| config);
    let sizes = [0usize, 1, 900, 0, 992, 993, 5000, 0, 0, 70_000, 3, 200_000];
    for channel in [A, B] {
        let sender = client.sender(channel).unwrap();
        for (number, size) in sizes.into_iter().enumerate() {
            sender.send(vec![number as u8; size]).unwrap();
        }
        sender.finish().unwrap();
        // The next run.
        client.sender(channel).unwrap().send("again").unwrap();
    }
    let small = client.sender(C).unwrap();
    small.send("fits").unwrap();
    let listener = nowhere.listen(on(nowhere.key.clone()).window(1024));
    let server = listener.accept().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(client.flush_timeout(LONG), Ok(())));
        for channel in [A, B] {
            let receiver = server.receiver(channel).unwrap();
            scope.spawn(move || {
                for (number, size) in sizes.into_iter().enumerate() {
                    assert_eq!(*receiver.recv_timeout(LONG).unwrap(), vec![number as u8; size]);
                }
                let end = receiver.recv_timeout(LONG);
                assert_eq!(end.unwrap_err(), RecvTimeoutError::Disconnected(RecvError::Finished));
                assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"again");
            });
        }
    });
    let receiver = server.receiver(C).unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"fits");
    // What is sent now goes by what the peer grants.
    small.send([7; 600]).unwrap();
    assert!(matches!(small.try_send([7; 1000]), Err(TrySendError::Full { .. }) | Ok(())));
    // What has no room is not waited for.
    drop(receiver);
    assert_eq!(client.close(CloseCode::NORMAL, ""), Ok(()));
}

/// The same in the other direction: a window that is larger is used.
#[test]
fn a_peer_with_a_larger_window_gets_more() {
    let nowhere = Nowhere::new();
    let client = nowhere.client(|config| config.window(4096));
    let sender = client.sender(A).unwrap();
    sender.send(vec![1; 50_000]).unwrap();
    assert!(matches!(sender.try_send("no room"), Err(TrySendError::Full { .. })));
    let listener = nowhere.listen(on(nowhere.key.clone()));
    let _server = listener.accept().unwrap();
    // The receiver takes nothing.
    sender.send_timeout(vec![2; 500_000], LONG).unwrap();
    assert_eq!(client.flush_timeout(LONG), Ok(()));
}

#[test]
fn a_refusal_ends_it_at_once_for_every_handle() {
    let nowhere = Nowhere::new();
    let client = nowhere.client(|config| config.resume_grace(Duration::MAX));
    let events = client.events();
    let (sender, receiver) = (client.sender(A).unwrap(), client.receiver(A).unwrap());
    let blocked = thread::spawn(move || receiver.recv_timeout(LONG));
    sender.send("never heard").unwrap();
    let _other = nowhere.listen(on(Key::generate()));
    let cause = ConnectionError::Refused(HandshakeError::NotAuthorised);
    assert_eq!(lost(blocked.join().unwrap()), cause);
    assert!(matches!(
        sender.send("x"),
        Err(SendError::Disconnected { cause: Disconnect::ConnectionLost(c), .. }) if c == cause
    ));
    assert_eq!(next(&events), Event::Closed(cause.clone()));
    assert_eq!(client.close_reason(), Some(cause.clone()));
    assert_eq!(client.close(CloseCode::NORMAL, "").unwrap_err().cause(), Some(&cause));
    assert_eq!((cause.fault(), cause.close_code()), (Fault::Caller, None));
    assert!(cause.to_string().contains("the server does not accept this key"), "{cause}");
}

/// Who talks something else is no peer that will come.
#[test]
fn another_protocol_ends_it_at_once() {
    let listener = TcpListener::bind(free_address()).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let client = Connection::connect_lazily(addr, on(Key::generate())).unwrap();
    let cause = lost(client.receiver(A).unwrap().recv_timeout(LONG));
    assert_eq!(cause, ConnectionError::Refused(HandshakeError::NotTrunkline));
}

#[test]
fn after_the_grace_period_the_peer_is_unreachable() {
    let gone = TcpListener::bind(free_address()).unwrap().local_addr().unwrap();
    for grace in [Duration::from_millis(300), Duration::ZERO] {
        let config = on(Key::generate()).resume_grace(grace);
        let client = Connection::connect_lazily(gone, config).unwrap();
        let begun = Instant::now();
        let cause = lost(client.receiver(A).unwrap().recv_timeout(LONG));
        assert_eq!(cause, ConnectionError::PeerUnreachable);
        assert!(begun.elapsed() >= grace.mul_f32(0.9));
    }
}

/// Without a grace there is one attempt, and no resumption after it.
#[test]
fn without_a_grace_a_peer_that_is_there_is_met() {
    let nowhere = Nowhere::new();
    let listener = nowhere.listen(on(nowhere.key.clone()));
    let client = nowhere.client(|config| config.resume_grace(Duration::ZERO));
    client.sender(A).unwrap().send("hello").unwrap();
    let server = listener.accept().unwrap();
    assert_eq!(&*server.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"hello");
    assert_eq!(client.flush_timeout(LONG), Ok(()));
    nowhere.chaos.cut(Cut::Reset);
    assert!(matches!(lost(client.receiver(A).unwrap().recv_timeout(LONG)), ConnectionError::Lost { .. }));
}

#[test]
fn close_waits_for_a_peer_only_if_something_was_sent() {
    // Nothing was: nobody needs to be there. (It would wait for an hour.)
    let nowhere = Nowhere::new();
    let client = nowhere.client(|config| config.linger(Duration::from_secs(3600)));
    assert_eq!(client.close(CloseCode::NORMAL, ""), Ok(()));

    // Nobody comes.
    let client = nowhere.client(|config| config.linger(Duration::from_millis(100)));
    client.sender(A).unwrap().send("x").unwrap();
    assert!(client.close(CloseCode::NORMAL, "").is_err());

    // Somebody comes while it waits.
    let client = nowhere.client(|config| config.linger(Duration::from_secs(3600)));
    client.sender(A).unwrap().send("the last words").unwrap();
    let closing = thread::spawn(move || client.close(CloseCode::NORMAL, ""));
    let listener = nowhere.listen(on(nowhere.key.clone()));
    let server = listener.accept().unwrap();
    assert_eq!(&*server.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"the last words");
    assert_eq!(closing.join().unwrap(), Ok(()));
}

/// What was used and the server does not allow is told; it is not silently dropped.
#[test]
fn what_the_server_does_not_allow_ends_it() {
    let only_b = Access::full().send(B).receive(B);
    let refused = |used: &dyn Fn(&Connection), config: &dyn Fn(Key) -> Config| {
        let nowhere = Nowhere::new();
        let client = nowhere.client(|config| config);
        used(&client);
        let listener = nowhere.listen(config(nowhere.key.clone()));
        eventually("it is over", || client.close_reason().is_some());
        // The server hears why.
        let server = listener.accept().unwrap();
        let told = lost(server.receiver(B).unwrap().recv_timeout(LONG));
        assert!(matches!(told, ConnectionError::ClosedByPeer { .. }), "{told:?}");
        client.close_reason().unwrap()
    };
    let not_permitted =
        |sending| ConnectionError::Refused(HandshakeError::NotPermitted { channel: A, sending });
    let config = |key| Config::with_access(key, only_b.clone());
    let cause = refused(&|client| client.sender(A).unwrap().send("x").unwrap(), &config);
    assert_eq!(cause, not_permitted(true));
    let cause = refused(
        &|client| {
            let receiver = client.receiver(A).unwrap();
            thread::spawn(move || receiver.recv());
        },
        &config,
    );
    assert_eq!(cause, not_permitted(false));
    let send_large = |client: &Connection| {
        let sender = client.sender(B).unwrap();
        sender.send([1; 1001]).unwrap();
        sender.send([1; 10]).unwrap();
    };
    let cause = refused(&send_large, &|key| on(key).max_message(1000));
    assert_eq!(cause, ConnectionError::Refused(HandshakeError::MessageTooLarge { limit: 1000 }));
    // Many fragments of a message count together.
    let send_large = |client: &Connection| client.sender(B).unwrap().send(vec![1; 2_000_000]).unwrap();
    let cause = refused(&send_large, &|key| on(key).max_message(1_900_000));
    assert_eq!(cause, ConnectionError::Refused(HandshakeError::MessageTooLarge { limit: 1_900_000 }));

    // What is allowed goes on, and what is not is refused from then on.
    let nowhere = Nowhere::new();
    let client = nowhere.client(|config| config);
    client.sender(B).unwrap().send("allowed").unwrap();
    let listener = nowhere.listen(Config::with_access(nowhere.key.clone(), only_b));
    let server = listener.accept().unwrap();
    assert_eq!(&*server.receiver(B).unwrap().recv_timeout(LONG).unwrap(), b"allowed");
    eventually("the client knows", || !client.is_suspended());
    assert_eq!(client.may_send(), ChannelSet::from(B));
    assert!(matches!(client.sender(A), Err(ChannelError::NotPermitted { .. })));
    assert!(matches!(client.receiver(A), Err(ChannelError::NotPermitted { .. })));
}

#[test]
fn a_name_that_cannot_be_used_is_told_by_the_call() {
    let config = || Config::new(Key::generate());
    assert!(matches!(
        Connection::connect_lazily("127.0.0.1:1", config().window(1)),
        Err(ConnectError::Config(_))
    ));
    assert!(matches!(Connection::connect_lazily(&[][..], config()), Err(ConnectError::Io(_))));
    assert!(matches!(Connection::connect_lazily("localhost", config()), Err(ConnectError::Io(_))));
}
