//! Clients join and leave a hub at random. Afterwards nothing is left of them, and none of those that stayed has waited
//! for long.
//!
//! ```sh
//! cargo run --release -p trunkline-hub --example soak -- --seconds 60 --clients 1000
//! ```
//!
//! It ends with 1 if more than 4 MiB are left (`--leak-kib`; the core keeps some for a while) or something took longer than `--limit-ms` (50).

#[path = "../../../tests/support/heap.rs"]
#[allow(dead_code)]
mod heap;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lexopt::prelude::*;
use trunkline::{Access, ChannelId, ChannelSet, Config, Connection, Key, Listener, Received, RecvError};
use trunkline_hub::{History, Hub, kernel};

#[global_allocator]
static COUNTING: heap::Counting = heap::Counting;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

const STDIN: ChannelId = ChannelId::new(0);
const STDOUT: ChannelId = ChannelId::new(1);
const CONTROL: ChannelId = ChannelId::new(3);
const STATUS: ChannelId = ChannelId::new(4);
const TALK: ChannelId = ChannelId::new(5);
const ROSTER: ChannelId = ChannelId::new(127);
const SECRET: [u8; 32] = [3; 32];
/// The program says what time it is so often.
const TICK: Duration = Duration::from_millis(10);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<ExitCode> {
    let (mut seconds, mut clients, mut limit, mut leak) = (60u64, 1000usize, 50u64, 4096u64);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("seconds") => seconds = parser.value()?.parse()?,
            Long("clients") => clients = parser.value()?.parse()?,
            Long("limit-ms") => limit = parser.value()?.parse()?,
            Long("leak-kib") => leak = parser.value()?.parse()?,
            Long("clients-of") => {
                let addr = parser.value()?.parse()?;
                return join_and_leave(addr, clients, Duration::from_secs(seconds))
                    .map(|()| ExitCode::SUCCESS);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    serve(seconds, clients, limit, leak)
}

// ---- the program and its hub

fn serve(seconds: u64, clients: usize, limit: u64, leak: u64) -> Result<ExitCode> {
    let (program, upstream) = Connection::pair(Config::new(Key::generate()))?;
    let config = Config::with_access(Key::from(SECRET), Access::full().named("soak")).backlog(1024);
    let listener = Listener::bind("127.0.0.1:0", config)?;
    let addr = listener.local_addr();
    let hub = Hub::new(upstream)
        .broadcast(STDOUT, History::bytes(64 << 10))
        .latest(STATUS)
        .input(STDIN)
        .shared_with(CONTROL, kernel::control_filter)
        .private(TALK, 64..=126)
        .roster(ROSTER)
        .serve(listener)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| tell_the_time(&program, &over));
        scope.spawn(|| answer(&program));
        scope.spawn(|| while program.receiver(STDIN).is_ok_and(|stdin| stdin.recv().is_ok()) {});
        let result = (|| {
            // So that what is kept for a while is there: spare buffers, and how sessions have ended.
            let warm = seconds.min(5);
            let (_, first) = round(addr, clients, warm)?;
            heap::wait_until("the first clients are forgotten", || hub.clients() == 0);
            let before = settled();
            let (joins, worst) = round(addr, clients, seconds)?;
            heap::wait_until("the clients are forgotten", || hub.clients() == 0);
            let left = settled() - before;
            println!("{joins} joined and left in {seconds} s; {left} bytes more than before");
            for (what, took) in &worst {
                println!("{what}: {took}");
            }
            let slow: Vec<_> = worst.iter().filter(|(_, took)| took.max_ms > limit as f64).collect();
            let leaked = left > leak as i64 * 1024;
            if leaked {
                println!("that is a leak");
            }
            if !slow.is_empty() {
                println!("something took longer than {limit} ms");
            }
            drop(first);
            Ok(if leaked || !slow.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        })();
        over.store(true, Relaxed);
        hub.shut_down(trunkline::CloseCode::NORMAL, "");
        result
    })
}

/// What is allocated, when it no longer falls.
fn settled() -> i64 {
    let mut least = heap::live();
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(500) {
        thread::sleep(Duration::from_millis(20));
        if heap::live() < least {
            (least, since) = (heap::live(), Instant::now());
        }
    }
    least
}

fn tell_the_time(program: &Connection, over: &AtomicBool) {
    let (Ok(output), Ok(status)) = (program.sender(STDOUT), program.sender(STATUS)) else { return };
    let mut n = 0u64;
    while !over.load(Relaxed) {
        let _ = output.send(now().to_be_bytes());
        n += 1;
        if n.is_multiple_of(20) {
            let _ = status.send(format!("idle {n}"));
        }
        thread::sleep(TICK);
    }
}

fn now() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Answers each private message with the same, and ends its run after the client's.
fn answer(program: &Connection) {
    let pool: ChannelSet = (64..=126).map(ChannelId::new).collect();
    let Ok(requests) = program.receiver(pool) else { return };
    let mut answers: Vec<Option<trunkline::Sender>> = (0..128).map(|_| None).collect();
    loop {
        match requests.recv_any() {
            Ok(Received::Message(message)) => {
                let sender = &mut answers[usize::from(message.channel().get())];
                if sender.as_ref().is_none_or(|sender| sender.stopped().is_some()) {
                    *sender = program.sender(message.channel()).ok();
                }
                if let Some(sender) = sender {
                    let _ = sender.send(&message);
                }
            }
            Ok(Received::Finished(channel) | Received::Reset { channel, .. }) => {
                let sender =
                    answers[usize::from(channel.get())].take().or_else(|| program.sender(channel).ok());
                if let Some(sender) = sender {
                    let _ = sender.finish();
                }
            }
            Ok(_) | Err(RecvError::Finished) => {}
            Err(_) => return,
        }
    }
}

/// What some kind of wait took.
struct Took {
    count: u64,
    max_ms: f64,
    text: String,
}

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} times, {}", self.count, self.text)
    }
}

/// Lets the clients' process run. How many joined, and how long they waited for what.
fn round(addr: SocketAddr, clients: usize, seconds: u64) -> Result<(u64, Vec<(String, Took)>)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--seconds", &seconds.to_string(), "--clients", &clients.to_string()])
        .args(["--clients-of", &addr.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("it is piped")?;
    let mut joins = 0;
    let mut all = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(number) = line.strip_prefix("joins ") {
            joins = number.parse()?;
        } else if let Some((what, rest)) = line.split_once('|') {
            let mut parts = rest.splitn(3, '|');
            let mut part = || parts.next().unwrap_or_default();
            let took = Took { count: part().parse()?, max_ms: part().parse()?, text: part().to_owned() };
            all.push((what.to_owned(), took));
        }
    }
    if !child.wait()?.success() {
        return Err("the clients have failed".into());
    }
    Ok((joins, all))
}

// ---- the clients

/// Times of one kind, in microseconds.
#[derive(Default)]
struct Times(Mutex<Vec<u64>>);

impl Times {
    fn add(&self, time: Duration) {
        if let Ok(mut times) = self.0.lock() {
            times.push(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn print(&self, what: &str) {
        let Ok(mut times) = self.0.lock() else { return };
        times.sort_unstable();
        let at = |part: f64| match times.len() {
            0 => 0.0,
            len => times[((len - 1) as f64 * part) as usize] as f64 / 1000.0,
        };
        let text = format!(
            "half below {:.2} ms, 99 % below {:.2} ms, all below {:.2} ms",
            at(0.5),
            at(0.99),
            at(1.0)
        );
        println!("{what}|{}|{}|{text}", times.len(), at(1.0));
        let _ = std::io::stdout().flush();
    }
}

struct Random(u64);

impl Random {
    /// Xorshift.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[derive(Default)]
struct Waits {
    output: Times,
    answer: Times,
    roster: Times,
    join: Times,
    joins: AtomicU64,
}

fn join_and_leave(addr: SocketAddr, clients: usize, time: Duration) -> Result<()> {
    let waits = Waits::default();
    let until = Instant::now() + time;
    let workers = clients.min(16);
    thread::scope(|scope| {
        let steady: Vec<_> = (0..4).map(|_| scope.spawn(|| stay(addr, until, &waits))).collect();
        let churning: Vec<_> = (0..workers)
            .map(|worker| {
                let waits = &waits;
                scope.spawn(move || churn(addr, until, clients / workers, worker as u64 + 1, waits))
            })
            .collect();
        for thread in steady.into_iter().chain(churning) {
            thread.join().map_err(|_| "a client panicked")??;
        }
        Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    println!("joins {}", waits.joins.load(Relaxed));
    waits.output.print("output");
    waits.answer.print("private answer");
    waits.roster.print("roster answer");
    waits.join.print("join");
    Ok(())
}

fn connect(addr: SocketAddr) -> Result<Connection> {
    Ok(Connection::connect(addr, Config::new(Key::from(SECRET)))?)
}

/// A client that stays, and measures how long everything takes.
fn stay(addr: SocketAddr, until: Instant, waits: &Waits) -> Result<()> {
    let connection = connect(addr)?;
    let output = connection.receiver(STDOUT)?;
    let (ask, answers) = (connection.sender(TALK)?, connection.receiver(TALK)?);
    let (request, roster) = (connection.sender(ROSTER)?, connection.receiver(ROSTER)?);
    // What was said before it came.
    let joined = now();
    let mut n = 0u64;
    while Instant::now() < until {
        match output.recv_timeout(LONG) {
            Ok(message) => {
                let said = u64::from_be_bytes(message[..8].try_into()?);
                if said > joined {
                    waits.output.add(Duration::from_nanos(now().saturating_sub(said)));
                }
            }
            // It was busy elsewhere.
            Err(trunkline::RecvTimeoutError::Disconnected(RecvError::Gap { .. })) => {}
            Err(error) => return Err(error.into()),
        }
        n += 1;
        if n.is_multiple_of(10) {
            let begun = Instant::now();
            ask.send(n.to_be_bytes())?;
            if *answers.recv_timeout(LONG)? != n.to_be_bytes() {
                return Err("the answer of another".into());
            }
            waits.answer.add(begun.elapsed());
        }
        if n.is_multiple_of(50) {
            let begun = Instant::now();
            request.send(r#"{"release":true}"#)?;
            while !roster.recv_timeout(LONG)?.starts_with(br#"{"answer""#) {}
            waits.roster.add(begun.elapsed());
        }
    }
    Ok(())
}

/// Clients that come and go.
fn churn(addr: SocketAddr, until: Instant, places: usize, seed: u64, waits: &Waits) -> Result<()> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut here: Vec<Option<Connection>> = (0..places).map(|_| None).collect();
    while Instant::now() < until {
        let place = random.below(places as u64) as usize;
        match here[place].take() {
            None => {
                let begun = Instant::now();
                let connection = connect(addr)?;
                let output = connection.receiver(STDOUT)?;
                if let Err(error) = output.recv_timeout(LONG)
                    && !matches!(error, trunkline::RecvTimeoutError::Disconnected(RecvError::Gap { .. }))
                {
                    return Err(error.into());
                }
                waits.join.add(begun.elapsed());
                waits.joins.fetch_add(1, Relaxed);
                match random.below(8) {
                    // Some take the input, or a private channel, and vanish with it.
                    0 => drop(connection.sender(STDIN)?.send("a line\n")),
                    1 => drop(connection.sender(ROSTER)?.send(r#"{"take":true}"#)),
                    2 => drop(connection.sender(TALK)?.send("x")),
                    3 => drop(connection.sender(CONTROL)?.send("interrupt own 1")),
                    _ => {}
                }
                if random.below(2) == 0 {
                    // It reads nothing more.
                    std::mem::forget(output);
                }
                here[place] = Some(connection);
            }
            Some(connection) => match random.below(3) {
                0 => connection.abandon(),
                1 => connection.detach(),
                _ => drop(connection.close_timeout(trunkline::CloseCode::NORMAL, "bye", LONG)),
            },
        }
        thread::sleep(Duration::from_millis(random.below(10)));
    }
    for connection in here.into_iter().flatten() {
        connection.abandon();
    }
    // What is said last is sent.
    thread::sleep(Duration::from_millis(200));
    Ok(())
}
