//! The send queue of a connection: the sending half of the session, behind one lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Attend;
use super::pool::Pool;
use super::sync::{Condvar, Mutex, MutexGuard};
use crate::error::{ChannelError, CloseCode, CloseError, ConnectionError, FlushError};
use crate::id::ChannelId;
use crate::proto::frame::End;
use crate::proto::outbound::{Mark, Outbound, Payload, Priority, Refused};

/// How long a call may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// Not at all.
    Now,
    At(Instant),
    Forever,
}

impl Until {
    /// A time that far off counts as for ever.
    pub(crate) fn after(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Self::Forever, Self::At)
    }
}

/// Why a message was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unsent {
    /// No room, not in time either.
    NoRoom,
    TooLarge(u32),
    Stopped(u32),
    Ended(ConnectionError),
}

/// The senders that wait on one channel.
#[derive(Debug, Default)]
struct Waiters {
    count: u32,
    /// Behind the same lock as the count; shared so that the lock need not be held to notify.
    credit: Arc<Condvar>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) outbound: Outbound,
    /// The I/O thread knows that there is something to send.
    scheduled: bool,
    waiters: Vec<Waiters>,
    waiting_for_space: u32,
    ended: Option<ConnectionError>,
    close: Option<(CloseCode, String)>,
    interrupt: bool,
    flushes: Vec<Flush>,
    tickets: u64,
    /// The I/O thread has let go of the connection.
    gone: bool,
    /// The peer has answered our CLOSE, so it has all that came before.
    delivered: bool,
}

/// `state` protects everything; the condition variables go with it.
pub(crate) struct SendQueue {
    state: Mutex<State>,
    space: Condvar,
    gone: Condvar,
    flushed: Condvar,
    attention: Arc<dyn Attend>,
}

/// A call that waits for the peer to have what was accepted before it.
#[derive(Debug)]
pub(crate) struct Flush {
    ticket: u64,
    pub(crate) mark: Mark,
    /// Where that ends in the stream, once it is all in there.
    pub(crate) offset: Option<u64>,
}

/// What the application asked of the connection since the I/O thread last looked.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) close: Option<(CloseCode, String)>,
    pub(crate) interrupt: bool,
    /// Those that are done are to be taken out.
    pub(crate) flushes: Vec<Flush>,
}

impl SendQueue {
    pub(crate) fn new(outbound: Outbound, attention: Arc<dyn Attend>) -> Self {
        Self {
            state: Mutex::new(State {
                outbound,
                scheduled: false,
                waiters: Vec::new(),
                waiting_for_space: 0,
                ended: None,
                close: None,
                interrupt: false,
                flushes: Vec::new(),
                tickets: 0,
                gone: false,
                delivered: false,
            }),
            space: Condvar::new(),
            gone: Condvar::new(),
            flushed: Condvar::new(),
            attention,
        }
    }

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

    /// Accepts a message whole, waiting for room as long as `until` allows.
    pub(crate) fn send(
        &self,
        place: usize,
        generation: u32,
        payload: Payload<'_>,
        until: Until,
        mut pool: &Pool,
    ) -> Result<(), Unsent> {
        let mut state = self.state.lock();
        loop {
            if let Some(cause) = &state.ended {
                return Err(Unsent::Ended(cause.clone()));
            }
            match state.outbound.offer(place, generation, payload, &mut pool) {
                Ok(()) => {
                    self.attend(state);
                    return Ok(());
                }
                Err(Refused::TooLarge(limit)) => return Err(Unsent::TooLarge(limit)),
                Err(Refused::Stopped(code)) => return Err(Unsent::Stopped(code)),
                Err(Refused::Credit) => {
                    let waiters = &mut state.waiters[place];
                    waiters.count += 1;
                    let credit = Arc::clone(&waiters.credit);
                    self.expect_progress(until);
                    let waited = wait(&credit, &mut state, until);
                    state.waiters[place].count -= 1;
                    waited?;
                }
                Err(Refused::QueueFull) => {
                    state.waiting_for_space += 1;
                    self.expect_progress(until);
                    let waited = wait(&self.space, &mut state, until);
                    state.waiting_for_space -= 1;
                    waited?;
                }
            }
        }
    }

    /// Somebody must run the I/O loop while this thread waits for what it does.
    fn expect_progress(&self, until: Until) {
        if !matches!(until, Until::Now) {
            self.attention.call();
        }
    }

    /// Lets the I/O thread know, unless it does.
    fn attend(&self, mut state: MutexGuard<'_, State>) {
        let first = !std::mem::replace(&mut state.scheduled, true);
        drop(state);
        if first {
            self.attention.attend();
        }
    }

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
        if state.waiters.len() <= place {
            state.waiters.resize_with(place + 1, Waiters::default);
        }
        Ok((place, generation))
    }

    pub(crate) fn clone_sender(&self, place: usize, generation: u32) {
        self.state.lock().outbound.clone_sender(place, generation);
    }

    pub(crate) fn release(&self, place: usize, generation: u32, mut pool: &Pool) {
        let mut state = self.state.lock();
        // After a close there is no end of a run any more: the peer would take what is cut short
        // for finished.
        if state.ended.is_some() {
            return;
        }
        state.outbound.release(place, generation, &mut pool);
        self.attend(state);
    }

    pub(crate) fn end_run(
        &self,
        place: usize,
        generation: u32,
        end: End,
        mut pool: &Pool,
    ) -> Result<(), ConnectionError> {
        let mut state = self.state.lock();
        if let Some(cause) = &state.ended {
            return Err(cause.clone());
        }
        state.outbound.end(place, generation, end, &mut pool);
        self.attend(state);
        Ok(())
    }

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

    /// Asks for the connection to be closed behind what was accepted; senders fail from now on.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return;
        }
        state.close = Some((code, reason.to_owned()));
        self.set_ended(&mut state, &ConnectionError::Closed { code });
        self.attend(state);
    }

    /// Waits until the peer has everything that was accepted before the call.
    pub(crate) fn flush(&self, until: Until) -> Result<(), FlushError> {
        let mut state = self.state.lock();
        state.tickets += 1;
        let ticket = state.tickets;
        let mark = state.outbound.mark();
        state.flushes.push(Flush { ticket, mark, offset: None });
        state.scheduled = true;
        drop(state);
        self.attention.attend();
        let mut state = self.state.lock();
        while let Some(at) = state.flushes.iter().position(|flush| flush.ticket == ticket) {
            if let Some(cause) = &state.ended {
                let cause = cause.clone();
                state.flushes.swap_remove(at);
                return Err(cause.into());
            }
            if wait(&self.flushed, &mut state, until).is_err() {
                // It may be done by now.
                let pending = state.flushes.len();
                state.flushes.retain(|flush| flush.ticket != ticket);
                return if state.flushes.len() < pending { Err(FlushError::TimedOut) } else { Ok(()) };
            }
        }
        Ok(())
    }

    /// Waits until the I/O thread has let go of the connection: the peer has all, or it is lost.
    pub(crate) fn wait_gone(&self, until: Until) {
        self.attention.call();
        let mut state = self.state.lock();
        while !state.gone {
            if wait(&self.gone, &mut state, until).is_err() {
                return;
            }
        }
    }

    /// Whether the peer has all that was sent, once the I/O thread has let go.
    pub(crate) fn delivered(&self) -> Result<(), CloseError> {
        let state = self.state.lock();
        if state.delivered { Ok(()) } else { Err(CloseError { cause: state.ended.clone() }) }
    }

    /// The connection is over: every sender fails with the cause, those that wait too.
    pub(crate) fn end(&self, cause: &ConnectionError) {
        self.set_ended(&mut self.state.lock(), cause);
    }

    fn set_ended(&self, state: &mut State, cause: &ConnectionError) {
        state.ended.get_or_insert_with(|| cause.clone());
        self.space.notify_all();
        self.flushed.notify_all();
        for waiters in &state.waiters {
            waiters.credit.notify_all();
        }
    }

    /// The I/O thread lets go.
    pub(crate) fn set_gone(&self, cause: &ConnectionError, delivered: bool) {
        let mut state = self.state.lock();
        self.set_ended(&mut state, cause);
        state.outbound.clear();
        state.gone = true;
        state.delivered = delivered;
        self.gone.notify_all();
    }

    /// The I/O thread works on the sending half. `work` gets a list for the places whose senders
    /// may go on, and returns whether the I/O thread comes back by itself; if not, the next sender
    /// will call it.
    pub(crate) fn exchange(&self, work: impl FnOnce(&mut Outbound, &mut Wishes, &mut Vec<usize>) -> bool) {
        let mut state = self.state.lock();
        let mut wishes = Wishes {
            close: state.close.take(),
            interrupt: std::mem::take(&mut state.interrupt),
            flushes: std::mem::take(&mut state.flushes),
        };
        let flushes = wishes.flushes.len();
        let mut woken = Vec::new();
        state.scheduled = work(&mut state.outbound, &mut wishes, &mut woken);
        if wishes.flushes.len() < flushes {
            self.flushed.notify_all();
        }
        state.flushes = wishes.flushes;
        for place in woken {
            if let Some(waiters) = state.waiters.get(place)
                && waiters.count > 0
            {
                waiters.credit.notify_all();
            }
        }
        if state.waiting_for_space > 0 && state.outbound.has_room() {
            self.space.notify_all();
        }
    }

    /// Reads something of the sending half.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&mut Outbound) -> R) -> R {
        read(&mut self.state.lock().outbound)
    }

    pub(crate) fn ended(&self) -> Option<ConnectionError> {
        self.state.lock().ended.clone()
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
