//! How tasks and tokens wait for room, and whether it is the peer that they wait for.

use std::task::Waker;

use super::{SendQueue, State};
use crate::proto::outbound::Refused;
use crate::queue::sync::MutexGuard;
use crate::queue::waiters::{Owner, Wakes};

impl SendQueue {
    /// Returns `true` if a message of a usual size would be accepted now, or refused for good; else
    /// `task` is woken when that may have changed.
    pub(crate) fn poll_room(&self, place: usize, generation: u32, owner: Owner, task: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return true;
        }
        match state.outbound.room(place, generation) {
            Err(refused @ (Refused::Credit | Refused::QueueFull)) => {
                self.wait_as_task(state, place, refused, owner, task);
                false
            }
            // There is room, or the senders hear of the end at once.
            Ok(()) | Err(_) => true,
        }
    }

    /// Returns `true` if a message of a usual size would wait for the peer, and not only for the I/O thread.
    pub(crate) fn waits_for_peer(&self, place: usize, generation: u32) -> bool {
        let mut state = self.state.lock();
        state.ended.is_none()
            && match state.outbound.room(place, generation) {
                Err(Refused::Credit) => true,
                Err(Refused::QueueFull) => state.stuck,
                _ => false,
            }
    }

    /// The I/O thread can send nothing more until the peer takes some, or it can again. Tasks that wait for
    /// room in the lanes want to know that it is the peer that they wait for.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        let mut wakes = Wakes::default();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if !std::mem::replace(&mut state.stuck, stuck) && stuck {
            for &place in &state.cramped {
                state.lines[place].notify_tasks(&mut wakes);
            }
        }
        drop(guard);
        wakes.run();
    }

    pub(super) fn wait_as_task(
        &self,
        mut state: MutexGuard<'_, State>,
        place: usize,
        refused: Refused,
        owner: Owner,
        task: &Waker,
    ) {
        if refused == Refused::QueueFull {
            state.cramp(place);
        }
        let spent = state.lines[place].add_task(owner, task);
        drop(state);
        drop(spent);
        self.attention.call();
    }

    /// A number for a handle that waits with one task at a time.
    pub(crate) fn number(&self, place: usize) -> u64 {
        self.state.lock().lines[place].number()
    }

    /// The task of a handle waits no more.
    pub(crate) fn forget_task(&self, place: usize, owner: u64) {
        let spent = self.state.lock().lines[place].remove_task(owner);
        drop(spent);
    }

    /// A channel on which a token comes when there may be room.
    pub(crate) fn ready(&self, place: usize, generation: u32) -> crossbeam_channel::Receiver<()> {
        let (token, ready) = crossbeam_channel::bounded(1);
        let mut state = self.state.lock();
        if state.ended.is_none() {
            match state.outbound.room(place, generation) {
                Err(Refused::QueueFull) => state.cramp(place),
                Err(Refused::Credit) => {}
                _ => drop(token.try_send(())),
            }
            // Without a sender the channel counts as disconnected: always ready, which is so.
            state.lines[place].add_token(token);
        }
        ready
    }
}
