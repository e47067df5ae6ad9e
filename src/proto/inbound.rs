//! The receiving half of a session: finds the frames in the bytes, checks them, and keeps account
//! of the credit that the peer has.
//!
//! Per channel, with every message counted as its length + 32 ([`cost`]):
//!
//! - `outstanding`: what the peer may still send,
//! - `held`: whole messages that the application has not taken yet,
//! - the assembly: fragments of a message that is not complete yet.
//!
//! Credit is returned only up to `window - held - outstanding`, so `held + outstanding` is at most
//! the window when credit is returned, and at most one assembly is added to it. A channel thus
//! never holds more than its window and one largest message, whatever the peer sends: fragments
//! are credited back as they arrive, but not once more for a message that waits to be taken.

use super::credit::{Credit, cost};
use super::frame::{Control, End, Violation, WORD, Word};
use super::table::Table;
use crate::error::CloseCode;
use crate::id::{ChannelId, ChannelSet};

/// Messages up to this size are handed over framed, many in one piece; larger ones each have a
/// buffer of their own, so that none of them pins more memory than it has.
pub(crate) const SMALL: usize = 4096;
/// About how long a piece of framed messages gets.
pub(crate) const PIECE: usize = 16 * 1024;
/// Room behind a large payload for the beginning of what follows it: then one read fetches a
/// payload and the next word.
pub(crate) const LOOKAHEAD: usize = 64;
/// Ends of empty runs that may wait to be read per channel. They cost no credit, so what comes
/// above is merged with them.
const EMPTY_ENDS: u32 = 16;

/// Takes what the peer sent, in order.
pub(crate) trait Deliver {
    /// Whole small messages of one channel, and FINISH and RESET, as they are on the wire.
    fn frames(&mut self, channel: ChannelId, frames: &[u8], messages: u32);
    /// An empty buffer with room for a large message of so many bytes.
    fn buffer(&mut self, room: usize) -> Vec<u8> {
        Vec::with_capacity(room)
    }
    /// One large message.
    fn message(&mut self, channel: ChannelId, payload: Vec<u8>);
}

/// What arrived for others than the receive queues. All of it is state that is merged, not a
/// queue: a peer that repeats itself makes it no larger (trap 7).
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) credits: Vec<(ChannelId, u32)>,
    pub(crate) stops: Vec<(ChannelId, u32)>,
    pub(crate) ping: Option<u64>,
    pub(crate) pong: Option<u64>,
    pub(crate) ack: Option<u64>,
    pub(crate) close: Option<(CloseCode, String)>,
    pub(crate) interrupt: bool,
    pub(crate) gaps: Vec<(ChannelId, u64, u64)>,
    /// Channels whose WAITING changed.
    pub(crate) waiting_changed: bool,
    /// Something else than an ACK came in, so the peer should learn that we have it.
    pub(crate) wants_ack: bool,
}

/// What the application took from a channel since it last said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) channel: ChannelId,
    pub(crate) cost: u32,
    pub(crate) messages: u32,
    pub(crate) ends: u32,
}

impl Taken {
    pub(crate) fn none(channel: ChannelId) -> Self {
        Self { channel, cost: 0, messages: 0, ends: 0 }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.cost = self.cost.saturating_add(more.cost);
        self.messages += more.messages;
        self.ends += more.ends;
    }

    /// Adds it to the last entry of a list, if that is of the same channel.
    pub(crate) fn add_to(self, list: &mut Vec<Self>) {
        match list.last_mut() {
            Some(last) if last.channel == self.channel => last.add(self),
            _ => list.push(self),
        }
    }
}

/// Counts of one channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) channel: ChannelId,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) credit: u32,
    pub(crate) unread_cost: u64,
    pub(crate) unread_messages: u64,
}

#[derive(Debug)]
struct Channel {
    id: ChannelId,
    outstanding: Credit,
    held: u64,
    /// How many messages that is.
    held_messages: u64,
    /// Ends of runs that were not read yet.
    ends: u32,
    assembly: Option<Vec<u8>>,
    messages: u64,
    bytes: u64,
}

/// A frame of which only the beginning is there.
#[derive(Debug)]
enum Partial {
    /// Bytes of a small frame; empty between frames.
    Stash(Vec<u8>),
    /// A large payload that goes straight into the buffer of its message, up to `end`.
    Payload { place: usize, more: bool, buffer: Vec<u8>, end: usize },
}

#[derive(Debug)]
pub(crate) struct Inbound {
    window: Credit,
    max_message: u32,
    may_send: ChannelSet,
    may_interrupt: bool,
    channels: Table<Channel>,
    partial: Partial,
    received: u64,
    closed: bool,
    /// The last data frame was a large one.
    large: bool,
    /// Channels whose credit may be due.
    due: ChannelSet,
    open: ChannelSet,
    /// Channels on which the peer has a blocked reader.
    waiting: ChannelSet,
    effects: Effects,
}

impl Inbound {
    /// `window` and `max_message` are what this side granted, the rest what the peer may do.
    pub(crate) fn new(window: Credit, max_message: u32, may_send: ChannelSet, may_interrupt: bool) -> Self {
        Self {
            window,
            max_message,
            may_send,
            may_interrupt,
            channels: Table::new(),
            partial: Partial::Stash(Vec::new()),
            received: 0,
            closed: false,
            large: false,
            due: ChannelSet::EMPTY,
            open: ChannelSet::EMPTY,
            waiting: ChannelSet::EMPTY,
            effects: Effects::default(),
        }
    }

    /// The peer is there, and this is what it may do. Nothing was received yet.
    pub(crate) fn settle(&mut self, may_send: ChannelSet) {
        self.may_send = may_send;
    }

    /// Takes the next bytes of the stream, cut anywhere.
    pub(crate) fn handle(&mut self, mut input: &[u8], out: &mut impl Deliver) -> Result<(), Violation> {
        self.received += input.len() as u64;
        if !self.resume(&mut input, out)? {
            return Ok(());
        }
        while !self.closed && (self.take_run(&mut input, out)? || self.take_frame(&mut input, out)?) {}
        Ok(())
    }

    /// While a large payload is arriving: the buffer that it goes to. The driver may append what
    /// comes next in the stream, as much as there is room for, and then calls `handle_payload`.
    pub(crate) fn payload_buffer(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.partial {
            Partial::Payload { buffer, .. } if !self.closed => Some(buffer),
            _ => None,
        }
    }

    /// Whether another large message is likely to follow.
    pub(crate) fn expects_large(&self) -> bool {
        self.large
    }

    /// Takes what the driver appended to the payload buffer: `new` bytes.
    pub(crate) fn handle_payload(&mut self, new: usize, out: &mut impl Deliver) -> Result<(), Violation> {
        let Partial::Payload { buffer, end, .. } = &mut self.partial else { return Ok(()) };
        self.received += new as u64;
        // Its word asked for an ACK, which may have gone out since.
        self.effects.wants_ack = true;
        if buffer.len() < *end {
            return Ok(());
        }
        let tail = buffer.len() - *end;
        if tail <= LOOKAHEAD {
            let mut ahead = [0; LOOKAHEAD];
            ahead[..tail].copy_from_slice(&buffer[*end..]);
            buffer.truncate(*end);
            self.received -= tail as u64;
            self.finish_payload(out);
            self.handle(&ahead[..tail], out)
        } else {
            let ahead = buffer.split_off(*end);
            self.received -= tail as u64;
            self.finish_payload(out);
            self.handle(&ahead, out)
        }
    }

    /// Goes on with a frame whose beginning came before; whether that is done.
    fn resume(&mut self, input: &mut &[u8], out: &mut impl Deliver) -> Result<bool, Violation> {
        match &mut self.partial {
            Partial::Stash(stash) if stash.is_empty() => Ok(true),
            Partial::Stash(stash) => {
                let mut stash = std::mem::take(stash);
                if stash.len() < WORD {
                    move_front(input, &mut stash, WORD);
                }
                let Some(word) = Word::first_of(&stash) else {
                    self.partial = Partial::Stash(stash);
                    return Ok(false);
                };
                word.check()?;
                if stash.len() == WORD && !word.is_control() && word.len() > SMALL {
                    // Only the word was there: its payload has a buffer of its own.
                    stash.clear();
                    self.partial = Partial::Stash(stash);
                    self.begin_payload(word, out)?;
                    return self.resume(input, out);
                }
                move_front(input, &mut stash, WORD + word.len());
                let whole = stash.len() == WORD + word.len();
                if whole {
                    self.handle_frame(word, &stash, out)?;
                    stash.clear();
                }
                self.partial = Partial::Stash(stash);
                Ok(whole)
            }
            Partial::Payload { buffer, end, .. } => {
                let end = *end;
                self.effects.wants_ack |= !input.is_empty();
                move_front(input, buffer, end);
                if buffer.len() < end {
                    return Ok(false);
                }
                self.finish_payload(out);
                Ok(true)
            }
        }
    }

    /// The fast path: whole small messages of one channel, handed over in one piece. Whether there
    /// were any.
    fn take_run(&mut self, input: &mut &[u8], out: &mut impl Deliver) -> Result<bool, Violation> {
        let Some(first) = Word::first_of(input) else { return Ok(false) };
        // Longer ones, and those above the limit, go the careful way.
        let longest = SMALL.min(self.max_message as usize);
        if !first.is_whole_message() || first.len() > longest || input.len() < WORD + first.len() {
            return Ok(false);
        }
        let place = self.place(first.channel())?;
        let channel = self.channels.at(place);
        if channel.assembly.is_some() {
            return Ok(false);
        }
        let mut credit = channel.outstanding;
        let mut at = 0;
        let mut messages = 0u32;
        while let Some(word) = Word::first_of(&input[at..]) {
            let end = at + WORD + word.len();
            let same = word.is_whole_message() && word.channel() == channel.id && word.len() <= longest;
            if !same || end > input.len() || credit.spend(cost(word.len())).is_none() {
                break;
            }
            at = end;
            messages += 1;
            if at >= PIECE {
                break;
            }
        }
        if messages > 0 {
            channel.held += u64::from(channel.outstanding.get() - credit.get());
            channel.outstanding = credit;
            self.open.insert(channel.id);
            channel.held_messages += u64::from(messages);
            channel.messages += u64::from(messages);
            channel.bytes += (at - WORD * messages as usize) as u64;
            self.effects.wants_ack = true;
            self.large = false;
            let (run, rest) = input.split_at(at);
            out.frames(channel.id, run, messages);
            *input = rest;
        }
        Ok(messages > 0)
    }

    /// One frame of any kind; whether there may be another.
    fn take_frame(&mut self, input: &mut &[u8], out: &mut impl Deliver) -> Result<bool, Violation> {
        let Some(word) = Word::first_of(input) else {
            self.stash(input);
            return Ok(false);
        };
        word.check()?;
        let whole = WORD + word.len();
        if input.len() >= whole {
            let (frame, rest) = input.split_at(whole);
            *input = rest;
            self.handle_frame(word, frame, out)?;
            return Ok(true);
        }
        if !word.is_control() && word.len() > SMALL {
            self.begin_payload(word, out)?;
            *input = &input[WORD..];
            return self.resume(input, out);
        }
        self.stash(input);
        Ok(false)
    }

    fn stash(&mut self, input: &mut &[u8]) {
        if let Partial::Stash(stash) = &mut self.partial {
            stash.extend_from_slice(input);
        }
        *input = &[];
    }

    /// One whole frame, `word` and all.
    fn handle_frame(&mut self, word: Word, frame: &[u8], out: &mut impl Deliver) -> Result<(), Violation> {
        let payload = &frame[WORD..];
        if word.is_control() {
            let control = Control::decode(word.channel(), payload)?;
            return self.handle_control(control, out);
        }
        let place = self.admit(word)?;
        let channel = self.channels.at(place);
        if word.has_more() || channel.assembly.is_some() {
            channel.assembly.get_or_insert_default().extend_from_slice(payload);
            if !word.has_more() {
                let message = channel.assembly.take().unwrap_or_default();
                self.complete(place, message, out);
            }
        } else if payload.len() > SMALL {
            let mut message = out.buffer(payload.len());
            message.extend_from_slice(payload);
            self.complete(place, message, out);
        } else {
            channel.held += u64::from(cost(payload.len()));
            channel.held_messages += 1;
            channel.messages += 1;
            channel.bytes += payload.len() as u64;
            out.frames(channel.id, frame, 1);
        }
        Ok(())
    }

    /// Checks a data frame by its word alone and takes its credit; nothing is allocated before.
    fn admit(&mut self, word: Word) -> Result<usize, Violation> {
        let place = self.place(word.channel())?;
        let (limit, window) = (self.max_message, self.window);
        let channel = self.channels.at(place);
        let cost = cost(word.len());
        if channel.outstanding.spend(cost).is_none() {
            return Err(Violation::NoCredit { channel: channel.id, cost, credit: channel.outstanding.get() });
        }
        let before = channel.assembly.as_ref().map_or(0, Vec::len);
        if before + word.len() > limit as usize {
            return Err(Violation::MessageTooLarge { channel: channel.id, limit });
        }
        self.open.insert(channel.id);
        self.large = word.len() > SMALL;
        self.effects.wants_ack = true;
        if word.has_more() && channel.owed(window) > 0 {
            self.due.insert(channel.id);
        }
        Ok(place)
    }

    fn begin_payload(&mut self, word: Word, out: &mut impl Deliver) -> Result<(), Violation> {
        let place = self.admit(word)?;
        let mut buffer = self.channels.at(place).assembly.take().unwrap_or_default();
        let end = buffer.len() + word.len();
        if buffer.is_empty() {
            buffer = out.buffer(word.len() + LOOKAHEAD);
        } else {
            buffer.reserve(word.len() + LOOKAHEAD);
        }
        self.partial = Partial::Payload { place, more: word.has_more(), buffer, end };
        Ok(())
    }

    fn finish_payload(&mut self, out: &mut impl Deliver) {
        let between = Partial::Stash(Vec::new());
        if let Partial::Payload { place, more, buffer, .. } = std::mem::replace(&mut self.partial, between) {
            if more {
                self.channels.at(place).assembly = Some(buffer);
            } else {
                self.complete(place, buffer, out);
            }
        }
    }

    /// Hands over a message that came in a buffer of its own.
    fn complete(&mut self, place: usize, message: Vec<u8>, out: &mut impl Deliver) {
        let channel = self.channels.at(place);
        // A message weighs its length + 32, in however many fragments it came.
        channel.held += u64::from(cost(message.len()));
        channel.held_messages += 1;
        channel.messages += 1;
        channel.bytes += message.len() as u64;
        self.due.insert(channel.id);
        if message.len() > SMALL {
            let mut message = message;
            if message.capacity() - message.len() > LOOKAHEAD.max(message.len() / 8) {
                message.shrink_to_fit();
            }
            out.message(channel.id, message);
        } else {
            let mut frame = Vec::with_capacity(WORD + message.len());
            frame.extend_from_slice(&Word::data(channel.id, false, message.len()).to_bytes());
            frame.extend_from_slice(&message);
            out.frames(channel.id, &frame, 1);
        }
    }

    fn handle_control(&mut self, control: Control, out: &mut impl Deliver) -> Result<(), Violation> {
        let effects = &mut self.effects;
        effects.wants_ack |= !matches!(control, Control::Ack(_));
        match control {
            Control::Credit { channel, bytes } => {
                match effects.credits.iter_mut().rfind(|(known, _)| *known == channel) {
                    Some((_, sum)) => {
                        *sum = sum.checked_add(bytes).ok_or(Violation::CreditOverflow(channel))?;
                    }
                    None => effects.credits.push((channel, bytes)),
                }
            }
            Control::End { channel, end } => self.handle_end(channel, end, out)?,
            Control::Stop { channel, code } => {
                if !effects.stops.iter().any(|(stopped, _)| *stopped == channel) {
                    effects.stops.push((channel, code));
                }
            }
            Control::Ping(number) => effects.ping = Some(number),
            Control::Pong(number) => effects.pong = Some(number),
            Control::Ack(offset) => effects.ack = effects.ack.max(Some(offset)),
            Control::Waiting { channel, waiting } => {
                effects.waiting_changed |=
                    if waiting { self.waiting.insert(channel) } else { self.waiting.remove(channel) };
            }
            Control::Interrupt if !self.may_interrupt => return Err(Violation::MayNotInterrupt),
            Control::Interrupt => effects.interrupt = true,
            Control::Close { code, reason } => {
                effects.close = Some((code, reason));
                self.closed = true;
            }
            Control::Gap { channel, messages, bytes } => {
                self.place(channel)?;
                match self.effects.gaps.iter_mut().find(|(gap, ..)| *gap == channel) {
                    Some((_, m, b)) => {
                        *m = m.saturating_add(messages);
                        *b = b.saturating_add(bytes);
                    }
                    None => self.effects.gaps.push((channel, messages, bytes)),
                }
            }
            Control::Extension => {}
        }
        Ok(())
    }

    fn handle_end(&mut self, id: ChannelId, end: End, out: &mut impl Deliver) -> Result<(), Violation> {
        let place = self.place(id)?;
        let channel = self.channels.at(place);
        if channel.assembly.take().is_some() && end == End::Finish {
            return Err(Violation::EndInsideMessage(id));
        }
        // What was assembled and is dropped now leaves room.
        self.due.insert(id);
        if !self.open.remove(id) && channel.ends >= EMPTY_ENDS {
            return Ok(());
        }
        channel.ends += 1;
        let mut frame = Vec::new();
        Control::End { channel: id, end }.encode(&mut frame);
        out.frames(id, &frame, 0);
        Ok(())
    }

    /// The place of a channel that the peer may send on.
    fn place(&mut self, id: ChannelId) -> Result<usize, Violation> {
        if let Some(place) = self.channels.place(id) {
            return Ok(place);
        }
        if !self.may_send.contains(id) {
            return Err(Violation::MayNotSend(id));
        }
        let outstanding = self.window;
        Ok(self.channels.place_or_insert(id, || Channel {
            id,
            outstanding,
            held: 0,
            held_messages: 0,
            ends: 0,
            assembly: None,
            messages: 0,
            bytes: 0,
        }))
    }

    /// The application took messages, or they were discarded for it.
    pub(crate) fn handle_taken(&mut self, taken: Taken) {
        if let Some(channel) = self.channels.get_mut(taken.channel) {
            channel.held = channel.held.saturating_sub(taken.cost.into());
            channel.held_messages = channel.held_messages.saturating_sub(taken.messages.into());
            channel.ends = channel.ends.saturating_sub(taken.ends);
            self.due.insert(taken.channel);
        }
    }

    /// Credit that is due: at least half a window of it (protocol, section 3). What is returned
    /// here counts as granted.
    pub(crate) fn poll_credit(&mut self) -> Option<(ChannelId, u32)> {
        while let Some(id) = self.due.iter().next() {
            self.due.remove(id);
            let Some(channel) = self.channels.get_mut(id) else { continue };
            let owed = channel.owed(self.window);
            if owed > 0 && owed >= self.window.get() / 2 && channel.outstanding.grant(owed).is_some() {
                return Some((id, owed));
            }
        }
        None
    }

    /// Takes out what arrived for others than the receive queues.
    pub(crate) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Whether a STOP has come that was not taken out.
    pub(crate) fn has_stops(&self) -> bool {
        !self.effects.stops.is_empty()
    }

    /// How many bytes of the peer's stream have been received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether the peer's CLOSE has come.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Channels with a run that has begun and not ended.
    pub(crate) fn open(&self) -> ChannelSet {
        self.open
    }

    /// Channels on which the peer has a reader that waits for us.
    pub(crate) fn waiting(&self) -> ChannelSet {
        self.waiting
    }

    /// What came on each channel that was used.
    pub(crate) fn counts(&self) -> impl Iterator<Item = Received> {
        self.channels.iter().map(|channel| Received {
            channel: channel.id,
            messages: channel.messages,
            bytes: channel.bytes,
            credit: channel.outstanding.get(),
            unread_cost: channel.held,
            unread_messages: channel.held_messages,
        })
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        for channel in self.channels.iter() {
            let assembling = channel.assembly.as_ref().map_or(0, Vec::len) as u64;
            let bound = u64::from(self.window.get()) + u64::from(cost(self.max_message as usize));
            assert!(channel.held + u64::from(channel.outstanding.get()) + assembling <= bound, "{channel:?}");
        }
    }
}

impl Channel {
    fn owed(&self, window: Credit) -> u32 {
        let free = u64::from(window.get()).saturating_sub(self.held);
        (free as u32).saturating_sub(self.outstanding.get())
    }
}

/// Moves bytes from the front of `input` to the end of `to`, up to a length of `len`.
fn move_front(input: &mut &[u8], to: &mut Vec<u8>, len: usize) {
    let (front, rest) = input.split_at(input.len().min(len.saturating_sub(to.len())));
    to.extend_from_slice(front);
    *input = rest;
}
