//! The router against a plain model: what the program said, what each client got, what was passed on.

mod cases;
mod chain;
mod checks;
mod client;
mod plan;
mod talks;
mod world;

use std::time::Duration;

use proptest::prelude::*;
use trunkline::Access;

use super::*;
use client::Got;
use plan::*;
use world::*;

#[derive(Clone, Debug)]
enum Op {
    Append { slot: usize, len: usize },
    End { slot: usize, reset: bool },
    Gap { slot: usize, messages: u64 },
    Join { access: u8, room: u32 },
    Leave { client: u64, in_order: bool },
    Away { client: u64, back: bool },
    Credit { client: u64, slot: usize, more: u32 },
    Stop { client: u64, slot: usize },
    Send { client: u64, answers: bool },
    Finish { client: u64 },
    Say { client: u64, what: &'static str },
    Interrupt { client: u64, ahead: u64 },
    Arrive { client: u64 },
    StopArrives { client: u64 },
    ReadUpstream,
    ControlRoom { room: bool },
    Waits { waiting: bool, behind: u32 },
    Tick { millis: u64 },
}

fn access(kind: u8) -> Access {
    match kind {
        0 => Access::full().named("desk"),
        1 => Access::full().named("home"),
        2 => Access::full().take_input(false).named("guest"),
        _ => Access::read_only().named("wall"),
    }
}

fn apply(world: &mut World, op: &Op) {
    match *op {
        Op::Append { slot, len } => world.append(slot, Got::Message(vec![7; len].into())),
        Op::End { slot, reset } => {
            world.append(slot, Got::End(if reset { End::Reset(9) } else { End::Finish }))
        }
        Op::Gap { slot, messages } => world.append(slot, Got::Gap(messages, messages.saturating_mul(10))),
        Op::Join { access: kind, room } => drop(world.join(access(kind), room)),
        Op::Leave { client, in_order } => {
            world.leave(client, if in_order { Leaving::InOrder } else { Leaving::Lost });
        }
        Op::Away { client, back } => world.away(client, back),
        Op::Credit { client, slot, more } => world.credit(client, slot, more),
        Op::Stop { client, slot } => world.stop(client, slot),
        Op::Send { client, answers } => world.send(client, answers),
        Op::Finish { client } => world.finish(client),
        Op::Say { client, what } => world.say(client, what),
        Op::Interrupt { client, ahead } => world.interrupt_own(client, ahead),
        Op::Arrive { client } => world.arrive(client),
        Op::StopArrives { client } => world.stop_arrives(client),
        Op::ReadUpstream => world.read_upstream(),
        Op::ControlRoom { room } => world.control_room(room),
        Op::Waits { waiting, behind } => world.waits(waiting, behind),
        Op::Tick { millis } => world.tick(Duration::from_millis(millis)),
    }
}

fn op() -> impl Strategy<Value = Op> {
    let client = 1..5u64;
    let slot = 0..DOWN.len();
    let len = prop_oneof![8 => 8..60usize, 1 => Just(0usize), 1 => 300..700usize];
    let what =
        prop_oneof![Just("take"), Just("take what I know"), Just(r#"{"release":true}"#), Just("nonsense")];
    let millis = prop_oneof![Just(60), Just(300), Just(2_000), Just(11_000)];
    prop_oneof![
        12 => (slot.clone(), len).prop_map(|(slot, len)| Op::Append { slot, len }),
        2 => (slot.clone(), any::<bool>()).prop_map(|(slot, reset)| Op::End { slot, reset }),
        1 => (0..4usize, 1..5u64).prop_map(|(slot, messages)| Op::Gap { slot, messages }),
        3 => (0..4u8, 0..4u32).prop_map(|(access, room)| Op::Join { access, room }),
        1 => (client.clone(), any::<bool>()).prop_map(|(client, in_order)| Op::Leave { client, in_order }),
        2 => (client.clone(), any::<bool>()).prop_map(|(client, back)| Op::Away { client, back }),
        8 => (client.clone(), slot.clone(), 1..4u32).prop_map(|(client, slot, more)| Op::Credit { client, slot, more }),
        1 => (client.clone(), slot).prop_map(|(client, slot)| Op::Stop { client, slot }),
        8 => (client.clone(), any::<bool>()).prop_map(|(client, answers)| Op::Send { client, answers }),
        2 => client.clone().prop_map(|client| Op::Finish { client }),
        4 => (client.clone(), what).prop_map(|(client, what)| Op::Say { client, what }),
        2 => (client.clone(), 1..3u64).prop_map(|(client, ahead)| Op::Interrupt { client, ahead }),
        12 => client.clone().prop_map(|client| Op::Arrive { client }),
        4 => client.prop_map(|client| Op::StopArrives { client }),
        4 => Just(Op::ReadUpstream),
        2 => any::<bool>().prop_map(|room| Op::ControlRoom { room }),
        3 => (any::<bool>(), 0..2u32).prop_map(|(waiting, behind)| Op::Waits { waiting, behind }),
        2 => millis.prop_map(|millis| Op::Tick { millis }),
    ]
}

fn check(ops: &[Op]) {
    let mut world = World::new();
    for op in ops {
        apply(&mut world, op);
    }
    world.settle();
    checks::log(&world.log, world.clients.values());
    checks::input(&world.passed, world.clients.values(), &world.interrupts);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_client_gets_the_log_but_for_its_gaps_and_every_line_is_passed_on_once_or_refused(
        ops in prop::collection::vec(op(), 1..120),
    ) {
        check(&ops);
    }
}

/// The end that a client gets behind a gap is that of the run behind it, which was trimmed as well.
#[test]
fn what_was_trimmed_has_one_end_the_last() {
    let end = |reset| Op::End { slot: 1, reset };
    let append = |slot, len| Op::Append { slot, len };
    let joins = Op::Join { access: 0, room: 0 };
    check(&[end(false), end(true), append(1, 8), end(false), append(0, 337), joins, append(1, 8)]);
}

/// A client that comes, is away for less or more than the grace of an owner, comes back, and goes, with the input and without.
#[test]
fn every_order_of_coming_and_going_is_heard_as_it_is() {
    let one = 1;
    let away = |back| Op::Away { client: one, back };
    let beginnings: [Vec<Op>; 4] = [
        vec![],
        vec![away(false)],
        vec![away(false), Op::Tick { millis: 11_000 }],
        // It has the input, and upstream has no room for what is said.
        vec![
            Op::Send { client: one, answers: false },
            Op::Arrive { client: one },
            Op::ControlRoom { room: false },
        ],
    ];
    let events = [
        away(false),
        away(true),
        Op::Join { access: 0, room: 3 },
        Op::Leave { client: one, in_order: true },
        Op::Leave { client: one, in_order: false },
        Op::Tick { millis: 11_000 },
        Op::Tick { millis: 6_000 },
        Op::Say { client: 2, what: "take" },
        Op::Arrive { client: 2 },
    ];
    for beginning in &beginnings {
        for order in 0..events.len().pow(3) {
            let mut ops = vec![Op::Join { access: 0, room: 3 }, Op::Join { access: 1, room: 3 }];
            ops.extend_from_slice(beginning);
            ops.extend((0..3).map(|at| events[order / events.len().pow(at) % events.len()].clone()));
            check(&ops);
        }
    }
}

/// Every order of a few events, from several beginnings, with two clients and room for one message upstream.
/// `TRUNKLINE_HUB_EVENTS` says how many, by default 3; each more takes 13 times as long.
#[test]
fn every_order_of_a_few_events_around_the_input_is_right() {
    let (one, two) = (1, 2);
    let send = |client| Op::Send { client, answers: false };
    let answer = |client| Op::Send { client, answers: true };
    let arrive = |client| Op::Arrive { client };
    let take = |client| Op::Say { client, what: "take" };
    let joined = [Op::Join { access: 0, room: 3 }, Op::Join { access: 1, room: 3 }];
    let beginnings: [Vec<Op>; 4] = [
        vec![],
        // The first has the input, and one line that upstream has no room for.
        vec![send(one), arrive(one), send(one), arrive(one)],
        // The program waits for the first.
        vec![send(one), arrive(one), Op::ReadUpstream, Op::Waits { waiting: true, behind: 0 }],
        // The first is away for so long that others may have the input.
        vec![send(one), arrive(one), Op::Away { client: one, back: false }, Op::Tick { millis: 11_000 }],
    ];
    let events = [
        send(one),
        send(two),
        answer(one),
        answer(two),
        arrive(one),
        arrive(two),
        take(two),
        Op::Say { client: one, what: "take what I know" },
        Op::Finish { client: one },
        Op::StopArrives { client: one },
        Op::ReadUpstream,
        Op::Waits { waiting: true, behind: 0 },
        Op::Leave { client: one, in_order: true },
    ];
    let most = std::env::var("TRUNKLINE_HUB_EVENTS").map_or(3, |most| most.parse().unwrap());
    for beginning in &beginnings {
        for order in 0..events.len().pow(most) {
            let mut ops: Vec<_> = joined.iter().chain(beginning).cloned().collect();
            ops.extend((0..most).map(|at| events[order / events.len().pow(at) % events.len()].clone()));
            check(&ops);
        }
    }
}
