//! A snapshot that stands for what came before.

use bytes::Bytes;

use crate::Snapshot;
use crate::guarded::guarded;

/// A channel's screen, and the last snapshot of it.
pub(crate) struct Screen {
    screen: Box<dyn Snapshot>,
    /// How many messages it was fed, and the snapshot that was taken after so many.
    fed: u64,
    taken: Option<(u64, Bytes)>,
    /// It has panicked, and is not asked again.
    faulty: bool,
}

impl Screen {
    pub(crate) fn new(screen: Box<dyn Snapshot>) -> Self {
        Self { screen, fed: 0, taken: None, faulty: false }
    }

    pub(crate) fn feed(&mut self, message: &[u8]) {
        self.faulty = self.faulty || guarded(|| self.screen.feed(message)).is_none();
        self.fed += 1;
    }

    /// The screen as it is; one snapshot serves all that need the same point.
    pub(crate) fn snapshot(&mut self) -> Bytes {
        match &self.taken {
            Some((at, bytes)) if *at == self.fed => bytes.clone(),
            _ => {
                let bytes = if self.faulty { None } else { guarded(|| self.screen.snapshot()) };
                self.faulty = bytes.is_none();
                let bytes = bytes.unwrap_or_default();
                self.taken = Some((self.fed, bytes.clone()));
                bytes
            }
        }
    }
}
