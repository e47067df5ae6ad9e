//! What a peer is told of how a run, or the connection, has ended.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use trunkline::*;

use crate::support::{LONG, free_address, loopback, pair};

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);
const C: ChannelId = ChannelId::new(3);

/// Drops something in a thread that panics.
fn drop_in_a_panic<T: Send>(value: T) {
    let panicking = || {
        let _kept = value;
        panic!("as the test wants it");
    };
    thread::scope(|scope| assert!(scope.spawn(panicking).join().is_err()));
}

fn connections() -> [(Connection, Connection); 2] {
    [pair(|config| config), loopback(|config| config)]
}

#[track_caller]
fn panicked(receiver: &Receiver) {
    let end = receiver.recv_timeout(LONG).unwrap_err();
    assert_eq!(end, RecvError::Reset { channel: A, code: Sender::PANICKED }.into());
}

/// A panic is not an end: half of what was to be sent must not be read as a whole.
#[test]
fn a_run_that_a_panic_cuts_short_is_abandoned() {
    for (here, there) in connections() {
        let receiver = there.receiver(A).unwrap();
        let sender = here.sender(A).unwrap();
        sender.send("{\"half\": ").unwrap();
        drop_in_a_panic(sender);
        assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"{\"half\": ");
        panicked(&receiver);
        // The same through the layers on top of it.
        let mut writer = here.sender(A).unwrap().into_writer();
        write!(writer, "{{\"half").unwrap();
        drop_in_a_panic(writer);
        assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"{\"half");
        panicked(&receiver);
        let mut writer = std::io::BufWriter::new(here.sender(A).unwrap().into_writer());
        write!(writer, "{{\"half").unwrap();
        drop_in_a_panic(writer);
        assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"{\"half");
        panicked(&receiver);
        // A run of which nothing was sent, and one of which nobody had read anything.
        drop_in_a_panic(here.sender(A).unwrap());
        panicked(&receiver);
        // And for those that read bytes.
        let sender = here.sender(A).unwrap();
        sender.send("{\"half\": ").unwrap();
        drop_in_a_panic(sender);
        let mut reader = receiver.into_reader();
        let mut text = Vec::new();
        assert_eq!(reader.read_to_end(&mut text).unwrap_err().kind(), ErrorKind::ConnectionReset);
        // The connection goes on.
        here.sender(A).unwrap().send("whole").unwrap();
        let mut text = String::new();
        assert_eq!(reader.read_to_string(&mut text).unwrap(), 5);
    }
}

/// The same for the connection, whichever handle is the last.
#[test]
fn a_connection_that_a_panic_lets_go_of_is_not_closed_in_order() {
    type Handles = fn(Connection) -> Box<dyn Send>;
    let handles: [Handles; 5] = [
        |conn| Box::new(conn),
        |conn| Box::new(conn.sender(A).unwrap()),
        |conn| Box::new(conn.receiver(B).unwrap()),
        |conn| Box::new(conn.receiver(B).unwrap().into_reader()),
        |conn| Box::new(conn.sender(A).unwrap().into_writer()),
    ];
    for last in handles {
        for (here, there) in connections() {
            drop_in_a_panic(last(here));
            let receiver = there.receiver(C).unwrap();
            let end = receiver.recv_timeout(LONG).unwrap_err();
            let RecvTimeoutError::Disconnected(RecvError::ConnectionLost(cause)) = end else {
                panic!("{end:?}")
            };
            assert_eq!(cause.close_code(), Some(CloseCode::PANICKED), "{cause:?}");
        }
    }
}

/// A client whose server is not there yet keeps its promise, and its breach, for it.
#[test]
fn a_panic_before_the_server_is_there_is_told_when_it_is() {
    let key = Key::generate();
    let free = std::net::TcpListener::bind(free_address()).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let client = Connection::connect_lazily(address, Config::new(key.clone())).unwrap();
    let sender = client.sender(A).unwrap();
    sender.send("half").unwrap();
    drop_in_a_panic(sender);
    let listener = Listener::bind(address, Config::new(key)).unwrap();
    let server = listener.accept().unwrap();
    let receiver = server.receiver(A).unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"half");
    panicked(&receiver);
}

/// A process that shuts down finishes no run that it has not finished.
#[test]
fn a_close_finishes_no_run() {
    for (here, there) in connections() {
        let sender = here.sender(A).unwrap();
        sender.send("half").unwrap();
        let receiver = there.receiver(A).unwrap();
        here.clone().detach();
        drop((sender, here));
        assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"half");
        let end = receiver.recv_timeout(LONG).unwrap_err();
        assert!(
            matches!(end, RecvTimeoutError::Disconnected(RecvError::ConnectionLost(_))),
            "a run that was not finished: {end:?}"
        );
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Finish,
    Reset,
}

fn every_order() -> Vec<[(ChannelId, Kind); 3]> {
    let orders = [[A, B, C], [A, C, B], [B, A, C], [B, C, A], [C, A, B], [C, B, A]];
    let kind = |bits: u8, at: u8| if bits >> at & 1 == 1 { Kind::Reset } else { Kind::Finish };
    let all = orders.iter().flat_map(|order| (0..8).map(move |bits| (order, bits)));
    all.map(|(order, bits)| [0, 1, 2].map(|at| (order[usize::from(at)], kind(bits, at)))).collect()
}

fn end(conn: &Connection, channel: ChannelId, kind: Kind) {
    let sender = conn.sender(channel).unwrap();
    match kind {
        Kind::Finish => sender.finish().unwrap(),
        Kind::Reset => sender.reset(7).unwrap(),
    }
}

fn told(channel: ChannelId, kind: Kind) -> Received {
    match kind {
        Kind::Finish => Received::Finished(channel),
        Kind::Reset => Received::Reset { channel, code: 7 },
    }
}

/// A merged receiver tells every end, by channel, in order, and then that all are over, whatever
/// the order; and once that is told, it waits for the next runs.
#[test]
fn a_merged_receiver_tells_each_end_and_then_that_all_are_over() {
    for (here, there) in connections() {
        let receiver = there.receiver(A | B | C).unwrap();
        let keep = there.clone();
        for order in every_order() {
            for (channel, kind) in order {
                let sender = here.sender(channel).unwrap();
                sender.send([channel.get()]).unwrap();
                end(&here, channel, kind);
                // Nothing was sent in between, so its drop is no further end.
                drop(sender);
            }
            for (channel, kind) in order {
                let Received::Message(message) = receiver.recv_any().unwrap() else { panic!("{order:?}") };
                assert_eq!(message.channel(), channel);
                assert_eq!(receiver.recv_any(), Ok(told(channel, kind)), "{order:?}");
            }
            assert_eq!(receiver.recv_any(), Err(RecvError::Finished), "{order:?}");
            assert_eq!(receiver.try_recv_any(), Err(TryRecvError::Empty), "{order:?}");
        }
        drop(keep);
    }
}

/// The same for those that want messages: each reset, and then once that all are over.
#[test]
fn recv_on_a_merged_receiver_never_waits_for_an_end_that_was_told() {
    type Look = fn(&Receiver) -> Result<Message, RecvError>;
    let looks: [Look; 4] = [
        Receiver::recv,
        |receiver| match receiver.recv_timeout(LONG) {
            Ok(message) => Ok(message),
            Err(RecvTimeoutError::Disconnected(end)) => Err(end),
            Err(RecvTimeoutError::Timeout) => panic!("it waits for nothing"),
        },
        Receiver::recv_latest,
        |receiver| {
            // It ends where there is no message, and the next call says why.
            assert_eq!(receiver.iter().count(), 0);
            receiver.recv()
        },
    ];
    let (here, there) = pair(|config| config);
    let receiver = there.receiver(A | B | C).unwrap();
    for look in looks {
        for order in every_order() {
            for (channel, kind) in order {
                end(&here, channel, kind);
            }
            for (channel, kind) in order {
                if kind == Kind::Reset {
                    assert_eq!(look(&receiver), Err(RecvError::Reset { channel, code: 7 }), "{order:?}");
                }
            }
            assert_eq!(look(&receiver), Err(RecvError::Finished), "{order:?}");
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "told once: {order:?}");
        }
    }
}

/// A channel whose next run has begun is not over, and is told a second time when it is.
#[test]
fn a_second_run_of_a_merged_channel_is_one_more_end() {
    let (here, there) = pair(|config| config);
    let receiver = there.receiver(A | B).unwrap();
    let a = here.sender(A).unwrap();
    a.finish().unwrap();
    a.send("again").unwrap();
    end(&here, B, Kind::Finish);
    assert_eq!(receiver.recv_any(), Ok(Received::Finished(A)));
    assert!(matches!(receiver.recv_any(), Ok(Received::Message(_))));
    assert_eq!(receiver.recv_any(), Ok(Received::Finished(B)));
    assert_eq!(receiver.try_recv_any(), Err(TryRecvError::Empty), "one run is open");
    drop(a);
    assert_eq!(receiver.recv_any(), Ok(Received::Finished(A)));
    assert_eq!(receiver.recv_any(), Err(RecvError::Finished));
}

/// A reader of several channels has one end, when all are over.
#[test]
fn a_reader_of_several_channels_ends_with_the_last() {
    let (here, there) = pair(|config| config);
    let mut reader = there.receiver(A | B).unwrap().into_reader();
    for order in [[A, B], [B, A]] {
        for channel in order {
            let sender = here.sender(channel).unwrap();
            sender.send("text ").unwrap();
        }
        let mut text = String::new();
        assert_eq!(reader.read_to_string(&mut text).unwrap(), 10);
        assert_eq!(reader.try_read_line().unwrap(), None);
    }
}

/// What was newest when it was called is what it returns, and it returns: a flood that goes on does
/// not keep it.
#[test]
fn recv_latest_returns_what_was_newest_when_it_was_called() {
    for (here, there) in connections() {
        let sender = here.sender(A).unwrap();
        let receiver = there.receiver(A).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut numbers = 0u32..;
                while sender.send(numbers.next().unwrap().to_be_bytes()).is_ok() {}
            });
            // The number of the message that is next.
            let (mut next, mut looks, mut exact) = (0, 0, 0);
            while looks < 300 {
                let there = receiver.len() as u32;
                let message = if there > 0 { receiver.recv_latest() } else { receiver.recv() };
                let number = u32::from_be_bytes(message.unwrap()[..].try_into().unwrap());
                if there > 0 {
                    assert!(number + 1 >= next + there, "{there} were there from {next}, and it is {number}");
                    looks += 1;
                    // Between the count and the call a few may have come, but not often.
                    exact += u32::from(number + 1 == next + there);
                }
                next = number + 1;
            }
            drop(receiver);
            assert!(exact * 2 > looks, "it goes on to what came later, {exact} of {looks}");
        });
    }
}

#[test]
fn recv_latest_sees_beyond_the_end_of_one_channel_of_several() {
    let (here, there) = pair(|config| config);
    let receiver = there.receiver(A | B).unwrap();
    here.sender(A).unwrap().send("old").unwrap();
    let b = here.sender(B).unwrap();
    b.send("new").unwrap();
    while receiver.len() < 2 {
        thread::yield_now();
    }
    assert_eq!(&*receiver.recv_latest().unwrap(), b"new");
    drop(b);
    assert_eq!(receiver.recv_latest(), Err(RecvError::Finished));
}

/// A sender that is stopped knows without sending, and so do its clones; the next sender is free.
#[test]
fn a_stopped_sender_knows_in_every_call() {
    for stopping in [0, 9] {
        for (here, there) in connections() {
            let sender = here.sender(A).unwrap();
            let clone = sender.clone();
            sender.send("unwanted").unwrap();
            let receiver = there.receiver(A).unwrap();
            assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"unwanted");
            if stopping == 0 {
                drop(receiver);
            } else {
                receiver.stop(stopping);
            }
            crate::support::line::eventually("it knows", || sender.stopped() == Some(stopping));
            let stopped = Disconnect::Stopped(stopping);
            assert_eq!(clone.stopped(), Some(stopping));
            assert_eq!(sender.finish(), Err(stopped.clone()));
            assert_eq!(sender.reset(3), Err(stopped.clone()));
            assert_eq!(sender.gap(1, 1), Err(stopped.clone()));
            assert_eq!(clone.send("x").unwrap_err().to_string(), stopped.to_string());
            assert!(matches!(clone.try_send("x"), Err(TrySendError::Disconnected { .. })));
            let timeout = clone.send_timeout("x", LONG);
            assert!(matches!(timeout, Err(SendTimeoutError::Disconnected { .. })));
            assert_eq!(here.sender(A).unwrap().stopped(), None);
            drop((sender, clone));
        }
    }
}

/// A sender that waits for room is woken by a reset of its channel: what waited is dropped, and its
/// credit is free.
#[test]
fn a_reset_gives_the_room_to_a_sender_that_waits() {
    let (here, there) = pair(|config| config.window(10_000));
    let sender = here.sender(A).unwrap();
    let mut sent = 0;
    while sender.try_send([0; 1000]).is_ok() {
        sent += 1;
    }
    // It waits for credit, of which there is less, and keeps what is smaller behind it.
    let mut writer = sender.writer();
    writeln!(writer, "{}", "x".repeat(1000)).unwrap();
    thread::scope(|scope| {
        let clone = sender.clone();
        let waiting = scope.spawn(move || clone.send_timeout("x", LONG));
        thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        sender.reset(4).unwrap();
        // Nothing was read, so nothing else wakes it.
        waiting.join().unwrap().unwrap();
    });
    let receiver = there.receiver(A).unwrap();
    for _ in 0..sent {
        assert_eq!(receiver.recv_timeout(LONG).unwrap().len(), 1000);
    }
    assert_eq!(receiver.recv_timeout(LONG), Err(RecvError::Reset { channel: A, code: 4 }.into()));
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"x");
}
