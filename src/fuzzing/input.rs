//! The fuzzer's bytes.

use crate::id::{ChannelId, ChannelSet};
use crate::proto::frame::MAX_DATA;

/// The fuzzer's bytes, read as decisions; zeros follow behind their end.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    pub(super) fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Mostly one of a few channels, so that things happen on the same.
    pub(super) fn channel(&mut self) -> ChannelId {
        let byte = self.byte();
        ChannelId::from_low_bits(if byte & 0x80 == 0 { byte % 3 } else { byte })
    }

    pub(super) fn channels(&mut self) -> ChannelSet {
        ChannelSet::from_bits(u128::from(self.number()) << (self.byte() % 65))
    }

    /// A length around the places where something changes.
    pub(super) fn length(&mut self) -> usize {
        let near = [0, 0, 1, 1, 8, 32, 33, 100, 100, 1000, 1000, 4096, 4096, 5000, MAX_DATA, 200_000];
        let near = near[usize::from(self.byte() % 16)];
        (near + usize::from(self.byte() % 4)).saturating_sub(1)
    }

    /// The next bytes as they are; `None` at the end.
    pub(super) fn piece(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let len = usize::from(self.byte()).min(self.0.len());
        let (piece, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(piece)
    }
}
