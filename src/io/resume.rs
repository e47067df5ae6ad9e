//! How a connection outlives its socket: when to try again, and what a listener keeps meanwhile.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::driver::Place;
use crate::config::Config;
use crate::proto::handshake::SessionId;

/// How long a client waits before its second attempt, about; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause: somebody who opens a laptop should not wait for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many expired sessions a listener remembers, to tell their clients that they expired.
const REMEMBERED: usize = 1024;

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
    /// Waits. `unconfirmed` is the grace while nothing was received: the client may never have
    /// got the Accept, and then nobody will ever come back.
    Server { unconfirmed: Duration },
}

/// The time without a socket.
#[derive(Debug)]
pub(crate) struct Outage {
    pub(crate) since: Instant,
    /// When the grace is over; never, if there is no end to it.
    pub(crate) until: Option<Instant>,
    pub(crate) attempts: u32,
    /// A client's next attempt; none while one is under way, and on a server.
    pub(crate) next: Option<Instant>,
    pause: Duration,
}

impl Outage {
    pub(crate) fn new(now: Instant, grace: Duration, retries: bool) -> Self {
        Self {
            since: now,
            until: now.checked_add(grace),
            attempts: 0,
            // The first attempt is at once.
            next: retries.then_some(now),
            pause: FIRST_PAUSE,
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

    /// The attempt failed: when to try again.
    pub(crate) fn attempt_failed(&mut self, now: Instant) {
        self.next = Some(now + jittered(self.pause));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
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
    /// Those without a socket, the longest first, and the bytes that each holds.
    suspended: VecDeque<(Place, usize)>,
    bytes: usize,
    /// Expired not long ago, and their keys.
    expired: VecDeque<(SessionId, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    place: Place,
    key: usize,
}

/// What a listener finds for a session that a client names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    At(Place),
    Expired,
    /// Never heard of; or it is another key's, which is none of this client's business.
    Unknown,
}

impl Sessions {
    pub(crate) fn insert(&mut self, session: SessionId, place: Place, key: usize) {
        self.known.insert(session, Known { place, key });
    }

    /// The session of a client that has proved this key.
    pub(crate) fn find(&self, session: SessionId, key: usize) -> Found {
        match self.known.get(&session) {
            Some(known) if known.key == key => Found::At(known.place),
            Some(_) => Found::Unknown,
            None if self.expired.contains(&(session, key)) => Found::Expired,
            None => Found::Unknown,
        }
    }

    /// A session is over.
    pub(crate) fn remove(&mut self, session: SessionId, place: Place, expired: bool) {
        self.resumed(place);
        if let Some(known) = self.known.remove(&session)
            && expired
        {
            if self.expired.len() == REMEMBERED {
                self.expired.pop_front();
            }
            self.expired.push_back((session, known.key));
        }
    }

    /// A session is without a socket and holds so many bytes.
    pub(crate) fn suspended(&mut self, place: Place, bytes: usize) {
        match self.suspended.iter_mut().find(|(known, _)| *known == place) {
            Some((_, held)) => {
                self.bytes = self.bytes - *held + bytes;
                *held = bytes;
            }
            None => {
                self.bytes += bytes;
                self.suspended.push_back((place, bytes));
            }
        }
    }

    pub(crate) fn count_suspended(&self) -> usize {
        self.suspended.len()
    }

    pub(crate) fn resumed(&mut self, place: Place) {
        if let Some(at) = self.suspended.iter().position(|(known, _)| *known == place)
            && let Some((_, bytes)) = self.suspended.remove(at)
        {
            self.bytes -= bytes;
        }
    }

    /// The session that has to make room, if there is more than may be kept.
    pub(crate) fn surplus(&self, sessions: usize, bytes: usize) -> Option<Place> {
        let (oldest, _) = self.suspended.front()?;
        (self.suspended.len() > sessions || self.bytes > bytes).then_some(*oldest)
    }
}
