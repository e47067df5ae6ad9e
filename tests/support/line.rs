//! A server, a client, and a link between them that can be cut.

use std::thread;
use std::time::{Duration, Instant};

use trunkline::{Config, Connection, Event, Events, Key, Listener};

use super::LONG;
use super::chaos::Chaos;

use crate::support::free_address;

/// Sessions outlive their sockets, for the time that is the default.
pub fn on(key: Key) -> Config {
    Config::new(key).resume_grace(Duration::from_secs(60))
}

pub struct Line {
    pub key: Key,
    pub listener: Listener,
    pub chaos: Chaos,
    pub client: Connection,
    pub server: Connection,
}

impl Line {
    pub fn new(set: impl Fn(Config) -> Config) -> Self {
        let key = Key::generate();
        let listener = Listener::bind(free_address(), set(on(key.clone()))).unwrap();
        let chaos = Chaos::new(listener.local_addr());
        let client = Connection::connect(chaos.addr, set(on(key.clone()))).unwrap();
        let server = listener.accept().unwrap();
        Self { key, listener, chaos, client, server }
    }
}

#[track_caller]
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < LONG, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The next event that is not about a channel.
#[track_caller]
pub fn next(events: &Events) -> Event {
    loop {
        match events.recv_timeout(LONG).unwrap() {
            Event::Opened(_) => {}
            other => return other,
        }
    }
}
