//! What a receiver has taken, as the I/O thread learns of it.
//!
//! The receiver counts what it takes without a lock, and only reports it when the peer is owed
//! credit for it: the I/O thread has said from where on that is so.

use std::sync::Arc;

use crate::id::{ChannelId, ChannelSet};
use crate::proto::inbound::Taken;
use crate::queue::sync::{AtomicU32, AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
struct Slot {
    /// Messages taken in the high half, their cost in the low one, both modulo 2³². A carry from one
    /// to the other does no harm: only differences are looked at, and their cost is below 2³².
    taken: AtomicU64,
    /// The cost, in the low half of `taken`, at which to report.
    report_at: AtomicU32,
}

impl Slot {
    #[inline]
    fn is_due(&self) -> bool {
        (self.taken.load(Relaxed) as u32).wrapping_sub(self.report_at.load(Relaxed)) as i32 >= 0
    }
}

/// The counts of one receiver. Only the receiver writes `taken`; the I/O thread reads it and writes
/// `report_at`, with the queues' lock held. Without it the two can miss each other: then the
/// receiver reports too early, which costs a call, or it looks again with the lock held
/// ([`Reports::is_due`]) before it waits for more. So `Relaxed` is enough.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    channels: ChannelSet,
    slots: Box<[Slot]>,
}

impl Counts {
    #[inline]
    fn slot(&self, channel: ChannelId) -> &Slot {
        let place = if self.slots.len() == 1 { 0 } else { self.channels.rank(channel) };
        &self.slots[place]
    }

    /// Counts a message. `true`: it is time to report.
    #[inline]
    pub(crate) fn add(&self, channel: ChannelId, cost: u32) -> bool {
        let slot = self.slot(channel);
        let sum = slot.taken.load(Relaxed).wrapping_add((1 << 32) + u64::from(cost));
        slot.taken.store(sum, Relaxed);
        slot.is_due()
    }

    pub(crate) fn channels(&self) -> ChannelSet {
        self.channels
    }
}

/// The I/O thread's side of them, behind the queues' lock.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pub(super) counts: Arc<Counts>,
    /// What was reported of each channel.
    reported: Box<[u64]>,
}

impl Reports {
    /// `report_at` says for each channel at which cost to report first.
    pub(super) fn new(channels: ChannelSet, report_at: impl Fn(ChannelId) -> u32) -> Self {
        let slots = channels
            .iter()
            .map(|id| Slot { taken: AtomicU64::new(0), report_at: AtomicU32::new(report_at(id)) })
            .collect::<Box<[_]>>();
        let reported = slots.iter().map(|_| 0).collect();
        Self { counts: Arc::new(Counts { channels, slots }), reported }
    }

    /// Returns `true` if it is time to report on some channel. Exact for the receiver itself, with the
    /// lock held.
    pub(super) fn is_due(&self) -> bool {
        self.counts.slots.iter().any(Slot::is_due)
    }

    /// What was taken and not reported.
    pub(super) fn unreported(&self, channel: ChannelId) -> Taken {
        let place = self.counts.channels.rank(channel);
        self.since(place, channel, self.counts.slots[place].taken.load(Relaxed))
    }

    /// The difference from what was reported to a count.
    fn since(&self, place: usize, channel: ChannelId, count: u64) -> Taken {
        let delta = count.wrapping_sub(self.reported[place]);
        Taken { cost: delta as u32, messages: (delta >> 32) as u32, ..Taken::none(channel) }
    }

    /// Reports it.
    pub(super) fn collect(&mut self, channel: ChannelId) -> Option<Taken> {
        let place = self.counts.channels.rank(channel);
        // Read once: the receiver goes on counting meanwhile.
        let count = self.counts.slots[place].taken.load(Relaxed);
        let taken = self.since(place, channel, count);
        self.reported[place] = count;
        (taken.messages > 0).then_some(taken)
    }

    /// From now on to be reported when so much more was taken than was reported. `true`: it was
    /// already.
    pub(super) fn set_report_at(&self, channel: ChannelId, cost: u32) -> bool {
        let place = self.counts.channels.rank(channel);
        let at = (self.reported[place] as u32).wrapping_add(cost);
        self.counts.slots[place].report_at.store(at, Relaxed);
        self.unreported(channel).cost >= cost
    }
}
