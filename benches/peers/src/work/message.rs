//! What every peer carries: messages that begin with 16 bytes of ours, so that a receiver can
//! tell that nothing was lost or reordered and when to stop its clock.

use anyhow::{Result, ensure};
use bytes::Bytes;

pub const HEAD: usize = 16;

/// The last message of a run.
pub const LAST: u32 = 1;
/// Sent once on each channel before the clocks start.
const HELLO: u32 = 2;
/// A ping sent while the flood runs.
pub const FLOODED: u32 = 4;

/// The first 16 bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    pub seq: u64,
    pub channel: u32,
    pub flags: u32,
}

impl Head {
    pub fn write(self, to: &mut [u8]) {
        to[0..8].copy_from_slice(&self.seq.to_le_bytes());
        to[8..12].copy_from_slice(&self.channel.to_le_bytes());
        to[12..16].copy_from_slice(&self.flags.to_le_bytes());
    }

    #[inline]
    pub fn parse(from: &[u8]) -> Self {
        let from: &[u8; HEAD] = from[..HEAD].try_into().unwrap();
        Self {
            seq: u64::from_le_bytes(from[0..8].try_into().unwrap()),
            channel: u32::from_le_bytes(from[8..12].try_into().unwrap()),
            flags: u32::from_le_bytes(from[12..16].try_into().unwrap()),
        }
    }

    /// Parses a whole message of a peer that keeps message boundaries.
    #[inline]
    pub fn of_message(message: &[u8], len: usize) -> Result<Self> {
        ensure!(message.len() == len, "a message of {} bytes instead of {len}", message.len());
        Ok(Self::parse(message))
    }

    pub fn is(self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Takes the hello of a channel, whose number it is.
    pub fn hello(self) -> Result<u32> {
        ensure!(self.is(HELLO), "{self:?} is no hello");
        Ok(self.channel)
    }

    /// Large messages come from a ring, so only so much of their number is known.
    #[inline]
    pub fn check(self, seq: u64, len: usize) -> Result<()> {
        let same = if is_large(len) { self.seq % RING as u64 == seq % RING as u64 } else { self.seq == seq };
        ensure!(same, "message {} arrived where {seq} was due", self.seq);
        Ok(())
    }
}

pub fn hello(channel: u32, size: usize) -> Vec<u8> {
    let mut message = vec![0; size];
    Head { seq: 0, channel, flags: HELLO }.write(&mut message);
    message
}

/// Large messages are shared buffers, as a program has that sends what it already holds; small
/// ones are written anew each time.
pub fn is_large(len: usize) -> bool {
    len > 4096
}

/// Few enough that the source stays in the second-level cache: we measure the peers, not memory.
const RING: usize = 8;

/// The messages of one size that one sender sends.
pub struct Messages {
    small: Vec<u8>,
    ring: Vec<Bytes>,
    last: Vec<Bytes>,
}

impl Messages {
    pub fn new(size: usize, channel: u32) -> Self {
        assert!(size >= HEAD);
        let one = |seq: usize, flags| {
            let mut message = vec![0xa5; size];
            Head { seq: seq as u64, channel, flags }.write(&mut message);
            message
        };
        let ring = |flags| (0..RING).map(|seq| one(seq, flags).into()).collect();
        let (ring, last) = if is_large(size) { (ring(0), ring(LAST)) } else { Default::default() };
        Self { small: one(0, 0), ring, last }
    }

    #[inline]
    pub fn small(&mut self, seq: u64, channel: u32, flags: u32) -> &[u8] {
        Head { seq, channel, flags }.write(&mut self.small);
        &self.small
    }

    pub fn large(&self, seq: u64, last: bool) -> &Bytes {
        let ring = if last { &self.last } else { &self.ring };
        &ring[seq as usize % RING]
    }
}
