//! Clients and servers of this library with a bad network between them, in one process.
//!
//! Two kinds of clients take turns. One has runs echoed on several channels, and checks that each
//! comes back as it was sent, up to its end. The other and its server send at the same time, and one
//! of them, or both, close somewhere in between: what a close has confirmed must have arrived.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use trunkline::{
    ChannelError, ChannelId, ChannelSet, CloseCode, Config, Connection, ConnectionError, Disconnect, Key,
    Listener, Receiver, RecvError, SendError,
};

use crate::Failure;
use crate::content::{Noise, fill};
use crate::proxy::{self, Toll};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) time: Duration,
    /// It ends earlier after so many.
    pub(crate) cuts: Option<u64>,
    /// Else one of its own, which it says.
    pub(crate) seed: Option<u64>,
}

/// Clients at a time.
const CLIENTS: usize = 6;
/// How often it says how far it is.
const NEWS: Duration = Duration::from_secs(10);
/// If nothing comes through for so long, something waits that should not.
const STUCK: Duration = Duration::from_secs(60);
/// How long a client may be away.
const GRACE: Duration = Duration::from_secs(20);
/// How long one side's account of a connection waits for the other's.
const ACCOUNTS: Duration = Duration::from_secs(30);
/// Runs that the sender of a channel may be ahead of its reader.
const AHEAD: usize = 4;
/// The channels of a connection that closes early: the client's, and the server's last.
const CHANNELS: usize = 4;

type Check = Result<(), String>;

pub(crate) fn run(plan: Plan) -> Result<(), Failure> {
    let seed = plan.seed.unwrap_or_else(|| u64::from(std::process::id()) << 32 ^ now_in_nanos());
    crate::say(&format!("seed {seed}"))?;
    check(plan, Noise(seed)).map_err(|what| format!("{what} (seed {seed})").into())
}

fn now_in_nanos() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64)
}

fn check(plan: Plan, mut noise: Noise) -> Check {
    let soak = Arc::new(Soak::new());
    let toll = Arc::new(Toll::default());
    let [echo, closing] = [0; 2].map(|_| Listener::bind("127.0.0.1:0", soak.config.clone()));
    let (echo, closing) = (echo.map_err(text)?, closing.map_err(text)?);
    let [to_echo, to_closing] =
        [&echo, &closing].map(|listener| proxy::start(listener.local_addr(), noise.fork(), &toll));
    let (to_echo, to_closing) = (to_echo.map_err(text)?, to_closing.map_err(text)?);
    thread::spawn(move || crate::serve::answer(&echo));
    let at_server = Arc::clone(&soak);
    thread::spawn(move || {
        for connection in closing.incoming().flatten() {
            let soak = Arc::clone(&at_server);
            thread::spawn(move || close_at_server(&soak, connection).unwrap_or_else(|what| soak.fail(what)));
        }
    });

    let (done, ends) = sync_channel(CLIENTS);
    for _ in 0..CLIENTS {
        let (soak, mut noise, done) = (Arc::clone(&soak), noise.fork(), done.clone());
        thread::spawn(move || {
            while !soak.over.load(SeqCst) {
                let one = noise.fork();
                let end = if noise.one_in(3) {
                    close_at_client(&soak, &to_closing.to_string(), one)
                } else {
                    have_echoed(&soak, &to_echo.to_string(), one)
                };
                end.unwrap_or_else(|what| soak.fail(what));
            }
            // If something has failed, it is not waited for.
            let _ = done.send(());
        });
    }
    drop(done);
    soak.watch(plan, &toll, &ends)?;
    soak.check_accounts()?;
    crate::say(&format!("survived {}", soak.so_far(&toll))).map_err(text)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// What all threads share.
struct Soak {
    config: Config,
    begun: Instant,
    over: AtomicBool,
    failure: Mutex<Option<String>>,
    connections: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    runs: AtomicU64,
    resets: AtomicU64,
    /// Closes that were confirmed, and those that were not.
    confirmed: AtomicU64,
    unconfirmed: AtomicU64,
    /// What one side of a connection says of it, until the other one does; by its number.
    accounts: Mutex<HashMap<u64, Account>>,
}

/// What one side of a connection has sent and received of each channel.
#[derive(Clone, Default, Debug)]
struct Account {
    sent: [u64; CHANNELS + 1],
    received: [u64; CHANNELS + 1],
    /// What its library has received, which a side that has closed reads no more.
    arrived: u64,
    /// It has closed, and whether the other has confirmed that it has everything.
    closed: Option<bool>,
}

impl Soak {
    fn new() -> Self {
        let config = Config::new(Key::generate())
            .heartbeat(Duration::from_millis(150), Duration::from_millis(450))
            .resume_grace(GRACE)
            .linger(GRACE);
        Self {
            config,
            begun: Instant::now(),
            over: AtomicBool::new(false),
            failure: Mutex::default(),
            connections: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            runs: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            unconfirmed: AtomicU64::new(0),
            accounts: Mutex::default(),
        }
    }

    // ---- how far it is

    /// Waits until all clients are done, which are told when it is time.
    fn watch(&self, plan: Plan, toll: &Toll, ends: &std::sync::mpsc::Receiver<()>) -> Check {
        let (mut left, mut news) = (CLIENTS, Instant::now() + NEWS);
        let mut moved = (Instant::now(), 0);
        while left > 0 {
            match ends.recv_timeout(Duration::from_millis(50)) {
                Ok(()) => left -= 1,
                Err(RecvTimeoutError::Disconnected) => return Err("a thread of a client panicked".to_owned()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(what) = lock(&self.failure).take() {
                return Err(what);
            }
            let now = Instant::now();
            let enough = plan.cuts.is_some_and(|cuts| toll.cuts.load(SeqCst) >= cuts);
            if enough || now >= self.begun + plan.time {
                self.over.store(true, SeqCst);
            }
            let messages = self.messages.load(SeqCst);
            if messages != moved.1 {
                moved = (now, messages);
            } else if now >= moved.0 + STUCK {
                return Err(format!("nothing has come through for {} seconds", STUCK.as_secs()));
            }
            if now >= news {
                eprintln!("echo: {}", self.so_far(toll));
                news = now + NEWS;
            }
        }
        Ok(())
    }

    fn so_far(&self, toll: &Toll) -> String {
        let of = |count: &AtomicU64| count.load(SeqCst);
        format!(
            "{} cuts in {:.1} s (and {} within handshakes; {} late attempts, {} doubled ones); verified {} bytes in \
             {} messages and {} runs, {} of them reset; {} connections, {} closes confirmed, {} not",
            of(&toll.cuts),
            self.begun.elapsed().as_secs_f64(),
            of(&toll.handshakes),
            of(&toll.late),
            of(&toll.doubled),
            of(&self.bytes),
            of(&self.messages),
            of(&self.runs),
            of(&self.resets),
            of(&self.connections),
            of(&self.confirmed),
            of(&self.unconfirmed),
        )
    }

    /// The first failure counts.
    fn fail(&self, what: String) {
        lock(&self.failure).get_or_insert(what);
        self.over.store(true, SeqCst);
    }

    // ---- connections

    /// Connects over the proxy, which may cut the first handshake as often as it likes.
    fn connect(&self, address: &str, noise: &mut Noise) -> Result<Connection, String> {
        let lazily = noise.one_in(4);
        let mut why = String::new();
        for _ in 0..100 {
            let config = self.config.clone();
            let connection = if lazily {
                Connection::connect_lazily(address, config)
            } else {
                Connection::connect(address, config)
            };
            match connection {
                Ok(connection) => {
                    self.connections.fetch_add(1, SeqCst);
                    return Ok(connection);
                }
                Err(error) => why = error.to_string(),
            }
        }
        Err(format!("not one of 100 attempts has connected; the last one: {why}"))
    }

    /// `true`: the peer has everything.
    fn close(&self, connection: &Connection) -> bool {
        let closed = connection.close(CloseCode::NORMAL, "");
        if closed.is_ok() { &self.confirmed } else { &self.unconfirmed }.fetch_add(1, SeqCst);
        closed.is_ok()
    }

    fn verify(&self, message: &[u8], expected: &[u8], what: impl FnOnce() -> String) -> Check {
        if message != expected {
            let at = message.iter().zip(expected).position(|(byte, expected)| byte != expected);
            let how = match at {
                Some(at) => format!("byte {at} is {:#04x} and not {:#04x}", message[at], expected[at]),
                None => format!("it has {} bytes and not {}", message.len(), expected.len()),
            };
            return Err(format!("{}: {how}; it was changed, lost or overtaken", what()));
        }
        self.messages.fetch_add(1, SeqCst);
        self.bytes.fetch_add(message.len() as u64, SeqCst);
        Ok(())
    }

    // ---- the accounts

    /// One side is done with a connection. The second one of both compares.
    fn settle(&self, number: u64, account: Account) {
        let mut accounts = lock(&self.accounts);
        let Some(other) = accounts.remove(&number) else {
            accounts.insert(number, account);
            return;
        };
        // With the accounts locked, so that an empty list means that all have been compared.
        let same = compare(number, &account, &other).and_then(|()| compare(number, &other, &account));
        same.unwrap_or_else(|what| self.fail(what));
    }

    /// What was confirmed has another side.
    fn check_accounts(&self) -> Check {
        let until = Instant::now() + ACCOUNTS;
        loop {
            let missing = lock(&self.accounts).iter().find_map(|(number, account)| {
                (account.closed == Some(true) && account.sent != Account::default().sent)
                    .then(|| (*number, account.clone()))
            });
            if let Some(what) = lock(&self.failure).take() {
                return Err(what);
            }
            match missing {
                None => return Ok(()),
                Some((number, account)) if Instant::now() >= until => {
                    return Err(format!(
                        "connection {number}: confirmed, but the peer knows nothing: {account:?}"
                    ));
                }
                Some(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What is confirmed has arrived; and a side that has not closed has also read it.
fn compare(number: u64, from: &Account, to: &Account) -> Check {
    let arrived = from.sent.iter().sum::<u64>() == to.arrived;
    let read = to.closed.is_some() || from.sent == to.received;
    if from.closed == Some(true) && !(arrived && read) {
        return Err(format!("connection {number}: {:?} messages were confirmed, but {to:?}", from.sent));
    }
    Ok(())
}

// ---- runs that are echoed

/// A run as its sender means it.
#[derive(Clone, Copy)]
struct Run {
    seed: u64,
    number: u64,
    messages: u64,
    reset: Option<u32>,
}

impl Run {
    fn fill(&self, content: &mut Vec<u8>, number: u64) {
        fill_sized(content, self.seed.wrapping_add(number));
    }
}

/// Mostly small; up to some MiB.
fn fill_sized(content: &mut Vec<u8>, seed: u64) {
    let mut noise = Noise(seed);
    let size = match noise.below(200) {
        0..20 => 0,
        20..120 => noise.below(200),
        120..180 => noise.below(20_000),
        180..199 => noise.below(200_000),
        _ => noise.below(3 << 20),
    };
    fill(content, noise.next(), size as usize);
}

/// A connection with some channels, on each of which run after run is echoed.
fn have_echoed(soak: &Soak, address: &str, mut noise: Noise) -> Check {
    let connection = soak.connect(address, &mut noise)?;
    let first = noise.below(120) as u8;
    let channels = (first..first + 1 + noise.below(6) as u8).map(ChannelId::new);
    thread::scope(|scope| {
        let mut ways = Vec::new();
        for channel in channels {
            let (noise, connection) = (noise.fork(), &connection);
            let receiver = connection.receiver(channel).map_err(text)?;
            let (runs, sent) = sync_channel(AHEAD);
            ways.push(scope.spawn(move || send_runs(soak, connection, channel, noise, &runs)));
            ways.push(scope.spawn(move || check_runs(soak, &receiver, channel, &sent)));
        }
        let mut ends = Vec::new();
        for way in ways {
            let end = way.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()));
            ends.push(end.inspect_err(|what| {
                soak.fail(what.clone());
                // So that the others end too.
                let _ =
                    connection.close_timeout(CloseCode::application(0), "the check failed", Duration::ZERO);
            }));
        }
        ends.into_iter().collect::<Check>()
    })
    .map(|()| {
        soak.close(&connection);
    })
}

fn send_runs(
    soak: &Soak,
    connection: &Connection,
    channel: ChannelId,
    mut noise: Noise,
    runs: &SyncSender<Run>,
) -> Check {
    let mut content = Vec::new();
    for number in 0..1 + noise.below(20) {
        if soak.over.load(SeqCst) {
            break;
        }
        let reset = noise.one_in(6).then(|| noise.below(1000) as u32);
        let run = Run { seed: noise.next(), number, messages: noise.below(15), reset };
        // The reader knows of a run before anything of it can come; if it has gone, it has said why.
        let Ok(()) = runs.send(run) else { return Ok(()) };
        let what = |error: String| format!("channel {channel}, run {number}: {error}");
        let sender = connection.sender(channel).map_err(|error| what(text(error)))?;
        for message in 0..run.messages {
            run.fill(&mut content, message);
            sender.send(&content).map_err(|error| what(text(error)))?;
        }
        let ended = match reset {
            Some(code) => sender.reset(code),
            None => sender.finish(),
        };
        ended.map_err(|error| what(text(error)))?;
    }
    Ok(())
}

fn check_runs(
    soak: &Soak,
    receiver: &Receiver,
    channel: ChannelId,
    runs: &std::sync::mpsc::Receiver<Run>,
) -> Check {
    let mut expected = Vec::new();
    for run in runs {
        let mut came = 0;
        let what =
            |came: u64| format!("channel {channel}, run {}, message {came} of {}", run.number, run.messages);
        let reset = loop {
            match receiver.recv() {
                Ok(message) if came < run.messages => {
                    run.fill(&mut expected, came);
                    soak.verify(&message, &expected, || what(came))?;
                    came += 1;
                }
                Ok(message) => return Err(format!("{}: one more came, {} bytes", what(came), message.len())),
                Err(RecvError::Finished) => break None,
                Err(RecvError::Reset { code, .. }) => break Some(code),
                Err(error) => return Err(format!("{}: {error}", what(came))),
            }
        };
        if reset != run.reset {
            return Err(format!("{}: the run ended with {reset:?} and not {:?}", what(came), run.reset));
        }
        if reset.is_none() && came < run.messages {
            return Err(format!("{}: the run has ended", what(came)));
        }
        soak.runs.fetch_add(1, SeqCst);
        soak.resets.fetch_add(reset.is_some().into(), SeqCst);
    }
    Ok(())
}

// ---- connections that close somewhere in between

/// Which side closes, by the number of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closes {
    Client,
    Server,
    Both,
}

impl Closes {
    fn of(number: u64) -> Self {
        match number % 3 {
            0 => Self::Client,
            1 => Self::Server,
            _ => Self::Both,
        }
    }
}

/// The server's channel; the client's come before it.
const BACK: usize = CHANNELS;

/// A message: the first on each of a client's channels tells the number of the connection.
fn fill_numbered(content: &mut Vec<u8>, number: u64, channel: usize, message: u64) {
    if channel == BACK || message > 0 {
        return fill_sized(content, Noise(number ^ (channel as u64) << 48 ^ message).next());
    }
    content.clear();
    content.extend_from_slice(&number.to_be_bytes());
}

fn close_at_client(soak: &Soak, address: &str, mut noise: Noise) -> Check {
    let number = noise.next();
    let connection = soak.connect(address, &mut noise)?;
    let receiver = connection.receiver(ChannelId::new(BACK as u8)).map_err(text)?;
    let received = Account::default().received;
    let mut account = Account::default();
    let closes = Closes::of(number);
    let (sent, read) = thread::scope(|scope| {
        let reader = scope.spawn(move || read_numbered(soak, &receiver, number, received));
        let sent = send_numbered(&connection, number, 0..CHANNELS, &mut noise, &mut account.sent);
        if sent.is_err() || closes != Closes::Server {
            account.closed = Some(soak.close(&connection));
        }
        (sent, reader.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
    });
    account.received = read
        .and_then(|read| sent.map(|()| read))
        .map_err(|what| format!("connection {number}, client: {what}"))?;
    account.arrived = connection.stats().messages_received;
    soak.settle(number, account);
    Ok(())
}

fn close_at_server(soak: &Soak, connection: Connection) -> Check {
    let channels: ChannelSet = (0..CHANNELS as u8).map(ChannelId::new).collect();
    let receiver = connection.receiver(channels).map_err(text)?;
    // If it ends before anything came, its client does not know of it, or has nothing confirmed.
    let Ok(first) = receiver.recv() else { return Ok(()) };
    let number = u64::from_be_bytes(first[..].try_into().map_err(|_| "the first message is another")?);
    let mut account = Account::default();
    let mut received = account.received;
    received[usize::from(first.channel().get())] = 1;
    let closes = Closes::of(number);
    let (sent, read) = thread::scope(|scope| {
        let reader = scope.spawn(move || read_numbered(soak, &receiver, number, received));
        let mut noise = Noise(!number);
        let sent = send_numbered(&connection, number, BACK..BACK + 1, &mut noise, &mut account.sent);
        if sent.is_err() || closes != Closes::Client {
            account.closed = Some(soak.close(&connection));
        }
        (sent, reader.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
    });
    account.received = read
        .and_then(|read| sent.map(|()| read))
        .map_err(|what| format!("connection {number}, server: {what}"))?;
    account.arrived = connection.stats().messages_received;
    soak.settle(number, account);
    Ok(())
}

/// Sends on some channels in no order; what was accepted counts.
fn send_numbered(
    connection: &Connection,
    number: u64,
    channels: Range<usize>,
    noise: &mut Noise,
    sent: &mut [u64; CHANNELS + 1],
) -> Check {
    let own = if channels.contains(&BACK) { Closes::Server } else { Closes::Client };
    let mut senders = Vec::new();
    for channel in channels.clone() {
        match connection.sender(ChannelId::new(channel as u8)) {
            Ok(sender) => senders.push(sender),
            Err(ChannelError::ConnectionLost(cause)) => return over(&cause, own, number),
            Err(error) => return Err(text(error)),
        }
    }
    let mut content = Vec::new();
    for _ in 0..noise.below(50) {
        let at = noise.below(senders.len() as u64) as usize;
        let channel = channels.start + at;
        fill_numbered(&mut content, number, channel, sent[channel]);
        match senders[at].send(&content) {
            Ok(()) => sent[channel] += 1,
            Err(SendError::Disconnected { cause: Disconnect::ConnectionLost(cause), .. }) => {
                return over(&cause, own, number);
            }
            Err(error) => return Err(format!("channel {channel}, message {}: {error}", sent[channel])),
        }
    }
    Ok(())
}

/// Reads until the connection is over.
fn read_numbered(
    soak: &Soak,
    receiver: &Receiver,
    number: u64,
    mut received: [u64; CHANNELS + 1],
) -> Result<[u64; CHANNELS + 1], String> {
    let mut expected = Vec::new();
    loop {
        match receiver.recv() {
            Ok(message) => {
                let channel = usize::from(message.channel().get());
                fill_numbered(&mut expected, number, channel, received[channel]);
                let what = || format!("channel {channel}, message {}", received[channel]);
                soak.verify(&message, &expected, what)?;
                received[channel] += 1;
            }
            Err(RecvError::Finished) => {}
            Err(RecvError::ConnectionLost(ConnectionError::ProtocolViolation { what, .. })) => {
                return Err(format!("the peer broke the protocol with {what}"));
            }
            Err(RecvError::ConnectionLost(_)) => return Ok(received),
            Err(error) => return Err(text(error)),
        }
    }
}

/// The connection is over for a sender: in order, if the other side is one that closes.
fn over(cause: &ConnectionError, own: Closes, number: u64) -> Check {
    let closes = Closes::of(number);
    let by_peer = matches!(cause, ConnectionError::ClosedByPeer { code: CloseCode::NORMAL, .. });
    if by_peer && closes != own { Ok(()) } else { Err(format!("it cannot send: {cause}")) }
}
