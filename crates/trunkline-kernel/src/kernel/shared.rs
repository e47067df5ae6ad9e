//! What the interpreter's threads and those of the kernel share.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::machine::{Action, Machine};
use super::outbox::{Note, Outbox};
use super::settings::Settings;
use super::stdio_error::StdioError;
use super::wire::{Output, Sent, Wire};
use crate::layout::Control;

pub(super) struct Shared {
    state: Mutex<State>,
    /// There may be something for the loop or a reader, or room for output.
    changed: Condvar,
    /// The statement is to stop, and has not begun to.
    stop: AtomicBool,
    /// The kernel's own notes wait for room.
    backlog: AtomicBool,
    /// For a loop that selects.
    pub(super) loop_ready: (Sender<()>, Receiver<()>),
    service: Sender<()>,
    room: Arc<Room>,
    pub(super) settings: Settings,
}

pub(super) struct State {
    pub(super) machine: Machine,
    pub(super) wire: Option<Arc<Wire>>,
    outbox: Outbox,
    /// What the service has to do, outside the lock.
    pub(super) calls: Vec<Call>,
    /// The service looks at the standard input, or waits for it.
    pub(super) listens: bool,
    /// There will be no other console.
    pub(super) no_more: bool,
    /// The kernel is dropped.
    pub(super) closing: bool,
}

/// What the service does for the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Interrupt,
    Insist,
    Waiting(bool, u64),
    Command(Control),
    End,
}

thread_local! {
    /// The kernel whose statement this thread runs, as the address of its [`Shared`]; 0 if none.
    static RUNS: Cell<usize> = const { Cell::new(0) };
}

/// The library says that there may be room. It may say so from inside of a call that this crate makes with the lock
/// held, so it is passed on to the service, which looks at everything and wakes the others.
struct Room {
    news: AtomicBool,
    service: Sender<()>,
}

impl Wake for Room {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.news.store(true, Ordering::SeqCst);
        // A token that is there already will do.
        let _ = self.service.try_send(());
    }
}

impl Shared {
    /// The second value gets a token when there is something for the service.
    pub(super) fn new(settings: Settings) -> (Arc<Self>, Receiver<()>) {
        let (service, called) = bounded(1);
        let state = State {
            machine: Machine::new(settings.orphan_grace, settings.blocks),
            wire: None,
            outbox: Outbox::default(),
            calls: Vec::new(),
            listens: false,
            no_more: false,
            closing: false,
        };
        let shared = Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            backlog: AtomicBool::new(false),
            loop_ready: bounded(1),
            room: Arc::new(Room { news: AtomicBool::new(false), service: service.clone() }),
            service,
            settings,
        };
        (Arc::new(shared), called)
    }

    /// The state; what the machine wants done is done before it is let go.
    pub(super) fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state);
        self.act(&mut state);
        self.call_service_for(&state);
        result
    }

    /// The same for the service itself, which looks at everything before it sleeps and needs no call.
    pub(super) fn serving<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state);
        self.act(&mut state);
        result
    }

    /// Waits until `change` has a result; it is called again whenever something has happened.
    pub(super) fn wait<R>(
        &self,
        deadline: Option<Instant>,
        mut change: impl FnMut(&mut State) -> Option<R>,
    ) -> Option<R> {
        let mut state = self.state.lock();
        loop {
            let result = change(&mut state);
            self.act(&mut state);
            self.call_service_for(&state);
            if result.is_some() {
                return result;
            }
            if !self.sleep(&mut state, deadline) {
                let last = change(&mut state);
                self.act(&mut state);
                self.call_service_for(&state);
                return last;
            }
        }
    }

    /// Returns `false` if the time is over.
    fn sleep(&self, state: &mut MutexGuard<'_, State>, deadline: Option<Instant>) -> bool {
        match deadline {
            None => {
                self.changed.wait(state);
                true
            }
            Some(deadline) => !self.changed.wait_until(state, deadline).timed_out(),
        }
    }

    fn act(&self, state: &mut State) {
        while let Some(action) = state.machine.poll_action() {
            match action {
                Action::Status(status) => state.outbox.push(Note::Status(status)),
                Action::Say(text) => state.outbox.push(Note::Say(text.into())),
                Action::Stop => {
                    self.stop.store(true, Ordering::SeqCst);
                    if state.wire.as_ref().is_some_and(|wire| wire.cut()) {
                        state.machine.note_cut();
                    }
                    state.calls.push(Call::Interrupt);
                }
                Action::Released => {
                    self.stop.store(false, Ordering::SeqCst);
                    if let Some(wire) = &state.wire {
                        wire.release();
                    }
                }
                Action::Wake => self.wake(),
                Action::Insist => state.calls.push(Call::Insist),
                Action::Waiting(waiting, read) => state.calls.push(Call::Waiting(waiting, read)),
                Action::Command(control) => state.calls.push(Call::Command(control)),
                Action::End => state.calls.push(Call::End),
            }
        }
        self.flush(state);
    }

    fn call_service_for(&self, state: &State) {
        // The next console's turn is the service's business, too.
        let next = state.machine.is_free() && !state.no_more;
        let wants = state.machine.wants_input() && !state.listens;
        if !state.calls.is_empty() || !state.outbox.is_empty() || wants || next {
            self.call_service();
        }
    }

    /// Sends of the kernel's own notes what there is room for. A status waits for the output before it: a console
    /// that has read it has all of that.
    pub(super) fn flush(&self, state: &mut State) {
        if self.room.news.swap(false, Ordering::SeqCst) {
            self.wake();
        }
        let before = state.outbox.is_empty();
        let room = Waker::from(Arc::clone(&self.room));
        while let (Some(note), Some(wire)) = (state.outbox.front(), &state.wire) {
            let sent = match note {
                Note::Status(_) if wire.is_behind(&room) => Sent::Full,
                Note::Status(status) => wire.status.try_send(status.to_string().as_bytes()),
                Note::Say(text) => wire.stderr.try_send(text),
            };
            match sent {
                Sent::Full => break,
                Sent::Yes(sent) => state.outbox.advance(sent),
                Sent::Interrupted | Sent::Unwanted | Sent::Lost => state.outbox.pop(),
            }
        }
        if state.wire.is_none() {
            state.outbox.clear();
        }
        self.backlog.store(!state.outbox.is_empty(), Ordering::SeqCst);
        if !before && state.outbox.is_empty() {
            self.wake();
        }
    }

    /// The channel for whose room the kernel's own notes wait.
    pub(super) fn held_up(state: &State) -> Option<&Output> {
        let wire = state.wire.as_ref()?;
        Some(match state.outbox.front()? {
            Note::Status(_) => &wire.status,
            Note::Say(_) => &wire.stderr,
        })
    }

    /// Waits until the kernel's own notes are sent, so that nothing overtakes them; not through an interrupt.
    pub(super) fn catch_up(&self) {
        if self.is_behind() {
            self.wait(None, |state| {
                let over = state.outbox.is_empty() || state.wire.is_none() || self.stopping();
                over.then_some(())
            });
        }
    }

    /// Waits until nothing of a message waits for the console, so that no other channel overtakes it; not through an
    /// interrupt of this thread.
    pub(super) fn wait_for_end(&self, output: &Output, main: bool) -> Result<(), StdioError> {
        if !output.may_be_behind() {
            return Ok(());
        }
        let room = Waker::from(Arc::clone(&self.room));
        let end = self.wait(None, |state| {
            if main && self.stopping() {
                state.machine.note_cut();
                return Some(Err(StdioError::Interrupted));
            }
            (!output.is_behind(&room)).then_some(Ok(()))
        });
        end.unwrap_or(Ok(()))
    }

    /// The kernel's own notes wait for room.
    pub(super) fn is_behind(&self) -> bool {
        self.backlog.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        self.changed.notify_all();
        // A token that is there already will do.
        let _ = self.loop_ready.0.try_send(());
    }

    pub(super) fn call_service(&self) {
        let _ = self.service.try_send(());
    }

    pub(super) fn wire(&self) -> Option<Arc<Wire>> {
        self.state.lock().wire.clone()
    }

    /// The statement is to stop, and has not begun to.
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// This thread runs the statement.
    pub(super) fn is_running_here(&self) -> bool {
        RUNS.get() == std::ptr::from_ref(self).addr()
    }

    /// Runs something as the statement.
    pub(super) fn running_here<R>(&self, run: impl FnOnce() -> R) -> R {
        /// Also if it panics.
        struct Restore(usize);
        impl Drop for Restore {
            fn drop(&mut self) {
                RUNS.set(self.0);
            }
        }
        let _restore = Restore(RUNS.replace(std::ptr::from_ref(self).addr()));
        run()
    }
}
