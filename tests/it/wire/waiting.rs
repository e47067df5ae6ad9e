//! WAITING: whether somebody reads, and how much has been received.

use super::library::*;
use crate::support::wire::*;

/// A receiver that says nothing about itself sends no WAITING.
#[test]
fn nobody_who_did_not_ask_for_it_is_announced() {
    let server = Server::start(|config| config);
    let (mut peer, connection) = server.pair(server.client());
    let receiver = connection.receiver(channel(1)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || assert_eq!(take(&receiver), b"x"));
        let quiet = std::time::Duration::from_millis(50);
        peer.expect_none(quiet, |event| matches!(event, Event::Waiting(..)));
        peer.send_data(1, false, b"x");
    });
    peer.expect_alive();
    peer.expect_none(std::time::Duration::from_millis(20), |event| matches!(event, Event::Waiting(..)));
}

mod announced {
    use std::io::BufRead;
    use std::thread;

    use super::*;

    #[track_caller]
    fn expect_waiting(peer: &mut RawPeer, wanted: bool, count: u32) {
        let event = peer.wait_for(PATIENCE, |event| match event {
            // Older states may come before.
            Event::Waiting(1, state, told) => *state == wanted && *told == count,
            Event::Close(..) => true,
            _ => false,
        });
        assert!(matches!(event, Ok(Event::Waiting(..))), "wanted {wanted}, {count}: {event:?}");
    }

    /// "1: a reader is blocked on this channel with nothing to read; 0: no longer. The count is how
    /// many whole messages of the channel it has received in this session." The books find a count
    /// that goes back, or is above what was sent.
    #[test]
    fn a_blocked_reader_says_so_and_what_it_has_received() {
        let server = Server::start(|config| config);
        let (mut peer, connection) = server.pair(server.client());
        let mut reader = connection.receiver(channel(1)).unwrap().into_reader();
        reader.announce_waiting(true);
        let reading = thread::spawn(move || {
            let mut lines = Vec::new();
            for line in reader.lines() {
                lines.push(line.unwrap());
            }
            lines
        });
        expect_waiting(&mut peer, true, 0);
        for n in 1..=5 {
            peer.send_data(1, false, b"one line\n");
            expect_waiting(&mut peer, true, n);
        }
        peer.send_bytes(&finish(1)).unwrap();
        assert_eq!(reading.join().unwrap(), ["one line"; 5]);
    }

    /// "Again when the count has changed while the state is 1": a message that holds no line does not
    /// wake the reader, and is told all the same; so is one of the next run.
    #[test]
    fn the_count_is_told_again_while_the_reader_waits() {
        let server = Server::start(|config| config);
        let (mut peer, connection) = server.pair(server.client());
        let mut reader = connection.receiver(channel(1)).unwrap().into_reader();
        reader.announce_waiting(true);
        let reading = thread::spawn(move || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            line
        });
        expect_waiting(&mut peer, true, 0);
        peer.send_data(1, false, b"half a ");
        expect_waiting(&mut peer, true, 1);
        peer.send_data(1, false, b"");
        expect_waiting(&mut peer, true, 2);
        // A fragment is no message.
        peer.send_data(1, true, b"li");
        peer.expect_alive();
        peer.send_data(1, false, b"ne\n");
        assert_eq!(reading.join().unwrap(), "half a line\n");
    }

    /// "Those that were discarded included", and "in this session": ends and sockets change nothing.
    #[test]
    fn the_count_includes_what_was_discarded_and_outlives_the_socket() {
        let server = Server::start(|config| config);
        let (mut peer, connection) = server.pair(server.client());
        let receiver = connection.receiver(channel(1)).unwrap();
        peer.send_data(1, false, b"first");
        assert_eq!(take(&receiver), b"first");
        receiver.stop(7);
        assert_eq!(peer.expect_stop(1), (7, 0));
        for _ in 0..9 {
            peer.send_data(1, false, b"discarded");
        }
        peer.send_data(1, true, b"a part that is dropped");
        peer.send_bytes(&[reset(1, 7), data(1, false, b"second\n")].concat()).unwrap();
        peer.expect_alive();
        peer.cut();
        peer.resume(server.addr).unwrap();
        let mut reader = receiver.into_reader();
        reader.announce_waiting(true);
        let reading = thread::spawn(move || {
            let mut lines = String::new();
            while !lines.contains("third") {
                // The end of a run reads as the end of the input.
                reader.read_line(&mut lines).unwrap();
            }
        });
        expect_waiting(&mut peer, true, 11);
        peer.send_data(1, false, b"third\n");
        reading.join().unwrap();
    }

    /// 0 is told when nobody waits any longer, and nothing is told twice.
    #[test]
    fn a_reader_that_is_gone_waits_no_longer() {
        let server = RawServer::start();
        let (connection, mut peer) = server.pair(|config| config, |_| {});
        let mut reader = connection.receiver(channel(1)).unwrap().into_reader();
        reader.announce_waiting(true);
        let reading = thread::spawn(move || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            reader
        });
        expect_waiting(&mut peer, true, 0);
        peer.send_data(1, false, b"line\n");
        let reader = reading.join().unwrap();
        expect_waiting(&mut peer, false, 1);
        peer.expect_none(std::time::Duration::from_millis(50), |event| matches!(event, Event::Waiting(..)));
        drop(reader);
    }
}

mod heard {
    use super::*;

    /// A reader waits for this sender only if it has received all that was sent.
    #[test]
    fn the_peer_waits_if_it_says_so_and_has_received_everything() {
        let server = Server::start(|config| config);
        let (mut peer, connection) = server.pair(server.client());
        let sender = connection.sender(channel(1)).unwrap();
        assert!(!sender.peer_is_waiting());
        let mut says = |bytes: &[u8]| {
            peer.send_bytes(bytes).unwrap();
            peer.expect_alive();
        };
        says(&waiting(1, 1, 0));
        assert!(sender.peer_is_waiting());
        says(&waiting(1, 0, 0));
        assert!(!sender.peer_is_waiting());
        says(&waiting(1, 1, 0));
        sender.send("a").unwrap();
        assert!(!sender.peer_is_waiting(), "that was before it had this one");
        sender.send("b").unwrap();
        says(&waiting(1, 1, 1));
        assert!(!sender.peer_is_waiting());
        says(&waiting(1, 1, 2));
        assert!(sender.peer_is_waiting());
        // The runs of a channel are counted together.
        sender.finish().unwrap();
        drop(sender);
        let sender = connection.sender(channel(1)).unwrap();
        assert!(sender.peer_is_waiting());
        sender.send("c").unwrap();
        assert!(!sender.peer_is_waiting());
        says(&waiting(1, 1, 3));
        assert!(sender.peer_is_waiting());
        // Another channel's is another's.
        says(&waiting(2, 0, 0));
        assert!(sender.peer_is_waiting());
    }
}
