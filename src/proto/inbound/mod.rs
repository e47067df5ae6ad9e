//! The receiving half of a session: finds the frames in the bytes, checks them, and hands over
//! what is whole. What each channel may hold is the business of its `account`.

use super::credit::cost;
use super::frame::{Control, WORD, Word};
use super::violation::Violation;
use crate::id::{ChannelId, ChannelSet};

mod account;
mod control;
mod effects;

use account::Accounts;
pub(crate) use account::{Count, Due, Limits};
pub(crate) use effects::{Budget, Effects, PeerRights, Runs, Stop, Taken, Waiting};

/// Messages up to this size are handed over framed, many in one piece; larger ones each have a
/// buffer of their own, so that none of them pins more memory than it has.
pub(crate) const SMALL: usize = 4096;
/// About how long a piece of framed messages gets.
pub(crate) const PIECE: usize = 16 * 1024;
/// Room behind a large payload for the beginning of what follows it: then one read fetches a
/// payload and the next word.
pub(crate) const LOOKAHEAD: usize = 64;

/// Takes what the peer sent, in order.
pub(crate) trait Deliver {
    /// Whole small messages of one channel, and FINISH, RESET and GAP, as they are on the wire.
    fn frames(&mut self, channel: ChannelId, frames: &[u8], messages: u32);
    /// An empty buffer with room for a large message of so many bytes.
    fn buffer(&mut self, room: usize) -> Vec<u8> {
        Vec::with_capacity(room)
    }
    /// One large message.
    fn message(&mut self, channel: ChannelId, payload: Vec<u8>);
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
    rights: PeerRights,
    accounts: Accounts,
    partial: Partial,
    received: u64,
    closed: bool,
    /// The last data frame was a large one.
    large: bool,
    /// Channels with a run that has begun and not ended.
    open: ChannelSet,
    /// Channels with a run that has ended since `take_runs`.
    ended: ChannelSet,
    /// Channels of which something merged may be handed over.
    merged: ChannelSet,
    effects: Effects,
    /// A control frame came, so there may be effects.
    has_effects: bool,
    /// Something else than an ACK came in, so the peer should learn that we have it.
    wants_ack: bool,
}

impl Inbound {
    pub(crate) fn new(limits: Limits, rights: PeerRights) -> Self {
        Self {
            rights,
            accounts: Accounts::new(limits),
            partial: Partial::Stash(Vec::new()),
            received: 0,
            closed: false,
            large: false,
            open: ChannelSet::EMPTY,
            ended: ChannelSet::EMPTY,
            merged: ChannelSet::EMPTY,
            effects: Effects::default(),
            has_effects: false,
            wants_ack: false,
        }
    }

    /// The peer is there, and this is what it may do. Nothing was received yet.
    pub(crate) fn meet(&mut self, rights: PeerRights) {
        self.rights = rights;
    }

    /// Takes the next bytes of the stream, cut anywhere, from the front of `input`; what is left
    /// when the budget is spent is for the next call.
    pub(crate) fn handle(
        &mut self,
        input: &mut &[u8],
        budget: &mut Budget,
        out: &mut impl Deliver,
    ) -> Result<(), Violation> {
        let before = input.len();
        let result = self.handle_frames(input, budget, out);
        // Nothing behind a violation counts as received.
        self.received += (before - input.len()) as u64;
        result
    }

    fn handle_frames(
        &mut self,
        input: &mut &[u8],
        budget: &mut Budget,
        out: &mut impl Deliver,
    ) -> Result<(), Violation> {
        if !self.resume(input, out)? {
            return Ok(());
        }
        while !budget.is_spent() {
            let messages = self.take_run(input, out)?;
            budget.spend(messages);
            if messages == 0 {
                budget.spend(Budget::CAREFUL);
                if !self.take_frame(input, out)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// While a large payload is arriving: the buffer that it goes to. The driver may append what
    /// comes next in the stream, as much as there is room for, and then calls `handle_payload`.
    pub(crate) fn payload_buffer(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.partial {
            Partial::Payload { buffer, .. } => Some(buffer),
            Partial::Stash(_) => None,
        }
    }

    /// Returns `true` if another large message is likely to follow.
    pub(crate) fn expects_large(&self) -> bool {
        self.large
    }

    /// Takes what the driver appended to the payload buffer: `new` bytes.
    pub(crate) fn handle_payload(&mut self, new: usize, out: &mut impl Deliver) -> Result<(), Violation> {
        let Partial::Payload { buffer, end, .. } = &mut self.partial else { return Ok(()) };
        // Its word asked for an ACK, which may have gone out since.
        self.wants_ack = true;
        if buffer.len() < *end {
            self.received += new as u64;
            return Ok(());
        }
        let tail = buffer.len() - *end;
        self.received += (new - tail) as u64;
        // The buffer has room for a few frames behind the payload and no more, so they need no
        // budget of their own.
        let mut ahead = [0; LOOKAHEAD];
        let kept;
        let mut rest = if tail <= LOOKAHEAD {
            ahead[..tail].copy_from_slice(&buffer[*end..]);
            &ahead[..tail]
        } else {
            kept = buffer[*end..].to_vec();
            &kept[..]
        };
        buffer.truncate(*end);
        self.finish_payload(out);
        self.handle(&mut rest, &mut Budget(u32::MAX), out)
    }

    /// Goes on with a frame whose beginning came before; `true` once that is done.
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
                self.check_word(word)?;
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
                self.wants_ack |= !input.is_empty();
                move_front(input, buffer, end);
                if buffer.len() < end {
                    return Ok(false);
                }
                self.finish_payload(out);
                Ok(true)
            }
        }
    }

    /// Checks what a word alone shows.
    fn check_word(&self, word: Word) -> Result<(), Violation> {
        if self.closed && !word.is_control() {
            return Err(Violation::AfterClose);
        }
        word.check()
    }

    /// The fast path: whole small messages of one channel, handed over in one piece; how many.
    fn take_run(&mut self, input: &mut &[u8], out: &mut impl Deliver) -> Result<u32, Violation> {
        let Some(first) = Word::first_of(input) else { return Ok(0) };
        // Longer ones, and those above the limit, go the careful way.
        let longest = SMALL.min(self.accounts.limits.max_message as usize);
        if !first.is_whole_message()
            || first.len() > longest
            || input.len() < WORD + first.len()
            || self.closed
        {
            return Ok(0);
        }
        let place = self.place(first.channel())?;
        let channel = self.accounts.at(place);
        if channel.assembly.is_some() || channel.has_merged() {
            return Ok(0);
        }
        let mut credit = channel.outstanding();
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
            channel.hold_run(credit, messages, at - WORD * messages as usize);
            self.open.insert(first.channel());
            self.wants_ack = true;
            self.large = false;
            let (run, rest) = input.split_at(at);
            out.frames(first.channel(), run, messages);
            *input = rest;
        }
        Ok(messages)
    }

    /// One frame of any kind; `true` if there may be another.
    fn take_frame(&mut self, input: &mut &[u8], out: &mut impl Deliver) -> Result<bool, Violation> {
        let Some(word) = Word::first_of(input) else {
            self.stash(input);
            return Ok(false);
        };
        self.check_word(word)?;
        let whole = WORD + word.len();
        if input.len() >= whole {
            let (frame, rest) = input.split_at(whole);
            self.handle_frame(word, frame, out)?;
            *input = rest;
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
        let channel = self.accounts.at(place);
        if word.has_more() || channel.assembly.is_some() {
            let mut assembly = channel.assembly.take().unwrap_or_default();
            self.accounts.make_room(place, &mut assembly, payload.len(), 0);
            assembly.extend_from_slice(payload);
            self.accounts.at(place).assembly = Some(assembly);
            self.accounts.assemble(place, payload.len());
            if !word.has_more() {
                let message = self.accounts.at(place).assembly.take().unwrap_or_default();
                self.complete(place, message, out);
            }
        } else if payload.len() > SMALL {
            let mut message = out.buffer(payload.len());
            message.extend_from_slice(payload);
            self.accounts.assemble(place, payload.len());
            self.complete(place, message, out);
        } else {
            channel.hold(payload.len());
            self.deliver(place, 1, frame, out);
        }
        Ok(())
    }

    /// Checks a data frame by its word alone and takes its credit; nothing is allocated before.
    fn admit(&mut self, word: Word) -> Result<usize, Violation> {
        let place = self.place(word.channel())?;
        self.accounts.spend(place, word.len())?;
        self.open.insert(word.channel());
        self.large = word.len() > SMALL;
        self.wants_ack = true;
        Ok(place)
    }

    fn begin_payload(&mut self, word: Word, out: &mut impl Deliver) -> Result<(), Violation> {
        let place = self.admit(word)?;
        let mut buffer = self.accounts.at(place).assembly.take().unwrap_or_default();
        let end = buffer.len() + word.len();
        if buffer.is_empty() {
            buffer = out.buffer(word.len() + LOOKAHEAD);
        } else {
            self.accounts.make_room(place, &mut buffer, word.len(), LOOKAHEAD);
        }
        self.accounts.assemble(place, word.len());
        self.partial = Partial::Payload { place, more: word.has_more(), buffer, end };
        Ok(())
    }

    fn finish_payload(&mut self, out: &mut impl Deliver) {
        let between = Partial::Stash(Vec::new());
        if let Partial::Payload { place, more, buffer, .. } = std::mem::replace(&mut self.partial, between) {
            if more {
                self.accounts.at(place).assembly = Some(buffer);
            } else {
                self.complete(place, buffer, out);
            }
        }
    }

    /// Hands over a message that came in a buffer of its own.
    fn complete(&mut self, place: usize, mut message: Vec<u8>, out: &mut impl Deliver) {
        self.accounts.assembly_over(place);
        let channel = self.accounts.at(place);
        let id = channel.id;
        channel.hold(message.len());
        if message.len() > SMALL {
            self.deliver(place, 0, &[], out);
            if message.capacity() - message.len() > LOOKAHEAD.max(message.len() / 8) {
                message.shrink_to_fit();
            }
            out.message(id, message);
        } else {
            let mut frame = Vec::with_capacity(WORD + message.len());
            frame.extend_from_slice(&Word::data(id, false, message.len()).to_bytes());
            frame.extend_from_slice(&message);
            self.deliver(place, 1, &frame, out);
        }
    }

    /// Hands frames of a channel over, behind what was merged.
    fn deliver(&mut self, place: usize, messages: u32, frames: &[u8], out: &mut impl Deliver) {
        let channel = self.accounts.at(place);
        let id = channel.id;
        if channel.has_merged() {
            let mut merged = Vec::new();
            channel.release_merged(&mut merged);
            self.merged.remove(id);
            out.frames(id, &merged, 0);
        }
        if !frames.is_empty() {
            out.frames(id, frames, messages);
        }
    }

    /// The place of a channel that the peer may send on.
    fn place(&mut self, id: ChannelId) -> Result<usize, Violation> {
        if let Some(place) = self.accounts.place(id) {
            return Ok(place);
        }
        if !self.rights.send.contains(id) {
            return Err(Violation::MayNotSend(id));
        }
        Ok(self.accounts.place_or_insert(id))
    }

    /// The application took something, or it was discarded for it.
    pub(crate) fn handle_taken(&mut self, taken: Taken) {
        self.accounts.taken(taken);
    }

    /// Returns `true` if something was merged and not handed over yet.
    pub(crate) fn has_merged(&self) -> bool {
        !self.merged.is_empty()
    }

    /// Hands over what was merged where enough was read by now.
    pub(crate) fn poll_merged(&mut self, out: &mut impl Deliver) {
        for id in self.merged.iter() {
            let Some(place) = self.accounts.place(id) else { continue };
            if self.accounts.at(place).has_room_for_merged() {
                self.deliver(place, 0, &[], out);
            }
        }
    }

    /// Credit that is due, and from which cost on the application is to report what it takes.
    pub(crate) fn poll_due(&mut self) -> Option<Due> {
        self.accounts.poll()
    }

    /// Takes out what arrived for others than the receive queues.
    pub(crate) fn take_effects(&mut self) -> Option<Effects> {
        std::mem::take(&mut self.has_effects).then(|| std::mem::take(&mut self.effects))
    }

    /// Returns `true` if something else than an ACK came since the last call.
    pub(crate) fn take_wants_ack(&mut self) -> bool {
        std::mem::take(&mut self.wants_ack)
    }

    /// Returns `true` if a STOP has come that was not taken out.
    pub(crate) fn has_stops(&self) -> bool {
        !self.effects.stops.is_empty()
    }

    /// How many bytes of the peer's stream have been received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Returns `true` if the peer's CLOSE has come.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// What the receive queues are told of runs.
    pub(crate) fn take_runs(&mut self) -> Runs {
        let ended = std::mem::take(&mut self.ended);
        Runs { open: self.open, ended: ended.iter().map(|id| (id, self.accounts.run(id))).collect() }
    }

    /// The number of a channel's newest run: how many have ended, modulo 2³².
    pub(crate) fn run(&self, id: ChannelId) -> u32 {
        self.accounts.run(id)
    }

    /// Whole messages received on a channel in this session, modulo 2³².
    pub(crate) fn messages(&self, id: ChannelId) -> u32 {
        self.accounts.messages(id)
    }

    /// Nothing more is parsed: drops what is unfinished.
    pub(crate) fn forget_unfinished(&mut self) {
        self.partial = Partial::Stash(Vec::new());
        self.accounts.forget_unfinished();
    }

    /// What all unfinished messages hold, in bytes.
    pub(crate) fn assembled(&self) -> usize {
        self.accounts.all_assembled()
    }

    /// What is known of the channels, in bytes that are allocated.
    pub(crate) fn table(&self) -> usize {
        self.accounts.table()
    }

    /// What came on each channel that was used.
    pub(crate) fn counts(&self) -> impl Iterator<Item = Count> {
        self.accounts.counts()
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn check_invariants(&self) {
        self.accounts.check();
    }
}

/// Moves bytes from the front of `input` to the end of `to`, up to a length of `len`.
fn move_front(input: &mut &[u8], to: &mut Vec<u8>, len: usize) {
    let (front, rest) = input.split_at(input.len().min(len.saturating_sub(to.len())));
    to.extend_from_slice(front);
    *input = rest;
}
