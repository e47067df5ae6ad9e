//! One thread at a time runs the I/O loop: mostly the I/O thread, and for moments a reader that
//! would block or a sender that answers. What that must not cost, each with a test that fails when
//! the fault is put in. Those that need to see who has the role stand in `src/io/tests.rs`.
//!
//! Each end here has an I/O thread of its own, so that a loop that nobody runs is not run by
//! chance, for the other end.

use std::cell::Cell;
use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{LONG, free_address};
use bytes::Bytes;
use crossbeam_channel::select;
use trunkline::*;

const ASK: ChannelId = ChannelId::new(1);
const ANSWER: ChannelId = ChannelId::new(2);
const OTHER: ChannelId = ChannelId::new(3);
/// Enough that a fault that needs the right moment finds it.
const ROUNDS: u32 = 300;

/// Two processes' worth of trunkline: what is near, and what is far, each with its own I/O thread.
struct Ends {
    listener: Listener,
    far: Config,
}

impl Ends {
    fn new(set: impl Fn(Config) -> Config) -> Self {
        let key = Key::generate();
        let config = || {
            let config = Config::new(key.clone()).resume_grace(Duration::ZERO);
            config.io_thread(&IoThread::new().unwrap())
        };
        Self { listener: Listener::bind(free_address(), set(config())).unwrap(), far: config() }
    }

    /// One more connection: its near end and its far one.
    fn connect(&self) -> (Connection, Connection) {
        let far = Connection::connect(self.listener.local_addr(), self.far.clone()).unwrap();
        (self.listener.accept().unwrap(), far)
    }
}

/// The far end answers all that it is asked, until the near one is gone.
fn answer(far: &Connection) -> thread::JoinHandle<()> {
    let (questions, answers) = (far.receiver(ASK).unwrap(), far.sender(ANSWER).unwrap());
    thread::spawn(move || {
        for question in questions.iter() {
            if answers.send(question).is_err() {
                break;
            }
        }
    })
}

/// The near end's side of it. After each round trip this thread has just had the role, or the I/O
/// thread has just lent it out: nobody runs the near end's loop.
struct Asker {
    questions: Sender,
    answers: Receiver,
}

impl Asker {
    fn new(near: &Connection) -> Self {
        Self { questions: near.sender(ASK).unwrap(), answers: near.receiver(ANSWER).unwrap() }
    }

    fn ask(&self, number: u32) {
        self.questions.send(number.to_be_bytes()).unwrap();
        assert_eq!(*self.answers.recv_timeout(LONG).unwrap(), number.to_be_bytes());
    }
}

/// Tells the threads of a test to end when the test does, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// The thread that the role was lent to is off into its own business, and those that wait do so on
/// plain channels, so that no call to the library reminds it of the loop.
#[test]
fn what_is_urgent_arrives_though_nobody_leads() {
    let ends = Ends::new(|config| config);
    let (near, far) = ends.connect();
    let echo = answer(&far);
    let asker = Asker::new(&near);
    let urgent = far.sender_with(OTHER, Priority::Urgent).unwrap();
    let receiver = near.receiver(OTHER).unwrap();
    let ready = receiver.ready();
    for round in 0..ROUNDS {
        asker.ask(round);
        urgent.send(round.to_be_bytes()).unwrap();
        let message = loop {
            ready.recv_timeout(LONG).expect("the loop is run by nobody");
            match receiver.try_recv() {
                Ok(message) => break message,
                Err(error) => assert_eq!(error, TryRecvError::Empty),
            }
        };
        assert_eq!(*message, round.to_be_bytes());
    }
    drop((asker, near));
    echo.join().unwrap();
}

/// The same for what is sent: the sender gives its frame away and leaves.
#[test]
fn a_sender_with_nobody_in_the_loop_gets_its_frame_out() {
    let ends = Ends::new(|config| config);
    let (near, far) = ends.connect();
    let echo = answer(&far);
    let asker = Asker::new(&near);
    let sender = near.sender(OTHER).unwrap();
    let receiver = far.receiver(OTHER).unwrap();
    let (tell, told) = mpsc::channel();
    let reader = thread::spawn(move || receiver.iter().for_each(|message| tell.send(message).unwrap()));
    for round in 0..ROUNDS {
        asker.ask(round);
        // The first in the rhythm of request and reply, the second out of it.
        for part in 0..2 {
            let message = [round, part].map(u32::to_be_bytes).concat();
            sender.send(&message).unwrap();
            assert_eq!(*told.recv_timeout(LONG).expect("a frame stays behind"), message);
        }
    }
    drop((asker, sender, near));
    reader.join().unwrap();
    echo.join().unwrap();
}

/// Readers take turns at the loop, without a pause. Whoever has it, new clients come in, silent
/// ones are thrown out by the clock, and an idle connection is asked whether it lives.
#[test]
fn heartbeats_timers_and_accepts_go_on_while_readers_lead() {
    let ends = Ends::new(|config| {
        config.heartbeat(Duration::from_millis(5), LONG).handshake_timeout(Duration::from_millis(20))
    });
    let (near, far) = ends.connect();
    let (idle, idle_far) = ends.connect();
    let echo = answer(&far);
    let asker = Asker::new(&near);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let goes_on = || !over.load(Relaxed);
        scope.spawn(move || (0..).take_while(|_| goes_on()).for_each(|round| asker.ask(round)));
        let _over = Over(&over);
        for _ in 0..5 {
            let (new, new_far) = ends.connect();
            new_far.sender(OTHER).unwrap().send("new").unwrap();
            assert_eq!(&*new.receiver(OTHER).unwrap().recv_timeout(LONG).unwrap(), b"new");
            let mut silent = TcpStream::connect(ends.listener.local_addr()).unwrap();
            silent.set_read_timeout(Some(LONG)).unwrap();
            assert_eq!(silent.read(&mut [0; 100]).unwrap(), 0, "not a word before the proof");
            let rtt = idle.rtt();
            let until = Instant::now() + LONG;
            while idle.rtt() == rtt {
                assert!(Instant::now() < until, "no heartbeat");
                thread::yield_now();
            }
        }
    });
    assert_eq!((idle.close_reason(), idle_far.close_reason()), (None, None));
    drop(near);
    echo.join().unwrap();
}

/// Its own answer is all that a reader that leads waits for, though the other connections never
/// stop, and never wait for it either.
#[test]
fn a_reader_that_leads_has_its_answer_beside_a_flood() {
    let ends = Ends::new(|config| config);
    let (near, far) = ends.connect();
    let echo = answer(&far);
    let asker = Asker::new(&near);
    let over = AtomicBool::new(false);
    let (flooded, flooding) = ends.connect();
    let counted = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let sender = flooding.sender(OTHER).unwrap();
            let message = Bytes::from(vec![7; 65_536]);
            while !over.load(Relaxed) {
                sender.send_bytes(message.clone()).unwrap();
            }
        });
        scope.spawn(|| {
            for message in flooded.receiver(OTHER).unwrap().iter() {
                assert_eq!(message.len(), 65_536);
                counted.fetch_add(1, Relaxed);
            }
        });
        let _over = Over(&over);
        let until = Instant::now() + LONG;
        for round in 0..ROUNDS {
            asker.ask(round);
            // The flood goes on from round to round.
            let before = counted.load(Relaxed);
            while counted.load(Relaxed) == before && Instant::now() < until {
                thread::yield_now();
            }
        }
        assert!(Instant::now() < until, "the flood has stopped");
    });
    drop((asker, near));
    echo.join().unwrap();
}

/// A thread that waits for what never comes has led, and does so no more; those beside it, which
/// wait on plain channels, are served by others. It is still woken by what comes in the end.
#[test]
fn a_reader_that_waits_for_ever_does_not_keep_the_role() {
    let ends = Ends::new(|config| config);
    let (near, far) = ends.connect();
    let never = near.receiver(OTHER).unwrap();
    let stuck = thread::spawn(move || never.recv().unwrap().to_vec());
    let (beside, beside_far) = ends.connect();
    let receiver = beside.receiver(OTHER).unwrap();
    let ready = receiver.ready();
    let sender = beside_far.sender(OTHER).unwrap();
    for round in 0..ROUNDS {
        sender.send(round.to_be_bytes()).unwrap();
        while receiver.try_recv().is_err() {
            ready.recv_timeout(LONG).expect("the loop is run by nobody");
        }
    }
    far.sender(OTHER).unwrap().send("at last").unwrap();
    assert_eq!(stuck.join().unwrap(), b"at last");
}

/// Timeouts hold for who leads, too: nothing comes on the silent channel, and nobody else runs
/// the loop at that moment.
#[test]
fn a_reader_that_leads_gives_up_in_time() {
    let ends = Ends::new(|config| config);
    let (near, far) = ends.connect();
    let echo = answer(&far);
    let asker = Asker::new(&near);
    let silent = near.receiver(OTHER).unwrap();
    let (tell, told) = mpsc::channel();
    let reader = thread::spawn(move || {
        for round in 0..ROUNDS {
            asker.ask(round);
            let timeout = Duration::from_micros(u64::from(round) * 20);
            assert_eq!(silent.recv_timeout(timeout).unwrap_err(), RecvTimeoutError::Timeout);
            let deadline = Instant::now() + timeout;
            assert_eq!(silent.recv_deadline(deadline).unwrap_err(), RecvTimeoutError::Timeout);
            assert!(Instant::now() >= deadline, "too early");
            tell.send(round).unwrap();
        }
    });
    for round in 0..ROUNDS {
        assert_eq!(told.recv_timeout(LONG), Ok(round), "a timeout never comes");
    }
    reader.join().unwrap();
    drop(near);
    echo.join().unwrap();
}

/// Every way of waiting at once, on two connections: what is sent comes, once and in order.
#[test]
fn many_readers_of_all_kinds_lose_nothing() {
    const MESSAGES: u32 = 3_000;
    const KINDS: u8 = 6;
    let ends = Ends::new(|config| config.window(8 << 10));
    let pairs = [ends.connect(), ends.connect()];
    let check = |next: &mut u32, message: &Message| {
        assert_eq!(message[..4], next.to_be_bytes(), "on {}", message.channel());
        *next += 1;
    };
    let wait = Duration::from_micros(300);
    thread::scope(|scope| {
        for (near, far) in &pairs {
            // Both ways, so that readers of one end are senders' peers of the other.
            for (here, there) in [(near, far), (far, near)] {
                for kind in 0..KINDS {
                    let sender = there.sender(ChannelId::new(kind)).unwrap();
                    scope.spawn(move || {
                        let mut message = [kind; 100];
                        for number in 0..MESSAGES {
                            message[..4].copy_from_slice(&number.to_be_bytes());
                            let len = 4 + (number as usize * 7) % 90;
                            sender.send_timeout(&message[..len], LONG).unwrap();
                            // Now in a stream, and now one by one.
                            if (number / 100) % 2 == 0 {
                                thread::yield_now();
                            }
                        }
                    });
                }
                let receiver = |kind| here.receiver(ChannelId::new(kind)).unwrap();
                let (plain, timed, bound, polled) = (receiver(0), receiver(1), receiver(2), receiver(3));
                scope.spawn(move || {
                    let mut next = 0;
                    plain.iter().for_each(|message| check(&mut next, &message));
                    assert_eq!(next, MESSAGES);
                });
                scope.spawn(move || {
                    let mut next = 0;
                    while next < MESSAGES {
                        match timed.recv_timeout(wait) {
                            Ok(message) => check(&mut next, &message),
                            Err(error) => assert_eq!(error, RecvTimeoutError::Timeout),
                        }
                    }
                });
                scope.spawn(move || {
                    let mut next = 0;
                    while next < MESSAGES {
                        match bound.recv_deadline(Instant::now() + wait) {
                            Ok(message) => check(&mut next, &message),
                            Err(error) => assert_eq!(error, RecvTimeoutError::Timeout),
                        }
                    }
                });
                scope.spawn(move || {
                    let mut next = 0;
                    while next < MESSAGES {
                        match polled.try_recv() {
                            Ok(message) => check(&mut next, &message),
                            Err(_) => thread::yield_now(),
                        }
                    }
                });
                let (one, two) = (receiver(4), receiver(5));
                scope.spawn(move || {
                    let (one_ready, two_ready) = (one.ready(), two.ready());
                    let mut next = [0; 2];
                    while next != [MESSAGES; 2] {
                        let (receiver, next) = select! {
                            recv(one_ready) -> _ => (&one, &mut next[0]),
                            recv(two_ready) -> _ => (&two, &mut next[1]),
                            default(LONG) => panic!("select sleeps through it, at {next:?}"),
                        };
                        match receiver.try_recv() {
                            Ok(message) => check(next, &message),
                            // A token may be left from before; an end comes with each channel's last.
                            Err(TryRecvError::Empty) => {}
                            Err(error) => {
                                assert_eq!(error, TryRecvError::Disconnected(RecvError::Finished));
                                assert_eq!(*next, MESSAGES);
                            }
                        }
                    }
                });
            }
        }
    });
}

/// Where the panic is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    IoThread,
    /// A reader's thread, inside of `recv`.
    Leader,
}

thread_local! {
    static IN_RECV: Cell<bool> = const { Cell::new(false) };
}

/// A message whose memory panics when it is given back in that place, the first time.
struct Bomb {
    memory: [u8; 8192],
    place: Place,
    exploded: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        let here = match self.place {
            Place::IoThread => thread::current().name() == Some("trunkline-io"),
            Place::Leader => IN_RECV.get(),
        };
        if here && !thread::panicking() && !self.exploded.swap(true, Relaxed) {
            panic!("a message's owner panics in its drop, as the test wants it");
        }
    }
}

/// The loop runs no code of the user's but one: what owns the memory of a `Bytes` is dropped in
/// it. Should that panic, its connection is over, for a cause that every handle hears. The role
/// is free, the other connections go on, and the reader that happened to lead knows nothing of it.
#[test]
fn a_panic_in_the_loop_ends_one_connection_and_leaves_the_role_free() {
    for place in [Place::IoThread, Place::Leader] {
        let ends = Ends::new(|config| config);
        let (beside, beside_far) = ends.connect();
        let echo = answer(&beside_far);
        let asker = Asker::new(&beside);
        let exploded = Arc::new(AtomicBool::new(false));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let goes_on = || !over.load(Relaxed);
            let leader = scope.spawn(move || {
                IN_RECV.set(true);
                (0..).take_while(|_| goes_on()).for_each(|round| asker.ask(round));
                IN_RECV.set(false);
            });
            let over = Over(&over);
            let until = Instant::now() + LONG;
            while !exploded.load(Relaxed) && Instant::now() < until && !leader.is_finished() {
                let (near, far) = ends.connect();
                let (sender, receiver) = (near.sender(OTHER).unwrap(), far.receiver(OTHER).unwrap());
                for _ in 0..100 {
                    let bomb = Bomb { memory: [0; 8192], place, exploded: Arc::clone(&exploded) };
                    let sent = sender.send_bytes(Bytes::from_owner(bomb));
                    let received = receiver.recv_timeout(LONG);
                    if exploded.load(Relaxed) {
                        // It is over, and says so: nothing sleeps through it.
                        let lost = near.receiver(ANSWER).unwrap().recv_timeout(LONG).unwrap_err();
                        assert_eq!(
                            lost,
                            RecvTimeoutError::Disconnected(ConnectionError::IoThreadStopped.into())
                        );
                        break;
                    }
                    sent.unwrap();
                    received.unwrap();
                }
            }
            assert!(exploded.load(Relaxed), "it never happens in the {place:?}");
            let (new, new_far) = ends.connect();
            let new_echo = answer(&new_far);
            let new_asker = Asker::new(&new);
            (0..ROUNDS).for_each(|round| new_asker.ask(round));
            drop(over);
            leader.join().unwrap();
            drop((new, new_asker));
            new_echo.join().unwrap();
        });
        drop(beside);
        echo.join().unwrap();
    }
}

/// Threads that end right after a call, one after the other, each of which may have had the role.
#[test]
fn a_thread_that_ends_leaves_the_role_free() {
    let ends = Ends::new(|config| config);
    let (near, far) = ends.connect();
    let echo = answer(&far);
    let mut asker = Asker::new(&near);
    for round in 0..ROUNDS {
        let short = thread::spawn(move || {
            asker.ask(round);
            asker
        });
        asker = short.join().unwrap();
    }
    drop((asker, near));
    echo.join().unwrap();
}
