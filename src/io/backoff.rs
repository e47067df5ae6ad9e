//! The pauses between attempts to connect.

use std::time::Duration;

/// How long a client waits before its second attempt, about; then twice as long each time.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause: a person who opens a laptop should not wait for it.
const LONGEST: Duration = Duration::from_secs(5);

/// The pauses between attempts: each about twice as long as the one before.
#[derive(Debug)]
pub(crate) struct Backoff {
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: FIRST }
    }
}

impl Backoff {
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        jittered(pause)
    }
}

/// A time a little shorter, by chance: many connections that begin together, or are lost together,
/// should not act together for ever.
pub(crate) fn jittered(time: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness they tick together, which is no reason to fail.
    let _ = getrandom::fill(&mut byte);
    time - time / 4 * u32::from(byte[0]) / 255
}
