//! What waits for the end of all connections of the process.

use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// All are to leave, by that time.
#[derive(Clone, Debug)]
pub(crate) struct Leave {
    pub(crate) until: Option<Instant>,
    late: Sender<()>,
}

/// Held by each connection that is to leave, and dropped with it.
#[derive(Debug)]
pub(crate) struct Leaving(Leave);

/// Waits until all have left.
#[derive(Debug)]
pub(crate) struct AllLeft {
    until: Option<Instant>,
    late: Receiver<()>,
}

pub(crate) fn leave(until: Option<Instant>) -> (Leave, AllLeft) {
    let (send, receive) = bounded(1);
    (Leave { until, late: send }, AllLeft { until, late: receive })
}

impl Leave {
    pub(crate) fn one(&self) -> Leaving {
        Leaving(self.clone())
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.0.until.is_some_and(|until| Instant::now() >= until) {
            // One such end is enough.
            let _ = self.0.late.try_send(());
        }
    }
}

impl AllLeft {
    /// Returns `true` if all have ended in their time, however late this thread hears of it.
    pub(crate) fn wait(&self) -> bool {
        let end = match self.until {
            Some(until) => {
                self.late.recv_deadline(until).map_err(|end| end == RecvTimeoutError::Disconnected)
            }
            None => self.late.recv().map_err(|_| true),
        };
        end.is_err_and(|all_in_time| all_in_time)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Both sides look at the same clock: the end that the time has forced is not taken for one in time,
    /// however late the thread that waits is woken.
    #[test]
    fn an_end_by_force_is_not_one_in_time() {
        let past = Instant::now();
        for (until, one_leaves, in_time) in [
            (Some(past), true, false),
            (Some(past), false, true),
            (Some(past + Duration::from_secs(3600)), true, true),
            (None, true, true),
        ] {
            let (leave, all) = leave(until);
            if one_leaves {
                drop((leave.one(), leave.one()));
            }
            drop(leave);
            assert_eq!(all.wait(), in_time, "{until:?} {one_leaves}");
        }
    }
}
