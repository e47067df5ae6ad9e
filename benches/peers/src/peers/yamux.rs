//! libp2p's yamux with its default configuration: a task drives the connection through
//! `poll_next_inbound`, as its documentation asks. Streams open with the first bytes sent.

use std::future::poll_fn;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode, Stream};

use super::byte_stream::ByteStream;
use crate::plan::Plan;
use crate::worlds::asynchronous::{Open, Peer};
use crate::worlds::sockets::{accept_one, connect_one};

pub struct Yamux;

impl Peer for Yamux {
    type Channel = ByteStream<Compat<Stream>>;

    async fn serve(plan: &Plan) -> Result<Open<Self::Channel>> {
        let connection = Connection::new(accept_one().await?.compat(), Config::default(), Mode::Server);
        let mut streams = drive(connection);
        let mut channels = Vec::new();
        for _ in 0..plan.channels {
            let stream = streams.recv().await.context("yamux closed")?;
            channels.push(ByteStream::new(stream.compat(), plan));
        }
        Ok(Open { channels, keep: Box::new(streams) })
    }

    async fn connect(plan: &Plan, to: SocketAddr) -> Result<Open<Self::Channel>> {
        let socket = connect_one(to).await?.compat();
        let mut connection = Connection::new(socket, Config::default(), Mode::Client);
        let mut channels = Vec::new();
        for _ in 0..plan.channels {
            let stream = poll_fn(|cx| connection.poll_new_outbound(cx)).await?;
            channels.push(ByteStream::new(stream.compat(), plan));
        }
        Ok(Open { channels, keep: Box::new(drive(connection)) })
    }
}

fn drive(mut connection: Connection<Compat<TcpStream>>) -> mpsc::UnboundedReceiver<Stream> {
    let (inbound, streams) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(stream) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
            match stream {
                Ok(stream) => inbound.send(stream).ok(),
                Err(error) => {
                    eprintln!("yamux: {error}");
                    break;
                }
            };
        }
    });
    streams
}
