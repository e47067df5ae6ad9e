//! A proxy that treats its links badly: it cuts them, stalls, delays and splits what it carries, and
//! lets attempts to connect arrive late, twice, or after later ones.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::content::Noise;

/// What a client sends in a handshake, without and with its proof; what a server sends.
const HELLO: usize = 48;
const PROOF: usize = 72;
const REPLY: usize = 72;
const ACCEPTED: u64 = REPLY as u64 + 104;
/// A pump looks whether its link is still there once in so long.
const GLANCE: Duration = Duration::from_millis(10);
/// About how much a link carries each way before it is cut, and for how long.
const BYTES: u64 = 400_000;
const MILLIS: u64 = 150;

/// What the proxies have done.
#[derive(Debug, Default)]
pub(crate) struct Toll {
    /// Links that were cut after their handshake.
    pub(crate) cuts: AtomicU64,
    /// Links that were cut within it.
    pub(crate) handshakes: AtomicU64,
    /// Attempts that arrived after the client had given them up, and those that came twice.
    pub(crate) late: AtomicU64,
    pub(crate) doubled: AtomicU64,
}

/// Starts a proxy that leads to `target`; where it listens.
pub(crate) fn start(target: SocketAddr, mut noise: Noise, toll: &Arc<Toll>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let toll = Arc::clone(toll);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (noise, toll) = (noise.fork(), Arc::clone(&toll));
            // What fails on the way is one more way to lose a link.
            thread::spawn(move || carry(client, target, noise, &toll));
        }
    });
    Ok(address)
}

/// Carries one link to its end.
fn carry(client: TcpStream, target: SocketAddr, mut noise: Noise, toll: &Toll) -> io::Result<()> {
    let mut left = [0; 2].map(|_| noise.below(2 * BYTES));
    let mut first = Vec::new();
    match noise.below(20) {
        0 => return arrive_late(&client, target, noise, toll),
        // The same bytes come again later, on a socket of their own.
        1 => {
            first = read_exactly(&client, HELLO)?;
            let again = first.clone();
            let pause = Duration::from_millis(noise.below(100));
            toll.doubled.fetch_add(1, SeqCst);
            thread::spawn(move || -> io::Result<()> {
                thread::sleep(pause);
                let server = TcpStream::connect(target)?;
                (&server).write_all(&again)?;
                // The rest is what could be guessed: nothing that is right for this socket.
                (&server).write_all(&[0; PROOF])?;
                drain(&server)
            });
        }
        // Later attempts get there before this one.
        2 => thread::sleep(Duration::from_millis(noise.below(200))),
        // It does not live through its handshake.
        3 => left = [noise.below((HELLO + PROOF) as u64), noise.below(ACCEPTED)],
        _ => {}
    }
    let server = TcpStream::connect(target)?;
    (&server).write_all(&first)?;
    let link = Link {
        client,
        server,
        until: Instant::now() + Duration::from_millis(noise.below(2 * MILLIS)),
        cut: AtomicBool::new(false),
        carried: [AtomicU64::new(first.len() as u64), AtomicU64::new(0)],
    };
    for socket in [&link.client, &link.server] {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(GLANCE))?;
    }
    let noises = [noise.fork(), noise.fork()];
    let ways = noises.into_iter().zip(left).enumerate();
    thread::scope(|scope| {
        for (way, (noise, left)) in ways {
            let link = &link;
            scope.spawn(move || link.pump(way, left, noise));
        }
    });
    let [up, down] = &link.carried;
    let alive = up.load(SeqCst) > (HELLO + PROOF) as u64 && down.load(SeqCst) >= ACCEPTED;
    if link.cut.load(SeqCst) {
        if alive { &toll.cuts } else { &toll.handshakes }.fetch_add(1, SeqCst);
        let reset = noise.one_in(2);
        for socket in [&link.client, &link.server] {
            if reset {
                // What is in the buffers is lost, in both directions.
                socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
            } else {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }
    Ok(())
}

/// The client's proof arrives when the client has long gone, and come back on another socket.
fn arrive_late(mut client: &TcpStream, target: SocketAddr, mut noise: Noise, toll: &Toll) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    (&server).write_all(&read_exactly(client, HELLO)?)?;
    let reply = read_exactly(&server, REPLY)?;
    client.write_all(&reply)?;
    let proof = read_exactly(client, PROOF)?;
    socket2::SockRef::from(client).set_linger(Some(Duration::ZERO))?;
    client.shutdown(Shutdown::Both)?;
    thread::sleep(Duration::from_millis(noise.below(150)));
    toll.late.fetch_add(1, SeqCst);
    (&server).write_all(&proof)?;
    if noise.one_in(2) { drain(&server) } else { Ok(()) }
}

fn read_exactly(mut socket: &TcpStream, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads to the end, for some time at most.
fn drain(mut socket: &TcpStream) -> io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut bytes = [0; 4096];
    while socket.read(&mut bytes)? > 0 {}
    Ok(())
}

struct Link {
    client: TcpStream,
    server: TcpStream,
    /// When it is cut at the latest.
    until: Instant,
    cut: AtomicBool,
    /// Bytes carried each way.
    carried: [AtomicU64; 2],
}

impl Link {
    /// Carries `left` bytes one way, and then cuts the link.
    fn pump(&self, way: usize, mut left: u64, mut noise: Noise) {
        let (mut from, mut to) =
            if way == 0 { (&self.client, &self.server) } else { (&self.server, &self.client) };
        let mut buffer = vec![0; 64 * 1024];
        // Some links carry everything in small pieces.
        let largest = [16, 1500, 20_000, buffer.len() as u64][noise.below(4) as usize];
        let stalls = noise.one_in(20);
        while !self.cut.load(SeqCst) {
            if left == 0 || Instant::now() >= self.until {
                return self.end();
            }
            let most = (1 + noise.below(largest)).min(left) as usize;
            let read = match from.read(&mut buffer[..most]) {
                Ok(0) => {
                    // One side has ended by itself: the other one hears of it.
                    let _ = to.shutdown(Shutdown::Write);
                    return;
                }
                Ok(read) => read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => return self.give_up(),
            };
            if stalls && noise.one_in(20) {
                thread::sleep(Duration::from_millis(noise.below(700)));
            } else if noise.one_in(30) {
                thread::sleep(Duration::from_millis(noise.below(5)));
            }
            if to.write_all(&buffer[..read]).is_err() {
                return self.give_up();
            }
            left -= read as u64;
            self.carried[way].fetch_add(read as u64, SeqCst);
        }
    }

    fn end(&self) {
        self.cut.store(true, SeqCst);
    }

    /// One of the sides has dropped it, so it is no cut of this proxy's.
    fn give_up(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}
