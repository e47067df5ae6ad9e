//! The sending half of a session: checks credit, encodes, and keeps what waits for the socket.
//!
//! It lives behind the send queue's lock: user threads offer messages, the I/O thread applies what
//! the peer granted and takes encoded segments.
//!
//! - Credit is checked before a frame enters a lane, so what is in a lane can always be sent.
//! - A message is accepted whole or not at all. Of one that has more than the credit at hand, the
//!   first fragments enter a lane and the rest is *staged* with the channel; it follows as credit
//!   comes, whatever the sender does meanwhile (trap 10).

use std::collections::VecDeque;

use bytes::Bytes;

use super::credit::{Credit, cost};
use super::frame::{Control, End, FRAME_COST, MAX_DATA, Violation, WORD, Word};
use super::segment::{Segment, Spare};
use super::table::Table;
use crate::id::{ChannelId, ChannelSet};

mod settle;

pub(crate) use settle::Conflict;
use settle::Waiting;

/// A shared payload above this size is referred to instead of copied.
const COPY: usize = 4096;
/// A fragment that is not a message's last is not made smaller than this without need.
const LEAST_FRAGMENT: usize = 4096;
/// Ends of runs that may wait behind a staged message.
const ENDS: usize = 16;
/// A full segment; a frame of any size fits.
pub(crate) const SEGMENT: usize = 64 * 1024 + WORD;
/// The first segment of a lane that was empty: a single small message should not hold a full one.
const FIRST_SEGMENT: usize = 2048;

/// Which messages go first.
///
/// ```
/// # use trunkline::{ChannelId, Config, Connection, Key, Priority};
/// const CONTROL: ChannelId = ChannelId::new(3);
/// let (here, there) = Connection::pair(Config::new(Key::generate()))?;
/// let control = here.sender_with(CONTROL, Priority::Urgent)?;
/// control.send("interrupt")?;
/// assert_eq!(&*there.receiver(CONTROL)?.recv()?, b"interrupt");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Priority {
    /// Ahead of everything normal that waits: control, interrupts, answers a person waits for.
    Urgent,
    /// In the order in which it was sent, across all channels of this priority.
    #[default]
    Normal,
}

/// A message that is offered.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    Slice(&'a [u8]),
    Shared(&'a Bytes),
}

impl Payload<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Slice(slice) => slice,
            Self::Shared(bytes) => bytes,
        }
    }

    fn slice(&self, from: usize, to: usize) -> Payload<'_> {
        Payload::Slice(&self.as_slice()[from..to])
    }

    fn to_bytes(self, from: usize) -> Bytes {
        match self {
            Self::Slice(slice) => Bytes::copy_from_slice(&slice[from..]),
            Self::Shared(bytes) => bytes.slice(from..),
        }
    }
}

/// Why a message was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// The channel has too little credit, or an earlier message is not all out.
    Credit,
    /// The lanes hold as much as they may.
    QueueFull,
    /// The message is larger than the peer takes.
    TooLarge(u32),
    /// The peer stopped the run that this sender belongs to.
    Stopped(u32),
}

#[derive(Debug, Default)]
struct Lane {
    full: VecDeque<Segment>,
    /// The segment that the next frame is appended to.
    open: Vec<u8>,
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.full.is_empty()
    }

    /// Room for `len` more bytes at the end of the lane, in a segment of about `longest` at most.
    fn room(&mut self, len: usize, longest: usize, spare: &mut impl Spare) -> &mut Vec<u8> {
        if self.open.capacity() - self.open.len() < len || self.open.len() >= longest {
            let next = if self.is_empty() { len.max(FIRST_SEGMENT) } else { len.max(SEGMENT) };
            self.seal();
            self.open = spare.take(next);
        }
        &mut self.open
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.full.push_back(Segment::Frames(std::mem::take(&mut self.open)));
        }
    }
}

#[derive(Debug)]
struct Channel {
    id: ChannelId,
    credit: Credit,
    lane: Priority,
    /// What is left of a message whose first fragments are in a lane.
    staged: Option<Bytes>,
    /// What follows once what is staged is out: the end of its run, and those of empty runs after
    /// it. Only then: a message of the next run waits like any other.
    ends: Vec<End>,
    /// What comes before those ends: only where the peer granted less than was thought. Something
    /// is staged as long as there is any.
    backlog: VecDeque<Waiting>,
    /// A run has begun and not ended.
    open: bool,
    /// Whether the senders that are there now have ended a run and sent nothing after it.
    ended: bool,
    /// Counts the runs that the peer stopped: a sender belongs to one value of it.
    generation: u32,
    stop_code: u32,
    senders: u32,
    /// What its lane had been pushed in all when the channel last pushed something.
    last_pushed: u64,
    messages: u64,
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Outbound {
    may_send: ChannelSet,
    initial: Credit,
    max_message: u32,
    limit: usize,
    /// The longest payload of a frame: less than the protocol allows on a slow link.
    longest: usize,
    channels: Table<Channel>,
    lanes: [Lane; 2],
    /// Bytes in the lanes, each with a limit of its own: bulk must not keep out what is urgent.
    queued: [usize; 2],
    /// Bytes that ever entered a lane.
    pushed: [u64; 2],
    /// Channels with something staged.
    staged: usize,
    /// Bytes that were ever taken from each lane.
    taken: [u64; 2],
}

/// A point behind all that has been accepted.
#[derive(Debug)]
pub(crate) struct Mark {
    lanes: [u64; 2],
    staged: Vec<ChannelId>,
}

impl Outbound {
    /// `initial` and `max_message` are what the peer granted, `limit` is how many bytes may wait.
    pub(crate) fn new(may_send: ChannelSet, initial: Credit, max_message: u32, limit: usize) -> Self {
        Self {
            may_send,
            initial,
            max_message,
            limit,
            longest: MAX_DATA,
            channels: Table::new(),
            lanes: Default::default(),
            queued: [0; 2],
            pushed: [0; 2],
            staged: 0,
            taken: [0; 2],
        }
    }

    /// Frames are made no longer than this from now on, so that what is urgent gets between them.
    pub(crate) fn limit_frames(&mut self, longest: usize) {
        self.longest = longest.min(MAX_DATA);
    }

    pub(crate) fn may_send(&self, id: ChannelId) -> bool {
        self.may_send.contains(id)
    }

    /// A sender for a channel: its place and generation. `None`: other senders have it with
    /// another priority.
    pub(crate) fn claim(&mut self, id: ChannelId, priority: Option<Priority>) -> Option<(usize, u32)> {
        let credit = self.initial;
        let place = self.channels.place_or_insert(id, || Channel {
            id,
            credit,
            lane: Priority::default(),
            staged: None,
            ends: Vec::new(),
            backlog: VecDeque::new(),
            open: false,
            ended: false,
            generation: 0,
            stop_code: 0,
            senders: 0,
            last_pushed: 0,
            messages: 0,
            bytes: 0,
        });
        let [_, taken] = self.taken();
        let channel = self.channels.at(place);
        // Without one that was asked for: that of the other senders, or the normal one.
        let priority = priority.or((channel.senders == 0).then_some(Priority::Normal));
        if channel.senders == 0 {
            channel.ended = false;
        }
        if let Some(priority) = priority
            && priority != channel.lane
        {
            // A frame of this channel that still waits in the slower lane must not be overtaken.
            let waits = channel.lane == Priority::Normal && channel.last_pushed > taken;
            if channel.senders > 0 || channel.staged.is_some() || waits {
                return None;
            }
            channel.lane = priority;
            channel.last_pushed = 0;
        }
        channel.senders += 1;
        Some((place, channel.generation))
    }

    pub(crate) fn clone_sender(&mut self, place: usize, generation: u32) {
        let channel = self.channels.at(place);
        channel.senders += u32::from(channel.generation == generation);
    }

    /// A sender is gone; with the last one its run ends.
    pub(crate) fn release(&mut self, place: usize, generation: u32, spare: &mut impl Spare) {
        let channel = self.channels.at(place);
        if channel.generation != generation {
            return;
        }
        channel.senders -= 1;
        if channel.senders == 0 {
            self.end(place, generation, End::Finish, spare);
        }
    }

    /// The common case of [`offer`](Outbound::offer), kept apart so that it is short: a small
    /// message that fits into the segment at hand. `false`: nothing was done, `offer` decides.
    #[inline]
    pub(crate) fn offer_quickly(&mut self, place: usize, generation: u32, payload: &[u8]) -> bool {
        let channel = self.channels.at(place);
        let open = &mut self.lanes[channel.lane as usize].open;
        let len = payload.len();
        if len > COPY.min(self.max_message as usize)
            || open.capacity() - open.len() < WORD + len
            || open.len() >= self.longest
            || channel.generation != generation
            || channel.staged.is_some()
            || self.queued[channel.lane as usize] >= self.limit
            || channel.credit.spend(cost(len)).is_none()
        {
            return false;
        }
        channel.began(len);
        self.queued[channel.lane as usize] += WORD + len;
        self.pushed[channel.lane as usize] += (WORD + len) as u64;
        channel.last_pushed = self.pushed[channel.lane as usize];
        open.extend_from_slice(&Word::data(channel.id, false, len).to_bytes());
        open.extend_from_slice(payload);
        true
    }

    /// Accepts a message whole, or says why not.
    pub(crate) fn offer(
        &mut self,
        place: usize,
        generation: u32,
        payload: Payload<'_>,
        spare: &mut impl Spare,
    ) -> Result<(), Refused> {
        let channel = self.channels.at(place);
        if channel.generation != generation {
            return Err(Refused::Stopped(channel.stop_code));
        }
        let len = payload.as_slice().len();
        if len > self.max_message as usize {
            return Err(Refused::TooLarge(self.max_message));
        }
        if channel.staged.is_some() {
            return Err(Refused::Credit);
        }
        if self.queued[channel.lane as usize] >= self.limit {
            return Err(Refused::QueueFull);
        }
        if len <= self.longest && channel.credit.spend(cost(len)).is_some() {
            let (id, lane) = (channel.id, channel.lane);
            channel.began(len);
            self.push_data(id, lane, false, payload, spare);
            return Ok(());
        }
        if channel.credit.get() < self.least_credit(len) {
            return Err(Refused::Credit);
        }
        let channel = self.channels.at(place);
        channel.began(len);
        let sent = self.push_fragments(place, payload, spare);
        if sent < len {
            self.channels.at(place).staged = Some(payload.to_bytes(sent));
            self.staged += 1;
        }
        Ok(())
    }

    /// The least credit with which it pays to send a fragment of what is left of a message. A
    /// quarter of the window always comes back: a peer keeps less than half of it to itself. One
    /// that grants less than its window by and by still gets fragments.
    fn least_credit(&self, left: usize) -> u32 {
        let fragment = (self.initial.get() / 4).clamp(FRAME_COST + 1, cost(LEAST_FRAGMENT));
        cost(left.min(self.longest)).min(fragment)
    }

    /// Sends as much of a message as there is credit for; how much that was.
    fn push_fragments(&mut self, place: usize, payload: Payload<'_>, spare: &mut impl Spare) -> usize {
        let len = payload.as_slice().len();
        let mut sent = 0;
        while sent < len {
            let least = self.least_credit(len - sent);
            let channel = self.channels.at(place);
            if channel.credit.get() < least {
                break;
            }
            let fragment = (len - sent).min(self.longest).min((channel.credit.get() - FRAME_COST) as usize);
            if channel.credit.spend(cost(fragment)).is_none() {
                break;
            }
            let (id, lane) = (channel.id, channel.lane);
            let more = sent + fragment < len;
            if let Payload::Shared(bytes) = payload {
                let part = bytes.slice(sent..sent + fragment);
                self.push_data(id, lane, more, Payload::Shared(&part), spare);
            } else {
                self.push_data(id, lane, more, payload.slice(sent, sent + fragment), spare);
            }
            sent += fragment;
        }
        sent
    }

    fn push_data(
        &mut self,
        id: ChannelId,
        priority: Priority,
        more: bool,
        payload: Payload<'_>,
        spare: &mut impl Spare,
    ) {
        let len = payload.as_slice().len();
        let word = Word::data(id, more, len).to_bytes();
        let longest = self.longest;
        let lane = &mut self.lanes[priority as usize];
        match payload {
            Payload::Shared(bytes) if len > COPY => {
                lane.seal();
                lane.full.push_back(Segment::Large { word, payload: bytes.clone() });
            }
            _ => {
                let room = lane.room(WORD + len, longest, spare);
                room.extend_from_slice(&word);
                room.extend_from_slice(payload.as_slice());
            }
        }
        self.count(id, priority, WORD + len);
    }

    fn count(&mut self, id: ChannelId, priority: Priority, bytes: usize) {
        self.queued[priority as usize] += bytes;
        self.pushed[priority as usize] += bytes as u64;
        if let Some(channel) = self.channels.get_mut(id) {
            channel.last_pushed = self.pushed[priority as usize];
        }
    }

    /// Bytes that ever left the lanes.
    fn taken(&self) -> [u64; 2] {
        [0, 1].map(|lane| self.pushed[lane] - self.queued[lane] as u64)
    }

    fn push_control(&mut self, id: ChannelId, lane: Priority, control: &Control, spare: &mut impl Spare) {
        let room = self.lanes[lane as usize].room(16, self.longest, spare);
        let before = room.len();
        control.encode(room);
        let bytes = room.len() - before;
        self.count(id, lane, bytes);
    }

    /// Ends the run of a sender, behind what it has sent. Nothing happens if a run was ended
    /// before and nothing was sent since.
    pub(crate) fn end(&mut self, place: usize, generation: u32, end: End, spare: &mut impl Spare) {
        let channel = self.channels.at(place);
        if channel.generation != generation || channel.ended {
            return;
        }
        channel.ended = true;
        if channel.staged.is_some() {
            if end == End::Finish || !channel.ends.is_empty() || !channel.backlog.is_empty() {
                // Empty runs above that are one.
                if channel.ends.len() < ENDS {
                    channel.ends.push(end);
                }
                return;
            }
            channel.staged = None;
            self.staged -= 1;
        }
        self.push_end(place, end, spare);
    }

    fn push_ends(&mut self, place: usize, spare: &mut impl Spare) {
        for end in std::mem::take(&mut self.channels.at(place).ends) {
            self.push_end(place, end, spare);
        }
    }

    fn push_end(&mut self, place: usize, end: End, spare: &mut impl Spare) {
        let channel = self.channels.at(place);
        channel.open = false;
        let (id, lane) = (channel.id, channel.lane);
        self.push_control(id, lane, &Control::End { channel: id, end }, spare);
    }

    /// The peer granted credit; whether a waiting sender may go on now.
    pub(crate) fn handle_credit(
        &mut self,
        id: ChannelId,
        bytes: u32,
        spare: &mut impl Spare,
    ) -> Result<Option<usize>, Violation> {
        // Credit on a channel that we may not send on is of no use, and harmless.
        if !self.may_send.contains(id) {
            return Ok(None);
        }
        if self.channels.place(id).is_none() {
            // A channel that nobody uses yet: note its credit, give no handle out.
            self.claim(id, None);
            if let Some(channel) = self.channels.get_mut(id) {
                channel.senders = 0;
            }
        }
        let Some(place) = self.channels.place(id) else { return Ok(None) };
        let channel = self.channels.at(place);
        channel.credit.grant(bytes).ok_or(Violation::CreditOverflow(id))?;
        if let Some(rest) = channel.staged.take() {
            if let Some(rest) = self.push_rest(place, &rest, spare) {
                self.channels.at(place).staged = Some(rest);
                return Ok(None);
            }
            if !self.follow(place, spare) {
                return Ok(None);
            }
            self.staged -= 1;
            self.push_ends(place, spare);
        }
        Ok(Some(place))
    }

    /// The peer wants no more of a channel's run; the place whose senders must hear of it. A STOP
    /// that comes when no run is open is for one that has ended, and says nothing.
    pub(crate) fn handle_stop(&mut self, id: ChannelId, code: u32, spare: &mut impl Spare) -> Option<usize> {
        let place = self.channels.place(id)?;
        let channel = self.channels.at(place);
        if !channel.open {
            return None;
        }
        if !channel.backlog.is_empty() && self.stop_backlog(place, code, spare) {
            return Some(place);
        }
        let channel = self.channels.at(place);
        self.staged -= usize::from(channel.staged.take().is_some());
        if let Some(end) = channel.ends.first_mut() {
            // Its senders have finished it: it is not theirs any more.
            *end = End::Reset(code);
            self.push_ends(place, spare);
            return Some(place);
        }
        channel.generation = channel.generation.wrapping_add(1);
        channel.stop_code = code;
        // Those that belong to the run count no more.
        channel.senders = 0;
        channel.ended = true;
        self.push_end(place, End::Reset(code), spare);
        Some(place)
    }

    /// Moves encoded segments out: all that is urgent, and of the rest about `most` bytes; how
    /// many bytes that was.
    pub(crate) fn take(&mut self, most: usize, out: &mut VecDeque<Segment>) -> usize {
        let mut all = 0;
        let lanes = self.lanes.iter_mut().zip(&mut self.queued).zip(&mut self.taken);
        for (((lane, queued), total), most) in lanes.zip([usize::MAX, most]) {
            let mut taken = 0;
            while taken < most {
                let segment = match lane.full.pop_front() {
                    Some(segment) => segment,
                    None if lane.open.is_empty() => break,
                    None => Segment::Frames(std::mem::take(&mut lane.open)),
                };
                taken += segment.len();
                out.push_back(segment);
            }
            *queued -= taken;
            *total += taken as u64;
            all += taken;
        }
        all
    }

    /// A mark behind all that has been accepted so far.
    pub(crate) fn mark(&self) -> Mark {
        let staged = self.channels.iter().filter(|channel| channel.staged.is_some());
        Mark { lanes: self.entered(), staged: staged.map(|channel| channel.id).collect() }
    }

    /// Whether everything before the mark has been taken. To be asked after each `handle_credit`,
    /// or a later message of a channel could be taken for the one that was staged.
    pub(crate) fn has_passed(&mut self, mark: &mut Mark) -> bool {
        let before = mark.staged.len();
        mark.staged.retain(|id| self.channels.get_mut(*id).is_some_and(|channel| channel.staged.is_some()));
        if mark.staged.len() < before {
            // What was staged is in its lane now.
            mark.lanes = self.entered();
        }
        mark.staged.is_empty() && self.taken.iter().zip(mark.lanes).all(|(taken, mark)| *taken >= mark)
    }

    fn entered(&self) -> [u64; 2] {
        [0, 1].map(|lane| self.taken[lane] + self.queued[lane] as u64)
    }

    /// Drops all that waits: the connection ends.
    pub(crate) fn clear(&mut self) {
        self.lanes = Default::default();
        self.queued = [0; 2];
        self.staged = 0;
        for channel in self.channels.iter_mut() {
            channel.staged = None;
            channel.ends = Vec::new();
            channel.backlog = VecDeque::new();
        }
    }

    /// Whether all that was accepted has been taken.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queued() == 0 && self.staged == 0
    }

    /// Whether senders may find room again.
    pub(crate) fn has_room(&self) -> bool {
        self.queued.iter().any(|queued| *queued < self.limit)
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.iter().sum()
    }

    pub(crate) fn credit(&mut self, place: usize) -> u32 {
        self.channels.at(place).credit.get()
    }

    /// What was accepted on each channel that was used.
    pub(crate) fn counts(&self) -> impl Iterator<Item = Sent> {
        self.channels.iter().map(|channel| Sent {
            channel: channel.id,
            messages: channel.messages,
            bytes: channel.bytes,
            credit: channel.credit.get(),
            staged: channel.staged.as_ref().map_or(0, Bytes::len) as u64,
        })
    }
}

/// Counts of one channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) channel: ChannelId,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) credit: u32,
    pub(crate) staged: u64,
}

impl Channel {
    #[inline]
    fn began(&mut self, bytes: usize) {
        self.open = true;
        self.ended = false;
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}
