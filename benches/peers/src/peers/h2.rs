//! HTTP/2: a channel is a POST whose body and whose response's body stay open. The sender reserves
//! capacity before each message, as the documentation asks, since `send_data` alone queues without
//! bound.
//!
//! With its defaults h2 would not run these workloads: many small DATA frames exhaust the default
//! frame budget (`ENHANCE_YOUR_CALM`), and an unread stream fills the default connection window,
//! which all streams share. So the budget is lifted and the connection's window is the sum of the
//! streams'. Frames may be as long as the messages, which is worth half as much again in *large*
//! and in *flood*; larger stream windows cost it more under *flood* than they bring elsewhere.

use std::future::poll_fn;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client, server};
use http::{Request, Response};
use tokio::sync::mpsc;

use crate::plan::Plan;
use crate::plan::rows::Way;
use crate::work::message::{HEAD, Head};
use crate::worlds::asynchronous::{Channel, Open, Peer};
use crate::worlds::sockets::{BUFFER, accept_one, connect_one};

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 256 * STREAM_WINDOW;
const FRAME_SIZE: u32 = 64 << 10;
const FRAME_BUDGET: usize = 1 << 30;

pub struct H2;

impl Peer for H2 {
    type Channel = Exchange;

    async fn serve(plan: &Plan) -> Result<Open<Exchange>> {
        let mut connection = server::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .data_frame_budget(FRAME_BUDGET)
            .max_frame_size(FRAME_SIZE)
            .handshake(accept_one().await?)
            .await?;
        let (accepted, mut requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(request) = connection.accept().await {
                match request {
                    Ok(request) => accepted.send(request).ok(),
                    Err(error) => {
                        eprintln!("h2 server: {error}");
                        break;
                    }
                };
            }
        });
        let mut channels = Vec::new();
        for _ in 0..plan.channels {
            let (request, mut respond) = requests.recv().await.context("h2 closed")?;
            let send = respond.send_response(Response::new(()), false)?;
            channels.push(Exchange::new(send, request.into_body(), plan));
        }
        Ok(Open { channels, keep: Box::new(requests) })
    }

    async fn connect(plan: &Plan, to: SocketAddr) -> Result<Open<Exchange>> {
        let (requests, connection) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .data_frame_budget(FRAME_BUDGET)
            .max_frame_size(FRAME_SIZE)
            .initial_max_send_streams(256)
            .handshake(connect_one(to).await?)
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("h2 client: {error}");
            }
        });
        let mut channels = Vec::new();
        let mut requests = requests;
        for channel in 0..plan.channels {
            requests = requests.ready().await?;
            let request = Request::post(format!("http://{to}/{channel}")).body(())?;
            let (response, send) = requests.send_request(request, false)?;
            channels.push(Exchange::new(send, response.await?.into_body(), plan));
        }
        Ok(Open { channels, keep: Box::new(requests) })
    }
}

pub struct Exchange {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// Received and not taken yet.
    rest: Bytes,
    buffer: Option<BytesMut>,
}

impl Exchange {
    fn new(send: SendStream<Bytes>, recv: RecvStream, plan: &Plan) -> Self {
        let buffer = (plan.way == Way::Buffered).then(|| BytesMut::with_capacity(BUFFER));
        Self { send, recv, rest: Bytes::new(), buffer }
    }

    async fn send_data(&mut self, mut data: Bytes) -> Result<()> {
        while !data.is_empty() {
            self.send.reserve_capacity(data.len());
            if self.send.capacity() == 0 {
                poll_fn(|cx| self.send.poll_capacity(cx)).await.context("the stream is closed")??;
            }
            let now = data.len().min(self.send.capacity());
            if now > 0 {
                self.send.send_data(data.split_to(now), false)?;
            }
        }
        Ok(())
    }
}

impl Channel for Exchange {
    async fn send(&mut self, message: &[u8]) -> Result<()> {
        match &mut self.buffer {
            None => self.send_data(Bytes::copy_from_slice(message)).await,
            Some(buffer) => {
                buffer.extend_from_slice(message);
                if buffer.len() >= BUFFER { self.flush().await } else { Ok(()) }
            }
        }
    }

    async fn send_large(&mut self, message: &Bytes) -> Result<()> {
        self.send_data(message.clone()).await
    }

    async fn flush(&mut self) -> Result<()> {
        match &mut self.buffer {
            Some(buffer) if !buffer.is_empty() => {
                let full = std::mem::replace(buffer, BytesMut::with_capacity(BUFFER));
                self.send_data(full.freeze()).await
            }
            _ => Ok(()),
        }
    }

    async fn recv(&mut self, len: usize) -> Result<Head> {
        let (mut head, mut have, mut left) = ([0; HEAD], 0, len);
        while left > 0 {
            if self.rest.is_empty() {
                self.rest = self.recv.data().await.context("end of the body")??;
                self.recv.flow_control().release_capacity(self.rest.len())?;
            }
            let now = left.min(self.rest.len());
            let part = now.min(HEAD - have);
            head[have..have + part].copy_from_slice(&self.rest[..part]);
            have += part;
            self.rest.advance(now);
            left -= now;
        }
        Ok(Head::parse(&head))
    }
}
