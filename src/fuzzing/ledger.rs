//! What one side has accepted for the other, run by run, and whether what arrives is that.

use std::collections::VecDeque;

use crate::proto::frame::End;

/// One direction of one channel.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The last one is open, if it has no end.
    runs: VecDeque<Run>,
    next: u32,
    /// All that was left out so far, as it was said and as it was told.
    gaps: Gaps,
    gaps_told: Gaps,
    /// A RESET may have dropped gaps.
    gaps_lost: bool,
    last_end: Option<End>,
    /// Ends and gaps since the last message, and whether there were so many once that some were
    /// merged: then it is not known which run the receiver knows as which.
    notes: u32,
    merged: bool,
    stopped: bool,
}

/// The code of every STOP.
pub(super) const STOP: u32 = 1000;
/// So many notes in a row are told one by one (protocol, section 3).
const NOTES: u32 = 16;

type Gaps = (u64, u64);

#[derive(Debug, Default)]
struct Run {
    messages: VecDeque<Message>,
    end: Option<End>,
    /// The receiver wants no more of it: it may end earlier, and so.
    stopped: bool,
}

#[derive(Debug)]
struct Message {
    number: u32,
    len: usize,
    gaps: Gaps,
}

impl Run {
    /// Nothing of it, or no more of it, need arrive.
    fn may_go(&self) -> bool {
        match self.end {
            Some(End::Finish) => self.stopped || self.messages.is_empty(),
            Some(End::Reset(_)) => true,
            None => false,
        }
    }

    fn ends_with(&self, end: End) -> bool {
        self.end == Some(end) || self.stopped && end == End::Reset(STOP)
    }
}

/// The content of a message: its number, and then a byte that depends on it.
pub(super) fn content(number: u32, len: usize) -> Vec<u8> {
    let mut content = vec![number as u8; len];
    content.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, number)| *byte = number);
    content
}

impl Ledger {
    // ---- what the sender says

    /// The number of the message that is sent next.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    pub(super) fn send(&mut self, len: usize) {
        let message = Message { number: self.next, len, gaps: self.gaps };
        self.next += 1;
        self.notes = 0;
        self.open().messages.push_back(message);
    }

    pub(super) fn end(&mut self, end: End) {
        self.gaps_lost |= end != End::Finish;
        self.note();
        self.open().end = Some(end);
    }

    /// The sender finds its run stopped.
    pub(super) fn end_stopped(&mut self) {
        let loose = self.is_loose();
        if let Some(run) = self.runs.back_mut().filter(|run| run.end.is_none()) {
            assert!(run.stopped || loose, "a run was stopped that is not the one: {run:?}");
            run.end = Some(End::Reset(STOP));
        }
    }

    fn note(&mut self) {
        self.notes += 1;
        self.merged |= self.notes > NOTES - 2;
    }

    pub(super) fn leave_out(&mut self, messages: u64, bytes: u64) {
        self.gaps = (self.gaps.0 + messages, self.gaps.1 + bytes);
        self.note();
    }

    /// A run was stopped, and it is not known which: only what comes is looked at, not what does not.
    fn is_loose(&self) -> bool {
        self.stopped && self.merged
    }

    fn open(&mut self) -> &mut Run {
        if self.runs.back().is_none_or(|run| run.end.is_some()) {
            self.runs.push_back(Run::default());
        }
        self.runs.back_mut().expect("there is one now")
    }

    // ---- what the receiver says and hears

    /// It wants no more of the run that it is at.
    pub(super) fn stop(&mut self) {
        self.gaps_lost = true;
        self.stopped = true;
        if self.runs.is_empty() {
            self.open();
        }
        self.runs[0].stopped = true;
    }

    pub(super) fn hear_message(&mut self, bytes: &[u8]) {
        let loose = self.is_loose();
        let message = loop {
            let run = self.runs.front_mut().expect("a message that was never sent");
            let same = |message: &Message| {
                message.len == bytes.len() && *content(message.number, message.len) == *bytes
            };
            if run.messages.front().is_some_and(same) {
                break run.messages.pop_front().expect("there is one");
            }
            if loose && run.messages.pop_front().is_some() {
                continue;
            }
            assert!(loose || run.may_go(), "{} bytes are not what was sent: {run:?}", bytes.len());
            let run = self.runs.pop_front().expect("there is one");
            // Several ends became one, and that one is the last.
            let told = self.runs.front().is_some_and(Run::may_go)
                || self.last_end.is_some_and(|end| run.ends_with(end) || end == End::Reset(STOP));
            assert!(told || loose, "an end is missing: {run:?} after {:?}", self.last_end);
        };
        let exact = loose || self.gaps_lost || self.gaps_told == message.gaps;
        assert!(exact, "{:?} was left out, but {:?} told", message.gaps, self.gaps_told);
    }

    pub(super) fn hear_end(&mut self, end: End) {
        self.last_end = Some(end);
        if self.is_loose() {
            return;
        }
        loop {
            let run = self.runs.pop_front().expect("an end that was never said");
            let ends = run.ends_with(end) && (run.may_go() || run.stopped);
            assert!(ends || run.may_go(), "{end:?} instead of {run:?}");
            if ends {
                return;
            }
        }
    }

    pub(super) fn hear_gap(&mut self, messages: u64, bytes: u64) {
        self.gaps_told = (self.gaps_told.0 + messages, self.gaps_told.1 + bytes);
        let (told, said) = (self.gaps_told, self.gaps);
        assert!(told.0 <= said.0 && told.1 <= said.1, "{told:?} was told, but {said:?} left out");
    }

    /// All that was sent has arrived.
    pub(super) fn check_complete(&self) {
        if self.is_loose() {
            return;
        }
        for run in &self.runs {
            let idle = run.end.is_none() && (run.messages.is_empty() || run.stopped);
            assert!(run.may_go() || idle, "missing: {run:?}");
        }
        let last = self.runs.iter().rfind(|run| run.end.is_some() && !run.stopped);
        let told = last.is_none_or(|run| self.last_end.is_some_and(|end| run.ends_with(end)));
        assert!(told, "an end is missing: {:?}", self.runs);
        assert!(self.gaps_lost || self.gaps_told == self.gaps, "a gap is missing");
    }
}
