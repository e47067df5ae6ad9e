//! The sessions of a listener's clients: where they are, what those without a socket hold, and how
//! those ended that are over.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::conn::{LastWords, Past};
use super::keyring::Credential;
use super::place::Place;
use crate::proto::handshake::SessionId;

/// How many sessions that are over a listener remembers, to tell their clients how they ended.
const REMEMBERED: usize = 1024;
/// What all of them may hold, in bytes.
const REMEMBERED_BYTES: usize = 4 << 20;

#[derive(Default)]
pub(crate) struct Sessions {
    known: HashMap<SessionId, Known>,
    /// Those without a socket, and their numbers in the order in which they lost it.
    away: HashMap<Place, Away>,
    order: BTreeMap<u64, Place>,
    next: u64,
    /// What those without a socket hold.
    bytes: usize,
    over: HashMap<SessionId, Over>,
    by_age: VecDeque<SessionId>,
    over_bytes: usize,
}

struct Known {
    place: Place,
    owner: Owner,
}

/// To which clients of a listener a session belongs.
#[derive(Clone, PartialEq)]
pub(crate) struct Owner {
    pub(crate) credential: Credential,
    /// Their kind.
    pub(crate) sealed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Away {
    number: u64,
    bytes: usize,
}

struct Over {
    owner: Owner,
    past: Past,
}

/// What a listener finds for a session that a client names.
pub(crate) enum Found {
    At(Place),
    /// Closed, and its client may not have got the end.
    Closed(Box<LastWords>),
    Expired,
    /// Never heard of; or it is another key's or kind's, which is none of this client's business.
    Unknown,
}

impl Sessions {
    pub(crate) fn insert(&mut self, session: SessionId, place: Place, owner: Owner) {
        self.known.insert(session, Known { place, owner });
    }

    /// The session of a client that has proved its key.
    pub(crate) fn find(&self, session: SessionId, owner: &Owner) -> Found {
        if let Some(known) = self.known.get(&session) {
            return if known.owner == *owner { Found::At(known.place) } else { Found::Unknown };
        }
        match self.over.get(&session) {
            Some(over) if over.owner == *owner => match &over.past {
                Past::Closed(words) => Found::Closed(words.clone()),
                Past::Expired => Found::Expired,
                Past::Unknown => Found::Unknown,
            },
            _ => Found::Unknown,
        }
    }

    /// A client got the end of a session, or some of it, with an attempt of this number.
    pub(crate) fn told(&mut self, session: SessionId, attempt: u32) {
        if let Some(Over { past: Past::Closed(words), .. }) = self.over.get_mut(&session) {
            words.attempt = attempt;
        }
    }

    /// A session is over.
    pub(crate) fn remove(&mut self, session: SessionId, place: Place, past: Past) {
        self.back(place);
        let Some(known) = self.known.remove(&session) else { return };
        if past == Past::Unknown {
            return;
        }
        self.over_bytes += past.bytes();
        self.by_age.push_back(session);
        self.over.insert(session, Over { owner: known.owner, past });
        while self.by_age.len() > REMEMBERED || self.over_bytes > REMEMBERED_BYTES {
            let Some(oldest) = self.by_age.pop_front() else { break };
            if let Some(over) = self.over.remove(&oldest) {
                self.over_bytes -= over.past.bytes();
            }
        }
    }

    /// A session is without a socket and holds so many bytes.
    pub(crate) fn away(&mut self, place: Place, bytes: usize) {
        let away = self.away.entry(place).or_insert_with(|| {
            self.next += 1;
            self.order.insert(self.next, place);
            Away { number: self.next, bytes: 0 }
        });
        self.bytes = self.bytes - away.bytes + bytes;
        away.bytes = bytes;
    }

    pub(crate) fn count_away(&self) -> usize {
        self.away.len()
    }

    /// A session has a socket again.
    pub(crate) fn back(&mut self, place: Place) {
        if let Some(Away { number, bytes }) = self.away.remove(&place) {
            self.order.remove(&number);
            self.bytes -= bytes;
        }
    }

    /// The session that has to make room, if there is more than may be kept: the one that has been
    /// without a socket for longest.
    pub(crate) fn surplus(&self, sessions: usize, bytes: usize) -> Option<Place> {
        let (_, oldest) = self.order.first_key_value()?;
        (self.away.len() > sessions || self.bytes > bytes).then_some(*oldest)
    }

    /// The session of a key that has been without a socket for longest.
    pub(crate) fn oldest_away(&self, credential: &Credential) -> Option<Place> {
        let theirs = self.known.values().filter(|known| known.owner.credential == *credential);
        let away =
            theirs.filter_map(|known| self.away.get(&known.place).map(|away| (away.number, known.place)));
        away.min_by_key(|(number, _)| *number).map(|(_, place)| place)
    }

    /// All sessions that there are.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.known.values().map(|known| known.place).collect()
    }

    /// A key is no longer accepted: forgets how its sessions ended.
    pub(crate) fn forget(&mut self, credential: &Credential) {
        for over in self.over.values_mut().filter(|over| over.owner.credential == *credential) {
            self.over_bytes -= over.past.bytes();
            over.past = Past::Unknown;
        }
    }
}

impl Past {
    fn bytes(&self) -> usize {
        match self {
            Self::Closed(words) => size_of::<LastWords>() + words.tail.capacity(),
            Self::Expired | Self::Unknown => 0,
        }
    }
}
