//! What the socket does alone: TCP through std with TCP_NODELAY, no queue, no thread of its own.
//!
//! Flood and unread have a socket per channel, which is how one has channels without a
//! multiplexer; *many* is one socket with the channel in the message, the floor for the others.

use std::io::{BufReader, BufWriter, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};
use bytes::Bytes;

use crate::child;
use crate::plan::Plan;
use crate::plan::rows::Way;
use crate::plan::workload::Workload;
use crate::work::message::Head;
use crate::worlds::blocking::{Channel, Fan, Peer};
use crate::worlds::sockets::{BUFFER, LOOPBACK};

/// Eight large messages: what the writer hands over at once the reader takes at once.
const BATCH: usize = 8;

pub struct Raw {
    sockets: Vec<TcpStream>,
    way: Way,
}

impl Raw {
    fn sockets(plan: &Plan) -> u32 {
        if plan.workload == Workload::Many { 1 } else { plan.channels }
    }
}

impl Peer for Raw {
    type Channel = Socket;
    type Fan = Socket;

    fn serve(plan: &Plan) -> Result<Self> {
        let listener = TcpListener::bind(LOOPBACK)?;
        child::announce(&[listener.local_addr()?]);
        let accept = |_| Ok(listener.accept()?.0);
        let sockets = (0..Self::sockets(plan)).map(accept).collect::<Result<_>>()?;
        Ok(Self { sockets, way: plan.way })
    }

    fn connect(plan: &Plan, to: &[SocketAddr]) -> Result<Self> {
        let connect = |_| Ok(TcpStream::connect(to[0])?);
        let sockets = (0..Self::sockets(plan)).map(connect).collect::<Result<_>>()?;
        Ok(Self { sockets, way: plan.way })
    }

    fn channels(&mut self, plan: &Plan) -> Result<Vec<Socket>> {
        self.sockets.drain(..).map(|socket| Socket::new(socket, self.way, plan.size)).collect()
    }

    fn fan(&mut self, plan: &Plan) -> Result<Socket> {
        self.channels(plan)?.pop().context("no socket")
    }
}

pub struct Socket {
    write: Writer,
    read: BufReader<TcpStream>,
    message: Vec<u8>,
}

enum Writer {
    Each(TcpStream),
    Buffered(BufWriter<TcpStream>),
    Vectored(TcpStream, Vec<Bytes>),
}

impl Socket {
    fn new(socket: TcpStream, way: Way, size: usize) -> Result<Self> {
        socket.set_nodelay(true)?;
        let read = BufReader::with_capacity(
            if way == Way::Vectored { BATCH * size } else { BUFFER },
            socket.try_clone()?,
        );
        let write = match way {
            Way::Buffered => Writer::Buffered(BufWriter::with_capacity(BUFFER, socket)),
            Way::Vectored => Writer::Vectored(socket, Vec::new()),
            _ => Writer::Each(socket),
        };
        Ok(Self { write, read, message: vec![0; size] })
    }
}

impl Channel for Socket {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        match &mut self.write {
            Writer::Each(socket) | Writer::Vectored(socket, _) => socket.write_all(message)?,
            Writer::Buffered(writer) => writer.write_all(message)?,
        }
        Ok(())
    }

    fn send_large(&mut self, message: &Bytes) -> Result<()> {
        let Writer::Vectored(socket, batch) = &mut self.write else { return self.send(message) };
        batch.push(message.clone());
        if batch.len() == BATCH {
            write_all_vectored(socket, batch)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        match &mut self.write {
            Writer::Each(_) => {}
            Writer::Buffered(writer) => writer.flush()?,
            Writer::Vectored(socket, batch) => write_all_vectored(socket, batch)?,
        }
        Ok(())
    }

    #[inline]
    fn recv(&mut self, len: usize) -> Result<Head> {
        if len > self.message.len() {
            self.message.resize(len, 0);
        }
        self.read.read_exact(&mut self.message[..len])?;
        Ok(Head::parse(&self.message))
    }
}

impl Fan for Socket {
    #[inline]
    fn send_on(&mut self, _in_the_message: u32, message: &[u8]) -> Result<()> {
        self.send(message)
    }

    fn flush_all(&mut self) -> Result<()> {
        self.flush()
    }

    #[inline]
    fn recv_any(&mut self, len: usize) -> Result<Head> {
        self.recv(len)
    }
}

fn write_all_vectored(socket: &mut TcpStream, batch: &mut Vec<Bytes>) -> Result<()> {
    let mut slices: Vec<_> = batch.iter().map(|message| IoSlice::new(message)).collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let written = socket.write_vectored(left)?;
        IoSlice::advance_slices(&mut left, written);
    }
    batch.clear();
    Ok(())
}
