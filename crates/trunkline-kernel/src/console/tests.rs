//! What a console makes of what it is told: alone with its kernel, and as one of two before a hub.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::layout::{Control, Line, Lost, Roster, Status, Target};

fn interrupt(target: Target) -> Option<Control> {
    Some(Control::Interrupt(target))
}

#[test]
fn the_activity_and_since_when_are_known() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut console = Console::new(start);
    assert_eq!((console.activity(), console.may_send(9)), (Activity::Unserved, false));
    // Lines may be sent, and an interrupt names the first.
    assert_eq!(console.interrupt(), None);
    console.handle_sent(at(1));
    assert_eq!(
        (console.activity(), console.interrupt()),
        (Activity::Unserved, interrupt(Target::Message(1)))
    );

    console.handle_status(Status::Idle(0), at(2)).unwrap();
    assert_eq!((console.activity(), console.since(), console.unread()), (Activity::Sent, at(2), 1));
    console.handle_status(Status::Busy(1), at(3)).unwrap();
    console.handle_status(Status::Busy(1), at(4)).unwrap();
    assert_eq!((console.activity(), console.since()), (Activity::Busy, at(3)));
    console.handle_status(Status::Waiting(1), at(5)).unwrap();
    assert_eq!((console.activity(), console.since()), (Activity::Waiting, at(5)));
    // The answer belongs to what runs.
    console.handle_sent(at(6));
    assert_eq!((console.activity(), console.interrupt()), (Activity::Sent, interrupt(Target::Message(1))));
    console.handle_status(Status::Hung(2), at(7)).unwrap();
    assert_eq!((console.activity(), console.interrupt()), (Activity::Hung, interrupt(Target::Message(1))));
    console.handle_status(Status::Failed(2), at(8)).unwrap();
    assert_eq!((console.activity(), console.is_over(2)), (Activity::Hung, false));
    console.handle_status(Status::Idle(2), at(9)).unwrap();
    assert!(console.is_over(2) && console.is_settled() && console.since() == at(9));

    console.handle_link_lost(at(10));
    console.handle_link_lost(at(11));
    assert_eq!((console.link_lost_since(), console.may_ask()), (Some(at(10)), false));
    console.handle_link_back();
    assert_eq!((console.link_lost_since(), console.may_ask()), (None, true));
    console.handle_over(at(12));
    assert_eq!((console.activity(), console.interrupt(), console.may_send(9)), (Activity::Over, None, false));
}

#[test]
fn the_next_line_of_a_script_goes_when_few_enough_are_before_the_kernel() {
    let now = Instant::now();
    let mut console = Console::new(now);
    console.handle_status(Status::Idle(0), now).unwrap();
    let mut sent = 0;
    while console.may_send(3) {
        console.handle_sent(now);
        sent += 1;
    }
    // Three before it, and one that it is about to read.
    assert_eq!(sent, 4);
    console.handle_status(Status::Busy(1), now).unwrap();
    assert!(!console.may_send(3) && console.may_send(4));
    console.handle_status(Status::Busy(2), now).unwrap();
    assert!(console.may_send(3) && !console.may_send(0));
}

#[test]
fn what_a_kernel_makes_up_is_refused_and_changes_nothing() {
    let now = Instant::now();
    let mut console = Console::new(now);
    console.handle_sent(now);
    console.handle_sent(now);
    console.handle_status(Status::Busy(2), now).unwrap();
    for nonsense in [Status::Idle(3), Status::Idle(u64::MAX), Status::Idle(1), Status::Waiting(0)] {
        let error = console.handle_status(nonsense.clone(), now).unwrap_err();
        assert_eq!(error.status, nonsense);
        assert_eq!((console.activity(), console.read(), console.is_over(1)), (Activity::Busy, 2, false));
    }
    console.handle_status(Status::Exited(3), now).unwrap();
    assert!(console.handle_status(Status::Idle(2), now).is_err());
    assert_eq!(console.activity(), Activity::Over);
}

#[test]
fn a_program_without_a_status_is_known_to_wait() {
    let now = Instant::now();
    let mut console = Console::new(now);
    console.handle_waiting(true, 0, now);
    assert_eq!((console.activity(), console.interrupt()), (Activity::Waiting, interrupt(Target::Running)));
    // An answer that is on its way closes the prompt, and the program's next read opens it.
    console.handle_sent(now);
    console.handle_waiting(true, 0, now);
    assert_eq!(console.activity(), Activity::Unserved);
    console.handle_waiting(true, 1, now);
    assert_eq!(console.activity(), Activity::Waiting);
}

// -- Before a hub ----------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Op {
    /// A console sends a message.
    Send(usize),
    /// The hub passes on the owner's next message.
    Pass,
    /// The hub gives the input to the other one; what the old owner had sent is refused.
    Take,
    /// The kernel reads a message, and runs it.
    Read,
    /// The kernel is done.
    Idle,
    /// A console hears so many of the things that were said to it.
    Hear(usize, u8),
}

#[derive(Clone, Debug)]
enum Heard {
    Status(Status),
    Roster(Roster),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..2_usize).prop_map(Op::Send),
        5 => Just(Op::Pass),
        1 => Just(Op::Take),
        4 => Just(Op::Read),
        4 => Just(Op::Idle),
        3 => (0..2_usize, 1..5_u8).prop_map(|(console, count)| Op::Hear(console, count)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each console knows which of its own messages were read, are over or were refused, and names its own in an
    /// interrupt, and another's by the kernel's number.
    #[test]
    fn two_consoles_before_a_hub_know_their_own_lines(ops in prop::collection::vec(op(), 1..100)) {
        let now = Instant::now();
        let mut consoles = [Console::new(now), Console::new(now)];
        let mut unpassed: [VecDeque<u64>; 2] = Default::default();
        let mut unheard: [VecDeque<Heard>; 2] = Default::default();
        // What was passed on: by whom, and its own number. And what was refused.
        let (mut passed, mut refused): (Vec<(usize, u64)>, [Vec<u64>; 2]) = (Vec::new(), Default::default());
        let (mut owner, mut stretch, mut read, mut last) = (0, false, 0, Status::Idle(0));
        for unheard in &mut unheard {
            unheard.push_back(Heard::Roster(Roster { you: Some(1), ..Roster::default() }));
            unheard.push_back(Heard::Status(last.clone()));
        }
        let hear = |console: &mut Console, heard| match heard {
            Heard::Status(status) => console.handle_status(status, now).unwrap(),
            Heard::Roster(roster) => console.handle_roster(&roster, now),
        };
        let is_loss = |heard: &Heard| matches!(heard, Heard::Roster(Roster { lost: Some(_), .. }));
        let last_passed = |passed: &[(usize, u64)], of: usize| {
            passed.iter().rev().find(|line| line.0 == of).map_or(0, |line| line.1)
        };
        let settle = [Op::Hear(0, u8::MAX), Op::Hear(1, u8::MAX)];
        for op in ops.iter().chain(&settle) {
            match *op {
                Op::Send(from) => {
                    let number = consoles[from].handle_sent(now);
                    let stopped = unheard[from].iter().any(is_loss);
                    if from == owner && !stopped {
                        unpassed[from].push_back(number);
                        continue;
                    }
                    refused[from].push(number);
                    // Or it belongs to a run that is stopped already: the console will hear of that.
                    if !stopped {
                        let lost = Some(Lost { last_passed: last_passed(&passed, from) });
                        unheard[from].push_back(Heard::Roster(Roster { lost, ..Roster::default() }));
                    }
                }
                Op::Pass => if let Some(own) = unpassed[owner].pop_front() {
                    passed.push((owner, own));
                    if !std::mem::replace(&mut stretch, true) {
                        let line = Some(Line { own, input: passed.len() as u64 });
                        unheard[owner].push_back(Heard::Roster(Roster { line, ..Roster::default() }));
                    }
                }
                Op::Take => {
                    refused[owner].extend(unpassed[owner].drain(..));
                    let lost = Some(Lost { last_passed: last_passed(&passed, owner) });
                    unheard[owner].push_back(Heard::Roster(Roster { lost, ..Roster::default() }));
                    (owner, stretch) = (1 - owner, false);
                }
                Op::Read if matches!(last, Status::Idle(_)) && read < passed.len() as u64 => {
                    read += 1;
                    last = Status::Busy(read);
                    unheard.iter_mut().for_each(|unheard| unheard.push_back(Heard::Status(last.clone())));
                }
                Op::Idle if matches!(last, Status::Busy(_)) => {
                    last = Status::Idle(read);
                    unheard.iter_mut().for_each(|unheard| unheard.push_back(Heard::Status(last.clone())));
                }
                Op::Read | Op::Idle => {}
                Op::Hear(to, count) => for _ in 0..count {
                    let Some(heard) = unheard[to].pop_front() else { break };
                    hear(&mut consoles[to], heard);
                }
            }
            for console in &consoles {
                prop_assert!(console.read() <= console.sent() && console.unread() <= console.sent());
            }
        }
        for (at, console) in consoles.iter().enumerate() {
            // Hearing up to 255 things may leave some: only who has heard everything knows everything.
            prop_assume!(unheard[at].is_empty());
            let own = passed[..read as usize].iter().rev().find(|line| line.0 == at).map_or(0, |line| line.1);
            prop_assert_eq!(console.read(), own, "{:?}", console);
            let is_idle = matches!(last, Status::Idle(_));
            for &(of, own) in passed.iter().filter(|line| line.0 == at) {
                let input = passed.iter().position(|line| *line == (of, own)).unwrap() as u64 + 1;
                let over = input < read || (input == read && is_idle);
                prop_assert_eq!(console.is_over(own), over, "{}: {:?}", own, console);
            }
            for own in &refused[at] {
                prop_assert!(console.is_over(*own), "{own} was refused: {console:?}");
            }
            let waits = passed.iter().skip(read as usize).filter(|line| line.0 == at).count() + unpassed[at].len();
            prop_assert_eq!(console.unread(), waits as u64, "{:?}", console);
            if !is_idle {
                let (of, own) = passed[read as usize - 1];
                let target = if of == at { Target::Own(own) } else { Target::Message(read) };
                prop_assert_eq!(console.interrupt(), interrupt(target));
            }
        }
    }
}
