//! Single cases that the random ones seldom or never reach.

use std::time::Duration;

use trunkline::Access;

use super::client::Got;
use super::plan::*;
use super::world::*;
use super::*;

fn message(len: usize) -> Got {
    Got::Message(vec![7; len].into())
}

/// Gaps from upstream may be of any size; what is told is the most that a GAP can say.
#[test]
fn gaps_of_any_size_add_up_without_harm() {
    let mut world = World::new();
    for _ in 0..3 {
        world.append(0, Got::Gap(u64::MAX, u64::MAX));
    }
    world.append(0, message(8));
    let id = world.join(Access::full(), 10);
    let got: Vec<_> = world.clients[&id].got[0].iter().map(|(_, got)| got.clone()).collect();
    assert!(matches!(&got[..], [Got::Gap(u64::MAX, u64::MAX), Got::Message(_)]), "{got:?}");
    world.tick(Duration::from_secs(1)); // the list, with what is behind
}

/// Ends without messages are kept behind the newest message only up to a limit of their own.
#[test]
fn ends_without_messages_do_not_pile_up() {
    let mut world = World::new();
    world.append(0, message(50_000));
    for _ in 0..10_000 {
        world.append(0, Got::End(End::Finish));
        world.append(1, Got::Gap(1, 1));
    }
    assert!(world.router.log_cost() < 50_000 + (64 << 10) + 1000, "{}", world.router.log_cost());
}

/// The newest message stays, whatever its size, and the sum of all else within the bound.
#[test]
fn the_log_stays_within_its_bounds() {
    let mut world = World::new();
    for n in 0..1000 {
        world.append(n % 2, message(n % 97));
        assert!(world.router.log_cost() <= BOUND as usize, "{}", world.router.log_cost());
    }
    world.append(0, message(10_000));
    assert_eq!(world.router.log_cost(), 10_032);
    world.append(0, message(8));
    assert_eq!(world.router.log_cost(), 40);
}

/// Of what upstream said last, a client that has room gets all, and then the end; one that has none is not waited for longer
/// than the linger.
#[test]
fn when_upstream_is_over_clients_get_what_they_have_room_for() {
    let mut world = World::new();
    let (quick, slow) = (world.join(Access::full(), 100), world.join(Access::full(), 1));
    for _ in 0..3 {
        world.append(0, message(8));
    }
    world.over();
    assert!(world.clients[&quick].closed && !world.clients[&slow].closed);
    world.credit(slow, 0, 1);
    assert_eq!(world.clients[&slow].got[0].len(), 2);
    world.tick(Duration::from_secs(4));
    assert!(!world.clients[&slow].closed && !world.router.is_done());
    world.tick(Duration::from_secs(1));
    assert!(world.clients[&slow].closed && world.router.is_done());
    // One that comes now gets what is there, and the end.
    let late = world.join(Access::full(), 100);
    assert!(world.clients[&late].closed);
    assert_eq!(world.clients[&late].got[0].len(), 3);
}

/// At once, and not when its next line is looked at.
#[test]
fn an_owner_that_is_taken_over_hears_it_at_once() {
    let mut world = World::new();
    let (first, second) =
        (world.join(Access::full().named("a"), 9), world.join(Access::full().named("b"), 9));
    world.read_upstream();
    for _ in 0..5 {
        world.send(first, false);
        world.arrive(first);
    }
    let passed = world.passed.len() as u64;
    assert!(passed < 5, "upstream has no room for all");
    world.say(second, "take");
    world.arrive(second);
    assert_eq!(world.clients[&first].losses, [(passed, 5)]);
    world.stop_arrives(first);
    assert_eq!(world.clients[&first].stopped_runs, [0]);
}

/// The program waits for the owner: not for one that is away, and for one that takes nothing only for a while.
#[test]
fn the_program_waits_for_its_owner_and_for_nobody_else() {
    let mut world = World::with(|settings| settings.wait_for_owner = true);
    let (owner, other) = (world.join(Access::full(), 0), world.join(Access::full(), 0));
    world.append(0, message(250));
    assert!(world.router.may_read(world.now), "no client owns the input");
    world.send(owner, false);
    world.arrive(owner);
    assert!(!world.router.may_read(world.now));
    assert_eq!(world.router.next_timeout(), Some(world.now + Duration::from_millis(50))); // the input's number
    world.tick(Duration::from_secs(4));
    assert!(!world.router.may_read(world.now));
    // It takes something, and the other lags.
    world.credit(owner, 0, 2);
    assert!(world.router.may_read(world.now));
    world.append(0, message(250));
    assert!(world.router.may_read(world.now));
    assert!(world.clients[&other].got[0].is_empty());
    world.append(0, message(250));
    assert!(!world.router.may_read(world.now));
    world.away(owner, false);
    assert!(world.router.may_read(world.now), "it is away");
}

/// Patience with an owner ends, and begins anew when it has taken something.
#[test]
fn an_owner_that_takes_nothing_is_waited_for_five_seconds() {
    let mut world = World::with(|settings| settings.wait_for_owner = true);
    let owner = world.join(Access::full(), 0);
    world.send(owner, false);
    world.arrive(owner);
    world.append(0, message(300));
    assert!(!world.router.may_read(world.now));
    world.tick(Duration::from_millis(4900));
    assert!(!world.router.may_read(world.now));
    world.tick(Duration::from_millis(100));
    assert!(world.router.may_read(world.now));
    world.tick(Duration::from_secs(60));
    assert!(world.router.may_read(world.now), "once is enough");
    world.credit(owner, 1, 1);
    world.append(1, message(8));
    assert!(!world.router.may_read(world.now), "it takes something again");
}

/// More than there are places in a wave, while something is published all the time.
#[test]
fn every_client_hears_of_the_number_however_many_there_are() {
    let mut world = World::new();
    let ids: Vec<_> = (0..300).map(|_| world.join(Access::full(), 9)).collect();
    for _ in 0..100 {
        world.send(ids[0], false);
        world.arrive(ids[0]);
        world.read_upstream();
        for _ in 0..12 {
            world.tick(Duration::from_millis(5));
        }
    }
    for _ in 0..100 {
        world.tick(Duration::from_millis(5));
    }
    assert_eq!(world.passed.len(), 100);
    assert!(ids.iter().all(|id| world.clients[id].knows == Some(100)));
}
