//! What the I/O thread calls: it hands over what has come, and hears what was taken.

use super::routes::{Routes, UNCLAIMED};
use super::runs::Fate;
use super::{ReceiveQueues, State};
use crate::error::ConnectionError;
use crate::id::{ChannelId, ChannelSet};
use crate::proto::inbound::Runs;
use crate::proto::segment::Spare;
use crate::proto::session::Wishes;
use crate::queue::batch::{Item, Pieces, for_each};
use crate::queue::pool::Pool;
use crate::queue::staging::{INSPECT, Staging};
use crate::queue::sync::Ordering;
use crate::queue::waiters::Wakes;

/// Where a reroute puts what it finds.
struct Reroute<'a> {
    unclaimed: &'a mut ChannelSet,
    wakes: &'a mut Wakes,
    served: &'a mut bool,
    pool: &'a Pool,
}

impl ReceiveQueues {
    pub(super) fn bump(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

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
}

impl State {
    /// Drops what was not read, and gives its credit back.
    pub(super) fn discard(&mut self, pieces: &mut Pieces, pool: &Pool) {
        for item in std::mem::take(pieces).items {
            for_each(&item, |channel, framed| {
                let taken = framed.taken(channel);
                self.runs.count_discarded(channel, taken.messages);
                taken.add_to(&mut self.taken);
            });
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
                    let taken = framed.taken(channel);
                    self.runs.count_discarded(channel, taken.messages);
                    taken.add_to(&mut self.taken);
                    self.stops.extend(stop);
                    changed |= changes;
                    let number = self.routes[channel.index()];
                    if changes && number != UNCLAIMED {
                        // The end of a refused run: a relay wants to know how much it had.
                        let _ = self.queue(number).waiters.notify(to.wakes);
                    }
                }
            }
        });
        if let Item::Frames(frames) = item {
            (&mut &*to.pool).put(frames);
        }
        changed
    }
}
