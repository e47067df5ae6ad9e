//! Senders of one channel that wait for room go in the order in which they came.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use trunkline::*;

use crate::support::{LONG, loopback, pair};

const A: ChannelId = ChannelId::new(1);

/// How long a thread has to get in line before the next: there is nothing to be seen of it.
const AFTER: Duration = Duration::from_millis(30);

/// Senders of these sizes come one after the other to a channel that has no room, and arrive so.
fn in_line(here: &Connection, there: &Connection, sizes: &[usize]) {
    let sender = here.sender(A).unwrap();
    while sender.try_send([0; 500]).is_ok() {}
    thread::scope(|scope| {
        for (number, size) in sizes.iter().enumerate() {
            let sender = sender.clone();
            let (begins, begun) = mpsc::channel();
            scope.spawn(move || {
                let mut message = vec![0; *size];
                message[0] = number as u8 + 1;
                begins.send(()).unwrap();
                sender.send(message).unwrap();
            });
            begun.recv().unwrap();
            thread::sleep(AFTER);
        }
        let receiver = there.receiver(A).unwrap();
        let mut arrived = Vec::new();
        while arrived.len() < sizes.len() {
            let message = receiver.recv_timeout(LONG).unwrap();
            if message[0] > 0 {
                arrived.push(message[0]);
            }
        }
        let expected: Vec<_> = (1..=sizes.len() as u8).collect();
        assert_eq!(arrived, expected, "{sizes:?}");
    });
}

#[test]
fn twelve_equal_senders_go_in_the_order_in_which_they_came() {
    for (here, there) in [pair(|config| config.window(2000)), loopback(|config| config.window(2000))] {
        in_line(&here, &there, &[400; 12]);
    }
}

#[test]
fn a_small_message_does_not_overtake_a_large_one_that_waits() {
    for sizes in [&[1800, 1, 1, 1][..], &[60_000, 1, 30_000, 1], &[1, 1_000_000, 2, 1_900, 3]] {
        let (here, there) = pair(|config| config.window(2000));
        in_line(&here, &there, sizes);
    }
}

/// One that does not wait is no exception.
#[test]
fn try_send_does_not_overtake_one_that_waits() {
    for _ in 0..20 {
        let (here, there) = pair(|config| config.window(2000));
        let sender = here.sender(A).unwrap();
        while sender.try_send([0; 500]).is_ok() {}
        while sender.try_send([]).is_ok() {}
        thread::scope(|scope| {
            let clone = sender.clone();
            let waiting = scope.spawn(move || clone.send_timeout(vec![1; 1500], LONG));
            thread::sleep(AFTER);
            // It waits; what comes now is behind it, however often it asks.
            let receiver = there.receiver(A).unwrap();
            let reading = scope.spawn(move || {
                loop {
                    match receiver.recv_timeout(LONG).unwrap().first() {
                        Some(&first) if first > 0 => break first,
                        _ => {}
                    }
                }
            });
            while !reading.is_finished() {
                let _ = sender.try_send([2]);
            }
            assert_eq!(reading.join().unwrap(), 1, "the one that waited is first");
            let _ = waiting.join().unwrap();
        });
    }
}

/// One in line that gives up lets those behind it go on.
#[test]
fn one_that_gives_up_in_line_holds_up_none_behind_it() {
    let (here, there) = pair(|config| config.window(2000));
    let sender = here.sender(A).unwrap();
    while sender.try_send([0; 500]).is_ok() {}
    thread::scope(|scope| {
        let (first, second) = (sender.clone(), sender.clone());
        let gives_up = scope.spawn(move || first.send_timeout(vec![1; 1900], AFTER * 2));
        thread::sleep(AFTER);
        let behind = scope.spawn(move || second.send_timeout([2], LONG));
        assert!(matches!(gives_up.join().unwrap(), Err(SendTimeoutError::Timeout { .. })));
        // With no more room than for the small one, or without any yet.
        let receiver = there.receiver(A).unwrap();
        while receiver.recv_timeout(LONG).unwrap().first() != Some(&2) {}
        behind.join().unwrap().unwrap();
    });
}
