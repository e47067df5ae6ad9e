//! Places between the entries of a channel, and what was left out between two of them.

/// How much was left out. Upstream may name gaps of any size, so the sums are wider than what a GAP holds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Amount {
    pub(crate) messages: u128,
    pub(crate) bytes: u128,
}

impl Amount {
    pub(crate) fn of(messages: u64, bytes: u64) -> Self {
        Self { messages: messages.into(), bytes: bytes.into() }
    }

    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }

    pub(super) fn add(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }

    pub(super) fn since(self, earlier: Self) -> Self {
        Self { messages: self.messages - earlier.messages, bytes: self.bytes - earlier.bytes }
    }

    /// As a GAP says it.
    pub(crate) fn saturated(self) -> (u64, u64) {
        let narrow = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        (narrow(self.messages), narrow(self.bytes))
    }
}

/// A place between the entries of a channel, and the sums of all before it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    /// How many entries.
    pub(crate) index: u64,
    /// What they had: messages, and what upstream left out.
    pub(crate) amount: Amount,
    /// How many ends of runs.
    pub(super) ends: u64,
    /// What the entries cost.
    pub(crate) cost: u128,
}
