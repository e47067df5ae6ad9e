//! How a hub ends, and what its clients hear.

use trunkline::{CloseCode, ConnectionError, RecvError, RecvTimeoutError};

use crate::hub::*;
use crate::support::LONG;

fn cause(receiver: &trunkline::Receiver) -> ConnectionError {
    loop {
        match receiver.recv_timeout(LONG) {
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected(RecvError::ConnectionLost(cause))) => return cause,
            Err(RecvTimeoutError::Disconnected(_)) => {}
            Err(RecvTimeoutError::Timeout) => panic!("it does not end"),
        }
    }
}

#[test]
fn clients_get_what_is_left_and_then_upstreams_code_and_reason() {
    let mut world = World::new();
    let client = world.client(&world.desk);
    let output = client.receiver(STDOUT);
    let out = world.program.sender(STDOUT).unwrap();
    for n in 0..1000 {
        out.send(format!("{n}")).unwrap();
    }
    drop(out);
    world.program.close(CloseCode::application(3), "exited 3").unwrap();
    for n in 0..1000 {
        assert_eq!(text(&output), format!("{n}"));
    }
    let reason = "exited 3".to_owned();
    let expected = ConnectionError::ClosedByPeer { code: CloseCode::application(3), reason };
    assert_eq!(cause(&output), expected);
    assert_eq!(world.hub.take().unwrap().wait(), Some(expected));
}

#[test]
fn a_hub_that_is_shut_down_says_so_to_both_sides() {
    let mut world = World::new();
    let client = world.client(&world.wall);
    let output = client.receiver(STDOUT);
    world.program.sender(STDOUT).unwrap().send("x").unwrap();
    assert_eq!(text(&output), "x");
    let hub = world.hub.take().unwrap();
    hub.shut_down(CloseCode::application(1), "for the night");
    let reason = "for the night".to_owned();
    let expected = ConnectionError::ClosedByPeer { code: CloseCode::application(1), reason };
    assert_eq!(cause(&output), expected);
    assert_eq!(cause(&world.program.receiver(STDIN).unwrap()), expected);
}

#[test]
fn a_hub_that_is_dropped_ends_at_once_with_a_client_that_reads_nothing() {
    let mut world = World::with(|hub| hub.linger(std::time::Duration::from_millis(200)));
    let config = trunkline::Config::new(world.desk.clone()).window(4096);
    let client = Client::connect(world.addr, config);
    let out = world.program.sender(STDOUT).unwrap();
    for _ in 0..100 {
        out.send([7; 1000]).unwrap();
    }
    world.program.flush().unwrap();
    drop(world.hub.take());
    let cause = cause(&client.receiver(STDOUT));
    assert_eq!(cause.close_code(), Some(CloseCode::SHUTTING_DOWN), "{cause}");
}

/// Also of runs without a message: in a program's output, and in the input if its end is passed on.
#[test]
fn each_end_of_a_run_is_passed_on() {
    let world = World::with(|hub| hub.pass_end_of_input(true));
    let mut client = world.client(&world.desk);
    let output = client.receiver(STDOUT);
    let input = world.program.receiver(STDIN).unwrap();
    let finished = |receiver: &trunkline::Receiver| {
        let end = receiver.recv_timeout(LONG).unwrap_err();
        assert_eq!(end, RecvTimeoutError::Disconnected(RecvError::Finished));
    };
    for _ in 0..3 {
        world.program.sender(STDOUT).unwrap().finish().unwrap();
        finished(&output);
        client.takes(r#"{"take":true}"#);
        client.sender(STDIN).finish().unwrap();
        finished(&input);
    }
}
