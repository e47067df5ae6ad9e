//! What all handles of a connection share: with the last of them the connection is closed.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{CloseCode, ConnectionError};
use crate::io::shared::Shared;
use crate::queue::send::Until;

/// What every handle of a connection holds; with the last one the connection is closed.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Closes, and waits until the peer has everything.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        let Shared { send, inbox, facts, .. } = &*self.shared;
        send.close(code, reason);
        inbox.end(&ConnectionError::Closed { code });
        // The I/O thread ends the wait; the margin is for a machine that is busy.
        send.wait_gone(Until::after(facts.linger.saturating_add(Duration::from_secs(1))));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close(CloseCode::NORMAL, "");
    }
}
