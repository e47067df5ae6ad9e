//! Where the loop keeps its sources.

use mio::Token;

/// Where a source is kept; the generation tells it from one that was there before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Place {
    pub(crate) index: u32,
    generation: u32,
}

/// The token of the waker, which is no place: so many sources there never are.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// In a token: it is the second one of its place.
const SECOND: usize = 1 << (usize::BITS - 1);
/// As many generations as a token has bits for.
const GENERATIONS: u32 = (usize::MAX >> (usize::BITS / 2 + 1)) as u32;

impl Place {
    /// The token under which a source's socket is registered.
    pub(crate) fn token(self) -> Token {
        Token((self.index as usize) | (self.generation as usize).rotate_left(usize::BITS / 2))
    }

    /// The token of what a source watches beside its socket.
    #[cfg(any(unix, test))]
    pub(crate) fn second_token(self) -> Token {
        Token(self.token().0 | SECOND)
    }

    pub(crate) fn of_token(token: Token) -> Self {
        let half = usize::BITS / 2;
        let mask = usize::MAX >> half;
        Self { index: (token.0 & mask) as u32, generation: ((token.0 & !SECOND) >> half) as u32 }
    }
}

/// Returns `true` if it is the second token of its place.
pub(crate) fn is_second(token: Token) -> bool {
    token.0 & SECOND != 0
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    source: Option<T>,
}

/// Slots that are used again.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// Keeps what `make` makes for its place.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Place) -> T) -> Place {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, source: None });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        let place = Place { index, generation: slot.generation };
        slot.source = Some(make(place));
        place
    }

    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        let slot = self.slots.get_mut(place.index as usize)?;
        if slot.generation == place.generation { slot.source.as_mut() } else { None }
    }

    /// Takes a source out; its place is another's from now on.
    pub(crate) fn remove(&mut self, place: Place) -> Option<T> {
        let slot = self.slots.get_mut(place.index as usize)?;
        if slot.generation != place.generation {
            return None;
        }
        let source = slot.source.take()?;
        slot.generation = slot.generation.wrapping_add(1) & GENERATIONS;
        self.free.push(place.index);
        Some(source)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// The places that are in use.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.source.is_some())
            .map(|(index, slot)| Place { index: index as u32, generation: slot.generation })
    }
}

#[cfg(all(test, not(trunkline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_used_again_is_another() {
        let mut slots = Slots::new();
        let first = slots.insert_with(|_| 1);
        assert_eq!(Place::of_token(first.token()), first);
        assert_eq!(Place::of_token(first.second_token()), first);
        assert!(is_second(first.second_token()) && !is_second(first.token()));
        assert_eq!(slots.remove(first), Some(1));
        let second = slots.insert_with(|_| 2);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(Place::of_token(second.token()), second);
        assert_eq!(slots.get_mut(second), Some(&mut 2));
        assert_ne!(first.token(), second.token());
    }
}
