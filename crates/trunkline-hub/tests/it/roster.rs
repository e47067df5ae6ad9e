//! What the roster says.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::hub::*;

#[test]
fn everyone_is_told_who_is_here_at_most_four_times_a_second() {
    let world = World::new();
    let mut wall = world.client(&world.wall);
    let you = wall.hears("you");
    let mut list = wall.hears_that("clients", |list| list.as_array().unwrap().len() == 1);
    // How long, in seconds, which a busy machine makes more than none.
    assert!(list[0].as_object_mut().unwrap().remove("here_s").unwrap().as_u64() < Some(60));
    assert!(wall.said.last().unwrap()["up_s"].as_u64() < Some(60));
    let expected = json!([{ "id": you, "name": "wall", "owner": false, "read_only": true, "suspended": false, "behind_bytes": 0 }]);
    assert_eq!(list, expected);
    let before = wall.said.iter().filter(|note| note.get("clients").is_some()).count();
    let begun = Instant::now();
    // Each changes the list.
    while begun.elapsed() < Duration::from_millis(600) {
        let mut other = world.client(&world.desk);
        other.hears("you");
    }
    wall.hears_that("clients", |list| list.as_array().unwrap().len() == 1);
    let took = begun.elapsed();
    let lists = wall.said.iter().filter(|note| note.get("clients").is_some()).count() - before;
    let most = took.as_millis() / 250 + 1;
    assert!(lists as u128 <= most, "{lists} in {took:?}");
    assert_eq!(wall.said.last().unwrap()["upstream"], "live");
}

#[test]
fn nonsense_is_answered_and_so_is_what_is_too_long() {
    let world = World::new();
    let mut guest = world.client(&world.guest);
    let long = format!(r#"{{"take":true,"why":"{}"}}"#, "x".repeat(2000));
    for request in ["{", "[]", "null", "{}", r#"{"take":1}"#, r#"{"take":true,"release":true}"#, &long] {
        let answer = guest.asks(request);
        assert_eq!((&answer["done"], &answer["unknown"]), (&json!(false), &json!(true)), "{request}");
    }
    assert_eq!(guest.asks(r#"{"release":true}"#)["why"], "this client does not have the input");
    assert_eq!(guest.asks(r#"{"take":true}"#)["done"], true);
    assert_eq!(guest.asks(r#"{"release":true}"#)["done"], true);
}

/// Each is answered before the next is taken, so what is not read bounds what is sent.
#[test]
fn a_client_that_reads_no_answers_fills_nothing_but_its_own_window() {
    let world = World::new();
    let config = trunkline::Config::new(world.guest.clone()).window(1024);
    let lazy = trunkline::Connection::connect(world.addr, config).unwrap();
    let requests = lazy.sender(ROSTER).unwrap();
    let mut sent = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        match requests.send_timeout(r#"{"release":true}"#, Duration::from_millis(300)) {
            Ok(()) => sent += 1,
            Err(trunkline::SendTimeoutError::Timeout { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < 30_000, "{sent} were taken, with no answer read");
    // Others are served.
    let mut desk = world.client(&world.desk);
    assert_eq!(desk.asks(r#"{"take":true}"#)["done"], true);
}
