//! Sections 2 and 4: frames, messages and runs that obey the page.

use trunkline::{Event as Happened, RecvError};

use super::library::*;
use crate::support::wire::*;

#[test]
fn messages_of_all_sizes_come_back() {
    let server = Server::echo(|config| config.window(100_000));
    let mut peer = server.connect();
    peer.auto_credit = true;
    let mut noise = Noise(1);
    for len in [0, 1, 2, 31, 32, 33, 1023, 4096, 65_535, 65_536, 65_537, 99_968, 99_969, 300_000] {
        let message = noise.bytes(len);
        peer.send_message(1, &message).unwrap();
        assert_eq!(peer.expect_message(1), message, "{len} bytes");
    }
}

#[test]
fn every_channel_carries_its_own_messages() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let receivers: Vec<_> = (0..128).map(|n| connection.receiver(channel(n)).unwrap()).collect();
    let senders: Vec<_> = (0..128).map(|n| connection.sender(channel(n)).unwrap()).collect();
    for n in (0..128).rev() {
        peer.send_data(n, false, &[n, 1, 2]);
    }
    for n in 0..128 {
        assert_eq!(take(&receivers[usize::from(n)]), [n, 1, 2]);
        senders[usize::from(n)].send(&[n, 3][..]).unwrap();
    }
    for n in 0..128 {
        assert_eq!(peer.expect_message(n), [n, 3]);
    }
}

/// "Frames of other channels and control frames of any channel may come between them."
#[test]
fn fragments_mix_with_frames_of_other_channels() {
    let server = Server::echo(|config| config);
    let mut peer = server.connect();
    let mut noise = Noise(2);
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for round in 0..50 {
        let (a, b) = (noise.below(40) + 1, noise.below(40) + 1);
        let (a, b) = (noise.bytes(a), noise.bytes(b));
        peer.send_data(1, round < 49, &a);
        peer.send_data(3, false, b"in between, read by nobody");
        peer.send_bytes(&waiting(1, 1, 0)).unwrap();
        peer.send_data(2, round < 49, &b);
        peer.send_bytes(&ack(0)).unwrap();
        peer.send_bytes(&control(1, 0x80 + round, &a)).unwrap();
        peer.send_bytes(&credit(1, 1)).unwrap();
        one.extend_from_slice(&a);
        two.extend_from_slice(&b);
    }
    assert_eq!(peer.expect_message(1), one);
    assert_eq!(peer.expect_message(2), two);
}

#[test]
fn frames_may_come_in_single_bytes() {
    let server = Server::echo(|config| config);
    let mut peer = server.connect();
    let frames =
        [data(1, true, b"sl"), ping(7), data(2, false, b""), data(1, true, b"o"), data(1, false, b"w")];
    for byte in frames.concat() {
        peer.send_bytes(&[byte]).unwrap();
    }
    peer.expect_pong(7);
    assert_eq!(peer.expect_message(2), b"");
    assert_eq!(peer.expect_message(1), b"slow");
}

/// "The last may be empty." And "Empty messages are legal."
#[test]
fn empty_messages_and_an_empty_last_fragment_are_legal() {
    let server = Server::echo(|config| config.window(4096));
    let mut peer = server.connect();
    peer.auto_credit = true;
    for _ in 0..1000 {
        peer.send_message(1, b"").unwrap();
    }
    for _ in 0..1000 {
        assert_eq!(peer.expect_message(1), b"");
    }
    peer.send_data(1, true, b"all of it");
    peer.send_data(1, false, b"");
    assert_eq!(peer.expect_message(1), b"all of it");
}

#[test]
fn finish_and_reset_end_a_run_and_the_next_one_works() {
    let server = Server::echo(|config| config);
    let mut peer = server.connect();
    for round in 0..5 {
        peer.send_data(1, false, b"before");
        peer.send_data(1, false, &[round]);
        peer.send_bytes(&finish(1)).unwrap();
        assert_eq!(peer.expect_message(1), b"before");
        assert_eq!(peer.expect_message(1), [round]);
        peer.expect_next(Event::Finish(1));

        peer.send_data(1, false, b"whole");
        assert_eq!(peer.expect_message(1), b"whole");
        peer.send_data(1, true, b"a part that nobody may see");
        peer.send_bytes(&reset(1, 4_000_000_000 + u32::from(round))).unwrap();
        peer.expect_next(Event::Reset(1, 4_000_000_000 + u32::from(round)));
    }
    // A run without a message.
    peer.send_bytes(&finish(2)).unwrap();
    peer.expect_next(Event::Finish(2));
    peer.send_data(2, false, b"next");
    assert_eq!(peer.expect_message(2), b"next");
}

#[test]
fn whole_messages_before_a_reset_stay_readable_and_a_part_is_dropped() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(5)).unwrap();
    peer.send_data(5, false, b"whole");
    peer.send_data(5, true, b"par");
    peer.send_data(5, true, b"t");
    peer.send_bytes(&reset(5, 42)).unwrap();
    peer.send_data(5, false, b"next run");
    peer.send_bytes(&finish(5)).unwrap();
    peer.send_data(5, false, b"third run");
    assert_eq!(take(&receiver), b"whole");
    assert_eq!(take_end(&receiver), RecvError::Reset { channel: channel(5), code: 42 });
    assert_eq!(take(&receiver), b"next run");
    assert_eq!(take_end(&receiver), RecvError::Finished);
    assert_eq!(take(&receiver), b"third run");
}

/// "The two directions of a channel number are independent."
#[test]
fn the_end_of_one_direction_is_none_of_the_other() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let (sender, receiver) =
        (connection.sender(channel(1)).unwrap(), connection.receiver(channel(1)).unwrap());
    sender.send("first").unwrap();
    assert_eq!(peer.expect_message(1), b"first");
    peer.send_bytes(&finish(1)).unwrap();
    assert_eq!(take_end(&receiver), RecvError::Finished);
    sender.send("second, of the same run").unwrap();
    assert_eq!(peer.expect_message(1), b"second, of the same run");
    sender.finish().unwrap();
    peer.expect_next(Event::Finish(1));
    peer.send_data(1, false, b"the next run");
    assert_eq!(take(&receiver), b"the next run");
}

/// "Answer with PONG and the same number … a repeated number too."
#[test]
fn ping_is_answered_with_the_same_number_and_a_repeated_one_too() {
    let server = Server::start(|config| config);
    let mut peer = server.connect();
    for number in [0, 0, 1, 0, u64::MAX, u64::MAX, 0x0102_0304_0506_0708] {
        peer.send_bytes(&ping(number)).unwrap();
        peer.expect_pong(number);
    }
}

#[test]
fn extensions_are_ignored_whatever_they_hold() {
    let server = Server::echo(|config| config);
    let mut peer = server.connect();
    let mut noise = Noise(3);
    for opcode in 0x80..=0xFF {
        for len in [0, 1, 4, 8, 16, 257, MAX_CONTROL - 1] {
            let body = noise.bytes(len);
            peer.send_bytes(&control(opcode & 0x7F, opcode, &body)).unwrap();
        }
    }
    peer.expect_alive();
    peer.send_data(1, false, b"after");
    assert_eq!(peer.expect_message(1), b"after");
}

#[test]
fn every_legal_frame_is_accepted() {
    let server = Server::echo(|config| config);
    let mut peer = server.connect();
    let legal = [
        ("WAITING 1", waiting(127, 1, 0)),
        ("WAITING 1 again", waiting(127, 1, 0)),
        ("WAITING 0", waiting(127, 0, u32::MAX)),
        ("WAITING 0 on an idle channel", waiting(9, 0, 0)),
        ("ACK 0", ack(0)),
        ("the same ACK again", ack(0)),
        ("an ACK that goes back", [ack(13), ack(5)].concat()),
        ("a PONG that was not asked for", pong(5)),
        ("GAP", gap(1, 3, 300)),
        ("GAP of the largest numbers", gap(1, u64::MAX, u64::MAX)),
        ("GAP again, whose sum overflows", gap(1, u64::MAX, u64::MAX)),
        ("GAP of nothing", gap(1, 0, 0)),
        ("FINISH on an idle channel", finish(7)),
        ("FINISH twice", [finish(7), finish(7)].concat()),
        ("RESET on an idle channel", reset(8, u32::MAX)),
        ("RESET after FINISH", [finish(8), reset(8, 1)].concat()),
        ("STOP on an idle channel", stop(9, 0, 0)),
        ("STOP of a run that is long over, or to come", [stop(9, 0, u32::MAX), stop(9, 0, 7)].concat()),
        ("CREDIT", credit(1, 1)),
        ("CREDIT 0", credit(1, 0)),
        ("INTERRUPT of one who may", interrupt()),
        ("an extension without a body", control(0, 0x80, b"")),
        ("an extension on a channel", control(77, 0xFF, b"")),
    ];
    for (what, frame) in legal {
        peer.send_bytes(&frame).unwrap();
        let number = u64::from_be_bytes(random());
        peer.send_bytes(&ping(number)).unwrap();
        let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Pong(_) | Event::Close(..)));
        assert_eq!(event.expect(what), Event::Pong(number), "{what}");
    }
    peer.send_data(1, false, b"and it works");
    assert_eq!(peer.expect_message(1), b"and it works");
}

/// "Those that were not handled yet merge into one."
#[test]
fn interrupts_that_nobody_has_handled_merge() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let events = connection.events();
    for _ in 0..3 {
        peer.send_bytes(&interrupt().repeat(1000)).unwrap();
        peer.expect_alive();
        assert_eq!(events.recv_timeout(PATIENCE), Ok(Happened::Interrupt));
        assert_eq!(events.try_iter().count(), 0);
    }
    // The server always may, and says it once each time.
    connection.interrupt().unwrap();
    let event = peer.wait_for(PATIENCE, |event| matches!(event, Event::Interrupt | Event::Close(..)));
    assert_eq!(event.unwrap(), Event::Interrupt);
}

/// "Reading never waits for writing": a peer that reads nothing is heard all the same.
#[test]
fn a_peer_that_reads_nothing_is_heard() {
    let server = Server::start(|config| config.send_queue(64 << 20).replay_limit(64 << 20));
    let (mut peer, connection) = server.pair(server.client().window(1 << 30));
    let sender = connection.sender(channel(1)).unwrap();
    // More than both systems keep for a peer that does not read.
    for _ in 0..40 << 4 {
        sender.send(&[0; 64 << 10][..]).unwrap();
    }
    let receiver = connection.receiver(channel(1)).unwrap();
    for n in 0..100 {
        peer.send_data(1, false, &[n; 5000]);
        assert_eq!(take(&receiver), [n; 5000]);
    }
    drop(peer);
}
