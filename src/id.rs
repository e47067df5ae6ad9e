//! Channel numbers and sets of them.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not, Sub};
use std::str::FromStr;

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
/// assert_eq!("0".parse(), Ok(STDIN));
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

/// The error of what is not a channel's number, or a list of them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what:?} is not a channel: channels are numbered 0 to 127")]
pub struct ChannelIdError {
    what: String,
}

macro_rules! from_number {
    ($($number:ty),*) => {$(
        impl TryFrom<$number> for ChannelId {
            type Error = ChannelIdError;

            fn try_from(number: $number) -> Result<Self, ChannelIdError> {
                match u8::try_from(number) {
                    Ok(number) if number < 128 => Ok(Self(number)),
                    _ => Err(ChannelIdError { what: number.to_string() }),
                }
            }
        }
    )*};
}

from_number!(u8, u16, u32, u64, usize, i32);

impl FromStr for ChannelId {
    type Err = ChannelIdError;

    fn from_str(text: &str) -> Result<Self, ChannelIdError> {
        let number = text.trim().parse::<u8>().ok().and_then(|number| Self::try_from(number).ok());
        number.ok_or_else(|| ChannelIdError { what: text.to_owned() })
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
///
/// // As text: numbers and ranges.
/// assert_eq!(output.to_string(), "1-2");
/// assert_eq!("1-2, 7".parse::<ChannelSet>()?, output | ChannelId::new(7));
/// # Ok::<(), trunkline::ChannelIdError>(())
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
    #[must_use]
    pub const fn iter(self) -> Channels {
        Channels(self.0)
    }

    /// How many channels of the set come before this one: its place in a dense table.
    pub(crate) const fn rank(self, id: ChannelId) -> usize {
        (self.0 & ((1 << id.0) - 1)).count_ones() as usize
    }
}

/// The channels of a [`ChannelSet`], in ascending order.
#[derive(Clone, Debug)]
pub struct Channels(u128);

impl Iterator for Channels {
    type Item = ChannelId;

    #[inline]
    fn next(&mut self) -> Option<ChannelId> {
        if self.0 == 0 {
            return None;
        }
        let id = ChannelId(self.0.trailing_zeros() as u8);
        self.0 &= self.0 - 1;
        Some(id)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.count_ones() as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Channels {}

impl IntoIterator for ChannelSet {
    type Item = ChannelId;
    type IntoIter = Channels;

    fn into_iter(self) -> Channels {
        self.iter()
    }
}

impl Extend<ChannelId> for ChannelSet {
    fn extend<I: IntoIterator<Item = ChannelId>>(&mut self, ids: I) {
        for id in ids {
            self.insert(id);
        }
    }
}

impl<const N: usize> From<[ChannelId; N]> for ChannelSet {
    fn from(ids: [ChannelId; N]) -> Self {
        ids.into_iter().collect()
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

impl fmt::Display for ChannelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while rest != 0 {
            let first = rest.trailing_zeros();
            let last = first + (!(rest >> first)).trailing_zeros() - 1;
            rest &= u128::MAX.checked_shl(last + 1).unwrap_or(0);
            let more = if rest == 0 { "" } else { ", " };
            if first == last { write!(f, "{first}{more}")? } else { write!(f, "{first}-{last}{more}")? }
        }
        Ok(())
    }
}

/// Reads numbers and ranges, as in `0-3, 7`. An empty text is the empty set.
impl FromStr for ChannelSet {
    type Err = ChannelIdError;

    fn from_str(text: &str) -> Result<Self, ChannelIdError> {
        let mut set = Self::EMPTY;
        for part in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
            match part.split_once('-') {
                None => set |= part.parse::<ChannelId>()?,
                Some((first, last)) => {
                    let (first, last) = (first.parse::<ChannelId>()?, last.parse::<ChannelId>()?);
                    if first > last {
                        return Err(ChannelIdError { what: part.to_owned() });
                    }
                    set.extend((first.0..=last.0).map(ChannelId));
                }
            }
        }
        Ok(set)
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
    fn sets_are_read_as_they_are_written() {
        for bits in [0, 1, 0b1011, 1 << 127, 3 << 126, u128::MAX, u128::MAX - 1, 0x5555 << 60] {
            let set = ChannelSet::from_bits(bits);
            assert_eq!(set.to_string().parse(), Ok(set));
            assert_eq!(set.into_iter().len(), set.len());
        }
        assert_eq!(ChannelSet::ALL.to_string(), "0-127");
        for wrong in ["128", "a", "3-1", "1,", "-", "1-2-3", "1 2"] {
            assert!(wrong.parse::<ChannelSet>().is_err(), "{wrong}");
        }
    }

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
