//! libzmq: a PUB socket, and a SUB socket for each client.

use anyhow::{Context as _, Result};
use zmq::{Context, Message, POLLIN, PollItem, Socket, SocketType};

use crate::Publisher;
use crate::counts::Counts;

pub struct Program {
    socket: Socket,
    _context: Context,
}

impl Program {
    pub fn new() -> Result<Self> {
        let context = Context::new();
        let socket = context.socket(SocketType::PUB)?;
        // Without it, what is above 1,000 messages is dropped, and nobody is told.
        socket.set_sndhwm(0)?;
        socket.bind("tcp://127.0.0.1:*")?;
        Ok(Self { socket, _context: context })
    }
}

impl Publisher for Program {
    fn address(&self) -> String {
        self.socket.get_last_endpoint().ok().and_then(Result::ok).unwrap_or_default()
    }

    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.socket.send(message, 0)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

pub fn watch(address: &str, clients: usize, counts: &mut Counts) -> Result<()> {
    let context = Context::new();
    let mut sockets = Vec::new();
    for _ in 0..clients {
        let socket = context.socket(SocketType::SUB)?;
        socket.set_rcvhwm(0)?;
        socket.connect(address)?;
        socket.set_subscribe(b"")?;
        sockets.push(socket);
    }
    let mut message = Message::new();
    loop {
        let mut items: Vec<PollItem<'_>> = sockets.iter().map(|socket| socket.as_poll_item(POLLIN)).collect();
        zmq::poll(&mut items, -1)?;
        let ready: Vec<bool> = items.iter().map(PollItem::is_readable).collect();
        for (client, socket) in sockets.iter().enumerate().filter(|(client, _)| ready[*client]) {
            while socket.recv(&mut message, zmq::DONTWAIT).is_ok() {
                let first = *message.first().context("no message is empty")?;
                if counts.count(client, first) {
                    return Ok(());
                }
            }
        }
    }
}
