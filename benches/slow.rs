//! How long an interrupt takes that passes a flood on a slow link: `cargo bench --bench slow`.
//!
//! A link of 100 kB/s, with a flood on one channel from the server to the client, or both ways, and interrupts
//! both ways, over plain and sealed connections. The goal is a p99 of at most 500 ms, from two seconds on
//! after the flood began.

#[path = "../tests/support/slow.rs"]
mod slow;

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use trunkline::{ChannelId, Config, Connection, IoThread, Key, Listener, Sealing};

const STDOUT: ChannelId = ChannelId::new(1);
const RATE: f64 = 100e3;
const BUFFER: usize = 32 << 10;
const WARM_UP: Duration = Duration::from_secs(2);
const TIME: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_millis(50);

fn main() {
    // `cargo test` of all targets runs this too, in a build that says nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("flood     kind    interrupt          n   p50 ms   p99 ms   max ms   flood kB/s, down and up");
    for both in [false, true] {
        for sealing in [Sealing::Never, Sealing::Always] {
            run(both, sealing);
        }
    }
}

fn run(both: bool, sealing: Sealing) {
    let key = Key::generate();
    let config = || Config::new(key.clone()).linger(Duration::ZERO);
    let listener = Listener::bind("127.0.0.1:0", config()).expect("loopback");
    let far = slow::start(listener.local_addr(), RATE, BUFFER);
    // A thread of its own, as in another process.
    let here = config().sealing(sealing).io_thread(&IoThread::new().expect("a thread"));
    let client = Connection::connect(far, here).expect("it listens");
    let server = listener.accept().expect("it has connected");
    let begun = Instant::now();
    let down = flood(&server, &client);
    let up = both.then(|| flood(&client, &server));
    thread::sleep(WARM_UP);
    let rows = [("to the server", &client, &server), ("to the client", &server, &client)]
        .map(|(name, from, to)| (name, interrupt(from, to)));
    let rows = rows.map(|(name, row)| (name, row.join().expect("it does not panic")));
    let seconds = begun.elapsed().as_secs_f64();
    client.abandon();
    server.abandon();
    let rate = |flood: JoinHandle<u64>| flood.join().expect("it does not panic") as f64 / seconds / 1e3;
    let rates = format!("{:.0} {:.0}", rate(down), up.map_or(0.0, rate));
    for (name, mut times) in rows {
        times.sort();
        let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
        println!(
            "{:<9} {:<7} {name:<15} {:>4} {:>8.1} {:>8.1} {:>8.1}   {rates}",
            if both { "both ways" } else { "one way" },
            if sealing == Sealing::Always { "sealed" } else { "plain" },
            times.len(),
            at(50),
            at(99),
            at(100),
        );
    }
}

/// Sends as much as goes; how much has arrived.
fn flood(from: &Connection, to: &Connection) -> JoinHandle<u64> {
    let sender = from.sender(STDOUT).expect("a channel");
    let receiver = to.receiver(STDOUT).expect("a channel");
    thread::spawn(move || while sender.send([7; 4096]).is_ok() {});
    thread::spawn(move || {
        let mut bytes = 0;
        while let Ok(message) = receiver.recv() {
            bytes += message.len() as u64;
        }
        bytes
    })
}

fn interrupt(from: &Connection, to: &Connection) -> JoinHandle<Vec<Duration>> {
    let (from, to) = (from.clone(), to.clone());
    thread::spawn(move || {
        let (begun, interrupts) = (Instant::now(), to.interrupts());
        let mut times = Vec::new();
        while begun.elapsed() < TIME {
            thread::sleep(EVERY);
            let sent = Instant::now();
            from.interrupt().expect("it may");
            assert!(interrupts.wait(), "the connection lives");
            times.push(sent.elapsed());
        }
        times
    })
}
