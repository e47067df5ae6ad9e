//! The queues' sleep and wake protocols under a model checker, which runs every interleaving of a
//! few threads: `RUSTFLAGS="--cfg trunkline_loom" cargo test --release --lib loom`.
//!
//! What is checked is the code that ships, with the locks of `sync` replaced. A lost wake-up shows
//! as a deadlock, which the checker reports.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::Attend;
use super::batch::{Batch, Entry};
use super::pool::Pool;
use super::recv::{Inbox, Nothing, Routes};
use super::route::Staging;
use super::schedule::{Schedule, Wake};
use super::send::{SendQueue, Unsent, Until};
use super::sync::{Condvar, Mutex};
use crate::error::{CloseCode, ConnectionError};
use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::Credit;
use crate::proto::frame::Word;
use crate::proto::inbound::Deliver;
use crate::proto::outbound::{Outbound, Payload};

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

/// Stands for the waker of the I/O thread's poll: a wake before the sleep ends it at once.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn sleep(&self) {
        let mut rung = self.rung.lock();
        while !*rung {
            self.changed.wait(&mut rung);
        }
        *rung = false;
    }
}

impl Wake for Arc<Bell> {
    fn wake(&self) {
        *self.rung.lock() = true;
        self.changed.notify_one();
    }
}

struct Nobody;

impl Attend for Nobody {
    fn attend(&self) {}
}

struct Caller(Arc<Schedule<(), Arc<Bell>>>);

impl Attend for Caller {
    fn attend(&self) {
        assert!(!self.0.push((), false), "nobody has received anything");
    }
}

const CHANNEL: ChannelId = ChannelId::new(0);

fn outbound(credit: u32, limit: usize) -> Outbound {
    Outbound::new(ChannelSet::ALL, Credit::new(credit).unwrap(), 1000, limit)
}

fn claim(queue: &SendQueue) -> (usize, u32) {
    queue.claim(CHANNEL, None).unwrap()
}

#[test]
fn the_io_thread_never_sleeps_through_a_call() {
    nothing_is_slept_through(|schedule| assert!(!schedule.push((), false)));
}

#[test]
fn what_can_wait_is_not_slept_through_either() {
    nothing_is_slept_through(|schedule| schedule.defer(()));
}

/// An interrupt of a reader that runs the loop itself, for one.
#[test]
fn what_the_holder_waits_for_besides_is_not_slept_through() {
    model(|| {
        let bell = Arc::new(Bell::default());
        let schedule = Arc::new(Schedule::new(Arc::clone(&bell)));
        let done = Arc::new(Mutex::new(false));
        let other = {
            let (schedule, done) = (Arc::clone(&schedule), Arc::clone(&done));
            thread::spawn(move || {
                *done.lock() = true;
                schedule.poke();
            })
        };
        schedule.collect(&mut Vec::<()>::new());
        while !*done.lock() {
            if !schedule.is_called() && schedule.may_sleep() {
                bell.sleep();
                schedule.awake();
            }
        }
        other.join().unwrap();
    });
}

/// Two callers, each by one of these: it is on the list when the I/O thread next looks, or ends its
/// sleep.
fn nothing_is_slept_through(put: fn(&Schedule<(), Arc<Bell>>)) {
    model(move || {
        let bell = Arc::new(Bell::default());
        let schedule = Arc::new(Schedule::new(Arc::clone(&bell)));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let schedule = Arc::clone(&schedule);
                thread::spawn(move || put(&schedule))
            })
            .collect();
        let mut seen = 0;
        let mut list = Vec::new();
        while seen < 2 {
            schedule.collect(&mut list);
            seen += list.drain(..).count();
            if seen < 2 && schedule.may_sleep() {
                bell.sleep();
            }
        }
        for caller in callers {
            caller.join().unwrap();
        }
    });
}

#[test]
fn what_was_sent_is_always_fetched() {
    model(|| {
        let bell = Arc::new(Bell::default());
        let schedule = Arc::new(Schedule::new(Arc::clone(&bell)));
        let queue = Arc::new(SendQueue::new(outbound(1000, 4096), Arc::new(Caller(Arc::clone(&schedule)))));
        let sender = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let (place, generation) = claim(&queue);
                let pool = Pool::default();
                for _ in 0..2 {
                    queue.send(place, generation, Payload::Slice(b"x"), Until::Forever, &pool).unwrap();
                }
            })
        };
        let mut fetched = 0;
        let mut list = Vec::new();
        let mut segments = std::collections::VecDeque::new();
        while fetched < 2 * 5 {
            schedule.collect(&mut list);
            if list.drain(..).count() > 0 {
                queue.exchange(|outbound, _, _| {
                    fetched += outbound.take(usize::MAX, &mut segments);
                    false
                });
            }
            if fetched < 2 * 5 && schedule.may_sleep() {
                bell.sleep();
            }
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_sender_never_sleeps_through_its_credit() {
    model(|| {
        let queue = Arc::new(SendQueue::new(outbound(33, 4096), Arc::new(Nobody)));
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    let (place, generation) = claim(&queue);
                    queue
                        .send(place, generation, Payload::Slice(b"x"), Until::Forever, &Pool::default())
                        .unwrap();
                })
            })
            .collect();
        // The second of the two needs this.
        let pool = Pool::default();
        queue.exchange(|outbound, _, woken| {
            woken.extend(outbound.handle_credit(CHANNEL, 33, &mut &pool).unwrap());
            false
        });
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn a_sender_never_sleeps_through_room_in_the_queue() {
    model(|| {
        let queue = Arc::new(SendQueue::new(outbound(1000, 5), Arc::new(Nobody)));
        let pool = Pool::default();
        let (place, generation) = claim(&queue);
        queue.send(place, generation, Payload::Slice(b"x"), Until::Forever, &pool).unwrap();
        let sender = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue
                    .send(place, generation, Payload::Slice(b"y"), Until::Forever, &Pool::default())
                    .unwrap();
            })
        };
        queue.exchange(|outbound, _, _| {
            outbound.take(usize::MAX, &mut Default::default());
            false
        });
        sender.join().unwrap();
    });
}

#[test]
fn a_lost_connection_wakes_a_sender_and_a_receiver() {
    model(|| {
        let queue = Arc::new(SendQueue::new(outbound(0, 4096), Arc::new(Nobody)));
        let inbox = Arc::new(Inbox::new(Arc::new(Nobody)));
        let claimed = inbox.claim(CHANNEL.into(), &Pool::default()).unwrap();
        let sender = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let Ok((place, generation)) = queue.claim(CHANNEL, None) else { return };
                let sent =
                    queue.send(place, generation, Payload::Slice(b"x"), Until::Forever, &Pool::default());
                assert!(matches!(sent, Err(Unsent::Ended(_))));
            })
        };
        let receiver = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                let taken = inbox.take(&claimed, &mut Batch::default(), Until::Forever);
                assert!(matches!(taken, Err(Nothing::Ended(_))));
            })
        };
        let cause = ConnectionError::Closed { code: CloseCode::NORMAL };
        inbox.end(&cause);
        queue.end(&cause);
        sender.join().unwrap();
        receiver.join().unwrap();
    });
}

#[test]
fn a_closer_never_sleeps_through_the_end() {
    model(|| {
        let queue = Arc::new(SendQueue::new(outbound(0, 4096), Arc::new(Nobody)));
        let closer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.close(CloseCode::NORMAL, "");
                queue.wait_gone(Until::Forever);
            })
        };
        queue.set_gone(&ConnectionError::IoThreadStopped, false);
        closer.join().unwrap();
    });
}

fn hand_over(inbox: &Inbox, staging: &mut Staging, routes: &mut Routes, pool: &Pool, byte: u8) {
    inbox.route(staging, routes);
    let mut frame = Word::data(CHANNEL, false, 1).to_bytes().to_vec();
    frame.push(byte);
    staging.frames(CHANNEL, &frame, 1);
    inbox.hand_over(staging, routes, CHANNEL.into(), pool);
}

/// The receiver is claimed while messages arrive: each comes once, in order, and wakes it.
#[test]
fn a_receiver_never_sleeps_through_a_message_and_misses_none() {
    model(|| {
        let inbox = Arc::new(Inbox::new(Arc::new(Nobody)));
        let receiver = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                let pool = Pool::default();
                let claimed = inbox.claim(CHANNEL.into(), &pool).unwrap();
                let mut batch = Batch::default();
                let mut seen = Vec::new();
                while seen.len() < 2 {
                    match batch.next(&mut &pool) {
                        Some(Entry::Message(message)) => seen.extend_from_slice(&message),
                        Some(Entry::End(..)) => unreachable!(),
                        None => inbox.take(&claimed, &mut batch, Until::Forever).unwrap(),
                    }
                }
                assert_eq!(seen, [1, 2]);
            })
        };
        let pool = Arc::new(Pool::default());
        let mut staging = Staging::new(Arc::clone(&pool));
        let mut routes = Routes::default();
        for byte in [1, 2] {
            hand_over(&inbox, &mut staging, &mut routes, &pool, byte);
        }
        receiver.join().unwrap();
    });
}

/// A receiver that is dropped while messages arrive: the I/O thread is called for what it left.
#[test]
fn what_a_dropped_receiver_leaves_is_given_back() {
    model(|| {
        let calls = Arc::new(AtomicUsize::new(0));
        struct Counter(Arc<AtomicUsize>);
        impl Attend for Counter {
            fn attend(&self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let inbox = Arc::new(Inbox::new(Arc::new(Counter(Arc::clone(&calls)))));
        let pool = Arc::new(Pool::default());
        let claimed = inbox.claim(CHANNEL.into(), &pool).unwrap();
        let dropper = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                inbox.release(&claimed, Batch::default().into_rest(), &Pool::default());
            })
        };
        let mut staging = Staging::new(Arc::clone(&pool));
        let mut routes = Routes::default();
        hand_over(&inbox, &mut staging, &mut routes, &pool, 7);
        dropper.join().unwrap();
        let (mut taken, mut stops) = (Vec::new(), Vec::new());
        inbox.collect(&mut taken, &mut stops);
        assert!(calls.load(Ordering::SeqCst) >= 1);
        assert_eq!(taken.iter().map(|taken| taken.cost).sum::<u32>(), 33);
        assert_eq!(stops, [(CHANNEL, 0)]);
    });
}

/// A sender, a reader that leads and the I/O thread pass the role around: what was pushed is seen
/// by one of them, without the lease (which the checker's clock never ends), and one has the role
/// at a time.
fn what_was_pushed_is_seen(here: bool) {
    model(move || {
        let bell = Arc::new(Bell::default());
        let schedule = Arc::new(Schedule::new(Arc::clone(&bell)));
        let seen = Arc::new(AtomicUsize::new(0));
        let holders = Arc::new(AtomicUsize::new(0));
        let look = {
            let (schedule, seen, holders) = (Arc::clone(&schedule), Arc::clone(&seen), Arc::clone(&holders));
            move || {
                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two have the role");
                let mut list = Vec::new();
                schedule.collect(&mut list);
                seen.fetch_add(list.len(), Ordering::SeqCst);
                holders.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let sender = {
            let (schedule, look) = (Arc::clone(&schedule), look.clone());
            thread::spawn(move || {
                if schedule.push((), here) {
                    look();
                    schedule.release(false, false);
                    schedule.call();
                }
            })
        };
        let reader = {
            let (schedule, look) = (Arc::clone(&schedule), look.clone());
            thread::spawn(move || {
                if schedule.try_lead() {
                    look();
                    schedule.release(true, false);
                    schedule.call();
                }
            })
        };
        while seen.load(Ordering::SeqCst) == 0 {
            schedule.wait_turn();
            look();
            schedule.release(true, false);
        }
        sender.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn whoever_has_the_role_what_was_pushed_is_seen() {
    what_was_pushed_is_seen(false);
}

#[test]
fn who_would_rather_run_the_loop_than_call_is_seen_too() {
    what_was_pushed_is_seen(true);
}
