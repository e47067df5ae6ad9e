//! What all handles of a connection share: with the last of them the connection is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::error::{CloseCode, ConnectionError};
use crate::io::shared::Shared;
use crate::patience;
use crate::proto::session::{CloseWish, Farewell};
use crate::queue::until::{Until, runs_loop};

/// What every handle of a connection holds.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    /// The caller has let go without waiting, so the drop does not wait either. Set before the last
    /// handle can be dropped by the same thread, or synchronised by the count of handles; so
    /// `Relaxed` is enough.
    left: AtomicBool,
}

/// The I/O thread ends the wait for a peer; the margin is for a machine that is busy.
const MARGIN: Duration = Duration::from_secs(1);

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, left: AtomicBool::new(false) }
    }

    /// The drop waits for nothing.
    pub(crate) fn leave(&self) {
        self.left.store(true, Relaxed);
    }

    /// Closes behind what was sent; all handles fail from now on. The peer has so long to confirm.
    pub(crate) fn begin_close(&self, code: CloseCode, reason: &str, linger: Duration) {
        let farewell = Farewell { code, reason: reason.to_owned() };
        self.begin(CloseWish::Behind { farewell, linger });
    }

    /// Closes at once; what was not sent is dropped.
    pub(crate) fn abandon(&self) {
        self.begin(CloseWish::Now(Farewell { code: CloseCode::SHUTTING_DOWN, reason: String::new() }));
    }

    fn begin(&self, wish: CloseWish) {
        let Shared { send, receive, events, .. } = &*self.shared;
        let cause = ConnectionError::Closed { code: wish.code() };
        send.close(wish);
        receive.end(&cause);
        events.close(&cause);
    }

    /// Waits until the I/O thread has let go, which it does after `linger` at the latest.
    pub(crate) fn wait_gone(&self, linger: Duration) -> bool {
        self.shared.send.wait_gone(Until::after(linger.saturating_add(MARGIN)))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.shared.is_forked() || self.left.load(Relaxed) {
            return;
        }
        let linger = self.shared.facts.linger;
        let (code, reason) = if std::thread::panicking() {
            (CloseCode::PANICKED, "a thread of the program panicked")
        } else {
            (CloseCode::NORMAL, "")
        };
        self.begin_close(code, reason, linger);
        if runs_loop() {
            // The loop does the rest; it cannot wait for itself.
            return;
        }
        patience::spend(&self.shared, linger, |allowed| {
            let margin = if allowed < linger { Duration::ZERO } else { MARGIN };
            self.shared.send.wait_gone(Until::after(allowed.saturating_add(margin)))
        });
    }
}
