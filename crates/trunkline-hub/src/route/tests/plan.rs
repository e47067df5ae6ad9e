//! The routes of the world.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trunkline::{ChannelId, ChannelSet};

use super::super::*;
use crate::filter::{Line, Origin, Verdict};

pub(super) const INPUT: ChannelId = ChannelId::new(0);
pub(super) const OUT: ChannelId = ChannelId::new(1);
pub(super) const ERR: ChannelId = ChannelId::new(2);
pub(super) const CONTROL: ChannelId = ChannelId::new(3);
pub(super) const STATUS: ChannelId = ChannelId::new(4);
pub(super) const TALK: ChannelId = ChannelId::new(5);
pub(super) const ROSTER: ChannelId = ChannelId::new(127);
pub(super) const SCREEN: ChannelId = ChannelId::new(6);
/// The slots of the log.
pub(super) const DOWN: [ChannelId; 5] = [OUT, ERR, STATUS, CONTROL, SCREEN];
/// A larger message is a gap for a client.
pub(super) const LARGEST: usize = 500;
/// The bound of OUT and ERR together.
pub(super) const BOUND: u64 = 400;

pub(super) fn filter(origin: &Origin<'_>, message: &[u8]) -> Verdict {
    let text = std::str::from_utf8(message).unwrap();
    let own = text.rsplit(' ').next().unwrap().parse().unwrap();
    match origin.line(own) {
        Line::Passed(number) => Verdict::Rewrite(format!("{text} is {number}").into()),
        Line::Coming => Verdict::Hold(own),
        Line::Gone => Verdict::Drop,
    }
}

/// A snapshot that says for how many messages it stands.
struct Count(u64);

impl crate::Snapshot for Count {
    fn feed(&mut self, _message: &[u8]) {
        self.0 += 1;
    }

    fn snapshot(&mut self) -> Bytes {
        format!("S{}", self.0).into()
    }
}

pub(super) fn plan() -> (Plan, Log) {
    let mut log = Log::default();
    let mut down = [None; 128];
    let both = log.add_group(BOUND);
    let (status, control) = (log.add_group(0), log.add_group(200));
    let screen = log.add_group(300);
    let keeps = [
        (both, Keeps::History),
        (both, Keeps::History),
        (status, Keeps::Latest),
        (control, Keeps::Nothing),
        (screen, Keeps::Screen(Screen::new(Box::new(Count(0))))),
    ];
    for (channel, (group, keeps)) in DOWN.into_iter().zip(keeps) {
        down[usize::from(channel.get())] = Some(log.add_channel(channel, group, keeps) as u8);
    }
    let mut up = vec![super::super::Up::Refused; 128];
    up[0] = super::super::Up::Input;
    up[3] = super::super::Up::Shared(Arc::new(filter));
    up[5] = super::super::Up::Private;
    up[127] = super::super::Up::Roster;
    let settings = Settings {
        owner_grace: Duration::from_secs(10),
        pass_end_of_input: false,
        wait_for_owner: false,
        unread_answers: 200,
        linger: Duration::from_secs(5),
    };
    let plan = Plan {
        down,
        up,
        input: Some(INPUT),
        private: Some(TALK),
        pool: channels(64..=65),
        roster: Some(ROSTER),
        may_send: ChannelSet::ALL,
        may_interrupt: true,
        settings,
    };
    (plan, log)
}
