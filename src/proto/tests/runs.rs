//! Runs: how they end, and which side stops them.

use super::*;
use crate::proto::credit::Credit;

const CHANNEL: ChannelId = ChannelId::new(3);

fn stop(pair: &mut Pair, code: u32, run: u32) {
    pair.peers[1].wishes.stops.push(Stop { channel: CHANNEL, code, run });
    pair.peers[1].pump(pair.now);
    while pair.arrive(1, 1000, false) {}
    pair.peers[0].pump(pair.now);
}

fn arrive(pair: &mut Pair) {
    pair.peers[0].pump(pair.now);
    while pair.arrive(0, 1000, false) {}
    pair.peers[1].pump(pair.now);
    pair.peers[1].read(CHANNEL, usize::MAX);
}

#[test]
fn a_stop_ends_the_run_with_a_reset_and_the_next_run_works() {
    let mut pair = Pair::new([5000; 2], 100_000);
    pair.peers[0].send(CHANNEL, vec![1; 50_000], false);
    arrive(&mut pair);
    stop(&mut pair, 77, 0);
    let (place, generation) = pair.peers[0].senders.remove(&CHANNEL).unwrap();
    let again = pair.peers[0].outbound.offer(place, generation, Payload::Slice(b"x"), false, &mut Fresh);
    assert_eq!(again, Err(Refused::Stopped(77)));
    arrive(&mut pair);
    assert_eq!(pair.peers[1].read[&CHANNEL], [Got::End(End::Reset(77))], "no part of the message");
    pair.peers[0].accepted.clear();
    pair.peers[1].read.clear();
    pair.pump();
    while pair.arrive(1, 1000, false) {}
    pair.pump();
    assert!(pair.peers[0].send(CHANNEL, b"next".to_vec(), false));
    pair.settle();
}

#[test]
fn a_stop_of_an_ended_run_hits_no_later_one() {
    let mut pair = Pair::new([5000; 2], 100_000);
    pair.peers[0].send(CHANNEL, b"first".to_vec(), false);
    pair.peers[0].finish(CHANNEL);
    pair.peers[0].send(CHANNEL, b"second".to_vec(), false);
    stop(&mut pair, 5, 0);
    pair.peers[0].send(CHANNEL, b"third".to_vec(), false);
    pair.settle();
}

#[test]
fn a_stop_of_a_run_that_has_not_begun_resets_it_before_its_next_data() {
    let mut pair = Pair::new([5000; 2], 100_000);
    let (place, generation) = pair.peers[0].sender(CHANNEL);
    stop(&mut pair, 9, 0);
    assert!(pair.peers[0].wire.is_empty(), "nothing is said before there is data");
    let refused = pair.peers[0].outbound.offer(place, generation, Payload::Slice(b"x"), false, &mut Fresh);
    assert_eq!(refused, Err(Refused::Stopped(9)));
    pair.peers[0].senders.clear();
    assert!(pair.peers[0].send(CHANNEL, b"next".to_vec(), false));
    // A second STOP of the same run says nothing.
    stop(&mut pair, 9, 0);
    arrive(&mut pair);
    assert_eq!(pair.peers[1].read[&CHANNEL], [Got::End(End::Reset(9)), Got::Message(b"next".to_vec())]);
}

/// A run that its senders have finished, and that waits for credit, is stopped without them.
#[test]
fn a_stop_of_a_run_that_waits_with_its_end_leaves_the_senders_alone() {
    let mut pair = Pair::new([1000; 2], 100_000);
    pair.peers[0].send(CHANNEL, vec![1; 50_000], false);
    pair.peers[0].finish(CHANNEL);
    arrive(&mut pair);
    let (place, generation) = pair.peers[0].senders[&CHANNEL];
    stop(&mut pair, 4, 0);
    assert_eq!(pair.peers[0].outbound.stopped(place, generation), None);
    arrive(&mut pair);
    assert_eq!(pair.peers[1].read[&CHANNEL], [Got::End(End::Reset(4))]);
    pair.peers[1].pump(pair.now);
    while pair.arrive(1, 1000, false) {}
    pair.peers[0].pump(pair.now);
    assert!(pair.peers[0].send(CHANNEL, b"next".to_vec(), false));
    arrive(&mut pair);
    assert_eq!(pair.peers[1].read[&CHANNEL][1..], [Got::Message(b"next".to_vec())]);
}

#[test]
fn a_stop_that_was_not_sent_when_its_run_ends_is_withdrawn() {
    let mut pair = Pair::new([5000; 2], 100_000);
    pair.peers[0].send(CHANNEL, b"all".to_vec(), false);
    pair.peers[0].finish(CHANNEL);
    pair.peers[1].wishes.stops.push(Stop { channel: CHANNEL, code: 1, run: 0 });
    pair.peers[1].exchange(pair.now, Room::None);
    pair.peers[0].pump(pair.now);
    while pair.arrive(0, 1000, false) {}
    pair.peers[1].pump(pair.now);
    assert!(pair.peers[1].wire.is_empty(), "{:?}", pair.peers[1].wire);
}

#[test]
fn a_reset_drops_what_waits_and_its_credit_is_free() {
    let mut pair = Pair::new([1000; 2], 100_000);
    pair.peers[0].send(CHANNEL, vec![1; 50_000], false);
    let (place, generation) = pair.peers[0].senders[&CHANNEL];
    let room = pair.peers[0].outbound.end(place, generation, End::Reset(8), &mut Fresh);
    assert_eq!(room, Ok(true), "senders that wait hear of it");
    arrive(&mut pair);
    assert_eq!(pair.peers[1].read[&CHANNEL], [Got::End(End::Reset(8))]);
}

#[test]
fn gaps_stand_at_their_place_and_neighbours_are_one() {
    let mut pair = Pair::new([2000; 2], 100_000);
    let (place, generation) = pair.peers[0].sender(CHANNEL);
    let gap = |pair: &mut Pair, messages, bytes| {
        pair.peers[0].outbound.gap(place, generation, messages, bytes).unwrap();
    };
    gap(&mut pair, 1, 10);
    gap(&mut pair, 2, u64::MAX);
    pair.peers[0].send(CHANNEL, b"a".to_vec(), false);
    gap(&mut pair, 3, 30);
    // A message that waits for credit, and gaps behind it.
    pair.peers[0].send(CHANNEL, vec![7; 5000], false);
    gap(&mut pair, 4, 40);
    gap(&mut pair, 5, 50);
    pair.peers[0].finish(CHANNEL);
    gap(&mut pair, 6, 60);
    for _ in 0..100 {
        arrive(&mut pair);
        while pair.arrive(1, 1000, false) {}
    }
    let expected = [
        Got::Gap(3, u64::MAX),
        Got::Message(b"a".to_vec()),
        Got::Gap(3, 30),
        Got::Message(vec![7; 5000]),
        Got::Gap(9, 90),
        Got::End(End::Finish),
        Got::Gap(6, 60),
    ];
    assert_eq!(pair.peers[1].read[&CHANNEL], expected);
}

/// Senders that come and go without a word, and say what they left out, while nothing goes out: the
/// socket is full, a message waits for credit, or the peer is not there yet. Each of the first is
/// told; the others are merged, and the last end is told as it is.
#[test]
fn empty_runs_that_cannot_go_out_do_not_pile_up() {
    const RUNS: u32 = 10_000;
    for waits in ["for the socket", "for credit", "for the peer"] {
        let mut pair = Pair::new([1000; 2], 100_000);
        if waits == "for the peer" {
            let credit = Credit::new(1000).unwrap();
            pair.peers[0].outbound = Outbound::unmet(credit, 100_000, 1 << 20);
        }
        let large = vec![1; 5000];
        if waits == "for credit" {
            assert!(pair.peers[0].send(CHANNEL, large.clone(), false));
            let (place, generation) = pair.peers[0].senders.remove(&CHANNEL).unwrap();
            pair.peers[0].outbound.release(place, generation, End::Finish, &mut Fresh);
        }
        let ends = [End::Finish, End::Reset(7)];
        for n in 0..RUNS {
            let outbound = &mut pair.peers[0].outbound;
            let (place, generation) = outbound.claim(CHANNEL, None).unwrap();
            outbound.gap(place, generation, 1, 2).unwrap();
            let end = if n == RUNS - 1 { End::Reset(8) } else { ends[n as usize % 2] };
            outbound.release(place, generation, end, &mut Fresh);
        }
        if waits == "for the peer" {
            let credit = Credit::new(1000).unwrap();
            pair.peers[0].outbound.meet(ChannelSet::ALL, credit, 100_000, &mut Fresh).unwrap();
        }
        assert!(pair.peers[0].outbound.queued() < 2000, "{waits}");
        for _ in 0..100 {
            arrive(&mut pair);
            while pair.arrive(1, 1000, false) {}
        }
        let mut read = pair.peers[1].read[&CHANNEL].clone();
        if waits == "for credit" {
            assert_eq!(read.drain(..2).collect::<Vec<_>>(), [Got::Message(large), Got::End(End::Finish)]);
        }
        assert!((16..40).contains(&read.len()), "{waits}: {}", read.len());
        assert_eq!(read[..2], [Got::Gap(1, 2), Got::End(End::Finish)], "{waits}");
        assert_eq!(read.last(), Some(&Got::End(End::Reset(8))), "{waits}");
        let left_out = read.iter().map(|got| if let Got::Gap(messages, _) = got { *messages } else { 0 });
        assert_eq!(left_out.sum::<u64>(), RUNS.into(), "{waits}");
    }
}

/// Not one is merged while each goes out before the next.
#[test]
fn every_end_of_a_few_empty_runs_is_told() {
    let mut pair = Pair::new([1000; 2], 100_000);
    for _ in 0..10 {
        for _ in 0..16 {
            let (place, generation) = pair.peers[0].outbound.claim(CHANNEL, None).unwrap();
            pair.peers[0].outbound.release(place, generation, End::Finish, &mut Fresh);
        }
        arrive(&mut pair);
        pair.peers[1].pump(pair.now);
    }
    assert_eq!(pair.peers[1].read[&CHANNEL], vec![Got::End(End::Finish); 160]);
}
