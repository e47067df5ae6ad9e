//! The receive queues of a connection, behind one lock.
//!
//! Queue 0 holds what came for channels that have no receiver yet, in arrival order; every
//! receiver has a queue of its own, for one channel or several. A channel whose receiver was
//! dropped is *refused*: what comes for it is answered with STOP and discarded until its run ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::Attend;
use super::batch::{Batch, Framed, Item, Pieces, for_each};
use super::pool::Pool;
use super::route::{INSPECT, Staging};
use super::send::Until;
use super::sync::{AtomicU32, Condvar, Mutex, MutexGuard, Ordering};
use crate::error::ConnectionError;
use crate::event::Event;
use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::cost;
use crate::proto::frame::WORD;
use crate::proto::inbound::Taken;
use crate::proto::segment::Spare;

/// Where messages wait whose channel has no receiver.
pub(crate) const UNCLAIMED: u8 = 0;

/// How many events may wait for one that listens for them.
const EVENTS: usize = 1024;

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
    pub(crate) unreported: Arc<Unreported>,
}

impl Claim {
    pub(crate) fn channels(&self) -> ChannelSet {
        self.unreported.channels
    }
}

#[derive(Debug, Default)]
struct Queue {
    serial: u64,
    pieces: Pieces,
    channels: ChannelSet,
    /// What its receiver has taken and not reported yet.
    unreported: Arc<Unreported>,
    /// A receiver sleeps on `arrived`.
    waiting: bool,
    interrupted: bool,
    arrived: Arc<Condvar>,
    /// For `select!`: one token while something is there; gone when the connection is.
    ready: Option<crossbeam_channel::Sender<()>>,
}

#[derive(Debug)]
struct Refusal {
    channel: ChannelId,
    code: u32,
    /// Only the next run is refused.
    once: bool,
}

struct State {
    routes: [u8; ChannelId::COUNT],
    queues: Vec<Option<Queue>>,
    claims: u64,
    /// Runs of the peer's that were open when it was last handed over.
    open: ChannelSet,
    refusals: Vec<Refusal>,
    /// STOP was sent; what still comes is discarded until the run ends.
    discarding: ChannelSet,
    announced: ChannelSet,
    /// For the I/O thread: what was taken, and what is to be stopped.
    taken: Vec<Taken>,
    stops: Vec<(ChannelId, u32)>,
    scheduled: bool,
    listeners: Vec<crossbeam_channel::Sender<Event>>,
    ended: Option<ConnectionError>,
}

/// `state` protects everything. `version` counts the changes of where channels go; it is changed
/// only with the lock held, and read without it by the I/O thread merely to learn whether its copy
/// is old, which it checks again under the lock before it relies on it; so `Relaxed` is enough.
pub(crate) struct Inbox {
    state: Mutex<State>,
    version: AtomicU32,
    attention: Arc<dyn Attend>,
}

impl Inbox {
    pub(crate) fn new(attention: Arc<dyn Attend>) -> Self {
        Self {
            state: Mutex::new(State {
                routes: [UNCLAIMED; ChannelId::COUNT],
                queues: vec![Some(Queue::default())],
                claims: 0,
                open: ChannelSet::EMPTY,
                refusals: Vec::new(),
                discarding: ChannelSet::EMPTY,
                announced: ChannelSet::EMPTY,
                taken: Vec::new(),
                stops: Vec::new(),
                scheduled: false,
                listeners: Vec::new(),
                ended: None,
            }),
            version: AtomicU32::new(0),
            attention,
        }
    }

    // ---- the receivers' side

    /// A queue for these channels, with what already waits for them; `Err`: this one has one.
    pub(crate) fn claim(&self, channels: ChannelSet, pool: &Pool) -> Result<Claim, ChannelId> {
        let mut state = self.state.lock();
        if let Some(used) = channels.iter().find(|id| state.routes[id.index()] != UNCLAIMED) {
            return Err(used);
        }
        let number =
            (1..state.queues.len()).find(|&number| state.queues[number].is_none()).unwrap_or_else(|| {
                state.queues.push(None);
                state.queues.len() - 1
            });
        let unreported = Arc::new(Unreported::new(channels));
        state.claims += 1;
        let serial = state.claims;
        let mut queue = Queue { serial, channels, unreported: Arc::clone(&unreported), ..Queue::default() };
        let unclaimed = state.queue(UNCLAIMED);
        // Walked as a whole, so that the order across channels stays.
        for item in std::mem::take(&mut unclaimed.pieces).items {
            split(item, channels, &mut queue.pieces, &mut unclaimed.pieces, pool);
        }
        state.queues[number] = Some(queue);
        for id in channels.iter() {
            state.routes[id.index()] = number as u8;
        }
        state.refusals.retain(|refusal| !channels.contains(refusal.channel));
        state.announced = state.announced - channels;
        self.bump();
        Ok(Claim { number: number as u8, serial, unreported })
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
            let State { queues, ended, .. } = &mut *state;
            let Some(queue) = queues[usize::from(claim.number)].as_mut() else { return Err(Nothing::Empty) };
            if std::mem::take(&mut queue.waiting) {
                self.attention.parked(-1);
            }
            if !queue.pieces.items.is_empty() {
                std::mem::swap(&mut queue.pieces, &mut batch.pieces);
                return Ok(());
            }
            if let Some(cause) = ended {
                return Err(Nothing::Ended(cause.clone()));
            }
            if late {
                return Err(Nothing::Empty);
            }
            if std::mem::take(&mut queue.interrupted) {
                return Err(Nothing::Interrupted);
            }
            if std::mem::take(&mut may_lead) {
                // Before it sleeps, it looks once more; so what came in between is not missed.
                drop(state);
                let led = self.attention.lead(until, &mut || self.has_something(claim));
                state = self.state.lock();
                late = led && matches!(until, Until::At(at) if Instant::now() >= at);
                continue;
            }
            queue.waiting = true;
            self.attention.parked(1);
            let arrived = Arc::clone(&queue.arrived);
            match until {
                Until::At(at) => {
                    let waited = arrived.wait_until(&mut state, at);
                    // What came in the last moment is still taken.
                    late = waited.timed_out() && Instant::now() >= at;
                }
                Until::Now | Until::Forever => arrived.wait(&mut state),
            }
        }
    }

    /// Whether a reader that waits would find something.
    fn has_something(&self, claim: &Claim) -> bool {
        let mut state = self.state.lock();
        let ended = state.ended.is_some();
        let queue = state.queue(claim.number);
        ended || queue.interrupted || !queue.pieces.items.is_empty()
    }

    /// Ends a wait of a queue's reader with `Interrupted`, this one or its next.
    pub(crate) fn interrupt(&self, number: u8, serial: u64) {
        let mut state = self.state.lock();
        if let Some(queue) = state.queues.get_mut(usize::from(number)).and_then(Option::as_mut)
            && queue.serial == serial
        {
            queue.interrupted = true;
            queue.arrived.notify_one();
        }
        drop(state);
        self.attention.poke();
    }

    /// Forgets an interrupt that no reader has seen.
    pub(crate) fn clear_interrupt(&self, claim: &Claim) {
        self.state.lock().queue(claim.number).interrupted = false;
    }

    /// What is to be told the I/O thread: `taken` is emptied. `due`: the peer may need credit
    /// soon; else it can wait until somebody runs the loop, which mostly is this reader.
    pub(crate) fn deposit(&self, taken: &mut Vec<Taken>, due: bool) {
        let mut state = self.state.lock();
        state.taken.append(taken);
        let first = !std::mem::replace(&mut state.scheduled, true);
        drop(state);
        if due {
            self.attention.attend_here();
        } else if first {
            self.attention.attend_later();
        }
    }

    /// A channel on which a token comes while the queue has something. `some_left`: the receiver
    /// itself holds something back.
    pub(crate) fn ready(&self, claim: &Claim, some_left: bool) -> crossbeam_channel::Receiver<()> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let mut state = self.state.lock();
        let ended = state.ended.is_some();
        let queue = state.queue(claim.number);
        if some_left || !queue.pieces.items.is_empty() {
            let _ = sender.try_send(());
        }
        // Without a sender the channel counts as disconnected: always ready, which is so.
        queue.ready = (!ended).then_some(sender);
        receiver
    }

    /// Puts the token back after a take, if there is more.
    pub(crate) fn rearm(&self, claim: &Claim, some_left: bool) {
        let mut state = self.state.lock();
        let queue = state.queue(claim.number);
        if some_left || !queue.pieces.items.is_empty() {
            queue.tell_ready();
        }
    }

    /// How many messages are in the queue.
    pub(crate) fn len(&self, claim: &Claim) -> usize {
        self.state.lock().queue(claim.number).pieces.messages
    }

    /// The receiver wants no more of the runs of these channels: what is there is dropped, and so
    /// is what comes until they end; of a channel with no open run, the next one.
    pub(crate) fn stop(&self, claim: &Claim, code: u32, rest: Pieces, pool: &Pool) {
        let mut rest = rest;
        let mut state = self.state.lock();
        let mut dropped = std::mem::take(&mut state.queue(claim.number).pieces);
        for pieces in [&mut rest, &mut dropped] {
            state.discard(pieces, pool);
        }
        for id in claim.channels().iter() {
            state.stop(id, code, true);
        }
        self.bump();
        self.attend(state);
    }

    /// The receiver is gone; `rest` is what it had taken and not given out.
    pub(crate) fn release(&self, claim: &Claim, mut rest: Pieces, pool: &Pool) {
        let mut state = self.state.lock();
        let Some(mut queue) = state.queues[usize::from(claim.number)].take() else { return };
        for id in queue.channels.iter() {
            queue.unreported.take(id).add_to(&mut state.taken);
        }
        for pieces in [&mut rest, &mut queue.pieces] {
            state.discard(pieces, pool);
        }
        for id in queue.channels.iter() {
            state.routes[id.index()] = UNCLAIMED;
            state.stop(id, 0, false);
        }
        self.bump();
        self.attend(state);
    }

    /// A stream of events; with those that tell what already waits.
    pub(crate) fn listen(&self) -> crossbeam_channel::Receiver<Event> {
        let (sender, receiver) = crossbeam_channel::bounded(EVENTS);
        let mut state = self.state.lock();
        for id in state.announced.iter() {
            let _ = sender.try_send(Event::Opened(id));
        }
        if let Some(cause) = &state.ended {
            let _ = sender.try_send(Event::Closed(cause.clone()));
        } else {
            state.listeners.push(sender);
        }
        receiver
    }

    /// Lets the I/O thread know, unless it does.
    fn attend(&self, mut state: MutexGuard<'_, State>) {
        let nothing = state.taken.is_empty() && state.stops.is_empty();
        let first = !nothing && !std::mem::replace(&mut state.scheduled, true);
        drop(state);
        if first {
            self.attention.attend();
        } else if !nothing {
            // It may be there as something that can wait, which a STOP cannot.
            self.attention.call();
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
            for id in state.discarding.iter().chain(state.refusals.iter().map(|refusal| refusal.channel)) {
                known.table[id.index()] = INSPECT;
            }
        }
        staging.begin(&known.table);
    }

    /// Takes over what was staged since `route`, each queue's at once, and wakes who waits for it.
    pub(crate) fn hand_over(&self, staging: &mut Staging, known: &mut Routes, open: ChannelSet, pool: &Pool) {
        if staging.is_empty() && known.open == open {
            return;
        }
        known.open = open;
        let mut state = self.state.lock();
        state.open = open;
        let current = known.version == Some(self.version.load(Ordering::Relaxed));
        let mut wake = std::mem::take(&mut staging.wake);
        let mut rerouted = false;
        let mut lists = staging.drain();
        for mut list in lists.drain(..) {
            if current && list.route != INSPECT {
                if list.route == UNCLAIMED {
                    state.announce(list.channels);
                }
                let queue = state.queue(list.route);
                queue.pieces.append(&mut list.pieces, &mut &*pool);
                self.attention.parked(queue.tell(&mut wake));
            } else {
                for item in std::mem::take(&mut list.pieces).items {
                    let woken = wake.len();
                    rerouted |= state.reroute(item, &mut wake, pool);
                    self.attention.parked(woken as isize - wake.len() as isize);
                }
            }
            staging.recycle(list);
        }
        staging.restore(lists);
        if rerouted {
            self.bump();
        }
        self.attend(state);
        staging.served |= !wake.is_empty();
        for arrived in wake.drain(..) {
            arrived.notify_one();
        }
        staging.wake = wake;
    }

    /// What the receivers took and stopped since the last call.
    pub(crate) fn collect(&self, taken: &mut Vec<Taken>, stops: &mut Vec<(ChannelId, u32)>) {
        let mut state = self.state.lock();
        state.scheduled = false;
        std::mem::swap(&mut state.taken, taken);
        std::mem::swap(&mut state.stops, stops);
    }

    pub(crate) fn tell(&self, event: &Event) {
        self.state.lock().tell_listeners(event);
    }

    /// The connection is over: what has arrived can still be taken, then everyone hears the cause.
    pub(crate) fn end(&self, cause: &ConnectionError) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(cause.clone());
        state.tell_listeners(&Event::Closed(cause.clone()));
        state.listeners.clear();
        for queue in state.queues.iter_mut().flatten() {
            queue.ready = None;
            queue.arrived.notify_all();
        }
        drop(state);
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
        let queue = state.queue(number);
        if queue.channels.contains(channel) {
            sum.add(queue.unreported.read(channel));
        }
        sum
    }
}

/// What a receiver has taken of each of its channels since it last reported it: the cost in the low
/// half, the messages in the high one. Only the receiver writes; others read for statistics, where
/// a moment's delay does not matter; so `Relaxed` is enough.
#[derive(Debug, Default)]
pub(crate) struct Unreported {
    channels: ChannelSet,
    taken: Box<[AtomicU64]>,
}

impl Unreported {
    fn new(channels: ChannelSet) -> Self {
        Self { channels, taken: channels.iter().map(|_| AtomicU64::new(0)).collect() }
    }

    #[inline]
    /// Adds a message; the cost that has gathered.
    pub(crate) fn add(&self, channel: ChannelId, cost: u32) -> u32 {
        let taken = &self.taken[self.place(channel)];
        let sum = taken.load(Relaxed) + (1 << 32) + u64::from(cost);
        taken.store(sum, Relaxed);
        sum as u32
    }

    #[inline]
    fn place(&self, channel: ChannelId) -> usize {
        if self.taken.len() == 1 { 0 } else { self.channels.rank(channel) }
    }

    fn read(&self, channel: ChannelId) -> Taken {
        let sum = self.taken[self.place(channel)].load(Relaxed);
        Taken { channel, cost: sum as u32, messages: (sum >> 32) as u32, ends: 0 }
    }

    /// Takes out what is to be reported now.
    pub(crate) fn take(&self, channel: ChannelId) -> Taken {
        let taken = self.read(channel);
        self.taken[self.place(channel)].store(0, Relaxed);
        taken
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

impl State {
    fn queue(&mut self, number: u8) -> &mut Queue {
        self.queues[usize::from(number)].get_or_insert_default()
    }

    fn announce(&mut self, channels: ChannelSet) {
        let new = channels - self.announced;
        self.announced |= new;
        for id in new.iter() {
            self.tell_listeners(&Event::Opened(id));
        }
    }

    fn tell_listeners(&mut self, event: &Event) {
        // One that is full loses the event, and one that is gone is forgotten.
        self.listeners.retain(|listener| {
            !matches!(listener.try_send(event.clone()), Err(crossbeam_channel::TrySendError::Disconnected(_)))
        });
    }

    /// Stops the open run of a channel, or else refuses what comes: the next run, or (`once` not
    /// set) every run until there is a receiver again.
    fn stop(&mut self, channel: ChannelId, code: u32, once: bool) {
        if self.open.contains(channel) && self.discarding.insert(channel) {
            self.stops.push((channel, code));
            if once {
                return;
            }
        }
        self.refusals.retain(|refusal| refusal.channel != channel);
        self.refusals.push(Refusal { channel, code, once });
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

    /// Finds for each thing in an item where it goes now; whether a route changed by it.
    fn reroute(&mut self, item: Item, wake: &mut Vec<Arc<Condvar>>, pool: &Pool) -> bool {
        let mut changed = false;
        for_each(&item, |channel, framed| {
            let is_end = matches!(framed, Framed::End(_));
            let refusal = self.refusals.iter().position(|refusal| refusal.channel == channel);
            if self.discarding.contains(channel) {
                framed.taken(channel).add_to(&mut self.taken);
                if is_end {
                    self.discarding.remove(channel);
                    changed = true;
                }
            } else if let Some(at) = refusal {
                framed.taken(channel).add_to(&mut self.taken);
                let Refusal { code, once, .. } = self.refusals[at];
                if !is_end {
                    self.discarding.insert(channel);
                    self.stops.push((channel, code));
                }
                if once {
                    self.refusals.remove(at);
                    changed = true;
                }
            } else {
                let number = self.routes[channel.index()];
                if number == UNCLAIMED {
                    self.announce(channel.into());
                }
                let queue = self.queue(number);
                queue.pieces.push(channel, framed, pool);
                queue.tell(wake);
            }
        });
        if let Item::Frames(frames) = item {
            (&mut &*pool).put(frames);
        }
        changed
    }
}

impl Queue {
    /// Lets its reader know; the change in the number of readers that wait.
    fn tell(&mut self, wake: &mut Vec<Arc<Condvar>>) -> isize {
        self.tell_ready();
        if !std::mem::take(&mut self.waiting) {
            return 0;
        }
        wake.push(Arc::clone(&self.arrived));
        -1
    }

    fn tell_ready(&self) {
        if let Some(ready) = &self.ready {
            // Full: the token is there already.
            let _ = ready.try_send(());
        }
    }
}

impl Framed<'_> {
    /// What the I/O thread is told when this was read or dropped.
    pub(crate) fn taken(self, channel: ChannelId) -> Taken {
        match self {
            Self::Small(frame) => Taken { channel, cost: cost(frame.len() - WORD), messages: 1, ends: 0 },
            Self::Message(bytes) => Taken { channel, cost: cost(bytes.len()), messages: 1, ends: 0 },
            Self::End(_) => Taken { channel, cost: 0, messages: 0, ends: 1 },
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
