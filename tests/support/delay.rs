//! A proxy that adds a round trip to every socket, in one thread, so that a thousand of them cost
//! nothing but time; it counts them, and cuts all of them at once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

const LISTENER: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX);

/// Half of a link: what was read on its socket waits until it is due on the other one.
struct Half {
    socket: TcpStream,
    other: usize,
    /// For this socket: when it is due, and the bytes; none for the end.
    due: VecDeque<(Instant, Vec<u8>)>,
    writable: bool,
    /// Nothing more is written.
    finished: bool,
    not_before: Instant,
}

#[derive(Default)]
struct Shared {
    links: AtomicU64,
    stop: AtomicBool,
}

pub struct Delay {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    waker: Waker,
    cut: mpsc::Sender<mpsc::Sender<usize>>,
    thread: Option<JoinHandle<()>>,
}

impl Delay {
    /// Each direction takes half of `round_trip`. A socket reaches the server half of one after it was
    /// opened, and its first bytes another one later, as those behind a TCP handshake do.
    pub fn new(target: SocketAddr, round_trip: Duration) -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(4096).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut listener = TcpListener::from_std(listener.into());
        let addr = listener.local_addr().unwrap();
        let poll = Poll::new().unwrap();
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
        let waker = Waker::new(poll.registry(), WAKER).unwrap();
        let shared = Arc::new(Shared::default());
        let (cut, cuts) = mpsc::channel();
        let mut proxy = Proxy {
            poll,
            listener,
            target,
            one_way: round_trip / 2,
            halves: HashMap::new(),
            next: 0,
            opening: BTreeMap::new(),
            timers: BTreeMap::new(),
            shared: Arc::clone(&shared),
        };
        let thread = thread::spawn(move || proxy.run(&cuts));
        Self { addr, shared, waker, cut, thread: Some(thread) }
    }

    /// How many sockets came.
    pub fn links(&self) -> u64 {
        self.shared.links.load(SeqCst)
    }

    /// Resets all sockets, on both sides; how many there were.
    pub fn cut(&self) -> usize {
        let (done, wait) = mpsc::channel();
        self.cut.send(done).unwrap();
        self.waker.wake().unwrap();
        wait.recv().unwrap()
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Proxy {
    poll: Poll,
    listener: TcpListener,
    target: SocketAddr,
    one_way: Duration,
    halves: HashMap<usize, Half>,
    next: usize,
    /// Sockets that have not reached the server yet.
    opening: BTreeMap<(Instant, usize), TcpStream>,
    /// When a half has something to write.
    timers: BTreeMap<(Instant, usize), ()>,
    shared: Arc<Shared>,
}

impl Proxy {
    fn run(&mut self, cuts: &mpsc::Receiver<mpsc::Sender<usize>>) {
        let mut events = Events::with_capacity(1024);
        while !self.shared.stop.load(SeqCst) {
            let now = Instant::now();
            let first = [
                self.opening.first_key_value().map(|((at, _), _)| *at),
                self.timers.first_key_value().map(|((at, _), ())| *at),
            ];
            let wait = first.into_iter().flatten().min().map(|at| at.saturating_duration_since(now));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.unwrap(),
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    Token(half) => {
                        if event.is_writable()
                            && let Some(half) = self.halves.get_mut(&half)
                        {
                            half.writable = true;
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.read(half);
                        }
                        self.write(half);
                    }
                }
            }
            while let Ok(done) = cuts.try_recv() {
                let _ = done.send(self.cut());
            }
            self.due();
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            self.shared.links.fetch_add(1, SeqCst);
            self.next += 2;
            self.opening.insert((Instant::now() + self.one_way, self.next), socket);
        }
    }

    fn due(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.opening.first_entry()
            && entry.key().0 <= now
        {
            let ((_, at), client) = entry.remove_entry();
            let Ok(server) = TcpStream::connect(self.target) else { continue };
            for (socket, at, other) in [(client, at, at + 1), (server, at + 1, at)] {
                let not_before = now + if at < other { Duration::ZERO } else { self.one_way * 2 };
                let _ = socket.set_nodelay(true);
                let mut half = Half {
                    socket,
                    other,
                    due: VecDeque::new(),
                    writable: at < other,
                    finished: false,
                    not_before,
                };
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut half.socket, Token(at), both).unwrap();
                self.halves.insert(at, half);
            }
        }
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let ((_, half), ()) = entry.remove_entry();
            self.write(half);
        }
    }

    /// What a half has goes to the other one, when it is due.
    fn read(&mut self, at: usize) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let Some(half) = self.halves.get_mut(&at) else { return };
            let other = half.other;
            let read = match half.socket.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return;
                }
                Err(_) => return self.close(at),
            };
            let Some(to) = self.halves.get_mut(&other) else { return };
            let due = (Instant::now() + self.one_way).max(to.not_before);
            to.due.push_back((due, buffer[..read].to_vec()));
            self.timers.insert((due, other), ());
            if read == 0 {
                return;
            }
        }
    }

    fn write(&mut self, at: usize) {
        let now = Instant::now();
        let Some(half) = self.halves.get_mut(&at) else { return };
        while half.writable
            && let Some((due, bytes)) = half.due.front_mut()
            && *due <= now
        {
            if bytes.is_empty() {
                let _ = half.socket.shutdown(std::net::Shutdown::Write);
                half.finished = true;
                let other = half.other;
                if self.halves.get(&other).is_some_and(|other| other.finished) {
                    self.halves.remove(&at);
                    self.halves.remove(&other);
                }
                return;
            }
            match half.socket.write(bytes) {
                Ok(written) => {
                    bytes.drain(..written);
                    if bytes.is_empty() {
                        half.due.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => half.writable = false,
                Err(error) if error.kind() == ErrorKind::NotConnected => half.writable = false,
                Err(_) => return self.close(at),
            }
        }
    }

    /// One end is gone: so is the link.
    fn close(&mut self, at: usize) {
        if let Some(half) = self.halves.remove(&at)
            && let Some(other) = self.halves.remove(&half.other)
        {
            for half in [half, other] {
                let _ = socket2::SockRef::from(&half.socket).set_linger(Some(Duration::ZERO));
            }
        }
    }

    fn cut(&mut self) -> usize {
        let all: Vec<usize> = self.halves.keys().copied().collect();
        let count = all.len() / 2;
        all.into_iter().for_each(|at| self.close(at));
        count
    }
}
