//! Calls that must not wait for an accident. Limits on time are relative to what the same run
//! measures of the same machine.

use std::thread;
use std::time::{Duration, Instant};

use trunkline::*;

use crate::support::{LONG, free_address, loopback, slow};

const ASK: ChannelId = ChannelId::new(1);
const ANSWER: ChannelId = ChannelId::new(2);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A flush calls the I/O thread: right after a ping-pong, when the loop may have been left to nobody,
/// it takes about as long as a round trip and not as long as the next timer.
#[test]
fn a_flush_after_a_ping_pong_takes_about_a_round_trip() {
    let (here, there) = loopback(|config| config);
    let (questions, answers) = (there.receiver(ASK).unwrap(), there.sender(ANSWER).unwrap());
    let echo = thread::spawn(move || {
        for question in questions.iter() {
            if answers.send(question).is_err() {
                break;
            }
        }
    });
    let (ask, answer) = (here.sender(ASK).unwrap(), here.receiver(ANSWER).unwrap());
    let (mut trips, mut flushes) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        let begun = Instant::now();
        ask.send("ping").unwrap();
        answer.recv_timeout(LONG).unwrap();
        trips.push(begun.elapsed());
        let begun = Instant::now();
        here.flush().unwrap();
        flushes.push(begun.elapsed());
    }
    let (trip, flush) = (median(trips), median(flushes));
    assert!(flush < trip * 5 + Duration::from_micros(200), "a flush {flush:?}, a round trip {trip:?}");
    drop((ask, answer, here));
    drop(there);
    echo.join().unwrap();
}

/// Flushes and heartbeats ask with PINGs of their own: with a heartbeat all the time, each flush
/// still ends, and the heartbeat still measures.
#[test]
fn flushes_beside_heartbeats_all_end() {
    let (here, there) = loopback(|config| {
        config.heartbeat(Duration::from_millis(1), Duration::from_secs(30)).resume_grace(Duration::ZERO)
    });
    let sender = here.sender(ASK).unwrap();
    let receiver = there.receiver(ASK).unwrap();
    let reading = thread::spawn(move || receiver.iter().count());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..300 {
                    sender.send("x").unwrap();
                    here.flush_timeout(LONG).unwrap();
                }
            });
        }
    });
    assert!(here.rtt().is_some());
    assert_eq!(here.close_reason(), None);
    drop((sender, here));
    assert_eq!(reading.join().unwrap(), 900);
}

/// A client that connected lazily announces itself: its server need not guess whether it is there.
#[test]
fn a_client_that_connected_lazily_is_accepted_at_once() {
    let key = Key::generate();
    let listener = Listener::bind(free_address(), Config::new(key.clone())).unwrap();
    let accepts = |connect: &dyn Fn() -> Connection| {
        let times = (0..15).map(|_| {
            let begun = Instant::now();
            let client = connect();
            let server = listener.accept().unwrap();
            let time = begun.elapsed();
            drop((client, server));
            time
        });
        median(times.collect())
    };
    let config = || Config::new(key.clone());
    let eagerly = accepts(&|| Connection::connect(listener.local_addr(), config()).unwrap());
    let lazily = accepts(&|| Connection::connect_lazily(listener.local_addr(), config()).unwrap());
    // It was 200 ms more.
    assert!(lazily < eagerly * 5 + Duration::from_millis(50), "lazily {lazily:?}, else {eagerly:?}");
}

/// An interrupt passes bulk on a slow link: no more is handed to the kernel, and to what is between, than the
/// link carries in a moment. It was all that their buffers take, about two seconds.
#[test]
fn an_interrupt_passes_bulk_on_a_slow_link() {
    thread::scope(|scope| {
        for sealing in [Sealing::Never, Sealing::Always] {
            scope.spawn(move || {
                let key = Key::generate();
                let config = || Config::new(key.clone()).linger(Duration::ZERO);
                let listener = Listener::bind(free_address(), config()).unwrap();
                let far = slow::start(listener.local_addr(), 100e3, 128 << 10);
                let here = config().sealing(sealing).io_thread(&IoThread::new().unwrap());
                let client = Connection::connect(far, here).unwrap();
                let server = listener.accept().unwrap();
                let (sender, receiver) = (server.sender(ANSWER).unwrap(), client.receiver(ANSWER).unwrap());
                let flood = thread::spawn(move || while sender.send([7; 4096]).is_ok() {});
                let read = thread::spawn(move || while receiver.recv().is_ok() {});
                let interrupts = client.interrupts();
                // What has filled the buffers before anything was known of the link is through by then.
                thread::sleep(Duration::from_secs(4));
                let times = (0..7).map(|_| {
                    let sent = Instant::now();
                    server.interrupt().unwrap();
                    assert!(interrupts.wait());
                    sent.elapsed()
                });
                let time = median(times.collect());
                assert!(time < Duration::from_secs(1), "{time:?}, {sealing:?}");
                client.abandon();
                server.abandon();
                flood.join().unwrap();
                read.join().unwrap();
            });
        }
    });
}
