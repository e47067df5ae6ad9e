//! A slow link in user space: each direction passes so many bytes a second, in order, and
//! delivers them a delay later.
//!
//! All connections of a run share the link. It holds one chunk per connection and what is in
//! flight; the rest waits in the proxy's receive buffer, which is bounded, and then at the sender,
//! where a real bottleneck's backlog would wait too.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

pub const BYTES_PER_SECOND: f64 = 1e6;
pub const DELAY: Duration = Duration::from_millis(20);

/// The kernel doubles it.
const SOCKET_BUFFER: usize = 32 << 10;
/// Two Ethernet frames' worth: a ping waits behind no more than this of another connection.
const CHUNK: usize = 2 * 1460;

struct Direction {
    busy_until: Mutex<Instant>,
}

/// Starts a link in front of `targets`; the addresses to connect to instead. Its threads end with
/// the connections, the accepting ones with the process.
pub fn start(targets: &[SocketAddr], congestion: Option<&str>) -> io::Result<Vec<SocketAddr>> {
    let idle = || Arc::new(Direction { busy_until: Mutex::new(Instant::now()) });
    let (up, down) = (idle(), idle());
    let front = |&target: &SocketAddr| {
        let listener = listen()?;
        let address = listener.local_addr()?;
        let (up, down) = (up.clone(), down.clone());
        let congestion = congestion.map(str::to_owned);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { break };
                let Ok(server) = dial(target) else { break };
                for socket in [&client, &server] {
                    socket.set_nodelay(true).ok();
                    if let Some(name) = &congestion {
                        socket2::SockRef::from(socket).set_tcp_congestion(name.as_bytes()).ok();
                    }
                }
                pump(&client, &server, &up).and_then(|()| pump(&server, &client, &down)).ok();
            }
        });
        Ok(address)
    };
    targets.iter().map(front).collect()
}

fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Before listen: an accepted socket's window is settled by then.
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

fn dial(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.connect(&target.into())?;
    Ok(socket.into())
}

fn pump(from: &TcpStream, to: &TcpStream, link: &Arc<Direction>) -> io::Result<()> {
    let (mut from, mut to, link) = (from.try_clone()?, to.try_clone()?, link.clone());
    let (deliver, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (at, bytes) in due {
            sleep_until(at);
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        to.shutdown(Shutdown::Write).ok();
    });
    thread::spawn(move || {
        let mut chunk = [0; CHUNK];
        while let Ok(len @ 1..) = from.read(&mut chunk) {
            let through = link.pass(len);
            if deliver.send((through + DELAY, chunk[..len].to_vec())).is_err() {
                return;
            }
            sleep_until(through);
        }
    });
    Ok(())
}

impl Direction {
    /// When the last of these bytes has left the bottleneck.
    fn pass(&self, bytes: usize) -> Instant {
        let mut busy_until = self.busy_until.lock().unwrap();
        let start = (*busy_until).max(Instant::now());
        *busy_until = start + Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
        *busy_until
    }
}

fn sleep_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(Instant::now()));
}
