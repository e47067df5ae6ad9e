//! Pieces of a receive queue, and how a user thread takes messages out of them.
//!
//! Small messages stay framed, as they were on the wire, until they are taken: 4 bytes each, and
//! handing over a hundred of them is moving one piece.

use std::collections::VecDeque;

use bytes::Bytes;

use super::pool::Pool;
use crate::id::ChannelId;
use crate::message::{INLINE, Message};
use crate::proto::frame::{Control, End, WORD, Word};
use crate::proto::inbound::PIECE;
use crate::proto::segment::Spare;

#[derive(Debug)]
pub(crate) enum Item {
    /// Whole small messages, ends of runs and gaps, framed.
    Frames(Vec<u8>),
    /// One large message.
    Message(ChannelId, Bytes),
}

/// One thing taken out.
#[derive(Debug)]
pub(crate) enum Entry {
    Message(Message),
    End { channel: ChannelId, end: End, free_notes: u32 },
    Gap { channel: ChannelId, messages: u64, bytes: u64, free_notes: u32 },
}

/// What a receiver has taken out of its queue and not given to its caller yet.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) pieces: Pieces,
    /// The piece being taken apart; in `shared` once a message refers to it.
    piece: Vec<u8>,
    shared: Option<Bytes>,
    at: usize,
}

/// What comes next in a batch, as a reader of bytes sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peek {
    Bytes,
    EmptyMessage,
    /// An end or a gap.
    Note,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.items.is_empty() && self.at >= self.piece().len()
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces.messages
    }

    #[inline]
    fn piece(&self) -> &[u8] {
        match &self.shared {
            Some(bytes) => bytes,
            None => &self.piece,
        }
    }

    /// What is left, to be dropped elsewhere.
    pub(crate) fn into_rest(mut self) -> Pieces {
        let rest = self.piece()[self.at.min(self.piece().len())..].to_vec();
        if !rest.is_empty() {
            self.pieces.items.push_front(Item::Frames(rest));
        }
        self.pieces
    }

    /// The common case of [`next`](Batch::next): a small message in the middle of a piece. `None`:
    /// nothing was done.
    #[inline(always)]
    pub(crate) fn next_quickly(&mut self) -> Option<Message> {
        let piece = self.piece().get(self.at..)?;
        let word = Word::first_of(piece)?;
        if word.is_control() {
            return None;
        }
        let message = if word.len() <= INLINE {
            Message::inline_from(word.channel(), piece[WORD..].first_chunk()?, word.len())?
        } else {
            Message::shared(word.channel(), self.share(self.at + WORD, word.len()))
        };
        self.at += WORD + word.len();
        self.pieces.messages -= 1;
        Some(message)
    }

    pub(crate) fn next(&mut self, spare: &mut impl Spare) -> Option<Entry> {
        loop {
            let piece = self.piece();
            if let Some(word) = piece.get(self.at..).and_then(Word::first_of) {
                let channel = word.channel();
                let start = self.at + WORD;
                let end = start + word.len();
                let payload = &piece[start..end];
                if word.is_control() {
                    let free_notes = u32::from(word.has_more());
                    let control = Control::decode(channel, payload);
                    self.at = end;
                    match control {
                        Ok(Control::End { end, .. }) => {
                            return Some(Entry::End { channel, end, free_notes });
                        }
                        Ok(Control::Gap { messages, bytes, .. }) => {
                            return Some(self.gap(channel, messages, bytes, free_notes));
                        }
                        // The session put nothing else here.
                        _ => continue,
                    }
                }
                if let Some(message) = Message::inline(channel, payload) {
                    self.at = end;
                    self.pieces.messages -= 1;
                    return Some(Entry::Message(message));
                }
                self.at = end;
                self.pieces.messages -= 1;
                let bytes = self.share(start, end - start);
                return Some(Entry::Message(Message::shared(channel, bytes)));
            }
            self.recycle(spare);
            match self.pieces.items.pop_front()? {
                Item::Message(channel, bytes) => {
                    self.pieces.messages -= 1;
                    return Some(Entry::Message(Message::shared(channel, bytes)));
                }
                Item::Frames(frames) => self.piece = frames,
            }
        }
    }

    /// A gap, with those of the same channel that follow it.
    fn gap(&mut self, channel: ChannelId, mut messages: u64, mut bytes: u64, mut free_notes: u32) -> Entry {
        while let Some(word) = self.piece().get(self.at..).and_then(Word::first_of)
            && word.is_control()
            && word.channel() == channel
            && let start = self.at + WORD
            && let Ok(Control::Gap { messages: m, bytes: b, .. }) =
                Control::decode(channel, &self.piece()[start..start + word.len()])
        {
            messages = messages.saturating_add(m);
            bytes = bytes.saturating_add(b);
            free_notes += u32::from(word.has_more());
            self.at = start + word.len();
        }
        Entry::Gap { channel, messages, bytes, free_notes }
    }

    /// What comes next; `None` if nothing is there.
    pub(crate) fn peek(&self) -> Option<Peek> {
        let next = match self.piece().get(self.at..).and_then(Word::first_of) {
            Some(word) => word,
            None => match self.pieces.items.front()? {
                Item::Message(_, bytes) if bytes.is_empty() => return Some(Peek::EmptyMessage),
                Item::Message(..) => return Some(Peek::Bytes),
                Item::Frames(frames) => Word::first_of(frames)?,
            },
        };
        Some(match next.is_control() {
            true => Peek::Note,
            false if next.len() == 0 => Peek::EmptyMessage,
            false => Peek::Bytes,
        })
    }

    /// A part of the piece at hand, without a copy.
    #[inline(never)]
    fn share(&mut self, start: usize, len: usize) -> Bytes {
        let shared = self.shared.get_or_insert_with(|| Bytes::from(std::mem::take(&mut self.piece)));
        shared.slice(start..start + len)
    }

    fn recycle(&mut self, spare: &mut impl Spare) {
        self.at = 0;
        let piece = std::mem::take(&mut self.piece);
        match self.shared.take() {
            Some(shared) if shared.is_unique() => spare.put(Vec::from(shared)),
            Some(_) => {}
            None if piece.capacity() > 0 => spare.put(piece),
            None => {}
        }
    }
}

/// What a queue holds beyond what is taken, walked through without taking it.
pub(crate) fn for_each(item: &Item, mut visit: impl FnMut(ChannelId, Framed<'_>)) {
    match item {
        Item::Message(channel, bytes) => visit(*channel, Framed::Message(bytes)),
        Item::Frames(frames) => {
            let mut rest = &frames[..];
            while let Some(word) = Word::first_of(rest) {
                let (frame, after) = rest.split_at(WORD + word.len());
                rest = after;
                if word.is_control() {
                    visit(word.channel(), Framed::Note(frame));
                } else {
                    visit(word.channel(), Framed::Small(frame));
                }
            }
        }
    }
}

/// Leaves a piece its own size; its buffer.
#[cold]
fn cut(piece: &mut Vec<u8>) -> Vec<u8> {
    let exact = piece.as_slice().to_vec();
    std::mem::replace(piece, exact)
}

/// How much of the beginning of `frames` is whole frames and has room in `free` bytes.
fn whole_frames(frames: &[u8], free: usize) -> usize {
    let mut len = 0;
    while let Some(word) = Word::first_of(&frames[len..]) {
        if len + WORD + word.len() > free {
            break;
        }
        len += WORD + word.len();
    }
    len
}

impl Framed<'_> {
    /// Returns `true` for the end of a run.
    pub(crate) fn is_end(self) -> bool {
        match self {
            Self::Note(frame) => {
                let word = Word::first_of(frame);
                let control = word.map(|word| Control::decode(word.channel(), &frame[WORD..]));
                matches!(control, Some(Ok(Control::End { .. })))
            }
            Self::Small(_) | Self::Message(_) => false,
        }
    }
}

/// One thing in an [`Item`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Framed<'a> {
    /// A small message with its word.
    Small(&'a [u8]),
    /// An end of a run or a gap, framed.
    Note(&'a [u8]),
    /// A large message.
    Message(&'a Bytes),
}

/// Pieces in order, appended to at the end.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pub(crate) items: VecDeque<Item>,
    /// How many messages are in them.
    pub(crate) messages: usize,
}

impl Pieces {
    /// What they hold, in bytes that are allocated.
    pub(crate) fn memory(&self) -> usize {
        let items = self.items.iter().map(|item| match item {
            Item::Frames(frames) => frames.capacity(),
            Item::Message(_, bytes) => bytes.len(),
        });
        items.sum::<usize>() + self.items.capacity() * size_of::<Item>()
    }

    /// Cuts the last piece to size if it is mostly air: a large message follows, so nothing more is
    /// appended to it.
    fn trim(&mut self, spare: &mut impl Spare) {
        if let Some(Item::Frames(last)) = self.items.back_mut()
            && last.len() * 2 < last.capacity()
        {
            spare.put(cut(last));
        }
    }

    /// Appends one large message.
    pub(crate) fn push_message(&mut self, channel: ChannelId, bytes: Bytes, spare: &mut impl Spare) {
        self.trim(spare);
        self.messages += 1;
        self.items.push_back(Item::Message(channel, bytes));
    }

    /// Appends frames with so many messages in them: as many as fit to the last piece, so that
    /// pieces that wait are full, and the rest to a new one.
    pub(crate) fn push_frames(&mut self, mut frames: &[u8], messages: usize, spare: &mut impl Spare) {
        self.messages += messages;
        let mut room = frames.len();
        if let Some(Item::Frames(last)) = self.items.back_mut() {
            let free = last.capacity() - last.len();
            let fit = if frames.len() <= free { frames.len() } else { whole_frames(frames, free) };
            let (front, rest) = frames.split_at(fit);
            last.extend_from_slice(front);
            if rest.is_empty() {
                return;
            }
            frames = rest;
            // What follows a full piece is likely to fill one too, and a larger one.
            room = frames.len().max(PIECE.min(2 * last.len()));
        }
        // A piece between the sizes that are kept has a buffer of its own size: with large messages in
        // between, no piece gets full.
        let own = (2049..PIECE).contains(&room);
        let mut piece = if own { Vec::with_capacity(room) } else { spare.take(room) };
        piece.extend_from_slice(frames);
        self.items.push_back(Item::Frames(piece));
    }

    /// Appends one thing of another item.
    pub(crate) fn push(&mut self, channel: ChannelId, framed: Framed<'_>, mut pool: &Pool) {
        match framed {
            Framed::Small(frame) => self.push_frames(frame, 1, &mut pool),
            Framed::Note(frame) => self.push_frames(frame, 0, &mut pool),
            Framed::Message(bytes) => self.push_message(channel, bytes.clone(), &mut pool),
        }
    }

    /// Appends what another has, which is left empty. A piece that is mostly air is copied to the
    /// end of the last one when there is a backlog, so that little arriving at a time does not
    /// hold a buffer each time.
    pub(crate) fn append(&mut self, other: &mut Pieces, spare: &mut impl Spare) {
        if self.items.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        self.messages += std::mem::take(&mut other.messages);
        if let Some(Item::Frames(first)) = other.items.front() {
            let roomy = first.len() * 2 < first.capacity();
            match self.items.back_mut() {
                Some(Item::Frames(last))
                    if last.capacity() - last.len() >= first.len()
                        || (roomy && last.len() + first.len() <= PIECE) =>
                {
                    last.extend_from_slice(first);
                    if let Some(Item::Frames(first)) = other.items.pop_front() {
                        spare.put(first);
                    }
                }
                _ if roomy => {
                    let exact = first.clone();
                    if let Some(Item::Frames(first)) = other.items.pop_front() {
                        spare.put(first);
                    }
                    self.items.push_back(Item::Frames(exact));
                }
                _ => {}
            }
        } else {
            self.trim(spare);
        }
        self.items.append(&mut other.items);
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use super::*;
    use crate::proto::frame::FRAME_COST;

    /// Small messages between large ones never fill a piece.
    #[test]
    fn unread_messages_hold_less_than_twice_what_they_cost_however_they_are_mixed() {
        let pool = Pool::default();
        for small in [1, 100, 1500, 2045, 2046, 3000, 4096] {
            for run in [1, 2, 5] {
                let (mut pieces, mut cost) = (Pieces::default(), 0);
                for _ in 0..100 {
                    for _ in 0..run {
                        let mut frame = Word::data(ChannelId::new(1), false, small).to_bytes().to_vec();
                        frame.resize(WORD + small, 7);
                        pieces.push_frames(&frame, 1, &mut &pool);
                        cost += small + FRAME_COST as usize;
                    }
                    pieces.push_message(ChannelId::new(1), Bytes::from(vec![7; 4097]), &mut &pool);
                    cost += 4097 + FRAME_COST as usize;
                }
                let held: usize = pieces
                    .items
                    .iter()
                    .map(|item| match item {
                        Item::Frames(piece) => piece.capacity(),
                        Item::Message(_, message) => message.len(),
                    })
                    .sum();
                assert!(held < 2 * cost, "{run} of {small} bytes: {held} for {cost}");
            }
        }
    }
}
