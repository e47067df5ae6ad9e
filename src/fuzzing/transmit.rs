//! What a session sends, read as a strict peer would.

use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::cost;
use crate::proto::frame::{Control, End, WORD, Word};
use crate::proto::session::Settings;

/// What came out, read as a strict peer would.
pub(super) struct Transmit {
    may_receive: ChannelSet,
    max_message: usize,
    /// The credit that the peer has granted, by channel, less what was spent.
    pub(super) credit: Vec<u64>,
    /// Bytes of a message that is not complete.
    partial: Vec<Option<usize>>,
    pub(super) closed: bool,
    /// Credit granted to the peer, by channel.
    granted: Vec<u64>,
}

impl Transmit {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            may_receive: settings.we_may_send,
            max_message: settings.theirs.max_message as usize,
            credit: vec![settings.theirs.window.into(); ChannelId::COUNT],
            partial: vec![None; ChannelId::COUNT],
            closed: false,
            granted: vec![settings.ours.window.into(); ChannelId::COUNT],
        }
    }

    /// Reads a segment; it ends where a frame ends.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut note: impl FnMut(&Control)) {
        while !bytes.is_empty() {
            let word = Word::first_of(bytes).expect("whole frames");
            assert_eq!(word.check(), Ok(()));
            let (frame, rest) = bytes.split_at_checked(WORD + word.len()).expect("whole frames");
            bytes = rest;
            if word.is_control() {
                let control = Control::decode(word.channel(), &frame[WORD..]).expect("a legal control frame");
                let ack = matches!(control, Control::Ack(_));
                assert!(!self.closed || ack, "something else than an ACK after CLOSE");
                self.read_control(&control);
                note(&control);
            } else {
                assert!(!self.closed, "data after CLOSE");
                self.read_data(word);
            }
        }
    }

    fn read_data(&mut self, word: Word) {
        let at = word.channel().index();
        assert!(self.may_receive.contains(word.channel()));
        let left = self.credit[at].checked_sub(cost(word.len()).into());
        self.credit[at] = left.expect("a data frame without credit");
        let whole = self.partial[at].take().unwrap_or(0) + word.len();
        assert!(whole <= self.max_message);
        if word.has_more() {
            self.partial[at] = Some(whole);
        }
    }

    fn read_control(&mut self, control: &Control) {
        match control {
            Control::End { channel, end } => {
                let partial = self.partial[channel.index()].take();
                assert!(partial.is_none() || *end != End::Finish, "FINISH inside a message");
            }
            Control::Credit { channel, bytes } => {
                assert!(*bytes > 0);
                let granted = &mut self.granted[channel.index()];
                *granted += u64::from(*bytes);
            }
            Control::Close { .. } => self.closed = true,
            _ => {}
        }
    }
}
