//! Those that wait for a queue: blocked threads, tokens to select on, and tasks. They are three
//! kinds of entry in one list, so whatever can be waited for with one can be waited for with all.
//!
//! Entries are made and taken out under the queue's lock. What wakes them runs after every lock was
//! let go, and so does the drop of a waker, which may be the last that holds its task: both are the
//! user's code.
//!
//! A handle that only one task at a time can wait with has one waker in a list at most, its newest; so
//! a task that gives up and comes again with another waker does not make the list grow. One that
//! several tasks may share has all of theirs, until something happens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::sync::{AtomicIsize, Condvar, Ordering::Relaxed};

/// Which handle a task waits with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// One that several tasks may share.
    Shared,
    /// The only one that has this number in its list.
    Sole(u64),
}

impl Owner {
    /// Where the list itself belongs to one handle.
    pub(crate) const ONLY: Self = Self::Sole(0);
}

/// A task that waits.
#[derive(Debug)]
struct Task {
    owner: Owner,
    waker: Waker,
}

/// A waker that is not needed any more, to be dropped when no lock is held.
pub(crate) type Spent = Option<Waker>;

impl Task {
    /// Returns `true` if this entry is the one that the task would make.
    fn is_for(&self, owner: Owner, waker: &Waker) -> bool {
        match owner {
            Owner::Shared => self.owner == Owner::Shared && self.waker.will_wake(waker),
            Owner::Sole(_) => self.owner == owner,
        }
    }

    fn renew(&mut self, waker: &Waker) -> Spent {
        if self.waker.will_wake(waker) {
            None
        } else {
            Some(std::mem::replace(&mut self.waker, waker.clone()))
        }
    }
}

/// One that waits.
#[derive(Debug)]
enum Waiter {
    /// A thread that sleeps with the queue's lock.
    Thread(Arc<Condvar>),
    /// A channel that has a token while there may be something; it stays in the list.
    Token(crossbeam_channel::Sender<()>),
    Task(Task),
}

/// What is to be woken once no lock is held.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Wakes(Vec<Wake>);

#[derive(Debug)]
enum Wake {
    Thread(Arc<Condvar>),
    Task(Waker),
}

impl Wakes {
    /// Wakes them all. No lock may be held.
    #[inline]
    pub(crate) fn run(&mut self) {
        if !self.0.is_empty() {
            self.run_all();
        }
    }

    #[cold]
    fn run_all(&mut self) {
        for wake in self.0.drain(..) {
            match wake {
                Wake::Thread(thread) => {
                    thread.notify_one();
                }
                Wake::Task(task) => task.wake(),
            }
        }
    }
}

/// How many threads sleep for the receive queues of an I/O thread: what tells whether the role of
/// running the loop may be left free. A thread counts before it calls the I/O thread, and the count is
/// read where the role is given up, both under the schedule's lock, which orders them; so `Relaxed`
/// is enough. Read anywhere else it is a hint.
#[derive(Debug, Default)]
pub(crate) struct Sleepers(AtomicIsize);

impl Sleepers {
    pub(crate) fn is_zero(&self) -> bool {
        self.0.load(Relaxed) <= 0
    }

    fn add(&self, change: isize) {
        if change != 0 {
            self.0.fetch_add(change, Relaxed);
        }
    }
}

/// A list of those that all want to know when something is there. A thread counts as a sleeper from
/// when it enters the list until it leaves it, however it does.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    list: Vec<Waiter>,
    sleepers: Option<Arc<Sleepers>>,
}

impl Waiters {
    /// A list whose threads count.
    pub(crate) fn counted(sleepers: &Arc<Sleepers>) -> Self {
        Self { list: Vec::new(), sleepers: Some(Arc::clone(sleepers)) }
    }

    fn count(&self, change: isize) {
        if let Some(sleepers) = &self.sleepers {
            sleepers.add(change);
        }
    }

    /// The thread that calls is about to sleep on `condvar`.
    pub(crate) fn add_thread(&mut self, condvar: &Arc<Condvar>) {
        self.list.push(Waiter::Thread(Arc::clone(condvar)));
        self.count(1);
    }

    /// The thread sleeps no more.
    pub(crate) fn remove_thread(&mut self, condvar: &Arc<Condvar>) {
        let before = self.list.len();
        self.list.retain(|waiter| !matches!(waiter, Waiter::Thread(thread) if Arc::ptr_eq(thread, condvar)));
        self.count(self.list.len() as isize - before as isize);
    }

    /// A task wants to be woken once.
    pub(crate) fn add_task(&mut self, owner: Owner, waker: &Waker) -> Spent {
        for waiter in &mut self.list {
            if let Waiter::Task(known) = waiter
                && known.is_for(owner, waker)
            {
                return known.renew(waker);
            }
        }
        self.list.push(Waiter::Task(Task { owner, waker: waker.clone() }));
        None
    }

    /// The task of a handle waits no more.
    pub(crate) fn remove_task(&mut self, owner: u64) -> Spent {
        let sole = Owner::Sole(owner);
        let at = self.list.iter().position(|w| matches!(w, Waiter::Task(task) if task.owner == sole))?;
        match self.list.remove(at) {
            Waiter::Task(task) => Some(task.waker),
            _ => None,
        }
    }

    /// A channel for a token.
    pub(crate) fn add_token(&mut self, token: crossbeam_channel::Sender<()>) {
        self.list.push(Waiter::Token(token));
    }

    /// Something is there. Threads and tasks leave the list. Returns `true` if a thread did.
    pub(crate) fn notify(&mut self, wakes: &mut Wakes) -> bool {
        if self.list.is_empty() {
            return false;
        }
        let mut threads = 0;
        // Moved out, not copied: a task's waker is neither cloned nor dropped under the lock.
        for waiter in std::mem::take(&mut self.list) {
            match waiter {
                Waiter::Thread(thread) => {
                    wakes.0.push(Wake::Thread(thread));
                    threads += 1;
                }
                Waiter::Task(task) => wakes.0.push(Wake::Task(task.waker)),
                Waiter::Token(token) => {
                    if put_token(&token) {
                        self.list.push(Waiter::Token(token));
                    }
                }
            }
        }
        self.count(-threads);
        threads > 0
    }

    /// Puts the tokens, and wakes nothing else: something is still there.
    pub(crate) fn put_tokens(&mut self) {
        self.list.retain(|waiter| match waiter {
            Waiter::Token(token) => put_token(token),
            _ => true,
        });
    }

    /// Nothing will be waited for any more: all are woken, and the tokens' channels are
    /// disconnected, which counts as always ready.
    pub(crate) fn end(&mut self, wakes: &mut Wakes) {
        self.notify(wakes);
        self.list.clear();
    }
}

/// A channel that counts as always ready: nothing is waited for any more.
pub(crate) fn always() -> crossbeam_channel::Receiver<()> {
    crossbeam_channel::bounded(0).1
}

/// `false`: nothing holds the other end any more.
fn put_token(token: &crossbeam_channel::Sender<()>) -> bool {
    !matches!(token.try_send(()), Err(crossbeam_channel::TrySendError::Disconnected(())))
}

/// Those that want room, in the order in which they came: the first that is a thread goes before
/// all behind it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    waiters: VecDeque<(u64, Waiter)>,
    tickets: u64,
    /// The next thread that would wait is not to.
    interrupted: bool,
}

/// A thread's place in a line.
#[derive(Debug)]
pub(crate) struct Turn {
    ticket: u64,
    pub(crate) condvar: Arc<Condvar>,
}

impl Line {
    /// The thread that calls joins the line.
    pub(crate) fn join(&mut self) -> Turn {
        self.tickets += 1;
        let condvar = Arc::new(Condvar::new());
        self.waiters.push_back((self.tickets, Waiter::Thread(Arc::clone(&condvar))));
        Turn { ticket: self.tickets, condvar }
    }

    /// Returns `true` if no thread stands before this one.
    pub(crate) fn is_first(&self, turn: &Turn) -> bool {
        self.first_thread() == Some(turn.ticket)
    }

    fn first_thread(&self) -> Option<u64> {
        let mut threads = self.waiters.iter().filter(|(_, waiter)| matches!(waiter, Waiter::Thread(_)));
        threads.next().map(|(ticket, _)| *ticket)
    }

    /// The thread leaves, and those behind it may go on.
    pub(crate) fn leave(&mut self, turn: &Turn, wakes: &mut Wakes) {
        self.waiters.retain(|(ticket, _)| *ticket != turn.ticket);
        self.notify(wakes);
    }

    /// Ends the wait of the first thread, or the next wait.
    pub(crate) fn interrupt(&mut self, wakes: &mut Wakes) {
        self.interrupted = true;
        self.notify(wakes);
    }

    /// Returns `true` if there was an interrupt that ended no wait yet, and forgets it.
    pub(crate) fn take_interrupt(&mut self) -> bool {
        std::mem::take(&mut self.interrupted)
    }

    /// Returns `true` if threads wait.
    pub(crate) fn has_threads(&self) -> bool {
        self.first_thread().is_some()
    }

    pub(crate) fn add_task(&mut self, owner: Owner, waker: &Waker) -> Spent {
        for (_, waiter) in &mut self.waiters {
            if let Waiter::Task(known) = waiter
                && known.is_for(owner, waker)
            {
                return known.renew(waker);
            }
        }
        self.tickets += 1;
        self.waiters.push_back((self.tickets, Waiter::Task(Task { owner, waker: waker.clone() })));
        None
    }

    /// The task of a handle waits no more.
    pub(crate) fn remove_task(&mut self, owner: u64) -> Spent {
        let sole = Owner::Sole(owner);
        let mut waiters = self.waiters.iter();
        let at =
            waiters.position(|(_, waiter)| matches!(waiter, Waiter::Task(task) if task.owner == sole))?;
        match self.waiters.remove(at) {
            Some((_, Waiter::Task(task))) => Some(task.waker),
            _ => None,
        }
    }

    /// A number for a handle that waits with tasks.
    pub(crate) fn number(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    pub(crate) fn add_token(&mut self, token: crossbeam_channel::Sender<()>) {
        self.tickets += 1;
        self.waiters.push_back((self.tickets, Waiter::Token(token)));
    }

    /// There may be room: wakes all up to the first thread. It wakes those behind it when it
    /// leaves.
    pub(crate) fn notify(&mut self, wakes: &mut Wakes) {
        if self.waiters.is_empty() {
            return;
        }
        let mut reached = false;
        self.waiters.retain_mut(|(_, waiter)| match waiter {
            _ if reached => true,
            Waiter::Thread(thread) => {
                reached = true;
                wakes.0.push(Wake::Thread(Arc::clone(thread)));
                // It stays until it leaves by itself.
                true
            }
            Waiter::Task(task) => {
                wakes.0.push(Wake::Task(task.waker.clone()));
                false
            }
            Waiter::Token(token) => put_token(token),
        });
    }

    /// Tasks are woken, and look whether something has changed for them. Threads sleep on.
    pub(crate) fn notify_tasks(&mut self, wakes: &mut Wakes) {
        self.waiters.retain(|(_, waiter)| match waiter {
            Waiter::Task(task) => {
                wakes.0.push(Wake::Task(task.waker.clone()));
                false
            }
            _ => true,
        });
    }

    /// All are woken, whatever their place: there will be no room, or not for this run.
    pub(crate) fn notify_all(&mut self, wakes: &mut Wakes) {
        self.waiters.retain_mut(|(_, waiter)| match waiter {
            Waiter::Thread(thread) => {
                wakes.0.push(Wake::Thread(Arc::clone(thread)));
                true
            }
            Waiter::Task(task) => {
                wakes.0.push(Wake::Task(task.waker.clone()));
                false
            }
            Waiter::Token(token) => put_token(token),
        });
    }
}
