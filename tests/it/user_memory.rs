//! The memory behind a payload is the user's, and so is the code of its drop: it runs with no lock
//! held, wherever the library lets go of a payload, and what it does stops nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Sender as Told, unbounded};
use trunkline::*;

use crate::support::{LONG, loopback, pair};

const A: ChannelId = ChannelId::new(1);
const B: ChannelId = ChannelId::new(2);

/// Memory whose drop uses the connection that it was sent on.
struct Nosy {
    memory: Vec<u8>,
    sender: Sender,
    other: Sender,
    connection: Arc<Connection>,
    told: Told<()>,
}

impl AsRef<[u8]> for Nosy {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        let _ = self.sender.credit();
        let _ = self.sender.try_send("from a drop");
        let _ = self.other.finish();
        let _ = self.connection.stats();
        let _ = self.connection.is_suspended();
        let _ = self.connection.receiver(A).map(|receiver| receiver.try_recv());
        self.told.send(()).unwrap();
    }
}

struct Ends {
    here: Arc<Connection>,
    there: Connection,
    told: (Told<()>, crossbeam_channel::Receiver<()>),
}

impl Ends {
    fn new((here, there): (Connection, Connection)) -> Self {
        Self { here: Arc::new(here), there, told: unbounded() }
    }

    fn memory(&self, len: usize) -> Bytes {
        Bytes::from_owner(Nosy {
            memory: vec![7; len],
            sender: self.here.sender(A).unwrap(),
            other: self.here.sender(B).unwrap(),
            connection: Arc::clone(&self.here),
            told: self.told.0.clone(),
        })
    }

    /// The drop has run to its end, and the loop goes on.
    fn expect_dropped(&self, how_many: usize, how: &str) {
        for _ in 0..how_many {
            self.told.1.recv_timeout(LONG).unwrap_or_else(|_| panic!("the drop never ends: {how}"));
        }
        let (one, two) = pair(|config| config);
        one.sender(A).unwrap().send("the loop goes on").unwrap();
        assert_eq!(&*two.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"the loop goes on", "{how}");
    }
}

fn both_kinds() -> [Ends; 2] {
    [Ends::new(pair(|config| config)), Ends::new(loopback(|config| config))]
}

#[test]
fn a_payload_that_was_delivered_is_dropped_without_a_lock() {
    for ends in both_kinds() {
        let receiver = ends.there.receiver(A).unwrap();
        let sender = ends.here.sender(A).unwrap();
        for len in [100, 5000, 300_000] {
            sender.send_bytes(ends.memory(len)).unwrap();
            while receiver.recv_timeout(LONG).unwrap().len() != len {}
            ends.expect_dropped(1, "delivered");
        }
    }
}

/// Sends until there is no room, on a channel that nothing is read from; how many were accepted.
fn fill(ends: &Ends, len: usize) -> usize {
    let sender = ends.here.sender(A).unwrap();
    let mut accepted = 0;
    while sender.try_send_bytes(ends.memory(len)).is_ok() {
        accepted += 1;
    }
    // The one that was refused was dropped by this thread.
    ends.told.1.recv_timeout(LONG).unwrap();
    accepted
}

#[test]
fn payloads_that_wait_are_dropped_without_a_lock_whatever_ends_their_wait() {
    type End = fn(&Ends);
    let ways: [(&str, End); 4] = [
        ("reset", |ends| ends.here.sender(A).unwrap().reset(5).unwrap()),
        ("taken back", |ends| {
            ends.here.sender(A).unwrap().discard_queued().unwrap();
            ends.here.sender(A).unwrap().reset(5).unwrap();
        }),
        ("stopped", |ends| ends.there.receiver(A).unwrap().stop(3)),
        ("read", |_| {}),
    ];
    for (how, end) in ways {
        for len in [3000, 200_000] {
            for ends in both_kinds() {
                let accepted = fill(&ends, len);
                assert!(accepted > 0);
                end(&ends);
                // What was on its way arrives first.
                let receiver = ends.there.receiver(A).unwrap();
                let begun = Instant::now();
                while ends.told.1.len() < accepted && begun.elapsed() < LONG {
                    let _ = receiver.recv_timeout(Duration::from_millis(5));
                }
                ends.expect_dropped(accepted, how);
            }
        }
    }
}

#[test]
fn payloads_of_a_connection_that_ends_are_dropped_without_a_lock() {
    for ends in both_kinds() {
        let accepted = fill(&ends, 200_000);
        ends.there.receiver(B).unwrap();
        let Ends { here, there, told } = ends;
        there.abandon();
        let ends = Ends { here, there: pair(|config| config).0, told };
        ends.expect_dropped(accepted, "the connection ends");
    }
}

/// A call that waits for the loop cannot be made by the loop: it fails at once and says so.
#[test]
fn a_drop_that_waits_for_the_loop_ends_its_own_connection_and_no_other() {
    struct Waits {
        memory: Vec<u8>,
        connection: Arc<Connection>,
        told: Told<()>,
    }
    impl AsRef<[u8]> for Waits {
        fn as_ref(&self) -> &[u8] {
            &self.memory
        }
    }
    impl Drop for Waits {
        fn drop(&mut self) {
            self.told.send(()).unwrap();
            let _ = self.connection.flush();
        }
    }
    for (here, there) in [pair(|config| config), loopback(|config| config)] {
        let here = Arc::new(here);
        let (told, dropped) = unbounded();
        let memory = Waits { memory: vec![7; 100_000], connection: Arc::clone(&here), told };
        here.sender(A).unwrap().send_bytes(Bytes::from_owner(memory)).unwrap();
        let _ = there.receiver(A).unwrap().recv_timeout(LONG);
        dropped.recv_timeout(LONG).unwrap();
        let (one, two) = pair(|config| config);
        one.sender(A).unwrap().send("the loop goes on").unwrap();
        assert_eq!(&*two.receiver(A).unwrap().recv_timeout(LONG).unwrap(), b"the loop goes on");
    }
}

/// The last handle of another connection may go with a payload.
#[test]
fn a_drop_that_lets_go_of_a_connection_does_not_wait_for_it() {
    struct Holds {
        memory: Vec<u8>,
        _other: Connection,
        told: Told<()>,
    }
    impl AsRef<[u8]> for Holds {
        fn as_ref(&self) -> &[u8] {
            &self.memory
        }
    }
    impl Drop for Holds {
        fn drop(&mut self) {
            self.told.send(()).unwrap();
        }
    }
    let (here, there) = loopback(|config| config);
    let (other, far) = loopback(|config| config.linger(Duration::from_secs(3600)));
    other.sender(A).unwrap().send("the last words").unwrap();
    let (told, dropped) = unbounded();
    let memory = Holds { memory: vec![7; 100_000], _other: other, told };
    here.sender(A).unwrap().send_bytes(Bytes::from_owner(memory)).unwrap();
    assert_eq!(there.receiver(A).unwrap().recv_timeout(LONG).unwrap().len(), 100_000);
    dropped.recv_timeout(LONG).unwrap();
    let words = far.receiver(A).unwrap();
    assert_eq!(&*words.recv_timeout(LONG).unwrap(), b"the last words");
    while far.close_reason().is_none() {
        std::thread::yield_now();
    }
}
