//! The faults that sank other multiplexers, each with a test that fails when the fault is put in.
//! Those that are pure protocol stand in `src/proto`, those about the wire in
//! `wire/`, those about lines in `reader.rs`.

use std::io::{self, Read};
use std::process::Command;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::{LONG, free_address, loopback, pair};
use trunkline::*;

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

/// Trap 1. Each side sends far more than all buffers hold before it reads anything.
#[test]
fn trap_1_both_peers_push_at_once() {
    let (here, there) = loopback(|config| config.window(64 << 20).send_queue(64 << 20));
    let push = |conn: &Connection| {
        let sender = conn.sender(A).unwrap();
        for _ in 0..300 {
            sender.send_timeout(vec![7; 100_000], LONG).unwrap();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| push(&here));
        scope.spawn(|| push(&there));
    });
    for conn in [&here, &there] {
        let receiver = conn.receiver(A).unwrap();
        for _ in 0..300 {
            assert_eq!(receiver.recv_timeout(LONG).unwrap().len(), 100_000);
        }
    }
}

/// Trap 2. The sender's side never reads a channel, and nobody but the I/O thread is there to see
/// the credit that comes back.
#[test]
fn trap_2_a_sender_that_never_reads_gets_its_credit() {
    let (here, there) = pair(|config| config.window(2000));
    there.sender(B).unwrap().send("nobody reads this").unwrap();
    let sender = here.sender(A).unwrap();
    let receiver = there.receiver(A).unwrap();
    let reader =
        thread::spawn(move || (0..500).map(|_| receiver.recv_timeout(LONG).unwrap().len()).sum::<usize>());
    for _ in 0..500 {
        sender.send_timeout([1; 1000], LONG).unwrap();
    }
    assert_eq!(reader.join().unwrap(), 500_000);
}

/// Trap 3.
#[test]
fn trap_3_an_unread_channel_does_not_stop_its_neighbours() {
    let (here, there) = pair(|config| config.window(50_000));
    let unread = here.sender(A).unwrap();
    // Until the queue here is full, too.
    while unread.send_timeout([0; 1000], Duration::from_millis(200)).is_ok() {}
    let other = here.sender(B).unwrap();
    let receiver = there.receiver(B).unwrap();
    let reader =
        thread::spawn(move || (0..5000).map(|_| receiver.recv_timeout(LONG).unwrap().len()).sum::<usize>());
    for _ in 0..5000 {
        other.send_timeout([0; 1000], LONG).unwrap();
    }
    assert_eq!(reader.join().unwrap(), 5_000_000);
}

/// Trap 5, with sockets: `try_send` takes it whole on an idle channel.
#[test]
fn trap_5_a_message_larger_than_the_window_goes_through() {
    let (here, there) = pair(|config| config.window(4096));
    let sender = here.sender(A).unwrap();
    let message: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    sender.try_send(&message).unwrap();
    let receiver = there.receiver(A).unwrap();
    assert!(*receiver.recv_timeout(LONG).unwrap() == message[..]);
    sender.send_timeout("next", LONG).unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"next");
}

/// Trap 9. A program that sends and returns from `main` loses nothing.
#[test]
fn trap_9_returning_from_main_loses_nothing() {
    if std::env::var_os("TRUNKLINE_TEST_CHILD").is_some() {
        let key = Key::from_env("TRUNKLINE_TEST_KEY").unwrap();
        let address = std::env::var("TRUNKLINE_TEST_ADDRESS").unwrap();
        let conn = Connection::connect(address, Config::new(key)).unwrap();
        let sender = conn.sender(A).unwrap();
        for number in 0..20_000u32 {
            sender.send(number.to_be_bytes()).unwrap();
        }
        sender.send(vec![9; 3_000_000]).unwrap();
        return;
    }
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone())).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "traps::trap_9_returning_from_main_loses_nothing", "--nocapture"])
        .env("TRUNKLINE_TEST_CHILD", "1")
        .env("TRUNKLINE_TEST_KEY", &**key.expose_hex())
        .env("TRUNKLINE_TEST_ADDRESS", listener.local_addr().to_string())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let conn = listener.accept().unwrap();
    let receiver = conn.receiver(A).unwrap();
    for number in 0..20_000u32 {
        assert_eq!(*receiver.recv_timeout(LONG).unwrap(), number.to_be_bytes());
    }
    assert_eq!(receiver.recv_timeout(LONG).unwrap().len(), 3_000_000);
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Finished);
    assert!(child.wait().unwrap().success());
}

/// Trap 9, the other half: an end wakes a reader, whichever end it is.
#[test]
fn trap_9_every_end_wakes_a_blocked_reader() {
    type End = fn(Connection, Sender);
    type Expected = fn(&RecvError) -> bool;
    let ends: [(End, Expected); 4] = [
        (|_conn, sender| drop(sender), |error| *error == RecvError::Finished),
        (|_conn, sender| sender.reset(5).unwrap(), |error| matches!(error, RecvError::Reset { code: 5, .. })),
        (
            |conn, _sender| conn.close(CloseCode::application(1), "bye").unwrap(),
            |error| {
                matches!(error, RecvError::ConnectionLost(ConnectionError::ClosedByPeer { code, reason })
                    if *code == CloseCode::application(1) && reason == "bye")
            },
        ),
        (|conn, sender| drop((conn, sender)), |error| *error == RecvError::Finished),
    ];
    for (end, expected) in ends {
        let (here, there) = pair(|config| config);
        let sender = here.sender(A).unwrap();
        let receiver = there.receiver(A).unwrap();
        let reader = thread::spawn(move || receiver.recv_timeout(LONG).unwrap_err());
        end(here, sender);
        let RecvTimeoutError::Disconnected(error) = reader.join().unwrap() else { panic!("nobody woke it") };
        assert!(expected(&error), "{error:?}");
    }
}

/// Trap 10. A send that times out has sent nothing, and what was sent before it is whole.
#[test]
fn trap_10_a_send_that_gave_up_has_sent_nothing() {
    let (here, there) = pair(|config| config.window(4096));
    let sender = here.sender(A).unwrap();
    // Nobody reads, so the credit that is gone stays gone.
    let mut sent = 0;
    while sender.try_send([1; 100]).is_ok() {
        sent += 1;
    }
    let given_up = sender.send_bytes_timeout(vec![2; 10_000].into(), Duration::from_millis(1)).unwrap_err();
    assert_eq!(*given_up.into_inner(), [2; 10_000]);
    drop(sender);
    let receiver = there.receiver(A).unwrap();
    for _ in 0..sent {
        assert_eq!(*receiver.recv_timeout(LONG).unwrap(), [1; 100]);
    }
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Finished);
}

/// Trap 11. Numbers given out under a lock arrive in their order, from several threads.
#[test]
fn trap_11_messages_of_several_threads_keep_their_order() {
    let (here, there) = loopback(|config| config);
    let next = Arc::new(Mutex::new(0u32));
    let receiver = there.receiver(A).unwrap();
    // All before the first thread begins: the run ends with the last sender there is.
    let senders: Vec<_> = (0..8).map(|_| here.sender(A).unwrap()).collect();
    let threads: Vec<_> = senders
        .into_iter()
        .map(|sender| {
            let next = Arc::clone(&next);
            thread::spawn(move || {
                for _ in 0..5_000 {
                    let mut next = next.lock().unwrap();
                    sender.send(next.to_be_bytes()).unwrap();
                    *next += 1;
                }
            })
        })
        .collect();
    for number in 0..40_000u32 {
        assert_eq!(*receiver.recv_timeout(LONG).unwrap(), number.to_be_bytes());
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Finished);
}

/// Trap 11 across channels: what was written to stdout and stderr arrives in that order.
#[test]
fn trap_11_channels_of_one_receiver_keep_their_order() {
    let (here, there) = loopback(|config| config);
    let (out, err) = (here.sender(A).unwrap(), here.sender(B).unwrap());
    // Some of it arrives before there is a receiver, some after.
    for number in 0..20_000u32 {
        if number == 10_000 {
            let receiver = there.receiver(A | B).unwrap();
            thread::spawn(move || {
                for number in 0..20_000u32 {
                    let message = receiver.recv_timeout(LONG).unwrap();
                    assert_eq!(*message, number.to_be_bytes());
                    assert_eq!(message.channel(), if number % 3 == 0 { A } else { B });
                }
            });
        }
        let sender = if number % 3 == 0 { &out } else { &err };
        sender.send(number.to_be_bytes()).unwrap();
    }
}

/// Trap 12: a message is one write, header and all; a thousand round trips are a thousand writes
/// or so, and none of them waits for a delayed acknowledgement.
#[test]
fn trap_12_a_message_is_one_write() {
    let (here, there) = loopback(|config| config);
    let echo = thread::spawn(move || {
        let (receiver, sender) = (there.receiver(A).unwrap(), there.sender(A).unwrap());
        for _ in 0..1000 {
            sender.send(receiver.recv_timeout(LONG).unwrap()).unwrap();
        }
    });
    let (sender, receiver) = (here.sender(A).unwrap(), here.receiver(A).unwrap());
    for number in 0..1000u32 {
        sender.send(number.to_be_bytes()).unwrap();
        assert_eq!(*receiver.recv_timeout(LONG).unwrap(), number.to_be_bytes());
    }
    let stats = here.stats();
    assert!((1000..1200).contains(&stats.writes), "{} writes", stats.writes);
    echo.join().unwrap();
}

/// Trap 15. `select` ends at file descriptor 1023.
#[test]
fn trap_15_descriptors_above_1023_work() {
    let files: io::Result<Vec<_>> =
        (0..1100).map(|_| std::fs::File::open(std::env::current_exe()?)).collect();
    let files = files.expect("this test needs 1100 file descriptors; raise `ulimit -n`");
    let (here, there) = loopback(|config| config);
    here.sender(A).unwrap().send("high up").unwrap();
    assert_eq!(&*there.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"high up");
    drop(files);
}

/// 128 channels, random sizes, both ways at once, eight threads a side, readers that pause:
/// nothing is lost, nothing hangs.
#[test]
fn all_channels_at_once_from_eight_threads() {
    let (here, there) = loopback(|config| config.window(20_000));
    // A reader pauses until its neighbour has read so much.
    let pause = Arc::new(Barrier::new(16));
    let size = |channel: u8, number: u32| {
        let mixed = (u32::from(channel) + 1).wrapping_mul(2_654_435_761).wrapping_mul(number * 2 + 1) >> 7;
        [mixed % 3, mixed % 700, mixed % 60_000][(mixed % 17 / 8) as usize] as usize
    };
    let run = |conn: &Connection| {
        for thread in 0..8u8 {
            let channels: Vec<_> = (0..16).map(|n| ChannelId::new(thread * 16 + n)).collect();
            let senders: Vec<_> = channels.iter().map(|&channel| conn.sender(channel).unwrap()).collect();
            thread::spawn(move || {
                for number in 0..60 {
                    for sender in &senders {
                        let channel = sender.channel().get();
                        sender
                            .send_timeout(vec![channel ^ number as u8; size(channel, number)], LONG)
                            .unwrap();
                    }
                }
            });
        }
        let conn = conn.clone();
        (0..8u8)
            .map(|thread| {
                let set: ChannelSet = (0..16).map(|n| ChannelId::new(thread * 16 + n)).collect();
                let receiver = conn.receiver(set).unwrap();
                let pause = Arc::clone(&pause);
                thread::spawn(move || {
                    let mut next = [0u32; 128];
                    for count in 0..60 * 16 {
                        if count % 240 == 120 {
                            pause.wait();
                        }
                        let message = receiver.recv_timeout(LONG).unwrap();
                        let channel = message.channel().get();
                        let number = &mut next[usize::from(channel)];
                        assert_eq!(message.len(), size(channel, *number));
                        assert!(message.iter().all(|&byte| byte == channel ^ *number as u8));
                        *number += 1;
                    }
                    assert_eq!(receiver.recv().unwrap_err(), RecvError::Finished);
                })
            })
            .collect::<Vec<_>>()
    };
    let readers: Vec<_> = [&here, &there].into_iter().flat_map(run).collect();
    for reader in readers {
        reader.join().unwrap();
    }
}

/// A killed peer: everybody who is blocked hears of it at once, with the cause.
#[test]
fn a_killed_peer_wakes_everyone() {
    if std::env::var_os("TRUNKLINE_TEST_CHILD").is_some() {
        let key = Key::from_env("TRUNKLINE_TEST_KEY").unwrap();
        let address = std::env::var("TRUNKLINE_TEST_ADDRESS").unwrap();
        let conn = Connection::connect(address, Config::new(key)).unwrap();
        conn.sender(A).unwrap().send("here").unwrap();
        // Until it is killed.
        let _ = io::stdin().read(&mut [0]);
        return;
    }
    let key = Key::generate();
    let config = || Config::new(key.clone()).window(1024).resume_grace(Duration::ZERO);
    let listener = Listener::bind(free_address(), config()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "traps::a_killed_peer_wakes_everyone", "--nocapture"])
        .env("TRUNKLINE_TEST_CHILD", "1")
        .env("TRUNKLINE_TEST_KEY", &**key.expose_hex())
        .env("TRUNKLINE_TEST_ADDRESS", listener.local_addr().to_string())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let conn = listener.accept().unwrap();
    let receiver = conn.receiver(A).unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"here");
    let waiting = conn.receiver(B).unwrap();
    let sender = conn.sender(A).unwrap();
    while sender.try_send([0; 100_000]).is_ok() {}
    let reader = thread::spawn(move || waiting.recv_timeout(LONG).unwrap_err());
    let writer = thread::spawn(move || sender.send_timeout([0; 100_000], LONG).unwrap_err());
    child.kill().unwrap();
    child.wait().unwrap();
    let lost = |cause: &ConnectionError| matches!(cause, ConnectionError::Lost { .. });
    assert!(
        matches!(reader.join().unwrap(), RecvTimeoutError::Disconnected(RecvError::ConnectionLost(cause)) if lost(&cause))
    );
    assert!(
        matches!(writer.join().unwrap(), SendTimeoutError::Disconnected { cause: Disconnect::ConnectionLost(cause), .. } if lost(&cause))
    );
    assert!(lost(&conn.close_reason().unwrap()));
}
