//! The control frames that a session owes. All of it is state that is overwritten or added up: a
//! peer or an application that repeats itself makes it no larger (trap 7).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Reads;
use crate::id::{ChannelId, ChannelSet};
use crate::proto::frame::Control;
use crate::proto::inbound::{Inbound, Stop, Waiting};
use crate::proto::segment::Spare;

/// What is acknowledged at once (protocol, section 6).
pub(super) const ACK_BYTES: u64 = 128 * 1024;
/// When the rest is acknowledged (protocol, section 6).
const ACK_DELAY: Duration = Duration::from_millis(200);
/// So many PINGs are remembered until they are answered. A newer answer covers older ones.
const PINGS: usize = 4;

/// Whether the peer is to be told how much was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ack {
    None,
    Owed(Instant),
}

/// The acknowledgements of the peer's stream.
#[derive(Debug)]
pub(super) struct Acks {
    state: Ack,
    /// Up to where the peer was told.
    told: u64,
}

impl Acks {
    pub(super) fn new() -> Self {
        Self { state: Ack::None, told: 0 }
    }

    /// Something else than an ACK came.
    pub(super) fn owe(&mut self, now: Instant) {
        if self.state == Ack::None {
            self.state = Ack::Owed(now + ACK_DELAY);
        }
    }

    /// The peer is told at once.
    pub(super) fn owe_now(&mut self, now: Instant) {
        self.state = Ack::Owed(now);
    }

    pub(super) fn is_due(&self, now: Instant, received: u64) -> bool {
        received - self.told >= ACK_BYTES || matches!(self.state, Ack::Owed(at) if at <= now)
    }

    /// The peer was told by an ACK or a handshake.
    pub(super) fn tell(&mut self, received: u64) {
        *self = Self { state: Ack::None, told: received };
    }

    pub(super) fn told(&self) -> u64 {
        self.told
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            Ack::Owed(at) => Some(at),
            Ack::None => None,
        }
    }
}

/// A PING that was sent.
#[derive(Clone, Copy, Debug)]
struct Asked {
    number: u64,
    /// Where in our stream it ends: its answer shows that the peer has everything before.
    offset: u64,
    at: Instant,
}

/// The PINGs of this side, of heartbeats and of flushes alike.
#[derive(Debug, Default)]
pub(super) struct Pings {
    number: u64,
    wanted: bool,
    asked: VecDeque<Asked>,
}

impl Pings {
    /// A PING goes out with the next frames.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Makes sure that the peer is asked behind `offset`.
    pub(super) fn want_behind(&mut self, offset: u64) {
        self.wanted |= self.asked.back().is_none_or(|newest| newest.offset < offset);
    }

    /// The number of the PING that goes out now, if one is wanted.
    fn take(&mut self) -> Option<u64> {
        std::mem::take(&mut self.wanted).then(|| {
            self.number += 1;
            self.number
        })
    }

    /// The PING that was taken ends at `offset`.
    fn sent(&mut self, offset: u64, now: Instant) {
        if self.asked.len() == PINGS {
            self.asked.pop_front();
        }
        self.asked.push_back(Asked { number: self.number, offset, at: now });
    }

    /// A PONG came: what the peer has for sure, and the round trip. An invented number says
    /// nothing.
    pub(super) fn handle_pong(&mut self, number: u64, now: Instant) -> Option<(u64, Duration)> {
        let at = self.asked.iter().position(|asked| asked.number == number)?;
        let answered = self.asked.drain(..=at).next_back()?;
        Some((answered.offset, now.saturating_duration_since(answered.at)))
    }

    /// There is a new socket: what was asked on the old one is replayed, but its time means nothing.
    pub(super) fn restart(&mut self) {
        self.asked.clear();
        self.wanted = false;
    }
}

/// This side's readers, and what the peer was told of them.
#[derive(Debug, Default)]
struct Readers {
    now: Vec<Reads>,
    changed: ChannelSet,
    told: Vec<Waiting>,
}

impl Readers {
    fn set(&mut self, reads: Reads) {
        match self.now.iter_mut().find(|known| known.channel == reads.channel) {
            Some(known) => *known = reads,
            None => self.now.push(reads),
        }
        self.changed.insert(reads.channel);
    }

    /// What the peer does not know yet.
    fn poll(&mut self, inbound: &Inbound) -> Option<Waiting> {
        loop {
            let channel = self.changed.iter().next()?;
            self.changed.remove(channel);
            let now = self.now.iter().find(|known| known.channel == channel)?;
            let count = now.count.unwrap_or_else(|| inbound.messages(channel));
            let now = Waiting { channel, waiting: now.waiting, count };
            match self.told.iter_mut().find(|known| known.channel == channel) {
                // Of a reader that does not wait the count says nothing.
                Some(known) if known.waiting == now.waiting && (!now.waiting || known.count == count) => {}
                Some(known) => {
                    *known = now;
                    return Some(now);
                }
                None if now.waiting => {
                    self.told.push(now);
                    return Some(now);
                }
                None => {}
            }
        }
    }
}

/// All that is owed but ACKs and credit.
#[derive(Debug, Default)]
pub(super) struct Owed {
    stops: Vec<Stop>,
    interrupt: bool,
    pong: Option<u64>,
    pub(super) pings: Pings,
    readers: Readers,
    credits: Vec<(ChannelId, u32)>,
}

impl Owed {
    pub(super) fn stop(&mut self, stop: Stop) {
        match self.stops.iter_mut().find(|known| known.channel == stop.channel) {
            Some(known) => *known = stop,
            None => self.stops.push(stop),
        }
    }

    pub(super) fn interrupt(&mut self) {
        self.interrupt = true;
    }

    pub(super) fn pong(&mut self, number: u64) {
        self.pong = Some(number);
    }

    pub(super) fn reader(&mut self, reads: Reads) {
        self.readers.set(reads);
    }

    /// A channel is granted so much more.
    pub(super) fn credit(&mut self, channel: ChannelId, bytes: u32) {
        match self.credits.iter_mut().find(|(known, _)| *known == channel) {
            Some((_, sum)) => *sum += bytes,
            None => self.credits.push((channel, bytes)),
        }
    }

    /// Returns `true` if the application has said something outside its messages that is not out.
    pub(super) fn has_words(&self) -> bool {
        self.interrupt || !self.stops.is_empty() || !self.readers.changed.is_empty()
    }

    /// Encodes what is owed, but for the PING.
    pub(super) fn encode(&mut self, inbound: &Inbound, out: &mut Frames<'_, impl Spare>) {
        if std::mem::take(&mut self.interrupt) {
            out.put(&Control::Interrupt);
        }
        if let Some(number) = self.pong.take() {
            out.put(&Control::Pong(number));
        }
        for Stop { channel, code, run } in self.stops.drain(..) {
            // One whose run has ended meanwhile has nothing left to stop.
            if inbound.run(channel) == run {
                out.put(&Control::Stop { channel, code, run });
            }
        }
        for (channel, bytes) in self.credits.drain(..) {
            out.put(&Control::Credit { channel, bytes });
        }
        while let Some(Waiting { channel, waiting, count }) = self.readers.poll(inbound) {
            out.put(&Control::Waiting { channel, waiting, count });
        }
    }

    /// Encodes a PING, if one is wanted, in frames that begin at `start` in our stream. `true` if it
    /// did.
    pub(super) fn encode_ping(&mut self, start: u64, now: Instant, out: &mut Frames<'_, impl Spare>) -> bool {
        let Some(number) = self.pings.take() else { return false };
        out.put(&Control::Ping(number));
        self.pings.sent(start + out.bytes.len() as u64, now);
        true
    }
}

/// Control frames that are put together, in a buffer that is taken for the first of them.
pub(super) struct Frames<'a, S> {
    bytes: Vec<u8>,
    spare: &'a mut S,
}

impl<'a, S: Spare> Frames<'a, S> {
    pub(super) fn new(spare: &'a mut S) -> Self {
        Self { bytes: Vec::new(), spare }
    }

    pub(super) fn put(&mut self, control: &Control) {
        if self.bytes.capacity() == 0 {
            self.bytes = self.spare.take(256);
        }
        control.encode(&mut self.bytes);
    }

    /// The frames; `None` if there are none.
    pub(super) fn into_bytes(self) -> Option<Vec<u8>> {
        (!self.bytes.is_empty()).then_some(self.bytes)
    }
}
