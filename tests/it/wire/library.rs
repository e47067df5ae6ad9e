//! The library's side of these tests.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use trunkline::{
    ChannelId, Config, ConnectError, Connection, ConnectionError, HandshakeError, Key, Listener, Receiver,
    RecvError, RecvTimeoutError, Sender,
};

use crate::support::free_address;
use crate::support::wire::*;

/// How long the library's end waits for a raw peer that no longer answers, where that is not what
/// the test is about.
pub const BRIEF: Duration = Duration::from_millis(50);

/// Channels that an echo server echoes; the others it leaves alone.
const ECHOED: [u8; 2] = [1, 2];

pub fn config(key: &RawKey) -> Config {
    Config::new(Key::from(*key)).linger(BRIEF)
}

/// A client that speaks plainly: the raw server cannot seal.
pub fn plain(config: Config) -> Config {
    config.sealing(trunkline::Sealing::Never)
}

pub struct Server {
    pub addr: SocketAddr,
    pub key: RawKey,
    accepted: mpsc::Receiver<Connection>,
}

impl Server {
    /// Accepts, and leaves the connections to the test.
    pub fn start(tune: impl FnOnce(Config) -> Config) -> Self {
        let key = random();
        Self::with_config(key, tune(config(&key)))
    }

    pub fn with_config(key: RawKey, config: Config) -> Self {
        let listener = Listener::bind(free_address(), config).expect("bind");
        let addr = listener.local_addr();
        let (sender, accepted) = mpsc::channel();
        // The thread ends with the process: nothing says that dropping a handle stops `accept`.
        thread::spawn(move || {
            while let Ok(connection) = listener.accept() {
                if sender.send(connection).is_err() {
                    break;
                }
            }
        });
        Self { addr, key, accepted }
    }

    /// Echoes on [`ECHOED`].
    pub fn echo(tune: impl FnOnce(Config) -> Config) -> Self {
        Self::start(tune).echoing()
    }

    pub fn echoing(mut self) -> Self {
        let (_, nothing) = mpsc::channel();
        let accepted = std::mem::replace(&mut self.accepted, nothing);
        thread::spawn(move || {
            for connection in accepted {
                for channel in ECHOED {
                    let connection = connection.clone();
                    thread::spawn(move || echo(&connection, channel));
                }
            }
        });
        self
    }

    pub fn client(&self) -> ClientHandshake {
        ClientHandshake::new(self.addr, &self.key)
    }

    pub fn connect(&self) -> RawPeer {
        RawPeer::connect(self.addr, &self.key)
    }

    /// The library's end of the oldest connection that the test has not taken yet.
    pub fn accepted(&self) -> Connection {
        self.accepted.recv_timeout(PATIENCE).expect("accept returns the connection")
    }

    /// A raw peer and the library's end of the same connection.
    pub fn pair(&self, client: ClientHandshake) -> (RawPeer, Connection) {
        let peer = client.finish().expect("the handshake succeeds");
        (peer, self.accepted())
    }

    /// For an echo server: a new client gets its service.
    #[track_caller]
    pub fn assert_serving(&self) {
        let mut peer = self.connect();
        peer.send_message(1, b"still there?").expect("sends");
        assert_eq!(peer.expect_message(1), b"still there?");
    }
}

pub fn channel(number: u8) -> ChannelId {
    ChannelId::try_from(number).expect("a channel")
}

fn echo(connection: &Connection, number: u8) {
    let Ok(receiver) = connection.receiver(channel(number)) else { return };
    let mut sender: Option<Sender> = None;
    let mut stopped = false;
    loop {
        let event = receiver.recv();
        if let Err(RecvError::ConnectionLost(_)) = event {
            return;
        }
        if sender.is_none() && !stopped {
            match connection.sender(channel(number)) {
                Ok(new) => sender = Some(new),
                Err(_) => return,
            }
        }
        let ended = match event {
            Ok(message) => {
                if sender.as_ref().is_some_and(|sender| sender.send(&message[..]).is_err()) {
                    // Stopped: nothing more until the next run.
                    sender = None;
                    stopped = true;
                }
                continue;
            }
            Err(RecvError::Finished) => sender.take().map(|sender| sender.finish()),
            Err(RecvError::Reset { code, .. }) => sender.take().map(|sender| sender.reset(code)),
            // A gap is no message, and nothing to echo.
            Err(_) => continue,
        };
        if matches!(ended, Some(Err(_))) {
            return;
        }
        stopped = false;
    }
}

#[track_caller]
pub fn take(receiver: &Receiver) -> Vec<u8> {
    receiver.recv_timeout(PATIENCE).expect("a message").to_vec()
}

/// What a receiver says instead of a message.
#[track_caller]
pub fn take_end(receiver: &Receiver) -> RecvError {
    match receiver.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Disconnected(end)) => end,
        other => panic!("wanted the end of the run, got {:?}", other.map(|message| message.to_vec())),
    }
}

/// Why the connection of `receiver` is over, after whatever there is to read.
#[track_caller]
pub fn take_loss(receiver: &Receiver) -> ConnectionError {
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Disconnected(RecvError::ConnectionLost(error))) => return error,
            Ok(_) | Err(RecvTimeoutError::Disconnected(_)) => {}
            Err(other) => panic!("the connection is not over: {other}"),
        }
    }
}

#[track_caller]
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

// ---------------------------------------------------------------------------
// The library as the client

pub struct RawServer {
    pub listener: TcpListener,
    pub addr: SocketAddr,
    pub key: RawKey,
}

impl RawServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind(free_address()).unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr, key: random() }
    }

    /// `connect` of the library on one thread, `serve` on this one.
    pub fn meet<T>(
        &self,
        tune: impl FnOnce(Config) -> Config + Send,
        serve: impl FnOnce(ServerHandshake) -> T,
    ) -> (Result<Connection, ConnectError>, T) {
        thread::scope(|scope| {
            let config = tune(plain(config(&self.key)));
            let client = scope.spawn(move || Connection::connect(self.addr, config));
            let served = serve(ServerHandshake::accept(&self.listener, &self.key));
            (client.join().expect("connect does not panic"), served)
        })
    }

    /// The same, and nobody listens any more once the client is there: it can try again in vain.
    pub fn meet_once<T>(
        tune: impl FnOnce(Config) -> Config + Send,
        serve: impl FnOnce(ServerHandshake) -> T,
    ) -> (Result<Connection, ConnectError>, T) {
        let Self { listener, addr, key } = Self::start();
        thread::scope(|scope| {
            let config = tune(plain(config(&key)).connect_timeout(Duration::from_millis(500)));
            let client = scope.spawn(move || Connection::connect(addr, config));
            let handshake = ServerHandshake::accept(&listener, &key);
            drop(listener);
            let served = serve(handshake);
            (client.join().expect("connect does not panic"), served)
        })
    }

    /// A connection of the library, and the raw server's end of it.
    pub fn pair(
        &self,
        tune: impl FnOnce(Config) -> Config + Send,
        edit: impl FnOnce(&mut ServerHandshake),
    ) -> (Connection, RawPeer) {
        let (connection, peer) = self.meet(tune, |mut handshake| {
            edit(&mut handshake);
            handshake.finish().expect("the handshake succeeds")
        });
        (connection.expect("the library connects"), peer)
    }
}

#[track_caller]
pub fn handshake_error(result: Result<Connection, ConnectError>) -> HandshakeError {
    match result {
        Err(ConnectError::Handshake(error)) => error,
        Err(other) => panic!("wanted a handshake error, got {other}"),
        Ok(_) => panic!("wanted a handshake error, got a connection"),
    }
}
