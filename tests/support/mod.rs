//! What several integration tests share. Each test binary uses only a part of it.

#![allow(dead_code, unused_imports)]

pub mod attack;
pub mod chaos;
pub mod delay;
pub mod heap;
pub mod kernel;
pub mod line;
pub mod process;
pub mod slow;
pub mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use trunkline::{Config, Connection, Key, Listener};

/// Longer than anything here takes; only a failure waits for it.
pub const LONG: Duration = Duration::from_secs(60);

/// An address to bind to, with a port that is free. Each call has an IP address of its own where all of
/// 127.0.0.0/8 is loopback: a port is soon given out again, and the client of another test may still
/// dial the listener that had it before.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let ip = if cfg!(target_os = "linux") { Ipv4Addr::new(127, 1, high, low) } else { Ipv4Addr::LOCALHOST };
    SocketAddr::from((ip, 0))
}

/// Two ends over a socket pair.
pub fn pair(set: impl Fn(Config) -> Config) -> (Connection, Connection) {
    Connection::pair(set(Config::new(Key::generate()))).unwrap()
}

/// A client and its server over TCP.
pub fn loopback(set: impl Fn(Config) -> Config) -> (Connection, Connection) {
    let key = Key::generate();
    let listener = Listener::bind(free_address(), set(Config::new(key.clone()))).unwrap();
    let client = Connection::connect(listener.local_addr(), set(Config::new(key))).unwrap();
    (client, listener.accept().unwrap())
}
