//! What a client gets that joins, and what it may not send.

use trunkline::{Received, RecvError};
use trunkline_hub::{History, Snapshot, code};

use crate::hub::*;
use crate::support::LONG;
use crate::support::line::eventually;

#[test]
fn a_client_that_joins_gets_the_log_with_the_status_at_its_place() {
    let world = World::new();
    let (out, err) = (world.program.sender(STDOUT).unwrap(), world.program.sender(STDERR).unwrap());
    let status = world.program.sender(STATUS).unwrap();
    status.send("busy 1").unwrap();
    out.send("one").unwrap();
    err.send("two").unwrap();
    status.send("idle 1").unwrap();
    out.send("three").unwrap();
    world.program.flush().unwrap();
    eventually("the log has it", || world.hub.as_ref().unwrap().log_bytes() > 0);
    for key in [&world.desk, &world.wall] {
        let client = world.client(key);
        let all = client.connection.receiver(STDOUT | STDERR | STATUS).unwrap();
        let got: Vec<_> = (0..4).map(|_| text(&all)).collect();
        assert_eq!(got, ["one", "two", "idle 1", "three"]);
    }
}

#[test]
fn a_client_that_joins_is_told_what_is_gone_and_of_an_end() {
    let (program, upstream) =
        trunkline::Connection::pair(trunkline::Config::new(trunkline::Key::generate())).unwrap();
    let hub = trunkline_hub::Hub::new(upstream)
        .broadcast(STDOUT, History::bytes(1000))
        .broadcast(STDERR, History::none())
        .roster(ROSTER);
    let world = World::serve(program, hub, |config| config);
    let out = world.program.sender(STDOUT).unwrap();
    for n in 0..100 {
        out.send(format!("{n:068}")).unwrap(); // each costs 100
    }
    out.finish().unwrap();
    let err = world.program.sender(STDERR).unwrap();
    err.send("nobody was here").unwrap();
    err.reset(7).unwrap();
    let first = world.client(&world.desk);
    let end = first.receiver(STDERR);
    assert!(matches!(end.recv_any().unwrap(), Received::Reset { code: 7, .. } | Received::Message(_)));

    let client = world.client(&world.desk);
    let out = client.receiver(STDOUT);
    let Received::Gap { messages, bytes, .. } = out.recv_any().unwrap() else { panic!("no gap") };
    // An end costs 32 of the thousand.
    assert_eq!((messages, bytes), (91, 91 * 68));
    for n in 91..100 {
        assert_eq!(text(&out), format!("{n:068}"));
    }
    assert_eq!(out.recv_any().unwrap(), Received::Finished(STDOUT));
    assert_eq!(client.receiver(STDERR).recv(), Err(RecvError::Reset { channel: STDERR, code: 7 }));
}

#[test]
fn what_clients_may_not_send_is_stopped_with_a_code() {
    let world = World::new();
    let client = world.client(&world.desk);
    for channel in [STDOUT, STATUS, trunkline::ChannelId::new(50), trunkline::ChannelId::new(64)] {
        let sender = client.sender(channel);
        sender.send("x").unwrap();
        assert_eq!(stopped(&sender), code::NOT_SENT_HERE, "{channel}");
        // And so is the next run.
        let sender = client.sender(channel);
        sender.send("x").unwrap();
        assert_eq!(stopped(&sender), code::NOT_SENT_HERE, "{channel}");
    }
    let sender = client.sender(CONTROL);
    sender.send("no command").unwrap();
    assert_eq!(stopped(&sender), code::NOT_SENT_HERE);
    client.sender(CONTROL).send("exit").unwrap();
    assert_eq!(text(&world.program.receiver(CONTROL).unwrap()), "exit");
}

/// The newest line of a channel.
struct Newest(Vec<u8>);

impl Snapshot for Newest {
    fn feed(&mut self, message: &[u8]) {
        self.0 = message.to_vec();
    }

    fn snapshot(&mut self) -> bytes::Bytes {
        [b"now ", &self.0[..]].concat().into()
    }
}

#[test]
fn a_snapshot_stands_for_what_came_before_and_for_what_was_lost() {
    let (program, upstream) =
        trunkline::Connection::pair(trunkline::Config::new(trunkline::Key::generate())).unwrap();
    let hub = trunkline_hub::Hub::new(upstream)
        .broadcast(STDOUT, History::snapshot(|_| Box::new(Newest(Vec::new()))))
        .broadcast(STDERR, History::bytes(1000))
        .roster(ROSTER);
    let world = World::serve(program, hub, |config| config);
    let screen = world.program.sender(STDOUT).unwrap();
    screen.send("a").unwrap();
    screen.send("b").unwrap();
    world.program.sender(STDERR).unwrap().send("mark").unwrap();
    let first = world.client(&world.desk);
    assert_eq!(text(&first.receiver(STDERR)), "mark");
    let slow = trunkline::Config::new(world.desk.clone()).window(1024);
    let slow = Client::connect(world.addr, slow);
    let (quick, slow) = (first.receiver(STDOUT), slow.receiver(STDOUT));
    assert_eq!(text(&slow), "now b");
    quick.recv_timeout(LONG).unwrap(); // what it began with depends on when it came
    // More than one that does not read can lag by, while another reads on.
    for n in 0..600 {
        screen.send(format!("{n:010000}")).unwrap();
        while text(&quick) != format!("{n:010000}") {}
    }
    let last = format!("{:010000}", 599);
    let mut got = Vec::new();
    let reset = loop {
        match slow.recv_timeout(LONG) {
            Ok(message) => got.push(message),
            Err(trunkline::RecvTimeoutError::Disconnected(error)) => break error,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(reset, RecvError::Reset { channel: STDOUT, code: 0 });
    let gap = slow.recv_timeout(LONG).unwrap_err();
    assert!(
        matches!(gap, trunkline::RecvTimeoutError::Disconnected(RecvError::Gap { messages, .. })
            if messages == 600 - got.len() as u64),
        "{gap} after {}",
        got.len()
    );
    assert_eq!(text(&slow), format!("now {last}"));
    screen.send("live").unwrap();
    assert_eq!(text(&slow), "live");
}
