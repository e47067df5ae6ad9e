//! Where the I/O thread gathers what one read brought, a list for each receive queue, before it
//! hands each its part under one lock.

use std::sync::Arc;

use super::batch::Pieces;
use super::pool::Pool;
use super::waiters::Wakes;
use crate::id::{ChannelId, ChannelSet};
use crate::proto::inbound::Deliver;

/// The route of a channel that needs a look at each frame: it is refused or being discarded.
pub(crate) const INSPECT: u8 = u8::MAX;

#[derive(Debug)]
pub(crate) struct List {
    pub(crate) route: u8,
    pub(crate) channels: ChannelSet,
    pub(crate) pieces: Pieces,
}

/// One for all connections of an I/O thread: it is empty between two reads.
#[derive(Debug)]
pub(crate) struct Staging {
    lists: Lists,
    /// Kept, so that waking allocates nothing.
    pub(crate) wakes: Wakes,
    /// A reader that waited was given something.
    pub(crate) served: bool,
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Lists {
    routes: [u8; ChannelId::COUNT],
    /// Place in `lists` + 1, by route.
    places: [u8; 256],
    lists: Vec<List>,
    spare: Vec<List>,
}

impl Staging {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        let lists =
            Lists { routes: [0; ChannelId::COUNT], places: [0; 256], lists: Vec::new(), spare: Vec::new() };
        Self { lists, wakes: Wakes::default(), served: false, pool }
    }

    pub(crate) fn begin(&mut self, routes: &[u8; ChannelId::COUNT]) {
        debug_assert!(self.is_empty());
        self.lists.routes = *routes;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lists.lists.is_empty()
    }

    /// Hands each list to `take`, which leaves it empty.
    pub(crate) fn hand_over(&mut self, mut take: impl FnMut(&mut List)) {
        let Lists { places, lists, spare, .. } = &mut self.lists;
        for mut list in lists.drain(..) {
            places[usize::from(list.route)] = 0;
            take(&mut list);
            spare.push(list);
        }
    }
}

impl Lists {
    fn list(&mut self, channel: ChannelId) -> &mut List {
        let route = self.routes[channel.index()];
        let place = &mut self.places[usize::from(route)];
        if *place == 0 {
            let fresh = || List { route, channels: ChannelSet::EMPTY, pieces: Pieces::default() };
            let mut list = self.spare.pop().unwrap_or_else(fresh);
            list.route = route;
            list.channels = ChannelSet::EMPTY;
            self.lists.push(list);
            *place = self.lists.len() as u8;
        }
        let list = &mut self.lists[usize::from(*place) - 1];
        list.channels.insert(channel);
        list
    }
}

impl Deliver for Staging {
    fn frames(&mut self, channel: ChannelId, frames: &[u8], messages: u32) {
        self.lists.list(channel).pieces.push_frames(frames, messages as usize, &mut &*self.pool);
    }

    fn buffer(&mut self, room: usize) -> Vec<u8> {
        self.pool.lend(room)
    }

    fn message(&mut self, channel: ChannelId, payload: Vec<u8>) {
        self.lists.list(channel).pieces.push_message(
            channel,
            Pool::share(&self.pool, payload),
            &mut &*self.pool,
        );
    }
}
