//! Section 3: flow control.

use std::thread;
use std::time::Duration;

use trunkline::{RecvError, RecvTimeoutError};

use super::library::*;
use crate::support::wire::*;

#[test]
fn nothing_arrives_before_the_first_credit_when_the_window_is_0() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client().window(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let sender = connection.sender(channel(1)).unwrap();
            sender.send(&b"hello"[..]).unwrap();
            sender.send(&b""[..]).unwrap();
        });
        peer.expect_silence(1, Duration::from_millis(150));
        // Less than a frame costs is nothing; other channels' credit is not this one's.
        peer.grant(1, 31);
        peer.grant(2, 10_000);
        peer.expect_silence(1, Duration::from_millis(100));
        peer.grant(1, 6);
        assert_eq!(peer.expect_message(1), b"hello");
        peer.grant(1, 31);
        peer.expect_silence(1, Duration::from_millis(100));
        peer.grant(1, 1);
        assert_eq!(peer.expect_message(1), b"");
    });
}

#[test]
fn credit_for_no_byte_of_a_message_carries_none() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client().window(0));
    thread::scope(|scope| {
        scope.spawn(|| connection.sender(channel(1)).unwrap().send(&b"abc"[..]).unwrap());
        peer.grant(1, 32);
        peer.expect_none(Duration::from_millis(150), |event| matches!(event, Event::Message(..)));
        assert_eq!(peer.data_frames, 0, "an empty fragment that brings nothing forward");
        peer.grant(1, 3);
        assert_eq!(peer.expect_message(1), b"abc");
    });
}

/// The raw peer keeps the receiver's account, and its books fail every read of a frame that costs
/// more than was granted.
#[test]
fn a_sender_gets_everything_through_windows_of_any_size() {
    let server = Server::start(|config| config);
    for window in [64, 65, 100, 1000, 65_567, 65_568] {
        let (mut peer, connection) = server.pair(server.client().window(window));
        peer.auto_credit = true;
        let mut noise = Noise(u64::from(window));
        let sizes = [0, 1, 10, 0, 40, 200, if window < 1000 { 300 } else { 150_000 }];
        let messages = sizes.map(|len| noise.bytes(len));
        thread::scope(|scope| {
            scope.spawn(|| {
                let sender = connection.sender(channel(1)).unwrap();
                for message in &messages {
                    sender.send(message).unwrap();
                }
                sender.finish().unwrap();
            });
            for message in &messages {
                assert!(peer.expect_message(1) == *message, "window {window}, {} bytes", message.len());
            }
            peer.expect_next(Event::Finish(1));
        });
    }
}

/// "A sender with little credit sends smaller fragments, at the latest when its credit exceeds half
/// the window, so that it never waits for credit that the rule below does not send yet."
#[test]
fn a_sender_uses_credit_of_more_than_half_a_window() {
    let server = Server::start(|config| config);
    for (window, len) in [(64, 300), (1000, 5000), (65_568, 300_000), (400_000, 2_000_000)] {
        let (mut peer, connection) = server.pair(server.client().window(window));
        let message = Noise(7).bytes(len);
        let half = i64::from(window / 2);
        thread::scope(|scope| {
            scope.spawn(|| connection.sender(channel(1)).unwrap().send(&message).unwrap());
            let mut received = Vec::new();
            loop {
                match peer.read_frame(PATIENCE) {
                    Ok(Frame::Data { channel: 1, more, payload }) => {
                        received.extend_from_slice(&payload);
                        if !more {
                            break;
                        }
                    }
                    Ok(Frame::Ping(_) | Frame::Ack(_)) => continue,
                    other => panic!("window {window}, {} bytes: {other:?}", received.len()),
                }
                // One byte more than half the window, and no more until it has been used.
                if peer.receive_credit[1] <= half {
                    let short = half + 1 - peer.receive_credit[1];
                    peer.grant(1, short as u32);
                }
            }
            assert!(received == message, "window {window}");
        });
    }
}

/// "It owes `window − held − outstanding` and sends it with CREDIT when it is at least half a
/// window": here nothing else is outstanding, so it is exactly what was taken.
#[test]
fn credit_comes_back_when_half_a_window_has_been_taken() {
    const WINDOW: u32 = 8192;
    let server = Server::start(|config| config.window(WINDOW));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(6)).unwrap();
    let credit = |event: &Event| matches!(event, Event::Credit(6, _));
    let soon = Duration::from_millis(30);
    for round in 0..4 {
        // 32 + 96 = 128: a window of 64, half of it 32.
        while peer.send_credit[6] >= 128 {
            peer.send_data(6, false, &[round; 96]);
        }
        peer.expect_alive();
        assert!(peer.wait_for(soon, credit).is_err(), "credit for what nobody has taken");
        for _ in 0..31 {
            assert_eq!(take(&receiver), [round; 96]);
        }
        peer.expect_alive();
        assert!(peer.wait_for(soon, credit).is_err(), "credit for less than half a window");
        for half in ["one half", "the other"] {
            assert_eq!(take(&receiver), [round; 96]);
            let paid = peer.wait_for(PATIENCE, credit).expect(half);
            assert_eq!(paid, Event::Credit(6, WINDOW / 2), "{half}");
            if half == "one half" {
                for _ in 0..31 {
                    assert_eq!(take(&receiver), [round; 96]);
                }
            }
        }
        assert_eq!(peer.send_credit[6], i64::from(WINDOW));
    }
}

/// "The assembly is not subtracted", and a message that is held counts its length + 32, in however
/// many fragments it came: fragment by fragment, to the byte.
#[test]
fn the_account_is_kept_to_the_byte() {
    let server = Server::start(|config| config.window(1024));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    let credit = |event: &Event| matches!(event, Event::Credit(1, _));
    // 16 fragments that cost 64 each: at the 8th half a window is owed.
    for n in 1..=16 {
        peer.send_data(1, n < 16, &[n; 32]);
        peer.expect_alive();
        if n == 8 {
            let paid = peer.wait_for(PATIENCE, credit).expect("credit for an assembly");
            assert_eq!(paid, Event::Credit(1, 512));
        }
    }
    // 544 are held, 512 outstanding: 32 more than the window, so nothing is owed.
    assert_eq!(peer.send_credit[1], 512);
    peer.expect_none(Duration::from_millis(50), credit);
    assert_eq!(take(&receiver).len(), 512);
    let paid = peer.wait_for(PATIENCE, credit).expect("credit for what was taken");
    assert_eq!(paid, Event::Credit(1, 512));
    assert_eq!(peer.send_credit[1], 1024);
}

/// Whatever is sent in whatever pieces, and whenever it is taken: in the end less than half a window
/// is owed, and never more than nothing.
#[test]
fn the_account_holds_for_any_fragments() {
    const WINDOW: i64 = 3000;
    let server = Server::start(|config| config.window(WINDOW as u32).max_message(2000));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    let mut noise = Noise(11);
    let (mut held, mut assembly) = (std::collections::VecDeque::new(), 0);
    for step in 0..400 {
        let len = [0, 1, 2, 40, 400][noise.below(5)];
        let fits = peer.send_credit[1] >= len + 32 && assembly + len <= 2000;
        if fits && noise.below(3) > 0 {
            let more = len > 0 && noise.below(3) > 0;
            peer.send_data(1, more, &vec![3; len as usize]);
            assembly += len;
            if !more {
                held.push_back(assembly);
                assembly = 0;
            }
        } else if let Some(len) = held.pop_front() {
            assert_eq!(take(&receiver).len() as i64, len);
        }
        // What is owed comes.
        loop {
            let waits: i64 = held.iter().map(|len| len + 32).sum();
            let owed = WINDOW - waits - peer.send_credit[1];
            assert!(owed >= -(2000 + 32), "step {step}: {owed}, more than the bound");
            if 2 * owed < WINDOW {
                break;
            }
            peer.wait_for(PATIENCE, |event| matches!(event, Event::Credit(1, _)))
                .unwrap_or_else(|error| panic!("step {step}: {owed} owed, {error}"));
        }
    }
    peer.expect_alive();
}

#[test]
fn credit_in_hand_never_exceeds_the_window() {
    let server = Server::echo(|config| config.window(20_000));
    let mut peer = server.connect();
    peer.auto_credit = true;
    let mut noise = Noise(9);
    for _ in 0..200 {
        let len = [0, 1, 100, 5000, 19_968, 60_000][noise.below(6)];
        peer.send_message(1, &vec![1; len]).unwrap();
        assert_eq!(peer.expect_message(1).len(), len);
        assert!(peer.send_credit[1] <= 20_000, "{} with a window of 20000", peer.send_credit[1]);
    }
}

#[test]
fn a_message_larger_than_the_window_gets_through() {
    let server = Server::start(|config| config.window(5000).max_message(1_000_000));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    let message = Noise(4).bytes(1_000_000);
    // The application takes nothing meanwhile: only fragments of the incomplete message can be
    // credited back.
    peer.send_message(1, &message).unwrap();
    assert!(peer.send_credit[1] <= 5000);
    assert!(take(&receiver) == message);
}

#[test]
fn a_part_that_was_reset_has_been_credited_back() {
    let server = Server::start(|config| config.window(4096));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    for _ in 0..50 {
        while peer.send_credit[1] < 1032 {
            peer.wait_for(PATIENCE, |event| matches!(event, Event::Credit(1, _))).expect("credit");
        }
        peer.send_data(1, true, &[0; 1000]);
        peer.send_bytes(&reset(1, 3)).unwrap();
    }
    peer.send_message(1, &[1; 4096]).unwrap();
    // Ends of runs in which nothing was delivered may be told as one.
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(message) => break assert_eq!(&message[..], [1; 4096]),
            Err(RecvTimeoutError::Disconnected(RecvError::Reset { code: 3, .. })) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn credit_outlives_the_runs_of_a_channel() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client().window(100));
    for _ in 0..3 {
        let sender = connection.sender(channel(1)).unwrap();
        sender.send(&[7; 68][..]).unwrap(); // the whole window
        sender.finish().unwrap();
        assert_eq!(peer.expect_message(1), [7; 68]);
        peer.expect_next(Event::Finish(1));
        // A new run starts with what is left: nothing.
        thread::scope(|scope| {
            scope.spawn(|| {
                let sender = connection.sender(channel(1)).unwrap();
                sender.send(&b""[..]).unwrap();
                sender.finish().unwrap();
            });
            peer.expect_silence(1, Duration::from_millis(50));
            peer.grant(1, 51);
            assert_eq!(peer.expect_message(1), b"");
            peer.expect_next(Event::Finish(1));
        });
        peer.grant(1, 81);
    }
}

#[test]
fn a_channel_without_credit_holds_up_no_other() {
    let server = Server::echo(|config| config.window(2000).send_queue(8192));
    let mut peer = server.client().window(0).finish().unwrap();
    // The echo of channel 1 is stuck; send until no more credit comes.
    let mut taken = 0;
    loop {
        while peer.send_credit[1] >= 132 {
            peer.send_data(1, false, &[0; 100]);
            taken += 1;
        }
        assert!(taken < 1000, "the window does not bound what the server takes");
        if peer.wait_for(Duration::from_millis(100), |event| matches!(event, Event::Credit(1, _))).is_err() {
            break;
        }
    }
    peer.grant(2, 10_000);
    for n in 0..20 {
        peer.send_message(2, &[n]).unwrap();
        assert_eq!(peer.expect_message(2), [n]);
    }
    peer.expect_alive();
}
