//! Section 4: runs, their numbers, and STOP.

use std::thread;
use std::time::Duration;

use trunkline::{Disconnect, Receiver, RecvError, SendError, Sender};

use super::library::*;
use crate::support::wire::*;

#[track_caller]
fn assert_stopped(sender: &Sender, code: u32) {
    match sender.send("nobody wants it") {
        Err(SendError::Disconnected { cause: Disconnect::Stopped(told), .. }) => assert_eq!(told, code),
        other => panic!("wanted a send that was stopped with {code}, got {other:?}"),
    }
}

// ---------------------------------------------------------------------------
// STOP that the library hears

/// "A STOP that fits obliges: the sender fails its application's sends, drops what can still be
/// withdrawn, and ends the run with RESET and the STOP's code, at once if the run has begun."
#[test]
fn stop_wakes_a_blocked_sender_and_is_answered_by_reset_with_its_code() {
    let server = Server::start(|config| config.send_queue(4096));
    let (mut peer, connection) = server.pair(server.client().window(100));
    thread::scope(|scope| {
        let blocked = scope.spawn(|| {
            let sender = connection.sender(channel(1)).unwrap();
            while sender.send(&[0; 18][..]).is_ok() {}
            assert_stopped(&sender, 77);
        });
        assert_eq!(peer.expect_message(1), [0; 18]);
        assert_eq!(peer.expect_message(1), [0; 18]);
        // Without credit for what waits: it is withdrawn.
        peer.stop(1, 77);
        peer.expect_next(Event::Reset(1, 77));
        blocked.join().unwrap();
    });
    peer.expect_silence(1, Duration::from_millis(30));
    // The next run works.
    peer.grant(1, 1000);
    connection.sender(channel(1)).unwrap().send(&b"again"[..]).unwrap();
    assert_eq!(peer.expect_message(1), b"again");
}

#[test]
fn a_stop_in_the_middle_of_a_message_ends_the_run_there() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client().window(1000));
    let sender = connection.sender(channel(1)).unwrap();
    sender.send(&[1; 5000][..]).unwrap();
    while peer.data_frames == 0 {
        peer.read_frame(PATIENCE).expect("the first fragment");
    }
    peer.stop(1, 5);
    peer.expect_next(Event::Reset(1, 5));
    assert_stopped(&sender, 5);
    peer.grant(1, 10_000);
    peer.expect_silence(1, Duration::from_millis(50));
}

/// "Else before its next data frame on the channel": a run that has not begun is ended by the STOP
/// that names it.
#[test]
fn a_stop_of_a_run_that_has_not_begun_ends_it_before_the_next_data() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let stopped = connection.sender(channel(1)).unwrap();
    peer.stop(1, 9);
    peer.expect_alive();
    assert_stopped(&stopped, 9);
    drop(stopped);
    connection.sender(channel(1)).unwrap().send("the next run").unwrap();
    peer.expect_next(Event::Reset(1, 9));
    assert_eq!(peer.expect_message(1), b"the next run");
}

/// "The sender of the data ignores a STOP whose number is not the number of ends that it has sent, so
/// a STOP that crosses the end of its run hits no later one."
#[test]
fn a_stop_of_an_ended_run_hits_no_later_one() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    for run in 0..3u32 {
        let sender = connection.sender(channel(1)).unwrap();
        sender.send("whole").unwrap();
        sender.finish().unwrap();
        assert_eq!(peer.expect_message(1), b"whole");
        peer.expect_next(Event::Finish(1));
        // Sent before the end was seen, as it were, and by somebody who is wrong altogether.
        for number in [run, run.wrapping_sub(1), u32::MAX] {
            peer.send_bytes(&stop(1, 66, number)).unwrap();
        }
        peer.expect_alive();
    }
    let sender = connection.sender(channel(1)).unwrap();
    sender.send("unharmed").unwrap();
    assert_eq!(peer.expect_message(1), b"unharmed");
    // The number of ends fits, whichever kind they were.
    sender.reset(3).unwrap();
    peer.expect_next(Event::Reset(1, 3));
    let sender = connection.sender(channel(1)).unwrap();
    sender.send("the fifth").unwrap();
    assert_eq!(peer.expect_message(1), b"the fifth");
    peer.send_bytes(&stop(1, 67, 4)).unwrap();
    peer.expect_next(Event::Reset(1, 67));
    assert_stopped(&sender, 67);
}

/// It is ignored when it comes, and not kept for the run that it names.
#[test]
fn a_stop_of_a_run_to_come_is_ignored() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    peer.send_bytes(&stop(1, 5, 1)).unwrap();
    peer.expect_alive();
    for text in ["the first run", "the second run"] {
        let sender = connection.sender(channel(1)).unwrap();
        sender.send(text).unwrap();
        sender.finish().unwrap();
        assert_eq!(peer.expect_message(1), text.as_bytes());
        peer.expect_next(Event::Finish(1));
    }
}

/// "FINISH or RESET of a run that never began ends an empty run and counts."
#[test]
fn the_end_of_an_empty_run_that_the_library_sends_counts() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    connection.sender(channel(1)).unwrap().finish().unwrap();
    peer.expect_next(Event::Finish(1));
    let sender = connection.sender(channel(1)).unwrap();
    sender.send("x").unwrap();
    assert_eq!(peer.expect_message(1), b"x");
    peer.send_bytes(&stop(1, 5, 0)).unwrap();
    peer.expect_silence(1, Duration::from_millis(30));
    peer.send_bytes(&stop(1, 6, 1)).unwrap();
    peer.expect_next(Event::Reset(1, 6));
}

/// The same run is stopped twice, with another code the second time: it ends once.
#[test]
fn a_second_stop_of_a_run_does_nothing() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let sender = connection.sender(channel(1)).unwrap();
    sender.send("x").unwrap();
    assert_eq!(peer.expect_message(1), b"x");
    peer.send_bytes(&[stop(1, 1, 0), stop(1, 2, 0)].concat()).unwrap();
    peer.expect_next(Event::Reset(1, 1));
    assert_stopped(&sender, 1);
    drop(sender);
    let next = connection.sender(channel(1)).unwrap();
    next.send("the next run").unwrap();
    assert_eq!(peer.expect_message(1), b"the next run");
    peer.expect_silence(1, Duration::from_millis(30));
}

#[test]
fn stop_of_one_channel_is_none_of_another() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let senders = [1, 2].map(|n| connection.sender(channel(n)).unwrap());
    for (sender, number) in senders.iter().zip([1, 2]) {
        sender.send("x").unwrap();
        assert_eq!(peer.expect_message(number), b"x");
    }
    peer.stop(1, 4);
    peer.expect_next(Event::Reset(1, 4));
    senders[1].send("goes on").unwrap();
    assert_eq!(peer.expect_message(2), b"goes on");
}

/// "`Sender` dropped or `finish`ed: the peer reads what was sent, then end-of-file", also when
/// nothing was sent: an empty input is an input.
#[test]
fn an_empty_run_is_finished_on_the_wire() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    connection.sender(channel(1)).unwrap().finish().unwrap();
    peer.expect_next(Event::Finish(1));
    drop(connection.sender(channel(2)).unwrap());
    peer.expect_next(Event::Finish(2));
}

// ---------------------------------------------------------------------------
// STOP that the library says

fn stopped(server: &Server) -> (RawPeer, trunkline::Connection, Receiver) {
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_data(1, false, b"first");
    assert_eq!(take(&receiver), b"first");
    receiver.stop(7);
    assert_eq!(peer.expect_stop(1), (7, 0));
    (peer, connection, receiver)
}

/// The next message of a receiver that may hear of ends before it.
#[track_caller]
fn next_message(receiver: &Receiver) -> Vec<u8> {
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(message) => return message.to_vec(),
            Err(trunkline::RecvTimeoutError::Disconnected(RecvError::Finished | RecvError::Reset { .. })) => {
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// "It discards (and credits back) what arrives until that run ends."
#[test]
fn a_stopped_run_is_discarded_and_credited_back_until_it_ends() {
    let server = Server::start(|config| config.window(2000));
    for end in [finish(1), reset(1, 7)] {
        let (mut peer, _connection, receiver) = stopped(&server);
        for n in 0..50 {
            peer.send_message(1, &[n; 500]).expect("what is discarded is credited back");
        }
        peer.send_bytes(&end).unwrap();
        peer.send_data(1, false, b"next run");
        assert_eq!(next_message(&receiver), b"next run");
    }
}

/// "What was discarded counts as taken": so does the part of a message that a RESET drops.
#[test]
fn a_stopped_run_gives_back_all_its_credit() {
    let server = Server::start(|config| config.window(2000));
    let (mut peer, _connection, _receiver) = stopped(&server);
    for _ in 0..20 {
        while peer.send_credit[1] < 532 {
            peer.wait_for(PATIENCE, |event| matches!(event, Event::Credit(1, _))).expect("credit");
        }
        peer.send_data(1, true, &[0; 500]);
    }
    peer.send_bytes(&reset(1, 7)).unwrap();
    // Less than half a window is owed in the end, as ever.
    while 2 * (2000 - peer.send_credit[1]) >= 2000 {
        peer.wait_for(PATIENCE, |event| matches!(event, Event::Credit(1, _))).expect("the rest");
    }
}

#[test]
fn a_dropped_receiver_says_stop() {
    let server = Server::start(|config| config.window(2000));
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_data(1, false, b"first");
    assert_eq!(take(&receiver), b"first");
    drop(receiver);
    assert_eq!(peer.expect_stop(1).1, 0);
    for n in 0..20 {
        peer.send_message(1, &[n; 500]).expect("what is discarded is credited back");
    }
    peer.expect_alive();
}

/// "How many FINISH and RESET of the channel it had received when it decided": of every kind, and of
/// runs in which nothing came.
#[test]
fn a_stop_names_the_run_by_the_ends_that_were_received() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    let ends = [finish(1), reset(1, 2), finish(1), finish(1)];
    for (run, end) in ends.iter().enumerate() {
        peer.send_bytes(end).unwrap();
        take_end(&receiver);
        peer.send_data(1, false, b"x");
        assert_eq!(take(&receiver), b"x");
        receiver.stop(30);
        assert_eq!(peer.expect_stop(1), (30, run as u32 * 2 + 1));
        peer.send_bytes(&reset(1, 30)).unwrap();
        peer.send_data(1, false, b"of the next run");
        assert_eq!(next_message(&receiver), b"of the next run");
        // That run has number 2 * run + 2, and the next end is of it.
    }
}

/// "The run that a STOP names is that of the newest end received (merged ends count each), not of
/// the application's reading."
#[test]
fn a_stop_names_the_newest_run_though_nothing_has_been_read() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    peer.send_data(1, false, b"of run 0");
    for _ in 0..1000 {
        peer.send_bytes(&[finish(1), reset(1, 3)].concat()).unwrap();
    }
    peer.send_data(1, false, b"of run 2000");
    peer.expect_alive();
    receiver.stop(8);
    assert_eq!(peer.expect_stop(1), (8, 2000));
}

// ---------------------------------------------------------------------------
// Ends that nobody reads

#[test]
fn sixteen_unread_ends_are_told_one_by_one() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    for code in 0..8 {
        peer.send_bytes(&[reset(1, code), finish(1)].concat()).unwrap();
    }
    peer.expect_alive();
    for code in 0..8 {
        assert_eq!(take_end(&receiver), RecvError::Reset { channel: channel(1), code });
        assert_eq!(take_end(&receiver), RecvError::Finished);
    }
}

/// "Ends of runs in which no whole message was delivered may be merged when more than 16 of them are
/// unread (the merged end keeps the last kind and code)." The others may not.
#[test]
fn many_unread_ends_keep_the_last_kind_and_code_and_every_message_its_end() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    for code in 0..500 {
        peer.send_bytes(&[finish(1), reset(1, code)].concat()).unwrap();
    }
    for n in 0..40 {
        peer.send_data(1, false, &[n]);
        peer.send_bytes(&reset(1, u32::from(n))).unwrap();
    }
    peer.send_data(1, false, b"the last");
    peer.expect_alive();
    let mut ends = Vec::new();
    let first = loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(message) => break message,
            Err(trunkline::RecvTimeoutError::Disconnected(end)) => ends.push(end),
            Err(other) => panic!("{other}"),
        }
    };
    assert!((1..=1000).contains(&ends.len()), "{} ends", ends.len());
    assert_eq!(ends.last(), Some(&RecvError::Reset { channel: channel(1), code: 499 }));
    assert_eq!(first[..], [0]);
    for n in 0..40 {
        if n > 0 {
            assert_eq!(take(&receiver), [n]);
        }
        assert_eq!(take_end(&receiver), RecvError::Reset { channel: channel(1), code: n.into() });
    }
    assert_eq!(take(&receiver), b"the last");
}

mod told {
    use super::*;

    #[test]
    fn a_sender_knows_that_it_was_stopped_without_sending() {
        let server = Server::start(|config| config);
        let (mut peer, connection) = server.pair(server.client());
        let sender = connection.sender(channel(1)).unwrap();
        sender.send("x").unwrap();
        assert_eq!(peer.expect_message(1), b"x");
        peer.send_bytes(&[stop(1, 5, 1), stop(2, 5, 0)].concat()).unwrap();
        peer.expect_alive();
        assert_eq!(sender.stopped(), None, "of a run to come, and of another channel");
        peer.stop(1, 12);
        peer.expect_next(Event::Reset(1, 12));
        assert_eq!(sender.stopped(), Some(12));
        drop(sender);
        assert_eq!(connection.sender(channel(1)).unwrap().stopped(), None);
    }
}
