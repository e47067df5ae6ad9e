//! How long drops wait for a peer.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::io::shared::Shared;

/// How long drops wait. One that waited in vain has used up the patience for those that follow it
/// closely: a program that lets go of many connections to dead peers must not wait for one after the
/// other. Those then wait for as long as a peer that lives needs.
struct Patience {
    /// Until when the patience is used up. Held for a look; no other lock is taken meanwhile.
    used_up: Mutex<Option<Instant>>,
}

static PATIENCE: Patience = Patience { used_up: Mutex::new(None) };

/// What a peer that lives needs to answer, on a machine that is busy.
const ANSWER: Duration = Duration::from_millis(25);

/// Waits in a drop: `wait` gets how long it may take, which is `linger` or less, and returns whether
/// that was enough.
pub(crate) fn spend(shared: &Shared, linger: Duration, wait: impl FnOnce(Duration) -> bool) {
    let allowed = PATIENCE.allow(linger, shared);
    let begin = Instant::now();
    if !wait(allowed) || begin.elapsed() >= linger {
        PATIENCE.in_vain(linger);
    }
}

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
