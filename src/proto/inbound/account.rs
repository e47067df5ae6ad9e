//! What each channel that is received holds, and the credit that follows from it (protocol,
//! section 3).
//!
//! Per channel, with every message counted as its length + 32 ([`cost`]):
//!
//! - `outstanding`: what the peer may still send,
//! - `held`: whole messages that the application has not taken yet,
//! - the assembly: fragments of a message that is not complete yet.
//!
//! Owed is `window - held - outstanding`, and it is granted when it is at least half a window. The
//! assembly is not subtracted, or a message larger than the window could never be finished; so a
//! channel may hold up to `window + largest message + 32`. For 128 channels that is far too much.
//! Therefore a channel needs a *reserve* for credit that its assembly already uses up, of one
//! largest message, and there are only a few. The channels get them in the order in which they
//! asked. One that has a reserve can always finish its message, and then gives the reserve back;
//! what it holds above its window until the application takes it is its *excess*. While the
//! excess of all channels is above its limit, no reserve is given. So a connection holds at most
//!
//! > channels × window + reserves + excess + one largest message

use std::collections::VecDeque;

use super::Taken;
use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::{Credit, cost};
use crate::proto::frame::{Control, End};
use crate::proto::table::Table;
use crate::proto::violation::Violation;

/// Ends of empty runs, and gaps, that may wait to be read on a channel. They cost no credit, so what
/// comes above is merged.
const FREE_NOTES: u32 = 16;

/// What this side grants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) window: Credit,
    pub(crate) max_message: u32,
    /// What unfinished messages may hold above the windows, of all channels together; one largest
    /// message is always allowed.
    pub(crate) reserves: u64,
    /// What whole messages may hold above the windows, of all channels together, before no more
    /// messages larger than their window are let in.
    pub(crate) excess: u64,
}

/// What waits with a channel because too much that costs no credit is unread: one gap and one end.
#[derive(Clone, Copy, Debug, Default)]
struct Merged {
    gap: Option<(u64, u64)>,
    end: Option<End>,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    outstanding: Credit,
    held: u64,
    held_messages: u64,
    /// Gaps and ends of empty runs that were handed over and not read yet.
    free_notes: u32,
    merged: Option<Merged>,
    /// Bytes of the message that is not complete, those of a frame that is arriving included.
    assembling: usize,
    /// What has come of it, between two frames.
    pub(super) assembly: Option<Vec<u8>>,
    /// A whole message was received in the run that is open.
    has_message: bool,
    /// A run has begun.
    pub(super) open: bool,
    /// FINISH and RESET received, modulo 2³².
    ends: u32,
    has_reserve: bool,
    excess: u64,
    messages: u64,
    bytes: u64,
}

/// Counts of one channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) channel: ChannelId,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) credit: u32,
    pub(crate) unread_cost: u64,
    pub(crate) unread_messages: u64,
}

/// The accounts of all channels.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) limits: Limits,
    channels: Table<Channel>,
    /// Channels whose credit may be due, or whose report may.
    touched: ChannelSet,
    /// Channels that wait for a reserve, in the order in which they asked.
    line: VecDeque<ChannelId>,
    /// Bytes of all reserves, and of the excess of the channels that have none.
    reserved: u64,
    excess: u64,
    /// Bytes of all assemblies.
    assembled: usize,
}

impl Accounts {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            channels: Table::new(),
            touched: ChannelSet::EMPTY,
            line: VecDeque::new(),
            reserved: 0,
            excess: 0,
            assembled: 0,
        }
    }

    pub(super) fn place(&self, id: ChannelId) -> Option<usize> {
        self.channels.place(id)
    }

    pub(super) fn place_or_insert(&mut self, id: ChannelId) -> usize {
        let outstanding = self.limits.window;
        self.channels.place_or_insert(id, || Channel {
            id,
            outstanding,
            held: 0,
            held_messages: 0,
            free_notes: 0,
            merged: None,
            assembling: 0,
            assembly: None,
            has_message: false,
            open: false,
            ends: 0,
            has_reserve: false,
            excess: 0,
            messages: 0,
            bytes: 0,
        })
    }

    #[inline]
    pub(super) fn at(&mut self, place: usize) -> &mut Channel {
        self.channels.at(place)
    }

    /// Takes the credit of a fragment or of a message in one frame, and checks its size, by its
    /// length alone.
    pub(super) fn spend(&mut self, place: usize, len: usize) -> Result<(), Violation> {
        let limit = self.limits.max_message;
        let channel = self.channels.at(place);
        let cost = cost(len);
        if channel.outstanding.spend(cost).is_none() {
            return Err(Violation::NoCredit { channel: channel.id, cost, credit: channel.outstanding.get() });
        }
        if channel.assembling + len > limit as usize {
            return Err(Violation::MessageTooLarge { channel: channel.id, limit });
        }
        channel.open = true;
        Ok(())
    }

    /// Makes room for `len` more bytes of a message, whose credit was taken, and for `ahead` behind
    /// them. The buffer grows by doubling, but not beyond what the account holds ready for the
    /// message: what is allocated is bounded, and not only what has come.
    pub(super) fn make_room(&mut self, place: usize, buffer: &mut Vec<u8>, len: usize, ahead: usize) {
        if buffer.len() + len + ahead > buffer.capacity() {
            self.grow(place, buffer, len, ahead);
        }
    }

    #[cold]
    fn grow(&mut self, place: usize, buffer: &mut Vec<u8>, len: usize, ahead: usize) {
        let needed = buffer.len() + len + ahead;
        let channel = self.channels.at(place);
        let ready = match channel.has_reserve {
            true => self.limits.max_message as usize,
            false => buffer.len() + len + channel.outstanding.get() as usize,
        };
        let most = ready.min(self.limits.max_message as usize) + ahead;
        let room = (buffer.capacity() * 2).min(most).max(needed);
        buffer.reserve_exact(room - buffer.len());
    }

    /// A frame of an unfinished message comes, whose credit was taken.
    pub(super) fn assemble(&mut self, place: usize, len: usize) {
        self.assembled += len;
        let channel = self.channels.at(place);
        channel.assembling += len;
        self.touched.insert(channel.id);
    }

    /// The assembly is a whole message, or was dropped. It gives its reserve back.
    pub(super) fn assembly_over(&mut self, place: usize) {
        let reserve = self.limits.reserve();
        let channel = self.channels.at(place);
        self.assembled -= std::mem::take(&mut channel.assembling);
        self.touched.insert(channel.id);
        if std::mem::take(&mut channel.has_reserve) {
            self.reserved -= reserve;
        }
        let id = channel.id;
        self.line.retain(|waiting| *waiting != id);
        self.touch_first();
    }

    /// Drops what is unfinished on every channel: nothing more is parsed.
    pub(super) fn forget_unfinished(&mut self) {
        for channel in self.channels.iter_mut() {
            channel.assembly = None;
            channel.assembling = 0;
        }
        self.assembled = 0;
    }

    /// The first that waits for a reserve may get it now.
    fn touch_first(&mut self) {
        if let Some(first) = self.line.front() {
            self.touched.insert(*first);
        }
    }

    /// What all assemblies hold, in bytes.
    pub(super) fn all_assembled(&self) -> usize {
        self.assembled
    }

    /// What the accounts themselves take, in bytes.
    pub(super) fn table(&self) -> usize {
        self.channels.memory()
    }

    /// The application took something, or it was discarded for it.
    pub(super) fn taken(&mut self, taken: Taken) {
        let Some(channel) = self.channels.get_mut(taken.channel) else { return };
        channel.held = channel.held.saturating_sub(taken.cost.into());
        channel.held_messages = channel.held_messages.saturating_sub(taken.messages.into());
        channel.free_notes = channel.free_notes.saturating_sub(taken.free_notes);
        self.touched.insert(taken.channel);
    }

    /// What follows for one channel from what has happened to it. Credit that is returned here
    /// counts as granted.
    pub(super) fn poll(&mut self) -> Option<Due> {
        let id = self.touched.iter().next()?;
        self.touched.remove(id);
        let place = self.channels.place(id)?;
        let window = self.limits.window.get();
        let half = window.div_ceil(2);
        let owed = self.channels.at(place).owed(window);
        let mut grant = owed;
        if owed >= half && !self.may_exceed(place) {
            // What the assembly does not use up needs no reserve.
            let assembling = self.channels.at(place).assembling;
            grant = owed.saturating_sub(u32::try_from(assembling).unwrap_or(u32::MAX));
        }
        let channel = self.channels.at(place);
        let due = grant > 0 && grant >= half && channel.outstanding.grant(grant).is_some();
        let used = channel.held + u64::from(channel.outstanding.get());
        // A reserve stands for what is unfinished.
        let unfinished = if channel.has_reserve { 0 } else { channel.assembling as u64 };
        let excess = (used + unfinished).saturating_sub(window.into());
        let before = std::mem::replace(&mut channel.excess, excess);
        self.excess = self.excess - before + excess;
        if excess < before {
            self.touch_first();
        }
        let report_at = used.saturating_sub(u64::from(window - half)).max(1);
        Some(Due {
            channel: id,
            credit: due.then_some(grant),
            report_at: u32::try_from(report_at).unwrap_or(u32::MAX),
        })
    }

    /// Returns `true` if a channel may hold more than its window: it has nothing unfinished, or
    /// has a reserve, or gets one now. Else it waits for one.
    fn may_exceed(&mut self, place: usize) -> bool {
        let reserve = self.limits.reserve();
        let room = self.reserved == 0 || self.reserved + reserve <= self.limits.reserves;
        let room = room && self.excess <= self.limits.excess;
        let channel = self.channels.at(place);
        if channel.has_reserve || channel.assembling == 0 {
            return true;
        }
        let id = channel.id;
        let first = self.line.front().is_none_or(|first| *first == id);
        if room && first {
            channel.has_reserve = true;
            self.reserved += reserve;
            self.line.pop_front();
            self.touch_first();
            return true;
        }
        if !self.line.contains(&id) {
            self.line.push_back(id);
        }
        false
    }

    /// The number of the newest run: how many have ended, modulo 2³².
    pub(super) fn run(&self, id: ChannelId) -> u32 {
        self.channels.place(id).map_or(0, |place| self.channels.get(place).ends)
    }

    /// Whole messages received on a channel, modulo 2³².
    pub(super) fn messages(&self, id: ChannelId) -> u32 {
        self.channels.place(id).map_or(0, |place| self.channels.get(place).messages as u32)
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = Count> {
        self.channels.iter().map(|channel| Count {
            channel: channel.id,
            messages: channel.messages,
            bytes: channel.bytes,
            credit: channel.outstanding.get(),
            unread_cost: channel.held,
            unread_messages: channel.held_messages,
        })
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn check(&self) {
        let mut assembled = 0;
        let window = u64::from(self.limits.window.get());
        for channel in self.channels.iter() {
            assembled += channel.assembling;
            let used = channel.held + u64::from(channel.outstanding.get()) + channel.assembling as u64;
            let most = window + u64::from(cost(self.limits.max_message as usize));
            assert!(used <= most, "{channel:?}");
            assert!(used <= window + channel.excess || channel.has_reserve, "{channel:?}");
        }
        assert_eq!(assembled, self.assembled);
        assert!(self.reserved <= self.limits.reserves.max(self.limits.reserve()));
    }
}

/// What a channel is owed, or owes the peer, after something has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Due {
    pub(crate) channel: ChannelId,
    /// To be granted to the peer now.
    pub(crate) credit: Option<u32>,
    /// When the application has taken so much more, in cost, credit is due again.
    pub(crate) report_at: u32,
}

impl Limits {
    /// What one unfinished message may need above its window.
    fn reserve(&self) -> u64 {
        cost(self.max_message as usize).into()
    }
}

impl Channel {
    /// The credit that is left.
    #[inline]
    pub(super) fn outstanding(&self) -> Credit {
        self.outstanding
    }

    /// Small whole messages came, which left so much credit.
    #[inline]
    pub(super) fn hold_run(&mut self, credit: Credit, messages: u32, bytes: usize) {
        self.held += u64::from(self.outstanding.get() - credit.get());
        self.outstanding = credit;
        self.held_messages += u64::from(messages);
        self.messages += u64::from(messages);
        self.bytes += bytes as u64;
        self.open = true;
        self.has_message = true;
    }

    /// One whole message came, whose credit was taken before. It weighs its length + 32, in however
    /// many fragments it came.
    pub(super) fn hold(&mut self, len: usize) {
        self.held += u64::from(cost(len));
        self.held_messages += 1;
        self.messages += 1;
        self.bytes += len as u64;
        self.has_message = true;
    }

    fn owed(&self, window: u32) -> u32 {
        let free = u64::from(window).saturating_sub(self.held);
        (free as u32).saturating_sub(self.outstanding.get())
    }

    /// Something is merged and waits; it goes before what comes next.
    #[inline]
    pub(super) fn has_merged(&self) -> bool {
        self.merged.is_some()
    }

    /// A run has ended: encodes what is to be handed over now, if anything.
    pub(super) fn end(&mut self, end: End, out: &mut Vec<u8>) {
        self.ends = self.ends.wrapping_add(1);
        self.open = false;
        if std::mem::take(&mut self.has_message) {
            Control::End { channel: self.id, end }.encode(out);
        } else if self.merged.is_some() || self.free_notes >= FREE_NOTES {
            self.merged.get_or_insert_default().end = Some(end);
        } else {
            self.free_notes += 1;
            Control::End { channel: self.id, end }.encode_free(out);
        }
    }

    /// The peer left something out.
    pub(super) fn gap(&mut self, messages: u64, bytes: u64, out: &mut Vec<u8>) {
        if self.merged.is_some() || self.free_notes >= FREE_NOTES {
            let gap = &mut self.merged.get_or_insert_default().gap;
            let (m, b) = gap.unwrap_or_default();
            *gap = Some((m.saturating_add(messages), b.saturating_add(bytes)));
        } else {
            self.free_notes += 1;
            Control::Gap { channel: self.id, messages, bytes }.encode_free(out);
        }
    }

    /// Encodes what was merged: a message follows it, or there is room again.
    pub(super) fn release_merged(&mut self, out: &mut Vec<u8>) {
        let Some(Merged { gap, end }) = self.merged.take() else { return };
        if let Some((messages, bytes)) = gap {
            self.free_notes += 1;
            Control::Gap { channel: self.id, messages, bytes }.encode_free(out);
        }
        if let Some(end) = end {
            self.free_notes += 1;
            Control::End { channel: self.id, end }.encode_free(out);
        }
    }

    /// Returns `true` if what was merged can be handed over: enough was read.
    pub(super) fn has_room_for_merged(&self) -> bool {
        self.merged.is_some() && self.free_notes + 2 <= FREE_NOTES
    }
}
