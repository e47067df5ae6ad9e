//! First messages that were recorded, said again and again.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use trunkline::Connection;

use crate::support::attack::{Times, Victim};
use crate::support::wire::*;

/// As many as the machine makes (and some of its processors do nothing else), each of which the server could only
/// answer by computing on the curve: those that are connected notice nothing, and new clients get in.
#[test]
fn replays_of_a_first_message_keep_no_client_out() {
    const TIME: Duration = Duration::from_secs(2);
    let victim = Victim::start(|config| config);
    let connected = victim.client(victim.addr);
    let mut recorded = SealedClient::new(victim.addr, &victim.key);
    recorded.shake().unwrap();
    let hello = recorded.hello_bytes;
    let (over, replays, answered) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (mut handshakes, pings) = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut sockets = std::collections::VecDeque::new();
                while !over.load(SeqCst) {
                    let mut socket = dial(victim.addr);
                    if socket.write_all(&hello).is_ok() {
                        replays.fetch_add(1, SeqCst);
                    }
                    sockets.push_back(socket);
                    // Many wait at a time.
                    if sockets.len() > 200
                        && let Some(mut oldest) = sockets.pop_front()
                    {
                        let _ = oldest.set_nonblocking(true);
                        let told = oldest.read(&mut [0; SEALED_REPLY]);
                        answered.fetch_add(u64::from(told.is_ok_and(|read| read > 0)), SeqCst);
                    }
                }
            });
        }
        let honest = scope.spawn(|| {
            let begun = Instant::now();
            let mut times = Vec::new();
            while begun.elapsed() < TIME {
                let before = Instant::now();
                let client = Connection::connect(victim.addr, victim.config()).expect("it gets in");
                times.push(before.elapsed());
                assert!(client.is_sealed());
                client.detach();
            }
            times
        });
        let pings = Times::measure(&connected, TIME);
        let times = honest.join().unwrap();
        over.store(true, SeqCst);
        (times, pings)
    });
    handshakes.sort();
    let (median, p99) = (handshakes[handshakes.len() / 2], handshakes[(handshakes.len() - 1) * 99 / 100]);
    println!(
        "{} replays in {TIME:?}, {} answered; {} honest handshakes, p50 {median:?}, p99 {p99:?}; pings {pings}",
        replays.load(SeqCst),
        answered.load(SeqCst),
        handshakes.len()
    );
    // The p99 is 100 ms where the machine has nothing else to do. Here it may have very much.
    assert!(median < Duration::from_secs(1), "{median:?}");
    assert!(pings.at(0.5) < Duration::from_millis(500), "{pings}");
}
