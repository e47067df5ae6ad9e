//! Clients whose link is cut.

use std::time::Duration;

use trunkline::{Config, Event};

use crate::hub::*;
use crate::support::LONG;
use crate::support::chaos::{Chaos, Cut};

/// It misses nothing within its grace, and one that comes as a new process gets the log.
#[test]
fn a_client_that_is_cut_and_comes_back_misses_nothing() {
    let world = World::new();
    let chaos = Chaos::new(world.addr);
    let client = Client::connect(chaos.addr, Config::new(world.desk.clone()));
    let (output, events) = (client.connection.receiver(STDOUT | STATUS).unwrap(), client.connection.events());
    let out = world.program.sender(STDOUT).unwrap();
    let status = world.program.sender(STATUS).unwrap();
    let mut next = 0;
    for _ in 0..5 {
        for _ in 0..50 {
            out.send(format!("line {next}")).unwrap();
            next += 1;
        }
        status.send(format!("idle {next}")).unwrap();
        chaos.cut(Cut::Fin);
        while !matches!(events.recv_timeout(LONG).unwrap(), Event::Resumed { .. }) {}
    }
    out.send("the last").unwrap();
    let mut expected = 0;
    let mut statuses = Vec::new();
    loop {
        let line = text(&output);
        if line == "the last" {
            break;
        }
        if let Some(number) = line.strip_prefix("idle ") {
            assert_eq!(number.parse(), Ok(expected), "a status at its place");
            statuses.push(line);
            continue;
        }
        assert_eq!(line, format!("line {expected}"));
        expected += 1;
    }
    assert_eq!(expected, next);
    assert_eq!(statuses.last(), Some(&format!("idle {next}")));

    let new = world.client(&world.desk);
    let output = new.receiver(STDOUT);
    for n in 0..next {
        assert_eq!(text(&output), format!("line {n}"));
    }
    assert_eq!(text(&output), "the last");
}

/// The same key takes the input from its own ghost at once, without the right to take it from others.
#[test]
fn the_same_access_takes_from_its_own_client_that_is_away() {
    let world = World::new();
    let stdin = world.program.receiver(STDIN).unwrap();
    let chaos = Chaos::new(world.addr);
    let sleeping = Client::connect(chaos.addr, Config::new(world.guest.clone()));
    let line = sleeping.sender(STDIN);
    line.send("before").unwrap();
    assert_eq!(text(&stdin), "before");
    chaos.refuse(true);
    chaos.cut(Cut::Reset);
    let (mut guest, mut home) = (world.client(&world.guest), world.client(&world.home));
    home.hears_that("clients", |list| {
        list.as_array().unwrap().iter().any(|client| client["suspended"] == true)
    });
    // It is kept for the one that is away.
    assert_eq!(home.asks(r#"{"take":true,"input":1}"#)["done"], false);
    assert_eq!(guest.asks(r#"{"take":true,"input":1}"#)["done"], true);
    guest.sender(STDIN).send("after").unwrap();
    assert_eq!(text(&stdin), "after");
    // What was typed during the outage is not run.
    line.send("typed meanwhile").unwrap();
    chaos.refuse(false);
    assert_eq!(stopped(&line), trunkline_hub::code::TAKEN);
    nothing(&stdin);
}

/// A time that never ends is one that no clock reaches.
#[test]
fn an_input_can_be_kept_for_ever_and_the_hub_linger() {
    let mut world = World::with(|hub| hub.owner_grace(Duration::MAX).linger(Duration::MAX));
    let chaos = Chaos::new(world.addr);
    let away = Client::connect(chaos.addr, Config::new(world.desk.clone()));
    let events = away.connection.events();
    let mut home = world.client(&world.home);
    let output = home.receiver(STDOUT);
    let program = world.program.sender(STDOUT).unwrap();
    program.send("here").unwrap();
    for output in [&output, &away.receiver(STDOUT)] {
        assert_eq!(text(output), "here");
    }
    chaos.refuse(true);
    chaos.cut(Cut::Reset);
    home.hears_that("clients", |list| {
        list.as_array().unwrap().iter().any(|client| client["suspended"] == true)
    });
    program.send("still here").unwrap();
    assert_eq!(text(&output), "still here");
    chaos.refuse(false);
    while !matches!(events.recv_timeout(LONG).unwrap(), Event::Resumed { .. }) {}
    world.program.clone().detach();
    let end = world.hub.take().unwrap().wait();
    assert!(end.is_some(), "its thread has panicked");
}
