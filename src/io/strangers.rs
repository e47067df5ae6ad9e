//! The peers of a listener that have proved nothing yet, and those that were refused.
//!
//! A stranger that has named a known key is never turned away for one that has said nothing, and one
//! that has shown that a key is used not for one that has recorded how: each kind has places of its own. When they are used up, one of the kind leaves at random, so whatever
//! the order in which strangers come, an honest one mostly has the moment that it needs; and it
//! comes back if it has not.

use std::collections::{HashMap, HashSet};

use super::env::random;
use super::place::Place;

/// What a stranger has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Silent,
    /// It has named a key that is known, which it has not proved.
    Named,
    /// It has shown that a key is used, and waits for an answer that takes work. Its message may have been
    /// recorded.
    Owed,
    /// The same, and its message has come before: it was recorded.
    Repeated,
    /// It has shown that a key is used, and was answered.
    Answered,
    /// It was refused, and may read why.
    Refused,
}

const KINDS: usize = 6;

/// So many messages are remembered, or twice as many.
const REMEMBERED: usize = 16 * 1024;

/// The messages that have come, by their numbers, which were made by chance: the newest of them.
#[derive(Debug, Default)]
struct Seen {
    new: HashSet<u64>,
    old: HashSet<u64>,
}

impl Seen {
    /// Returns `true` if it is new.
    fn insert(&mut self, number: u64) -> bool {
        if self.new.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.new);
        }
        !self.old.contains(&number) && self.new.insert(number)
    }
}

/// One that makes room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spared {
    Stranger(Place),
    /// It was turned away before, and is not turned away once more.
    Refused(Place),
}

#[derive(Debug)]
pub(crate) struct Strangers {
    kinds: HashMap<Place, (Kind, usize)>,
    lists: [Vec<Place>; KINDS],
    seen: Seen,
    limit: usize,
    /// The state of a generator of random numbers; it need not be a good one.
    noise: u64,
}

impl Strangers {
    /// `limit`: how many there may be of each kind.
    pub(crate) fn new(limit: usize) -> Self {
        let noise = random().map_or(0x9E37_79B9_7F4A_7C15, u64::from_ne_bytes) | 1;
        Self { kinds: HashMap::new(), lists: Default::default(), seen: Seen::default(), limit, noise }
    }

    fn list(&mut self, kind: Kind) -> &mut Vec<Place> {
        &mut self.lists[kind as usize]
    }

    fn insert(&mut self, place: Place, kind: Kind) -> Option<Place> {
        let leaves = if self.list(kind).len() >= self.limit { self.draw(kind) } else { None };
        if let Some(leaves) = leaves {
            self.remove(leaves);
        }
        let list = self.list(kind);
        list.push(place);
        let at = list.len() - 1;
        self.kinds.insert(place, (kind, at));
        leaves
    }

    /// One of a kind, by chance.
    fn draw(&mut self, kind: Kind) -> Option<Place> {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        let noise = self.noise;
        let list = self.list(kind);
        list.get((noise % list.len().max(1) as u64) as usize).copied()
    }

    /// A stranger has come; the one that has to leave for it.
    pub(crate) fn come(&mut self, place: Place) -> Option<Place> {
        self.insert(place, Kind::Silent)
    }

    /// A stranger has named a known key; the one that has to leave for it.
    pub(crate) fn named(&mut self, place: Place) -> Option<Place> {
        self.remove(place);
        self.insert(place, Kind::Named)
    }

    /// A stranger waits for an answer that takes work; the one that has to leave for it. `number` is its
    /// message's own.
    pub(crate) fn owed(&mut self, place: Place, number: u64) -> Option<Place> {
        self.remove(place);
        let kind = if self.seen.insert(number) { Kind::Owed } else { Kind::Repeated };
        self.insert(place, kind)
    }

    /// The stranger to answer next, and the one that has to leave for it: one whose message was new if there
    /// is one.
    pub(crate) fn answer(&mut self) -> Option<(Place, Option<Place>)> {
        let (place, kind) = match self.draw(Kind::Owed) {
            Some(place) => (place, Kind::Answered),
            // It has shown no more than one that names a key that it has read somewhere.
            None => (self.draw(Kind::Repeated)?, Kind::Named),
        };
        self.remove(place);
        Some((place, self.insert(place, kind)))
    }

    /// Returns `true` if a stranger waits for an answer.
    pub(crate) fn owes(&self) -> bool {
        !self.lists[Kind::Owed as usize].is_empty() || !self.lists[Kind::Repeated as usize].is_empty()
    }

    /// A stranger was refused, whatever it has proved, and stays until it has read why; the one that
    /// has to leave for it.
    pub(crate) fn refused(&mut self, place: Place) -> Option<Place> {
        self.remove(place);
        self.insert(place, Kind::Refused)
    }

    /// A stranger has proved its key, or is gone. `false`: it was none, or it was refused before.
    pub(crate) fn remove(&mut self, place: Place) -> bool {
        let Some((kind, at)) = self.kinds.remove(&place) else { return false };
        let list = self.list(kind);
        list.swap_remove(at);
        if let Some(moved) = list.get(at).copied() {
            self.kinds.insert(moved, (kind, at));
        }
        kind != Kind::Refused
    }

    /// One that can be spared when the system has no room for more.
    pub(crate) fn spare(&mut self) -> Option<Spared> {
        let place = self.draw(Kind::Refused).or_else(|| self.draw(Kind::Silent))?;
        Some(if self.remove(place) { Spared::Stranger(place) } else { Spared::Refused(place) })
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use super::*;
    use crate::io::place::Slots;

    #[test]
    fn silence_never_displaces_a_stranger_that_has_named_a_key() {
        let mut slots = Slots::new();
        let mut place = || slots.insert_with(|_| ());
        let mut strangers = Strangers::new(10);
        let named: Vec<_> = (0..10).map(|_| place()).collect();
        for place in &named {
            assert_eq!(strangers.come(*place), None);
            assert_eq!(strangers.named(*place), None);
        }
        for n in 0..1000 {
            let silent = place();
            let left = strangers.come(silent);
            assert_eq!(left.is_some(), n >= 10);
            assert!(left.is_none_or(|left| !named.contains(&left)));
        }
        assert_eq!((strangers.list(Kind::Silent).len(), strangers.list(Kind::Named).len()), (10, 10));
    }

    /// However often a recorded message comes: one that is new is answered before it, and is not displaced.
    #[test]
    fn repeated_messages_wait_behind_new_ones_and_displace_none() {
        let mut slots = Slots::new();
        let mut place = || slots.insert_with(|_| ());
        let mut strangers = Strangers::new(10);
        let first = place();
        assert_eq!(strangers.owed(first, 1), None);
        for _ in 0..100 {
            strangers.owed(place(), 1);
        }
        let honest: Vec<_> = (2..6).map(|number| (place(), number)).collect();
        for (place, number) in &honest {
            assert_eq!(strangers.owed(*place, *number), None);
        }
        let mut answered: Vec<_> = (0..5).map(|_| strangers.answer().unwrap().0).collect();
        answered.sort();
        let mut expected: Vec<_> = honest.iter().map(|(place, _)| *place).chain([first]).collect();
        expected.sort();
        assert_eq!(answered, expected);
        for _ in 0..10 {
            assert!(strangers.owes());
            strangers.answer().unwrap();
        }
        assert!(!strangers.owes() && strangers.answer().is_none());
        assert_eq!(strangers.list(Kind::Answered).len(), 5);
    }

    #[test]
    fn only_the_newest_messages_are_remembered() {
        let mut seen = Seen::default();
        for number in 0..100_000 {
            assert!(seen.insert(number));
            assert!(!seen.insert(number.saturating_sub(REMEMBERED as u64 - 1)));
            assert!(seen.new.len() + seen.old.len() <= 2 * REMEMBERED);
        }
    }

    #[test]
    fn a_refused_peer_is_spared_first_and_is_not_counted_twice() {
        let mut slots = Slots::new();
        let (silent, refused) = (slots.insert_with(|_| ()), slots.insert_with(|_| ()));
        let mut strangers = Strangers::new(10);
        strangers.come(silent);
        strangers.come(refused);
        strangers.refused(refused);
        assert_eq!(strangers.spare(), Some(Spared::Refused(refused)));
        assert_eq!(strangers.spare(), Some(Spared::Stranger(silent)));
        assert_eq!(strangers.spare(), None);
    }

    #[test]
    fn strangers_leave_at_random_and_the_lists_stay_consistent() {
        let mut slots = Slots::new();
        let mut strangers = Strangers::new(8);
        let mut newest_left = 0;
        for _ in 0..8 {
            strangers.come(slots.insert_with(|_| ()));
        }
        for n in 0..800 {
            let newest = *strangers.list(Kind::Silent).last().unwrap();
            let place = slots.insert_with(|_| ());
            if strangers.come(place) == Some(newest) {
                newest_left += 1;
            }
            if n % 3 == 0 {
                strangers.remove(place);
                strangers.come(slots.insert_with(|_| ()));
            }
            for (at, place) in strangers.lists[Kind::Silent as usize].iter().enumerate() {
                assert_eq!(strangers.kinds[place], (Kind::Silent, at));
            }
        }
        assert!((30..300).contains(&newest_left), "{newest_left} of 800");
    }
}
