//! One program and 100 clients, of which one is stopped and one has a link of 100 kB/s. A program of its own, because
//! it measures the memory of the process.
#![cfg(unix)]

#[path = "../../../tests/support/mod.rs"]
mod support;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use support::LONG;
use support::chaos::Chaos;
use support::heap::{self, Counting};
use support::process::lines;
use trunkline::{ChannelId, Config, Connection, Key, Listener, RecvError, RecvTimeoutError};
use trunkline_hub::{History, Hub};

#[global_allocator]
static COUNTING: Counting = Counting;

const STDOUT: ChannelId = ChannelId::new(1);
const ROLE: &str = "TRUNKLINE_HUB_TEST_SLOW";
const SECRET: [u8; 32] = [9; 32];
const RUNNERS: usize = 98;
const MESSAGES: u64 = 1500;
const SIZE: usize = 4096;
const HISTORY: usize = 512 << 10;
/// The program is at most two steps ahead of the slowest of those that read: on a busy machine their process may be slower
/// than it. That is less than the history.
const STEP: u64 = 50;
/// What the hub grants and keeps for each client.
const SEND_QUEUE: u32 = 64 << 10;
const REPLAY: u32 = 256 << 10;

/// What a client got: how many messages, and how many are named by gaps. `told` hears that it is there,
/// and `reached` of each step.
fn watch(addr: &str, window: u32, told: &dyn Fn(), reached: &dyn Fn(u64)) -> (u64, u64) {
    let config = Config::new(Key::from(SECRET)).window(window);
    let connection = Connection::connect(addr, config).unwrap();
    let output = connection.receiver(STDOUT).unwrap();
    assert_eq!(output.recv().unwrap(), "hello");
    told();
    let (mut got, mut gone) = (0, 0);
    loop {
        match output.recv_timeout(LONG) {
            Ok(message) if message == "the newest" => return (got, gone),
            Ok(message) => {
                let number = u64::from_be_bytes(message[..8].try_into().unwrap());
                assert_eq!(number, got + gone, "what is missing is named, exactly");
                got += 1;
                if got.is_multiple_of(STEP) {
                    reached(got / STEP);
                }
            }
            Err(RecvTimeoutError::Disconnected(RecvError::Gap { messages, bytes, .. })) => {
                assert_eq!(bytes, messages * SIZE as u64);
                gone += messages;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// What the clients' processes do; without a role, nothing.
#[test]
fn clients_in_a_process_of_their_own() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (role, addr) = role.split_once(' ').unwrap();
    if role == "one" {
        let (got, gone) = watch(addr, 16 << 10, &|| println!("says: ready"), &|_| {});
        println!("says: {got} {gone}");
        return;
    }
    let ready = AtomicU64::new(0);
    let told = || {
        if ready.fetch_add(1, Relaxed) + 1 == RUNNERS as u64 {
            println!("says: ready");
        }
    };
    let steps: Vec<AtomicU64> = (0..=MESSAGES / STEP).map(|_| AtomicU64::new(0)).collect();
    let reached = |step: u64| {
        if steps[usize::try_from(step).unwrap()].fetch_add(1, Relaxed) + 1 == RUNNERS as u64 {
            println!("says: at {step}");
        }
    };
    std::thread::scope(|scope| {
        let watching = || watch(addr, 8 << 20, &told, &reached);
        let runners: Vec<_> = (0..RUNNERS).map(|_| scope.spawn(watching)).collect();
        for runner in runners {
            assert_eq!(runner.join().unwrap(), (MESSAGES, 0));
        }
    });
    println!("says: all of them have everything");
}

struct Clients {
    child: Child,
    said: mpsc::Receiver<String>,
}

impl Clients {
    fn start(role: &str, addr: impl std::fmt::Display) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "clients_in_a_process_of_their_own", "--nocapture"])
            .env(ROLE, format!("{role} {addr}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = lines(child.stdout.take().unwrap());
        Self { child, said }
    }

    #[track_caller]
    fn says(&self) -> String {
        loop {
            let line = self.said.recv_timeout(LONG).expect("it says something in time");
            if let Some((_, said)) = line.split_once("says: ") {
                return said.trim_end().to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_stopped_client_and_a_slow_one_hold_up_nobody() {
    let (program, upstream) = Connection::pair(Config::new(Key::generate())).unwrap();
    let config = Config::new(Key::from(SECRET)).send_queue(SEND_QUEUE).replay_limit(REPLAY);
    let listener = Listener::bind("127.0.0.1:0", config).unwrap();
    let addr = listener.local_addr();
    let hub = Hub::new(upstream).broadcast(STDOUT, History::bytes(HISTORY)).serve(listener).unwrap();
    let link = Chaos::new(addr);
    link.throttle(100_000);
    let out = program.sender(STDOUT).unwrap();
    out.send("hello").unwrap();
    let runners = Clients::start("many", addr);
    let (stopped, slow) = (Clients::start("one", addr), Clients::start("one", link.addr));
    for clients in [&runners, &stopped, &slow] {
        assert_eq!(clients.says(), "ready");
    }
    stopped.signal(Signal::STOP);

    let before = heap::live();
    let mut peak = 0;
    let mut log = 0;
    let begun = Instant::now();
    let mut message = vec![0; SIZE];
    for n in 0..MESSAGES {
        if n.is_multiple_of(STEP) && n / STEP > 1 {
            assert_eq!(runners.says(), format!("at {}", n / STEP - 1));
        }
        message[..8].copy_from_slice(&n.to_be_bytes());
        out.send(&message).unwrap();
        peak = peak.max(heap::live() - before);
        log = log.max(hub.log_bytes());
    }
    out.send("the newest").unwrap();
    program.flush().unwrap();
    for step in MESSAGES / STEP - 1..=MESSAGES / STEP {
        assert_eq!(runners.says(), format!("at {step}"));
    }
    assert_eq!(runners.says(), "all of them have everything");
    let took = begun.elapsed();
    peak = peak.max(heap::live() - before);
    println!("{MESSAGES} messages to {RUNNERS} clients in {took:?}; peak {peak} bytes, log {log}");

    // As the core's documentation says of what waits to be sent and what is not acknowledged, for each client.
    let each = 4 * (3 * (SEND_QUEUE as usize + SIZE) + REPLAY as usize);
    let upstream = 2 * ((896 << 10) + (4 << 20) + (4 << 20));
    assert!(log <= HISTORY + SIZE + 32, "{log}");
    assert!((peak as usize) < 2 * HISTORY + upstream + (RUNNERS + 2) * each, "{peak}");
    // Once the others have everything: the log, what the slow ones have on their way, and spare buffers.
    let spare = 6 << 20;
    heap::wait_until("the memory comes back", || {
        ((heap::live() - before) as usize) < 2 * HISTORY + 2 * each + spare
    });

    // What is left for them is as much as the log keeps.
    stopped.signal(Signal::CONT);
    link.throttle(u64::MAX);
    for clients in [&stopped, &slow] {
        let said = clients.says();
        let (got, gone) = said.split_once(' ').unwrap();
        let (got, gone): (u64, u64) = (got.parse().unwrap(), gone.parse().unwrap());
        assert_eq!(got + gone, MESSAGES);
        assert!(gone > 0, "it was too quick: {said}");
    }
}
