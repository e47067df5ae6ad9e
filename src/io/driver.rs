//! The loop of the I/O thread, as a value: [`Driver::turn`] makes one pass. Nothing in it depends
//! on which thread calls it.
//!
//! A pass: serve who called, serve who has more to do, see to what is due, wait until something
//! happens, serve the sockets that are ready. No connection gets more than a fixed share of it.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Poll, Token};

use super::accept::{Listening, Offered};
use super::conn::{Conn, Next};
use super::connect::{Attempt, Goal};
use super::establish::{Link, establish, establish_lazily};
use super::pending::{NewSocket, Outcome, Pending};
use super::shared::{Core, Shared};
use super::socket::Socket;
use super::spin::{SPIN, Spin};
use super::timer::Timers;
use crate::config::Config;
use crate::error::ConnectError;
use crate::id::ChannelId;
use crate::proto::inbound::Taken;
use crate::proto::session::Settings;
use crate::queue::route::Staging;
use crate::stats::Stats;

mod sessions;

/// Bytes of one read. More than the processor's nearest caches hold would be read twice from
/// memory; less would cost calls.
const SCRATCH: usize = 256 * 1024;
/// The token of the waker.
const WAKER: Token = Token(usize::MAX);

/// Where a source is kept; the generation tells it from one that was there before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Place {
    index: usize,
    generation: u64,
}

/// What other threads ask of the I/O thread.
pub(crate) enum Command {
    /// A connection's queues have something for it.
    Attend(Place),
    Connect(Box<Attempt>),
    ConnectLazily(Box<Lazily>),
    Adopt(Box<Adoption>),
    Listen(Box<Listen>),
    Unlisten(Place),
    Stats(Place, Sender<Stats>),
    /// End when the last source is gone.
    Stop,
}

/// A socket that needs no handshake: one end of a pair.
pub(crate) struct Adoption {
    pub(crate) socket: Socket,
    pub(crate) config: Config,
    pub(crate) settings: Settings,
    pub(crate) reply: Sender<io::Result<Arc<Shared>>>,
}

/// A client's connection that does not wait for its peer.
pub(crate) struct Lazily {
    pub(crate) config: Config,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) reply: Sender<Arc<Shared>>,
}

pub(crate) struct Listen {
    pub(crate) socket: mio::net::TcpListener,
    pub(crate) config: Arc<Config>,
    pub(crate) accepted: Sender<Offered>,
    pub(crate) reply: Sender<io::Result<(SocketAddr, Place)>>,
}

enum Source {
    Listening(Box<Listening>),
    Pending(Box<Pending>),
    Conn(Box<Conn>),
}

#[derive(Default)]
struct Slot {
    generation: u64,
    source: Option<Source>,
}

/// What every source works with while it is served.
pub(crate) struct Context {
    pub(crate) core: Arc<Core>,
    /// The time of this pass.
    pub(crate) now: Instant,
    pub(crate) timers: Timers,
    pub(crate) scratch: Box<[u8]>,
    pub(crate) staging: Staging,
    /// Something was received since the last look.
    pub(crate) received: bool,
    pub(crate) taken: Vec<Taken>,
    pub(crate) stops: Vec<(ChannelId, u32)>,
}

impl Context {
    /// Forgets what a connection left half done.
    fn abandon(&mut self) -> Next {
        self.staging = Staging::new(Arc::clone(&self.core.pool));
        if self.scratch.is_empty() {
            self.scratch = vec![0; SCRATCH].into_boxed_slice();
        }
        self.taken.clear();
        self.stops.clear();
        Next::Done
    }
}

/// Why a source is served.
#[derive(Clone, Copy)]
pub(crate) enum Why<'a> {
    /// Another thread called, or there was more to do.
    Called,
    /// A deadline may have passed.
    Due,
    /// Its socket is ready.
    Ready(&'a mio::event::Event),
}

/// A connection's attempt to connect again, and what it came to.
type Failed = (Place, ConnectError);

pub(crate) struct Driver {
    poll: Poll,
    events: Events,
    spin: Spin,
    ctx: Context,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Sources with more to do than their share of the last pass.
    busy: Vec<Place>,
    /// One of them has more to write.
    pressed: bool,
    commands: Vec<Command>,
    due: Vec<Place>,
    /// Attempts to connect again that came to nothing.
    failed: (Sender<Failed>, Receiver<Failed>),
    stopping: bool,
}

impl Driver {
    pub(crate) fn new(poll: Poll, core: Arc<Core>) -> Self {
        Self {
            poll,
            events: Events::with_capacity(256),
            spin: Spin::default(),
            ctx: Context {
                now: Instant::now(),
                timers: Timers::default(),
                scratch: vec![0; SCRATCH].into_boxed_slice(),
                staging: Staging::new(Arc::clone(&core.pool)),
                received: false,
                taken: Vec::new(),
                stops: Vec::new(),
                core,
            },
            slots: Vec::new(),
            free: Vec::new(),
            busy: Vec::new(),
            pressed: false,
            commands: Vec::new(),
            due: Vec::new(),
            failed: crossbeam_channel::unbounded(),
            stopping: false,
        }
    }

    /// What ends a sleep in this poll.
    pub(crate) fn waker(poll: &Poll) -> io::Result<mio::Waker> {
        mio::Waker::new(poll.registry(), WAKER)
    }

    /// The first half of a pass, which does not sleep: what was asked for.
    pub(crate) fn pass(&mut self) {
        self.ctx.now = Instant::now();
        self.obey();
    }

    /// Whether there is something to do that cannot wait for a lease: more to write. More to read
    /// can, since who left the loop with it probably comes back for it.
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// Whether anything was received since the last call.
    pub(crate) fn take_received(&mut self) -> bool {
        std::mem::take(&mut self.ctx.received)
    }

    /// Whether a reader that waited was given something since the last call.
    pub(crate) fn take_served(&mut self) -> bool {
        std::mem::take(&mut self.ctx.staging.served)
    }

    /// One pass, which sleeps until `until` at the latest. `false`: there is nothing to do and
    /// there will not be.
    pub(crate) fn turn(&mut self, until: Option<Instant>) -> io::Result<bool> {
        self.obey();
        self.pressed = false;
        for place in std::mem::take(&mut self.busy) {
            self.serve(place, Why::Called);
        }
        // All that is due now, and only that: what is due at once again waits for the next pass.
        let mut due = std::mem::take(&mut self.due);
        due.extend(std::iter::from_fn(|| self.ctx.timers.pop_due(self.ctx.now)));
        for place in due.drain(..) {
            self.serve(place, Why::Due);
        }
        self.due = due;
        if self.stopping && self.slots.iter().all(|slot| slot.source.is_none()) {
            return Ok(false);
        }

        self.wait(until)?;
        self.ctx.now = Instant::now();

        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            // The slot of a source that is gone may have another by now: it finds nothing to do.
            if let Some(slot) = self.slots.get(event.token().0) {
                let place = Place { index: event.token().0, generation: slot.generation };
                self.serve(place, Why::Ready(event));
            }
        }
        self.events = events;
        Ok(true)
    }

    /// Waits until something happens or is due, unless there is more to do.
    fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        if !self.busy.is_empty() {
            return self.poll(Some(Duration::ZERO));
        }
        let at = [self.ctx.timers.next(), until].into_iter().flatten().min();
        if self.spin.is_worth_it() && self.look(at)? {
            return Ok(());
        }
        if !self.ctx.core.schedule.may_sleep() {
            return self.poll(Some(Duration::ZERO));
        }
        let begin = Instant::now();
        self.poll(at.map(|at| at.saturating_duration_since(begin)))?;
        self.ctx.core.schedule.awake();
        self.spin.slept(begin.elapsed());
        Ok(())
    }

    /// Looks for a moment, without sleeping, whether anything happens; `false`: nothing did.
    fn look(&mut self, at: Option<Instant>) -> io::Result<bool> {
        let end = Instant::now() + SPIN;
        loop {
            self.poll(Some(Duration::ZERO))?;
            if !self.events.is_empty() || self.ctx.core.schedule.is_called() {
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
            // Whoever else has something to do goes first.
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

    fn obey(&mut self) {
        let mut commands = std::mem::take(&mut self.commands);
        self.ctx.core.schedule.collect(&mut commands);
        for command in commands.drain(..) {
            match command {
                Command::Attend(place) => self.serve(place, Why::Called),
                Command::Connect(attempt) => self.attempt(Some(attempt)),
                Command::ConnectLazily(lazily) => self.connect_lazily(*lazily),
                Command::Adopt(adoption) => self.adopt(*adoption),
                Command::Listen(listen) => self.listen(*listen),
                Command::Unlisten(place) => self.unlisten(place),
                Command::Stats(place, reply) => {
                    if let Some(Source::Conn(conn)) = self.take(place) {
                        let _ = reply.send(conn.stats());
                        self.put(place, Source::Conn(conn));
                    }
                }
                Command::Stop => self.stopping = true,
            }
        }
        self.commands = commands;
    }

    // ---- what begins

    fn listen(&mut self, listen: Listen) {
        let Listen { socket, config, accepted, reply } = listen;
        let mut listening = Box::new(Listening::new(socket, config, accepted));
        let place = self.reserve();
        let registered = listening.register(self.poll.registry(), place.token());
        let result = registered.and_then(|()| Ok((listening.local_addr()?, place)));
        match &result {
            Ok(_) => self.put(place, Source::Listening(listening)),
            Err(_) => self.release(place),
        }
        let _ = reply.send(result);
    }

    /// Nobody can come back to a listener that is gone: its sessions end with their sockets.
    fn unlisten(&mut self, place: Place) {
        let source = self.take(place);
        self.release(place);
        let Some(Source::Listening(listening)) = source else { return };
        for session in listening.sessions.places() {
            match self.take(session) {
                Some(Source::Conn(mut conn)) => match conn.orphan() {
                    Next::Done => self.conn_over(session, conn),
                    _ => self.put(session, Source::Conn(conn)),
                },
                Some(other) => self.put(session, other),
                None => {}
            }
        }
    }

    fn connect_lazily(&mut self, lazily: Lazily) {
        let Lazily { config, addresses, reply } = lazily;
        let place = self.reserve();
        let (conn, shared) = establish_lazily(config, addresses, place, &self.ctx);
        let _ = reply.send(shared);
        self.serve_conn(place, conn, Why::Called);
    }

    /// Tries the addresses of a client in turn, until one can be begun.
    fn attempt(&mut self, mut attempt: Option<Box<Attempt>>) {
        while let Some(next) = attempt.take() {
            if let Some(pending) = next.begin(self.ctx.now) {
                attempt = self.add_pending(pending).err().flatten();
            }
        }
        self.hear_of_failures();
    }

    /// Registers a handshake; gives the attempt back if its address cannot be tried.
    fn add_pending(&mut self, pending: Pending) -> Result<Place, Option<Box<Attempt>>> {
        let mut pending = Box::new(pending);
        let place = self.reserve();
        if let Err(error) = pending.register(self.poll.registry(), place.token()) {
            self.release(place);
            return Err(pending.failed(error, self.ctx.now));
        }
        pending.set_alarm(place, &mut self.ctx.timers);
        self.put(place, Source::Pending(pending));
        Ok(place)
    }

    fn adopt(&mut self, adoption: Adoption) {
        let Adoption { mut socket, config, settings, reply } = adoption;
        let place = self.reserve();
        if let Err(error) = socket.register(self.poll.registry(), place.token()) {
            self.release(place);
            let _ = reply.send(Err(error));
            return;
        }
        let new = NewSocket { socket, peer_addr: None, rtt: None, unsent: Vec::new(), early: Vec::new() };
        let link = Link { new: Some(new), ..Link::default() };
        let (conn, shared) = establish(link, &config, &settings, place, &self.ctx);
        self.put(place, Source::Conn(conn));
        let _ = reply.send(Ok(shared));
        self.serve(place, Why::Called);
    }

    // ---- what goes on

    fn serve(&mut self, place: Place, why: Why<'_>) {
        match self.take(place) {
            Some(Source::Listening(listening)) => self.serve_listening(place, listening),
            Some(Source::Pending(pending)) => self.serve_pending(place, pending, why),
            Some(Source::Conn(conn)) => self.serve_conn(place, conn, why),
            None => {}
        }
    }

    fn serve_listening(&mut self, place: Place, mut listening: Box<Listening>) {
        let (arrived, more) = listening.accept(place, &mut self.ctx);
        for pending in arrived {
            if let Ok(pending) = self.add_pending(pending) {
                listening.handshake_begun(pending);
            }
            while let Some(oldest) = listening.surplus() {
                self.release(oldest);
            }
        }
        if more {
            self.busy.push(place);
        }
        self.put(place, Source::Listening(listening));
    }

    fn serve_pending(&mut self, place: Place, mut pending: Box<Pending>, why: Why<'_>) {
        let owner = pending.listener();
        let mut listener = match owner.and_then(|owner| self.take(owner)) {
            Some(Source::Listening(listening)) => Some(listening),
            _ => None,
        };
        let due = matches!(why, Why::Due) && pending.is_due(self.ctx.now);
        let outcome = if due || (owner.is_some() && listener.is_none()) {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            pending.serve(&mut self.ctx, place, listener.as_deref_mut())
        };
        if let Some(listening) = listener.as_deref_mut()
            && !matches!(outcome, Ok(Outcome::Wait))
        {
            listening.handshake_over(place);
            listening.connections += usize::from(matches!(outcome, Ok(Outcome::Connected(_))));
        }
        if let (Some(owner), Some(listening)) = (owner, listener) {
            self.put(owner, Source::Listening(listening));
        }
        match outcome {
            Ok(Outcome::Wait) => {
                pending.set_alarm(place, &mut self.ctx.timers);
                self.put(place, Source::Pending(pending));
            }
            Ok(Outcome::Over) => {
                self.release(place);
                self.hear_of_failures();
            }
            Ok(Outcome::Resumed(resumed)) => {
                self.release(place);
                self.resume(*resumed);
            }
            Ok(Outcome::Claimed { conn, asked, early }) => {
                if let Some(owner) = owner {
                    self.claim(owner, place, pending, conn, asked, early);
                }
            }
            Ok(Outcome::Connected(conn)) => self.serve_conn(place, conn, Why::Called),
            Err(error) => {
                let attempt = pending.failed(error, self.ctx.now);
                self.release(place);
                self.attempt(attempt);
            }
        }
    }

    fn serve_conn(&mut self, place: Place, mut conn: Box<Conn>, why: Why<'_>) {
        // A panic ends this connection and no other, whoever runs the loop: it may be a thread that
        // has nothing to do with it. Ours would be a bug, but the owner of the memory behind a
        // `Bytes` is the user's, and is dropped here.
        let next = catch_unwind(AssertUnwindSafe(|| conn.serve(why, &mut self.ctx)));
        match next.unwrap_or_else(|_| self.ctx.abandon()) {
            Next::Done => return self.conn_over(place, conn),
            Next::Writable => {
                self.busy.push(place);
                self.pressed = true;
            }
            Next::Readable => self.busy.push(place),
            Next::Reconnect => {
                let attempt = conn.attempt();
                self.put(place, Source::Conn(conn));
                if let Some((config, all, terms)) = attempt {
                    let goal = Goal::Resume { conn: place, terms, failed: self.failed.0.clone() };
                    self.attempt(Some(Attempt::new(all, config, goal)));
                }
                return;
            }
            Next::Wait => {}
        }
        let (owner, suspended, held) =
            (conn.owner, conn.is_suspended(), conn.is_suspended().then(|| conn.held()));
        self.put(place, Source::Conn(conn));
        if let (Some(owner), Some(held), true) = (owner, held, suspended) {
            self.make_room(owner, place, held);
        }
    }

    fn conn_over(&mut self, place: Place, conn: Box<Conn>) {
        if let Some(owner) = conn.owner
            && let Some(Source::Listening(mut listening)) = self.take(owner)
        {
            listening.connections -= 1;
            if let Some(session) = conn.session_id() {
                listening.sessions.remove(session, place, conn.past());
            }
            self.put(owner, Source::Listening(listening));
        }
        // With it goes what it had not sent; see `serve_conn`.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(conn)));
        self.release(place);
    }

    // ---- where it is kept

    fn reserve(&mut self) -> Place {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        Place { index, generation: self.slots[index].generation }
    }

    /// Takes a source out of its slot, which stays reserved for it.
    fn take(&mut self, place: Place) -> Option<Source> {
        let slot = self.slots.get_mut(place.index)?;
        if slot.generation == place.generation { slot.source.take() } else { None }
    }

    fn put(&mut self, place: Place, source: Source) {
        self.slots[place.index].source = Some(source);
    }

    /// Frees a slot, and drops what is in it.
    fn release(&mut self, place: Place) {
        let Some(slot) = self.slots.get_mut(place.index) else { return };
        if slot.generation == place.generation {
            slot.generation += 1;
            slot.source = None;
            self.free.push(place.index);
        }
    }
}

impl Place {
    fn token(self) -> Token {
        Token(self.index)
    }
}
