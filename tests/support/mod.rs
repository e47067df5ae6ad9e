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

use std::time::Duration;

use trunkline::{Config, Connection, Key, Listener};

/// Longer than anything here takes; only a failure waits for it.
pub const LONG: Duration = Duration::from_secs(60);

/// Two ends over a socket pair.
pub fn pair(set: impl Fn(Config) -> Config) -> (Connection, Connection) {
    Connection::pair(set(Config::new(Key::generate()))).unwrap()
}

/// A client and its server over TCP.
pub fn loopback(set: impl Fn(Config) -> Config) -> (Connection, Connection) {
    let key = Key::generate();
    let listener = Listener::bind("127.0.0.1:0", set(Config::new(key.clone()))).unwrap();
    let client = Connection::connect(listener.local_addr(), set(Config::new(key))).unwrap();
    (client, listener.accept().unwrap())
}
