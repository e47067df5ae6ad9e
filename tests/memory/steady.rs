//! What a connection holds, and that a steady stream allocates nothing.

use std::thread;
use std::time::Duration;

use crate::support::heap::{calls, live, wait_until};
use crate::support::{LONG, free_address, loopback};
use crate::turn;
use trunkline::*;

const A: ChannelId = ChannelId::new(1);

/// Trap 4, and the documented bound: what waits unread on a channel, with its bookkeeping, is at
/// most the window and one largest message, whatever the messages' size. What the receive side
/// adds to that per connection is its read buffer's worth of pieces and the pool, both fixed.
#[test]
fn trap_4_unread_messages_stay_within_the_bound() {
    let _turn = turn();
    const WINDOW: u32 = 1 << 20;
    const CHANNELS: i64 = 16;
    // Buffers that are kept for their next use, by both ends: see `queue/pool.rs`.
    const POOL: i64 = 12 << 20;
    for size in [0usize, 1, 16, 4096, 4097, 65_536, 100_000] {
        let (here, there) = loopback(|config| config.window(WINDOW).max_message(100_000));
        let before = live();
        let mut sent = 0u64;
        for channel in 0..CHANNELS as u8 {
            let sender = here.sender(ChannelId::new(channel)).unwrap();
            let message = vec![1; size];
            while sender.try_send(&message).is_ok() || here.stats().queued > 0 {
                sent += 1;
            }
        }
        // Pieces are filled to four fifths at least.
        let bound = CHANNELS * (i64::from(WINDOW) + 100_032) * 5 / 4;
        let held = live() - before;
        println!("{size} bytes: {sent} messages unread hold {held} of {bound}, and {POOL} for the pool");
        assert!(held <= bound + POOL, "{size}-byte messages hold {held} bytes, the bound is {bound}");
        // What left the queue last may still be on its way.
        wait_until("all channels", || there.stats().channels.len() == CHANNELS as usize);
    }
}

/// Small messages in a steady stream: neither side allocates by the message, in either class, and
/// whether or not what was sent is kept for a socket that is lost.
#[test]
fn a_steady_stream_allocates_nothing_by_the_message() {
    let _turn = turn();
    const COUNT: u64 = 400_000;
    let graces = [Duration::ZERO, Duration::from_secs(60)];
    let kinds = graces.map(|grace| [Priority::Normal, Priority::Urgent].map(|class| (grace, class)));
    for (size, (grace, class)) in
        [16usize, 200].into_iter().flat_map(|size| kinds.concat().into_iter().map(move |kind| (size, kind)))
    {
        let (here, there) = loopback(|config| config.resume_grace(grace));
        let (sender, receiver) = (here.sender_with(A, class).unwrap(), there.receiver(A).unwrap());
        let mut made = 0;
        // The first round warms up.
        for _ in 0..2 {
            let before = calls();
            thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..COUNT {
                        sender.send(&[7; 200][..size]).unwrap();
                    }
                });
                for _ in 0..COUNT {
                    receiver.recv().unwrap();
                }
            });
            made = calls() - before;
        }
        println!("{size} bytes, {class:?}, grace {grace:?}: {made} allocations for {COUNT} messages");
        // What remains is per piece of 16 KiB that messages refer to, and per batch.
        assert!(
            made < COUNT / 20,
            "{made} allocations for {COUNT} messages of {size} bytes, {class:?}, grace {grace:?}"
        );
    }
}

/// What is allocated for so many messages of 64 KiB one way, or of 16 bytes there and back, after a round that
/// warms up.
fn allocations(sealing: Sealing, large: bool, count: u64) -> u64 {
    // So much that no sender waits for credit, which makes an entry in a line.
    let (here, there) = loopback(|config| config.sealing(sealing).window(1 << 30).send_queue(1 << 30));
    assert_eq!(here.is_sealed(), sealing == Sealing::Always);
    let (ask, asked) = (here.sender(A).unwrap(), there.receiver(A).unwrap());
    let (answer, answered) = (there.sender(A).unwrap(), here.receiver(A).unwrap());
    let answering = thread::spawn(move || {
        let mut taken = 0;
        while asked.recv().is_ok() {
            taken += 1;
            if !large || taken % count == 0 {
                answer.send([7; 16]).unwrap();
            }
        }
    });
    let message = bytes::Bytes::from(vec![7; if large { 65_536 } else { 16 }]);
    let mut made = 0;
    for _ in 0..2 {
        let before = calls();
        for _ in 0..count {
            ask.send_bytes(message.clone()).unwrap();
            if !large {
                answered.recv().unwrap();
            }
        }
        if large {
            answered.recv().unwrap();
        }
        made = calls() - before;
    }
    drop((ask, answered));
    answering.join().unwrap();
    made
}

/// A record for each message, or for each 64 KiB: a seal allocates nothing by the record.
#[test]
fn a_seal_allocates_nothing_by_the_record() {
    let _turn = turn();
    for (large, count) in [(false, 20_000), (true, 4000)] {
        let [plain, sealed] = [Sealing::Never, Sealing::Always].map(|kind| allocations(kind, large, count));
        println!("large {large}: {plain} allocations for {count} messages plain, {sealed} sealed");
        // By the record it would be two more for each message at least, one on each side.
        assert!(sealed <= plain + count, "large {large}: {plain} plain, {sealed} sealed, of {count}");
    }
}

/// The threads of the library.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("trunkline")).count()
}

#[cfg(not(target_os = "linux"))]
fn threads() -> usize {
    0
}

#[test]
fn a_thousand_idle_connections_cost_little_and_one_thread() {
    let _turn = turn();
    const COUNT: usize = 1000;
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone())).unwrap();
    let connect = || {
        let client = Connection::connect(listener.local_addr(), Config::new(key.clone())).unwrap();
        (client, listener.accept().unwrap())
    };
    let first = connect();
    let (before, threads_before) = (live(), threads());
    let connections: Vec<_> = (0..COUNT).map(|_| connect()).collect();
    let each = (live() - before) / (2 * COUNT as i64);
    println!("an idle connection costs {each} bytes on each side");
    assert!(each < 8 * 1024, "an idle connection costs {each} bytes on each side");
    assert_eq!(threads(), threads_before, "no thread by the connection");
    // They are alive.
    for (client, server) in &connections {
        client.sender(A).unwrap().send("hello").unwrap();
        assert_eq!(&*server.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"hello");
    }
    let used = (live() - before) / (2 * COUNT as i64);
    println!("one that was used costs {used} bytes on each side");
    assert!(used < 16 * 1024, "a used connection costs {used} bytes on each side");
    drop(connections);
    drop(first);
    // A listener remembers how its last 1,024 sessions ended, with at most 4 MiB.
    wait_until("the memory of the closed connections", || live() - before < 2 << 20);
}
