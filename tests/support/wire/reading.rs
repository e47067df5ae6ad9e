//! What a raw peer reads: frames, and the events that they amount to.

use std::time::{Duration, Instant};

use super::keys::array;
use super::stream::{WireError, read_some_by, violation};
use super::*;

/// How long an ACK of ours waits.
const ACK_AFTER: Duration = Duration::from_millis(100);

/// What the frames amount to, fragments put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Message(u8, Vec<u8>),
    Finish(u8),
    Reset(u8, u32),
    /// Channel, code, run.
    Stop(u8, u32, u32),
    /// Channel, messages, bytes.
    Gap(u8, u64, u64),
    Credit(u8, u32),
    /// Channel, state, count.
    Waiting(u8, bool, u32),
    Interrupt,
    Ping(u64),
    Pong(u64),
    Ack(u64),
    Close(u16, String),
}

impl Event {
    /// The channel of a message, a gap, or the end of a run.
    pub fn of_channel(&self) -> Option<u8> {
        match self {
            Self::Message(channel, _)
            | Self::Finish(channel)
            | Self::Reset(channel, _)
            | Self::Gap(channel, ..) => Some(*channel),
            _ => None,
        }
    }
}

impl RawPeer {
    /// Bytes of the peer's stream that have come, with those of a frame that is not whole.
    pub fn heard(&self) -> u64 {
        self.received + (self.buffer.len() - self.start) as u64
    }

    /// The next frame, checked and entered in the books.
    pub fn read_frame(&mut self, timeout: Duration) -> Result<Frame, WireError> {
        self.read_frame_by(Instant::now() + timeout)
    }

    pub fn read_frame_by(&mut self, deadline: Instant) -> Result<Frame, WireError> {
        let word: [u8; 4] = loop {
            if let Some(word) = self.buffer.get(self.start..self.start + 4) {
                break array(word);
            }
            self.fill(deadline)?;
        };
        let len = Frame::check_word(word)?;
        while self.buffer.len() - self.start < 4 + len {
            self.fill(deadline)?;
        }
        let payload = &self.buffer[self.start + 4..self.start + 4 + len];
        let frame = Frame::decode(word, payload)?;
        self.start += 4 + len;
        self.received += 4 + len as u64;
        self.note(&frame)?;
        self.note_ack_duty(&frame);
        Ok(frame)
    }

    /// Section 6: within a time after anything but ACK, and at once after so many bytes of anything.
    fn note_ack_duty(&mut self, frame: &Frame) {
        if !self.auto_ack || self.accept.grace == 0 {
            return;
        }
        if self.heard().saturating_sub(self.told) >= ACK_BYTES / 2 && self.is_between_frames() {
            self.acknowledge();
        } else if !matches!(frame, Frame::Ack(_)) && self.ack_due.is_none() {
            self.ack_due = Some(Instant::now() + ACK_AFTER);
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), WireError> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let mut chunk = [0; 65_536];
        let got = loop {
            let due = self.ack_due.filter(|_| self.auto_ack && self.is_between_frames());
            let until = due.map_or(deadline, |due| due.min(deadline));
            match read_some_by(&mut self.stream, &mut chunk, until) {
                Err(WireError::Timeout) if due.is_some() && Instant::now() < deadline => self.acknowledge(),
                other => break other?,
            }
        };
        if got == 0 {
            return Err(WireError::End { partial: self.buffer.len() });
        }
        let opened;
        let mut new = &chunk[..got];
        if let Some(seal) = &mut self.seal {
            opened = seal.open(new).map_err(WireError::Violation)?;
            new = &opened;
        }
        if self.repeated > 0 {
            let again;
            (again, new) = new.split_at(self.repeated.min(new.len()));
            let from = self.heard.len() - self.repeated;
            if self.heard[from..from + again.len()] != *again {
                return violation("what was sent before is not what is sent again");
            }
            self.repeated -= again.len();
        }
        self.buffer.extend_from_slice(new);
        if self.keep {
            self.heard.extend_from_slice(new);
        }
        Ok(())
    }

    /// The next thing that happened, from before (if a call had to read past it) or the wire.
    pub fn event(&mut self, timeout: Duration) -> Result<Event, WireError> {
        let event = match self.stash.pop_front() {
            Some(event) => event,
            None => self.event_from_wire(Instant::now() + timeout)?,
        };
        Ok(self.taken(event))
    }

    /// The first event that `wanted` likes; the others wait for later calls in their order.
    pub fn wait_for(
        &mut self,
        timeout: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Result<Event, WireError> {
        if let Some(at) = self.stash.iter().position(&mut wanted) {
            let event = self.stash.remove(at).expect("position found it");
            return Ok(self.taken(event));
        }
        let deadline = Instant::now() + timeout;
        loop {
            let event = self.event_from_wire(deadline)?;
            if wanted(&event) {
                return Ok(self.taken(event));
            }
            self.stash.push_back(event);
        }
    }

    /// A test has it: it is held no longer.
    fn taken(&mut self, event: Event) -> Event {
        if let Event::Message(channel, payload) = &event {
            self.held[usize::from(*channel)] -= (payload.len() + FRAME_COST) as i64;
            self.pay_back(*channel);
        }
        event
    }

    /// The receiver's account: it owes what is neither held nor outstanding, from half a window on.
    fn pay_back(&mut self, channel: u8) {
        let at = usize::from(channel);
        let window = i64::from(self.window);
        let owed = window - self.held[at] - self.receive_credit[at];
        if self.auto_credit && owed > 0 && 2 * owed >= window && self.is_between_frames() {
            self.grant(channel, owed as u32);
        }
    }

    pub(super) fn event_from_wire(&mut self, deadline: Instant) -> Result<Event, WireError> {
        loop {
            let frame = self.read_frame_by(deadline)?;
            return Ok(match frame {
                Frame::Data { channel, more, payload } => {
                    let at = usize::from(channel);
                    let mut whole = self.partial[at].take().unwrap_or_default();
                    whole.extend_from_slice(&payload);
                    if more {
                        self.partial[at] = Some(whole);
                        self.pay_back(channel);
                        continue;
                    }
                    self.held[at] += (whole.len() + FRAME_COST) as i64;
                    Event::Message(channel, whole)
                }
                Frame::Credit { channel, amount } => Event::Credit(channel, amount),
                Frame::Finish { channel } => Event::Finish(channel),
                Frame::Reset { channel, code } => {
                    self.partial[usize::from(channel)] = None;
                    self.pay_back(channel);
                    Event::Reset(channel, code)
                }
                Frame::Stop { channel, code, run } => Event::Stop(channel, code, run),
                Frame::Ping(number) => {
                    if self.auto_pong && self.sent_close.is_none() && self.is_between_frames() {
                        self.try_send_bytes(&pong(number));
                    }
                    Event::Ping(number)
                }
                Frame::Pong(number) => Event::Pong(number),
                Frame::Ack(offset) => Event::Ack(offset),
                Frame::Waiting { channel, waiting, count } => Event::Waiting(channel, waiting, count),
                Frame::Interrupt => Event::Interrupt,
                Frame::Close { code, reason } => Event::Close(code, reason),
                Frame::Gap { channel, messages, bytes } => Event::Gap(channel, messages, bytes),
                Frame::Extension { .. } => unreachable!("the books refuse it"),
            });
        }
    }
}
