//! The send queue of a connection: the sending half of the session, behind one lock.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::error::{ChannelError, ConnectionError};
use crate::id::ChannelId;
use crate::proto::frame::End;
use crate::proto::outbound::{Outbound, Payload, Priority, Refused, Stopped};
use crate::proto::session::{CloseWish, Flush, Output, Wishes};
use crate::queue::attend::Attend;
use crate::queue::pool::Pool;
use crate::queue::sync::{Condvar, Mutex, MutexGuard};
use crate::queue::until::{Until, check_may_wait};
use crate::queue::waiters::{Line, Owner, Turn, Waiters, Wakes};

mod flush;
mod room;

/// Why a message was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unsent {
    /// No room, not in time either.
    NoRoom,
    /// The wait for room was ended.
    Interrupted,
    TooLarge(u32),
    Stopped(u32),
    Ended(ConnectionError),
}

impl From<Stopped> for Unsent {
    fn from(Stopped(code): Stopped) -> Self {
        Self::Stopped(code)
    }
}

/// Why a flush does not know that the peer has everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unflushed {
    Late,
    Ended(ConnectionError),
}

/// Whether the I/O thread comes back to a connection by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Comes {
    /// It does, and fetches what is there and what comes.
    Back,
    /// Only if the next sender calls it.
    WhenCalled,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) outbound: Outbound,
    /// The I/O thread knows that there is something to send.
    scheduled: bool,
    /// The senders that wait for room, by place.
    lines: Vec<Line>,
    /// Places whose first in line waits for room in the lanes, not for credit.
    cramped: Vec<usize>,
    /// The I/O thread can send nothing more for now: the peer takes no more, or is away.
    stuck: bool,
    ended: Option<ConnectionError>,
    close: Option<CloseWish>,
    interrupt: bool,
    flushes: Vec<Flush>,
    tickets: u64,
    /// Those that wait for a flush, or for the end.
    flushing: Waiters,
    ending: Waiters,
    /// The I/O thread has let go of the connection; the peer has all that was sent.
    gone: Option<bool>,
}

/// `state` protects everything; the condition variables go with it.
pub(crate) struct SendQueue {
    state: Mutex<State>,
    attention: Arc<dyn Attend>,
}

impl SendQueue {
    pub(crate) fn new(outbound: Outbound, attention: Arc<dyn Attend>) -> Self {
        Self {
            state: Mutex::new(State {
                outbound,
                scheduled: false,
                lines: Vec::new(),
                cramped: Vec::new(),
                stuck: false,
                ended: None,
                close: None,
                interrupt: false,
                flushes: Vec::new(),
                tickets: 0,
                flushing: Waiters::default(),
                ending: Waiters::default(),
                gone: None,
            }),
            attention,
        }
    }

    // ---- messages

    /// The common case of [`send`](SendQueue::send): a small message for which there is room.
    /// `false`: nothing was done.
    #[inline]
    pub(crate) fn send_quickly(&self, place: usize, generation: u32, message: &[u8]) -> bool {
        let mut state = self.state.lock();
        let done = state.ended.is_none() && state.outbound.offer_quickly(place, generation, message);
        if done && !state.scheduled {
            self.attend(state);
        }
        done
    }

    /// Accepts a message whole, waiting for room as long as `until` allows. Senders of a channel
    /// that wait go in the order in which they came. `ahead`: it is accepted without credit
    /// while little else is, and waits by itself.
    pub(crate) fn send(
        &self,
        place: usize,
        generation: u32,
        payload: Payload<'_>,
        until: Until,
        ahead: bool,
        mut pool: &Pool,
    ) -> Result<(), Unsent> {
        let mut state = self.state.lock();
        let mut turn: Option<Turn> = None;
        let result = loop {
            if let Some(cause) = &state.ended {
                break Err(Unsent::Ended(cause.clone()));
            }
            let in_turn = turn.as_ref().is_some_and(|turn| state.lines[place].is_first(turn));
            match state.outbound.offer(place, generation, payload, in_turn, &mut pool) {
                Ok(()) => break Ok(()),
                Err(Refused::TooLarge(limit)) => break Err(Unsent::TooLarge(limit)),
                Err(Refused::Stopped(code)) => break Err(Unsent::Stopped(code)),
                Err(Refused::Credit)
                    if ahead && state.outbound.offer_ahead(place, payload, in_turn, false) =>
                {
                    break Ok(());
                }
                Err(Refused::QueueFull)
                    if ahead && state.outbound.offer_ahead(place, payload, in_turn, true) =>
                {
                    break Ok(());
                }
                Err(Refused::Credit) => {}
                Err(Refused::QueueFull) => state.cramp(place),
            }
            if matches!(until, Until::Now) {
                break Err(Unsent::NoRoom);
            }
            check_may_wait();
            if state.lines[place].take_interrupt() {
                break Err(Unsent::Interrupted);
            }
            let turn = turn.get_or_insert_with(|| {
                state.outbound.set_line(place, true);
                state.lines[place].join()
            });
            // Something must run the I/O loop while this thread waits for what it does.
            self.attention.call();
            if wait(&turn.condvar, &mut state, until).is_err() {
                break Err(Unsent::NoRoom);
            }
        };
        let mut wakes = Wakes::default();
        if let Some(turn) = turn {
            state.lines[place].leave(&turn, &mut wakes);
            let still = state.lines[place].has_threads();
            state.outbound.set_line(place, still);
        }
        if result.is_ok() {
            self.attend(state);
        } else {
            drop(state);
        }
        wakes.run();
        result
    }

    /// Ends the wait of a sender of a channel, this one or the next.
    pub(crate) fn interrupt_sends(&self, place: usize) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        if let Some(line) = state.lines.get_mut(place) {
            line.interrupt(&mut wakes);
        }
        drop(state);
        wakes.run();
    }

    /// Forgets an interrupt that has ended no wait yet.
    pub(crate) fn clear_interrupt(&self, place: usize) {
        self.state.lock().lines[place].take_interrupt();
    }

    /// Accepts a message whole, for a task: `None` if there is no room, and then `task` is woken when
    /// that may have changed. Tasks do not stand in line: those that are woken try again.
    pub(crate) fn poll_send(
        &self,
        sender: (usize, u32),
        payload: Payload<'_>,
        ahead: bool,
        owner: Owner,
        task: &Waker,
        mut pool: &Pool,
    ) -> Option<Result<(), Unsent>> {
        let (place, generation) = sender;
        let mut state = self.state.lock();
        if let Some(cause) = &state.ended {
            return Some(Err(Unsent::Ended(cause.clone())));
        }
        match state.outbound.offer(place, generation, payload, false, &mut pool) {
            Ok(()) => self.attend(state),
            Err(Refused::TooLarge(limit)) => return Some(Err(Unsent::TooLarge(limit))),
            Err(Refused::Stopped(code)) => return Some(Err(Unsent::Stopped(code))),
            Err(refused @ (Refused::Credit | Refused::QueueFull))
                if ahead
                    && state.outbound.offer_ahead(place, payload, false, refused == Refused::QueueFull) =>
            {
                self.attend(state);
            }
            Err(_) if state.lines[place].take_interrupt() => return Some(Err(Unsent::Interrupted)),
            Err(refused) => {
                self.wait_as_task(state, place, refused, owner, task);
                return None;
            }
        }
        Some(Ok(()))
    }

    /// Lets the I/O thread know, unless it does.
    fn attend(&self, mut state: MutexGuard<'_, State>) {
        let first = !std::mem::replace(&mut state.scheduled, true);
        let_go(state);
        if first {
            self.attention.attend();
        }
    }

    // ---- senders

    /// A sender's place and generation.
    pub(crate) fn claim(
        &self,
        id: ChannelId,
        priority: Option<Priority>,
    ) -> Result<(usize, u32), ChannelError> {
        let mut state = self.state.lock();
        if !state.outbound.may_send(id) {
            return Err(ChannelError::NotPermitted { channel: id, sending: true });
        }
        if let Some(cause) = &state.ended {
            return Err(cause.clone().into());
        }
        let (place, generation) =
            state.outbound.claim(id, priority).ok_or(ChannelError::PriorityInUse(id))?;
        if state.lines.len() <= place {
            state.lines.resize_with(place + 1, Line::default);
        }
        if state.outbound.senders(place) == 1 {
            // An interrupt was meant for the senders before.
            state.lines[place].take_interrupt();
        }
        Ok((place, generation))
    }

    pub(crate) fn clone_sender(&self, place: usize, generation: u32) {
        self.state.lock().outbound.clone_sender(place, generation);
    }

    /// A sender is gone; if it was the last of its run, the run ends as `end` says.
    pub(crate) fn release(&self, place: usize, generation: u32, end: End, mut pool: &Pool) {
        let mut state = self.state.lock();
        // After a close there is no end of a run any more: the peer would take what is cut short
        // for finished.
        if state.ended.is_some() {
            return;
        }
        let room = state.outbound.release(place, generation, end, &mut pool);
        self.after_end(state, place, room);
    }

    pub(crate) fn end_run(
        &self,
        place: usize,
        generation: u32,
        end: End,
        mut pool: &Pool,
    ) -> Result<(), Unsent> {
        let mut state = self.state.lock();
        if let Some(cause) = &state.ended {
            return Err(Unsent::Ended(cause.clone()));
        }
        let room = state.outbound.end(place, generation, end, &mut pool)?;
        self.after_end(state, place, room);
        Ok(())
    }

    /// Takes back what a sender's run has sent and is not on its way; how many messages that was.
    pub(crate) fn discard(
        &self,
        place: usize,
        generation: u32,
        most: u64,
        mut pool: &Pool,
    ) -> Result<u64, Unsent> {
        let mut state = self.state.lock();
        if let Some(cause) = &state.ended {
            return Err(Unsent::Ended(cause.clone()));
        }
        let messages = state.outbound.discard(place, generation, most)?.messages;
        state.outbound.keep_place(place, &mut pool);
        self.after_end(state, place, messages > 0);
        Ok(messages)
    }

    fn after_end(&self, mut state: MutexGuard<'_, State>, place: usize, room: bool) {
        let mut wakes = Wakes::default();
        if room {
            state.lines[place].notify(&mut wakes);
        }
        self.attend(state);
        wakes.run();
    }

    pub(crate) fn gap(
        &self,
        place: usize,
        generation: u32,
        messages: u64,
        bytes: u64,
        mut pool: &Pool,
    ) -> Result<(), Unsent> {
        let mut state = self.state.lock();
        if let Some(cause) = &state.ended {
            return Err(Unsent::Ended(cause.clone()));
        }
        state.outbound.gap(place, generation, messages, bytes)?;
        state.outbound.keep_place(place, &mut pool);
        self.attend(state);
        Ok(())
    }

    // ---- the connection

    /// Asks for INTERRUPT to be sent.
    pub(crate) fn interrupt(&self) -> Result<(), ConnectionError> {
        let mut state = self.state.lock();
        if let Some(cause) = &state.ended {
            return Err(cause.clone());
        }
        state.interrupt = true;
        self.attend(state);
        Ok(())
    }

    /// Asks for the connection to be closed; senders fail from now on. A wish to close at once
    /// overrides one to close behind what was sent.
    pub(crate) fn close(&self, wish: CloseWish) {
        let mut state = self.state.lock();
        let code = wish.code();
        let mut wakes = Wakes::default();
        if state.ended.is_none() {
            state.close = Some(wish);
            state.set_ended(&ConnectionError::Closed { code }, &mut wakes);
        } else if matches!(wish, CloseWish::Now(_)) && state.gone.is_none() {
            state.close = Some(wish);
        } else {
            return;
        }
        self.attend(state);
        wakes.run();
    }

    /// The connection is over: every sender fails with the cause, those that wait too.
    pub(crate) fn end(&self, cause: &ConnectionError) {
        let mut wakes = Wakes::default();
        self.state.lock().set_ended(cause, &mut wakes);
        wakes.run();
    }

    /// The I/O thread lets go.
    pub(crate) fn set_gone(&self, cause: &ConnectionError, delivered: bool) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        state.set_ended(cause, &mut wakes);
        state.outbound.clear();
        state.gone = Some(delivered);
        state.ending.end(&mut wakes);
        let_go(state);
        wakes.run();
    }

    /// The I/O thread works on the sending half. `work` gets what the application asked for, and
    /// says whether the I/O thread comes back by itself; if not, the next sender will call it.
    pub(crate) fn exchange(
        &self,
        wishes: &mut Wishes,
        output: &mut Output,
        work: impl FnOnce(&mut Wishes, &mut Outbound, &mut Vec<Flush>, &mut Output) -> Comes,
    ) {
        let mut wakes = Wakes::default();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        wishes.close = state.close.take();
        wishes.interrupt = std::mem::take(&mut state.interrupt);
        let flushes = state.flushes.len();
        // A flush that the end finds, or that begins after it, fails: the session does not answer it.
        let mut none = Vec::new();
        let open = if state.ended.is_none() { &mut state.flushes } else { &mut none };
        let comes = work(wishes, &mut state.outbound, open, output);
        state.scheduled = comes == Comes::Back;
        if let Some(cause) = output.ended.take()
            && state.ended.is_none()
        {
            state.set_ended(&cause, &mut wakes);
        }
        if state.flushes.len() < flushes {
            state.flushing.notify(&mut wakes);
        }
        while let Some(place) = output.room.pop() {
            if let Some(line) = state.lines.get_mut(place) {
                line.notify(&mut wakes);
            }
        }
        while let Some(place) = output.stopped.pop() {
            if let Some(line) = state.lines.get_mut(place) {
                line.notify_all(&mut wakes);
            }
        }
        if !state.cramped.is_empty() && state.outbound.is_below_limit() {
            for place in state.cramped.drain(..) {
                state.lines[place].notify(&mut wakes);
            }
        }
        let_go(guard);
        wakes.run();
    }

    /// The peer is there for the first time: whatever senders wait for may have changed.
    pub(crate) fn meet(&self, meet: impl FnOnce(&mut Outbound)) {
        let mut wakes = Wakes::default();
        let mut state = self.state.lock();
        meet(&mut state.outbound);
        for line in &mut state.lines {
            line.notify(&mut wakes);
        }
        let_go(state);
        wakes.run();
    }

    /// Reads something of the sending half.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&mut Outbound) -> R) -> R {
        read(&mut self.state.lock().outbound)
    }

    pub(crate) fn ended(&self) -> Option<ConnectionError> {
        self.state.lock().ended.clone()
    }
}

impl State {
    /// Those in line for a channel may be waiting for room in the lanes.
    fn cramp(&mut self, place: usize) {
        if !self.cramped.contains(&place) {
            self.cramped.push(place);
        }
    }

    fn set_ended(&mut self, cause: &ConnectionError, wakes: &mut Wakes) {
        self.ended.get_or_insert_with(|| cause.clone());
        self.flushing.notify(wakes);
        for line in &mut self.lines {
            line.notify_all(wakes);
        }
    }
}

/// Unlocks, and then drops the payloads that are done with: their memory may be the user's.
#[inline]
fn let_go(mut state: MutexGuard<'_, State>) {
    if state.outbound.has_freed() {
        let freed = state.outbound.take_freed();
        drop(state);
        drop(freed);
    }
}

fn wait(condvar: &Condvar, state: &mut MutexGuard<'_, State>, until: Until) -> Result<(), Unsent> {
    match until {
        Until::Now => Err(Unsent::NoRoom),
        Until::Forever => {
            condvar.wait(state);
            Ok(())
        }
        Until::At(at) if condvar.wait_until(state, at).timed_out() && Instant::now() >= at => {
            Err(Unsent::NoRoom)
        }
        Until::At(_) => Ok(()),
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use super::*;
    use crate::error::CloseCode;
    use crate::id::ChannelSet;
    use crate::proto::credit::Credit;

    struct NoLoop;

    impl Attend for NoLoop {
        fn attend(&self) {}
    }

    /// Else a message that is accepted between the peer's CLOSE and its report to the handles would
    /// count as delivered.
    #[test]
    fn nothing_is_accepted_once_the_session_has_ended() {
        let window = Credit::new(100_000).unwrap();
        let outbound = Outbound::new(ChannelSet::ALL, window, 1 << 20, 1 << 20);
        let queue = SendQueue::new(outbound, Arc::new(NoLoop));
        let pool = Pool::default();
        let (place, generation) = queue.claim(ChannelId::new(1), None).unwrap();
        let send = || queue.send(place, generation, Payload::Slice(b"x"), Until::Now, false, &pool);
        assert_eq!(send(), Ok(()));
        let cause = ConnectionError::ClosedByPeer { code: CloseCode::NORMAL, reason: String::new() };
        queue.exchange(&mut Wishes::default(), &mut Output::default(), |_, outbound, _, output| {
            output.ended = Some(cause.clone());
            outbound.clear();
            Comes::WhenCalled
        });
        assert_eq!(send(), Err(Unsent::Ended(cause)));
        assert!(!queue.send_quickly(place, generation, b"x"));
    }
}
