//! A table of what is known per channel; an entry is made when its channel is first used.

use crate::id::ChannelId;

#[derive(Debug)]
pub(crate) struct Table<T> {
    /// Place in `entries` + 1; 0 where there is none.
    places: [u8; ChannelId::COUNT],
    entries: Vec<T>,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Self { places: [0; ChannelId::COUNT], entries: Vec::new() }
    }

    /// The place of a channel's entry, which never changes.
    pub(crate) fn place(&self, id: ChannelId) -> Option<usize> {
        usize::from(self.places[id.index()]).checked_sub(1)
    }

    pub(crate) fn place_or_insert(&mut self, id: ChannelId, make: impl FnOnce() -> T) -> usize {
        self.place(id).unwrap_or_else(|| {
            self.entries.push(make());
            self.places[id.index()] = self.entries.len() as u8;
            self.entries.len() - 1
        })
    }

    #[inline]
    pub(crate) fn at(&mut self, place: usize) -> &mut T {
        &mut self.entries[place]
    }

    pub(crate) fn get(&self, place: usize) -> &T {
        &self.entries[place]
    }

    pub(crate) fn get_mut(&mut self, id: ChannelId) -> Option<&mut T> {
        self.place(id).map(|place| &mut self.entries[place])
    }

    /// What the entries take, in bytes that are allocated.
    pub(crate) fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<T>()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut()
    }
}
