//! Which thread runs the loop, seen from inside. At the near end leases never end here, so that what only
//! the end of one would see to does not happen: what passes was seen to by the thread that had to.
//! `tests/it/leader.rs` has the rest, with the lease as it is.

use std::io::Read;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::IoThread;
use super::core::{Attention, Core};
use crate::queue::attend::Attend;
use crate::queue::until::Until;
use crate::{ChannelId, Config, Connection, Key, Listener, Receiver, Sender};

const ASK: ChannelId = ChannelId::new(1);
const ANSWER: ChannelId = ChannelId::new(2);
const OTHER: ChannelId = ChannelId::new(3);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A near end whose I/O loop the test looks at, and a far one that answers, each with an I/O
/// thread of its own.
struct Ends {
    listener: Arc<Listener>,
    far: Config,
    near: Connection,
    questions: Sender,
    answers: Receiver,
    core: Arc<Core>,
    attention: Attention,
}

impl Ends {
    fn new(set: impl Fn(Config) -> Config) -> Self {
        let key = Key::generate();
        let io = IoThread::new().unwrap();
        let config = |io: &IoThread| Config::new(key.clone()).resume_grace(Duration::ZERO).io_thread(io);
        let listener = Arc::new(Listener::bind("127.0.0.1:0", set(config(&io))).unwrap());
        let far = config(&IoThread::new().unwrap());
        let peer = Connection::connect(listener.local_addr(), far.clone()).unwrap();
        let near = listener.accept().unwrap();
        thread::spawn(move || {
            let (questions, answers) = (peer.receiver(ASK).unwrap(), peer.sender(ANSWER).unwrap());
            for question in questions.iter() {
                if answers.send(question).is_err() {
                    break;
                }
            }
        });
        let (questions, answers) = (near.sender(ASK).unwrap(), near.receiver(ANSWER).unwrap());
        let core = Arc::clone(io.core());
        core.schedule.make_leases_endless();
        // `lead` needs no place of its own.
        let attention =
            Attention { core: Arc::clone(&core), place: super::place::Place::of_token(super::place::WAKER) };
        Self { listener, far, near, questions, answers, core, attention }
    }

    fn connect(&self) -> (Connection, Connection) {
        let far = Connection::connect(self.listener.local_addr(), self.far.clone()).unwrap();
        (self.listener.accept().unwrap(), far)
    }

    fn ask(&self) {
        self.questions.send("?").unwrap();
        assert_eq!(&*self.answers.recv_timeout(LONG).unwrap(), b"?");
    }

    /// Takes the role in this thread; round trips make the I/O thread lend it out.
    fn take_role(&self) {
        let until = Instant::now() + LONG;
        while !self.core.schedule.try_lead() {
            assert!(Instant::now() < until, "the role is never free");
            self.ask();
        }
    }

    /// No thread has the role, and none will for want of a call.
    fn leave_role_free(&self, answering: bool) {
        self.take_role();
        self.core.schedule.release(answering, false);
    }
}

/// This thread has the role and keeps it: the I/O thread does nothing, and everything goes on.
#[test]
fn heartbeats_timers_and_accepts_go_on_whichever_thread_has_the_role() {
    let ends = Ends::new(|config| {
        config.heartbeat(Duration::from_millis(5), LONG).handshake_timeout(Duration::from_millis(20))
    });
    let (idle, _idle_far) = ends.connect();
    let done = Arc::new(AtomicU32::new(0));
    ends.take_role();
    // Not joined: if it fails, they wait for ever.
    let beside = |work: Box<dyn FnOnce() + Send>| {
        let done = Arc::clone(&done);
        thread::spawn(move || {
            work();
            done.fetch_add(1, Relaxed);
        });
    };
    let (address, far, listener) = (ends.listener.local_addr(), ends.far.clone(), Arc::clone(&ends.listener));
    beside(Box::new(move || {
        let peer = Connection::connect(address, far).unwrap();
        // Until its other end is accepted and closed.
        peer.receiver(OTHER).unwrap().recv().unwrap_err();
    }));
    beside(Box::new(move || drop(listener.accept().unwrap())));
    beside(Box::new(move || {
        let mut silent = TcpStream::connect(address).unwrap();
        silent.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(silent.read(&mut [0; 100]).unwrap(), 0);
    }));
    let until = Instant::now() + LONG;
    let mut beats = 0;
    let mut rtt = idle.rtt();
    let mut driver = ends.core.driver.lock();
    while (done.load(Relaxed) < 3 || beats < 3) && Instant::now() < until {
        driver.as_mut().unwrap().turn(Some(Instant::now() + Duration::from_millis(5))).unwrap();
        beats += u32::from(std::mem::replace(&mut rtt, idle.rtt()) != idle.rtt());
    }
    drop(driver);
    ends.core.schedule.release(false, true);
    assert_eq!((done.load(Relaxed), beats.min(3)), (3, 3));
    assert_eq!(idle.close_reason(), None);
}

/// The first in the rhythm of request and reply: the sender does it by itself. The second out of
/// it: it calls the I/O thread, once.
#[test]
fn a_sender_with_nobody_in_the_loop_runs_it_or_calls() {
    let ends = Ends::new(|config| config);
    let (near, far) = ends.connect();
    let (sender, receiver) = (near.sender(OTHER).unwrap(), far.receiver(OTHER).unwrap());
    let (tell, told) = mpsc::channel();
    let reader = thread::spawn(move || receiver.iter().for_each(|message| tell.send(message).unwrap()));
    for _ in 0..50 {
        ends.leave_role_free(true);
        for wakes in [0, 1] {
            let before = ends.core.schedule.wakes();
            sender.send("!").unwrap();
            assert_eq!(ends.core.schedule.wakes() - before, wakes);
            assert_eq!(&*told.recv_timeout(LONG).expect("it stays behind"), b"!");
        }
    }
    drop((sender, near));
    reader.join().unwrap();
}

/// Not one pass more is made once the message is there, however much there is to do for others.
#[test]
fn a_reader_that_leads_returns_as_soon_as_its_message_is_there() {
    let ends = Ends::new(|config| config);
    let (flooded, flooding) = ends.connect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (sender, message) = (flooding.sender(OTHER).unwrap(), [7; 60_000]);
            // It fails when the other end has gone first.
            while !over.load(Relaxed) {
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        scope.spawn(|| {
            // It never waits in the library, so the only reader that leads is the one below.
            let receiver = flooded.receiver(OTHER).unwrap();
            while !over.load(Relaxed) {
                if receiver.try_recv().is_err() {
                    thread::yield_now();
                }
            }
        });
        let (mut led, mut late) = (0, 0);
        let until = Instant::now() + LONG;
        while led < 200 && late == 0 && Instant::now() < until {
            ends.questions.send("?").unwrap();
            let mut here = false;
            // The I/O thread has the role, or this one: then as `recv` does it.
            led += u32::from(ends.attention.lead(Until::Forever, &mut || {
                late += u32::from(here);
                here = !ends.answers.is_empty();
                here
            }));
            // Not unwrapped, so that `over` is always set. It waits if another had the role, and so
            // makes the I/O thread lend it out.
            let _ = ends.answers.recv_timeout(LONG);
        }
        over.store(true, Relaxed);
        assert_eq!((led, late), (200, 0), "how often it led, and looked again with its message there");
    });
    // The near end first: no thread runs its loop but the one that is called.
    drop(flooded);
}

/// A reader leads for a while, and then waits like others: it has called the I/O thread, since
/// nothing else would bring what it waits for.
#[test]
fn a_reader_that_waits_for_long_calls_the_io_thread() {
    let ends = Ends::new(|config| config);
    let (near, far) = ends.connect();
    let receiver = near.receiver(OTHER).unwrap();
    for _ in 0..20 {
        ends.leave_role_free(false);
        let mut passes = 0;
        assert!(ends.attention.lead(Until::Forever, &mut || {
            passes += 1;
            false
        }));
        assert!(passes > 1, "it never led");
        let ready = receiver.ready();
        far.sender(OTHER).unwrap().send("!").unwrap();
        while receiver.try_recv().is_err() {
            ready.recv_timeout(LONG).expect("no thread runs the loop");
        }
    }
}

/// However a thread leaves the role, another can have it, and what was pushed meanwhile is seen.
#[test]
fn a_panic_in_a_thread_that_leads_leaves_the_role_free() {
    let ends = Ends::new(|config| config);
    let mut panics = 0;
    while panics < 20 {
        ends.leave_role_free(false);
        let led = catch_unwind(AssertUnwindSafe(|| {
            ends.attention
                .lead(Until::Forever, &mut || panic!("in the thread that leads, as the test wants it"))
        }));
        panics += u32::from(led.is_err());
        // From another thread, which did not lead.
        thread::scope(|scope| {
            scope.spawn(|| ends.near.sender(OTHER).unwrap().send("!").unwrap()).join().unwrap()
        });
        ends.ask();
    }
}

/// A connection whose far end fills a window of 64 messages of 1 KiB and waits for credit; no thread
/// runs the near loop. The third hears of the far `send` that had to wait.
fn far_sender_waits(ends: &Ends) -> (Connection, Receiver, mpsc::Receiver<bool>) {
    const WINDOW: usize = 64;
    let (near, far) = ends.connect();
    let receiver = near.receiver(OTHER).unwrap();
    ends.take_role();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let sender = far.sender(OTHER).unwrap();
        for _ in 0..WINDOW {
            sender.send([0; 1024 - 32]).unwrap();
        }
        let sent = sender.send([0; 1024 - 32]).is_ok();
        let _ = tell.send(sent);
        // Until the test is over.
        let _ = far.receiver(ANSWER).unwrap().recv();
    });
    let until = Instant::now() + LONG;
    let mut driver = ends.core.driver.lock();
    while receiver.len() < WINDOW {
        assert!(Instant::now() < until, "the window is not used");
        driver.as_mut().unwrap().turn(Some(Instant::now() + Duration::from_millis(5))).unwrap();
    }
    drop(driver);
    ends.core.schedule.release(false, false);
    (near, receiver, told)
}

#[test]
fn credit_that_is_due_goes_out_with_nobody_in_the_loop() {
    let ends = Ends::new(|config| config.window(64 * 1024));
    let (_near, receiver, told) = far_sender_waits(&ends);
    for _ in 0..32 {
        receiver.try_recv().unwrap();
    }
    assert_eq!(told.recv_timeout(LONG), Ok(true));
}

#[test]
fn a_stop_behind_a_report_that_can_wait_does_not_wait() {
    let ends = Ends::new(|config| config.window(64 * 1024));
    let (_near, receiver, told) = far_sender_waits(&ends);
    for _ in 0..8 {
        receiver.try_recv().unwrap();
    }
    receiver.stop(7);
    assert_eq!(told.recv_timeout(LONG), Ok(false));
}
