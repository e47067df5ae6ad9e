//! What all handles of a connection share: with the last of them the connection is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{CloseCode, ConnectionError};
use crate::io::shared::Shared;
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
        events.end(&cause);
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
        let allowed = PATIENCE.allow(linger, &self.shared);
        let begin = Instant::now();
        let waited = allowed.saturating_add(if allowed < linger { Duration::ZERO } else { MARGIN });
        let gone = self.shared.send.wait_gone(Until::after(waited));
        if !gone || begin.elapsed() >= linger {
            PATIENCE.in_vain(linger);
        }
    }
}

/// How long drops wait. One that waited in vain has used up the patience for those that follow it
/// closely: a program that lets go of many connections to dead peers must not wait for one after the
/// other. Those then wait for as long as a peer that lives needs; the I/O thread does the rest.
struct Patience {
    /// Until when the patience is used up. Held for a look; no other lock is taken meanwhile.
    used_up: Mutex<Option<Instant>>,
}

static PATIENCE: Patience = Patience { used_up: Mutex::new(None) };

/// What a peer that lives needs to answer, on a machine that is busy.
const ANSWER: Duration = Duration::from_millis(25);

impl Patience {
    fn allow(&self, linger: Duration, shared: &Shared) -> Duration {
        if self.used_up.lock().is_none_or(|until| until <= Instant::now()) {
            return linger;
        }
        if shared.agreed().suspended {
            return Duration::ZERO;
        }
        let round_trip = shared.rtt().unwrap_or_default();
        linger.min(ANSWER.max(round_trip.saturating_mul(4)))
    }

    fn in_vain(&self, linger: Duration) {
        *self.used_up.lock() = Instant::now().checked_add(linger.max(ANSWER));
    }
}
