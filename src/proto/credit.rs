//! Checked credit arithmetic, and nothing else.
//!
//! Invariant: a [`Credit`] is never above [`Credit::MAX`] and never below zero. Everything that a
//! peer sends goes through [`Credit::grant`] or [`Credit::spend`], which refuse instead of
//! wrapping.

use super::frame::FRAME_COST;

/// Bytes that one side may still send on a channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Credit(u32);

/// What a frame with this payload costs (protocol, section 3: length + 32).
pub(crate) const fn cost(payload: usize) -> u32 {
    payload as u32 + FRAME_COST
}

impl Credit {
    /// The most that a channel may hold (protocol, section 3).
    pub(crate) const MAX: u32 = i32::MAX as u32;

    pub(crate) fn new(bytes: u32) -> Option<Self> {
        (bytes <= Self::MAX).then_some(Self(bytes))
    }

    pub(crate) const fn get(self) -> u32 {
        self.0
    }

    /// Adds what was granted; `None`, and no change, above the maximum.
    #[must_use]
    pub(crate) fn grant(&mut self, bytes: u32) -> Option<()> {
        *self = Self::new(self.0.checked_add(bytes)?)?;
        Some(())
    }

    /// Takes off what a frame costs; `None`, and no change, if it is not all there.
    #[must_use]
    pub(crate) fn spend(&mut self, bytes: u32) -> Option<()> {
        self.0 = self.0.checked_sub(bytes)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credit_that_would_overflow_is_refused_and_changes_nothing() {
        let mut credit = Credit::new(Credit::MAX).unwrap();
        assert_eq!(credit.grant(1), None);
        assert_eq!(credit.grant(u32::MAX), None);
        assert_eq!(credit.get(), Credit::MAX);
        assert_eq!(Credit::new(Credit::MAX + 1), None);
    }

    proptest! {
        #[test]
        fn credit_is_what_was_granted_less_what_was_spent(
            start in 0..=Credit::MAX, steps in prop::collection::vec((any::<bool>(), any::<u32>()), 0..64)
        ) {
            let mut credit = Credit::new(start).unwrap();
            let mut model = i64::from(start);
            for (grant, bytes) in steps {
                let next = if grant { model + i64::from(bytes) } else { model - i64::from(bytes) };
                let legal = (0..=i64::from(Credit::MAX)).contains(&next);
                let done = if grant { credit.grant(bytes) } else { credit.spend(bytes) };
                prop_assert_eq!(done.is_some(), legal);
                if legal {
                    model = next;
                }
                prop_assert_eq!(i64::from(credit.get()), model);
            }
        }
    }
}
