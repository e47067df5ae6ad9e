//! Shared channels, whose messages a filter judges.

use trunkline::{Config, Connection, Key};
use trunkline_hub::{Hub, Verdict};

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
