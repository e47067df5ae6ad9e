//! Many consoles at once: one thread hears all of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::session::{Session, tuple};
use crate::wait;

/// Sessions that may have something to say, and what waits for one.
#[derive(Default)]
struct Ready {
    queue: Mutex<VecDeque<u64>>,
    waits: Mutex<Option<Waker>>,
}

impl Ready {
    fn push(&self, number: u64) {
        self.queue.lock().push_back(number);
        let waker = self.waits.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A session's place in the queue: it is there once at most.
struct Turn {
    number: u64,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Turn {
    fn queue(&self) {
        if !self.queued.swap(true, SeqCst) {
            self.ready.push(self.number);
        }
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.queue();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.queue();
    }
}

struct Member {
    session: Py<Session>,
    turn: Arc<Turn>,
}

/// Consoles that are heard together. A session that is here is heard by no other call. One thread at a time waits;
/// others may add and remove meanwhile.
#[pyclass(frozen, module = "trunkline._trunkline", name = "_Sessions")]
pub(crate) struct Sessions {
    members: Mutex<HashMap<u64, Member>>,
    ready: Arc<Ready>,
}

#[pymethods]
impl Sessions {
    #[new]
    fn new() -> Self {
        Self { members: Mutex::default(), ready: Arc::default() }
    }

    /// From here on it is heard under this number, which no other may have.
    fn add(&self, number: u64, session: Py<Session>) {
        let turn = Arc::new(Turn { number, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        let member = Member { session, turn: Arc::clone(&turn) };
        let before = self.members.lock().insert(number, member);
        drop(before);
        turn.queue();
    }

    fn remove(&self, number: u64) {
        let removed = self.members.lock().remove(&number);
        drop(removed);
    }

    /// Makes the call that waits return None.
    fn wake(&self) {
        // No session has this number, so it is passed over, after the queue has been seen.
        self.ready.push(u64::MAX);
    }

    /// Returns what a kernel has said next: the number of its session, and what it was, or None as the last of it.
    /// None alone after `timeout` seconds, or when it is woken.
    #[pyo3(signature = (timeout = None))]
    fn next<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Option<(u64, Option<Bound<'py, PyTuple>>)>> {
        let said = wait::poll(py, wait::deadline(timeout)?, |context| {
            *self.ready.waits.lock() = Some(context.waker().clone());
            loop {
                let Some(number) = self.ready.queue.lock().pop_front() else { return Poll::Pending };
                if number == u64::MAX {
                    return Poll::Ready(None);
                }
                let members = self.members.lock();
                let Some(member) = members.get(&number) else { continue };
                let turn = Arc::clone(&member.turn);
                turn.queued.store(false, SeqCst);
                let waker = Waker::from(Arc::clone(&turn));
                let polled = member.session.get().poll_next(&mut Context::from_waker(&waker));
                drop(members);
                match polled {
                    Poll::Pending => {}
                    Poll::Ready(Some(said)) => {
                        // It may have more, after the others.
                        turn.queue();
                        return Poll::Ready(Some((number, Some(said))));
                    }
                    Poll::Ready(None) => return Poll::Ready(Some((number, None))),
                }
            }
        })?;
        let Some((number, said)) = said.flatten() else { return Ok(None) };
        Ok(Some((number, said.map(|said| tuple(py, said)).transpose()?)))
    }
}
