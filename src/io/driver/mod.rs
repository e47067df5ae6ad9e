//! The loop of the I/O thread, as a value: [`Driver::turn`] makes one pass. Nothing in it depends
//! on which thread calls it.
//!
//! A pass: collects what was asked for and what is due, waits until something happens if that is
//! nothing, and then serves every source that something has happened to, each once. A source does
//! a fixed share of its work; one with more to do is served again in the next pass, behind the
//! others. What a source wants beyond itself it returns, and the driver, which alone knows all kinds
//! of sources, does it (`requests` and `sources`).

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::client_handshake::ClientSide;
use super::command::Command;
use super::conn::Conn;
use super::core::{Core, Run};
use super::dial::Dial;
use super::env::{Env, Reasons};
use super::link::Ready;
use super::listen::Listen;
use super::place::{Place, Slots, WAKER, is_second};
use super::server_handshake::ServerSide;
use super::spin::{SPIN, Spin};
use crate::queue::until::RunsLoop;

mod attempts;
mod requests;
mod sources;
mod strangers;

/// The kinds of sources.
enum Source {
    Listen(Box<Listen>),
    Server(Box<ServerSide>),
    Client(Box<ClientSide>),
    Dial(Box<Dial>),
    Conn(Box<Conn>),
}

/// A source, and why it is to be served.
struct Slot {
    source: Source,
    /// `None`: nothing has happened to it.
    reasons: Option<Reasons>,
}

pub(crate) struct Driver {
    poll: Poll,
    events: Events,
    spin: Spin,
    env: Env,
    slots: Slots<Slot>,
    /// Sources that something has happened to, each once.
    marked: VecDeque<Place>,
    /// The marked ones of this pass; kept, so that a pass allocates nothing.
    serving: VecDeque<Place>,
    /// Listeners of which strangers wait for answers that take work, each once.
    owing: VecDeque<Place>,
    /// A connection has more to write.
    pressed: bool,
    commands: Vec<Command>,
    stopping: bool,
}

impl Driver {
    /// `spin`: it may look for a moment before it sleeps.
    pub(crate) fn new(poll: Poll, core: Arc<Core>, spin: bool) -> io::Result<Self> {
        let registry = poll.registry().try_clone()?;
        Ok(Self {
            poll,
            events: Events::with_capacity(256),
            spin: Spin::new(spin),
            env: Env::new(core, registry),
            slots: Slots::new(),
            marked: VecDeque::new(),
            serving: VecDeque::new(),
            owing: VecDeque::new(),
            pressed: false,
            commands: Vec::new(),
            stopping: false,
        })
    }

    /// What ends a sleep in this poll.
    pub(crate) fn waker(poll: &Poll) -> io::Result<mio::Waker> {
        mio::Waker::new(poll.registry(), WAKER)
    }

    // ---- the pass

    /// Takes over what other threads have asked for.
    fn collect(&mut self) {
        let _runs = RunsLoop::enter();
        let mut commands = std::mem::take(&mut self.commands);
        self.env.core.schedule.collect(&mut commands);
        for command in commands.drain(..) {
            match command {
                Command::Attend(place) => self.mark(place, Reasons::CALLED),
                other => self.obey(other),
            }
        }
        self.commands = commands;
    }

    fn collect_due(&mut self) {
        while let Some(place) = self.env.timers.pop_due(self.env.now) {
            self.mark(place, Reasons::DUE);
        }
    }

    /// Something has happened to a source.
    fn mark(&mut self, place: Place, reasons: Reasons) {
        if let Some(slot) = self.slots.get_mut(place) {
            match &mut slot.reasons {
                Some(known) => known.add(reasons),
                none => {
                    *none = Some(reasons);
                    self.marked.push_back(place);
                }
            }
        }
    }

    /// Serves all that are marked now, each once.
    fn serve_marked(&mut self) {
        let _runs = RunsLoop::enter();
        debug_assert!(self.serving.is_empty());
        std::mem::swap(&mut self.marked, &mut self.serving);
        self.pressed = false;
        while let Some(place) = self.serving.pop_front() {
            let Some(reasons) = self.slots.get_mut(place).and_then(|slot| slot.reasons.take()) else {
                continue;
            };
            // A panic ends this source and no other, whichever thread runs the loop: it may be one
            // that has nothing to do with it. Ours would be a bug, but the owner of the memory behind
            // a `Bytes` is the user's, and is dropped here.
            if catch_unwind(AssertUnwindSafe(|| self.serve(place, reasons))).is_err() {
                self.env.recover();
                let _ = catch_unwind(AssertUnwindSafe(|| self.source_over(place)));
            }
        }
    }

    /// Waits until something happens or is due, unless there is more to do.
    fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        if !self.marked.is_empty() || !self.owing.is_empty() {
            return self.poll(Some(Duration::ZERO));
        }
        let at = [self.env.timers.next(), until].into_iter().flatten().min();
        if self.spin.is_worth_it() && self.look(at)? {
            return Ok(());
        }
        if !self.env.core.schedule.may_sleep() {
            return self.poll(Some(Duration::ZERO));
        }
        let begin = Instant::now();
        self.poll(at.map(|at| at.saturating_duration_since(begin)))?;
        self.env.core.schedule.awake();
        self.spin.slept(begin.elapsed());
        Ok(())
    }

    /// Looks for a moment, without sleeping, whether anything happens; `false`: nothing did.
    fn look(&mut self, at: Option<Instant>) -> io::Result<bool> {
        let end = Instant::now() + SPIN;
        loop {
            self.poll(Some(Duration::ZERO))?;
            if !self.events.is_empty() || self.env.core.schedule.is_called() {
                self.spin.found();
                return Ok(true);
            }
            let now = Instant::now();
            if at.is_some_and(|at| now >= at) {
                return Ok(true);
            }
            if now >= end {
                self.spin.missed();
                return Ok(false);
            }
            // Every other thread that has something to do goes first.
            std::thread::yield_now();
        }
    }

    fn poll(&mut self, wait: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            other => other,
        }
    }

    fn mark_ready(&mut self) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let token = event.token();
            if token != WAKER {
                let ready = if is_second(token) { Ready::PEER_DIED } else { Ready::of(event) };
                self.mark(Place::of_token(token), Reasons::ready(ready));
            }
        }
        self.events = events;
    }

    // ---- sources

    fn insert(&mut self, make: impl FnOnce(Place, &mut Env) -> Source) -> Place {
        let env = &mut self.env;
        self.slots.insert_with(|place| Slot { source: make(place, env), reasons: None })
    }

    /// Takes a source out, and its time with it.
    fn remove(&mut self, place: Place) -> Option<Slot> {
        self.env.timers.forget(place);
        self.slots.remove(place)
    }

    fn conn(&mut self, place: Place) -> Option<&mut Conn> {
        match self.slots.get_mut(place).map(|slot| &mut slot.source) {
            Some(Source::Conn(conn)) => Some(conn),
            _ => None,
        }
    }

    fn listen(&mut self, place: Place) -> Option<&mut Listen> {
        match self.slots.get_mut(place).map(|slot| &mut slot.source) {
            Some(Source::Listen(listen)) => Some(listen),
            _ => None,
        }
    }

    fn dial(&mut self, place: Place) -> Option<&mut Dial> {
        match self.slots.get_mut(place).map(|slot| &mut slot.source) {
            Some(Source::Dial(dial)) => Some(dial),
            _ => None,
        }
    }
}

impl Run for Driver {
    fn turn(&mut self, until: Option<Instant>) -> io::Result<bool> {
        self.env.now = Instant::now();
        self.collect();
        self.collect_due();
        if self.stopping && self.slots.is_empty() {
            return Ok(false);
        }
        self.wait(until)?;
        self.env.now = Instant::now();
        self.mark_ready();
        self.collect();
        self.collect_due();
        self.serve_marked();
        if !self.owing.is_empty() {
            self.answer_strangers();
        }
        Ok(true)
    }

    fn pass(&mut self) {
        self.env.now = Instant::now();
        self.collect();
        self.serve_marked();
    }

    fn is_pressed(&self) -> bool {
        self.pressed || !self.owing.is_empty()
    }

    fn take_received(&mut self) -> bool {
        std::mem::take(&mut self.env.received)
    }

    fn take_served(&mut self) -> bool {
        std::mem::take(&mut self.env.staging.served)
    }
}
