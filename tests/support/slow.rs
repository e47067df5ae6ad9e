//! A slow link: each direction passes so many bytes a second, in order, and holds no more than a socket's
//! receive buffer; what is more waits at the sender, where a bottleneck's backlog waits too.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// Two Ethernet frames' worth.
const CHUNK: usize = 2 * 1460;

/// Starts a link to `target` and returns the address to connect to instead. `buffer`: of each socket, which the
/// kernel doubles. Its threads end with the connections.
pub fn start(target: SocketAddr, bytes_per_second: f64, buffer: usize) -> SocketAddr {
    let listener = socket(buffer);
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(128).unwrap();
    let listener: TcpListener = listener.into();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let server = socket(buffer);
            if server.connect(&target.into()).is_err() {
                continue;
            }
            let server: TcpStream = server.into();
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                thread::spawn(move || pass(from, to, bytes_per_second));
            }
        }
    });
    address
}

fn socket(buffer: usize) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Before listen: an accepted socket's window is settled by then.
    socket.set_recv_buffer_size(buffer).unwrap();
    socket.set_send_buffer_size(buffer).unwrap();
    socket
}

fn pass(mut from: TcpStream, mut to: TcpStream, bytes_per_second: f64) {
    let _ = to.set_nodelay(true);
    let mut chunk = [0; CHUNK];
    let mut busy_until = Instant::now();
    while let Ok(len @ 1..) = from.read(&mut chunk) {
        busy_until = busy_until.max(Instant::now()) + Duration::from_secs_f64(len as f64 / bytes_per_second);
        thread::sleep(busy_until.saturating_duration_since(Instant::now()));
        if to.write_all(&chunk[..len]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
