//! The receive queues of a connection, behind one lock.
//!
//! Queue 0 holds what came for channels that have no receiver yet, in arrival order; every
//! receiver has a queue of its own, for one channel or several. A channel whose receiver was
//! dropped is *refused*: what comes for it is answered with STOP and discarded until its run ends.

use std::sync::Arc;

use super::attend::Attend;
use super::batch::{Batch, Framed, Item, Pieces, for_each};
use super::pool::Pool;
use super::sync::{AtomicU32, Condvar, Mutex, MutexGuard};
use super::waiters::{Sleepers, Waiters};
use crate::error::ConnectionError;
use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::cost;
use crate::proto::frame::{WORD, Word};
use crate::proto::inbound::{Stop, Taken};
use crate::proto::segment::Spare;
use crate::proto::session::Reads;

mod deliver;
mod reports;
mod routes;
mod runs;
mod take;

pub(crate) use reports::Counts;
use reports::Reports;
pub(crate) use routes::{Routes, UNCLAIMED};
use runs::RunStates;

/// What a receiver wants no more of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unwanted {
    /// What has arrived, and the rest of the newest run, or all of the next one if none is open.
    Newest,
    /// What has arrived, and the rest of the newest run if it is open.
    Arrived,
    /// What is left of the run whose messages come next.
    ThisRun,
}

/// Why a queue gave nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Nothing {
    /// Nothing is there, not in time either.
    Empty,
    /// The reader was interrupted.
    Interrupted,
    Ended(ConnectionError),
}

/// A receiver's hold on its queue.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) number: u8,
    /// Tells it from an earlier one with the same number.
    pub(crate) serial: u64,
    pub(crate) counts: Arc<Counts>,
}

impl Claim {
    pub(crate) fn channels(&self) -> ChannelSet {
        self.counts.channels()
    }
}

/// Whether the peer is told when a reader of a queue waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Announce {
    #[default]
    No,
    /// The reader is at work.
    Reading,
    /// The peer knows, or will, that it waits.
    Waiting,
}

#[derive(Debug, Default)]
struct Queue {
    serial: u64,
    pieces: Pieces,
    channels: ChannelSet,
    reports: Reports,
    waiters: Waiters,
    /// What the queue's reader sleeps on.
    arrived: Arc<Condvar>,
    interrupted: bool,
    announce: Announce,
}

struct State {
    routes: [u8; ChannelId::COUNT],
    queues: Vec<Option<Queue>>,
    claims: u64,
    runs: RunStates,
    /// At which cost of what is taken a report is due, where it is not half a window.
    report_at: Vec<(ChannelId, u32)>,
    /// Channels whose receivers have taken something.
    reporting: ChannelSet,
    /// For the I/O thread: what was taken, what is to be stopped, and which readers wait.
    taken: Vec<Taken>,
    stops: Vec<Stop>,
    reads: Vec<Reads>,
    scheduled: bool,
    ended: Option<ConnectionError>,
}

/// `state` protects everything. `version` counts the changes of where channels go; it is changed
/// only with the lock held, and read without it by the I/O thread merely to learn whether its copy
/// is old, which it checks again under the lock before it relies on it; so `Relaxed` is enough.
pub(crate) struct ReceiveQueues {
    state: Mutex<State>,
    version: AtomicU32,
    attention: Arc<dyn Attend>,
    sleepers: Arc<Sleepers>,
    /// Half of what this side grants: by default a report is due at that cost.
    half_window: u32,
}

impl ReceiveQueues {
    pub(crate) fn new(window: u32, attention: Arc<dyn Attend>, sleepers: Arc<Sleepers>) -> Self {
        Self {
            state: Mutex::new(State {
                routes: [UNCLAIMED; ChannelId::COUNT],
                queues: vec![Some(Queue::default())],
                claims: 0,
                runs: RunStates::default(),
                report_at: Vec::new(),
                reporting: ChannelSet::EMPTY,
                taken: Vec::new(),
                stops: Vec::new(),
                reads: Vec::new(),
                scheduled: false,
                ended: None,
            }),
            version: AtomicU32::new(0),
            attention,
            sleepers,
            half_window: window.div_ceil(2).max(1),
        }
    }

    // ---- the receivers' side

    /// A queue for these channels, with what already waits for them; `Err`: this one has one.
    pub(crate) fn claim(&self, channels: ChannelSet, pool: &Pool) -> Result<Claim, ChannelId> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(used) = channels.iter().find(|id| state.routes[id.index()] != UNCLAIMED) {
            return Err(used);
        }
        let number =
            (1..state.queues.len()).find(|&number| state.queues[number].is_none()).unwrap_or_else(|| {
                state.queues.push(None);
                state.queues.len() - 1
            });
        let reports = Reports::new(channels, |id| {
            state.report_at.iter().find(|(known, _)| *known == id).map_or(self.half_window, |(_, at)| *at)
        });
        let counts = Arc::clone(&reports.counts);
        state.claims += 1;
        let serial = state.claims;
        let waiters = Waiters::counted(&self.sleepers);
        let mut queue = Queue { serial, channels, reports, waiters, ..Queue::default() };
        let unclaimed = state.queue(UNCLAIMED);
        // Walked as a whole, so that the order across channels stays.
        for item in std::mem::take(&mut unclaimed.pieces).items {
            let (to, rest) = (&mut queue.pieces, &mut unclaimed.pieces);
            split(item, |channel, _| channels.contains(channel), to, rest, pool);
        }
        state.queues[number] = Some(queue);
        for id in channels.iter() {
            state.routes[id.index()] = number as u8;
        }
        state.runs.claimed(channels);
        self.bump();
        Ok(Claim { number: number as u8, serial, counts })
    }

    /// The channels that have receivers.
    pub(crate) fn claimed(&self) -> ChannelSet {
        let state = self.state.lock();
        let queues = state.queues.iter().flatten();
        queues.fold(ChannelSet::EMPTY, |channels, queue| channels | queue.channels)
    }

    /// So much of a channel was taken that the peer is owed credit for it.
    pub(crate) fn report(&self, channel: ChannelId) {
        let mut state = self.state.lock();
        state.reporting.insert(channel);
        self.attend(state);
    }

    /// Ends or gaps of a channel were taken.
    pub(crate) fn report_notes(&self, channel: ChannelId, free_notes: u32) {
        let mut state = self.state.lock();
        Taken { free_notes, ..Taken::none(channel) }.add_to(&mut state.taken);
        self.attend(state);
    }

    /// How many messages are in the queue.
    pub(crate) fn len(&self, claim: &Claim) -> usize {
        self.state.lock().queue(claim.number).pieces.messages
    }

    /// How many whole messages of a channel were dropped unread in this session.
    pub(crate) fn discarded(&self, channel: ChannelId) -> u64 {
        self.state.lock().runs.discarded(channel)
    }

    /// The receiver wants no more of the runs of these channels: what is there is dropped, and so
    /// is what comes until they end.
    pub(crate) fn stop(
        &self,
        claim: &Claim,
        channels: ChannelSet,
        code: u32,
        what: Unwanted,
        mut rest: Pieces,
        pool: &Pool,
    ) -> Pieces {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let queued = std::mem::take(&mut state.queue(claim.number).pieces);
        // What belongs to other channels stays, in order.
        let (mut left, mut kept) = (Pieces::default(), Pieces::default());
        // Whose run has ended in what was dropped.
        let mut over = ChannelSet::EMPTY;
        for (pieces, keep) in [(std::mem::take(&mut rest), &mut left), (queued, &mut kept)] {
            for item in pieces.items {
                let mut dropped = Pieces::default();
                let is_unwanted = |channel, framed: Framed<'_>| {
                    let unwanted = (channels - over).contains(channel);
                    if unwanted && what == Unwanted::ThisRun && framed.is_end() {
                        over.insert(channel);
                    }
                    unwanted
                };
                split(item, is_unwanted, &mut dropped, keep, pool);
                state.discard(&mut dropped, pool);
            }
        }
        state.queue(claim.number).pieces = kept;
        for id in (channels - over).iter() {
            if state.ended.is_none() && (what == Unwanted::Newest || state.runs.is_open(id)) {
                state.stops.extend(state.runs.stop(id, code));
            }
        }
        self.bump();
        self.attend(guard);
        left
    }

    /// The receiver is gone; `rest` is what it had taken and not given out.
    pub(crate) fn release(&self, claim: &Claim, mut rest: Pieces, pool: &Pool) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(mut queue) = state.queues[usize::from(claim.number)].take() else { return };
        for id in queue.channels.iter() {
            if let Some(taken) = queue.reports.collect(id) {
                taken.add_to(&mut state.taken);
            }
        }
        for pieces in [&mut rest, &mut queue.pieces] {
            state.discard(pieces, pool);
        }
        for id in queue.channels.iter() {
            state.routes[id.index()] = UNCLAIMED;
            if state.ended.is_none() {
                state.stops.extend(state.runs.refuse(id, 0));
                if queue.announce == Announce::Waiting {
                    state.reads.push(Reads { channel: id, waiting: false, count: None });
                }
            }
        }
        self.bump();
        self.attend(guard);
    }

    /// Lets the I/O thread know, unless it does.
    fn attend(&self, mut state: MutexGuard<'_, State>) {
        let nothing = state.reporting.is_empty()
            && state.taken.is_empty()
            && state.stops.is_empty()
            && state.reads.is_empty();
        let first = !nothing && !std::mem::replace(&mut state.scheduled, true);
        drop(state);
        if first {
            self.attention.attend();
        }
    }

    // ---- the I/O thread's side

    /// What the queues hold, in bytes that are allocated.
    pub(crate) fn memory(&self) -> usize {
        self.state.lock().queues.iter().flatten().map(|queue| queue.pieces.memory()).sum()
    }

    pub(crate) fn ended(&self) -> Option<ConnectionError> {
        self.state.lock().ended.clone()
    }

    /// What the channel's receiver has taken and the session does not know of.
    pub(crate) fn unreported(&self, channel: ChannelId) -> Taken {
        let mut state = self.state.lock();
        let deposited = state.taken.iter().filter(|taken| taken.channel == channel);
        let mut sum = deposited.fold(Taken::none(channel), |mut sum, taken| {
            sum.add(*taken);
            sum
        });
        let number = state.routes[channel.index()];
        if number != UNCLAIMED {
            sum.add(state.queue(number).reports.unreported(channel));
        }
        sum
    }
}

impl State {
    #[inline]
    fn queue(&mut self, number: u8) -> &mut Queue {
        match &mut self.queues[usize::from(number)] {
            Some(queue) => queue,
            none => none.insert(Queue::default()),
        }
    }

    /// What a reader finds without waiting.
    fn try_take(&mut self, claim: &Claim, batch: &mut Batch) -> Option<Result<(), Nothing>> {
        let Self { queues, ended, .. } = self;
        let Some(queue) = queues[usize::from(claim.number)].as_mut() else {
            return Some(Err(Nothing::Empty));
        };
        if !queue.pieces.items.is_empty() {
            std::mem::swap(&mut queue.pieces, &mut batch.pieces);
            return Some(Ok(()));
        }
        ended.as_ref().map(|cause| Err(Nothing::Ended(cause.clone())))
    }

    /// Returns `true` if a receiver that finds nothing owes a report that it could not see by
    /// itself: the I/O thread set the mark while the receiver took what reached it. With the lock
    /// held one of the two sees the other.
    fn must_report(&mut self, claim: &Claim) -> bool {
        if self.scheduled {
            return false;
        }
        let queue = self.queue(claim.number);
        let (channels, due) = (queue.channels, queue.reports.is_due());
        if due {
            self.reporting |= channels;
        }
        due
    }

    fn collect_reports(&mut self) {
        for channel in std::mem::take(&mut self.reporting).iter() {
            let number = self.routes[channel.index()];
            if number != UNCLAIMED
                && let Some(queue) = &mut self.queues[usize::from(number)]
                && let Some(taken) = queue.reports.collect(channel)
            {
                taken.add_to(&mut self.taken);
            }
        }
    }
}

impl Framed<'_> {
    /// What the I/O thread is told when this was read or dropped.
    fn taken(self, channel: ChannelId) -> Taken {
        let none = Taken::none(channel);
        match self {
            Self::Small(frame) => Taken { cost: cost(frame.len() - WORD), messages: 1, ..none },
            Self::Message(bytes) => Taken { cost: cost(bytes.len()), messages: 1, ..none },
            Self::Note(frame) => {
                let free = Word::first_of(frame).is_some_and(Word::has_more);
                Taken { free_notes: free.into(), ..none }
            }
        }
    }
}

/// Moves what is picked to one place and the rest to another, each in order.
fn split(
    item: Item,
    mut is_picked: impl FnMut(ChannelId, Framed<'_>) -> bool,
    to: &mut Pieces,
    rest: &mut Pieces,
    pool: &Pool,
) {
    for_each(&item, |channel, framed| {
        let target = if is_picked(channel, framed) { &mut *to } else { &mut *rest };
        target.push(channel, framed, pool);
    });
    if let Item::Frames(frames) = item {
        (&mut &*pool).put(frames);
    }
}
