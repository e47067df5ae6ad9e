//! A channel of the peers whose channels are byte streams: yamux and smux.

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};

use crate::plan::Plan;
use crate::plan::rows::Way;
use crate::work::message::Head;
use crate::worlds::asynchronous::Channel;
use crate::worlds::sockets::BUFFER;

pub struct ByteStream<S> {
    stream: Stream<S>,
    message: Vec<u8>,
}

enum Stream<S> {
    Plain(S),
    Buffered(Box<BufStream<S>>),
}

impl<S: AsyncRead + AsyncWrite> ByteStream<S> {
    pub fn new(stream: S, plan: &Plan) -> Self {
        let stream = match plan.way {
            Way::Buffered => Stream::Buffered(Box::new(BufStream::with_capacity(BUFFER, BUFFER, stream))),
            _ => Stream::Plain(stream),
        };
        Self { stream, message: vec![0; plan.size] }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Channel for ByteStream<S> {
    async fn send(&mut self, message: &[u8]) -> Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(message).await?,
            Stream::Buffered(stream) => stream.write_all(message).await?,
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.flush().await?,
            Stream::Buffered(stream) => stream.flush().await?,
        }
        Ok(())
    }

    async fn recv(&mut self, len: usize) -> Result<Head> {
        if len > self.message.len() {
            self.message.resize(len, 0);
        }
        let message = &mut self.message[..len];
        match &mut self.stream {
            Stream::Plain(stream) => stream.read_exact(message).await?,
            Stream::Buffered(stream) => stream.read_exact(message).await?,
        };
        Ok(Head::parse(message))
    }
}
