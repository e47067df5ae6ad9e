//! Which number a client's own input message has in the program's count.

use std::collections::VecDeque;

use crate::filter::Line;

/// Input messages that follow each other in both counts; the first of each count is number 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    pub(crate) own: u64,
    pub(crate) input: u64,
    /// How many; a stretch that is not over has no end.
    len: Option<u64>,
    /// The client was told that it ends, so what follows begins another, even if it goes on in both counts.
    told_over: bool,
}

/// So many stretches are remembered; an interrupt of a line that is older comes too late.
const MOST: usize = 32;

/// The stretches of one client, oldest first.
#[derive(Clone, Default, Debug)]
pub(crate) struct Stretches(VecDeque<Stretch>);

impl Stretches {
    /// The client's own message was passed on with a number. Returns `true` if that begins a stretch.
    pub(crate) fn passed(&mut self, own: u64, input: u64) -> bool {
        if let Some(Stretch { own: first, input: from, len: Some(len), told_over: false }) = self.0.back_mut()
            && (own, input) == (*first + *len, *from + *len)
        {
            *len += 1;
            return false;
        }
        self.push(Stretch { own, input, len: Some(1), told_over: false });
        true
    }

    /// The client is told that it has lost the input, so it takes the stretch for over.
    pub(crate) fn lost(&mut self) {
        if let Some(last) = self.0.back_mut() {
            last.told_over = true;
        }
    }

    /// From this message on the two counts go on together, as a hub upstream has said.
    pub(crate) fn learn(&mut self, own: u64, input: u64) {
        if let Some(last) = self.0.back_mut()
            && last.len.is_none()
        {
            last.len = Some(own.saturating_sub(last.own));
        }
        self.push(Stretch { own, input, len: None, told_over: false });
    }

    /// What a hub upstream said of the last stretch is over behind this message.
    pub(crate) fn cut(&mut self, last_own: u64) {
        if let Some(last) = self.0.back_mut()
            && last.len.is_none()
        {
            last.len = Some((last_own + 1).saturating_sub(last.own));
        }
    }

    fn push(&mut self, stretch: Stretch) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(stretch);
    }

    /// The number of the client's own message, if it was passed on.
    pub(crate) fn number(&self, own: u64) -> Option<u64> {
        let covers =
            |stretch: &&Stretch| own >= stretch.own && stretch.len.is_none_or(|len| own - stretch.own < len);
        self.0.iter().rev().find(covers).map(|stretch| stretch.input + (own - stretch.own))
    }

    /// The newest of the client's own messages before this one that was passed on.
    pub(crate) fn before(&self, own: u64) -> Option<u64> {
        let newest = |stretch: &Stretch| match stretch.len {
            Some(len) => (stretch.own + len - 1).min(own - 1),
            None => own - 1,
        };
        self.0.iter().rev().filter(|stretch| stretch.own < own).map(newest).find(|found| *found > 0)
    }

    /// What has become of a message of a client of which so many have come.
    pub(crate) fn line(&self, own: u64, received: u64) -> Line {
        match self.number(own) {
            Some(number) => Line::Passed(number),
            None if own > received => Line::Coming,
            None => Line::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_number_of_its_stretch() {
        let mut lines = Stretches::default();
        assert!(lines.passed(1, 1) && !lines.passed(2, 2));
        // Another client's message was passed on, then two of this one were refused.
        assert!(lines.passed(3, 4) && lines.passed(6, 5) && !lines.passed(7, 6));
        let numbers: Vec<_> = (0..9).map(|own| lines.number(own)).collect();
        assert_eq!(numbers, [None, Some(1), Some(2), Some(4), None, None, Some(5), Some(6), None]);
        assert_eq!(lines.line(5, 7), Line::Gone);
        assert_eq!(lines.line(8, 7), Line::Coming);
        assert_eq!(lines.line(0, 7), Line::Gone);
    }

    #[test]
    fn a_client_that_has_lost_the_input_is_told_where_it_goes_on() {
        let mut lines = Stretches::default();
        assert!(lines.passed(1, 1) && !lines.passed(2, 2));
        // Another client took the input, and sent nothing.
        lines.lost();
        assert!(lines.passed(3, 3) && !lines.passed(4, 4));
        assert_eq!((lines.number(2), lines.number(3), lines.number(4)), (Some(2), Some(3), Some(4)));
    }

    #[test]
    fn what_a_hub_says_holds_until_it_says_something_else() {
        let mut lines = Stretches::default();
        lines.learn(1, 10);
        assert_eq!((lines.number(1), lines.number(100)), (Some(10), Some(109)));
        lines.cut(3);
        assert_eq!((lines.number(3), lines.number(4)), (Some(12), None));
        lines.learn(6, 20);
        assert_eq!((lines.number(5), lines.number(6)), (None, Some(20)));
    }
}
