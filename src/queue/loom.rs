//! The queues' sleep and wake protocols under a model checker, which runs every interleaving of a
//! few threads: `RUSTFLAGS="--cfg trunkline_loom" cargo test --release --lib loom`.
//!
//! What is checked is the code that ships, with the locks of `sync` replaced. A lost wake-up shows
//! as a deadlock, which the checker reports.

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use super::attend::Attend;
use super::batch::{Batch, Entry};
use super::pool::Pool;
use super::receive::{Nothing, ReceiveQueues, Routes};
use super::schedule::{Schedule, Wake};
use super::send::{Comes, SendQueue, Unsent};
use super::staging::Staging;
use super::sync::{Condvar, Mutex};
use super::until::Until;
use super::waiters::Waiters;
use crate::error::{CloseCode, ConnectionError};
use crate::id::{ChannelId, ChannelSet};
use crate::proto::credit::Credit;
use crate::proto::frame::Word;
use crate::proto::inbound::{Deliver, Runs, Stop};
use crate::proto::outbound::{Outbound, Payload};
use crate::proto::session::{CloseWish, Farewell, Output, Wishes};

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

struct NoLoop;

impl Attend for NoLoop {
    fn attend(&self) {}
}

struct Caller(Arc<Schedule<(), Arc<Bell>>>);

impl Attend for Caller {
    fn attend(&self) {
        assert!(!self.0.push(()), "nothing was received");
    }
}

const CHANNEL: ChannelId = ChannelId::new(0);

fn outbound(credit: u32, limit: usize) -> Outbound {
    Outbound::new(ChannelSet::ALL, Credit::new(credit).unwrap(), 1000, limit)
}

fn receive_queues(attention: Arc<dyn Attend>) -> ReceiveQueues {
    ReceiveQueues::new(1000, attention, Arc::default())
}

/// The I/O thread works on the sending half.
fn exchange(queue: &SendQueue, work: impl FnOnce(&mut Outbound, &mut Output)) {
    queue.exchange(&mut Wishes::default(), &mut Output::default(), |_, outbound, _, output| {
        work(outbound, output);
        Comes::WhenCalled
    });
}

fn claim(queue: &SendQueue) -> (usize, u32) {
    queue.claim(CHANNEL, None).unwrap()
}

#[test]
fn the_io_thread_never_sleeps_through_a_call() {
    nothing_is_slept_through(|schedule| assert!(!schedule.push(())));
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
                    queue
                        .send(place, generation, Payload::Slice(b"x"), Until::Forever, false, &pool)
                        .unwrap();
                }
            })
        };
        let mut fetched = 0;
        let pool = Pool::default();
        let mut list = Vec::new();
        let mut segments = std::collections::VecDeque::new();
        while fetched < 2 * 5 {
            schedule.collect(&mut list);
            if list.drain(..).count() > 0 {
                exchange(&queue, |outbound, _| {
                    fetched += outbound.take(usize::MAX, &mut &pool, &mut segments);
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
        let queue = Arc::new(SendQueue::new(outbound(33, 4096), Arc::new(NoLoop)));
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    let (place, generation) = claim(&queue);
                    queue
                        .send(
                            place,
                            generation,
                            Payload::Slice(b"x"),
                            Until::Forever,
                            false,
                            &Pool::default(),
                        )
                        .unwrap();
                })
            })
            .collect();
        // The second of the two needs this.
        let pool = Pool::default();
        exchange(&queue, |outbound, output| {
            output.room.extend(outbound.handle_credit(CHANNEL, 33, &mut &pool).unwrap());
        });
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn a_sender_never_sleeps_through_room_in_the_queue() {
    model(|| {
        let queue = Arc::new(SendQueue::new(outbound(1000, 5), Arc::new(NoLoop)));
        let pool = Pool::default();
        let (place, generation) = claim(&queue);
        queue.send(place, generation, Payload::Slice(b"x"), Until::Forever, false, &pool).unwrap();
        let sender = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue
                    .send(place, generation, Payload::Slice(b"y"), Until::Forever, false, &Pool::default())
                    .unwrap();
            })
        };
        exchange(&queue, |outbound, _| {
            outbound.take(usize::MAX, &mut &pool, &mut Default::default());
        });
        sender.join().unwrap();
    });
}

#[test]
fn a_lost_connection_wakes_a_sender_and_a_receiver() {
    model(|| {
        let queue = Arc::new(SendQueue::new(outbound(0, 4096), Arc::new(NoLoop)));
        let inbox = Arc::new(receive_queues(Arc::new(NoLoop)));
        let claimed = inbox.claim(CHANNEL.into(), &Pool::default()).unwrap();
        let sender = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let Ok((place, generation)) = queue.claim(CHANNEL, None) else { return };
                let sent = queue.send(
                    place,
                    generation,
                    Payload::Slice(b"x"),
                    Until::Forever,
                    false,
                    &Pool::default(),
                );
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
        let queue = Arc::new(SendQueue::new(outbound(0, 4096), Arc::new(NoLoop)));
        let closer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let farewell = Farewell { code: CloseCode::NORMAL, reason: String::new() };
                queue.close(CloseWish::Now(farewell));
                queue.wait_gone(Until::Forever);
            })
        };
        queue.set_gone(&ConnectionError::IoThreadStopped, false);
        closer.join().unwrap();
    });
}

fn hand_over(inbox: &ReceiveQueues, staging: &mut Staging, routes: &mut Routes, pool: &Pool, byte: u8) {
    inbox.route(staging, routes);
    let mut frame = Word::data(CHANNEL, false, 1).to_bytes().to_vec();
    frame.push(byte);
    staging.frames(CHANNEL, &frame, 1);
    let runs = Runs { open: CHANNEL.into(), ended: Vec::new() };
    inbox.hand_over(staging, routes, runs, pool);
}

/// The receiver is claimed while messages arrive: each comes once, in order, and wakes it.
#[test]
fn a_receiver_never_sleeps_through_a_message_and_misses_none() {
    model(|| {
        let inbox = Arc::new(receive_queues(Arc::new(NoLoop)));
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
                        Some(_) => unreachable!(),
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
        let inbox = Arc::new(receive_queues(Arc::new(Counter(Arc::clone(&calls)))));
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
        // As the I/O thread does after what it hands over.
        let mut wishes = Wishes::default();
        inbox.collect(&mut wishes);
        assert!(calls.load(Ordering::SeqCst) >= 1);
        assert_eq!(wishes.taken.iter().map(|taken| taken.cost).sum::<u32>(), 33);
        assert_eq!(wishes.stops, [Stop { channel: CHANNEL, code: 0, run: 0 }]);
    });
}

/// A sender, a reader that leads and the I/O thread pass the role around: what was pushed is seen
/// by one of them, without the lease (which the checker's clock never ends), and one has the role
/// at a time.
#[test]
fn whichever_thread_has_the_role_what_was_pushed_is_seen() {
    model(|| {
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
                if schedule.push(()) {
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

/// A reader that could not lead, because the I/O thread had the role, sleeps; the I/O thread, which
/// saw no sleeper, gives the role up. It is called back without its lease.
#[test]
fn a_reader_that_sleeps_is_not_left_with_nobody_in_the_loop() {
    model(|| {
        let schedule = Arc::new(Schedule::<(), _>::new(Arc::new(Bell::default())));
        schedule.wait_turn();
        let served = Arc::new((Mutex::new(false), Arc::new(Condvar::new())));
        let reader = {
            let (schedule, served) = (Arc::clone(&schedule), Arc::clone(&served));
            thread::spawn(move || {
                if schedule.try_lead() {
                    schedule.release(true, false);
                    return;
                }
                let (state, condvar) = &*served;
                let mut waiters = Waiters::counted(schedule.sleepers());
                waiters.add_thread(condvar);
                schedule.call();
                let mut state = state.lock();
                while !*state {
                    condvar.wait(&mut state);
                }
                drop(state);
                waiters.remove_thread(condvar);
            })
        };
        let asleep = !schedule.sleepers().is_zero();
        schedule.release(true, asleep);
        if asleep || !schedule.sleepers().is_zero() {
            schedule.wait_turn();
        }
        *served.0.lock() = true;
        served.1.notify_one();
        schedule.release(false, false);
        reader.join().unwrap();
    });
}

/// A receiver counts what it takes, without a lock, while the I/O thread collects: every message is
/// reported once, however the two meet.
#[test]
fn what_a_receiver_takes_is_reported_once() {
    model(|| {
        let inbox = Arc::new(receive_queues(Arc::new(NoLoop)));
        let claimed = inbox.claim(CHANNEL.into(), &Pool::default()).unwrap();
        let mut wishes = Wishes::default();
        inbox.publish(&mut vec![(CHANNEL, 33)]);
        let reader = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                for _ in 0..2 {
                    if claimed.counts.add(CHANNEL, 33) {
                        inbox.report(CHANNEL);
                    }
                }
                // The claim stays, as a receiver's does.
                claimed
            })
        };
        inbox.collect(&mut wishes);
        inbox.collect(&mut wishes);
        let claimed = reader.join().unwrap();
        inbox.collect(&mut wishes);
        let reported = wishes
            .taken
            .iter()
            .fold((0, 0), |(cost, messages), taken| (cost + taken.cost, messages + taken.messages));
        assert_eq!(reported, (66, 2));
        drop(claimed);
    });
}
