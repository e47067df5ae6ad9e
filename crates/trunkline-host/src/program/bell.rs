//! What ends a wait for a program from another thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::task::{Wake, Waker};

/// Ends a wait of [`Program::next`](super::Program::next), from any thread. It can be cloned, and be a
/// [`Waker`] for the `poll_*` calls of a connection.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    rung: AtomicBool,
    to: OwnedFd,
}

impl Bell {
    /// The wait at hand, or else the next one, ends with [`Happened::Bell`](super::Happened::Bell). Ringing
    /// again before that changes nothing.
    pub fn ring(&self) {
        self.0.ring();
    }

    /// Returns a waker that rings.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Arc::clone(&self.0).into()
    }
}

impl Ring {
    fn ring(&self) {
        if !self.rung.swap(true, AcqRel) {
            // One byte at most is in the pipe, so there is room.
            let _ = rustix::io::write(&self.to, &[0]);
        }
    }
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// The end at which the bell is heard.
pub(super) struct Ear {
    from: OwnedFd,
    bell: Bell,
}

impl Ear {
    pub(super) fn new() -> io::Result<Self> {
        let (from, to) = io::pipe()?;
        rustix::io::ioctl_fionbio(&from, true)?;
        rustix::io::ioctl_fionbio(&to, true)?;
        let (from, to) = (from.into(), to.into());
        Ok(Self { from, bell: Bell(Arc::new(Ring { rung: AtomicBool::new(false), to })) })
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }

    /// From here on it can ring again.
    pub(super) fn clear(&self) {
        // In this order: what rings before the second step writes nothing, and the caller looks after it. The other way
        // round, the byte of one that rings in between would be read, and it would count as rung for ever.
        let mut bytes = [0; 8];
        while matches!(rustix::io::read(&self.from, &mut bytes), Ok(read) if read > 0) {}
        self.bell.0.rung.swap(false, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::SeqCst;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn a_ring_while_another_is_heard_is_not_lost() {
        const ROUNDS: u32 = 20_000;
        let ear = Ear::new().unwrap();
        let (rung, heard) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let ringer = std::thread::spawn({
            let (bell, rung, heard) = (ear.bell(), Arc::clone(&rung), Arc::clone(&heard));
            move || {
                for number in 1..=ROUNDS {
                    bell.ring();
                    // The second falls into every moment of what the first has brought about.
                    (0..number % 2_000).for_each(|_| std::hint::spin_loop());
                    rung.store(number, SeqCst);
                    bell.ring();
                    while heard.load(SeqCst) < number {
                        std::thread::yield_now();
                    }
                }
            }
        });
        while heard.load(SeqCst) < ROUNDS {
            let mut descriptors = [PollFd::from_borrowed_fd(ear.descriptor(), PollFlags::IN)];
            let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
            let rings = poll(&mut descriptors, Some(&patience));
            if rings != Ok(1) {
                let last = heard.swap(u32::MAX, SeqCst);
                panic!("{last} were heard, and the next was not");
            }
            ear.clear();
            heard.store(rung.load(SeqCst), SeqCst);
        }
        ringer.join().unwrap();
    }
}
