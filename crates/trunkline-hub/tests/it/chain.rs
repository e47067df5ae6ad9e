//! A hub before a hub: the second machine's behaves as one.

use serde_json::json;
use trunkline::{Config, Connection, Event};
use trunkline_hub::code;

use crate::hub::*;
use crate::support::LONG;
use crate::support::line::eventually;

/// A program, a hub before it, and a hub before that.
fn chain() -> (World, World) {
    let near = World::new();
    let upstream = Connection::connect(near.addr, Config::new(near.home.clone())).unwrap();
    // The far one has no program of its own.
    let far = World::serve(near.program.clone(), before(upstream), |config| config);
    (near, far)
}

#[test]
fn output_and_statuses_pass_both_and_a_joiner_gets_the_log() {
    let (near, far) = chain();
    let out = near.program.sender(STDOUT).unwrap();
    let status = near.program.sender(STATUS).unwrap();
    for n in 0..10 {
        out.send(format!("{n}")).unwrap();
    }
    status.send("idle 0").unwrap();
    for world in [&near, &far] {
        let client = world.client(&world.wall);
        let output = client.connection.receiver(STDOUT | STATUS).unwrap();
        for n in 0..10 {
            assert_eq!(text(&output), format!("{n}"));
        }
        assert_eq!(text(&output), "idle 0");
    }
}

#[test]
fn the_input_has_one_owner_across_both_and_lines_have_the_programs_numbers() {
    let (near, far) = chain();
    let stdin = near.program.receiver(STDIN).unwrap();
    let control = near.program.receiver(CONTROL).unwrap();
    let (mut here, mut there) = (near.client(&near.desk), far.client(&far.desk));
    let line = here.sender(STDIN);
    for n in 1..=3 {
        line.send(format!("here {n}")).unwrap();
        assert_eq!(text(&stdin), format!("here {n}"));
    }
    assert_eq!(here.hears("line"), json!({ "own": 1, "input": 1 }));
    there.hears_that("input", |number| *number == 3);

    // It is not free, whatever the far hub thinks.
    let refused = there.sender(STDIN);
    let _ = refused.send("x");
    assert_eq!(stopped(&refused), code::NOT_OWNER);
    assert_eq!(there.hears("lost")["last_passed"], 0);
    assert_eq!(there.asks(r#"{"take":true,"input":3}"#)["done"], false);
    assert_eq!(there.asks(r#"{"take":true}"#)["done"], true);
    assert_eq!(here.hears("lost")["last_passed"], 3);
    assert_eq!(stopped(&line), code::TAKEN);

    let typed = there.sender(STDIN);
    typed.send("there 1").unwrap();
    typed.send("there 2").unwrap();
    assert_eq!(text(&stdin), "there 1");
    assert_eq!(text(&stdin), "there 2");
    // One was refused before, and three of the other came before.
    assert_eq!(there.hears("line"), json!({ "own": 2, "input": 4 }));
    there.sender(CONTROL).send("interrupt own 3").unwrap();
    assert_eq!(text(&control), "interrupt 5");
    there.hears_that("input", |number| *number == 5);

    // And back: the far owner hears how far it came.
    here.takes(r#"{"take":true}"#);
    assert_eq!(there.hears("lost")["last_passed"], 3);
    assert_eq!(stopped(&typed), code::TAKEN);
    let line = here.sender(STDIN);
    line.send("here again").unwrap();
    assert_eq!(text(&stdin), "here again");
    nothing(&stdin);
}

#[test]
fn a_prompt_and_an_interrupt_pass_both() {
    let (near, far) = chain();
    let mut stdin = near.program.receiver(STDIN).unwrap().into_reader();
    stdin.announce_waiting(true);
    let mut read = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stdin, &mut line).unwrap();
        line
    };
    let there = far.client(&far.desk);
    let events = there.connection.events();
    let line = there.sender(STDIN);
    line.send("first\n").unwrap();
    assert_eq!(read(), "first\n");
    std::thread::scope(|scope| {
        let answer = scope.spawn(read);
        eventually("the far owner is asked", || line.peer_is_waiting());
        let asked = std::iter::from_fn(|| events.recv_timeout(LONG).ok());
        let mut asked = asked.filter(|event| matches!(event, Event::Waiting { waiting: true, .. }));
        assert_eq!(asked.next(), Some(Event::Waiting { channel: STDIN, waiting: true, taken: 1 }));
        line.send("answer\n").unwrap();
        assert_eq!(answer.join().unwrap(), "answer\n");
    });
    there.connection.interrupt().unwrap();
    assert!(near.program.interrupts().wait_timeout(LONG));
}

/// The far hub sends what nobody may: its clients hear of it.
#[test]
fn no_client_has_a_right_that_the_hubs_own_connection_lacks() {
    let near = World::new();
    let upstream = Connection::connect(near.addr, Config::new(near.wall.clone())).unwrap();
    let far = World::serve(near.program.clone(), before(upstream), |config| config);
    let mut there = far.client(&far.desk);
    for channel in [STDIN, CONTROL, TALK] {
        let sender = there.sender(channel);
        let _ = sender.send("interrupt");
        assert_eq!(stopped(&sender), code::NOT_SENT_HERE, "{channel}");
    }
    assert_eq!(there.asks(r#"{"take":true}"#)["done"], false);
    there.connection.interrupt().unwrap();
    near.program.sender(STDOUT).unwrap().send("seen").unwrap();
    assert_eq!(text(&there.receiver(STDOUT)), "seen");
    assert!(!near.program.interrupts().take());
    nothing(&near.program.receiver(STDIN).unwrap());
}

/// To the near hub the far one is one client, so it has one private conversation.
#[test]
fn the_far_hub_serves_one_client_at_a_time_on_the_private_channel() {
    let (program, upstream) = Connection::pair(Config::new(trunkline::Key::generate())).unwrap();
    let near =
        World::serve(program, trunkline_hub::Hub::new(upstream).private(TALK, 64..=65), |config| config);
    let requests = near.program.receiver(trunkline::ChannelId::new(64)).unwrap();
    let upstream = Connection::connect(near.addr, Config::new(near.home.clone())).unwrap();
    let hub = trunkline_hub::Hub::new(upstream).private(TALK, 5..=5).roster(ROSTER);
    let far = World::serve(near.program.clone(), hub, |config| config);
    let (one, two) = (far.client(&far.desk), far.client(&far.home));
    let (ask, answers) = (one.sender(TALK), one.receiver(TALK));
    ask.send("1").unwrap();
    assert_eq!(text(&requests), "1");
    let answer = near.program.sender(trunkline::ChannelId::new(64)).unwrap();
    answer.send("one").unwrap();
    assert_eq!(text(&answers), "one");
    let refused = two.sender(TALK);
    refused.send("2").unwrap();
    assert_eq!(stopped(&refused), code::NO_PRIVATE_CHANNEL);
    ask.finish().unwrap();
    assert!(requests.recv_timeout(LONG).is_err());
    answer.finish().unwrap();
    assert!(answers.recv_timeout(LONG).is_err());
    let others = near.program.receiver(trunkline::ChannelId::new(65)).unwrap();
    two.sender(TALK).send("3").unwrap();
    assert_eq!(text(&others), "3");
}
