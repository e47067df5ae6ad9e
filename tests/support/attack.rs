//! A server with honest clients, and the attacks on it: for tests and for `benches/attacks.rs`.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use trunkline::{
    ChannelId, ChannelSet, Config, Connection, IoThread, Key, Listener, Priority, Receiver, Sender,
};

use super::wire::*;

use crate::support::free_address;

/// Honest clients ask on it, and are answered.
pub const ASK: ChannelId = ChannelId::new(1);

/// A server with an I/O thread of its own. It echoes on [`ASK`] and takes what comes on all other
/// channels.
pub struct Victim {
    pub addr: SocketAddr,
    pub key: RawKey,
    /// Clients have an I/O thread of their own too.
    io: IoThread,
}

impl Victim {
    pub fn start(tune: impl FnOnce(Config) -> Config) -> Self {
        Self::serving(u64::MAX, tune)
    }

    /// Only the first clients are served, with two threads each; the others are kept.
    pub fn serving(served_at_most: u64, tune: impl FnOnce(Config) -> Config) -> Self {
        let key = random();
        let io = IoThread::new().unwrap();
        let config = Config::new(Key::from(key)).linger(Duration::from_millis(50)).io_thread(&io);
        let listener = Listener::bind(free_address(), tune(config)).unwrap();
        let addr = listener.local_addr();
        let mut count = 0;
        thread::spawn(move || {
            // They go with the process.
            let mut idle = Vec::new();
            for connection in listener.incoming().map_while(Result::ok) {
                if count >= served_at_most {
                    idle.push(connection);
                    continue;
                }
                count += 1;
                let serve = move || serve(&connection);
                thread::Builder::new().stack_size(128 << 10).spawn(serve).unwrap();
            }
        });
        Self { addr, key, io: IoThread::new().unwrap() }
    }

    pub fn config(&self) -> Config {
        let config = Config::new(Key::from(self.key)).allow_plaintext(true);
        config.linger(Duration::from_millis(50)).io_thread(&self.io)
    }

    /// An honest client at this address, which may be a proxy's.
    pub fn client(&self, addr: SocketAddr) -> Honest {
        let connection = Connection::connect(addr, self.config()).unwrap();
        let (sender, receiver) =
            (connection.sender_with(ASK, Priority::Urgent).unwrap(), connection.receiver(ASK).unwrap());
        Honest { connection, sender, receiver }
    }
}

pub struct Honest {
    pub connection: Connection,
    sender: Sender,
    receiver: Receiver,
}

fn serve(connection: &Connection) {
    let sender = connection.sender_with(ASK, Priority::Urgent).unwrap();
    let asked = connection.receiver(ASK).unwrap();
    let others = connection.receiver(ChannelSet::ALL - ChannelSet::from(ASK)).unwrap();
    let take = move || while others.recv_any().is_ok() {};
    thread::Builder::new().stack_size(128 << 10).spawn(take).unwrap();
    while let Ok(message) = asked.recv() {
        if sender.send_bytes(message.into()).is_err() {
            break;
        }
    }
}

/// How long each of many round trips took.
pub struct Times(Vec<Duration>);

impl Times {
    /// One round trip after the other, for so long, and 50 of them at least.
    pub fn measure(client: &Honest, time: Duration) -> Self {
        let Honest { sender, receiver, .. } = client;
        let begun = Instant::now();
        let mut times = Vec::new();
        while begun.elapsed() < time || times.len() < 50 {
            let asked = Instant::now();
            sender.send(b"are you there?").unwrap();
            receiver.recv_timeout(super::LONG).unwrap();
            times.push(asked.elapsed());
        }
        times.sort_unstable();
        Self(times)
    }

    pub fn at(&self, part: f64) -> Duration {
        self.0[((self.0.len() - 1) as f64 * part) as usize]
    }

    pub fn max(&self) -> Duration {
        self.at(1.0)
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| self.at(part));
        write!(f, "p50 {p50:?}, p99 {p99:?}, max {max:?} of {}", self.0.len())
    }
}

/// Something that goes on until it is dropped.
pub struct Attack {
    stop: Arc<AtomicBool>,
    /// How often it did what it does.
    pub count: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    pub fn begin(threads: usize, act: impl FnMut(&AtomicBool, &AtomicU64) + Clone + Send + 'static) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..threads)
            .map(|_| {
                let (stop, count, mut act) = (Arc::clone(&stop), Arc::clone(&count), act.clone());
                thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        act(&stop, &count);
                    }
                })
            })
            .collect();
        Self { stop, count, threads }
    }

    #[track_caller]
    pub fn wait_until_begun(&self) {
        let begun = Instant::now();
        while self.count.load(SeqCst) < 2 {
            assert!(begun.elapsed() < super::LONG, "the attack never begins");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A client with the key that sends these frames again and again, as fast as it can, reads what comes,
/// and acknowledges nothing, which a session without a grace allows. `cost`: what a block costs of the
/// credit of each of its channels, which are those from `first` on.
pub fn flood(victim: &Victim, block: Vec<u8>, costs: Vec<(u8, i64)>) -> Attack {
    let (addr, key) = (victim.addr, victim.key);
    Attack::begin(1, move |stop, count| {
        let peer = ClientHandshake::new(addr, &key).grace(0).finish().unwrap();
        let window = i64::from(peer.accept.window);
        let mut stream = peer.stream;
        stream.set_nonblocking(true).unwrap();
        let mut credit = [window; 128];
        let (mut read, mut came) = (vec![0; 64 << 10], Vec::new());
        let mut written = block.len();
        while !stop.load(SeqCst) {
            let mut idle = true;
            match stream.read(&mut read) {
                Ok(0) => return,
                Ok(n) => {
                    idle = false;
                    came.extend_from_slice(&read[..n]);
                    take_credit(&mut came, &mut credit);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            if written == block.len()
                && costs.iter().all(|(channel, cost)| credit[*channel as usize] >= *cost)
            {
                for (channel, cost) in &costs {
                    credit[*channel as usize] -= cost;
                }
                count.fetch_add(1, SeqCst);
                written = 0;
            }
            match stream.write(&block[written..]) {
                Ok(n) => {
                    written += n;
                    idle &= n == 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            if idle {
                thread::yield_now();
            }
        }
    })
}

/// Takes the whole frames out of what came, and the credit in them.
fn take_credit(came: &mut Vec<u8>, credit: &mut [i64; 128]) {
    let mut at = 0;
    while came.len() - at >= 4 {
        let word: [u8; 4] = came[at..at + 4].try_into().unwrap();
        let len = Frame::check_word(word).expect("a frame");
        if came.len() - at < 4 + len {
            break;
        }
        let payload = &came[at + 4..at + 4 + len];
        if word[0] >> 7 == 1 && payload[0] == opcode::CREDIT {
            credit[usize::from(word[0] & 0x7F)] +=
                i64::from(u32::from_be_bytes(payload[1..5].try_into().unwrap()));
        }
        at += 4 + len;
    }
    came.drain(..at);
}

/// Begins an attack.
pub type Begin<'a> = Box<dyn Fn() -> Attack + 'a>;

/// The floods of one client that has the key, by name.
pub fn floods(victim: &Victim) -> Vec<(&'static str, Begin<'_>)> {
    let begin = |block: Vec<u8>, costs: Vec<(u8, i64)>| move || flood(victim, block.clone(), costs.clone());
    vec![
        ("FINISH", Box::new(begin(finish(2).repeat(8000), vec![]))),
        ("1-byte messages", Box::new(begin(data(2, false, b"x").repeat(8000), vec![(2, 33 * 8000)]))),
        ("PING", Box::new(begin(ping(7).repeat(4000), vec![]))),
        // Of 0, which is ignored: any other overflows after a while.
        ("CREDIT", Box::new(begin(credit(2, 0).repeat(6000), vec![]))),
        ("1-byte fragments on 100 channels", {
            let channels = 10..110u8;
            let block = channels.clone().flat_map(|channel| {
                [data(channel, true, b"x"), data(channel, false, b"x")].concat().repeat(20)
            });
            Box::new(begin(block.collect(), channels.map(|channel| (channel, 33 * 40)).collect()))
        }),
        ("GAP, RESET, WAITING, STOP", {
            let unit =
                [gap(2, 1, 1), reset(2, 1), waiting(2, 1, 0), waiting(2, 0, 0), stop(2, 1, 77)].concat();
            Box::new(begin(unit.repeat(1500), vec![]))
        }),
    ]
}

/// Strangers with an unknown key who go on writing after they were refused.
pub fn rude_strangers(victim: &Victim, threads: usize) -> Attack {
    let addr = victim.addr;
    let noise = vec![7; 64 << 10];
    Attack::begin(threads, move |stop, count| {
        let Ok(mut stream) = TcpStream::connect(addr) else { return };
        let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
        let _ = stream.write_all(&ClientHello::new(&random()).encode());
        count.fetch_add(1, SeqCst);
        while !stop.load(SeqCst) && stream.write_all(&noise).is_ok() {}
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    })
}

/// So many sockets a second that say nothing; the last `held` stay open.
pub fn silent_connects(victim: &Victim, a_second: u32, held: usize) -> Attack {
    let addr = victim.addr;
    let mut sockets = std::collections::VecDeque::new();
    let begun = Instant::now();
    let mut made = 0u32;
    // One thread keeps its sockets; a clone of an empty list costs nothing.
    Attack::begin(1, move |_, count| {
        let due = begun + Duration::from_secs(1) * made / a_second;
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            thread::sleep(wait);
        }
        made += 1;
        if let Ok(stream) = TcpStream::connect(addr) {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            sockets.push_back(Arc::new(stream));
            count.fetch_add(1, SeqCst);
        }
        if sockets.len() > held {
            sockets.pop_front();
        }
    })
}
