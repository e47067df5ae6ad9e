//! A waker is the user's code: what it does when it is woken, or dropped last, may use the library.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;

use trunkline::*;

use crate::support::{LONG, pair};

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

/// A task that holds handles, as an executor's does: with its last waker they are dropped.
struct Task(Connection);

impl Task {
    /// Calls that take every lock of a connection.
    fn use_the_connection(&self) {
        let conn = &self.0;
        let _ = (conn.events().try_recv(), conn.interrupts().take());
        let _ = conn.receiver(B).map(|receiver| receiver.try_recv());
        let _ = conn.sender(B).map(|sender| sender.try_send("x"));
        let _ = (conn.close_reason(), conn.may_send());
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.use_the_connection();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.use_the_connection();
    }
}

/// Waits for something as a task, and then lets go of it.
type Wait = Box<dyn FnOnce(&mut Context<'_>) -> Box<dyn Send> + Send>;

#[test]
fn a_waker_that_is_woken_or_dropped_last_may_use_the_library() {
    let waits: [fn(&Connection) -> Wait; 6] = [
        |conn| {
            let receiver = conn.receiver(A).unwrap();
            Box::new(move |context| {
                assert!(receiver.poll_recv(context).is_pending());
                Box::new(receiver)
            })
        },
        |conn| {
            let mut reader = conn.receiver(A).unwrap().into_reader();
            Box::new(move |context| {
                assert!(reader.poll_fill_buf(context).is_pending());
                Box::new(reader)
            })
        },
        |conn| {
            let events = conn.events();
            Box::new(move |context| {
                assert!(events.poll_recv(context).is_pending());
                Box::new(events)
            })
        },
        |conn| {
            let interrupts = conn.interrupts();
            Box::new(move |context| {
                assert!(interrupts.poll_wait(context).is_pending());
                Box::new(interrupts)
            })
        },
        |conn| {
            let sender = conn.sender(A).unwrap();
            Box::new(move |context| {
                while sender.try_send([0; 1000]).is_ok() {}
                assert!(sender.poll_ready(context).is_pending());
                Box::new(sender)
            })
        },
        |conn| {
            let mut flushing = conn.flushing();
            let conn = conn.clone();
            Box::new(move |context| {
                let _ = Pin::new(&mut flushing).poll(context);
                assert!(conn.poll_closed(context).is_pending());
                Box::new((flushing, conn))
            })
        },
    ];
    for (number, wait) in waits.into_iter().enumerate() {
        for closes in [false, true] {
            let (here, there) = pair(|config| config.window(10_000));
            let wait = wait(&here);
            let (done, over) = mpsc::channel();
            thread::spawn(move || {
                let waker = Waker::from(Arc::new(Task(here)));
                let waited = wait(&mut Context::from_waker(&waker));
                drop(waker);
                // The task is held by what it waits for, and by nothing else.
                if closes {
                    there.abandon();
                }
                drop(waited);
                done.send(()).unwrap();
            });
            over.recv_timeout(LONG).unwrap_or_else(|_| panic!("wait {number} hangs, closes: {closes}"));
        }
    }
}
