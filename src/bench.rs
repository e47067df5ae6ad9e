//! The pieces of the two paths for `benches/`, one call each: a connection's end as
//! `src/io/conn/` has it, without socket, I/O thread and clock. No part of the interface: behind
//! the feature `bench`, which only the benchmarks and tests of this package turn on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::id::{ChannelId, ChannelSet};
use crate::message::Message;
use crate::proto::credit::cost;
use crate::proto::handshake::{Grace, Terms};
use crate::proto::inbound::Budget;
use crate::proto::outbound::Payload;
use crate::proto::replay::Replay;
use crate::proto::session::{Exchange, Output, Room, Session, Settings, Wishes};
use crate::queue::attend::Attend;
use crate::queue::batch::{Batch, Entry};
use crate::queue::pool::Pool;
use crate::queue::receive::{Claim, ReceiveQueues, Routes};
use crate::queue::send::{Comes, SendQueue};
use crate::queue::staging::Staging;
use crate::queue::until::Until;

const CHANNEL: ChannelId = ChannelId::new(1);
const WINDOW: u32 = 896 << 10;
/// What is taken at once for the socket.
const BITE: usize = 1 << 20;
/// Bytes of one read.
const READ: usize = 256 << 10;

/// One end of a connection, which sends and receives on one channel.
pub struct End {
    session: Session,
    send: SendQueue,
    receive: ReceiveQueues,
    replay: Replay,
    staging: Staging,
    routes: Routes,
    pool: Arc<Pool>,
    now: Instant,
    sender: (usize, u32),
    claim: Claim,
    batch: Batch,
    wishes: Wishes,
    output: Output,
}

/// There is no I/O thread to call.
struct NoLoop;

impl Attend for NoLoop {
    fn attend(&self) {}
}

impl End {
    /// `keep`: what was written is kept until the peer has it, as with sessions that outlive
    /// their socket.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        let terms = Terms { window: WINDOW, max_message: 16 << 20, grace: Grace(60_000) };
        let settings = Settings {
            ours: terms,
            theirs: terms,
            we_may_send: ChannelSet::ALL,
            peer_may_send: ChannelSet::ALL,
            peer_may_interrupt: true,
            send_queue: 4 << 20,
            reserves: 16 << 20,
            excess: 256 << 20,
            heartbeat: Some((Duration::from_secs(10), Duration::from_secs(30))),
            replay_limit: 4 << 20,
            resumable: keep,
        };
        let now = Instant::now();
        let (session, outbound) = Session::new(now, &settings);
        let pool = Arc::new(Pool::default());
        let send = SendQueue::new(outbound, Arc::new(NoLoop));
        let receive = ReceiveQueues::new(WINDOW, Arc::new(NoLoop), Arc::default());
        let sender = send.claim(CHANNEL, None).unwrap();
        let claim = receive.claim(CHANNEL.into(), &pool).expect("a fresh connection");
        Self {
            session,
            send,
            receive,
            replay: Replay::new(keep),
            staging: Staging::new(Arc::clone(&pool)),
            routes: Routes::default(),
            pool,
            now,
            sender,
            claim,
            batch: Batch::default(),
            wishes: Wishes::default(),
            output: Output::default(),
        }
    }

    /// `Sender::send` of a small message: encodes it into the send queue.
    #[inline]
    pub fn encode(&self, message: &[u8]) {
        let (place, generation) = self.sender;
        if !self.send.send_quickly(place, generation, message) {
            self.offer(Payload::Slice(message));
        }
    }

    /// `Sender::send_bytes`.
    pub fn encode_bytes(&self, message: &Bytes) {
        self.offer(Payload::Shared(message));
    }

    fn offer(&self, payload: Payload<'_>) {
        let (place, generation) = self.sender;
        self.send.send(place, generation, payload, Until::Now, false, &self.pool).expect("room and credit");
    }

    /// Credit for so many bytes, as a peer gives it that takes all at once.
    pub fn grant(&self, bytes: u32) {
        self.send.read(|outbound| {
            outbound.handle_credit(CHANNEL, bytes, &mut &*self.pool).expect("no more than a window");
        });
    }

    /// What the I/O thread takes out of the queues for the socket: how many bytes wait to be
    /// written. What the receiver took becomes credit for the peer here.
    pub fn drain(&mut self) -> usize {
        let Self { session, send, receive, replay, pool, now, wishes, output, .. } = self;
        send.exchange(wishes, output, |wishes, outbound, flushes, output| {
            receive.collect(wishes);
            let room = if replay.is_written() { Room::Bytes(BITE) } else { Room::None };
            replay.extend(|segments| {
                let (now, spare) = (*now, &mut &**pool);
                session.exchange(wishes, Exchange { now, outbound, flushes, room, spare, segments, output });
                session.sent()
            });
            receive.publish(&mut output.reports);
            Comes::WhenCalled
        });
        // Without a lock: what it frees may be the user's memory.
        replay.acknowledge(session.peer_has(), &mut &**pool);
        self.replay.unwritten().map(<[u8]>::len).sum()
    }

    /// Hands what was drained to a socket that takes it all and forgets it.
    pub fn written(&mut self) {
        let all = self.replay.unwritten().map(<[u8]>::len).sum();
        self.replay.advance(all, &mut &*self.pool);
    }

    /// The same, to a socket that keeps it.
    pub fn write(&mut self, into: &mut Vec<u8>) {
        self.replay.unwritten().for_each(|part| into.extend_from_slice(part));
        self.written();
    }

    /// The same, with the peer at the socket's other end, which reads and hands over. The payload
    /// of a large message is moved by the system, as sockets do, so that copying it costs no
    /// instructions of the process; what arrives of it is zeros.
    pub fn write_to(&mut self, peer: &mut End, zeros: &std::fs::File) {
        for part in self.replay.unwritten() {
            let mut left = part.len();
            if let Some(buffer) = peer.session.payload_buffer() {
                while left > 0 {
                    let before = buffer.len();
                    fill(buffer, left, zeros);
                    left -= buffer.len() - before;
                }
                peer.session.handle_payload(peer.now, part.len(), &mut peer.staging);
                peer.hand_over();
            } else {
                peer.parse(part);
                peer.hand_over();
            }
        }
        self.written();
    }

    /// Takes apart what one read brought.
    pub fn parse(&mut self, read: &[u8]) {
        self.receive.route(&mut self.staging, &mut self.routes);
        self.session.handle_input(self.now, &mut &read[..], &mut Budget::pass(), &mut self.staging);
    }

    /// Puts what was taken apart into the receiver's queue.
    pub fn hand_over(&mut self) {
        let runs = self.session.take_runs();
        self.receive.hand_over(&mut self.staging, &mut self.routes, runs, &self.pool);
    }

    /// All of a stream: reads of the usual size, each parsed and handed over.
    pub fn receive(&mut self, stream: &[u8]) {
        for read in stream.chunks(READ) {
            self.parse(read);
            self.hand_over();
        }
    }

    /// `Receiver::try_recv`.
    #[inline]
    pub fn take(&mut self) -> Option<Message> {
        let message = match self.batch.next_quickly() {
            Some(message) => message,
            None => self.take_slowly()?,
        };
        if self.claim.counts.add(CHANNEL, cost(message.len())) {
            self.receive.report(CHANNEL);
        }
        Some(message)
    }

    #[inline(never)]
    fn take_slowly(&mut self) -> Option<Message> {
        loop {
            match self.batch.next(&mut &*self.pool) {
                Some(Entry::Message(message)) => return Some(message),
                Some(Entry::End { .. } | Entry::Gap { .. }) => {}
                None => self.receive.take(&self.claim, &mut self.batch, Until::Now).ok()?,
            }
        }
    }
}

/// Appends so many bytes at most, and no more than there is room for.
#[cfg(unix)]
fn fill(buffer: &mut Vec<u8>, most: usize, zeros: &std::fs::File) {
    // It reads as much as there is room for: what is too much is cut off again.
    let before = buffer.len();
    rustix::io::read(zeros, rustix::buffer::spare_capacity(buffer)).expect("zeros without end");
    buffer.truncate(before + most);
}

#[cfg(not(unix))]
fn fill(buffer: &mut Vec<u8>, most: usize, _: &std::fs::File) {
    buffer.resize(buffer.len() + most.min(buffer.capacity() - buffer.len()), 0);
}

/// What goes round between two ends comes out as it went in.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree() {
        for keep in [false, true] {
            let (mut here, mut there) = (End::new(keep), End::new(keep));
            for _ in 0..1000 {
                let mut wire = Vec::new();
                (0..100u8).for_each(|number| here.encode(&[number; 16]));
                here.drain();
                here.write(&mut wire);
                there.receive(&wire);
                (0..100u8).for_each(|number| assert_eq!(*there.take().unwrap(), [number; 16]));
                wire.clear();
                there.drain();
                there.write(&mut wire);
                here.receive(&wire);
            }
            assert!(there.take().is_none());
        }
    }
}
