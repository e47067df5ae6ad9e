//! trunkline's hub in the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::sync::mpsc::{Sender as Queue, channel};
use std::task::{Context, Poll, Wake, Waker};

use anyhow::Result;
use trunkline::{ChannelId, Config, Connection, Key, Listener, RecvError, Sender};
use trunkline_hub::{History, Hub, Running};

use crate::Publisher;
use crate::counts::Counts;

const OUTPUT: ChannelId = ChannelId::new(1);
const SECRET: [u8; 32] = [1; 32];

pub struct Program {
    _program: Connection,
    output: Sender,
    hub: Running,
}

impl Program {
    pub fn new() -> Result<Self> {
        let (program, upstream) = Connection::pair(Config::new(Key::generate()))?;
        let listener = Listener::bind("127.0.0.1:0", Config::new(Key::from(SECRET)))?;
        let hub = Hub::new(upstream).broadcast(OUTPUT, History::bytes(1 << 30)).serve(listener)?;
        Ok(Self { output: program.sender(OUTPUT)?, _program: program, hub })
    }
}

impl Publisher for Program {
    fn address(&self) -> String {
        self.hub.listener().local_addr().to_string()
    }

    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.output.send(message)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

struct Ready {
    client: usize,
    queue: Queue<usize>,
    queued: AtomicBool,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, AcqRel) {
            let _ = self.queue.send(self.client);
        }
    }
}

pub fn watch(address: &str, clients: usize, counts: &mut Counts) -> Result<()> {
    let (queue, ready) = channel();
    let mut all = Vec::new();
    for client in 0..clients {
        let connection = Connection::connect(address, Config::new(Key::from(SECRET)))?;
        let output = connection.receiver(OUTPUT)?;
        let bell = Arc::new(Ready { client, queue: queue.clone(), queued: AtomicBool::new(true) });
        queue.send(client)?;
        all.push((connection, output, Arc::clone(&bell), Waker::from(bell)));
    }
    for client in ready {
        let (_, output, bell, waker) = &all[client];
        bell.queued.swap(false, AcqRel);
        loop {
            match output.poll_recv(&mut Context::from_waker(waker)) {
                Poll::Pending => break,
                Poll::Ready(Ok(message)) => {
                    if counts.count(client, message[0]) {
                        return Ok(());
                    }
                }
                Poll::Ready(Err(RecvError::Gap { .. })) => {}
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
