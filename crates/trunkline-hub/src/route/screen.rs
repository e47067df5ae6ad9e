//! A snapshot that stands for what came before.

use bytes::Bytes;

use crate::Snapshot;

/// A channel's screen, and the last snapshot of it.
pub(crate) struct Screen {
    screen: Box<dyn Snapshot>,
    /// How many messages it was fed, and the snapshot that was taken after so many.
    fed: u64,
    taken: Option<(u64, Bytes)>,
}

impl Screen {
    pub(crate) fn new(screen: Box<dyn Snapshot>) -> Self {
        Self { screen, fed: 0, taken: None }
    }

    pub(crate) fn feed(&mut self, message: &[u8]) {
        self.screen.feed(message);
        self.fed += 1;
    }

    /// The screen as it is; one snapshot serves all that need the same point.
    pub(crate) fn snapshot(&mut self) -> Bytes {
        match &self.taken {
            Some((at, bytes)) if *at == self.fed => bytes.clone(),
            _ => {
                let bytes = self.screen.snapshot();
                self.taken = Some((self.fed, bytes.clone()));
                bytes
            }
        }
    }
}
