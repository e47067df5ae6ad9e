//! One client that floods, beside an honest one.

use std::time::Duration;

use crate::support::attack::{Times, Victim, floods, rude_strangers};

/// What nine of ten round trips of the honest client may take: ten times what they take without the attack, or this. A client
/// that is held up waits for longer each time; the slowest of all is the machine's affair, and a benchmark's.
const GENEROUS: Duration = Duration::from_millis(250);
const TIME: Duration = Duration::from_millis(400);

#[test]
fn a_client_that_floods_holds_up_no_other() {
    let victim = Victim::start(|config| config);
    let client = victim.client(victim.addr);
    let before = Times::measure(&client, TIME);
    println!("without an attack: {before}");
    for (what, attack) in floods(&victim) {
        let attack = attack();
        attack.wait_until_begun();
        let during = Times::measure(&client, TIME);
        println!("{what}: {during}");
        assert!(during.at(0.9) < GENEROUS.max(before.at(0.9) * 10), "{what}: {during}; before: {before}");
    }
}

/// Each of eight goes on writing as fast as it can, and comes again when it is cut off.
#[test]
fn strangers_that_go_on_writing_after_the_refusal_hold_up_nobody() {
    let victim = Victim::start(|config| config);
    let client = victim.client(victim.addr);
    let before = Times::measure(&client, TIME);
    let attack = rude_strangers(&victim, 8);
    attack.wait_until_begun();
    let during = Times::measure(&client, TIME * 2);
    println!("without an attack: {before}; with it: {during}");
    assert!(during.at(0.9) < GENEROUS.max(before.at(0.9) * 10), "{during}; before: {before}");
}
