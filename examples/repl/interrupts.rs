//! What the control thread and the interpreter share: who runs, and whether it shall stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use trunkline::Interrupter;

/// Where the interpreter stands, as far as an interrupt is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Idle,
    /// There is the beginning of a statement, to be dropped by an interrupt.
    Incomplete,
    Running,
}

pub struct Interrupts {
    /// What the progress hook looks at, after every operation.
    stop: AtomicBool,
    place: Mutex<Place>,
    stopped: Condvar,
    stdin: Interrupter,
    drops: Sender<()>,
}

struct Place {
    stage: Stage,
    /// How many lines of the console have been read.
    lines: u64,
    gone: bool,
}

impl Interrupts {
    /// The second value gets a token when the beginning of a statement shall be dropped.
    pub fn new(stdin: Interrupter) -> (Self, Receiver<()>) {
        let (drops, dropped) = bounded(1);
        let place = Place { stage: Stage::Idle, lines: 0, gone: false };
        let stop = AtomicBool::new(false);
        (Self { stop, place: Mutex::new(place), stopped: Condvar::new(), stdin, drops }, dropped)
    }

    /// Stops what runs; with a number of lines, only if so many have been read: an interrupt that
    /// comes too late for its line must not hit the next one.
    pub fn interrupt(&self, line: Option<u64>) {
        let place = self.place.lock();
        if line.is_some_and(|line| line != place.lines) {
            return;
        }
        match place.stage {
            Stage::Idle => {}
            // A token that is already there will do.
            Stage::Incomplete => drop(self.drops.try_send(())),
            Stage::Running => {
                self.stop.store(true, Ordering::Relaxed);
                // Under the lock, so that it is over before `enter` returns.
                self.stdin.interrupt();
                self.stopped.notify_all();
            }
        }
    }

    /// The console is gone: what runs, and whatever may run yet, has nobody to run for.
    pub fn abandon(&self) {
        let mut place = self.place.lock();
        place.gone = true;
        self.stop.store(true, Ordering::Relaxed);
        self.stopped.notify_all();
    }

    pub fn count_line(&self) {
        self.place.lock().lines += 1;
    }

    pub fn lines(&self) -> u64 {
        self.place.lock().lines
    }

    /// Goes to another stage. An interrupt counts only for the stage in which it came.
    pub fn enter(&self, stage: Stage) {
        let mut place = self.place.lock();
        place.stage = stage;
        self.stop.store(place.gone, Ordering::Relaxed);
    }

    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sleeps, but not through an interrupt.
    pub fn sleep(&self, time: Duration) {
        let mut place = self.place.lock();
        let until = Instant::now().checked_add(time);
        while !self.stopping() {
            match until {
                None => self.stopped.wait(&mut place),
                Some(until) => {
                    if self.stopped.wait_until(&mut place, until).timed_out() {
                        return;
                    }
                }
            }
        }
    }
}
