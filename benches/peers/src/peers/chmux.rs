//! remoc's channel multiplexer with its default configuration, length-delimited frames on TCP as
//! in its own tests, and a port per channel.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes};
use futures::StreamExt;
use remoc::chmux::{self, Cfg, ChMux, Client, Listener, Receiver, Sender};
use tokio::net::TcpStream;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::plan::Plan;
use crate::work::message::{HEAD, Head};
use crate::worlds::asynchronous::{self, Open, Peer};
use crate::worlds::sockets::{accept_one, connect_one};

pub struct Chmux;

impl Peer for Chmux {
    type Channel = Port;

    async fn serve(plan: &Plan) -> Result<Open<Port>> {
        let (client, mut listener) = start(accept_one().await?).await?;
        let mut channels = Vec::new();
        for _ in 0..plan.channels {
            let (sender, receiver) = listener.accept().await?.context("chmux closed")?;
            channels.push(Port { sender, receiver });
        }
        Ok(Open { channels, keep: Box::new((client, listener)) })
    }

    async fn connect(plan: &Plan, to: SocketAddr) -> Result<Open<Port>> {
        let (client, listener) = start(connect_one(to).await?).await?;
        let mut channels = Vec::new();
        for _ in 0..plan.channels {
            let (sender, receiver) = client.connect_port().await?;
            channels.push(Port { sender, receiver });
        }
        Ok(Open { channels, keep: Box::new((client, listener)) })
    }
}

async fn start(socket: TcpStream) -> Result<(Client, Listener)> {
    let (read, write) = socket.into_split();
    let write = FramedWrite::new(write, LengthDelimitedCodec::new());
    let read = FramedRead::new(read, LengthDelimitedCodec::new());
    let read = read.map(|frame| frame.map(|bytes| bytes.freeze()));
    let (mux, client, listener) = ChMux::new(Cfg::default(), write, read).await?;
    tokio::spawn(async move {
        if let Err(error) = mux.run().await {
            eprintln!("chmux: {error}");
        }
    });
    Ok((client, listener))
}

pub struct Port {
    sender: Sender,
    receiver: Receiver,
}

impl asynchronous::Channel for Port {
    async fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.sender.send(Bytes::copy_from_slice(message)).await?)
    }

    async fn send_large(&mut self, message: &Bytes) -> Result<()> {
        Ok(self.sender.send(message.clone()).await?)
    }

    async fn recv(&mut self, len: usize) -> Result<Head> {
        let mut message: chmux::DataBuf = self.receiver.recv().await?.context("end of the channel")?;
        ensure!(message.remaining() == len, "a message of {} bytes instead of {len}", message.remaining());
        let mut head = [0; HEAD];
        message.copy_to_slice(&mut head);
        Ok(Head::parse(&head))
    }
}
