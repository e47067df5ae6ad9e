//! What the handles promise.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::wire::ServerHandshake;
use crate::support::{LONG, free_address, loopback, pair};
use bytes::Bytes;
use crossbeam_channel::{after, select};
use trunkline::*;

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);
const C: ChannelId = ChannelId::new(3);

#[test]
fn messages_of_every_size_arrive_as_they_were_sent() {
    let (here, there) = loopback(|config| config);
    let receiver = there.receiver(A).unwrap();
    let sender = here.sender(A).unwrap();
    let sizes =
        [0, 1, 37, 38, 39, 40, 255, 4095, 4096, 4097, 16_384, 65_535, 65_536, 65_537, 200_000, 5_000_000];
    let message = |size: usize| -> Vec<u8> { (0..size).map(|n| (n * 7 + size) as u8).collect() };
    let writer = thread::spawn(move || {
        for size in sizes {
            sender.send(message(size)).unwrap();
            sender.send_bytes(message(size).into()).unwrap();
        }
    });
    for size in sizes {
        for _ in 0..2 {
            let got = receiver.recv_timeout(LONG).unwrap();
            assert!(*got == message(size)[..], "size {size}");
            assert_eq!(got.into_bytes(), Bytes::from(message(size)));
        }
    }
    writer.join().unwrap();
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Finished);
}

#[test]
fn a_message_above_the_peers_limit_comes_back() {
    let (here, _there) = pair(|config| config.max_message(1000));
    let sender = here.sender(A).unwrap();
    let too_large = Bytes::from(vec![1; 1001]);
    let error = sender.send_bytes(too_large.clone()).unwrap_err();
    assert_eq!(error, SendError::TooLarge { message: too_large, limit: 1000 });
    assert!(matches!(sender.try_send(vec![1; 1001]), Err(TrySendError::TooLarge { .. })));
    sender.send(vec![1; 1000]).unwrap();
}

#[test]
fn runs_follow_each_other_on_a_channel() {
    let (here, there) = pair(|config| config);
    let sender = here.sender(A).unwrap();
    let receiver = there.receiver(A).unwrap();
    sender.send("one").unwrap();
    sender.finish().unwrap();
    sender.finish().unwrap();
    sender.send("two").unwrap();
    sender.reset(42).unwrap();
    sender.send("three").unwrap();
    drop(sender);
    // A sender that sends nothing still ends.
    drop(here.sender(A).unwrap());
    assert_eq!(&*receiver.recv().unwrap(), b"one");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Finished);
    assert_eq!(&*receiver.recv().unwrap(), b"two");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Reset { channel: A, code: 42 });
    assert_eq!(&*receiver.recv().unwrap(), b"three");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Finished);
    assert_eq!(receiver.recv_timeout(LONG).unwrap_err(), RecvTimeoutError::Disconnected(RecvError::Finished));
}

#[test]
fn a_dropped_receiver_fails_the_peers_sends_and_a_new_pair_of_handles_works() {
    let (here, there) = loopback(|config| config.window(10_000));
    let sender = here.sender(A).unwrap();
    let receiver = there.receiver(A).unwrap();
    sender.send("begins").unwrap();
    assert_eq!(&*receiver.recv().unwrap(), b"begins");
    drop(receiver);
    // Blocked or not, it ends.
    let cause = loop {
        match sender.send_timeout(vec![0; 1000], LONG) {
            Ok(()) => {}
            Err(SendTimeoutError::Disconnected { cause, .. }) => break cause,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(cause, Disconnect::Stopped(0));
    assert!(matches!(sender.send("more"), Err(SendError::Disconnected { .. })), "it is terminal");
    let receiver = there.receiver(A).unwrap();
    here.sender(A).unwrap().send("a new run").unwrap();
    // The end of the run that nobody wanted is not told.
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"a new run");
}

#[test]
fn a_receiver_dropped_before_anything_came_refuses_what_comes() {
    let (here, there) = loopback(|config| config);
    drop(there.receiver(A).unwrap());
    let sender = here.sender(A).unwrap();
    let deadline = Instant::now() + LONG;
    while sender.send_deadline("x", deadline).is_ok() {
        assert!(Instant::now() < deadline, "nobody refuses it");
        thread::yield_now();
    }
    // What was refused, if anything came before the sender heard of it, was credited back: nothing is held.
    assert!(there.stats().channels.iter().all(|channel| channel.unread == 0));
}

#[test]
fn stop_ends_one_run() {
    let (here, there) = pair(|config| config);
    let sender = here.sender(A).unwrap();
    let receiver = there.receiver(A).unwrap();
    sender.send("first").unwrap();
    assert_eq!(&*receiver.recv().unwrap(), b"first");
    receiver.stop(9);
    let cause = loop {
        if let Err(error) = sender.send("more") {
            let SendError::Disconnected { cause, .. } = error else { panic!() };
            break cause;
        }
        thread::yield_now();
    };
    assert_eq!(cause, Disconnect::Stopped(9));
    drop(sender);
    here.sender(A).unwrap().send("second").unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"second");
}

#[test]
fn what_came_before_there_was_a_receiver_waits_for_it() {
    let (here, there) = pair(|config| config);
    let events = there.events();
    here.sender(A).unwrap().send("early").unwrap();
    here.sender(B).unwrap().send("bird").unwrap();
    let opened: Vec<_> = (0..2).map(|_| events.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(opened, [Event::Opened(A), Event::Opened(B)]);
    assert_eq!(there.events().try_iter().count(), 2, "a later listener hears of what waits");
    let receiver = there.receiver(B).unwrap();
    assert_eq!(&*receiver.recv().unwrap(), b"bird");
    assert_eq!(&*there.receiver(A).unwrap().recv().unwrap(), b"early");
    assert_eq!(there.receiver(B).unwrap_err(), ChannelError::InUse(B));
    drop(here);
    assert!(events.iter().any(|event| matches!(event, Event::Closed(ConnectionError::ClosedByPeer { .. }))));
}

#[test]
fn a_receiver_of_several_channels_finishes_with_the_last() {
    let (here, there) = pair(|config| config);
    let receiver = there.receiver(A | B).unwrap();
    let (a, b) = (here.sender(A).unwrap(), here.sender(B).unwrap());
    a.send("1").unwrap();
    drop(a);
    b.send("2").unwrap();
    drop(b);
    assert_eq!(receiver.iter().map(|message| message.to_vec()).collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(receiver.channels(), A | B);
}

#[test]
fn recv_latest_keeps_the_newest_and_the_end() {
    let (here, there) = pair(|config| config);
    let sender = here.sender(A).unwrap();
    for number in 0..100u8 {
        sender.send([number]).unwrap();
    }
    drop(sender);
    let receiver = there.receiver(A).unwrap();
    let mut last = None;
    let end = loop {
        match receiver.recv_latest() {
            Ok(message) => last = Some(message[0]),
            Err(end) => break end,
        }
    };
    assert_eq!((last, end), (Some(99), RecvError::Finished));
}

#[test]
fn select_sees_every_message_of_several_receivers() {
    let (here, there) = pair(|config| config);
    let (a, b) = (there.receiver(A).unwrap(), there.receiver(B).unwrap());
    let (a_ready, b_ready) = (a.ready(), b.ready());
    let (other, others) = crossbeam_channel::bounded(1);
    let writer = thread::spawn(move || {
        let (a, b) = (here.sender(A).unwrap(), here.sender(B).unwrap());
        for number in 0..1000u32 {
            a.send(number.to_be_bytes()).unwrap();
            b.send(number.to_be_bytes()).unwrap();
        }
        other.send(()).unwrap();
    });
    let mut next = [0u32; 2];
    let mut other_seen = false;
    let timeout = after(LONG);
    while next != [1000, 1000] || !other_seen {
        // One message at a time: the token must come again for the rest.
        let (which, message) = select! {
            recv(a_ready) -> _ => (0, a.try_recv()),
            recv(b_ready) -> _ => (1, b.try_recv()),
            recv(others) -> seen => { other_seen |= seen.is_ok(); continue }
            recv(timeout) -> _ => panic!("stuck at {next:?}"),
        };
        match message {
            Ok(message) => {
                assert_eq!(*message, next[which].to_be_bytes());
                next[which] += 1;
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected(_)) => {}
        }
    }
    writer.join().unwrap();
    // The end of the connection makes it ready for good.
    assert!(a_ready.recv_timeout(LONG).is_ok() || a_ready.recv_timeout(LONG).is_err());
}

#[test]
fn timeouts_are_kept_and_nothing_is_lost_by_them() {
    let (here, there) = pair(|config| config);
    let receiver = there.receiver(A).unwrap();
    let before = Instant::now();
    let timeout = Duration::from_millis(20);
    assert_eq!(receiver.recv_timeout(timeout).unwrap_err(), RecvTimeoutError::Timeout);
    assert!(before.elapsed() >= timeout);
    here.sender(A).unwrap().send("after").unwrap();
    assert_eq!(&*receiver.recv_deadline(Instant::now() + LONG).unwrap(), b"after");
}

#[test]
fn rights_are_told_to_the_client_and_kept() {
    let (full, monitor, odd) = (Key::generate(), Key::generate(), Key::generate());
    let config = Config::new(full.clone())
        .with_key(monitor.clone(), Access::read_only())
        .with_key(odd.clone(), Access::read_only().send(A | B).receive(C).interrupt(true));
    let listener = Listener::bind(free_address(), config).unwrap();
    let connect = |key: &Key| {
        let client = Connection::connect(listener.local_addr(), Config::new(key.clone())).unwrap();
        (client, listener.accept().unwrap())
    };
    let (client, _server) = connect(&full);
    assert_eq!(client.may_send(), ChannelSet::ALL);
    let (client, server) = connect(&monitor);
    assert_eq!(client.sender(A).unwrap_err(), ChannelError::NotPermitted { channel: A, sending: true });
    assert_eq!(client.interrupt().unwrap_err(), ChannelError::InterruptNotPermitted);
    assert_eq!(server.receiver(A).unwrap_err(), ChannelError::NotPermitted { channel: A, sending: false });
    server.sender(A).unwrap().send("look").unwrap();
    assert_eq!(&*client.receiver(A).unwrap().recv().unwrap(), b"look");
    let (client, server) = connect(&odd);
    assert_eq!((client.may_send(), client.may_receive()), (A | B, ChannelSet::from(C)));
    assert!(server.sender(A).is_err());
    let events = server.events();
    client.interrupt().unwrap();
    assert_eq!(events.recv_timeout(LONG).unwrap(), Event::Interrupt);
}

#[test]
fn a_wrong_key_and_a_wrong_address_are_told_apart() {
    let listener = Listener::bind(free_address(), Config::new(Key::generate())).unwrap();
    let address = listener.local_addr();
    let connect = |address| Connection::connect(address, Config::new(Key::generate())).unwrap_err();
    let refused = connect(address);
    assert!(matches!(refused, ConnectError::Handshake(HandshakeError::NotAuthorised)), "{refused:?}");
    drop(listener);
    let gone = loop {
        // The listener is closed by its thread, a moment later.
        match connect(address) {
            ConnectError::Handshake(_) => thread::yield_now(),
            gone => break gone,
        }
    };
    assert!(
        matches!(&gone, ConnectError::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused),
        "{gone:?}"
    );
    // Somebody who answers, but with something else.
    let http = std::net::TcpListener::bind(free_address()).unwrap();
    let address = http.local_addr().unwrap();
    let answer = thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = http.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Until the client hangs up.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let other = connect(address);
    assert!(matches!(other, ConnectError::Handshake(HandshakeError::NotTrunkline)), "{other:?}");
    answer.join().unwrap();
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    let plain = Config::new(Key::generate()).sealing(Sealing::Never);
    let bind = |config: &Config| Listener::bind("0.0.0.0:0", config.clone());
    let error = bind(&plain).unwrap_err();
    assert!(matches!(error, BindError::Config(ConfigError::Plaintext(_))), "{error:?}");
    assert!(error.to_string().contains("allow_plaintext"), "{error}");
    bind(&plain.allow_plaintext(true)).unwrap();
}

#[test]
fn one_connection_too_many_is_told_so() {
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone()).max_connections(2)).unwrap();
    let connect = || Connection::connect(listener.local_addr(), Config::new(key.clone()));
    let (first, _second) = (connect().unwrap(), connect().unwrap());
    assert!(matches!(connect().unwrap_err(), ConnectError::Handshake(HandshakeError::TooBusy)));
    drop(first);
    let deadline = Instant::now() + LONG;
    while connect().is_err() {
        assert!(Instant::now() < deadline, "the place is never free again");
    }
}

#[test]
fn close_tells_code_and_reason_and_every_handle_one_cause() {
    let (here, there) = loopback(|config| config);
    let (sender, receiver) = (there.sender(A).unwrap(), there.receiver(B).unwrap());
    here.sender(B).unwrap().send("last words").unwrap();
    here.close(CloseCode::application(7), "going home").unwrap();
    assert_eq!(&*receiver.recv().unwrap(), b"last words");
    let cause =
        ConnectionError::ClosedByPeer { code: CloseCode::application(7), reason: "going home".into() };
    let end = loop {
        match receiver.recv() {
            Err(RecvError::Finished) => {}
            other => break other.unwrap_err(),
        }
    };
    assert_eq!(end, RecvError::ConnectionLost(cause.clone()));
    assert!(
        matches!(sender.send("x"), Err(SendError::Disconnected { cause: Disconnect::ConnectionLost(c), .. }) if c == cause)
    );
    assert_eq!(there.close_reason(), Some(cause.clone()));
    assert_eq!(there.sender(C).unwrap_err(), ChannelError::ConnectionLost(cause));
    assert_eq!(here.close_reason(), Some(ConnectionError::Closed { code: CloseCode::application(7) }));
    assert!(matches!(
        here.sender(A).unwrap_err(),
        ChannelError::ConnectionLost(ConnectionError::Closed { .. })
    ));
}

#[test]
fn close_says_when_the_peer_has_not_confirmed() {
    // A server that takes part in the handshake, and then does nothing.
    let key = [7; 32];
    let server = std::net::TcpListener::bind(free_address()).unwrap();
    let address = server.local_addr().unwrap();
    let silent = thread::spawn(move || ServerHandshake::accept(&server, &key).finish().unwrap());
    let config = Config::new(Key::from(key)).linger(Duration::from_millis(50));
    let conn = Connection::connect(address, config).unwrap();
    conn.sender(A).unwrap().send("is anybody there").unwrap();
    let before = Instant::now();
    let error = conn.close(CloseCode::NORMAL, "").unwrap_err();
    assert!(before.elapsed() >= Duration::from_millis(50));
    assert_eq!(error.cause(), Some(&ConnectionError::Closed { code: CloseCode::NORMAL }));
    drop(silent.join().unwrap());
}

#[test]
fn stats_count_what_happens() {
    let (here, there) = loopback(|config| config);
    let (sender, receiver) = (here.sender(A).unwrap(), there.receiver(A).unwrap());
    for _ in 0..10 {
        sender.send([1; 100]).unwrap();
    }
    for _ in 0..4 {
        receiver.recv().unwrap();
    }
    // It has all arrived once the last was seen to wait.
    while receiver.len() < 6 {
        thread::yield_now();
    }
    let [ours] = here.stats().channels[..] else { panic!() };
    assert_eq!((ours.messages_sent, ours.bytes_sent), (10, 1000));
    assert_eq!(ours.send_credit, (896 << 10) - 1320);
    let [theirs] = there.stats().channels[..] else { panic!() };
    assert_eq!((theirs.messages_received, theirs.bytes_received), (10, 1000));
    assert_eq!((theirs.unread, theirs.unread_bytes), (6, 600));
    let stats = here.stats();
    assert_eq!((stats.messages_sent, stats.queued), (10, 0));
    assert!(stats.bytes_written >= 1040 && stats.writes >= 1);
    assert!(here.rtt().is_some() && there.rtt().is_some(), "the handshake measures a first one");
    drop((receiver, there));
    while here.close_reason().is_none() {
        thread::yield_now();
    }
    assert_eq!(here.stats().messages_sent, 10, "they stay after the end");
}

#[test]
fn an_io_thread_of_ones_own_ends_with_its_connections() {
    let io = IoThread::new().unwrap();
    let (here, there) = pair(|config| config.io_thread(&io));
    drop(io);
    here.sender(A).unwrap().send("still here").unwrap();
    assert_eq!(&*there.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"still here");
}

#[test]
fn heartbeats_measure_and_keep_a_silent_pair_alive() {
    let (here, there) = pair(|config| config.heartbeat(Duration::from_millis(5), Duration::from_secs(30)));
    let deadline = Instant::now() + LONG;
    while here.rtt().is_none() || there.rtt().is_none() {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
    assert_eq!(here.close_reason(), None);
}

/// A waker that wakes a thread.
struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future in this thread until it is ready.
fn block_on<F: std::future::Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_task_waits_for_a_flush() {
    let (here, there) = pair(|config| config);
    let sender = here.sender(A).unwrap();
    let receiver = there.receiver(A).unwrap();
    for _ in 0..100 {
        sender.send([7; 1000]).unwrap();
        assert_eq!(block_on(here.flushing()), Ok(()));
        assert_eq!(receiver.try_recv().map(|message| message.len()), Ok(1000));
    }
    // One that is dropped is forgotten, and the end of the connection ends all.
    drop(here.flushing());
    let waiting = here.flushing();
    assert_eq!(block_on(waiting), Ok(()));
    there.abandon();
    while here.close_reason().is_none() {
        std::thread::yield_now();
    }
    assert!(matches!(block_on(here.flushing()), Err(FlushError::ConnectionLost(_))));
}

/// What is said outside the messages is said too.
#[test]
fn a_flush_covers_stops_interrupts_and_waiting_readers() {
    for (here, there) in [pair(|config| config), loopback(|config| config)] {
        for round in 0..50u8 {
            let channel = ChannelId::new(round);
            let sender = there.sender(channel).unwrap();
            here.receiver(channel).unwrap().stop(u32::from(round));
            assert_eq!(here.flush(), Ok(()));
            assert_eq!(sender.stopped(), Some(u32::from(round)));

            let interrupts = there.interrupts();
            here.interrupt().unwrap();
            assert_eq!(here.flush(), Ok(()));
            assert!(interrupts.take());

            let sender = there.sender(channel).unwrap();
            let reader = here.receiver(channel).unwrap();
            reader.set_waiting(true, 0);
            assert_eq!(here.flush(), Ok(()));
            assert!(sender.peer_is_waiting());
        }
    }
}

#[test]
fn an_io_thread_that_neither_lends_nor_spins_works_alike() {
    for (lend, spin) in [(false, true), (true, false), (false, false)] {
        let io = IoThread::builder().name("io-of-a-test").lend(lend).spin(spin).start().unwrap();
        let (here, there) = pair(|config| config.io_thread(&io));
        let (sender, receiver) = (here.sender(A).unwrap(), there.receiver(A).unwrap());
        let (back, answers) = (there.sender(B).unwrap(), here.receiver(B).unwrap());
        thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..1000 {
                    back.send_bytes(receiver.recv_timeout(LONG).unwrap().into_bytes()).unwrap();
                }
            });
            for n in 0..1000u32 {
                sender.send(n.to_be_bytes()).unwrap();
                assert_eq!(answers.recv_timeout(LONG).unwrap(), n.to_be_bytes());
            }
        });
        assert_eq!(here.flush(), Ok(()));
    }
    assert!(IoThread::builder().name("a\0b").start().is_err());
}
