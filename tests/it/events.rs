//! What a connection tells outside its channels.

use std::thread;
use std::time::Duration;

use trunkline::*;

use crate::support::{LONG, loopback, pair};

/// An interrupt is a state: one that comes before anything listens is there for the first that does.
#[test]
fn an_interrupt_before_the_first_listener_is_delivered() {
    let (here, there) = loopback(|config| config);
    for round in 0..500 {
        here.interrupt().unwrap();
        if round % 2 == 0 {
            // Often it comes before the call, often after it.
            here.flush().unwrap();
        }
        if round % 4 < 2 {
            assert_eq!(there.events().recv_timeout(LONG), Ok(Event::Interrupt), "round {round}");
        } else {
            assert!(there.interrupts().wait_timeout(LONG), "round {round}");
        }
        assert!(!there.interrupts().take(), "it is delivered once, round {round}");
    }
}

/// One that no stream has given out is kept when its stream is dropped, also beside streams that
/// were made after it came.
#[test]
fn an_interrupt_in_a_stream_that_is_dropped_is_kept() {
    let (here, there) = pair(|config| config);
    let first = there.events();
    here.interrupt().unwrap();
    here.flush().unwrap();
    let second = there.interrupts();
    assert!(!second.take(), "it is in the first");
    drop(first);
    assert!(second.wait_timeout(LONG));
    // With no other stream, it is there for the next.
    here.interrupt().unwrap();
    here.flush().unwrap();
    drop(second);
    assert!(there.interrupts().wait_timeout(LONG));
    // One that a stream has given out is no longer there for others.
    let (first, second) = (there.interrupts(), there.interrupts());
    here.interrupt().unwrap();
    assert!(first.wait_timeout(LONG));
    drop((first, second));
    assert!(!there.interrupts().take());
}

#[test]
fn interrupts_tells_nothing_else_and_ends_with_the_connection() {
    let (here, there) = pair(|config| config);
    let interrupts = there.interrupts();
    here.sender(ChannelId::new(3)).unwrap().send("a message").unwrap();
    here.flush().unwrap();
    assert!(!interrupts.take());
    assert!(!interrupts.wait_timeout(Duration::from_millis(1)));
    here.interrupt().unwrap();
    assert!(interrupts.wait());
    // A thread that waits for just that hears the end, and what came before the end is not lost.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| (interrupts.wait(), interrupts.wait()));
        here.interrupt().unwrap();
        here.close(CloseCode::NORMAL, "").unwrap();
        assert_eq!(waiting.join().unwrap(), (true, false));
    });
}

/// Also over TCP, and on a client's side.
#[test]
fn an_interrupt_before_the_end_of_the_connection_can_still_be_heard() {
    let (client, server) = loopback(|config| config);
    server.interrupt().unwrap();
    server.close(CloseCode::NORMAL, "").unwrap();
    assert!(client.interrupts().wait());
    let events = client.events();
    assert!(matches!(events.recv(), Ok(Event::Closed(_))));
    assert_eq!(events.recv(), Err(EventError::Over));
}
