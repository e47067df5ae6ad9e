//! The input has one owner.

use std::time::Duration;

use trunkline::{Config, Connection, Event, Reader};
use trunkline_hub::code;

use crate::hub::*;
use crate::support::LONG;
use crate::support::line::eventually;
use crate::support::process::lines;

#[test]
fn whoever_sends_first_has_the_input_and_others_are_told() {
    let world = World::new();
    let stdin = world.program.receiver(STDIN).unwrap();
    let (mut desk, mut home) = (world.client(&world.desk), world.client(&world.home));
    let you = (desk.hears("you"), home.hears("you"));
    assert_ne!(you.0, you.1);
    let line = desk.sender(STDIN);
    line.send("1").unwrap();
    assert_eq!(text(&stdin), "1");
    let refused = home.sender(STDIN);
    refused.send("x").unwrap();
    assert_eq!(stopped(&refused), code::NOT_OWNER);
    assert_eq!(home.hears("lost")["last_passed"], 0);
    let list = home.hears_that("clients", |list| list[0]["owner"] == true || list[1]["owner"] == true);
    let owner = list.as_array().unwrap().iter().find(|client| client["owner"] == true).unwrap();
    assert_eq!((&owner["id"], &owner["name"]), (&you.0, &"desk".into()));

    // Released, and what it knows is not what was passed on.
    line.finish().unwrap();
    let refused = home.sender(STDIN);
    refused.send("typed before it saw the other's").unwrap();
    assert_eq!(stopped(&refused), code::NOT_OWNER);
    assert_eq!(home.asks(r#"{"take":true,"input":0}"#)["done"], false);
    home.takes(r#"{"take":true,"input":1}"#);
    let line = home.sender(STDIN);
    line.send("2").unwrap();
    assert_eq!(text(&stdin), "2");
    // Its own number, after two that were refused.
    assert_eq!(home.hears("line"), serde_json::json!({ "own": 3, "input": 2 }));
    assert_eq!(desk.hears_that("input", |input| *input == 2), 2);
    nothing(&stdin);
}

#[test]
fn a_line_may_follow_a_take_at_once() {
    let world = World::new();
    let stdin = world.program.receiver(STDIN).unwrap();
    let mut clients = [&world.desk, &world.home].map(|key| (world.client(key), 0));
    for round in 0..100 {
        let (client, own) = &mut clients[round % 2];
        if round >= 2 {
            // The other has passed on a line since.
            let early = client.sender(STDIN);
            early.send("early").unwrap();
            client.connection.flush().unwrap();
            *own += 1;
            assert_eq!(stopped(&early), code::NOT_OWNER);
        }
        client.sender(ROSTER).send(format!(r#"{{"take":true,"own":{own}}}"#)).unwrap();
        let line = client.sender(STDIN);
        line.send(format!("{round}")).unwrap();
        *own += 1;
        assert_eq!(text(&stdin), format!("{round}"));
        assert_eq!(client.hears("answer")["done"], true);
        line.finish().unwrap();
        drop(line);
    }
    nothing(&stdin);
}

#[test]
fn an_owner_that_is_taken_over_is_told_how_far_it_came() {
    let world = World::serve_small_window();
    let (mut desk, mut home, mut guest) =
        (world.client(&world.desk), world.client(&world.home), world.client(&world.guest));
    let line = desk.sender(STDIN);
    // More than upstream has room for: the rest lies unread.
    let sent = 12;
    for n in 1..=sent {
        line.send(vec![n; 3000]).unwrap();
    }
    desk.connection.flush().unwrap();
    let passed = desk.hears_that("input", |input| input.as_u64() > Some(0)).as_u64().unwrap();
    assert_eq!(guest.asks(r#"{"take":true}"#)["done"], false);
    assert_eq!(home.asks(r#"{"take":true}"#)["done"], true);
    let lost = desk.hears("lost");
    let last = lost["last_passed"].as_u64().unwrap();
    assert!(passed <= last && last < u64::from(sent), "{lost}, {passed}");
    assert_eq!(lost["through"], u64::from(sent));
    assert_eq!(stopped(&line), code::TAKEN);
    let after = home.sender(STDIN);
    after.send("mine").unwrap();
    let stdin = world.program.receiver(STDIN).unwrap();
    for n in 1..=last {
        assert_eq!(stdin.recv_timeout(LONG).unwrap()[0], n as u8);
    }
    assert_eq!(text(&stdin), "mine");
    // It is taken back, and an access takes from the same owner once a second.
    assert_eq!(desk.asks(r#"{"take":true}"#)["done"], true);
    let again = home.asks(r#"{"take":true}"#);
    assert!(again["why"].as_str().is_some_and(|why| why.contains("less than a second ago")), "{again}");
    home.takes(r#"{"take":true}"#);
}

impl World {
    fn serve_small_window() -> Self {
        let config = Config::new(trunkline::Key::generate()).window(16_000);
        let (program, upstream) = Connection::pair(config).unwrap();
        Self::serve(program, before(upstream), |config| config)
    }
}

/// `trunkline send`: it connects, sends, and is gone, perhaps before the hub has looked.
#[test]
fn what_a_client_sent_that_left_in_order_is_passed_on() {
    let world = World::new();
    let stdin = world.program.receiver(STDIN).unwrap();
    for n in 0..20 {
        let client = Connection::connect(world.addr, Config::new(world.desk.clone())).unwrap();
        client.sender(STDIN).unwrap().send(format!("{n}")).unwrap();
        drop(client);
        assert_eq!(text(&stdin), format!("{n}"));
    }
    eventually("all are forgotten", || world.hub.as_ref().unwrap().clients() == 0);
}

#[test]
fn an_interrupt_of_a_line_that_is_not_passed_on_waits_for_it_and_hits_no_other() {
    let world = World::serve_small_window();
    let (desk, mut home) = (world.client(&world.desk), world.client(&world.home));
    let control = world.program.receiver(CONTROL).unwrap();
    let line = desk.sender(STDIN);
    for n in 1..=12u8 {
        line.send(vec![n; 3000]).unwrap();
    }
    desk.sender(CONTROL).send("interrupt own 11").unwrap();
    desk.sender(CONTROL).send("interrupt own 1").unwrap();
    assert_eq!(text(&control), "interrupt 1");
    // Nobody stops what others have not sent yet.
    let ahead = home.sender(CONTROL);
    ahead.send("interrupt 13").unwrap();
    assert_eq!(stopped(&ahead), code::NOT_SENT_HERE);
    let stdin = world.program.receiver(STDIN).unwrap();
    for n in 1..=10u8 {
        assert_eq!(stdin.recv_timeout(LONG).unwrap()[0], n);
    }
    assert_eq!(text(&control), "interrupt 11");

    // Of a line that is refused, nothing comes.
    for n in 13..=30u8 {
        line.send(vec![n; 3000]).unwrap();
    }
    desk.connection.flush().unwrap();
    desk.sender(CONTROL).send("interrupt own 30").unwrap();
    desk.connection.flush().unwrap();
    home.takes(r#"{"take":true}"#);
    while stdin.recv_timeout(LONG).unwrap()[0] != 12 {}
    home.sender(STDIN).send("home's").unwrap();
    loop {
        let message = stdin.recv_timeout(LONG).unwrap();
        if &*message == b"home's" {
            break;
        }
    }
    home.sender(CONTROL).send("interrupt").unwrap();
    assert_eq!(text(&control), "interrupt");
}

const ROLE: &str = "TRUNKLINE_HUB_TEST_OWNER";

/// What the owner does in a process of its own; without the variable, nothing.
#[test]
fn an_owner_in_a_process_of_its_own() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (addr, key) = role.split_once(' ').unwrap();
    let key = trunkline::Key::from(<[u8; 32]>::try_from(unhex(key)).unwrap());
    let connection = Connection::connect(addr, Config::new(key)).unwrap();
    let events = connection.events();
    let line = connection.sender(STDIN).unwrap();
    line.send("first\n").unwrap();
    for event in events.iter() {
        if matches!(event, Event::Waiting { channel: STDIN, waiting: true, .. }) {
            println!("says: prompted");
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// The program asks, the owner is killed before it answers, and the next owner answers, once.
#[test]
fn a_prompt_outlives_its_owner_and_is_answered_once() {
    let world = World::with(|hub| hub.owner_grace(Duration::from_millis(300)));
    let secret: [u8; 32] = std::array::from_fn(|n| n as u8 + 1);
    let access = trunkline::Access::full().named("killed");
    world.hub.as_ref().unwrap().listener().add_key(trunkline::Key::from(secret), access);
    let mut stdin: Reader = world.program.receiver(STDIN).unwrap().into_reader();
    stdin.announce_waiting(true);
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "input::an_owner_in_a_process_of_its_own", "--nocapture"])
        .env(ROLE, format!("{} {hex}", world.addr))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let said = lines(child.stdout.take().unwrap());
    let mut read = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stdin, &mut line).unwrap();
        line
    };
    assert_eq!(read(), "first\n");
    let mut next = world.client(&world.home);
    let events = next.connection.events();
    let (ask, asked) = std::sync::mpsc::channel();
    let (answers, answer) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for () in asked {
                answers.send(read()).unwrap();
            }
        });
        ask.send(()).unwrap();
        while !said.recv_timeout(LONG).unwrap().contains("says: prompted") {}
        // The other is not asked.
        assert!(!next.sender(STDIN).peer_is_waiting());
        child.kill().unwrap();
        child.wait().unwrap();
        // While the owner may come back, nobody else answers.
        next.takes(r#"{"take":true,"input":1}"#);
        let prompted = std::iter::from_fn(|| events.recv_timeout(LONG).ok())
            .any(|event| matches!(event, Event::Waiting { channel: STDIN, waiting: true, taken: 0 }));
        assert!(prompted);
        let line = next.sender(STDIN);
        assert!(line.peer_is_waiting());
        line.send("the answer\n").unwrap();
        assert_eq!(answer.recv_timeout(LONG).unwrap(), "the answer\n");
        // The next prompt is another.
        ask.send(()).unwrap();
        eventually("it waits for the next line", || line.peer_is_waiting());
        line.send("and more\n").unwrap();
        assert_eq!(answer.recv_timeout(LONG).unwrap(), "and more\n");
        drop(ask);
    });
}

#[test]
fn a_stop_of_the_input_reaches_every_client() {
    let world = World::new();
    let stdin = world.program.receiver(STDIN).unwrap();
    let desk = world.client(&world.desk);
    let line = desk.sender(STDIN);
    line.send("enough").unwrap();
    assert_eq!(text(&stdin), "enough");
    stdin.stop(77);
    let mut sent = 0;
    while line.stopped().is_none() && sent < 100_000 {
        let _ = line.try_send("more");
        sent += 1;
    }
    assert_eq!(stopped(&line), 77);
    let home = world.client(&world.home);
    // The next run is the program's again.
    let mut home = home;
    let number = home.hears_that("input", |_| true).as_u64().unwrap();
    home.takes(&format!(r#"{{"take":true,"input":{number}}}"#));
    home.sender(STDIN).send("again").unwrap();
    assert_eq!(text(&stdin), "again");
}

#[test]
fn an_interrupt_frame_is_passed_on() {
    let world = World::new();
    let desk = world.client(&world.desk);
    desk.connection.interrupt().unwrap();
    assert!(world.program.interrupts().wait_timeout(LONG));
}
