//! What an honest client sees while others attack its server: a row for each attack, with the goal
//! beside it. `cargo bench --bench attacks` runs all of them, `cargo bench --bench attacks -- NAME` those
//! whose name has it.
//!
//! The limits that are tested, much more generous ones, are in `tests/it/attacks`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Display;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::attack::{ASK, Attack, Times, Victim, floods, rude_strangers, silent_connects};
use support::delay::Delay;
use trunkline::{ChannelId, Connection};

const TIME: Duration = Duration::from_secs(2);
const FAR: Duration = Duration::from_millis(50);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!("{:<36} {:<64} goal", "attack", "measured");
    let all: &[(&str, fn())] = &[
        ("strangers", strangers),
        ("floods", floods_of_one_client),
        ("silent", silent),
        ("lost", lost),
        ("herd", herd),
        ("idle", idle),
        ("bulk", bulk),
        #[cfg(unix)]
        ("cpu", cpu),
    ];
    for (name, run) in all {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(&**wanted)) {
            run();
        }
    }
}

fn row(attack: &str, measured: impl Display, goal: &str) {
    println!("{attack:<36} {measured:<64} {goal}", measured = measured.to_string());
}

fn strangers() {
    let victim = Victim::start(|config| config);
    let client = victim.client(victim.addr);
    row("(none)", Times::measure(&client, TIME), "");
    let attack = rude_strangers(&victim, 8);
    attack.wait_until_begun();
    row("strangers that go on writing", Times::measure(&client, TIME), "p99 < 50 ms");
}

fn floods_of_one_client() {
    let victim = Victim::start(|config| config);
    let client = victim.client(victim.addr);
    row("(none)", Times::measure(&client, TIME), "");
    for (what, attack) in floods(&victim) {
        let attack = attack();
        attack.wait_until_begun();
        row(&format!("flood: {what}"), Times::measure(&client, TIME), "max < 50 ms");
    }
}

fn silent() {
    let victim = Victim::start(|config| config);
    let far = Delay::new(victim.addr, FAR);
    let attack = silent_connects(&victim, 1500, 5000);
    while attack.count.load(SeqCst) < 3000 {
        thread::sleep(Duration::from_millis(10));
    }
    let begun = Instant::now();
    let in_time = thread::scope(|scope| {
        let connect = || Connection::connect(far.addr, victim.config()).ok();
        let connecting: Vec<_> = (0..24).map(|_| scope.spawn(connect)).collect();
        connecting.into_iter().filter_map(|client| client.join().unwrap()).count()
    });
    let measured = format!("{in_time} of 24 after {:?}, {} handshakes", begun.elapsed(), far.links());
    row("1,500 silent connects a second", measured, "24 of 24");
}

fn lost() {
    let victim = Victim::start(|config| config.backlog(2000));
    let far = Delay::new(victim.addr, FAR);
    let clients: Vec<_> =
        (0..1000).map(|_| Connection::connect_lazily(far.addr, victim.config()).unwrap()).collect();
    let ends: Vec<_> =
        clients.iter().map(|client| (client.sender(ASK).unwrap(), client.receiver(ASK).unwrap())).collect();
    let round = || {
        ends.iter().for_each(|(sender, _)| sender.send("back").unwrap());
        ends.iter().for_each(|(_, receiver)| drop(receiver.recv().unwrap()));
    };
    round();
    let came = far.links();
    for _ in 0..3 {
        let (begun, before) = (Instant::now(), far.links());
        far.cut();
        round();
        let measured = format!("{:?}, {} handshakes", begun.elapsed(), far.links() - before);
        row("1,000 clients lose their sockets", measured, "1.5 s, 1,300 handshakes");
    }
    row("1,000 clients connect, far away", format!("{came} handshakes"), "");
    drop(ends);
    clients.into_iter().for_each(Connection::detach);
}

fn herd() {
    for _ in 0..3 {
        let victim = Victim::start(|config| config);
        let begun = Instant::now();
        let clients: Vec<_> = thread::scope(|scope| {
            let connecting: Vec<_> = (0..1000)
                .map(|_| {
                    let connect = || Connection::connect(victim.addr, victim.config());
                    thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, connect).unwrap()
                })
                .collect();
            connecting.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let refused = clients.iter().filter(|client| client.is_err()).count();
        row(
            "1,000 clients connect at once",
            format!("{:?}, {refused} refused", begun.elapsed()),
            "0 refused",
        );
        clients.into_iter().flatten().for_each(Connection::detach);
    }
}

/// The idle ones come to the same server as the one that asks.
fn idle() {
    const IDLE: usize = 9000;
    let victim = Victim::serving(1, |config| config.max_connections(20_000).backlog(20_000));
    let client = victim.client(victim.addr);
    let mut rounds = Vec::new();
    for _ in 0..3 {
        rounds.push(Times::measure(&client, TIME).at(0.5));
    }
    let before = *rounds.iter().min().unwrap();
    let idle: Vec<_> =
        (0..IDLE).map(|_| Connection::connect(victim.addr, victim.config()).unwrap()).collect();
    rounds = (0..3).map(|_| Times::measure(&client, TIME).at(0.5)).collect();
    let during = *rounds.iter().min().unwrap();
    let ratio = during.as_secs_f64() / before.as_secs_f64();
    let measured = format!("p50 {during:?} instead of {before:?}: {ratio:.2} x");
    row(&format!("{IDLE} idle connections"), measured, "<= 1.2 x");
    idle.into_iter().for_each(Connection::detach);
}

/// A ping beside a flood of 64 KiB messages on another channel of the same connection.
fn bulk() {
    let raw = raw_vectored_write();
    let victim = Victim::start(|config| config);
    let client = victim.client(victim.addr);
    row("(none)", Times::measure(&client, TIME), "");
    let sender = client.connection.sender(ChannelId::new(2)).unwrap();
    let message = Bytes::from(vec![7; 65_536]);
    let begun = Instant::now();
    let attack = Attack::begin(1, move |_, count| {
        sender.send_bytes(message.clone()).unwrap();
        count.fetch_add(1, SeqCst);
    });
    attack.wait_until_begun();
    let times = Times::measure(&client, TIME * 2);
    let rate = attack.count.load(SeqCst) as f64 * 65_536.0 / begun.elapsed().as_secs_f64();
    let measured = format!("{times}; {:.2} GB/s of {:.2}", rate / 1e9, raw / 1e9);
    row("bulk on another channel", measured, "p99 <= 200 us, 0.95 x raw");
}

/// Bytes a second of vectored writes of the same shape through a socket of this machine.
fn raw_vectored_write() -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut from = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut to, _) = listener.accept().unwrap();
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        let mut all = 0;
        while let Ok(read @ 1..) = to.read(&mut buffer) {
            all += read;
        }
        all
    });
    let payload = vec![7; 65_536];
    let slices: Vec<_> = (0..16).flat_map(|_| [IoSlice::new(b"word"), IoSlice::new(&payload)]).collect();
    let begun = Instant::now();
    while begun.elapsed() < TIME {
        let _ = from.write_vectored(&slices).unwrap();
    }
    drop(from);
    reader.join().unwrap() as f64 / begun.elapsed().as_secs_f64()
}

/// 5,000 small messages a second, each taken at once: what the process spends on them, against two raw
/// sockets that sleep in `read`.
#[cfg(unix)]
fn cpu() {
    const RATE: u32 = 5000;
    let paced = |mut act: Box<dyn FnMut()>| {
        let (begun, spent) = (Instant::now(), cpu_time());
        for n in 0..RATE * 3 {
            let due = begun + Duration::from_secs(1) * n / RATE;
            while let Some(wait) = due.checked_duration_since(Instant::now()) {
                thread::sleep(wait);
            }
            act();
        }
        (cpu_time() - spent).as_secs_f64() / begun.elapsed().as_secs_f64()
    };
    let victim = Victim::start(|config| config);
    let client = victim.client(victim.addr);
    let sender = client.connection.sender(ChannelId::new(2)).unwrap();
    let ours = paced(Box::new(move || sender.send([7; 16]).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut from = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    from.set_nodelay(true).unwrap();
    let (mut to, _) = listener.accept().unwrap();
    thread::spawn(move || while matches!(to.read(&mut [0; 64]), Ok(1..)) {});
    let raw = paced(Box::new(move || from.write_all(&[7; 16]).unwrap()));
    let measured = format!("{:.1} % of a core; raw blocking sockets {:.1} %", ours * 100.0, raw * 100.0);
    row("5,000 small messages a second", measured, "<= 1.25 x of not polling");
}

#[cfg(unix)]
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
