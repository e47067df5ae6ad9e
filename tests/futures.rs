//! The traits of the `futures` crates under executors: tokio's with one thread and with several, and
//! smol's.

mod support;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{
    AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, FutureExt, Sink, SinkExt, StreamExt, TryStreamExt,
};
use support::{LONG, free_address, loopback, pair};
use trunkline::*;

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks side by side to their end, each as a task of the executor's own.
type Executor = fn(Vec<Task>);

fn tokio_in_one_thread(tasks: Vec<Task>) {
    on_tokio(&tokio::runtime::Builder::new_current_thread().build().unwrap(), tasks);
}

fn tokio_in_threads(tasks: Vec<Task>) {
    on_tokio(&tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap(), tasks);
}

fn on_tokio(runtime: &tokio::runtime::Runtime, tasks: Vec<Task>) {
    runtime.block_on(async {
        let tasks: Vec<_> = tasks.into_iter().map(|task| tokio::spawn(task)).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

fn on_smol(tasks: Vec<Task>) {
    let executor = smol::Executor::new();
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| smol::block_on(executor.run(stopped.recv())));
        }
        let tasks: Vec<_> = tasks.into_iter().map(|task| executor.spawn(task)).collect();
        smol::block_on(async {
            for task in tasks {
                task.await;
            }
        });
        drop(stop);
    });
}

/// A test under each executor.
macro_rules! under_each {
    ($($name:ident),* $(,)?) => {
        mod one_thread { $(#[test] fn $name() { super::$name(super::tokio_in_one_thread); })* }
        mod threads { $(#[test] fn $name() { super::$name(super::tokio_in_threads); })* }
        mod on_smol { $(#[test] fn $name() { super::$name(super::on_smol); })* }
    };
}

under_each!(
    a_thousand_tasks_share_a_connection,
    sinks_in_a_herd_wait_for_room_and_lose_nothing,
    a_stream_ends_as_recv_does,
    lines_are_written_and_read,
    a_read_that_waits_is_interrupted,
    a_task_that_is_cancelled_takes_nothing_with_it,
    a_listener_is_a_stream_of_clients,
);

fn task(future: impl Future<Output = ()> + Send + 'static) -> Task {
    Box::pin(future)
}

/// Fails where a task would wait for ever. No executor here has a clock, so a thread is one.
fn in_time(run: impl FnOnce() + Send + 'static) {
    let (done, finished) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        run();
        let _ = done.send(());
    });
    match finished.recv_timeout(LONG / 4) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("tasks stand still"),
        _ => thread.join().unwrap(),
    }
}

/// 128 channels each way: 744 tasks send on them through clones, 128 answer, and 128 hear the answers.
fn a_thousand_tasks_share_a_connection(run: Executor) {
    const CLONES: usize = 6;
    const ROUNDS: usize = 20;
    in_time(move || {
        let (here, there) = loopback(|config| config.window(16 << 10));
        let answered = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for number in 0..128 {
            let channel = ChannelId::new(number);
            let sender = here.sender(channel).unwrap();
            for clone in 0..CLONES {
                let mut sink = sender.sink();
                tasks.push(task(async move {
                    for round in 0..ROUNDS {
                        let size = (clone * 997 + round * 131) % 3000;
                        sink.send(Bytes::from(vec![number; size])).await.unwrap();
                    }
                }));
            }
            let mut asked = there.receiver(channel).unwrap();
            let mut answers = there.sender(channel).unwrap().into_sink();
            tasks.push(task(async move {
                while let Some(message) = asked.try_next().await.unwrap() {
                    answers.send(message.into_bytes()).await.unwrap();
                }
                answers.close().await.unwrap();
            }));
            let mut heard = here.receiver(channel).unwrap();
            let answered = Arc::clone(&answered);
            tasks.push(task(async move {
                while let Some(message) = heard.try_next().await.unwrap() {
                    assert!(message.iter().all(|byte| *byte == number));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        assert!(tasks.len() > 1000);
        run(tasks);
        assert_eq!(answered.load(Ordering::Relaxed), 128 * CLONES * ROUNDS);
    });
}

/// What was ready for one sink is taken by another, all the time.
fn sinks_in_a_herd_wait_for_room_and_lose_nothing(run: Executor) {
    const SINKS: usize = 64;
    const MESSAGES: usize = 30;
    in_time(move || {
        let (here, there) = pair(|config| config.window(4 << 10).send_queue(4 << 10));
        let sender = here.sender(A).unwrap();
        let mut tasks: Vec<Task> = (0..SINKS)
            .map(|n| {
                let mut sink = sender.sink();
                task(async move {
                    for m in 0..MESSAGES {
                        let size = if m % 10 == 9 { 9000 } else { 900 };
                        let mut message = vec![n as u8; size];
                        message[1] = m as u8;
                        sink.feed(message.into()).await.unwrap();
                    }
                    sink.flush().await.unwrap();
                })
            })
            .collect();
        drop(sender);
        let mut receiver = there.receiver(A).unwrap();
        tasks.push(task(async move {
            let mut next = [0; SINKS];
            while let Some(message) = receiver.try_next().await.unwrap() {
                let from = usize::from(message[0]);
                assert_eq!(message[1], next[from], "of sink {from}");
                next[from] += 1;
            }
            assert_eq!(next, [MESSAGES as u8; SINKS]);
        }));
        run(tasks);
    });
}

fn a_stream_ends_as_recv_does(run: Executor) {
    let (here, there) = pair(|config| config);
    let sender = here.sender(A).unwrap();
    let mut receiver = there.receiver(A).unwrap();
    let mut events = there.events();
    let (go, mut wait) = (here.sender(B).unwrap().into_sink(), there.receiver(B).unwrap());
    let sends = async move {
        sender.send("one").unwrap();
        sender.finish().unwrap();
        sender.send("two").unwrap();
        sender.gap(3, 30).unwrap();
        sender.send("three").unwrap();
        sender.reset(7).unwrap();
        sender.send("four").unwrap();
        drop(sender);
        let mut go = go;
        go.send("go".into()).await.unwrap();
        here.flushing().await.unwrap();
        here.close(CloseCode::application(5), "done").unwrap();
    };
    let receives = async move {
        assert_eq!(&*wait.next().await.unwrap().unwrap(), b"go");
        assert_eq!(&*receiver.next().await.unwrap().unwrap(), b"one");
        assert!(receiver.next().await.is_none());
        assert_eq!(&*receiver.next().await.unwrap().unwrap(), b"two");
        let gap = RecvError::Gap { channel: A, messages: 3, bytes: 30 };
        assert_eq!(receiver.next().await, Some(Err(gap)));
        assert_eq!(&*receiver.next().await.unwrap().unwrap(), b"three");
        assert_eq!(receiver.next().await, Some(Err(RecvError::Reset { channel: A, code: 7 })));
        assert_eq!(&*receiver.next().await.unwrap().unwrap(), b"four");
        assert_eq!(receiver.next().await, None);
        let cause = ConnectionError::ClosedByPeer { code: CloseCode::application(5), reason: "done".into() };
        assert_eq!(receiver.next().await, Some(Err(RecvError::ConnectionLost(cause.clone()))));
        // Told once, so a loop over errors ends.
        assert_eq!(receiver.next().await, None);
        assert_eq!(receiver.next().await, None);
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event);
        }
        assert_eq!(last, Some(Event::Closed(cause)));
        drop(there);
    };
    in_time(move || run(vec![task(sends), task(receives)]));
}

fn lines_are_written_and_read(run: Executor) {
    const LINES: usize = 2000;
    let (here, there) = pair(|config| config.window(4 << 10));
    let mut writer = here.sender(A).unwrap().into_writer();
    let mut reader = there.receiver(A).unwrap().into_reader();
    let mut echo = there.sender(B).unwrap().into_writer();
    let mut echoed = here.receiver(B).unwrap().into_reader();
    let writes = async move {
        for n in 0..LINES {
            // In pieces, and some lines are larger than the window.
            writer.write_all(format!("line {n} ").as_bytes()).await.unwrap();
            let filler = if n % 100 == 0 { "x".repeat(30_000) } else { "x".repeat(n % 50) };
            writer.write_all(filler.as_bytes()).await.unwrap();
            writer.write_all(b"\n").await.unwrap();
        }
        writer.write_all(b"the end").await.unwrap();
        writer.close().await.unwrap();
    };
    let echoes = async move {
        let mut n = 0;
        // By the trait as long as each line has its end, and then to the end of the run.
        while n < LINES {
            let mut line = String::new();
            reader.read_line(&mut line).await.unwrap();
            assert!(line.starts_with(&format!("line {n} ")) && line.ends_with('\n'), "{n}: {line}");
            n += 1;
            echo.write_all(line.as_bytes()).await.unwrap();
        }
        let mut rest = |context: &mut Context<'_>| reader.poll_read_line(context);
        let last = futures_util::future::poll_fn(&mut rest).await.unwrap();
        assert_eq!(last, "the end");
        echo.write_all(last.as_bytes()).await.unwrap();
        let end = futures_util::future::poll_fn(&mut rest).await.unwrap_err();
        assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
        echo.close().await.unwrap();
    };
    let hears = async move {
        let mut text = String::new();
        echoed.read_to_string(&mut text).await.unwrap();
        assert_eq!(text.matches("line ").count(), LINES);
        assert!(text.ends_with("the end"));
        // The end is told once: another read waits for the next run.
        assert!(echoed.read(&mut [0; 10]).now_or_never().is_none());
        drop((here, there));
    };
    in_time(move || run(vec![task(writes), task(echoes), task(hears)]));
}

fn a_read_that_waits_is_interrupted(run: Executor) {
    let (here, there) = pair(|config| config);
    let sender = here.sender(A).unwrap();
    let mut reader = there.receiver(A).unwrap().into_reader();
    let interrupter = reader.interrupter();
    let mut ended = there.sender(B).unwrap().into_sink();
    let mut ends = here.receiver(B).unwrap();
    let reads = async move {
        for _ in 0..10 {
            let mut buffer = [0; 100];
            let error = reader.read(&mut buffer).await.unwrap_err();
            assert!(is_interrupted(&error), "{error}");
            ended.send("interrupted".into()).await.unwrap();
        }
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        assert_eq!(line, "after all\n");
        drop(there);
    };
    let interrupts = async move {
        for n in 0..10 {
            // It mostly waits by then.
            turns(n).await;
            interrupter.interrupt();
            assert_eq!(&*ends.next().await.unwrap().unwrap(), b"interrupted");
        }
        sender.send("after all\n").unwrap();
        ends.next().await;
        drop(here);
    };
    in_time(move || run(vec![task(reads), task(interrupts)]));
}

/// Futures that wait are dropped, over and over, beside those that go on: no message is lost with one,
/// and no wake.
fn a_task_that_is_cancelled_takes_nothing_with_it(run: Executor) {
    const MESSAGES: u32 = 400;
    let (here, there) = pair(|config| config.window(2 << 10));
    let mut sink = here.sender(A).unwrap().into_sink();
    let mut receiver = there.receiver(A).unwrap();
    let sends = async move {
        for n in 0..MESSAGES {
            let message = Bytes::from([&n.to_be_bytes()[..], &[0; 96]].concat());
            loop {
                let ready = futures_util::future::poll_fn(|context| sink.poll_ready_unpin(context));
                match select(ready, pin!(turns(1 + n % 3))).await {
                    Either::Left((ready, _)) => break ready.unwrap(),
                    Either::Right(_) => {}
                }
            }
            sink.start_send_unpin(message).unwrap();
        }
        sink.close().await.unwrap();
    };
    let receives = async move {
        let mut n = 0;
        loop {
            match select(receiver.try_next(), pin!(turns(1 + n % 4))).await {
                Either::Left((message, _)) => match message.unwrap() {
                    Some(message) => {
                        assert_eq!(message[..4], n.to_be_bytes());
                        n += 1;
                    }
                    None => break,
                },
                Either::Right(_) => {}
            }
        }
        assert_eq!(n, MESSAGES);
        drop((here, there));
    };
    in_time(move || run(vec![task(sends), task(receives)]));
}

/// Ready after so many turns of the executor.
async fn turns(mut turns: u32) {
    futures_util::future::poll_fn(|context| {
        if turns == 0 {
            return Poll::Ready(());
        }
        turns -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn a_listener_is_a_stream_of_clients(run: Executor) {
    const CLIENTS: usize = 20;
    let key = Key::generate();
    let mut listener = Listener::bind(free_address(), Config::new(key.clone())).unwrap();
    let address = listener.local_addr();
    let clients = thread::spawn(move || {
        for _ in 0..CLIENTS {
            let client = Connection::connect(address, Config::new(key.clone())).unwrap();
            let answers = client.receiver(A).unwrap();
            client.sender(A).unwrap().send("who is there?").unwrap();
            assert_eq!(&*answers.recv_timeout(LONG).unwrap(), b"who is there?");
        }
    });
    let accepts = async move {
        let mut served = 0;
        while let Some(connection) = listener.next().await {
            let mut asked = connection.receiver(A).unwrap();
            let mut answers = connection.sender(A).unwrap().into_sink();
            let message = asked.try_next().await.unwrap().unwrap();
            answers.send(message.into_bytes()).await.unwrap();
            // The client may have gone with its answer.
            let _ = connection.flushing().await;
            drop((asked, answers));
            connection.detach();
            served += 1;
            if served == CLIENTS {
                listener.close();
            }
        }
        assert_eq!(served, CLIENTS);
    };
    in_time(move || run(vec![task(accepts)]));
    clients.join().unwrap();
}

/// Room that was ready is gone when the message comes: the sink holds it, is not ready for another,
/// and sends it first.
#[test]
fn a_sink_whose_room_is_taken_holds_its_message() {
    let (here, there) = pair(|config| config.window(4 << 10));
    let sender = here.sender(A).unwrap();
    let mut sink = sender.sink();
    let mut context = Context::from_waker(Waker::noop());
    assert!(sink.poll_ready_unpin(&mut context).is_ready());
    let taken = std::iter::from_fn(|| sender.try_send([1; 1000]).ok()).count();
    let held = Bytes::from(vec![2; 1000]);
    sink.start_send_unpin(held.clone()).unwrap();
    assert!(sink.poll_ready_unpin(&mut context).is_pending());
    assert!(Pin::new(&mut sink).poll_flush(&mut context).is_pending());
    let receiver = there.receiver(A).unwrap();
    for _ in 0..taken {
        assert_eq!(*receiver.recv_timeout(LONG).unwrap(), [1; 1000]);
    }
    smol::block_on(sink.send(Bytes::from_static(b"the next"))).unwrap();
    assert_eq!(receiver.recv_timeout(LONG).unwrap().into_bytes(), held);
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"the next");
}

#[test]
fn what_a_sink_cannot_send_comes_back() {
    let (here, there) = pair(|config| config.max_message(1000));
    let mut sink = here.sender(A).unwrap().into_sink();
    let large = Bytes::from(vec![1; 1001]);
    let error = sink.send(large.clone()).now_or_never().unwrap().unwrap_err();
    assert_eq!(error, SendError::TooLarge { message: large, limit: 1000 });
    there.receiver(A).unwrap().stop(9);
    let deadline = Instant::now() + LONG;
    while sink.sender().stopped().is_none() {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
    let message = Bytes::from_static(b"a message");
    let error = sink.send(message.clone()).now_or_never().unwrap().unwrap_err();
    assert_eq!(error, SendError::Disconnected { message, cause: Disconnect::Stopped(9) });
    assert!(sink.close().now_or_never().unwrap().is_err());
}

/// A sink that waits is told of the end, whichever it is.
#[test]
fn a_sink_that_waits_hears_of_the_end() {
    let (here, there) = pair(|config| config.window(4 << 10));
    let sender = here.sender(A).unwrap();
    while sender.try_send([1; 1000]).is_ok() {}
    let mut sinks: Vec<_> = (0..10).map(|_| sender.sink()).collect();
    let waits: FuturesUnordered<_> =
        sinks.iter_mut().map(|sink| sink.send(Bytes::from_static(b"never"))).collect();
    let mut all = Box::pin(waits.collect::<Vec<_>>());
    assert!(all.as_mut().now_or_never().is_none());
    let abandons = thread::spawn(move || there.abandon());
    let ends = smol::block_on(all);
    abandons.join().unwrap();
    assert_eq!(ends.len(), 10);
    for end in ends {
        let Err(SendError::Disconnected { message, .. }) = end else { panic!("{end:?}") };
        assert_eq!(&*message, b"never");
    }
}

/// An executor that goes takes its tasks with it, while the I/O thread has their wakers.
#[test]
fn an_executor_may_go_while_its_tasks_wait() {
    let (here, there) = pair(|config| config);
    let (sender, goes_on) = (here.sender(A).unwrap(), there.receiver(A).unwrap());
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (waits, all_wait) = std::sync::mpsc::channel();
        for number in 10..60 {
            let mut receiver = there.receiver(ChannelId::new(number)).unwrap();
            let waits = waits.clone();
            runtime.spawn(async move {
                assert!(receiver.next().now_or_never().is_none());
                waits.send(()).unwrap();
                receiver.next().await
            });
        }
        for _ in 10..60 {
            all_wait.recv_timeout(LONG).unwrap();
        }
        drop(runtime);
        // The receivers are gone with their tasks, so the channels are free, and others go on.
        for number in 10..60 {
            drop(there.receiver(ChannelId::new(number)).unwrap());
        }
        sender.send("still here").unwrap();
        assert_eq!(&*goes_on.recv_timeout(LONG).unwrap(), b"still here");
    }
}
