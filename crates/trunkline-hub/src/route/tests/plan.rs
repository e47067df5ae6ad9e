//! The routes of the world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use trunkline::{Access, ChannelId, ChannelSet};

use super::super::*;
use crate::filter::{Judge, Line, News, Origin, Verdict};

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

/// What a judge has heard.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Heard {
    /// The clients that have not left, and whether each is lost.
    pub here: BTreeMap<u64, bool>,
    pub left: BTreeSet<u64>,
    pub owner: Option<u64>,
}

/// A judge that lets commands name lines, and says who is there.
#[derive(Default)]
struct Witness {
    heard: Arc<Mutex<Heard>>,
    accesses: BTreeMap<u64, Access>,
    said: String,
}

impl Heard {
    /// The clients that are there and not lost.
    pub fn text(&self) -> String {
        let there = self.here.iter().filter(|(_, lost)| !**lost).map(|(client, _)| *client);
        format!("there {:?} owner {:?}", there.collect::<Vec<_>>(), self.owner)
    }
}

impl Judge for Witness {
    fn judge(&mut self, origin: &Origin<'_>, message: &[u8]) -> Verdict {
        let text = std::str::from_utf8(message).unwrap();
        let (client, own) = text.split_once(' ').unwrap();
        assert_eq!(client.parse(), Ok(origin.client()), "it is told whose message that is");
        assert_eq!(self.accesses.get(&origin.client()), Some(origin.access()));
        let heard = self.heard.lock().unwrap();
        assert_eq!(heard.owner == Some(origin.client()), origin.owns_input());
        assert!(heard.here.contains_key(&origin.client()), "a client that is not here says something");
        let own = own.parse().unwrap();
        match origin.line(own) {
            Line::Passed(number) => Verdict::Rewrite(format!("{text} is {number}").into()),
            Line::Coming => Verdict::Hold(own),
            Line::Gone => Verdict::Drop,
        }
    }

    fn hear(&mut self, news: &News<'_>) {
        let mut heard = self.heard.lock().unwrap();
        match *news {
            News::Joined { client, access } => {
                self.accesses.insert(client, access.clone());
                assert!(!heard.left.contains(&client) && heard.here.insert(client, false).is_none());
            }
            News::Lost { client } => assert_eq!(heard.here.insert(client, true), Some(false)),
            News::Back { client } => assert_eq!(heard.here.insert(client, false), Some(true)),
            News::Left { client } => {
                assert!(heard.here.remove(&client).is_some() && heard.left.insert(client));
            }
            News::Owner { client } => {
                assert_ne!(std::mem::replace(&mut heard.owner, client), client, "no news");
            }
        }
    }

    fn say(&mut self) -> Option<Bytes> {
        let text = self.heard.lock().unwrap().text();
        (std::mem::replace(&mut self.said, text.clone()) != text).then(|| text.into())
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

/// The routes, and what their judge has heard.
pub(super) fn plan() -> (Plan, Log, Vec<Bench>, Arc<Mutex<Heard>>) {
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
    up[3] = super::super::Up::Shared(0);
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
    let heard = Arc::default();
    let witness = Witness { heard: Arc::clone(&heard), ..Witness::default() };
    (plan, log, vec![Bench::new(witness, Some(CONTROL))], heard)
}
