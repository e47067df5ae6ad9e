//! A program and a hub before it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use trunkline::{Access, ChannelId, Config, Connection, Key, Listener, Receiver, RecvTimeoutError, Sender};
use trunkline_hub::{History, Hub, Running, kernel};

use crate::support::LONG;

pub const STDIN: ChannelId = ChannelId::new(0);
pub const STDOUT: ChannelId = ChannelId::new(1);
pub const STDERR: ChannelId = ChannelId::new(2);
pub const CONTROL: ChannelId = ChannelId::new(3);
pub const STATUS: ChannelId = ChannelId::new(4);
pub const TALK: ChannelId = ChannelId::new(5);
pub const ROSTER: ChannelId = ChannelId::new(127);

/// A hub as a kernel has it.
pub fn before(upstream: Connection) -> Hub {
    Hub::new(upstream)
        .broadcast(STDOUT | STDERR, History::bytes(1 << 20))
        .latest(STATUS)
        .input(STDIN)
        .shared_with(CONTROL, kernel::control_filter)
        .private(TALK, 64..=126)
        .roster(ROSTER)
        .urgent(CONTROL | TALK)
}

/// A program with a hub before it, and the keys of its clients.
pub struct World {
    pub program: Connection,
    pub hub: Option<Running>,
    pub addr: SocketAddr,
    /// Names and keys: what each may do stands in `keys`.
    pub desk: Key,
    pub home: Key,
    pub guest: Key,
    pub wall: Key,
}

impl World {
    pub fn new() -> Self {
        Self::with(|hub| hub)
    }

    pub fn with(set: impl FnOnce(Hub) -> Hub) -> Self {
        let (program, upstream) = Connection::pair(Config::new(Key::generate())).unwrap();
        Self::serve(program, set(before(upstream)), |config| config)
    }

    /// `desk` and `home` may do everything, `guest` may not take the input, `wall` only watches.
    pub fn serve(program: Connection, hub: Hub, set: impl FnOnce(Config) -> Config) -> Self {
        let keys = [(); 4].map(|()| Key::generate());
        let [desk, home, guest, wall] = keys.clone();
        let config = Config::with_access(desk.clone(), Access::full().named("desk"))
            .with_key(home.clone(), Access::full().named("home"))
            .with_key(guest.clone(), Access::full().take_input(false).named("guest"))
            .with_key(wall.clone(), Access::read_only().named("wall"));
        let listener = Listener::bind("127.0.0.1:0", set(config)).unwrap();
        let addr = listener.local_addr();
        let hub = Some(hub.serve(listener).unwrap());
        Self { program, hub, addr, desk, home, guest, wall }
    }

    pub fn client(&self, key: &Key) -> Client {
        Client::connect(self.addr, Config::new(key.clone()))
    }
}

/// A client, and its roster.
pub struct Client {
    pub connection: Connection,
    pub roster: Option<Receiver>,
    pub said: Vec<Value>,
}

impl Client {
    pub fn connect(addr: SocketAddr, config: Config) -> Self {
        Self::on(Connection::connect(addr, config).unwrap())
    }

    pub fn on(connection: Connection) -> Self {
        Self { roster: Some(connection.receiver(ROSTER).unwrap()), connection, said: Vec::new() }
    }

    pub fn sender(&self, channel: ChannelId) -> Sender {
        self.connection.sender(channel).unwrap()
    }

    pub fn receiver(&self, channel: ChannelId) -> Receiver {
        self.connection.receiver(channel).unwrap()
    }

    /// Waits for a message of the roster that has this field.
    #[track_caller]
    pub fn hears(&mut self, field: &str) -> Value {
        self.hears_that(field, |_| true)
    }

    #[track_caller]
    pub fn hears_that(&mut self, field: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LONG;
        let roster = self.roster.as_ref().unwrap();
        loop {
            let message = match roster.recv_deadline(deadline) {
                Ok(message) => message,
                Err(error) => panic!("no {field} in the roster: {error}; it said {:?}", self.said),
            };
            let note: Value = serde_json::from_slice(&message).unwrap();
            self.said.push(note.clone());
            if let Some(value) = note.get(field)
                && is(value)
            {
                return value.clone();
            }
        }
    }

    /// Says something on the roster, and returns the answer.
    #[track_caller]
    pub fn asks(&mut self, request: &str) -> Value {
        self.sender(ROSTER).send(request).unwrap();
        self.hears("answer")
    }

    /// Takes the input, perhaps after a while.
    #[track_caller]
    pub fn takes(&mut self, request: &str) {
        let deadline = Instant::now() + LONG;
        loop {
            let answer = self.asks(request);
            if answer["done"] == true {
                return;
            }
            assert!(Instant::now() < deadline, "{answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The code with which a run is stopped: sends until it is.
#[track_caller]
pub fn stopped(sender: &Sender) -> u32 {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(code) = sender.stopped() {
            return code;
        }
        assert!(Instant::now() < deadline, "it is not stopped");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
pub fn text(receiver: &Receiver) -> String {
    String::from_utf8(receiver.recv_timeout(LONG).unwrap().to_vec()).unwrap()
}

/// Nothing comes, as far as a round trip and a while tell.
#[track_caller]
pub fn nothing(receiver: &Receiver) {
    match receiver.recv_timeout(Duration::from_millis(150)) {
        Err(RecvTimeoutError::Timeout) => {}
        other => panic!("{other:?}"),
    }
}
