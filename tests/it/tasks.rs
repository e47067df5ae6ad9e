//! Tasks that wait with the `poll_` functions: their wakers, and what goes with them.

use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use trunkline::*;

use crate::support::{LONG, free_address, pair};

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

/// A waker that counts.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker that holds its task, as those of simple executors do; what the task holds goes with the
/// last of them.
struct Holds<T>(Mutex<Option<T>>);

impl<T: Send + 'static> Holds<T> {
    fn waker(held: T) -> Waker {
        Arc::new(Self(Mutex::new(Some(held)))).into()
    }
}

impl<T: Send + 'static> Wake for Holds<T> {
    /// The executor is gone.
    fn wake(self: Arc<Self>) {}
}

/// Runs something that a lock could hold up for ever.
fn in_time(run: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = thread::spawn(move || {
        run();
        done.send(()).unwrap();
    });
    finished.recv_timeout(LONG).expect("it stands still");
    thread.join().unwrap();
}

/// Somewhere to connect to that never says anything.
fn silent() -> (TcpListener, Config) {
    let silent = TcpListener::bind(free_address()).unwrap();
    (silent, Config::new(Key::generate()))
}

#[test]
fn a_poll_for_room_before_the_peer_is_there_agrees_with_try_send() {
    let (silent, config) = silent();
    let address = silent.local_addr().unwrap();
    let lazy = Connection::connect_lazily(address, config.send_queue(16 << 10)).unwrap();
    let sender = lazy.sender(A).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut sent = 0;
    while sender.poll_ready(&mut context).is_ready() {
        sender.try_send([1; 1000]).unwrap_or_else(|error| panic!("after {sent} messages: {error}"));
        sent += 1;
    }
    assert!(sent > 10, "{sent}");
    lazy.abandon();
}

/// A task that waits for credit is not woken by everything that goes on beside it.
#[test]
fn a_task_that_waits_for_credit_sleeps_through_the_traffic_of_others() {
    let (here, there) = pair(|config| config.window(8 << 10));
    let (full, busy) = (here.sender(A).unwrap(), here.sender(B).unwrap());
    let receiver = there.receiver(B).unwrap();
    while full.try_send([1; 1000]).is_ok() {}
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    assert!(full.poll_ready(&mut context).is_pending());
    for _ in 0..200 {
        busy.send("beside it").unwrap();
        receiver.recv().unwrap();
    }
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    drop(there.receiver(A).unwrap().recv().unwrap());
    let deadline = std::time::Instant::now() + LONG;
    while count.0.load(Ordering::SeqCst) == 0 {
        assert!(std::time::Instant::now() < deadline);
        thread::yield_now();
    }
}

#[test]
fn the_last_waker_of_a_task_is_dropped_under_no_lock() {
    in_time(|| {
        let (here, there) = pair(|config| config);
        let polled = |waker: Waker, poll: &mut dyn FnMut(&mut Context<'_>)| {
            poll(&mut Context::from_waker(&waker));
        };
        // A mailbox goes, and with it the waker of a task that has another.
        let events = here.events();
        polled(Holds::waker(here.events()), &mut |context| assert!(events.poll_recv(context).is_pending()));
        drop(events);
        // A receiver is polled by another task, and the first one has a receiver.
        let receiver = here.receiver(A).unwrap();
        for channel in [B, ChannelId::new(3)] {
            let other = here.receiver(channel).unwrap();
            polled(Holds::waker(other), &mut |context| assert!(receiver.poll_recv(context).is_pending()));
        }
        // A receiver goes.
        drop(receiver);
        // A flush is forgotten by a task that has a sender.
        let blocked = here.sender(A).unwrap();
        let mut flushing = Box::pin(here.flushing());
        polled(Holds::waker(blocked.clone()), &mut |context| {
            let _ = flushing.as_mut().poll(context);
        });
        drop(flushing);
        // The connection ends, and with it all that wait; each has a handle of it.
        let sender = here.sender(A).unwrap();
        while sender.try_send([0; 10_000]).is_ok() {}
        polled(Holds::waker(sender.clone()), &mut |context| assert!(sender.poll_ready(context).is_pending()));
        let events = here.events();
        polled(Holds::waker(sender.clone()), &mut |context| assert!(events.poll_recv(context).is_pending()));
        polled(Holds::waker(sender.clone()), &mut |context| assert!(here.poll_closed(context).is_pending()));
        there.abandon();
        while events.recv().is_ok() {}
    });
}

/// The executor is gone, so the I/O thread's wake drops the task, and with it the last handle of a
/// connection whose peer never confirms anything.
#[test]
fn a_connection_that_goes_with_its_waker_holds_no_other_up() {
    let (silent, config) = silent();
    let address = silent.local_addr().unwrap();
    let lazy = Connection::connect_lazily(address, config.linger(LONG * 2)).unwrap();
    lazy.sender(A).unwrap().send("never delivered").unwrap();
    let (here, there) = pair(|config| config);
    let (sender, receiver) = (here.sender(A).unwrap(), there.receiver(A).unwrap());
    {
        let waker = Holds::waker(lazy);
        assert!(receiver.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    }
    for n in 0..3u8 {
        sender.send([n]).unwrap();
        assert_eq!(*receiver.recv_timeout(LONG).unwrap(), [n]);
    }
}

/// The same with a writer that has the beginning of a line and no room for it.
#[test]
fn a_writer_that_goes_with_its_waker_ends_no_connection() {
    let (here, there) = pair(|config| config.window(4 << 10));
    let mut writer = here.sender(A).unwrap().into_writer();
    let mut context = Context::from_waker(Waker::noop());
    while writer.poll_write(&mut context, b"this line waits for credit\n").is_ready() {}
    writer.write_all(b"and this one has no end").unwrap();
    let (sender, receiver) = (there.sender(B).unwrap(), here.receiver(B).unwrap());
    {
        let waker = Holds::waker(writer);
        assert!(receiver.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    }
    for n in 0..3u8 {
        sender.send([n]).unwrap();
        assert_eq!(*receiver.recv_timeout(LONG).unwrap(), [n]);
    }
}

#[test]
fn a_task_that_comes_with_new_wakers_leaves_none_behind() {
    let (here, there) = pair(|config| config);
    let receiver = here.receiver(A).unwrap();
    let mut reader = here.receiver(B).unwrap().into_reader();
    let mut writer = here.sender(A).unwrap().into_writer();
    let mut context = Context::from_waker(Waker::noop());
    while writer.poll_write(&mut context, &[b'\n'; 10_000]).is_ready() {}
    let mut flushing = Box::pin(here.flushing());
    let mut wakers: Vec<Weak<Count>> = Vec::new();
    for _ in 0..100 {
        let count = Arc::new(Count::default());
        wakers.push(Arc::downgrade(&count));
        let waker = Waker::from(count);
        let mut context = Context::from_waker(&waker);
        assert!(receiver.poll_recv(&mut context).is_pending());
        assert!(reader.poll_fill_buf(&mut context).is_pending());
        assert!(reader.poll_read_line(&mut context).is_pending());
        assert!(writer.poll_write(&mut context, &[b'\n'; 10_000]).is_pending());
        assert!(flushing.as_mut().poll(&mut context).is_pending());
    }
    let left = wakers.iter().filter(|waker| waker.strong_count() > 0).count();
    assert_eq!(left, 1, "of {}", wakers.len());
    drop((receiver, reader, writer, flushing));
    let left = wakers.iter().filter(|waker| waker.strong_count() > 0).count();
    assert_eq!(left, 0);
    drop(there);
}

/// What is announced of a thread that waits is announced of a task.
#[test]
fn a_task_that_waits_is_announced() {
    let (here, there) = pair(|config| config);
    let mut reader = there.receiver(A).unwrap().into_reader();
    reader.announce_waiting(true);
    let (events, sender) = (here.events(), here.sender(A).unwrap());
    let mut context = Context::from_waker(Waker::noop());
    for taken in 0..3 {
        assert!(reader.poll_read_line(&mut context).is_pending());
        let waits = Event::Waiting { channel: A, waiting: true, taken };
        assert_eq!(events.recv_timeout(LONG), Ok(waits));
        sender.send("an answer\n").unwrap();
        let line = loop {
            match reader.poll_read_line(&mut context) {
                Poll::Ready(line) => break line.unwrap(),
                Poll::Pending => thread::yield_now(),
            }
        };
        assert_eq!(line, "an answer\n");
        let works = Event::Waiting { channel: A, waiting: false, taken: taken + 1 };
        assert_eq!(events.recv_timeout(LONG), Ok(works));
    }
}

/// A task that gives up in the middle of a line loses nothing of it, and an interrupt ends its wait.
#[test]
fn a_line_is_read_whole_or_not_at_all_by_a_task() {
    let (here, there) = pair(|config| config);
    let sender = here.sender(A).unwrap();
    let mut reader = there.receiver(A).unwrap().into_reader();
    let interrupter = reader.interrupter();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let woken = |times: usize| {
        let deadline = std::time::Instant::now() + LONG;
        while count.0.load(Ordering::SeqCst) < times {
            assert!(std::time::Instant::now() < deadline, "not woken");
            thread::sleep(Duration::from_micros(100));
        }
    };
    assert!(reader.poll_read_line(&mut context).is_pending());
    sender.send("half a ").unwrap();
    woken(1);
    assert!(reader.poll_read_line(&mut context).is_pending());
    interrupter.interrupt();
    woken(2);
    let Poll::Ready(Err(error)) = reader.poll_read_line(&mut context) else { panic!("no interrupt") };
    assert!(is_interrupted(&error));
    assert!(reader.poll_read_line(&mut context).is_pending());
    sender.send("line\n").unwrap();
    woken(3);
    let Poll::Ready(Ok(line)) = reader.poll_read_line(&mut context) else { panic!("no line") };
    assert_eq!(line, "half a line\n");
}
