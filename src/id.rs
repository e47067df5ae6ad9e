//! Channel numbers and sets of them.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not, Sub};

/// The number of a channel, 0 to 127.
///
/// The two directions of a number are independent of each other. A number is checked once, here;
/// everything after it relies on the range.
///
/// ```
/// use trunkline::ChannelId;
///
/// const STDIN: ChannelId = ChannelId::new(0);
/// assert_eq!(ChannelId::try_from(0).unwrap(), STDIN);
/// assert!(ChannelId::try_from(128).is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(u8);

impl ChannelId {
    /// How many channels each direction of a connection has (protocol, section 2: seven bits).
    pub const COUNT: usize = 128;

    /// Creates the channel with this number; meant for constants.
    ///
    /// # Panics
    ///
    /// If `number` is above 127; in a `const` that is a compile error. Numbers that come from outside go
    /// through `ChannelId::try_from`.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        assert!(number < 128, "a channel number is 0 to 127");
        Self(number)
    }

    /// Returns the number itself, 0 to 127.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The channel in the low seven bits; for numbers whose field has no room for more.
    pub(crate) const fn from_low_bits(bits: u8) -> Self {
        Self(bits & 0x7f)
    }
}

/// The error of a number that is not a channel's: it is above 127.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{number} is not a channel: channels are numbered 0 to 127")]
pub struct ChannelIdError {
    number: u8,
}

impl TryFrom<u8> for ChannelId {
    type Error = ChannelIdError;

    fn try_from(number: u8) -> Result<Self, ChannelIdError> {
        if number < 128 { Ok(Self(number)) } else { Err(ChannelIdError { number }) }
    }
}

impl From<ChannelId> for u8 {
    fn from(id: ChannelId) -> u8 {
        id.0
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelId({})", self.0)
    }
}

impl BitOr for ChannelId {
    type Output = ChannelSet;

    fn bitor(self, other: ChannelId) -> ChannelSet {
        ChannelSet::from(self) | other
    }
}

/// A set of channels.
///
/// ```
/// use trunkline::{ChannelId, ChannelSet};
///
/// const STDOUT: ChannelId = ChannelId::new(1);
/// const STDERR: ChannelId = ChannelId::new(2);
/// let output = STDOUT | STDERR;
/// assert_eq!(output.len(), 2);
/// assert!(output.contains(STDERR));
/// assert_eq!(output, [STDOUT, STDERR].into_iter().collect());
/// assert_eq!((ChannelSet::ALL - output).len(), 126);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ChannelSet(u128);

impl ChannelSet {
    /// No channel.
    pub const EMPTY: Self = Self(0);
    /// All 128 channels.
    pub const ALL: Self = Self(u128::MAX);

    /// Creates a set whose bit n stands for channel n, counted from the least significant bit.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Returns a number whose bit n is set if channel n is in the set.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// Returns `true` if the channel is in the set.
    #[must_use]
    pub const fn contains(self, id: ChannelId) -> bool {
        self.0 >> id.0 & 1 == 1
    }

    /// Adds a channel. Returns `true` if it was not in the set.
    pub fn insert(&mut self, id: ChannelId) -> bool {
        let new = !self.contains(id);
        self.0 |= 1 << id.0;
        new
    }

    /// Removes a channel. Returns `true` if it was in the set.
    pub fn remove(&mut self, id: ChannelId) -> bool {
        let there = self.contains(id);
        self.0 &= !(1 << id.0);
        there
    }

    /// Returns how many channels are in the set.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Returns `true` if no channel is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the channels in ascending order.
    pub fn iter(self) -> impl Iterator<Item = ChannelId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let id = ChannelId(rest.trailing_zeros() as u8);
            rest &= rest - 1;
            Some(id)
        })
    }

    /// How many channels of the set come before this one: its place in a dense table.
    pub(crate) const fn rank(self, id: ChannelId) -> usize {
        (self.0 & ((1 << id.0) - 1)).count_ones() as usize
    }
}

impl From<ChannelId> for ChannelSet {
    fn from(id: ChannelId) -> Self {
        Self(1 << id.0)
    }
}

impl FromIterator<ChannelId> for ChannelSet {
    fn from_iter<I: IntoIterator<Item = ChannelId>>(ids: I) -> Self {
        ids.into_iter().fold(Self::EMPTY, |set, id| set | id)
    }
}

impl<S: Into<ChannelSet>> BitOr<S> for ChannelSet {
    type Output = ChannelSet;

    fn bitor(self, other: S) -> ChannelSet {
        Self(self.0 | other.into().0)
    }
}

impl<S: Into<ChannelSet>> BitOrAssign<S> for ChannelSet {
    fn bitor_assign(&mut self, other: S) {
        self.0 |= other.into().0;
    }
}

impl<S: Into<ChannelSet>> BitAnd<S> for ChannelSet {
    type Output = ChannelSet;

    fn bitand(self, other: S) -> ChannelSet {
        Self(self.0 & other.into().0)
    }
}

impl<S: Into<ChannelSet>> Sub<S> for ChannelSet {
    type Output = ChannelSet;

    fn sub(self, other: S) -> ChannelSet {
        Self(self.0 & !other.into().0)
    }
}

impl Not for ChannelSet {
    type Output = ChannelSet;

    fn not(self) -> ChannelSet {
        Self(!self.0)
    }
}

impl fmt::Debug for ChannelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(ChannelId::get)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_all_128_channels_and_ranks_them() {
        let all: Vec<_> = ChannelSet::ALL.iter().map(ChannelId::get).collect();
        assert_eq!(all, (0..128).collect::<Vec<u8>>());
        assert_eq!(ChannelSet::ALL.rank(ChannelId::new(127)), 127);
        let odd: ChannelSet = (0..128).filter(|n| n % 2 == 1).map(ChannelId::new).collect();
        assert_eq!(odd.rank(ChannelId::new(5)), 2);
        assert_eq!(!odd & ChannelId::new(4), ChannelSet::from(ChannelId::new(4)));
    }
}
