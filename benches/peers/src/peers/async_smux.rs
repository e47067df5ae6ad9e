//! async_smux with its default queue limits, as in its quick start.

use std::net::SocketAddr;

use ::async_smux::{MuxBuilder, MuxStream};
use anyhow::{Context, Result};
use tokio::net::TcpStream;

use super::byte_stream::ByteStream;
use crate::plan::Plan;
use crate::worlds::asynchronous::{Open, Peer};
use crate::worlds::sockets::{accept_one, connect_one};

pub struct AsyncSmux;

impl Peer for AsyncSmux {
    type Channel = ByteStream<MuxStream<TcpStream>>;

    async fn serve(plan: &Plan) -> Result<Open<Self::Channel>> {
        let socket = accept_one().await?;
        let (connector, mut acceptor, worker) = MuxBuilder::server().with_connection(socket).build();
        tokio::spawn(worker);
        let mut channels = Vec::new();
        for _ in 0..plan.channels {
            let stream = acceptor.accept().await.context("smux closed")?;
            channels.push(ByteStream::new(stream, plan));
        }
        Ok(Open { channels, keep: Box::new((connector, acceptor)) })
    }

    async fn connect(plan: &Plan, to: SocketAddr) -> Result<Open<Self::Channel>> {
        let socket = connect_one(to).await?;
        let (connector, acceptor, worker) = MuxBuilder::client().with_connection(socket).build();
        tokio::spawn(worker);
        let mut channels = Vec::new();
        for _ in 0..plan.channels {
            channels.push(ByteStream::new(connector.connect()?, plan));
        }
        Ok(Open { channels, keep: Box::new((connector, acceptor)) })
    }
}
