//! Calls that wait, ended from another thread.

use std::io::Write;
use std::thread;
use std::time::Duration;

use trunkline::*;

use crate::support::{LONG, loopback, pair};

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

/// Sends until there is no room.
fn fill(sender: &Sender) -> usize {
    let mut sent = 0;
    while sender.try_send([7; 1000]).is_ok() {
        sent += 1;
    }
    sent
}

#[test]
fn an_interrupt_ends_a_send_that_waits_and_only_one_and_nothing_of_it_was_sent() {
    for (here, there) in [pair(|config| config.window(8192)), loopback(|config| config.window(8192))] {
        let sender = here.sender(A).unwrap();
        let interrupter = sender.interrupter();
        let sent = fill(&sender);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| sender.send([1; 1000]));
            interrupter.interrupt();
            assert!(matches!(waiting.join().unwrap(), Err(SendError::Interrupted { .. })));
            // One that came while nothing waited is for the next that would wait.
            interrupter.interrupt();
            interrupter.interrupt();
            let error = sender.send_timeout([2; 1000], LONG).unwrap_err();
            assert!(matches!(error, SendTimeoutError::Interrupted { .. }));
            // The next one waits again.
            let error = sender.send_timeout([3; 1000], Duration::from_millis(10)).unwrap_err();
            assert!(matches!(error, SendTimeoutError::Timeout { .. }));
            let receiver = there.receiver(A).unwrap();
            let waiting = scope.spawn(|| sender.send([4; 1000]));
            for _ in 0..sent {
                assert_eq!(*receiver.recv_timeout(LONG).unwrap(), [7; 1000]);
            }
            waiting.join().unwrap().unwrap();
            assert_eq!(*receiver.recv_timeout(LONG).unwrap(), [4; 1000]);
        });
    }
}

#[test]
fn an_interrupt_ends_a_write_that_waits_and_nothing_is_lost() {
    let (here, there) = pair(|config| config.window(8192));
    let sender = here.sender(A).unwrap();
    let sent = fill(&sender);
    let interrupter = sender.interrupter();
    let mut writer = sender.into_writer();
    interrupter.interrupt();
    // A writer may have one message more on its way than there is room for.
    let error = loop {
        if let Err(error) = writeln!(writer, "a line") {
            break error;
        }
    };
    assert!(is_interrupted(&error), "{error}");
    let receiver = there.receiver(A).unwrap();
    for _ in 0..sent {
        assert_eq!(receiver.recv_timeout(LONG).unwrap().len(), 1000);
    }
    writeln!(writer, "the last line").unwrap();
    writer.flush().unwrap();
    loop {
        let line = receiver.recv_timeout(LONG).unwrap();
        if &*line == b"the last line\n" {
            break;
        }
        assert_eq!(&*line, b"a line\n");
    }
}

#[test]
fn an_interrupt_ends_each_call_of_a_receiver_that_waits() {
    for (here, there) in [pair(|config| config), loopback(|config| config)] {
        let receiver = there.receiver(A | B).unwrap();
        let interrupter = receiver.interrupter();
        interrupter.interrupt();
        assert_eq!(receiver.recv(), Err(RecvError::Interrupted));
        interrupter.interrupt();
        assert_eq!(receiver.recv_any(), Err(RecvError::Interrupted));
        interrupter.interrupt();
        let error = receiver.recv_timeout(LONG).unwrap_err();
        assert_eq!(error, RecvTimeoutError::Disconnected(RecvError::Interrupted));
        interrupter.interrupt();
        assert_eq!(receiver.iter().count(), 0);
        // What is there is taken first.
        here.sender(A).unwrap().send("there").unwrap();
        while receiver.is_empty() {
            thread::yield_now();
        }
        interrupter.interrupt();
        assert_eq!(receiver.recv().as_deref(), Ok(&b"there"[..]));
        // From another thread, while it waits.
        thread::scope(|scope| {
            let other = interrupter.clone();
            let (begins, begun) = std::sync::mpsc::channel();
            scope.spawn(move || {
                begun.recv().unwrap();
                other.interrupt();
            });
            let _ = receiver.recv_timeout(Duration::from_millis(1));
            begins.send(()).unwrap();
            while !matches!(receiver.recv(), Err(RecvError::Interrupted)) {}
        });
    }
}

/// Work that begins does not end with an interrupt that was meant for what was before.
#[test]
fn an_interrupt_can_be_forgotten_and_ends_no_later_sender() {
    let (here, there) = pair(|config| config.window(8192));
    let brief = Duration::from_millis(10);
    let sender = here.sender(A).unwrap();
    fill(&sender);
    sender.interrupter().interrupt();
    sender.clear_interrupt();
    let error = sender.send_timeout([1; 1000], brief).unwrap_err();
    assert!(matches!(error, SendTimeoutError::Timeout { .. }));
    sender.interrupter().interrupt();
    drop(sender);
    let sender = here.sender(A).unwrap();
    let error = sender.send_timeout([1; 1000], brief).unwrap_err();
    assert!(matches!(error, SendTimeoutError::Timeout { .. }));

    let receiver = there.receiver(B).unwrap();
    receiver.interrupter().interrupt();
    receiver.clear_interrupt();
    assert_eq!(receiver.recv_timeout(brief), Err(RecvTimeoutError::Timeout));
}

#[test]
fn an_interrupter_outlives_what_it_ends() {
    let (here, there) = pair(|config| config);
    let (sends, receives) = (here.sender(A).unwrap().interrupter(), there.receiver(A).unwrap().interrupter());
    sends.interrupt();
    receives.interrupt();
    // The next receiver of the channel is another one.
    let receiver = there.receiver(A).unwrap();
    here.sender(A).unwrap().send("for the next").unwrap();
    assert_eq!(&*receiver.recv_timeout(LONG).unwrap(), b"for the next");
    drop((here, there, receiver));
    sends.interrupt();
    receives.interrupt();
}

#[test]
fn a_stop_is_told_as_an_event() {
    for (here, there) in [pair(|config| config), loopback(|config| config)] {
        let events = here.events();
        let sender = here.sender(A).unwrap();
        sender.send("x").unwrap();
        there.receiver(A).unwrap().stop(7);
        loop {
            if let Event::Stopped { channel, code } = events.recv_timeout(LONG).unwrap() {
                assert_eq!((channel, code), (A, 7));
                break;
            }
        }
        assert_eq!(sender.stopped(), Some(7));
    }
}
