//! Honest clients that all come at once.

use std::thread;
use std::time::{Duration, Instant};

use trunkline::Connection;

use crate::support::LONG;
use crate::support::attack::{ASK, Victim};
use crate::support::delay::Delay;

const CLIENTS: usize = 1000;

/// Four sockets each, where the system gives so many to a process.
fn clients() -> usize {
    #[cfg(not(unix))]
    let limit = u64::MAX;
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    if limit >= 16_000 { CLIENTS } else { 100 }
}

#[test]
fn a_thousand_clients_that_connect_at_once_all_get_in() {
    // However slow the machine is.
    const PATIENCE: Duration = Duration::from_secs(60);
    // Few may wait to be accepted at a time: the others are told to come again.
    let victim = Victim::start(|config| config.backlog(8).handshake_timeout(PATIENCE));
    let begun = Instant::now();
    let clients: Vec<Connection> = thread::scope(|scope| {
        let connecting: Vec<_> = (0..clients())
            .map(|_| {
                let patient = || victim.config().connect_timeout(PATIENCE).handshake_timeout(PATIENCE);
                let connect = move || Connection::connect(victim.addr, patient());
                thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, connect).unwrap()
            })
            .collect();
        connecting.into_iter().map(|client| client.join().unwrap().expect("it gets in")).collect()
    });
    println!("{} clients are in after {:?}", clients.len(), begun.elapsed());
    let told = Instant::now();
    clients.into_iter().for_each(Connection::detach);
    println!("and gone after {:?}", told.elapsed());
}

/// "1,000 clients lose their sockets at once, 50 ms round trip": few need a second handshake.
#[test]
fn a_thousand_clients_that_lose_their_sockets_at_once_come_back_with_few_handshakes() {
    let victim = Victim::start(|config| config);
    let far = Delay::new(victim.addr, Duration::from_millis(50));
    let clients: Vec<_> =
        (0..clients()).map(|_| Connection::connect_lazily(far.addr, victim.config()).unwrap()).collect();
    let ends: Vec<_> =
        clients.iter().map(|client| (client.sender(ASK).unwrap(), client.receiver(ASK).unwrap())).collect();
    let round = |what: &str| {
        for (sender, _) in &ends {
            sender.send(what).unwrap();
        }
        for (_, receiver) in &ends {
            assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), what.as_bytes());
        }
    };
    round("before");
    let came = far.links();
    let begun = Instant::now();
    assert_eq!(far.cut(), clients.len());
    round("after");
    let (time, handshakes) = (begun.elapsed(), far.links() - came);
    println!("{} clients are back after {time:?} and {handshakes} handshakes; {came} to come", clients.len());
    assert!(handshakes as usize <= clients.len() * 13 / 10, "{handshakes} handshakes");
    drop(ends);
    clients.into_iter().for_each(Connection::detach);
}
