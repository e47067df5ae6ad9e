//! How a connection outlives its socket: when to try again, and what a listener keeps meanwhile.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::driver::Place;
use crate::config::Config;
use crate::proto::handshake::SessionId;

/// How long a client waits before its second attempt, about; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause: somebody who opens a laptop should not wait for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many sessions that are over a listener remembers, to tell their clients how they ended.
const REMEMBERED: usize = 1024;

/// How much of a stream's end a listener remembers; more is not worth it.
pub(crate) const TAIL: usize = 1024;

/// What a connection needs to go on with another socket.
#[derive(Debug)]
pub(crate) struct Resumption {
    pub(crate) session: SessionId,
    pub(crate) grace: Duration,
    pub(crate) side: Side,
}

#[derive(Debug)]
pub(crate) enum Side {
    /// Tries these addresses again.
    Client { addresses: Vec<SocketAddr>, config: Box<Config> },
    /// Waits. `unconfirmed` is the grace until something has shown that the client got the Accept;
    /// if it did not, nobody will ever come back.
    Server { unconfirmed: Option<Duration> },
}

/// The time without a socket.
#[derive(Debug)]
pub(crate) struct Outage {
    pub(crate) since: Instant,
    /// When the grace is over; never, if there is no end to it.
    pub(crate) until: Option<Instant>,
    pub(crate) attempts: u32,
    /// What is kept for replay, in bytes of memory: it does not change without a socket.
    pub(crate) kept: usize,
    /// A client's next attempt; none while one is under way, and on a server.
    pub(crate) next: Option<Instant>,
    backoff: Backoff,
    /// Without a grace there is one attempt, however long that takes.
    once: bool,
}

/// The pauses between attempts: each about twice as long as the one before.
#[derive(Debug)]
pub(crate) struct Backoff {
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: FIRST_PAUSE }
    }
}

impl Backoff {
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        jittered(pause)
    }
}

impl Outage {
    pub(crate) fn new(now: Instant, grace: Duration, retries: bool, kept: usize) -> Self {
        Self {
            since: now,
            until: now.checked_add(grace).filter(|_| !grace.is_zero()),
            once: grace.is_zero(),
            attempts: 0,
            kept,
            // The first attempt is at once.
            next: retries.then_some(now),
            backoff: Backoff::default(),
        }
    }

    /// An attempt begins, if one is due.
    pub(crate) fn begin_attempt(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.next = None;
            self.attempts += 1;
        }
        due
    }

    /// The attempt failed: when to try again. `false`: there was to be only one.
    pub(crate) fn attempt_failed(&mut self, now: Instant) -> bool {
        self.next = Some(now + self.backoff.pause());
        !self.once
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.next, self.until].into_iter().flatten().min()
    }
}

/// A time a little shorter, by chance: many connections that begin together, or are lost together,
/// should not act together for ever.
pub(crate) fn jittered(time: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness they tick together, which is no reason to fail.
    let _ = getrandom::fill(&mut byte);
    time - time / 4 * u32::from(byte[0]) / 255
}

/// The sessions of a listener's clients.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    known: HashMap<SessionId, Known>,
    /// Those without a socket, and their numbers in the order in which they lost it.
    suspended: HashMap<Place, Suspended>,
    order: BTreeMap<u64, Place>,
    next: u64,
    bytes: usize,
    /// Over not long ago, with their keys; and which of them are to be forgotten first.
    past: HashMap<SessionId, (usize, Past)>,
    by_age: VecDeque<SessionId>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    place: Place,
    key: usize,
}

#[derive(Clone, Copy, Debug)]
struct Suspended {
    number: u64,
    bytes: usize,
}

/// What is known of a session that is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Past {
    Unknown,
    Expired,
    /// So much of the client's stream was received, and this is the end of the stream to the client,
    /// from `at` on: it may come back because it did not get the CLOSE.
    Closed {
        received: u64,
        at: u64,
        tail: Vec<u8>,
    },
}

/// What a listener finds for a session that a client names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    At(Place),
    /// Over, or never heard of; or it is another key's, which is none of this client's business.
    Past(Past),
}

impl Sessions {
    pub(crate) fn insert(&mut self, session: SessionId, place: Place, key: usize) {
        self.known.insert(session, Known { place, key });
    }

    /// The session of a client that has proved this key.
    pub(crate) fn find(&self, session: SessionId, key: usize) -> Found {
        match (self.known.get(&session), self.past.get(&session)) {
            (Some(known), _) if known.key == key => Found::At(known.place),
            (None, Some((of, past))) if *of == key => Found::Past(past.clone()),
            _ => Found::Past(Past::Unknown),
        }
    }

    /// A session is over.
    pub(crate) fn remove(&mut self, session: SessionId, place: Place, past: Past) {
        self.resumed(place);
        if let Some(known) = self.known.remove(&session)
            && past != Past::Unknown
        {
            if self.by_age.len() == REMEMBERED
                && let Some(oldest) = self.by_age.pop_front()
            {
                self.past.remove(&oldest);
            }
            self.by_age.push_back(session);
            self.past.insert(session, (known.key, past));
        }
    }

    /// A session is without a socket and holds so many bytes.
    pub(crate) fn suspended(&mut self, place: Place, bytes: usize) {
        let suspended = self.suspended.entry(place).or_insert_with(|| {
            self.next += 1;
            self.order.insert(self.next, place);
            Suspended { number: self.next, bytes: 0 }
        });
        self.bytes = self.bytes - suspended.bytes + bytes;
        suspended.bytes = bytes;
    }

    pub(crate) fn count_suspended(&self) -> usize {
        self.suspended.len()
    }

    pub(crate) fn resumed(&mut self, place: Place) {
        if let Some(Suspended { number, bytes }) = self.suspended.remove(&place) {
            self.order.remove(&number);
            self.bytes -= bytes;
        }
    }

    /// The session that has to make room, if there is more than may be kept.
    pub(crate) fn surplus(&self, sessions: usize, bytes: usize) -> Option<Place> {
        let (_, oldest) = self.order.first_key_value()?;
        (self.suspended.len() > sessions || self.bytes > bytes).then_some(*oldest)
    }

    /// All sessions that there are.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.known.values().map(|known| known.place)
    }
}
