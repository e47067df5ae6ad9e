//! libzmq as the guide uses it: PUSH to PULL one way, REQ and REP for requests, the default
//! high-water marks and its one I/O thread. Each socket has a queue and a connection of its own,
//! so channels that must not hold each other up are a socket each; *many* goes through one socket
//! as two-part messages, envelope and body.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use zmq::{Context, Message, SNDMORE, Socket, SocketType};

use crate::child;
use crate::plan::Plan;
use crate::plan::workload::Workload;
use crate::work::message::Head;
use crate::worlds::blocking::{Channel, Fan, Peer};
use crate::worlds::sockets::LOOPBACK;

pub struct Zmq {
    /// Ends the I/O thread when it is dropped.
    _context: Context,
    sockets: Vec<Socket>,
}

impl Zmq {
    fn sockets(plan: &Plan) -> u32 {
        if plan.workload == Workload::Many { 1 } else { plan.channels }
    }

    fn open(
        plan: &Plan,
        oneway: SocketType,
        duplex: SocketType,
        attach: impl Fn(&Socket, usize) -> Result<()>,
    ) -> Result<Self> {
        let context = Context::new();
        let open = |channel| {
            let kind = if plan.is_duplex(channel) { duplex } else { oneway };
            let socket = context.socket(kind)?;
            attach(&socket, channel as usize)?;
            Ok(socket)
        };
        let sockets = (0..Self::sockets(plan)).map(open).collect::<Result<_>>()?;
        Ok(Self { _context: context, sockets })
    }
}

impl Peer for Zmq {
    type Channel = Queue;
    type Fan = Queue;

    fn serve(plan: &Plan) -> Result<Self> {
        let bind = |socket: &Socket, _| Ok(socket.bind(&format!("tcp://{LOOPBACK}").replace(":0", ":*"))?);
        let this = Self::open(plan, zmq::PULL, zmq::REP, bind)?;
        let address = |socket: &Socket| {
            let endpoint = socket.get_last_endpoint()?.ok().context("an endpoint in UTF-8")?;
            Ok(endpoint.trim_start_matches("tcp://").parse()?)
        };
        child::announce(&this.sockets.iter().map(address).collect::<Result<Vec<_>>>()?);
        Ok(this)
    }

    fn connect(plan: &Plan, to: &[SocketAddr]) -> Result<Self> {
        let connect = |socket: &Socket, index: usize| Ok(socket.connect(&format!("tcp://{}", to[index]))?);
        Self::open(plan, zmq::PUSH, zmq::REQ, connect)
    }

    fn channels(&mut self, _plan: &Plan) -> Result<Vec<Queue>> {
        let queue = |socket| Queue { socket, message: Message::new() };
        Ok(self.sockets.drain(..).map(queue).collect())
    }

    fn fan(&mut self, plan: &Plan) -> Result<Queue> {
        self.channels(plan)?.pop().context("no socket")
    }
}

pub struct Queue {
    socket: Socket,
    message: Message,
}

impl Channel for Queue {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.socket.send(message, 0)?)
    }

    fn recv(&mut self, len: usize) -> Result<Head> {
        self.socket.recv(&mut self.message, 0)?;
        Head::of_message(&self.message, len)
    }
}

impl Fan for Queue {
    fn send_on(&mut self, channel: u32, message: &[u8]) -> Result<()> {
        self.socket.send(&[channel as u8][..], SNDMORE)?;
        Ok(self.socket.send(message, 0)?)
    }

    fn recv_any(&mut self, len: usize) -> Result<Head> {
        self.socket.recv(&mut self.message, 0)?;
        let envelope = self.message[0];
        let head = self.recv(len)?;
        ensure!(u32::from(envelope) == head.channel, "a body in another's envelope");
        Ok(head)
    }
}
