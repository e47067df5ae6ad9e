//! What a relay asks for that stands between connections: what it has refused, what waits for credit, and an
//! end that it does not wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Context;
use std::time::{Duration, Instant};

use trunkline::{ChannelId, CloseCode, ConnectionError, RecvError};

use crate::support::line::eventually;
use crate::support::{LONG, free_address, pair};

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

/// What was returned and what was refused are together what the peer has sent, whatever the messages were
/// in when the run was stopped: the receiver's batch, its queue, or the socket.
#[test]
fn what_was_refused_is_counted_wherever_it_was() {
    let (here, there) = pair(|config| config.window(1 << 20));
    let receiver = there.receiver(A | B).unwrap();
    for round in 1..=3u64 {
        let (sender, other) = (here.sender(A).unwrap(), here.sender(B).unwrap());
        let mut sent = 0;
        for n in 0..50 {
            sender.send(vec![n; usize::from(n) * 100]).unwrap();
            other.send("kept").unwrap();
            sent += 1;
        }
        here.flush().unwrap();
        // The receiver takes all 100 into its batch, and gives out one of each.
        assert_eq!(receiver.recv().unwrap().channel(), A);
        assert_eq!(receiver.recv().unwrap().channel(), B);
        // These are in its queue.
        sender.send("queued").unwrap();
        here.flush().unwrap();
        receiver.stop_channel(A, 3);
        assert_eq!(receiver.discarded(A), (round - 1) * 60 + 50, "{round}");
        // And these come after the stop; the sender does not know of it yet, or fails.
        let late = (0..10).take_while(|_| sender.try_send("late").is_ok()).count();
        assert_eq!(sender.stopped().is_none(), late == 10);
        sent += 1 + late as u64;
        drop(sender);
        here.flush().unwrap();
        eventually("all are counted", || receiver.discarded(A) + 1 == (round - 1) * 60 + sent);
        for _ in 1..50 {
            assert_eq!(receiver.recv().unwrap(), "kept");
        }
        drop(other);
        if late < 10 {
            return; // the machine was faster than the test: the counts of later rounds would differ
        }
    }
}

#[test]
fn what_waits_for_credit_is_known() {
    let (here, there) = pair(|config| config.window(4096).max_message(100_000));
    let sender = here.sender(A).unwrap();
    assert_eq!(sender.staged(), 0);
    sender.send("small").unwrap();
    assert_eq!(sender.staged(), 0);
    sender.try_send([7; 50_000]).unwrap();
    let staged = sender.staged();
    assert!((40_000..50_000).contains(&staged), "{staged}");
    let receiver = there.receiver(A).unwrap();
    assert_eq!(receiver.recv().unwrap(), "small");
    assert_eq!(receiver.recv().unwrap().len(), 50_000);
    assert_eq!(sender.staged(), 0);
}

/// The peer has stopped reading, so an end that waits would take the whole linger.
#[test]
fn an_end_with_a_reason_is_not_waited_for() {
    let (here, there) = pair(|config| config.linger(LONG));
    let receiver = there.receiver(A).unwrap();
    let sender = here.sender(A).unwrap();
    sender.send("the last words").unwrap();
    let began = Instant::now();
    here.clone().detach_with(CloseCode::application(4), "the program has ended");
    drop((sender, here));
    assert!(began.elapsed() < LONG / 2);
    assert_eq!(receiver.recv().unwrap(), "the last words");
    let error = loop {
        match receiver.recv_timeout(Duration::from_secs(60)).unwrap_err() {
            trunkline::RecvTimeoutError::Disconnected(RecvError::ConnectionLost(cause)) => break cause,
            trunkline::RecvTimeoutError::Timeout => panic!("no end"),
            trunkline::RecvTimeoutError::Disconnected(_) => {}
        }
    };
    let reason = "the program has ended".to_owned();
    assert_eq!(error, ConnectionError::ClosedByPeer { code: CloseCode::application(4), reason });
}

/// A run that has begun is stopped, also if no message of it is whole; one that is over, or that has not
/// begun, is not.
#[test]
fn a_refusal_stops_the_open_run_and_no_other() {
    let (here, there) = pair(|config| config.window(4096).max_message(100_000));
    let receiver = there.receiver(A).unwrap();
    let sender = here.sender(A).unwrap();
    receiver.refuse_channel(A, 1); // nothing is open
    sender.send("first").unwrap();
    assert_eq!(receiver.recv().unwrap(), "first");
    sender.finish().unwrap();
    here.flush().unwrap();
    receiver.refuse_channel(A, 2); // the run is over, its end is dropped
    sender.send("second").unwrap();
    assert_eq!(receiver.recv().unwrap(), "second");
    receiver.refuse_channel(A, 3); // open, and nothing unread
    eventually("it is stopped", || sender.stopped() == Some(3));

    // While more than half of the window is unread, a message cannot be finished.
    let sender = here.sender(A).unwrap();
    sender.send([1; 2100]).unwrap();
    sender.try_send([7; 50_000]).unwrap();
    eventually("a part of it has come", || there.stats().held.unfinished > 0);
    receiver.refuse_channel(A, 4);
    eventually("it is stopped", || sender.stopped() == Some(4));
    assert_eq!(receiver.discarded(A), 1);
    here.sender(A).unwrap().send("third").unwrap();
    assert_eq!(receiver.recv().unwrap(), "third");
}

/// Wherever a run is - in the receiver's batch, in its queue, on its way - it is skipped up to its end, and what
/// stands behind it stays. A stop would drop that too.
#[test]
fn a_run_is_skipped_and_nothing_behind_it() {
    for is_large in [false, true] {
        let (here, there) = pair(|config| config);
        let receiver = there.receiver(A | B).unwrap();
        let run = |name: &str, end: bool| {
            let sender = here.sender(A).unwrap();
            for part in ["begins", "goes on"] {
                let mut text = format!("{name} {part}").into_bytes();
                text.resize(if is_large { 100_000 } else { 20 }, b' ');
                sender.send(text).unwrap();
            }
            if end { sender.finish().unwrap() } else { std::mem::forget(sender) }
        };
        let begins = |name: &str| {
            let message = receiver.recv_timeout(LONG).unwrap();
            let text = String::from_utf8_lossy(&message).trim_end().to_owned();
            assert_eq!(text, format!("{name} begins"), "{is_large}");
        };
        run("one", true);
        here.sender(B).unwrap().send("beside").unwrap();
        run("two", true);
        run("three", false);
        here.flush().unwrap();
        begins("one");
        receiver.skip_run(A, 5);
        assert_eq!(receiver.recv_timeout(LONG).unwrap(), "beside");
        begins("two");
        receiver.skip_run(A, 6);
        begins("three");
        // Its end has not come: the peer hears of it. A sender that is made after that begins another run.
        let sender = here.sender(A).unwrap();
        receiver.skip_run(A, 7);
        eventually("it is stopped", || sender.stopped() == Some(7));
        run("four", true);
        begins("four");
        // What has ended is not stopped, and what has not begun neither.
        receiver.skip_run(A, 8);
        receiver.skip_run(A, 9);
        run("five", true);
        begins("five");
    }
}

/// An end that was looked at and put back is the rest of its run.
#[test]
fn an_end_that_was_put_back_is_skipped_alone() {
    let (here, there) = pair(|config| config);
    let receiver = there.receiver(A).unwrap();
    for run in ["one", "two"] {
        let sender = here.sender(A).unwrap();
        sender.send(run).unwrap();
        sender.finish().unwrap();
    }
    here.flush().unwrap();
    assert_eq!(receiver.recv_latest().unwrap(), "one");
    receiver.skip_run(A, 5);
    assert_eq!(receiver.recv().unwrap(), "two");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Finished);
}

/// A relay tells the sender how much of a run was refused, also one that ended before it heard of the stop.
#[test]
fn the_end_of_a_refused_run_wakes_the_task_that_waits() {
    struct Wake(AtomicBool);
    impl std::task::Wake for Wake {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }
    let (here, there) = pair(|config| config);
    let receiver = there.receiver(A).unwrap();
    let sender = here.sender(A).unwrap();
    sender.send("taken").unwrap();
    assert_eq!(receiver.recv().unwrap(), "taken");
    receiver.refuse_channel(A, 3);
    let woken = Arc::new(Wake(AtomicBool::new(false)));
    let waker = woken.clone().into();
    let mut context = Context::from_waker(&waker);
    assert!(receiver.poll_recv_any(&mut context).is_pending());
    // The sender ends its run whether it has heard of the stop or not.
    drop(sender);
    eventually("the task is woken", || woken.0.load(SeqCst));
    assert!(receiver.poll_recv_any(&mut context).is_pending());
    here.sender(A).unwrap().send("the next run").unwrap();
    assert_eq!(receiver.recv().unwrap(), "the next run");
}

/// What a sender waits for: the peer, or only the I/O thread. A task that waits is woken when it turns out to be
/// the peer.
#[test]
fn a_relay_knows_whether_it_waits_for_the_peer() {
    // No credit.
    let (here, _there) = pair(|config| config.window(4096));
    let sender = here.sender(A).unwrap();
    assert!(!sender.waits_for_peer());
    while sender.try_send([7; 1000]).is_ok() {}
    assert!(sender.waits_for_peer());

    // Credit, and a socket that takes no more: the other end's loop is held.
    let key = [7; 32];
    let listener =
        trunkline::Listener::bind(free_address(), trunkline::Config::new(key.into()).send_queue(64 << 10))
            .unwrap();
    let peer =
        crate::support::wire::ClientHandshake::new(listener.local_addr(), &key).window(1 << 30).finish();
    let mut peer = peer.unwrap();
    peer.acknowledge();
    let here = listener.accept().unwrap();
    let sender = here.sender(A).unwrap();
    let waker = Arc::new(Count::default());
    let task = waker.clone().into();
    let mut context = Context::from_waker(&task);
    let mut sent = 0u64;
    eventually("its socket is full", || {
        while sender.try_send([7; 4000]).is_ok() {
            sent += 1;
        }
        let known = waker.0.load(SeqCst);
        // Whenever it says that it waits for the I/O thread only, the task is woken.
        if sender.poll_ready(&mut context).is_pending() && !sender.waits_for_peer() {
            eventually("the task is woken", || waker.0.load(SeqCst) > known);
        }
        sender.waits_for_peer()
    });
    assert!(sender.credit() > 1 << 20, "it has credit: {}", sender.credit());

    here.abandon();

    // No socket.
    let line = crate::support::line::Line::new(|config| config.send_queue(64 << 10));
    let events = line.server.events();
    line.chaos.refuse(true);
    line.chaos.cut(crate::support::chaos::Cut::Fin);
    while !matches!(crate::support::line::next(&events), trunkline::Event::Suspended { .. }) {}
    let sender = line.server.sender(A).unwrap();
    while sender.try_send([7; 4000]).is_ok() {}
    assert!(sender.waits_for_peer());
    line.server.clone().abandon();
    line.client.clone().abandon();
}

#[derive(Default)]
struct Count(std::sync::atomic::AtomicU32);

impl std::task::Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}
