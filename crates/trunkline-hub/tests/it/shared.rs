//! Shared channels, whose messages a filter judges.

use bytes::Bytes;
use trunkline::{ChannelId, Config, Connection, Key};
use trunkline_hub::{History, Hub, Judge, News, Origin, Snapshot, Verdict, code};

use crate::hub::*;
use crate::support::LONG;

/// The refusal of a message is the business of its run. What the client has sent in a later one is judged anew.
#[test]
fn a_refused_message_takes_no_later_run_with_it() {
    let (program, upstream) = Connection::pair(Config::new(Key::generate())).unwrap();
    let control = program.receiver(CONTROL).unwrap();
    let hub = Hub::new(upstream).shared_with(CONTROL, |_, message| match message {
        b"bad" => Verdict::Refuse(300),
        _ => Verdict::Pass,
    });
    let world = World::serve(program, hub, |config| config);
    let client = Client::connect(world.addr, Config::new(world.desk.clone()));
    for round in 0..50 {
        for words in [&["bad", "and what follows it"][..], &["good"]] {
            let sender = client.sender(CONTROL);
            for word in words {
                // It may have heard of the refusal.
                if sender.send(*word).is_err() {
                    break;
                }
            }
        }
        assert_eq!(control.recv_timeout(LONG).unwrap(), "good", "{round}");
    }
}

/// What the caller has written and panics, each piece of it.
struct Faulty;

impl Judge for Faulty {
    fn judge(&mut self, _: &Origin<'_>, message: &[u8]) -> Verdict {
        assert_ne!(message, b"bad", "on purpose");
        Verdict::Pass
    }

    fn hear(&mut self, _: &News<'_>) {
        panic!("on purpose");
    }

    fn say(&mut self) -> Option<Bytes> {
        panic!("on purpose");
    }
}

impl Snapshot for Faulty {
    fn feed(&mut self, message: &[u8]) {
        assert_ne!(message, b"bad", "on purpose");
    }

    fn snapshot(&mut self) -> Bytes {
        panic!("on purpose");
    }
}

/// No client, and no output, ends the hub by way of the caller's code.
#[test]
fn a_panic_of_the_callers_code_ends_neither_the_hub_nor_a_client() {
    let (program, upstream) = Connection::pair(Config::new(Key::generate())).unwrap();
    let control = program.receiver(CONTROL).unwrap();
    let hub = Hub::new(upstream)
        .judged_by(CONTROL, Faulty)
        .broadcast(STDOUT | STDERR, History::snapshot(|_| Box::new(Faulty)))
        .aside(ChannelId::new(64), |_| panic!("on purpose"));
    let mut world = World::serve(program, hub, |config| config);
    let [stdout, stderr] = [STDOUT, STDERR].map(|output| world.program.sender(output).unwrap());
    stdout.send("fine").unwrap();
    stderr.send("fine").unwrap();
    let first = world.client(&world.desk);
    let (screen, sender) = (first.receiver(STDOUT), first.sender(CONTROL));
    assert!(matches!(&*text(&screen), "fine" | ""));
    sender.send("bad").unwrap();
    assert_eq!(stopped(&sender), code::FAULT);
    first.sender(CONTROL).send("good").unwrap();
    assert_eq!(control.recv_timeout(LONG).unwrap(), "good");
    stderr.send("bad").unwrap();
    for joining in [&world.home, &world.wall] {
        let client = world.client(joining);
        assert_eq!((&*text(&client.receiver(STDOUT)), &*text(&client.receiver(STDERR))), ("", ""));
    }
    stdout.send("live").unwrap();
    while text(&screen) != "live" {}
    drop((stdout, stderr, control, world.program));
    assert!(world.hub.take().unwrap().wait().is_some(), "the hub's thread has panicked");
}
