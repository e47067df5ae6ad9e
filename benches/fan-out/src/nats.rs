//! A NATS server between the program and its clients, by its text protocol over bare sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token};

use crate::Publisher;
use crate::counts::Counts;

const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false}\r\n";

pub struct Program {
    server: Child,
    address: SocketAddr,
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Program {
    pub fn new() -> Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = std::env::temp_dir().join(format!("trunkline-fan-out-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("nats.conf");
        // Slow clients are not cut off.
        std::fs::write(&config, "max_pending: 1073741824\nwrite_deadline: \"60s\"\n")?;
        let server = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", &free.port().to_string(), "-c"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("nats-server is missing: run ./install.sh")?;
        let begun = Instant::now();
        let socket = loop {
            match connect(free) {
                Ok(socket) => break socket,
                Err(error) if begun.elapsed() > Duration::from_secs(10) => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        Ok(Self { server, address: free, socket, buffer: Vec::with_capacity(1 << 20) })
    }
}

/// Reads INFO and says CONNECT.
fn connect(address: SocketAddr) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut line = String::new();
    // The server says nothing more before it is asked.
    BufReader::with_capacity(1, &socket).read_line(&mut line)?;
    ensure!(line.starts_with("INFO "), "the server says {line}");
    socket.write_all(CONNECT)?;
    Ok(socket)
}

impl Publisher for Program {
    fn address(&self) -> String {
        self.address.to_string()
    }

    fn send(&mut self, message: &[u8]) -> Result<()> {
        write!(self.buffer, "PUB s {}\r\n", message.len())?;
        self.buffer.extend_from_slice(message);
        self.buffer.extend_from_slice(b"\r\n");
        if self.buffer.len() >= 64 << 10 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.socket.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A client: what of its stream is not a whole message yet.
struct Client {
    socket: mio::net::TcpStream,
    rest: Vec<u8>,
    /// So much of a message's body, with its line end, is still to come.
    skip: usize,
}

impl Client {
    /// Takes bytes of the stream. Returns `true` once all clients have the last message.
    fn take(&mut self, number: usize, mut bytes: &[u8], counts: &mut Counts) -> Result<bool> {
        loop {
            let skipped = self.skip.min(bytes.len());
            (self.skip, bytes) = (self.skip - skipped, &bytes[skipped..]);
            if bytes.is_empty() {
                return Ok(false);
            }
            // The head line, and the first byte of the body.
            let joined;
            let head = if self.rest.is_empty() {
                bytes
            } else {
                joined = [&self.rest[..], &bytes[..bytes.len().min(64)]].concat();
                &joined[..]
            };
            let Some(end) = head.iter().take(64).position(|byte| *byte == b'\n') else {
                self.rest.extend_from_slice(bytes);
                return Ok(false);
            };
            let line = &head[..end];
            let body = end + 1;
            if line.starts_with(b"MSG ") {
                let Some(first) = head.get(body) else {
                    self.rest.extend_from_slice(bytes);
                    return Ok(false);
                };
                let len = std::str::from_utf8(line)?
                    .trim_end()
                    .rsplit(' ')
                    .next()
                    .context("a length")?
                    .parse::<usize>()?;
                if counts.count(number, *first) {
                    return Ok(true);
                }
                self.skip = body + len + 2 - self.rest.len();
            } else if line.starts_with(b"-ERR") {
                bail!("the server says {}", String::from_utf8_lossy(line));
            } else {
                self.skip = body - self.rest.len();
            }
            self.rest.clear();
        }
    }
}

pub fn watch(address: &str, clients: usize, counts: &mut Counts) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut all = Vec::new();
    for number in 0..clients {
        let mut socket = connect(address.parse()?)?;
        socket.write_all(b"SUB s 1\r\n")?;
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, Token(number), Interest::READABLE)?;
        all.push(Client { socket, rest: Vec::new(), skip: 0 });
    }
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; 256 << 10];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            let Token(number) = event.token();
            let client = &mut all[number];
            loop {
                match client.socket.read(&mut buffer) {
                    Ok(0) => bail!("the server has cut a client off"),
                    Ok(read) => {
                        if client.take(number, &buffer[..read], counts)? {
                            return Ok(());
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}
