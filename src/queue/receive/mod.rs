//! The receive queues of a connection, behind one lock.
//!
//! Queue 0 holds what came for channels that have no receiver yet, in arrival order; every
//! receiver has a queue of its own, for one channel or several. A channel whose receiver was
//! dropped is *refused*: what comes for it is answered with STOP and discarded until its run ends.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::Attend;
use super::batch::{Batch, Framed, Item, Pieces, for_each};
use super::pool::Pool;
use super::send::Until;
use super::staging::{INSPECT, Staging};
use super::sync::{AtomicU32, Condvar, Mutex, MutexGuard, Ordering};
use super::waiters::{Sleepers, Waiters, Wakes};
use crate::error::ConnectionError;
use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::cost;
use crate::proto::frame::{WORD, Word};
use crate::proto::inbound::{Runs, Stop, Taken};
use crate::proto::segment::Spare;
use crate::proto::session::{Reads, Wishes};

mod reports;
mod runs;

pub(crate) use reports::Counts;
use reports::Reports;
use runs::{Fate, RunStates};

/// Where messages wait whose channel has no receiver.
pub(crate) const UNCLAIMED: u8 = 0;

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
            split(item, channels, &mut queue.pieces, &mut unclaimed.pieces, pool);
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

    /// Takes all that a queue has into an empty batch, waiting as long as `until` allows. An
    /// interrupt ends a wait, this one or the next.
    pub(crate) fn take(&self, claim: &Claim, batch: &mut Batch, until: Until) -> Result<(), Nothing> {
        debug_assert!(batch.is_empty());
        let mut state = self.state.lock();
        let mut late = matches!(until, Until::Now);
        let mut may_lead = !late;
        loop {
            if let Some(result) = state.try_take(claim, batch) {
                // A reader that was announced is at work again.
                self.announce(state, claim, false);
                return result;
            }
            if state.must_report(claim) {
                self.attend(state);
                state = self.state.lock();
                continue;
            }
            if late {
                self.announce(state, claim, false);
                return Err(Nothing::Empty);
            }
            let queue = state.queue(claim.number);
            if std::mem::take(&mut queue.interrupted) {
                self.announce(state, claim, false);
                return Err(Nothing::Interrupted);
            }
            if queue.announce == Announce::Reading {
                self.announce(state, claim, true);
                state = self.state.lock();
                continue;
            }
            if std::mem::take(&mut may_lead) {
                // Before it sleeps, it looks once more; so what came in between is not missed.
                drop(state);
                let led = self.attention.lead(until, &mut || self.has_something(claim));
                state = self.state.lock();
                late = led && matches!(until, Until::At(at) if Instant::now() >= at);
                continue;
            }
            let arrived = Arc::clone(&queue.arrived);
            queue.waiters.add_thread(&arrived);
            // Behind the count: the role is not left free from now on.
            self.attention.call();
            match until {
                Until::At(at) => {
                    let waited = arrived.wait_until(&mut state, at);
                    // What came in the last moment is still taken.
                    late = waited.timed_out() && Instant::now() >= at;
                }
                Until::Now | Until::Forever => arrived.wait(&mut state),
            }
            state.queue(claim.number).waiters.remove_thread(&arrived);
        }
    }

    /// Takes all that a queue has; if it has nothing, `task` is woken when it has.
    pub(crate) fn poll_take(&self, claim: &Claim, batch: &mut Batch, task: &Waker) -> Result<(), Nothing> {
        let mut state = self.state.lock();
        state.try_take(claim, batch).unwrap_or_else(|| {
            let queue = state.queue(claim.number);
            if std::mem::take(&mut queue.interrupted) {
                return Err(Nothing::Interrupted);
            }
            queue.waiters.add_task(task);
            if state.must_report(claim) {
                self.attend(state);
            } else {
                drop(state);
            }
            self.attention.call();
            Err(Nothing::Empty)
        })
    }

    /// Returns `true` if a reader that waits would find something.
    fn has_something(&self, claim: &Claim) -> bool {
        let mut state = self.state.lock();
        let ended = state.ended.is_some();
        let queue = state.queue(claim.number);
        ended || queue.interrupted || !queue.pieces.items.is_empty()
    }

    /// Ends a wait of a queue's reader with `Interrupted`, this one or its next.
    pub(crate) fn interrupt(&self, number: u8, serial: u64) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        if let Some(queue) = state.queues.get_mut(usize::from(number)).and_then(Option::as_mut)
            && queue.serial == serial
        {
            queue.interrupted = true;
            queue.waiters.notify(&mut wakes);
        }
        drop(state);
        wakes.run();
        self.attention.poke();
    }

    /// Forgets an interrupt that no reader has seen.
    pub(crate) fn clear_interrupt(&self, claim: &Claim) {
        self.state.lock().queue(claim.number).interrupted = false;
    }

    /// Whether the peer is told from now on when the queue's reader waits.
    pub(crate) fn set_announce(&self, claim: &Claim, announce: bool) {
        let mut state = self.state.lock();
        let queue = state.queue(claim.number);
        match (queue.announce, announce) {
            (Announce::No, true) => queue.announce = Announce::Reading,
            (_, false) => {
                let waiting = std::mem::take(&mut queue.announce) == Announce::Waiting;
                if waiting {
                    self.tell_readers(state, claim, false, None);
                }
            }
            _ => {}
        }
    }

    /// Tells the peer that a reader waits, or no longer, if it is to be told.
    fn announce(&self, mut state: MutexGuard<'_, State>, claim: &Claim, waits: bool) {
        let queue = state.queue(claim.number);
        let (from, to) = if waits {
            (Announce::Reading, Announce::Waiting)
        } else {
            (Announce::Waiting, Announce::Reading)
        };
        if queue.announce == from {
            queue.announce = to;
            self.tell_readers(state, claim, waits, None);
        }
    }

    /// Tells the peer of this side's readers; a relay has a count of its own.
    pub(crate) fn set_waiting(&self, claim: &Claim, waiting: bool, count: Option<u32>) {
        self.tell_readers(self.state.lock(), claim, waiting, count);
    }

    fn tell_readers(
        &self,
        mut state: MutexGuard<'_, State>,
        claim: &Claim,
        waiting: bool,
        count: Option<u32>,
    ) {
        for channel in claim.channels().iter() {
            let reads = Reads { channel, waiting, count };
            match state.reads.iter_mut().find(|known| known.channel == channel) {
                Some(known) => *known = reads,
                None => state.reads.push(reads),
            }
        }
        self.attend(state);
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

    /// A channel on which a token comes while the queue has something. `some_left`: the receiver
    /// itself holds something back.
    pub(crate) fn ready(&self, claim: &Claim, some_left: bool) -> crossbeam_channel::Receiver<()> {
        let (token, ready) = crossbeam_channel::bounded(1);
        let mut state = self.state.lock();
        let ended = state.ended.is_some();
        let queue = state.queue(claim.number);
        if some_left || !queue.pieces.items.is_empty() {
            let _ = token.try_send(());
        }
        // Without a sender the channel counts as disconnected: always ready, which is so.
        if !ended {
            queue.waiters.add_token(token);
        }
        ready
    }

    /// Puts the token back after a take, if there is more.
    pub(crate) fn rearm(&self, claim: &Claim, some_left: bool) {
        let mut state = self.state.lock();
        let queue = state.queue(claim.number);
        if some_left || !queue.pieces.items.is_empty() {
            queue.waiters.put_tokens();
        }
        if state.must_report(claim) {
            self.attend(state);
        }
    }

    /// How many messages are in the queue.
    pub(crate) fn len(&self, claim: &Claim) -> usize {
        self.state.lock().queue(claim.number).pieces.messages
    }

    /// The receiver wants no more of the runs of these channels: what is there is dropped, and so
    /// is what comes until they end; of a channel with no open run, the next one.
    pub(crate) fn stop(
        &self,
        claim: &Claim,
        channels: ChannelSet,
        code: u32,
        mut rest: Pieces,
        pool: &Pool,
    ) -> Pieces {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let queued = std::mem::take(&mut state.queue(claim.number).pieces);
        // What belongs to other channels stays, in order.
        let (mut left, mut kept) = (Pieces::default(), Pieces::default());
        for (pieces, keep) in [(std::mem::take(&mut rest), &mut left), (queued, &mut kept)] {
            for item in pieces.items {
                let mut dropped = Pieces::default();
                split(item, channels, &mut dropped, keep, pool);
                state.discard(&mut dropped, pool);
            }
        }
        state.queue(claim.number).pieces = kept;
        for id in channels.iter() {
            if state.ended.is_none() {
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

    fn bump(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    // ---- the I/O thread's side

    /// Brings a staging area's copy of the routes up to date.
    pub(crate) fn route(&self, staging: &mut Staging, known: &mut Routes) {
        let version = self.version.load(Ordering::Relaxed);
        if known.version != Some(version) {
            let state = self.state.lock();
            known.version = Some(self.version.load(Ordering::Relaxed));
            known.table = state.routes;
            for id in state.runs.inspected().iter() {
                known.table[id.index()] = INSPECT;
            }
        }
        staging.begin(&known.table);
    }

    /// Takes over what was staged since `route`, each queue's at once, and wakes those that wait for
    /// it. Returns the channels without a receiver that something came for.
    pub(crate) fn hand_over(
        &self,
        staging: &mut Staging,
        known: &mut Routes,
        runs: Runs,
        pool: &Pool,
    ) -> ChannelSet {
        if staging.is_empty() && known.open == runs.open && runs.ended.is_empty() {
            return ChannelSet::EMPTY;
        }
        known.open = runs.open;
        let mut unclaimed = ChannelSet::EMPTY;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.runs.update(&runs);
        let current = known.version == Some(self.version.load(Ordering::Relaxed));
        let mut wakes = std::mem::take(&mut staging.wakes);
        let mut rerouted = false;
        let mut served = false;
        staging.hand_over(|list| {
            if state.ended.is_some() {
                // It came after the end.
                state.discard(&mut list.pieces, pool);
            } else if current && list.route != INSPECT {
                if list.route == UNCLAIMED {
                    unclaimed |= list.channels;
                }
                let queue = state.queue(list.route);
                queue.pieces.append(&mut list.pieces, &mut &*pool);
                served |= queue.waiters.notify(&mut wakes);
            } else {
                for item in std::mem::take(&mut list.pieces).items {
                    let mut reroute =
                        Reroute { unclaimed: &mut unclaimed, wakes: &mut wakes, served: &mut served, pool };
                    rerouted |= state.reroute(item, &mut reroute);
                }
            }
        });
        if rerouted {
            self.bump();
        }
        // What it discarded is collected by the exchange that follows.
        drop(guard);
        staging.served |= served;
        wakes.run();
        staging.wakes = wakes;
        unclaimed
    }

    /// What the receivers took, stopped and wait for since the last call.
    pub(crate) fn collect(&self, wishes: &mut Wishes) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.scheduled = false;
        state.collect_reports();
        wishes.taken.append(&mut state.taken);
        wishes.stops.append(&mut state.stops);
        wishes.reads.append(&mut state.reads);
    }

    /// From which cost on receivers are to report. `true`: some have something to report already,
    /// which `collect` gives.
    pub(crate) fn publish(&self, reports: &mut Vec<(ChannelId, u32)>) -> bool {
        if reports.is_empty() {
            return false;
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for (channel, cost) in reports.drain(..) {
            match state.report_at.iter_mut().find(|(known, _)| *known == channel) {
                Some((_, at)) => *at = cost,
                None => state.report_at.push((channel, cost)),
            }
            let number = state.routes[channel.index()];
            if number != UNCLAIMED && state.queue(number).reports.set_report_at(channel, cost) {
                state.reporting.insert(channel);
            }
        }
        !state.reporting.is_empty()
    }

    /// The connection is over: what has arrived can still be taken, then all hear the cause.
    pub(crate) fn end(&self, cause: &ConnectionError) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(cause.clone());
        for queue in state.queues.iter_mut().flatten() {
            queue.waiters.end(&mut wakes);
        }
        drop(state);
        wakes.run();
        self.attention.poke();
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

/// The I/O thread's copy of where channels go.
#[derive(Debug)]
pub(crate) struct Routes {
    version: Option<u32>,
    table: [u8; ChannelId::COUNT],
    /// The open runs that were handed over last.
    open: ChannelSet,
}

impl Default for Routes {
    fn default() -> Self {
        Self { version: None, table: [UNCLAIMED; ChannelId::COUNT], open: ChannelSet::EMPTY }
    }
}

/// Where a reroute puts what it finds.
struct Reroute<'a> {
    unclaimed: &'a mut ChannelSet,
    wakes: &'a mut Wakes,
    served: &'a mut bool,
    pool: &'a Pool,
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

    /// Drops what was not read, and gives its credit back.
    fn discard(&mut self, pieces: &mut Pieces, pool: &Pool) {
        for item in std::mem::take(pieces).items {
            for_each(&item, |channel, framed| framed.taken(channel).add_to(&mut self.taken));
            if let Item::Frames(frames) = item {
                (&mut &*pool).put(frames);
            }
        }
    }

    /// Finds for each thing in an item where it goes now; `true` if a route changed by it.
    fn reroute(&mut self, item: Item, to: &mut Reroute<'_>) -> bool {
        let mut changed = false;
        for_each(&item, |channel, framed| {
            let fate = if framed.is_end() { self.runs.end(channel) } else { self.runs.data(channel) };
            match fate {
                Fate::Delivered => {
                    let number = self.routes[channel.index()];
                    if number == UNCLAIMED {
                        to.unclaimed.insert(channel);
                    }
                    let queue = self.queue(number);
                    queue.pieces.push(channel, framed, to.pool);
                    *to.served |= queue.waiters.notify(to.wakes);
                }
                Fate::Discarded { stop, changes } => {
                    framed.taken(channel).add_to(&mut self.taken);
                    self.stops.extend(stop);
                    changed |= changes;
                }
            }
        });
        if let Item::Frames(frames) = item {
            (&mut &*to.pool).put(frames);
        }
        changed
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

/// Moves what is for some channels to one place and the rest to another, each in order.
fn split(item: Item, channels: ChannelSet, to: &mut Pieces, rest: &mut Pieces, pool: &Pool) {
    for_each(&item, |channel, framed| {
        let target = if channels.contains(channel) { &mut *to } else { &mut *rest };
        target.push(channel, framed, pool);
    });
    if let Item::Frames(frames) = item {
        (&mut &*pool).put(frames);
    }
}
